"""One engine process from start to exit: what `forebay serve` and `python -m serve.engine` run.

stdout gets one line, JSON, when every replica is ready; everything else goes to stderr. SIGTERM (or
the first SIGINT) drains, a second one stops at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import uvloop

from serve import affinity, clock
from serve.capacity_table import check_tables
from serve.deployment import Deployment
from serve.engine import Engine
from serve.errors import EngineError, ForebayError
from serve.files import load
from serve.fleet import engines_of, node_of
from serve.manifests import with_manifests
from serve.protocol.http import HttpFront

READY_SCHEMA_VERSION = 1

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 130

_logger = logging.getLogger(__name__)


def run(
    path: Path,
    *,
    host: str = "127.0.0.1",
    http_port: int = 0,
    log_dir: Path | None = None,
    while_stdin: bool = False,
    pool: str | None = None,
    engine: int | None = None,
) -> int:
    """Serve the deployment at `path`, or its one node of `pool`, until told to stop, or until stdin closes if
    `while_stdin`; the exit code. `engine`: serve what this one of `serve.fleet.engines_of` does.

    Raises
    ------
    SpecError : the file's faults, or a pool that it does not have.
    EngineError : a model cannot be served, or the address is taken.
    """
    whole = deployment_at(path)
    deployment = node_of(whole, pool) if engine is None else engines_of(whole)[engine]
    log_to_stderr()
    for name, model in deployment.models.items():
        if whole.models[name].replicas.autoscaler is not None and model.replicas.autoscaler is None:
            what = "sets the replicas of a whole fleet, of which this is one node; here"
            _logger.warning("models.%s.replicas.autoscaler: %s %d stay", name, what, model.replicas.count)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(deployment, path.parent, host, http_port, log_dir, while_stdin))


def deployment_at(path: Path) -> Deployment:
    """The deployment of a file, with what it names of autoscalers read and checked; SpecError with the faults."""
    whole = with_manifests(load(path, Deployment), path)
    check_tables(whole, path)
    return whole


def log_to_stderr() -> None:
    """stdout is for the ready line."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


async def _serve(
    deployment: Deployment, folder: Path, host: str, http_port: int, log_dir: Path | None, while_stdin: bool
) -> int:
    began_ns = time.monotonic_ns()
    check_address(host, http_port)
    engine = Engine(deployment, folder, log_dir)
    affinity.keep_to(os.getpid(), engine.front_cores)
    clock.wake_promptly()
    stop = Stop(while_stdin)
    stop.drains(engine)
    try:
        if not await stop.unless_stopped(engine.start()):
            return EXIT_STOPPED
        front = HttpFront(engine)
        try:
            await front.start(host, http_port)
        except OSError as error:
            raise cannot_listen(host, http_port, error) from error
        quiet_collector()
        line = _ready_line(engine, url_of(host, front.port), (time.monotonic_ns() - began_ns) / 1e9)
        print(json.dumps(line), flush=True)
        if not await stop.unless_stopped(engine.drained()):
            return EXIT_STOPPED
        await front.close()
        return EXIT_OK
    finally:
        await engine.close()


def check_address(host: str, http_port: int) -> None:
    """EngineError if nothing can listen there, found out before models are loaded."""
    if not host:
        raise EngineError("cannot listen on no address: name one, such as 127.0.0.1, or 0.0.0.0 for all")
    failed: list[OSError] = []
    try:
        found = socket.getaddrinfo(host, http_port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, http_port, error) from None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
        except OSError as error:
            failed.append(error)
    if len(failed) == len(found):
        raise cannot_listen(host, http_port, failed[0])


def url_of(host: str, port: int) -> str:
    """Where a client on this machine reaches the server: an address that stands for all is none that it can ask."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def cannot_listen(host: str, http_port: int, error: Exception) -> EngineError:
    """What is wrong with an address."""
    return EngineError(f"cannot listen on {host}:{http_port}: {getattr(error, 'strerror', None) or error}")


class Drains(Protocol):
    """An engine or a router."""

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""

    def drain(self) -> None:
        """Take no more, and answer what is inside."""


class Stop:
    """What the signals ask for: the first drains, the second, or one before there is anything ready to drain, stops
    at once; as does the end of stdin, if `while_stdin`."""

    def __init__(self, while_stdin: bool) -> None:
        self._drains: Drains | None = None
        self._now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled)
        if while_stdin:
            self._loop.add_reader(0, self._stdin_closed)

    def drains(self, what: Drains) -> None:
        """What the first signal drains from now on."""
        self._drains = what

    def _signalled(self) -> None:
        if self._drains is not None and self._drains.ready:
            _logger.info("draining: what was admitted is answered, then this process exits")
            self._drains.drain()
        else:
            self._now.set()

    def _stdin_closed(self) -> None:
        """Nobody writes to it, so it is readable when the other end is gone."""
        if not os.read(0, 4096):
            self._loop.remove_reader(0)
            self._now.set()

    async def unless_stopped(self, work: Any) -> bool:
        """Await `work`; false if it was to stop at once before that was done."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._now.wait())
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            return False
        task.result()
        return True


def quiet_collector() -> None:
    """Let the garbage collector leave alone what lives as long as the process, and look rarely at the rest.

    Engine and router make no cycles per request, and a full collection would hold the front for milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _ready_line(engine: Engine, url: str, ready_s: float) -> dict[str, Any]:
    return {
        "schema_version": READY_SCHEMA_VERSION,
        "url": url,
        "pid": os.getpid(),
        "ready_s": round(ready_s, 3),
        "models": {name: {"replicas": [part.model_dump() for part in parts]} for name, parts in engine.started.items()},
    }


def main() -> None:
    """The command line of `python -m serve.engine`."""
    parser = argparse.ArgumentParser(prog="serve.engine", description="Serve a deployment on this machine.")
    parser.add_argument("deployment", type=Path, help="the deployment file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--http-port", type=int, default=0, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--log-dir", type=Path, help="write the logs there, as parquet and jsonl")
    parser.add_argument(
        "--while-stdin", action="store_true", help="stop at once when stdin closes, as it does when who holds it dies"
    )
    parser.add_argument("--engine", type=int, help="of a deployment of several, serve the engine of this number")
    told = parser.parse_args()
    try:
        code = run(
            told.deployment,
            host=told.host,
            http_port=told.http_port,
            log_dir=told.log_dir,
            while_stdin=told.while_stdin,
            engine=told.engine,
        )
        sys.exit(code)
    except ForebayError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
