"""`forebay serve DEPLOYMENT`: run the engine in this terminal until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.options import Json, NoSeed


def serve(
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT", help="Deployment file.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    log_dir: Annotated[Path | None, typer.Option(help="Folder to write requests and batches into, as parquet.")] = None,
    pool: Annotated[str | None, typer.Option(help="Serve one node of this pool, of a deployment of several.")] = None,
    as_json: Json = False,
    seed: NoSeed = None,
) -> None:
    """Serve a deployment.

    One line of JSON on stdout says when it is ready and where; SIGTERM or Ctrl-C drains.
    """
    from forebay.inputs import load_deployment
    from serve.run import run

    load_deployment(deployment)
    raise typer.Exit(run(deployment, host=host, http_port=http_port, log_dir=log_dir, pool=pool))
