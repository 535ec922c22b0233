"""`forebay check --update` without its asking: the bounds of a scenario's claims moved to where they would hold."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from forebay.checking import FileCheck, lax_lines
from planner.slo import show
from serve.vocabulary import METRICS
from sim.claims import Expectation
from sim.expect import Judgement
from sim.result import Estimate

MARGIN = 0.1
"""How far beyond the interval of what is simulated a proposed bound lies, relative to it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A scenario's file with other bounds."""

    path: Path
    text: str
    diff: str
    left: tuple[str, ...]
    """Claims that fail and that no bound would mend, each with the reason."""


def proposal_of(check: FileCheck) -> Proposal | None:
    """New bounds for the claims of a file that fail, are undecided, or lie far from what is simulated; None: all is
    well. Only the claims' own text changes, wherever the file has it."""
    path = Path(check.file)
    wrong = [each for each in check.judgements if each.outcome != "pass" or lax_lines([each], contrasted=True)]
    wrong = [each for each in wrong if not each.expectation.text.startswith("not ")]
    if check.format != "scenario" or not wrong:
        return None
    before = text = path.read_text()
    left = []
    for each in wrong:
        new = moved(each)
        if new is None or each.expectation.text not in text:
            left.append(f"{each.expectation.text}: {_why_not(each, new)}")
        else:
            text = text.replace(each.expectation.text, new)
    lines = (before.splitlines(keepends=True), text.splitlines(keepends=True))
    return Proposal(path, text, "".join(difflib.unified_diff(*lines, str(path), f"{path} (proposed)")), tuple(left))


def moved(judgement: Judgement) -> str | None:
    """The claim with bounds a margin beyond what was simulated, on the side where they are; None if none would do."""
    claim, estimate = judgement.expectation, judgement.estimate
    if claim.than is not None or estimate is None or estimate.value is None:
        return None
    low, high = _ends(claim, estimate)
    name, operator = _head(claim.text)
    if operator == "in":
        return f"{name} in [{written(claim, low)}, {written(claim, high)}]"
    return f"{name} {operator} {written(claim, high if isfinite(claim.high) else low)}"


def _ends(claim: Expectation, estimate: Estimate) -> tuple[float, float]:
    low, high = estimate.ci or (estimate.value or 0.0, estimate.value or 0.0)
    if METRICS[claim.of.metric].unit == "count" and claim.low == claim.high:
        return low, high
    return low * (1 - MARGIN), high * (1 + MARGIN)


def written(claim: Expectation, value: float) -> str:
    """A bound as files write it."""
    shown = show(claim.of.metric, float(f"{value:.2g}"))
    return f"{shown} USD/h" if METRICS[claim.of.metric].unit == "usd/h" else shown


def _head(text: str) -> tuple[str, str]:
    """Name and operator of a claim that compares a metric with a bound."""
    matched = re.match(r"\s*([A-Za-z0-9_.-]+)\s*(<=|>=|==|<|>|in\b)", text)
    assert matched is not None, text
    return matched[1], matched[2]


def _why_not(judgement: Judgement, new: str | None) -> str:
    if new is not None:
        return f"is written in another way in the file; would hold as {new}"
    if judgement.expectation.than is not None:
        return "compares two metrics, and has no bound to move"
    return "has no value that a bound could lie at"
