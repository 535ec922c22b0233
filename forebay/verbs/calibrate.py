"""`forebay calibrate MODEL`: measure a model in this engine on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Json, Seed

if TYPE_CHECKING:
    from serve.profile import Profile


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file (.onnx).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Profile file to write.", show_default=False)],
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NAME=1x3x48x192", help="Shape of an input whose sizes vary.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Example inputs (.npz); otherwise random, and recorded so.")] = None,
    threads: Annotated[str, typer.Option(help="Compute threads per replica to measure, such as 1,2.")] = "1",
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=65536, help="Largest batch; otherwise where throughput stops growing.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Time for all of it, such as 60s.")] = "60s",
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Measure a model on this machine.

    Service times, overheads and noise go into a profile, the raw samples beside it.
    """
    from forebay.calibrating import budget_s_of, data_of, shapes_of, threads_of
    from forebay.console import bar, emit
    from forebay.options import flag
    from serve.benchmark import calibrate as run
    from serve.files import check_writable, plain

    check_writable(output, model, *([] if data is None else [data]))
    with bar("calibrating") as progress:
        profile = run(
            model,
            out=output,
            budget_s=flag("--budget", budget_s_of, budget),
            threads=flag("--threads", threads_of, threads),
            max_batch=max_batch,
            shapes=shapes_of(shape or []),
            data=None if data is None else data_of(data),
            seed=seed or 0,
            progress=lambda share, what: progress.named(what, share),
        )
    if as_json:
        emit(plain(profile))
    else:
        _print(profile, output)


def _print(profile: Profile, output: Path) -> None:
    from forebay.console import note, show
    from forebay.tables import service_table

    show(service_table(profile), f"written: {output}", f"next: forebay new {output} --rate ... --slo 'p99<...' -o ...")
    for warning in profile.warnings:
        note(f"warning: {warning}")
