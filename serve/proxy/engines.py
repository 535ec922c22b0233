"""The engines of a fleet as child processes on this machine: started together, kept up, stopped together.

Each ends when this process does, however that dies: it watches a pipe that only this process holds. One that dies is
started anew on its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serve import children
from serve.errors import EngineError
from serve.fleet import log_folder
from serve.model_engine import RESPAWN_FIRST_S, RESPAWN_LAST_S

log = logging.getLogger(__name__)

DRAIN_S = 30.0
"""How long an engine may take over what it has before it is killed."""


@dataclass(slots=True)
class _Engine:
    number: int
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    started: dict[str, Any] = field(default_factory=dict)  # its ready line


class Engines:
    """The engines of the deployment at `path`, by their numbers in `serve.fleet.engines_of`."""

    def __init__(self, path: Path, count: int, log_dir: Path | None = None) -> None:
        self._path, self._log_dir = path, log_dir
        self._engines = [_Engine(number) for number in range(count)]
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def started(self) -> list[dict[str, Any]]:
        """The ready line of each."""
        return [engine.started for engine in self._engines]

    async def start(self) -> list[tuple[str, int]]:
        """Start all and wait until they are ready; the address of each. EngineError if one does not start."""
        await asyncio.gather(*(self._spawn(engine) for engine in self._engines))
        if bad := [engine for engine in self._engines if not await self._is_up(engine)]:
            assert bad[0].process is not None
            code = await bad[0].process.wait()
            raise EngineError(f"engine {bad[0].number} of {len(self._engines)} did not start: it exited with {code}")
        self._keepers = [asyncio.create_task(self._keep(engine)) for engine in self._engines]
        return [("127.0.0.1", engine.port) for engine in self._engines]

    async def _spawn(self, engine: _Engine) -> None:
        command = children.python("-m", "serve.engine", str(self._path), "--engine", str(engine.number))
        command += ["--http-port", str(engine.port), "--while-stdin"]
        if self._log_dir is not None:
            command += ["--log-dir", str(log_folder(self._log_dir, engine.number))]
        # A session of its own: a Ctrl-C in the terminal is for this process, which stops its engines last.
        engine.process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=children.environment(),
        )

    async def _is_up(self, engine: _Engine) -> bool:
        """Wait for its ready line; false if it ended without one."""
        assert engine.process is not None and engine.process.stdout is not None
        line = await engine.process.stdout.readline()
        if not line:
            return False
        engine.started = json.loads(line)
        engine.port = urlsplit(engine.started["url"]).port or 0
        return True

    async def _keep(self, engine: _Engine) -> None:
        """Start an engine anew whenever it has died: at once, then after pauses that double."""
        pause_s = RESPAWN_FIRST_S
        while True:
            assert engine.process is not None
            code = await engine.process.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            log.warning("engine %d (port %d) %s; starting it anew", engine.number, engine.port, how)
            await asyncio.sleep(pause_s)
            await self._spawn(engine)
            pause_s = RESPAWN_FIRST_S if await self._is_up(engine) else min(2 * pause_s, RESPAWN_LAST_S)

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Drain all, and wait until they have ended; kill those that take too long. 0: kill at once."""
        for keeper in self._keepers:
            keeper.cancel()
        running = [p for e in self._engines if (p := e.process) is not None and p.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if drain_s else signal.SIGKILL)
        waiting = [asyncio.create_task(process.wait()) for process in running]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=drain_s or None)
        for process in running:
            if late and process.returncode is None:
                log.warning("an engine (pid %d) had not drained after %.0f s and is killed", process.pid, drain_s)
                process.kill()
        if late:
            await asyncio.wait(late)
