"""One router process from start to exit: what `forebay route`, `forebay serve --fleet` and `python -m serve.proxy` run.

As with an engine (`serve.run`): one line of JSON on stdout when it is ready, everything else to stderr; SIGTERM or the
first SIGINT drains, a second one stops at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from serve.affinity import here
from serve.deployment import Deployment, Model
from serve.engine import REPLICAS_PER_CORE_MAX
from serve.errors import EngineError, ForebayError, SpecError
from serve.files import load, resolve
from serve.fleet import engines_of
from serve.loadgen import address_of
from serve.profile import Profile
from serve.proxy.engines import DRAIN_S, Engines
from serve.proxy.front import RouterFront
from serve.proxy.gateway import Gateway
from serve.run import (
    EXIT_BAD_INPUT,
    EXIT_OK,
    EXIT_STOPPED,
    READY_SCHEMA_VERSION,
    Stop,
    cannot_listen,
    check_address,
    deployment_at,
    log_to_stderr,
    quiet_collector,
    url_of,
)

log = logging.getLogger(__name__)


def run(
    path: Path,
    nodes: Sequence[str] | None = None,
    *,
    host: str = "127.0.0.1",
    http_port: int = 0,
    log_dir: Path | None = None,
    while_stdin: bool = False,
    seed: int = 0,
) -> int:
    """Route requests for the deployment at `path` to the engines at the URLs `nodes`, or, without them, to engines
    that are started on this machine, until told to stop; the exit code.

    Raises
    ------
    SpecError : the file's faults, what of it a live router cannot do, or a URL that is none.
    EngineError : an engine does not start, or the address is taken.
    """
    deployment = deployment_at(path)
    _check(deployment, path)
    row_ns = {name: row_ns_of(model, path) for name, model in deployment.models.items()} if _weighs(deployment) else {}
    addresses = None if nodes is None else _addresses(nodes)
    log_to_stderr()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        process = _Process(deployment, path, row_ns, seed)
        return runner.run(process.serve(addresses, host, http_port, log_dir, while_stdin))


def _check(deployment: Deployment, path: Path) -> None:
    router = deployment.router
    if router is not None and router.state_age == 0 and router.policy in ("shortest_queue", "least_work"):
        what = "0s is simulated only: a live router knows nodes by their last answers; leave it out"
        raise SpecError.of(path, "router.state_age", what)


def _weighs(deployment: Deployment) -> bool:
    return deployment.router is not None and deployment.router.policy == "least_work"


def row_ns_of(model: Model, path: Path) -> int:
    """What a row is expected to take of a replica, by the largest batch that the model's profile knows; SpecError if
    it knows none at its threads."""
    file = resolve(path, model.main.only_profile)
    cells = [
        cell
        for cell in load(file, Profile).service
        if cell.threads == model.replicas.threads and cell.busy == 0 and cell.rows <= model.batching.max_batch
    ]
    if not cells:
        what = f"has no time at {model.replicas.threads} threads, by which the router weighs work; calibrate it"
        raise SpecError.of(file, "service", what)
    largest = max(cells, key=lambda cell: cell.rows)
    return max(1, round(largest.mean_ms * 1e6 / largest.rows))


def _addresses(nodes: Sequence[str]) -> list[tuple[str, int]]:
    found = [address_of(url, allow_remote=True) for url in nodes]
    twice = {url for url, address in zip(nodes, found, strict=True) if found.count(address) > 1}
    if twice:
        raise SpecError.of("--node", "", f"must name each node once, got {', '.join(sorted(twice))}")
    return found


class _Process:
    """What the process does between its start and its exit code."""

    def __init__(self, deployment: Deployment, path: Path, row_ns: dict[str, int], seed: int) -> None:
        self._deployment, self._path, self._row_ns, self._seed = deployment, path, row_ns, seed
        self._began_ns = time.monotonic_ns()

    async def serve(
        self,
        addresses: list[tuple[str, int]] | None,
        host: str,
        http_port: int,
        log_dir: Path | None,
        while_stdin: bool,
    ) -> int:
        check_address(host, http_port)
        _allow_connections()
        stop = Stop(while_stdin)
        if addresses is not None:
            return await self._route(addresses, None, host, http_port, stop)
        engines = Engines(self._path, self._count(), log_dir)
        drain_s = 0.0
        try:
            starting = asyncio.ensure_future(engines.start())
            if not await stop.unless_stopped(starting):
                return EXIT_STOPPED
            code = await self._route(starting.result(), engines, host, http_port, stop)
            drain_s = DRAIN_S if code == EXIT_OK else 0.0
            return code
        finally:
            await engines.stop(drain_s)

    def _count(self) -> int:
        """Engines to start; EngineError if they are more than the machine can hold."""
        engines = engines_of(self._deployment)
        most = REPLICAS_PER_CORE_MAX * len(here())
        processes = sum(1 + sum(m.replicas.count for m in engine.models.values()) for engine in engines)
        if processes > most:
            what = f"{len(engines)} engines and their replicas are {processes} processes"
            raise EngineError(f"{what}: this machine runs at most {most} ({REPLICAS_PER_CORE_MAX} a core)")
        return len(engines)

    async def _route(
        self, addresses: list[tuple[str, int]], engines: Engines | None, host: str, http_port: int, stop: Stop
    ) -> int:
        gateway = Gateway(self._deployment, self._row_ns, addresses, self._seed)
        front = RouterFront(gateway)
        try:
            await front.start(host, http_port)
        except OSError as error:
            raise cannot_listen(host, http_port, error) from error
        stop.drains(gateway)
        gateway.start()
        try:
            if not await stop.unless_stopped(gateway.entered(every=engines is not None)):
                return EXIT_STOPPED
            quiet_collector()
            if not gateway.draining:
                print(json.dumps(self._ready_line(gateway, url_of(host, front.port), engines)), flush=True)
            if not await stop.unless_stopped(gateway.drained()):
                return EXIT_STOPPED
            await front.close()
            return EXIT_OK
        finally:
            gateway.close()
            await front.close(grace_s=0.0)

    def _ready_line(self, gateway: Gateway, url: str, engines: Engines | None) -> dict[str, Any]:
        nodes = [
            {"url": f"http://{watch.upstream.name}", "ready": watch.in_rotation, "models": sorted(watch.models)}
            for watch in gateway.watches
        ]
        line = {
            "schema_version": READY_SCHEMA_VERSION,
            "url": url,
            "pid": os.getpid(),
            "ready_s": round((time.monotonic_ns() - self._began_ns) / 1e9, 3),
            "nodes": nodes,
        }
        return line if engines is None else line | {"engines": engines.started}


def _allow_connections() -> None:
    """Have as many files open as the system lets us: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """The command line of `python -m serve.proxy`."""
    parser = argparse.ArgumentParser(prog="serve.proxy", description="Route requests to the nodes of a deployment.")
    parser.add_argument("deployment", type=Path, help="the deployment file")
    parser.add_argument("--node", action="append", help="URL of an engine; none: they are started here")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--http-port", type=int, default=0, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--log-dir", type=Path, help="engines that are started here write their logs there")
    parser.add_argument("--seed", type=int, default=0, help="of the router's draws (default: %(default)s)")
    parser.add_argument(
        "--while-stdin", action="store_true", help="stop at once when stdin closes, as it does when who holds it dies"
    )
    told = parser.parse_args()
    try:
        code = run(
            told.deployment,
            told.node,
            host=told.host,
            http_port=told.http_port,
            log_dir=told.log_dir,
            while_stdin=told.while_stdin,
            seed=told.seed,
        )
        sys.exit(code)
    except ForebayError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
