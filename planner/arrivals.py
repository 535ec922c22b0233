"""The arrivals that both sides of a verification meet: drawn once, replayed live, given to the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from serve.backends.contract import DEFAULT_SEED
from serve.backends.emulated import draw as draw_of_batch
from serve.deployment import Model
from serve.load_plan import CLOSED_FIRST_ID, ClosedLoad, InputData, LoadPlan, OpenLoad
from serve.policy.codes import NEVER_NS
from serve.records import CLASS, REQUEST, Rows
from sim.drawing import closed_chunks, closed_clients, concatenated, open_chunks
from sim.plane import Closed, Ints, Requests
from sim.scenario import Workload
from sim.service import BITS
from sim.workload import Given, Load, build

CLOSED_REQUESTS_MAX = 300_000
"""Requests of closed loops that are prepared; a run that answers more than that ends early."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One drawing of a workload: `open` in order of arrival (ids 0 and up), `closed` turn by turn of all clients."""

    names: tuple[str, ...]  # of the classes, by index
    duration_ns: int
    open: Requests | None
    closed: Requests | None
    clients: Closed | None
    model: Model

    @property
    def empty(self) -> bool:
        """Whether nobody ever asks for anything."""
        return self.open is None and self.closed is None

    @property
    def sha256(self) -> str:
        """Hash of the open instants and rows."""
        parts = [] if self.open is None else [self.open.arrival_ns, self.open.rows, self.open.class_]
        return sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()

    def __len__(self) -> int:
        return 0 if self.open is None else len(self.open)

    def given(self, draw: Ints | None = None) -> dict[str, Given]:
        """Instants, rows and, where they are known, service draws by open class, as the simulator takes them."""
        if self.open is None:
            return {}
        out = {}
        for index in np.unique(self.open.class_):
            chosen = self.open.class_ == index
            own = None if draw is None else draw[chosen]
            out[self.names[index]] = Given(self.open.arrival_ns[chosen], self.open.rows[chosen], own)
        return out

    def emulated_draws(self) -> Ints:
        """What emulated replicas draw for batches that begin with each of the open requests: entries of the tables that
        the simulator makes of their samples."""
        shares = [draw_of_batch(DEFAULT_SEED, request) for request in range(len(self))]
        entries: Ints = (np.array(shares, np.float64) * 2**BITS).astype(np.int64)
        return entries

    def classes_of(self, request: Ints) -> Ints:
        """Class index of each wire id; 0 for ids that are not ours."""
        out = np.zeros(len(request), np.int64)
        if self.open is not None:
            mine = (request >= 0) & (request < len(self.open))
            out[mine] = self.open.class_[request[mine]]
        if self.clients is not None:
            looped = request >= CLOSED_FIRST_ID
            out[looped] = self.clients.class_[(request[looped] - CLOSED_FIRST_ID) % len(self.clients.class_)]
        return out

    def with_classes(self, rows: Rows) -> Rows:
        """Engine rows with the class of each request, which the engine is not told."""
        out = rows.copy()
        out[:, CLASS] = self.classes_of(rows[:, REQUEST])
        return out

    def plan(self, model: str, inputs: tuple[InputData, ...], until_ns: int | None = None) -> LoadPlan:
        """What the load generator sends: all of it, or what is due before `until_ns`."""
        end_ns = self.duration_ns if until_ns is None else min(until_ns, self.duration_ns)
        return LoadPlan(model, inputs, open=self._open(end_ns), closed=self._closed(end_ns))

    def _open(self, end_ns: int) -> OpenLoad | None:
        if self.open is None:
            return None
        count = int(np.searchsorted(self.open.arrival_ns, end_ns, side="left"))
        return OpenLoad(
            at_ns=self.open.arrival_ns[:count],
            rows=self.open.rows[:count],
            priority=_unless(self.open.priority[:count], self.model.queue.default_priority),
            timeout_ns=_unless(self.open.timeout_ns[:count], self.model.timeout_ns),
            patience_ns=_unless(self.open.patience_ns[:count], NEVER_NS),
        )

    def _closed(self, end_ns: int) -> ClosedLoad | None:
        if self.closed is None or self.clients is None:
            return None
        count = len(self.clients.class_)
        return ClosedLoad(
            first_ns=self.closed.arrival_ns[:count],
            think_ns=self.clients.think_ns,
            rows=self.closed.rows,
            until_ns=end_ns,
            priority=_unless(self.closed.priority, self.model.queue.default_priority),
            timeout_ns=_unless(self.closed.timeout_ns, self.model.timeout_ns),
        )


def _unless(column: Ints, default: int) -> Ints | None:
    """None where the deployment's default says the same: fewer bytes on the wire, as calibration sent them."""
    return None if bool((column == default).all()) else column


def draw(workload: Workload, model: Model, base: Path, seed: int) -> Arrivals:
    """The arrivals of replication 0 of a seed.

    Parameters
    ----------
    model : of the deployment: default priority and timeout.
    base : folder that trace files are relative to.
    """
    load = build(workload, [model] * len(workload.classes), base)
    return Arrivals(
        names=tuple(workload.classes),
        duration_ns=workload.duration,
        open=_all_open(load, seed),
        closed=_enough_closed(load, seed),
        clients=closed_clients(load),
        model=model,
    )


def _all_open(load: Load, seed: int) -> Requests | None:
    chunks = list(open_chunks(load, seed, 0)) if load.open else []
    if not chunks:
        return None
    return concatenated(chunks)


def _enough_closed(load: Load, seed: int) -> Requests | None:
    return next(closed_chunks(load, seed, 0, CLOSED_REQUESTS_MAX)) if load.closed else None
