"""`forebay workload fit TRACE`: how bursty arrivals are, and the law that fits them best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Json, Seed, flag
from serve.errors import SpecError

if TYPE_CHECKING:
    from forebay.fitting import Fitted

workload = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure arrivals and fit laws to them.")


@workload.command()
def fit(
    trace: Annotated[
        Path,
        typer.Argument(metavar="TRACE", help="CSV or parquet with a column arrival_s, or the engine's log, or counts."),
    ],
    interval: Annotated[
        str | None,
        typer.Option("--interval", help="It has counts of intervals of this length, such as 1min."),
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="Column of the counts; count if left out.")] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Factor that makes counts of the column, as 600 of rates in 10min.")
    ] = None,
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Fit arrival laws to a trace.

    Shows its rate, the variability of its gaps, and by time scale the dispersion and the peak of its counts; then the
    laws that were fitted, the best first, and the lines of the best one for a scenario's file. With --interval the
    same of requests that a CSV file counts.
    """
    from forebay.console import bar, emit
    from forebay.fitting import fit_counts, fit_file, fitted_json

    length_ns = _interval(interval, column, scale)
    with bar("fitting"):
        if length_ns is None:
            fitted = fit_file(trace, seed or 0)
        else:
            fitted = fit_counts(trace, length_ns, column or "count", 1.0 if scale is None else scale, seed or 0)
    if as_json:
        emit(fitted_json(fitted))
    else:
        _print(fitted)


def _interval(interval: str | None, column: str | None, scale: float | None) -> int | None:
    """The interval in ns, None for instants; SpecError for what goes with an interval only, or is out of range."""
    from serve.units import parse_duration_ns

    for name, value in (("--column", column), ("--scale", scale)):
        if interval is None and value is not None:
            raise SpecError.of(name, "", "is of counts: give their --interval too, such as 1min")
    if scale is not None and not 1e-6 <= scale <= 1e6:
        raise SpecError.of("--scale", "", f"must be from 1e-06 to 1e+06, got {scale:g}")
    length_ns = None if interval is None else flag("--interval", parse_duration_ns, interval)
    if length_ns is not None and length_ns <= 0:
        raise SpecError.of("--interval", "", f"must be longer than nothing, got {interval!r}")
    return length_ns


def _print(fitted: Fitted) -> None:
    from forebay.console import show
    from forebay.fitting import yaml_lines
    from forebay.workload_tables import laws_table, rate_line, scales_table
    from serve.files import plain

    show(rate_line(fitted))
    if fitted.measured.scales:
        show(scales_table(fitted))
    best = yaml_lines(plain(fitted.fits[0].law))
    show(laws_table(fitted), "The best law, for a class of a scenario's workload:", best)
    if fitted.replay is not None:
        show("The counts themselves, replayed:", yaml_lines(fitted.replay))
