"""`forebay serve DEPLOYMENT`: run the engine in this terminal until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.options import SEED_MAX, Json


def serve(
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT", help="Deployment file.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    log_dir: Annotated[Path | None, typer.Option(help="Folder to write logs into: requests, batches, scaling.")] = None,
    pool: Annotated[str | None, typer.Option(help="Serve one node of this pool, of a deployment of several.")] = None,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Serve all nodes on this machine: an engine each, behind the router.")
    ] = False,
    as_json: Json = False,
    seed: Annotated[int | None, typer.Option(min=0, max=SEED_MAX, help="Of the router's draws (--fleet).")] = None,
) -> None:
    """Serve a deployment.

    One line of JSON on stdout says when it is ready and where; SIGTERM or Ctrl-C drains.
    """
    from forebay.inputs import load_deployment
    from serve.errors import SpecError
    from serve.proxy.run import run as run_fleet
    from serve.run import run

    load_deployment(deployment)
    if not fleet:
        raise typer.Exit(run(deployment, host=host, http_port=http_port, log_dir=log_dir, pool=pool))
    if pool is not None:
        raise SpecError.of("--pool", "", "is one node, --fleet all of them: leave one out")
    raise typer.Exit(run_fleet(deployment, host=host, http_port=http_port, log_dir=log_dir, seed=seed or 0))
