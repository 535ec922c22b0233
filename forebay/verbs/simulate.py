"""`forebay simulate SCENARIO`: what the deployment would do under the workload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.options import Engine, Jobs, Json, Seed, Set

if TYPE_CHECKING:
    from planner.slo import Check
    from sim.expect import Judgement
    from sim.result import Result, Simulated
    from sim.scenario import Scenario


def simulate(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Result file to write.")] = None,
    engine: Engine = "fast",
    set_: Set = None,
    variant: Annotated[str | None, typer.Option(help="Which of the scenario's variants.")] = None,
    replications: Annotated[int | None, typer.Option(min=2, max=1000, help="In place of the scenario's.")] = None,
    jobs: Jobs = None,
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Predict what a deployment would do.

    Exits 1 if the scenario's SLO or an expectation is not met.
    """
    from forebay.console import bar, emit
    from forebay.inputs import as_set, load_scenario
    from forebay.options import jobs_of, one_of
    from forebay.settings import overrides_of
    from serve.files import check_writable, save
    from sim import workers
    from sim.simulate import simulate_in_full as run

    if output is not None:
        check_writable(output, scenario)
    kind = one_of("--engine", engine, ("fast", "reference"))
    overrides = overrides_of(set_ or [])
    question = load_scenario(scenario, seed)
    if question.variants or variant is not None:
        overrides = {**variant_changes(scenario, question, variant), **overrides}
        question = question.model_copy(update={"variants": {}, "expect": [], "contrast": None})
    judged = as_set(scenario, question, overrides) if overrides else question
    with workers.on(jobs_of(jobs)), bar("simulating") as progress:
        simulated = run(question, scenario.parent, kind, replications, overrides, progress)  # type: ignore[arg-type]
    result = simulated.result
    if output is not None:
        save(output, result)
    checks, judgements = _judge(judged, simulated)
    if as_json:
        emit(_json(result, checks, judgements))
    else:
        _print(result, checks, judgements, str(scenario))
    if not all(check.held for check in checks) or any(j.outcome == "fail" for j in judgements):
        raise typer.Exit(1)


def variant_changes(path: Path, scenario: Scenario, name: str | None) -> dict[str, Any]:
    """The changes of a scenario's variant; SpecError if it has none of that name."""
    from serve.errors import SpecError

    if name in scenario.variants:
        return scenario.variants[str(name)]
    known = ", ".join(scenario.variants) or "none"
    if name is None:
        what = f"are {known}: name one with --variant, or compare them by `forebay check`"
        raise SpecError.of(path, "variants", what)
    raise SpecError.of("--variant", "", f"must be a variant of {path} ({known}), got {name!r}")


def _judge(scenario: Scenario, simulated: Simulated) -> tuple[list[Check], list[Judgement]]:
    """The SLO by `pi`, as the planner judges it, and the expectations by `ci`."""
    from planner.slo import check, parse_slo
    from sim.claims import parse_expectation
    from sim.expect import judge

    classes = tuple(scenario.workload.classes)
    bounds = parse_slo(scenario.slo, classes) if scenario.slo else []
    claims = [parse_expectation(text, (*classes, *simulated.result.versions)) for text in scenario.expect]
    checks = [check(bound, simulated.result) for bound in bounds]
    return checks, [judge(claim, {None: simulated}) for claim in claims]


def _print(result: Result, checks: list[Check], judgements: list[Judgement], file: str) -> None:
    from forebay.console import note, show
    from forebay.tables import breakdown_table, claims_table, result_lines, result_table, slo_table

    show(result_table(result), breakdown_table(result))
    if checks:
        show(slo_table(checks))
    if judgements:
        show(claims_table([(file, judgement) for judgement in judgements]))
    show(*result_lines(result))
    for warning in result.warnings:
        note(f"warning: {warning}")


def _json(result: Result, checks: list[Check], judgements: list[Judgement]) -> dict[str, object]:
    from forebay.checking import claim_json
    from serve.files import plain

    slo = [{"bound": str(c.bound), "value": c.value, "far": c.far, "held": c.held} for c in checks]
    return {**plain(result), "slo": slo, "expectations": [claim_json(judgement) for judgement in judgements]}
