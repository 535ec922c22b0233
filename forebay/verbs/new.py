"""`forebay new PROFILE`: a commented scenario to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.options import Json, Seed


def new(
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="Profile file of the model.")],
    rate: Annotated[str, typer.Option(help="Requests that arrive, such as 400/s.", show_default=False)],
    slo: Annotated[list[str], typer.Option(help="What must hold, such as 'p99<100ms'.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Scenario file to write.", show_default=False)],
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Write a commented scenario to start from.

    It asks about a model at a rate, and is ready to simulate and to plan.
    """
    from forebay.console import emit, show
    from forebay.options import rate_of
    from forebay.starter import COMMENTS, slo_of, starter
    from serve.files import check_writable, load, plain, save
    from serve.profile import Profile

    rate_rps = rate_of(rate)
    check_writable(output, profile)
    scenario = starter(load(profile, Profile), profile, output, rate_rps, slo_of(slo))
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    save(output, scenario, COMMENTS)
    if as_json:
        emit({"written": str(output), "scenario": plain(scenario)})
    else:
        show(f"written: {output}", f"next: forebay simulate {output}")
