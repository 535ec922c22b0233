"""`forebay route DEPLOYMENT --node URL ...`: the router alone, in front of engines that run already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forebay.options import SEED_MAX, Json


def route(
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT", help="Deployment file, whose router this is.")],
    node: Annotated[list[str], typer.Option(metavar="URL", help="An engine; once for each, in the nodes' order.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    as_json: Json = False,
    seed: Annotated[int | None, typer.Option(min=0, max=SEED_MAX, help="Of the router's draws.")] = None,
) -> None:
    """Route requests to engines that run already, by the deployment's router.

    One line of JSON on stdout says when every model has a node that is ready, and where; SIGTERM or Ctrl-C drains.
    """
    from forebay.inputs import load_deployment
    from serve.proxy.run import run

    load_deployment(deployment)
    raise typer.Exit(run(deployment, node, host=host, http_port=http_port, seed=seed or 0))
