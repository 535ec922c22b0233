"""Starts an engine as a child process and stops it again: for verify, calibrate, the app and tests."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve import children
from serve.errors import EngineError

DRAIN_S = 30.0
"""How long a draining engine may take before it is killed."""


@dataclass(frozen=True, slots=True)
class Live:
    """A running engine. `started` is its ready line: ready_s, and the start-up parts of each model's replicas."""

    url: str
    pid: int
    started: dict[str, Any]
    log_dir: Path | None
    process: subprocess.Popen[bytes]
    stderr: Any

    @property
    def fronts(self) -> list[int]:
        """Process ids of the engines' fronts: of a fleet several, else its own."""
        engines = self.started.get("engines")
        return [self.pid] if engines is None else [engine["pid"] for engine in engines]

    @property
    def routed(self) -> bool:
        """Whether it is a router, before engines."""
        return "nodes" in self.started

    def check(self) -> None:
        """EngineError, with what it said last, if it has died."""
        code = self.process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
            raise EngineError(f"the engine {how} while it was needed: {_last_words(self.stderr)}")


@contextlib.contextmanager
def launch(
    deployment_path: Path,
    *,
    host: str = "127.0.0.1",
    http_port: int = 0,
    log_dir: Path | None = None,
    timeout_s: float = 120.0,
    drain_s: float = DRAIN_S,
    fleet: bool = False,
    nodes: Sequence[str] = (),
) -> Iterator[Live]:
    """Serve `deployment_path` while the block runs; on leaving it the engine has drained and written its logs.

    `fleet`: all nodes of it, behind the router, whose process then is the one that is launched. `nodes`: the router
    alone, in front of the engines at these URLs.

    The engine stops when this process dies, however it dies: it watches a pipe that only this process holds.

    Raises
    ------
    EngineError : it was not ready within `timeout_s`, with what it said last; it exited with an error; or it did
        not drain within `drain_s`.
    """
    with tempfile.TemporaryFile() as stderr:
        process = _spawn(deployment_path, host, http_port, log_dir, stderr, fleet, nodes)
        try:
            started = _ready(process, timeout_s, stderr)
            yield Live(started["url"], process.pid, started, log_dir, process, stderr)
        finally:
            drained = _stop(process, drain_s)
        if not drained:
            raise EngineError(f"the engine had not drained after {drain_s:.0f} s and was killed; its log is lost")
        if process.returncode not in (0, -signal.SIGKILL):
            raise EngineError(f"the engine exited with {process.returncode}: {_last_words(stderr)}")


def _spawn(
    path: Path, host: str, http_port: int, log_dir: Path | None, stderr: Any, fleet: bool, nodes: Sequence[str]
) -> subprocess.Popen[bytes]:
    module = "serve.proxy" if fleet or nodes else "serve.engine"
    command = children.python("-m", module, str(path), "--host", host, "--http-port", str(http_port))
    command += ["--while-stdin", *(part for url in nodes for part in ("--node", url))]
    if log_dir is not None:
        command += ["--log-dir", str(log_dir)]
    # A session of its own: a Ctrl-C in the terminal is for the caller, who stops the engine in order.
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        env=children.environment(),
    )


def _ready(process: subprocess.Popen[bytes], timeout_s: float, stderr: Any) -> dict[str, Any]:
    assert process.stdout is not None
    line = b""
    deadline_s = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline_s - time.monotonic())):
                raise EngineError(f"the engine was not ready within {timeout_s:.0f} s: {_last_words(stderr)}")
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                process.wait()
                raise EngineError(f"the engine did not start: {_last_words(stderr)}")
            line += piece
    started: dict[str, Any] = json.loads(line)
    return started


def _stop(process: subprocess.Popen[bytes], drain_s: float) -> bool:
    """Whether it ended by itself."""
    drained = True
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(drain_s)
        except subprocess.TimeoutExpired:
            drained = False
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return drained


def _last_words(stderr: Any) -> str:
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-5:]) or "it said nothing"
