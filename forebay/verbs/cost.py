"""`forebay cost SCENARIO`: what the deployment bills, what for, and who pays it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.options import Jobs, Json, Seed, Set


def cost(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file.")],
    by: Annotated[str, typer.Option(help="Who pays: model, class, pool, kind or tag:NAME.")] = "model",
    csv: Annotated[Path | None, typer.Option(help="File to write the charges into, in FOCUS columns.")] = None,
    set_: Set = None,
    variant: Annotated[str | None, typer.Option(help="Which of the scenario's variants.")] = None,
    replications: Annotated[int | None, typer.Option(min=2, max=1000, help="In place of the scenario's.")] = None,
    jobs: Jobs = None,
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Say what a deployment costs, what for, and who pays it."""
    from forebay.console import bar, emit, note, show
    from forebay.inputs import load_scenario
    from forebay.options import jobs_of
    from forebay.settings import overrides_of
    from forebay.showback import bill_table, key_of, rows, showback_table, to_csv
    from forebay.verbs.simulate import variant_changes
    from serve.files import check_writable, plain, save_text
    from sim import workers
    from sim.simulate import simulate_in_full as run

    key_of(by)
    if csv is not None:
        check_writable(csv, scenario)
    overrides = overrides_of(set_ or [])
    question = load_scenario(scenario, seed)
    if question.variants or variant is not None:
        overrides = {**variant_changes(scenario, question, variant), **overrides}
    question = question.model_copy(update={"variants": {}, "expect": [], "contrast": None})
    with workers.on(jobs_of(jobs)), bar("simulating") as progress:
        result = run(question, scenario.parent, "fast", replications, overrides, progress).result
    assert result.showback is not None, "a simulation is billed"
    if csv is not None:
        save_text(csv, to_csv(result.showback))
    if as_json:
        emit({"schema_version": 1, **plain(result.showback), "charges": rows(result.showback)})
        return
    show(bill_table(result), showback_table(result.showback, by))
    for warning in result.warnings:
        note(f"warning: {warning}")
