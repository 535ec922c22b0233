"""The live engine's node under a fake clock: a world that plays its sockets, replicas and timer.

Its events carry the written order of simultaneous events; everything that is decided is decided by
`serve.node.Node`, the code that the live engine runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, repeat
from typing import Any

import numpy as np

from serve.node import Completion, Node
from serve.policy.codes import (
    EVENT_ARRIVAL,
    EVENT_CANCEL,
    EVENT_CONTROL,
    EVENT_DEADLINE,
    EVENT_ENDED,
    EVENT_WINDOW,
    NEVER_NS,
)
from serve.policy.service import service_ns
from serve.records import Rows
from serve.scheduler import Batch, Scheduler
from serve.served import Arrays, LiveRequest, Statistics
from sim import plane

TIMER_LATE_NS = 1
"""A timer that fires at a deadline's exact instant expires nothing (rule 6): real ones are later."""


@dataclass
class MemoryLog:
    """A request log that keeps its rows."""

    rows: list[Sequence[int]] = field(default_factory=list)
    batches: list[Sequence[int]] = field(default_factory=list)

    def request(self, row: Sequence[int]) -> None:
        self.rows.append(row)

    def batch(self, row: Sequence[int]) -> None:
        self.batches.append(row)


class World:
    """One node that serves `requests` with the given service times; replicas are up from the start."""

    def __init__(self, spec: plane.Node, requests: plane.Requests) -> None:
        self.now_ns = 0
        self.log = MemoryLog()
        self.scheduler = Scheduler(spec.scheduler, spec.replicas)
        self.node = Node(self.scheduler, Statistics(), self, lambda: self.now_ns, self.log)  # type: ignore[arg-type]
        self._service = spec.service
        self._requests = requests
        self._order = count()
        self._events: list[tuple[int, int, int, int, Any]] = []
        for replica in range(spec.replicas):
            self.node.up(replica)
        for i in range(len(requests)):
            self._at(int(requests.arrival_ns[i]), EVENT_ARRIVAL, i, lambda i=i: self._arrive(i))

    def _at(self, at_ns: int, class_: int, index: int, act: Any) -> None:
        heappush(self._events, (at_ns, class_, index, next(self._order), act))

    def kill(self, at_ns: int, replica: int, start_up_ns: int) -> None:
        """The replica dies at `at_ns`; its successor is up `start_up_ns` later."""
        self._at(at_ns, EVENT_CONTROL, 0, lambda: self.node.died(replica))
        self._at(at_ns + start_up_ns, EVENT_CONTROL, 0, lambda: self.node.up(replica))

    def drain(self, at_ns: int) -> None:
        """The node drains."""
        self._at(at_ns, EVENT_CONTROL, 0, self.node.drain)

    def play(self) -> Rows:
        """Everything that happens, to the end: the rows by request id."""
        while self._events:
            self.now_ns, *_, act = heappop(self._events)
            act()
            self._arm()
        rows = np.array(self.log.rows, np.int64)
        return rows[np.argsort(rows[:, 0])]

    # -- the replicas: the node's port -----------------------------------------------------------------

    def busy(self) -> int:
        return self.scheduler.running

    def send(self, batch: Batch, busy: int) -> None:
        if batch.start_ns >= 0:
            self._start(batch, busy)

    def _start(self, batch: Batch, busy: int) -> None:
        service, first = self._service, batch.requests[0]
        draws = self._requests.draw[:, first.id]
        draw = int(draws[min(first.deaths, len(draws) - 1)])
        pressure = min(busy, service.pressure_max)
        table = [int(v) for v in service.table]
        cell = (service.bits, service.rows_max, batch.rows, pressure, draw, 1.0)
        span_ns = service_ns(table, *cell)  # type: ignore[no-untyped-call]
        self._at(self.now_ns + span_ns, EVENT_ENDED, batch.replica, lambda: self._ended(batch))

    def _ended(self, batch: Batch) -> None:
        replica = self.scheduler.replicas[batch.replica]
        if replica.incarnation != batch.incarnation:
            return
        following = next((b for b in replica.batches if b.start_ns < 0), None)
        if following is not None:  # the replica takes it from its channel without asking anybody
            self._start(following, self.scheduler.running - 1)
        outputs: Iterator[Arrays] = repeat({}, len(batch.requests))
        self.node.completed(Completion(batch.replica, batch.id, batch.start_ns, self.now_ns, self.now_ns, outputs))

    # -- the clients and the timer ------------------------------------------------------------------------

    def _arrive(self, i: int) -> None:
        r = self._requests
        request = LiveRequest(
            id=i,
            rows=int(r.rows[i]),
            priority=int(r.priority[i]),
            timeout_ns=int(r.timeout_ns[i]),
            arrival_ns=self.now_ns,
        )
        if r.patience_ns[i] < NEVER_NS:
            self._at(self.now_ns + int(r.patience_ns[i]), EVENT_CANCEL, i, lambda: self.node.cancel(request))
        if self.scheduler.draining:
            drop = self.scheduler.refuse_draining(request)
            self.node.refuse(request, drop.outcome, drop.reason)
        else:
            self.node.submit(request)

    def _arm(self) -> None:
        wake_ns = self.node.wake_ns
        if wake_ns < NEVER_NS:
            class_ = EVENT_WINDOW if wake_ns == self.scheduler.window_due_ns else EVENT_DEADLINE
            self._at(wake_ns + TIMER_LATE_NS, class_, 0, lambda: self._timer(wake_ns))

    def _timer(self, due_ns: int) -> None:
        # The real timer fires for what is no longer due too; under this clock that could be the very
        # instant at which another window ends, one late nanosecond before its own timer.
        if due_ns in (self.scheduler.window_due_ns, self.scheduler.next_deadline_ns):
            self.node.wake()
