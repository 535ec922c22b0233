"""`forebay check` without its printing: which files are checked, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from forebay.formats import FORMATS, format_of
from forebay.inputs import deployment_of, load_scenario, price_faults, sample_faults
from serve.deployment import Deployment
from serve.errors import ForebayError, SpecError
from serve.files import parse, read, resolve
from serve.profile import Profile
from sim.checks import core_warnings
from sim.claims import claims_of, without_reason
from sim.counts import load as load_counts
from sim.expect import Judgement, Outcome
from sim.junit import Case, CaseOutcome, Suite
from sim.law_parts import parts
from sim.questions import Question, answer
from sim.result import Result
from sim.scenario import Scenario, claimable
from sim.traces import load as load_trace

SUFFIXES = (".yaml", ".yml", ".json")

BOUND_WITHIN = 0.25
"""How far, relative to what is simulated, a bound may lie without a reason under `--strict`."""

FileOutcome = Literal["pass", "fail", "undecided", "error", "valid", "skipped"]
"""valid: a file without expectations that is right by its format; skipped: not a file of ours."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What came of one file."""

    file: str
    format: str | None
    outcome: FileOutcome
    results: Mapping[str | None, Result] = field(default_factory=dict)
    """By variant; None of a scenario without variants."""
    judgements: Sequence[Judgement] = ()
    errors: Sequence[str] = field(default=())
    warnings: Sequence[str] = field(default=())
    lax: Sequence[str] = field(default=())
    """What `--strict` minds of a scenario that passes."""
    core_s: float = 0.0

    @property
    def replications(self) -> int | None:
        """Of each simulation; None if it was not run."""
        return next((result.replications for result in self.results.values()), None)

    @property
    def verdict(self) -> str | None:
        """Of the scenario as it stands; None if it was not run, or has variants."""
        result = self.results.get(None)
        return None if result is None else result.verdict


def files_of(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """The files to check, each with whether it was named itself; folders are searched, in the order of names."""
    for path in paths:
        if path.is_dir():
            yield from ((file, False) for file in sorted(path.rglob("*")) if file.suffix in SUFFIXES and file.is_file())
        else:
            yield path, True


@dataclass(frozen=True, slots=True)
class _Asked:
    """A scenario that expects something: its claims, and the one that must fail where its point is taken away."""

    path: Path
    warnings: Sequence[str]
    question: Question
    contrast: Question | None

    @property
    def questions(self) -> list[Question]:
        return [self.question] if self.contrast is None else [self.question, self.contrast]


def check_files(
    files: Sequence[tuple[Path, bool]], seed: int | None = None, progress: Callable[[float], None] = lambda share: None
) -> list[FileCheck]:
    """Validate files by their formats, and run those that are scenarios which expect something, all variants side by
    side.

    `files` are paths, each with whether it was named: one of no format of ours is an error then, and else passed over.
    """
    opened = [_opened(path, named, seed) for path, named in files]
    answer([each for one in opened if isinstance(one, _Asked) for each in one.questions], progress)
    return [_checked(one) if isinstance(one, _Asked) else one for one in opened]


def check_file(path: Path, named: bool, seed: int | None = None) -> FileCheck:
    """As `check_files`, of one."""
    return check_files([(path, named)], seed)[0]


def _opened(path: Path, named: bool, seed: int | None) -> FileCheck | _Asked:
    """A file that needs no simulation, checked; or the questions that it asks."""
    kind = None
    try:
        data = read(path)
        kind = format_of(data)
        if kind is None:
            return _unknown(path, named)
        if kind == "scenario":
            return _asked(path, load_scenario(path, seed))
        checked = parse(data, FORMATS[kind], path)
        faults = sample_faults(path, checked) if isinstance(checked, Profile) else []
        faults += price_faults(path, checked) if isinstance(checked, Deployment) else []
        warnings = _warnings(path, checked) if isinstance(checked, Deployment) else []
        outcome: FileOutcome = "error" if faults else "valid"
        return FileCheck(str(path), kind, outcome, errors=[str(fault) for fault in faults], warnings=warnings)
    except SpecError as error:
        return FileCheck(str(path), kind, "error", errors=[str(fault) for fault in error.faults])
    except ForebayError as error:
        return FileCheck(str(path), kind, "error", errors=[str(error)])


def _warnings(path: Path, deployment: Deployment) -> list[str]:
    """What is odd about a deployment, with the file that it is in."""
    return [f"{path}: {warning}" for warning in core_warnings(deployment)]


def _unknown(path: Path, named: bool) -> FileCheck:
    if not named:
        return FileCheck(str(path), None, "skipped")
    return FileCheck(str(path), None, "error", errors=[f"{path}: is none of {', '.join(FORMATS)}"])


def _asked(path: Path, scenario: Scenario) -> FileCheck | _Asked:
    deployment, file = deployment_of(path, scenario)
    warnings = _warnings(file, deployment)
    if not scenario.expect:
        _read_traces(path, scenario)
        return FileCheck(str(path), "scenario", "valid", warnings=warnings)
    claims, _ = claims_of(scenario.expect, claimable(scenario.workload, deployment), path, scenario.variants)
    contrast, given = None, scenario.contrast
    if given is not None:
        named = [claim for claim in claims if claim.text.strip() == without_reason(given.fails)][:1]
        contrast = Question(scenario, path.parent, named, given.set)
    return _Asked(path, warnings, Question(scenario, path.parent, claims), contrast)


def _checked(asked: _Asked) -> FileCheck:
    """What came of a scenario whose questions were answered."""
    one, other = asked.question, asked.contrast
    errors = [*one.errors, *(other.errors if other else ())]
    core_s = sum(each.core_s for each in asked.questions)
    if errors:
        return FileCheck(str(asked.path), "scenario", "error", errors=errors, warnings=asked.warnings, core_s=core_s)
    judgements = one.judgements
    lax = [f"{asked.path}: {line}" for line in lax_lines(judgements, other is not None)]
    if other is not None:
        judgements.append(_contrast(other.judgements[0], other.changes or {}))
    outcomes = {judgement.outcome for judgement in judgements}
    outcome: FileOutcome = "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"
    return FileCheck(str(asked.path), "scenario", outcome, one.results, judgements, (), asked.warnings, lax, core_s)


def lax_lines(judgements: Sequence[Judgement], contrasted: bool) -> list[str]:
    """What `--strict` minds: a scenario without contrast, bounds far from what is simulated that do not say why."""
    lines = [] if contrasted else ["has no contrast: name a change under which one of its claims fails"]
    for judgement in judgements:
        claim, value = judgement.expectation, judgement.estimate.value if judgement.estimate else None
        if value is None or claim.than is not None or claim.because is not None:
            continue
        if any(isfinite(bound) and abs(bound - value) > BOUND_WITHIN * abs(value) for bound in (claim.low, claim.high)):
            what = f"lies more than {BOUND_WITHIN:.0%} from the {value:.4g} that is simulated"
            lines.append(f"{claim.text}: {what}; move the bound, or add 'because' and the reason")
    return lines


def _contrast(judged: Judgement, changes: Mapping[str, Any]) -> Judgement:
    """The judgement of a contrast: its claim must fail."""
    where = ", ".join(f"{path} = {value}" for path, value in changes.items())
    opposite: dict[Outcome, Outcome] = {"pass": "fail", "fail": "pass", "undecided": "undecided"}
    claim = replace(judged.expectation, text=f"not {judged.expectation.text}, with {where}")
    return Judgement(claim, judged.estimate, opposite[judged.outcome])


def _read_traces(path: Path, scenario: Scenario) -> None:
    """What a simulation would read first; SpecError with the faults of all traces and files of counts."""
    faults = []
    for arrivals in (inner for _, law in scenario.workload.laws for _, inner in parts(law)):
        try:
            if arrivals.trace is not None:
                trace = arrivals.trace
                load_trace(resolve(path, trace.file), trace.scale, trace.from_, trace.to)
            if arrivals.counts is not None:
                load_counts(resolve(path, arrivals.counts.file), arrivals.counts.column, *arrivals.counts.part)
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)


def exit_code(checks: Sequence[FileCheck], strict: bool) -> int:
    """2 if a file is bad input, else 1 if a claim fails (under `strict`: or is undecided, or `lax`), else 0."""
    outcomes = {check.outcome for check in checks}
    if "error" in outcomes:
        return 2
    return int("fail" in outcomes or (strict and ("undecided" in outcomes or any(check.lax for check in checks))))


def suite_of(check: FileCheck, strict: bool = False) -> Suite:
    """A file's outcomes for JUnit; under `strict` what is lax fails too."""
    cases = [Case(j.expectation.text, j.outcome, f"simulated {_simulated(j)}") for j in check.judgements]
    if not cases:
        outcome: CaseOutcome = "error" if check.outcome == "error" else "pass"
        cases = [Case("is valid", outcome, "\n".join(check.errors))]
    if strict and check.lax:
        cases.append(Case("is strict", "fail", "\n".join(check.lax)))
    return Suite(check.file, cases)


def check_json(check: FileCheck) -> dict[str, Any]:
    """A file's outcomes for `--json`."""
    return {
        "file": check.file,
        "format": check.format,
        "outcome": check.outcome,
        "verdict": check.verdict,
        "replications": check.replications,
        "variants": {name: result.verdict for name, result in check.results.items() if name is not None},
        "expectations": [claim_json(judgement) for judgement in check.judgements],
        "errors": list(check.errors),
        "warnings": list(check.warnings),
        "lax": list(check.lax),
    }


def claim_json(judgement: Judgement) -> dict[str, Any]:
    """A claim and what was simulated, in inside units."""
    estimate = judgement.estimate
    return {
        "expected": judgement.expectation.text,
        "because": judgement.expectation.because,
        "outcome": judgement.outcome,
        "value": estimate.value if estimate else None,
        "ci": estimate.ci if estimate else None,
        "pi": estimate.pi if estimate else None,
    }


def _simulated(judgement: Judgement) -> str:
    estimate = judgement.estimate
    if estimate is None or estimate.value is None:
        return "no value"
    ends = "" if estimate.ci is None else f", 95 % ci {estimate.ci[0]:.6g} to {estimate.ci[1]:.6g}"
    return f"{estimate.value:.6g}{ends}"
