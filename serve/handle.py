"""The engine's side of one replica process: its start, its messages and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable
from typing import Any, Protocol

from serve import channel, children
from serve.backends.contract import Facts, Settings
from serve.batch_memory import BatchMemory, Flight
from serve.channel import DoneHead, RunHead
from serve.node import Completion
from serve.scheduler import Batch
from serve.spec import Spec

_logger = logging.getLogger(__name__)

_DONE_WORDS = len(DoneHead._fields)


class Started(Spec):
    """Parts of a replica's start-up, in seconds, and its resident memory once warm."""

    pid: int
    spawn_s: float
    load_s: float
    warmup_s: float
    memory_mib: float


class Owner(Protocol):
    """Who is told, in the event loop, what a replica does."""

    def replica_ready(self, handle: Handle) -> None:
        """It has loaded and warmed up: `facts` and `started` are known."""

    def replica_done(self, handle: Handle, done: Completion) -> None:
        """It has ended a batch; the outputs are valid until this returns."""

    def replica_gone(self, handle: Handle, error: str) -> None:
        """Its process is dead, because it could not load if there is an `error`."""


class Handle:
    """One replica process; a successor gets a handle of its own, so no message is ever taken for another's."""

    def __init__(
        self,
        replica: int,
        settings: Settings,
        slots: int,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
        slept_at: Callable[[int], bool],
    ) -> None:
        self.replica = replica
        self.facts: Facts | None = None
        self.started: Started | None = None
        self._owner = owner
        self._loop = loop
        self._clock = clock
        self._slept_at = slept_at
        self._heard_ns = 0
        self._buffers = slots + 1  # see serve.channel
        self._memory: BatchMemory | None = None
        self._flights: dict[int, Flight] = {}
        self._error = ""
        self._open = True
        self._spawn_s = 0.0
        self._spawned_ns = clock()
        self._end, self._process = self._spawn(settings)
        loop.add_reader(self._end, self._readable)

    def _spawn(self, settings: Settings) -> tuple[Any, subprocess.Popen[bytes]]:
        ours, theirs = channel.pair()
        with theirs:
            process = subprocess.Popen(
                children.python("-m", "serve.replica", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,  # the engine's stdout holds the one line that says it is ready
                env=children.environment(OMP_NUM_THREADS=str(settings.threads)),
            )
        told = {"parent": os.getpid(), "settings": settings.model_dump(), "buffers": self._buffers}
        channel.send(ours, channel.pack_json(told))
        return ours, process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def stop(self) -> None:
        """End the process without notice; the owner is not told. Does nothing if it has ended already."""
        if self._close():
            self._process.wait()  # a killed process is gone within the time that its memory takes to be freed

    def dismiss(self) -> None:
        """As `stop`, but the loop goes on while the process's memory is freed, which takes long for a large model."""
        if self._close():
            self._loop.run_in_executor(None, self._process.wait)

    def _close(self) -> bool:
        if not self._open:
            return False
        self._open = False
        self._loop.remove_reader(self._end)
        self._process.kill()  # before it finds its channel closed, and says so
        self._end.close()
        if self._memory is not None:
            self._memory.close()
        return True

    def send(self, batch: Batch, busy: int) -> None:
        """Put the batch's inputs into shared memory and tell the replica to run it."""
        assert self._memory is not None, "batches go to replicas that are up"
        flight, places, fds = self._memory.stack(batch)
        self._flights[batch.id] = flight
        first = batch.requests[0]
        head = RunHead(
            batch.id,
            batch.incarnation,
            flight.buffer,
            batch.rows,
            batch.dispatch_ns,
            busy,
            first.id,
            first.deaths,
            len(flight.groups),
            self._heard_ns,
            len(batch.requests),
        )
        rows = [r.rows for r in flight.stacked]
        try:
            channel.send(self._end, channel.pack(channel.RUN, head, places, rows), fds)
        except OSError as error:  # it has died, or does not read; `_readable` learns of its end next
            _logger.debug("replica %d: batch %d not sent: %s", self.replica, batch.id, error)
            self._process.kill()

    # -- messages --------------------------------------------------------------------------------------

    def _readable(self) -> None:
        seen_ns = self._clock()
        try:
            message, fds = channel.receive(self._end)
        except BlockingIOError:
            return
        except ConnectionResetError:  # died with unread messages
            message, fds = b"", []
        if not message:
            self.stop()
            self._owner.replica_gone(self, self._error)
            return
        kind = channel.kind_of(message)
        if kind == channel.DONE:
            self._done(channel.words_of(message).tolist(), fds, seen_ns)
        elif kind == channel.ECHO:
            channel.send(self._end, channel.pack(channel.ECHO, (seen_ns,), ()))
        else:
            self._told(channel.unpack_json(message), seen_ns)

    def _done(self, words: list[int], fds: list[int], seen_ns: int) -> None:
        assert self._memory is not None
        head = DoneHead(*words[1 : 1 + _DONE_WORDS])
        self._heard_ns = seen_ns if self._slept_at(head.end_ns) else 0
        for fd in fds:
            self._memory.adopt_output(head.buffer, fd)
        flight = self._flights.pop(head.batch)
        assert flight.batch.incarnation == head.incarnation and flight.buffer == head.buffer
        places = channel.unpack_places(words, 1 + _DONE_WORDS, head.groups, self._memory.output_count)
        outputs = self._memory.cut(flight, places)
        done = Completion(self.replica, head.batch, head.begin_ns, head.end_ns, seen_ns, outputs)
        self._owner.replica_done(self, done)
        self._memory.free(flight)

    def _told(self, content: dict[str, Any], seen_ns: int) -> None:
        if "hello" in content:
            self._spawn_s = (seen_ns - self._spawned_ns) / 1e9
        elif "ready" in content:
            ready = content["ready"]
            self.facts = Facts.model_validate(ready.pop("facts"))
            self.started = Started(pid=self.pid, spawn_s=self._spawn_s, **ready)
            self._memory = BatchMemory(self.facts, self._buffers)
            self._owner.replica_ready(self)
        elif "failed" in content:  # of a batch whose end is told next
            self._flights[content["batch"]].failed.update((int(n), text) for n, text in content["failed"].items())
        else:
            self._error = str(content["error"])
