"""The replica process: loads one model, warms it up, then runs the batches that the engine sends.

Started as `python -m serve.replica FD` with its end of the channel as an inherited descriptor. It
ends when the channel closes, and the kernel kills it when the engine dies in the middle of a batch.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serve import backends, channel
from serve.backends.contract import Array, Backend, Facts, LoadError, Settings
from serve.channel import DoneHead, Place, Region, RunHead
from serve.clock import die_with_parent, set_timer_slack
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.errors import ForebayError

WARM_ALL_UP_TO = 64
"""Every number of rows up to this is warmed; above, the powers of two and the points half-way."""

FAILED_A_MESSAGE = 100
WORDS_MAX = 16_000
"""Failed requests that one message names, and the characters of their errors."""

ECHOES = 40
"""Times that an emulated replica measures its channel."""


def sizes_to_warm(max_batch: int) -> list[int]:
    """Numbers of rows to warm, largest first, so that memory pools reach their final size at once.

    >>> sizes_to_warm(0)
    [1]
    >>> sizes_to_warm(100)[:4]
    [100, 96, 64, 63]
    """
    sizes = set(range(1, min(max_batch, WARM_ALL_UP_TO) + 1)) | {max(max_batch, 1)}
    power = WARM_ALL_UP_TO
    while power < max_batch:
        sizes |= {power, min(power * 3 // 2, max_batch)}
        power *= 2
    return sorted(sizes, reverse=True)


Feeds = dict[str, Array]


def alone(groups: list[Feeds], rows: list[int]) -> Iterator[Feeds]:
    """Each request's own part of the groups that were stacked of requests of so many `rows`."""
    numbers = iter(rows)
    for feeds in groups:
        at, end = 0, len(next(iter(feeds.values())))
        while at < end:
            count = next(numbers)
            yield {name: tensor[at : at + count] for name, tensor in feeds.items()}
            at += count


def _words_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class Worker:
    """A loaded backend and the memory that it shares with the engine."""

    def __init__(self, end: socket.socket, backend: Backend, buffers: int) -> None:
        self._end = end
        self._backend = backend
        self._inputs: list[Region | None] = [None] * buffers
        self._outputs: list[Region | None] = [None] * buffers
        self._in = [(t.name, NUMPY_OF_DATATYPE[t.datatype]) for t in backend.facts.inputs]
        self._out = [NUMPY_OF_DATATYPE[t.datatype] for t in backend.facts.outputs]

    def serve(self) -> None:
        """Run batches until the engine closes the channel."""
        while True:
            message, fds = channel.receive(self._end)
            if not message:
                return
            if channel.kind_of(message) == channel.RUN:
                self._batch(channel.words_of(message).tolist(), fds)

    def _batch(self, words: list[int], fds: list[int]) -> None:
        begin_ns = time.monotonic_ns()
        head = RunHead(*words[1 : 1 + RUN_WORDS])
        for fd in fds:
            _replace(self._inputs, head.buffer, Region.adopt(fd))
        groups = [self._feeds(head, group) for group in self._places(head, words)]
        try:
            outputs = [output for feeds in groups for output in self._backend.run(feeds, head)]
            failed: dict[int, str] = {}
        except Exception as error:  # what the model raises is those requests' failure, not the replica's
            outputs, failed = self._one_by_one(head, groups, words[-head.requests :], error)
        places, fds = self._write(head, outputs)
        self._backend.settle(head)
        self._tell_failed(head.batch, failed)
        done = DoneHead(head.batch, head.incarnation, head.buffer, begin_ns, time.monotonic_ns(), len(places))
        channel.send(self._end, channel.pack(channel.DONE, done, places), fds)

    def _places(self, head: RunHead, words: list[int]) -> list[list[Place]]:
        return channel.unpack_places(words, 1 + RUN_WORDS, head.groups, len(self._in))

    def _feeds(self, head: RunHead, group: list[Place]) -> Feeds:
        region = self._inputs[head.buffer]
        assert region is not None, "the engine sends a buffer's region before it uses it"
        return {name: channel.view(region, place, dtype) for (name, dtype), place in zip(self._in, group, strict=True)}

    def _one_by_one(
        self, head: RunHead, groups: list[Feeds], rows: list[int], error: Exception
    ) -> tuple[list[Array], dict[int, str]]:
        """Run a batch's requests apart, so that none fails for another's input.

        The outputs of those that do run, one after the other, and by their number what the rest raise.
        """
        if head.requests == 1:
            return [], {0: _words_of(error)}
        outputs: list[Array] = []
        failed = {}
        for number, feeds in enumerate(alone(groups, rows)):
            try:
                outputs += self._backend.run(feeds, head._replace(rows=rows[number], groups=1, requests=1))
            except Exception as own:
                failed[number] = _words_of(own)
        return outputs, failed

    def _tell_failed(self, batch: int, failed: dict[int, str]) -> None:
        """In pieces that fit a message, even if every character needs six bytes of JSON."""
        numbers = list(failed)
        for at in range(0, len(numbers), FAILED_A_MESSAGE):
            piece = numbers[at : at + FAILED_A_MESSAGE]
            texts = {n: failed[n][: WORDS_MAX // len(piece)] for n in piece}
            channel.send(self._end, channel.pack_json({"batch": batch, "failed": texts}))

    def _write(self, head: RunHead, outputs: list[Array]) -> tuple[list[list[Place]], list[int]]:
        count = len(self._out)
        blobs = [channel.encode_bytes(a) if a.dtype.hasobject else a for a in outputs]
        places, size = channel.layout(channel.sizes_of(outputs, blobs))
        region, fds = channel.grown(self._outputs, head.buffer, size)
        for blob, place in zip(blobs, places, strict=True):
            channel.write(region, place, blob)
        return [places[i : i + count] for i in range(0, len(places), count)], fds


RUN_WORDS = len(RunHead._fields)


def _replace(regions: list[Region | None], buffer: int, region: Region) -> None:
    old = regions[buffer]
    if old is not None:
        old.close()
    regions[buffer] = region


def _load(settings: Settings) -> tuple[Backend, dict[str, Any]]:
    """The warm backend and what the engine is told of it."""
    started_ns = time.monotonic_ns()
    backend = backends.load(settings)
    _check_message(backend.facts)
    loaded_ns = time.monotonic_ns()
    for rows in sizes_to_warm(backend.facts.max_batch):
        backend.warm_up(rows)
    warmed_ns = time.monotonic_ns()
    return backend, {
        "facts": backend.facts.model_dump(),
        "load_s": (loaded_ns - started_ns) / 1e9,
        "warmup_s": (warmed_ns - loaded_ns) / 1e9,
        "memory_mib": _resident_mib(),
    }


def _check_message(facts: Facts) -> None:
    for tensors in (facts.inputs, facts.outputs):
        free = any(d < 0 for t in facts.inputs for d in t.shape)
        if free and not channel.fits_message(facts.max_batch, [len(t.shape) + 1 for t in tensors]):
            raise LoadError(
                f"max_batch {facts.max_batch} is too large for a model whose inputs have free dimensions: a batch of "
                f"unlike requests could not be described in one message; lower batching.max_batch"
            )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def echo_ns(end: socket.socket) -> int:
    """Median time from a send to the engine's having woken for it, both sides idle before.

    The engine answers with the instant at which it woke.
    """
    late = []
    for _ in range(ECHOES):
        time.sleep(0.002)  # lets the engine fall asleep, as it is between two completions at low load
        sent_ns = time.monotonic_ns()
        channel.send(end, channel.pack(channel.ECHO, (sent_ns,), ()))
        message, _ = channel.receive(end)
        if not message:
            return 0
        late.append(channel.words_of(message)[1] - sent_ns)
    return int(np.median(late))


def main(fd: int) -> None:
    """Load, say so, and serve."""
    # The terminal's Ctrl-C and a service manager's SIGTERM go to every process of a group, but it is
    # the engine that drains: a replica ends when the engine closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_timer_slack()
    end = socket.socket(fileno=fd)
    channel.send(end, channel.pack_json({"hello": os.getpid()}))
    message, _ = channel.receive(end)
    if not message:
        return
    told = channel.unpack_json(message)
    die_with_parent(told["parent"])
    settings = Settings.model_validate(told["settings"])
    if settings.cores:
        os.sched_setaffinity(0, settings.cores)  # before the backend starts threads, which inherit it
    try:
        backend, ready = _load(settings)
    except ForebayError as error:
        channel.send(end, channel.pack_json({"error": str(error)}))
        return
    if hasattr(backend, "late_ns"):
        backend.late_ns += echo_ns(end)
    channel.send(end, channel.pack_json({"ready": ready}))
    Worker(end, backend, told["buffers"]).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
