"""`forebay verify DEPLOYMENT`: the live engine held against its prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Json, Seed

if TYPE_CHECKING:
    from planner.report import Report


def verify(
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT", help="Deployment file, as plan writes it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Report file to write.", show_default=False)],
    url: Annotated[str | None, typer.Option(help="Of an engine that runs it; otherwise one is started here.")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Live runs; two or more show the noise floor.")] = 2,
    log_dir: Annotated[Path | None, typer.Option(help="Folder to keep the engine's logs in.")] = None,
    spot_check: Annotated[
        str, typer.Option(help="How long to look, before predicting, how fast the machine is now; 0s: not at all.")
    ] = "8s",
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Hold the live engine against its prediction.

    Replays the workload that the deployment was planned for. Exits 1 if the SLO or the prediction does not hold.
    """
    from forebay.console import bar, emit
    from forebay.inputs import load_deployment
    from forebay.options import flag
    from planner.verify import verify as run
    from serve.files import check_writable, plain, save
    from serve.units import parse_duration_ns

    check_writable(output, deployment)
    spot_check_s = flag("--spot-check", parse_duration_ns, spot_check) / 1e9
    load_deployment(deployment)
    with bar("verifying") as progress:
        report = run(
            deployment,
            url=url,
            seed=seed,
            repeats=repeats,
            progress=progress.named,
            log_dir=log_dir,
            spot_check_s=spot_check_s,
        )
    save(output, report)
    if as_json:
        emit(plain(report))
    else:
        _print(report, output)
    raise typer.Exit(report.exit_code)


def _print(report: Report, output: Path) -> None:
    from forebay.console import note, show
    from forebay.tables import bounds_table, report_table
    from planner.report import facts

    show(report_table(report))
    if report.bounds:
        show(bounds_table(report.bounds))
    show(*facts(report), f"{report.verdict}: {report.verdict_reason}", f"written: {output}")
    for warning in report.warnings:
        note(f"warning: {warning}")
