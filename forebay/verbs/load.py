"""`forebay load URL`: open-loop load on a server that already runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Json, Seed

if TYPE_CHECKING:
    from forebay.loading import Load, Loaded


def load(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the server, such as http://127.0.0.1:8000.")],
    scenario: Annotated[Path | None, typer.Option(help="Scenario whose workload to send.")] = None,
    rate: Annotated[str | None, typer.Option(help="Poisson arrivals instead, such as 400/s.")] = None,
    duration: Annotated[str, typer.Option(help="How long, with --rate.")] = "10s",
    rows: Annotated[int, typer.Option(min=1, max=65536, help="Rows of a request, with --rate.")] = 1,
    model: Annotated[str | None, typer.Option(help="Model to ask, if the server has several.")] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Send to another machine than this.")] = False,
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Send load to a running server and measure.

    Requests leave at their instants, whatever the server does. Exits 1 if the SLO is missed, if nothing is answered
    ok, or if any request is left without an answer.
    Latency counts from the intended instant of a request, so that a slow server cannot slow its own clock.
    """
    from forebay.console import bar, emit
    from forebay.loading import send
    from serve.files import plain

    asked = _asked(scenario, rate, duration, rows, model, seed)
    with bar("sending") as progress:
        loaded = send(asked, url, allow_remote, progress)
    if as_json:
        slo = [plain(b) for b in loaded.bounds]
        emit({"url": url, "model": loaded.model, **plain(loaded.run), "statuses": loaded.statuses, "slo": slo})
    else:
        _print(loaded)
    raise typer.Exit(0 if loaded.held else 1)


def _asked(
    scenario: Path | None, rate: str | None, duration: str, rows: int, model: str | None, seed: int | None
) -> Load:
    from forebay.inputs import load_scenario
    from forebay.loading import of_rate, of_scenario
    from forebay.options import flag, rate_of
    from serve.errors import SpecError
    from serve.units import parse_duration_ns

    if (scenario is None) == (rate is None):
        raise SpecError.of("load", "", "takes either --scenario or --rate")
    if scenario is not None:
        return of_scenario(scenario, load_scenario(scenario), seed)
    assert rate is not None
    rate_of(rate)
    if flag("--duration", parse_duration_ns, duration) <= 0:
        raise SpecError.of("--duration", "", f"must be above 0s, got {duration!r}")
    return of_rate(rate, duration, rows, model, seed)


def _print(loaded: Loaded) -> None:
    from forebay.console import note, show
    from forebay.loading import UNANSWERED
    from forebay.tables import bounds_table, run_table

    run = loaded.run
    show(f"{loaded.model}, measured at the client:", run_table(run))
    if loaded.bounds:
        show(bounds_table(loaded.bounds))
    cores = f"the load generator took {run.loadgen_cores:.2f} cores"
    show(f"{run.requests:,} requests, {run.answered:,} answered ok; {cores}")
    if set(loaded.statuses) != {"200"}:
        show("by HTTP status: " + ", ".join(f"{status} {count:,}" for status, count in loaded.statuses.items()))
    if unanswered := loaded.statuses.get(UNANSWERED):
        note(f"warning: {unanswered:,} requests were left without an answer: the server went away or was too slow")
    if run.late_share > 0:
        note(f"warning: {run.late_share:.2%} of the requests were sent over 1 ms late")
