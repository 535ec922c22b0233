"""`forebay tour`: the whole loop on a real model, ending in predicted beside measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Json, Seed

if TYPE_CHECKING:
    from forebay.tour import Tour
    from planner.report import Report

SHOWN = ("mean", "p50", "p95", "p99", "throughput", "batch_mean", "busy")
"""Metrics in the tour's table; the report has all."""


def tour(
    model: Annotated[
        Path | None, typer.Option(help="Your own .onnx model.", show_default="a digits classifier, trained now")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything that it makes.")] = Path(
        "out/tour"
    ),
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Train, calibrate, plan, serve and verify on this machine; exits 0 when the loop completed."""
    from forebay.console import bar, emit
    from forebay.tour import tour as run

    with bar("tour") as progress:
        made = run(output, model=model, seed=seed or 0, progress=progress.named)
    if as_json:
        emit(_json(made))
    else:
        _print(made)


def _json(made: Tour) -> dict[str, object]:
    from forebay.tour import commands
    from serve.files import plain

    return {
        "folder": str(made.folder),
        "accuracy": made.accuracy,
        "remeasured": made.remeasured,
        "load_share": made.load_share,
        "capacity_rps": made.capacity_rps,
        "plan": plain(made.plan),
        "report": None if made.report is None else plain(made.report),
        "notes": made.notes,
        "warnings": made.profile.warnings,
        "commands": commands(made),
    }


def _print(made: Tour) -> None:
    from forebay.console import note, show
    from forebay.tour import commands
    from planner.export import why

    if made.accuracy is not None:
        show(f"model: {made.path('model.onnx')}, reads {made.accuracy:.1%} of digits that it had not seen")
    show(_profile_line(made), _question_line(made))
    for line in (*made.notes, *(f"warning: {warning}" for warning in made.profile.warnings)):
        note(line)
    show(*why(made.plan))
    if made.report is not None:
        _print_report(made.report)
    show("", "Each step by itself:", *(f"  {command}" for command in commands(made)))
    names = "model.onnx profile scenario deployment result report .yaml and report.png"
    show("", f"Files: {made.folder}/  ({names if made.report else 'model.onnx profile scenario .yaml'})")


def _profile_line(made: Tour) -> str:
    if made.remeasured:
        return f"profile: measured now, since {made.remeasured}"
    return f"profile: of {made.profile.date}, still true by a spot check"


def _question_line(made: Tour) -> str:
    rate = made.load_share * made.capacity_rps
    return (
        f"question: what holds p99 < {made.scenario.slo['p99']} at {rate:,.0f} requests/s "
        f"({made.load_share:.0%} of the {made.capacity_rps:,.0f}/s that the best batch size could carry)?"
    )


def _print_report(report: Report) -> None:
    from forebay.console import note, show
    from forebay.tables import bounds_table, cost_line, report_table

    show(report_table(report, SHOWN), bounds_table(report.bounds))
    show(f"{cost_line(report.predicted)} (the price of the machine is assumed: write yours into the scenario)")
    for warning in report.warnings:
        note(f"warning: {warning}")
    show(f"verdict: {report.verdict}: {report.verdict_reason}")
