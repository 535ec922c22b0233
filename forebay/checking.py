"""`forebay check` without its printing: which files are checked, and what came of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from forebay.formats import FORMATS, format_of
from forebay.inputs import deployment_of, load_scenario, sample_faults
from serve.deployment import Deployment
from serve.errors import ForebayError, SpecError
from serve.files import parse, read, resolve
from serve.profile import Profile
from sim.claims import claims_of
from sim.counts import load as load_counts
from sim.expect import Judgement, Outcome, Variants
from sim.expect import check as check_claims
from sim.junit import Case, CaseOutcome, Suite
from sim.law_parts import parts
from sim.result import Result
from sim.scenario import Scenario
from sim.setup import core_warnings
from sim.simulate import simulate_variants
from sim.traces import load as load_trace

SUFFIXES = (".yaml", ".yml", ".json")

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


def check_file(path: Path, named: bool, seed: int | None = None) -> FileCheck:
    """Validate a file by its format; run it if it is a scenario that expects something.

    A file of no format of ours is an error if it was named, and passed over in a folder.
    """
    kind = None
    try:
        data = read(path)
        kind = format_of(data)
        if kind is None:
            return _unknown(path, named)
        if kind != "scenario":
            checked = parse(data, FORMATS[kind], path)
            faults = sample_faults(path, checked) if isinstance(checked, Profile) else []
            warnings = _warnings(path, checked) if isinstance(checked, Deployment) else []
            outcome: FileOutcome = "error" if faults else "valid"
            return FileCheck(str(path), kind, outcome, errors=[str(fault) for fault in faults], warnings=warnings)
        scenario = load_scenario(path, seed)
        deployment, file = deployment_of(path, scenario)
        return replace(_check_scenario(path, scenario), warnings=_warnings(file, deployment))
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


def _check_scenario(path: Path, scenario: Scenario) -> FileCheck:
    if not scenario.expect:
        _read_traces(path, scenario)
        return FileCheck(str(path), "scenario", "valid")
    claims, _ = claims_of(scenario.expect, list(scenario.workload.classes), path, scenario.variants)

    def run(count: int, changed: Mapping[str, Any] | None = None) -> Variants:
        return simulate_variants(scenario, path.parent, count, changed)

    checked = check_claims(claims, run, scenario.replications)
    if scenario.contrast is not None:
        named = next(claim for claim in claims if claim.text == scenario.contrast.fails)
        changes = scenario.contrast.set
        contrasted = check_claims([named], lambda count: run(count, changes), scenario.replications)
        checked = replace(checked, judgements=[*checked.judgements, _contrast(contrasted.judgements[0], changes)])
    return FileCheck(str(path), "scenario", checked.outcome, checked.results, checked.judgements)


def _contrast(judged: Judgement, changes: Mapping[str, Any]) -> Judgement:
    """The judgement of a contrast: its claim must fail."""
    where = ", ".join(f"{path} = {value}" for path, value in changes.items())
    opposite: dict[Outcome, Outcome] = {"pass": "fail", "fail": "pass", "undecided": "undecided"}
    claim = replace(judged.expectation, text=f"not {judged.expectation.text}, with {where}")
    return Judgement(claim, judged.estimate, opposite[judged.outcome])


def _read_traces(path: Path, scenario: Scenario) -> None:
    """What a simulation would read first; SpecError with the faults of all traces and files of counts."""
    faults = []
    for arrivals in (inner for class_ in scenario.workload.classes.values() for _, inner in parts(class_.arrivals)):
        try:
            if arrivals.trace is not None:
                load_trace(resolve(path, arrivals.trace.file))
            if arrivals.counts is not None:
                load_counts(resolve(path, arrivals.counts.file), arrivals.counts.column)
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)


def exit_code(checks: Sequence[FileCheck], strict: bool) -> int:
    """2 if a file is bad input, else 1 if a claim fails (under `strict`: or stays undecided), else 0."""
    outcomes = {check.outcome for check in checks}
    if "error" in outcomes:
        return 2
    return int("fail" in outcomes or (strict and "undecided" in outcomes))


def suite_of(check: FileCheck) -> Suite:
    """A file's outcomes for JUnit."""
    cases = [Case(j.expectation.text, j.outcome, f"simulated {_simulated(j)}") for j in check.judgements]
    if not cases:
        outcome: CaseOutcome = "error" if check.outcome == "error" else "pass"
        cases = [Case("is valid", outcome, "\n".join(check.errors))]
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
    }


def claim_json(judgement: Judgement) -> dict[str, Any]:
    """A claim and what was simulated, in inside units."""
    estimate = judgement.estimate
    return {
        "expected": judgement.expectation.text,
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
