"""Drawing a workload: arrays of requests in chunks, each kind of draw from its own stream.

A draw is keyed by the request's class and its number within the class, never by its id in the merged
order or by the size of a chunk: two deployments meet the same requests. Gaps are rounded to whole ns
before they are added up, so instants do not depend on where the sum was cut either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from serve.policy.codes import NEVER_NS
from sim.keys import Keys
from sim.plane import Closed, Ints, Requests
from sim.point_process import whole_ns
from sim.rng import stream, uniform_bits
from sim.workload import Load, Source

CHUNK = 65_536
"""Requests of a class that are drawn at a time; any other number gives the same values."""

CLOSED_CHUNK = 8_192
"""The same of closed loops, of which nobody knows beforehand how many requests they will send."""

_COLUMNS = ("arrival_ns", "rows", "class_", "priority", "timeout_ns", "patience_ns", "client_ns", "route")


@dataclass(frozen=True, slots=True)
class _Streams:
    """The generators of what requests of one class have, beside their instants, in one replication."""

    rows: np.random.Generator
    service: np.random.Generator
    client: np.random.Generator
    patience: np.random.Generator
    route: np.random.Generator
    keys: Keys | None


def _streams(source: Source, load: Load, seed: int, replication: int) -> _Streams:
    names = ("rows", "service", "client", "patience", "route")
    keys = None
    if load.by_key and source.affinity is not None:
        keys = Keys(seed, replication, source.name, source.affinity.keys, source.affinity.zipf)
    rows, service, client, patience, route = (stream(seed, replication, source.name, purpose) for purpose in names)
    return _Streams(rows, service, client, patience, route, keys)


def _attributes(source: Source, load: Load, streams: _Streams, arrival_ns: Ints, first: int = 0) -> Requests:
    """What else requests have, the first of which is number `first` of its class."""
    count = len(arrival_ns)
    if source.patience_ns is None:
        patience = np.full(count, source.client_timeout_ns or NEVER_NS, np.int64)
    else:
        patience = whole_ns(streams.patience.standard_exponential(count) * source.patience_ns)
    own = slice(first, first + count)
    rows = source.rows(streams.rows, count) if source.given_rows is None else source.given_rows[own]
    draw = uniform_bits(streams.service, count) if source.given_draw is None else source.given_draw[own]
    return Requests(
        arrival_ns=arrival_ns,
        rows=rows,
        class_=np.full(count, source.index, np.int64),
        priority=np.full(count, source.priority, np.int64),
        timeout_ns=np.full(count, source.timeout_ns, np.int64),
        patience_ns=patience,
        client_ns=load.client_ns(streams.client, rows),
        draw=np.ascontiguousarray(draw).reshape(1, count),
        route=_routes(load, streams, count),
    )


def _routes(load: Load, streams: _Streams, count: int) -> Ints:
    """What a router draws by, or keeps together; zeros if there is none."""
    if streams.keys is not None:
        return streams.keys.draw(count)
    return uniform_bits(streams.route, count) if load.routed else np.zeros(count, np.int64)


# -- open arrivals -----------------------------------------------------------------------------------


def open_chunks(load: Load, seed: int, replication: int, chunk: int = CHUNK) -> Iterator[Requests]:
    """The open requests of one replication, all classes superposed, by (arrival, class, number in class).

    Ids count up from 0 over the chunks.
    """
    feeds = [_class_chunks(source, load, seed, replication, _enough(source, load, chunk)) for source in load.open]
    first_id = 0
    for requests in feeds[0] if len(feeds) == 1 else _merged(feeds):
        yield replace(requests, first_id=first_id)
        first_id += len(requests)


def _enough(source: Source, load: Load, chunk: int) -> int:
    """A chunk no larger than what the class is likely to need in all: short runs are drawn many times."""
    expected = source.weight * load.duration_ns * 1e-9
    return min(chunk, int(expected + 4 * expected**0.5) + 16)


def _class_chunks(source: Source, load: Load, seed: int, replication: int, chunk: int) -> Iterator[Requests]:
    """One open class's requests before the end of the load, in order."""
    assert source.process is not None
    streams = _streams(source, load, seed, replication)
    draws = partial(stream, seed, replication, source.drawn_for or source.name)
    done = 0
    for instants in source.process.instants(draws, load.duration_ns, chunk):
        within = int(np.searchsorted(instants, load.duration_ns, side="left"))
        if within:
            yield _attributes(source, load, streams, np.ascontiguousarray(instants[:within]), done)
        if within < len(instants):
            return
        done += within


def _merged(feeds: Sequence[Iterator[Requests]]) -> Iterator[Requests]:
    """Classes superposed: what lies before every unfinished class's last drawn instant may go."""
    held: dict[int, Requests] = {}
    unfinished = set(range(len(feeds)))
    while unfinished or held:
        behind = [i for i in unfinished if i not in held or int(held[i].arrival_ns[-1]) == _horizon(held, unfinished)]
        for i in behind:
            following = next(feeds[i], None)
            if following is None:
                unfinished.discard(i)
            else:
                held[i] = concatenated([held[i], following]) if i in held else following
        horizon = _horizon(held, unfinished)
        ready = []
        for i, requests in list(held.items()):
            cut = int(np.searchsorted(requests.arrival_ns, horizon, side="left"))
            ready.append(_slice(requests, 0, cut))
            held[i] = _slice(requests, cut, len(requests))
            if cut == len(requests):
                del held[i]
        if any(len(r) for r in ready):
            yield _ordered(concatenated(ready))


def _horizon(held: dict[int, Requests], unfinished: set[int]) -> int:
    """Earliest last instant among the classes that may still draw on; those that hold nothing do not count."""
    return min((int(held[i].arrival_ns[-1]) for i in unfinished if i in held), default=NEVER_NS)


def _each(requests: Requests, change: Callable[[Ints], Ints]) -> dict[str, Any]:
    return {name: change(getattr(requests, name)) for name in _COLUMNS}


def _ordered(requests: Requests) -> Requests:
    order = np.lexsort((requests.class_, requests.arrival_ns))
    return Requests(**_each(requests, lambda a: a[order]), draw=np.ascontiguousarray(requests.draw[:, order]))


def _slice(requests: Requests, start: int, end: int) -> Requests:
    return Requests(**_each(requests, lambda a: a[start:end]), draw=requests.draw[:, start:end])


def concatenated(parts: Sequence[Requests]) -> Requests:
    """Requests one after another, as if they had been drawn together."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS}
    return Requests(**columns, draw=np.concatenate([p.draw for p in parts], axis=1))


# -- closed loops ------------------------------------------------------------------------------------


def closed_clients(load: Load) -> Closed | None:
    """The closed-loop clients of all classes, by class then number; None if there are none."""
    if not load.closed:
        return None
    return Closed(
        class_=np.concatenate([np.full(s.clients, s.index, np.int64) for s in load.closed]),
        think_ns=np.concatenate([np.full(s.clients, s.think_ns, np.int64) for s in load.closed]),
    )


def closed_chunks(load: Load, seed: int, replication: int, chunk: int = CLOSED_CHUNK) -> Iterator[Requests]:
    """The next requests of all closed-loop clients, whole turns of all of them at a time; endless.

    A class draws for its k-th turn over its clients in one go, so values do not depend on `chunk`.
    All clients send their first request at instant 0. `first_id` counts from the first of them: the
    plane adds `Closed.first_id`.
    """
    streams = [_streams(source, load, seed, replication) for source in load.closed]
    clients = sum(source.clients for source in load.closed)
    turns = max(1, chunk // clients)
    done = 0
    while True:
        parts = [
            _attributes(source, load, own, np.zeros(turns * source.clients, np.int64))
            for source, own in zip(load.closed, streams, strict=True)
        ]
        yield replace(_interleaved(parts, load.closed, turns), first_id=done * clients)
        done += turns


def _interleaved(parts: Sequence[Requests], sources: Sequence[Source], turns: int) -> Requests:
    """Per class (turn, client) -> per turn (class, client)."""

    def joined(columns: Sequence[Ints]) -> Ints:
        blocks = [c.reshape(turns, s.clients) for c, s in zip(columns, sources, strict=True)]
        return np.concatenate(blocks, axis=1).reshape(-1)

    columns: dict[str, Any] = {name: joined([getattr(p, name) for p in parts]) for name in _COLUMNS}
    return Requests(**columns, draw=joined([p.draw for p in parts]).reshape(1, -1))
