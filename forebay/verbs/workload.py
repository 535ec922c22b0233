"""`forebay workload fit TRACE`: how bursty arrivals are, and the law that fits them best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Json, Seed

if TYPE_CHECKING:
    from forebay.fitting import Fitted

workload = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure arrivals and fit laws to them.")


@workload.command()
def fit(
    trace: Annotated[
        Path,
        typer.Argument(metavar="TRACE", help="CSV or parquet with a column arrival_s, or the engine's log."),
    ],
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Fit arrival laws to a trace.

    Shows its rate, the variability of its gaps, and by time scale the dispersion and the peak of its counts; then the
    laws that were fitted, the best first, and the lines of the best one for a scenario's file.
    """
    from forebay.console import bar, emit
    from forebay.fitting import fit_file, fitted_json

    with bar("fitting"):
        fitted = fit_file(trace, seed or 0)
    if as_json:
        emit(fitted_json(fitted))
    else:
        _print(fitted)


def _print(fitted: Fitted) -> None:
    from forebay.console import show
    from forebay.fitting import yaml_lines
    from forebay.workload_tables import laws_table, rate_line, scales_table

    show(rate_line(fitted))
    if fitted.measured.scales:
        show(scales_table(fitted))
    show(laws_table(fitted), "The best law, for a class of a scenario's workload:", yaml_lines(fitted.fits[0].law))
