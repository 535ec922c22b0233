"""The workload: how each request class of a scenario arrives, and what its requests are like.

Laws only; `sim.drawing` turns them into arrays of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve.deployment import Model
from sim import traces
from sim.law_moments import rate_rps
from sim.law_parts import unscaled
from sim.mix import law_of, part_of
from sim.point_process import Draw, Fixed, Ints, Process, Thinned
from sim.processes import process_of
from sim.scenario import Affinity, RequestClass, Trace, Workload

SHARED = "workload.arrivals"
"""Whom the instants of classes that share arrivals are drawn for; no class has such a name."""

ClientDraw = Callable[[np.random.Generator, Ints], Ints]
"""Draws for requests of these rows."""


def no_client(rng: np.random.Generator, rows: Ints) -> Ints:
    """Nothing is added by client and network."""
    return np.zeros(len(rows), np.int64)


@dataclass(frozen=True, slots=True)
class Source:
    """One request class as the planes see it: how its instants, rows and limits are drawn.

    Exactly one of `process` (with `given_rows`, if the instants are those of a trace or of a live run) and
    `clients` says how they arrive.
    """

    name: str
    index: int  # its number among the classes
    rows: Draw
    priority: int
    timeout_ns: int
    patience_ns: int | None  # mean
    client_timeout_ns: int | None  # of every request
    silent: bool  # nodes never learn that a client gave up
    affinity: Affinity | None = None
    process: Process | None = None
    drawn_for: str = ""  # owner of the streams of the instants; empty: the class
    given_rows: Ints | None = None
    given_draw: Ints | None = None
    clients: int = 0
    think_ns: int = 0
    rows_mean: float = 1.0
    weight: float = 1.0
    """Its share of the mix: requests per second; of a closed loop, which has no rate of its own, clients."""

    @property
    def leaves(self) -> bool:
        """Whether a request leaves a node's queue if it has waited for long, by its client's giving up."""
        return self.patience_ns is not None or (self.client_timeout_ns is not None and not self.silent)


@dataclass(frozen=True, slots=True)
class Given:
    """The instants (ns from the start of the run, ascending) and rows that one class met in a live run.

    `draw` is what a batch's service time is looked up by (`serve.policy.service`) if the request is its first; none:
    each replication draws its own.
    """

    arrival_ns: Ints
    rows: Ints
    draw: Ints | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """A workload ready to be drawn: its classes, and until when they arrive."""

    sources: tuple[Source, ...]
    duration_ns: int
    client_ns: ClientDraw = no_client
    routed: bool = False  # a router draws for each request
    by_key: bool = False  # it sends what has one key to one node

    @property
    def rows_mean(self) -> float:
        """Mean rows of a request, over the mix of classes."""
        total = sum(s.weight for s in self.sources)
        return sum(s.rows_mean * s.weight for s in self.sources) / total if total else 1.0

    @property
    def open(self) -> tuple[Source, ...]:
        """The classes that arrive whatever the server does."""
        return tuple(s for s in self.sources if not s.clients)

    @property
    def closed(self) -> tuple[Source, ...]:
        """The classes whose clients wait for their answers."""
        return tuple(s for s in self.sources if s.clients)


def build(
    workload: Workload,
    models: Sequence[Model],
    base: Path,
    client_ns: ClientDraw = no_client,
    given: Mapping[str, Given] | None = None,
) -> Load:
    """The workload of a deployment's models.

    Parameters
    ----------
    workload : the scenario's.
    models : by class, the deployment of the model that it asks for: default timeout and priority.
    base : folder that traces and files of counts are relative to.
    client_ns : draws what client and network add to a request's latency.
    given : instants and rows by class, in place of what the workload says; an open class that is not in it met none.

    Raises
    ------
    SpecError : a trace, or a file of counts, that cannot be used.
    """
    sources = tuple(
        _source(workload, name, index, models[index], base, _given_of(given, workload, name))
        for index, name in enumerate(workload.classes)
    )
    return Load(sources, workload.duration, client_ns)


def _given_of(given: Mapping[str, Given] | None, workload: Workload, name: str) -> Given | None:
    if given is None or law_of(workload, name).closed is not None:
        return None
    nothing = np.zeros(0, np.int64)
    return given.get(name, Given(nothing, nothing))


def _source(workload: Workload, name: str, index: int, model: Model, base: Path, given: Given | None) -> Source:
    class_, duration_ns = workload.classes[name], workload.duration
    shared = _shared(name, index, class_, model)
    if given is not None:
        return replace(_fixed(shared, given.arrival_ns, given.rows, duration_ns), given_draw=given.draw)
    if class_.arrivals is None:
        return _part(shared, workload, base)
    arrivals = unscaled(class_.arrivals)
    if arrivals.trace is not None:
        return _fixed(shared, *_trace(base, arrivals.trace), duration_ns)
    if arrivals.closed is not None:
        clients = arrivals.closed.clients
        return replace(shared, clients=clients, think_ns=arrivals.closed.think, weight=float(clients))
    process, rate = process_of(arrivals, base, duration_ns), rate_rps(arrivals)
    if rate is None:
        rate = process.requests(duration_ns) / (duration_ns * 1e-9)
    return replace(shared, process=process, weight=rate)


def _part(shared: Source, workload: Workload, base: Path) -> Source:
    """A class that shares the workload's arrivals."""
    part = part_of(workload, shared.name)
    assert workload.arrivals is not None and part is not None
    process = Thinned(process_of(workload.arrivals, base, workload.duration), *part)
    rate = process.requests(workload.duration) / (workload.duration * 1e-9)
    return replace(shared, process=process, drawn_for=SHARED, weight=rate)


def _shared(name: str, index: int, class_: RequestClass, model: Model) -> Source:
    """What does not depend on how the class arrives."""
    return Source(
        name=name,
        index=index,
        rows=rows_draw(class_.rows),
        priority=class_.priority if "priority" in class_.model_fields_set else model.queue.default_priority,
        timeout_ns=class_.timeout if class_.timeout is not None else model.timeout_ns,
        patience_ns=class_.patience,
        client_timeout_ns=None if class_.client is None else class_.client.timeout,
        silent=class_.client is not None and not class_.client.cancels,
        affinity=class_.affinity,
        rows_mean=rows_mean(class_.rows),
    )


def _trace(base: Path, law: Trace) -> tuple[Ints, Ints | None]:
    return traces.load(base / law.file, law.scale, law.from_, law.to)


def _fixed(shared: Source, instants: Ints, rows: Ints | None, duration_ns: int) -> Source:
    within = int(np.searchsorted(instants, duration_ns))
    mean = shared.rows_mean if rows is None or not within else float(rows[:within].mean())
    weight = within / (duration_ns * 1e-9)
    return replace(shared, process=Fixed(instants), given_rows=rows, rows_mean=mean, weight=weight)


# -- rows ------------------------------------------------------------------------------------------


def rows_draw(rows: int | Mapping[int, float]) -> Draw:
    """Draws the rows of requests: a constant, or a distribution by weight."""
    if isinstance(rows, int):
        return lambda rng, count: np.full(count, rows, np.int64)
    values = np.array(sorted(rows), np.int64)
    edges = np.cumsum([rows[int(v)] for v in values])
    edges /= edges[-1]
    edges[-1] = 1.0
    return lambda rng, count: values[np.searchsorted(edges, rng.random(count), side="right")]


def rows_mean(rows: int | Mapping[int, float]) -> float:
    """Mean rows of a request."""
    if isinstance(rows, int):
        return float(rows)
    return sum(r * weight for r, weight in rows.items()) / sum(rows.values())
