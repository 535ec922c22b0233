"""A plain SimPy program of the same queue: what one writes from the tutorial, a process per request.

A central queue by priority, batches up to `max_batch` rows, the window, replicas, a front as a
`simpy.Resource`, patience as `answered | timeout`. It has no budget, second slot, deadline, deaths
or neighbours: it is the yardstick of speed, not of truth (that is `sim.reference`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Generator
from typing import Any

import simpy

from serve.policy.codes import NEVER_NS
from serve.policy.front import FRONT_DISPATCH_NS, FRONT_FINISH_BATCH_NS, FRONT_FINISH_REQUEST_NS, FRONT_PARSE_NS
from sim.plane import Node, Requests

Steps = Generator[simpy.Event, Any, None]


class PlainQueue:
    """The node, and what became of its requests: latencies in ns of those answered."""

    def __init__(self, node: Node) -> None:
        self.env = simpy.Environment()
        self.spec, self.service, self.front = node.scheduler, node.service, [int(v) for v in node.front]
        self.table = [int(v) for v in node.service.table]
        self.station = simpy.Resource(self.env, 1)
        self.idle = node.replicas
        self.waiting: list[tuple[int, int, int, int, simpy.Event]] = []  # priority, number, rows, since, answered
        self.waiting_rows = 0
        self.latencies_ns: list[int] = []

    def run(self, requests: Requests) -> None:
        """Serve them all."""
        self.env.process(self.arrivals(requests))
        self.env.run()

    def arrivals(self, requests: Requests) -> Steps:
        """A process for each request, at its instant."""
        columns = (requests.arrival_ns, requests.rows, requests.priority, requests.patience_ns)
        for number, (at_ns, rows, priority, patience_ns) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            yield self.env.timeout(at_ns - self.env.now)
            self.env.process(self.request(number, rows, priority, patience_ns))

    def request(self, number: int, rows: int, priority: int, patience_ns: int) -> Steps:
        """One request: parse, wait, answer."""
        arrived_ns = self.env.now
        if self.front[FRONT_PARSE_NS]:
            with self.station.request() as turn:
                yield turn
                yield self.env.timeout(self.front[FRONT_PARSE_NS])
        answered = self.env.event()
        entry = (priority, number, rows, int(self.env.now), answered)
        insort(self.waiting, entry)
        self.waiting_rows += rows
        if self.spec.window_ns:
            self.env.process(self.window())
        self.dispatch()
        if patience_ns < NEVER_NS:
            yield answered | self.env.timeout(patience_ns)
            if not answered.triggered and entry in self.waiting:
                self.waiting.remove(entry)
                self.waiting_rows -= rows
                return
        else:
            yield answered
        if answered.triggered:
            self.latencies_ns.append(int(self.env.now) - int(arrived_ns))

    def window(self) -> Steps:
        """Look again when a request's window ends."""
        yield self.env.timeout(self.spec.window_ns)
        self.dispatch()

    def dispatch(self) -> None:
        """Batches leave while they may and a replica is idle."""
        while self.idle and self.waiting:
            oldest_ns = min(entry[3] for entry in self.waiting)
            if self.waiting_rows < self.spec.max_batch and self.env.now - oldest_ns < self.spec.window_ns:
                return
            batch, rows = [], 0
            while self.waiting and rows + self.waiting[0][2] <= self.spec.max_batch:
                batch.append(self.waiting.pop(0))
                rows += batch[-1][2]
            self.waiting_rows -= rows
            self.idle -= 1
            self.env.process(self.compute(batch, rows))

    def compute(self, batch: list[tuple[int, int, int, int, simpy.Event]], rows: int) -> Steps:
        """A replica computes, the front answers."""
        yield self.env.timeout(self.table[rows << self.service.bits])
        with self.station.request() as turn:
            yield turn
            if self.front[FRONT_FINISH_BATCH_NS]:
                yield self.env.timeout(self.front[FRONT_FINISH_BATCH_NS])
            self.idle += 1
            self.dispatch()
            if self.front[FRONT_DISPATCH_NS]:
                yield self.env.timeout(self.front[FRONT_DISPATCH_NS])
            for entry in batch:
                if self.front[FRONT_FINISH_REQUEST_NS]:
                    yield self.env.timeout(self.front[FRONT_FINISH_REQUEST_NS])
                entry[4].succeed()
