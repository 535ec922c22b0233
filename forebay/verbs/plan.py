"""`forebay plan SCENARIO`: the cheapest deployment that holds the SLO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Jobs, Json, Seed, jobs_of

if TYPE_CHECKING:
    from planner.plan import Plan


def plan(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="Scenario file: what arrives, the SLO, and the choices.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Deployment file to write.", show_default=False)],
    jobs: Jobs = None,
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Find the cheapest deployment that holds the SLO.

    Exits 1 if none does, and says which limit is hit.
    """
    from forebay.console import bar, emit
    from forebay.inputs import faults_of, load_scenario
    from planner.export import write
    from planner.search import plan as search
    from serve.files import check_writable, plain
    from sim import workers

    check_writable(output, scenario)
    question = load_scenario(scenario, seed)
    with workers.on(jobs_of(jobs)), bar("searching") as progress, faults_of(scenario):
        found = search(question, base=scenario.parent, progress=progress.named)
    if found.feasible:
        write(found, question, output, base=scenario.parent)
    if as_json:
        emit(plain(found))
    else:
        _print(found, output)
    if not found.feasible:
        raise typer.Exit(1)


def _print(found: Plan, output: Path) -> None:
    from forebay.console import note, show
    from forebay.tables import result_table
    from planner.export import why

    if found.result is not None:
        show(result_table(found.result))
    show(*why(found), f"searched: {found.candidates} candidates by {found.simulations} simulations")
    for warning in found.warnings:
        note(f"warning: {warning}")
    if found.feasible:
        show(f"written: {output}")
