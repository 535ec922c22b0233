"""What becomes of the requests for one model in front of several nodes, sans-IO: the driver around the balancer.

The live router calls it when a request was read, an attempt ended, a client left, a node came or went, or
a timer fired (rules 14, 16 and 17); it hands attempts to its `Port` and tells clients what came of their requests. The
clock is a parameter: `tests/serve/test_router.py` holds it to the choices of the reference simulator's network. HTTP
is `serve.proxy`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve.balancer import Balancer
from serve.deployment import Deployment, Eject
from serve.ejection import Ejection
from serve.errors import Fault, SpecError
from serve.policy import routing
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_COUNT,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    REASON_DEADLINE,
    REASON_DRAINING,
    REASON_NO_NODE,
)
from serve.policy.retries import backoff_ns
from serve.policy.routing import DRAW_MASK, NOBODY, another_draw, reported
from serve.protocol.orca import Load

ROUTES = {
    "round_robin": routing.ROUTE_ROUND_ROBIN,
    "random": routing.ROUTE_RANDOM,
    "least_outstanding": routing.ROUTE_LEAST_OUTSTANDING,
    "shortest_queue": routing.ROUTE_SHORTEST_QUEUE,
    "p2c": routing.ROUTE_P2C,
    "least_work": routing.ROUTE_LEAST_WORK,
    "affinity": routing.ROUTE_AFFINITY,
}
"""Kinds of routing by their name in files."""

UNBOUNDED_ROWS = 2**40


@dataclass(frozen=True, slots=True)
class Settings:
    """What a router of one model goes by."""

    policy: int  # ROUTE_* of `serve.policy.routing`
    retries: int = 0  # of one request, at most
    budget_percent: int = 20
    backoff_ns: int = 0
    backoff_most_ns: int = 0
    buffer_rows: int = 0  # that may wait while there is no node
    row_ns: int = 1  # what a row is expected to take of a replica; only what nodes differ by matters
    ejection: Ejection | None = None  # when a node that fails is left alone


def settings_of(deployment: Deployment, model: str, row_ns: int = 1) -> Settings:
    """The settings of a model's router, as the deployment has them; round robin where it has none."""
    router, max_queue = deployment.router, deployment.models[model].queue.max_queue
    rows = UNBOUNDED_ROWS if max_queue == "unbounded" else int(max_queue)
    if router is None:
        return Settings(routing.ROUTE_ROUND_ROBIN, buffer_rows=rows, row_ns=row_ns)
    if router.hedge is not None:
        raise SpecError([Fault("deployment", "router.hedge", "is simulated only: leave it out to serve")])
    retry = router.retry
    return Settings(
        ROUTES[router.policy],
        retries=0 if retry is None else retry.max,
        budget_percent=0 if retry is None else round(100 * retry.budget),
        backoff_ns=0 if retry is None else retry.backoff,
        backoff_most_ns=0 if retry is None else retry.backoff_max,
        buffer_rows=rows if router.buffer is None else router.buffer,
        row_ns=row_ns,
        ejection=ejection_of(router.eject),
    )


def ejection_of(eject: Eject | None) -> Ejection | None:
    """When nodes are ejected, by a file."""
    return None if eject is None else Ejection(eject.failures, eject.base, round(100 * eject.most))


@dataclass(frozen=True, slots=True)
class Needs:
    """What the buffer asks of a request."""

    rows: int = 1
    priority: int = 0
    timeout_ns: int = NEVER_NS


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended: `answer` is what its node said, None where no node did."""

    outcome: int
    reason: int
    answer: Any = None


@dataclass(slots=True, eq=False)
class Routed:
    """A request at the router. `reply` is called once, unless its client leaves before."""

    route: int  # draw of the attempt under way, or, for affinity, what is kept together; 62 bits
    reply: Callable[[Ended], None]
    needs: Callable[[], Needs] = Needs  # asked only of those that must wait for a node
    payload: Any = None
    node: int = NOBODY  # that the attempt under way was sent to
    retries: int = 0  # made, the one under way included
    settled: bool = False
    timer: Timer | None = None  # of a retry to come
    waits: Needs | None = None  # in the buffer
    since_ns: int = 0  # when it entered it


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """It is not made."""


class Port(Protocol):
    """Where attempts go."""

    def send(self, request: Routed) -> None:
        """Send an attempt to `request.node`; its end is told to `Router.ended`, never before this returns."""

    def cancel(self, request: Routed) -> None:
        """Nobody waits for the attempt under way any more: its node is to learn of it."""

    def later(self, delay_ns: int, call: Callable[[Routed], None], request: Routed) -> Timer:
        """Call in a while."""


@dataclass(slots=True)
class Counts:
    """What a router has counted of one node."""

    sent: int = 0  # attempts
    retries: int = 0  # of them
    ejections: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * OUTCOME_COUNT)  # of attempts that ended


class Router:
    """Of one model, in front of nodes numbered from 0; none is in rotation until `rotate`."""

    def __init__(self, settings: Settings, nodes: int, port: Port, clock: Callable[[], int]) -> None:
        self.balancer = Balancer(settings.policy, nodes, settings.retries, settings.budget_percent, settings.ejection)
        self.balancer.rotate(())
        self.rotation: tuple[int, ...] = ()
        self.counts = [Counts() for _ in range(nodes)]
        self.refused = 0  # requests that found no node, and no room in the buffer
        self.buffered: list[Routed] = []
        self._buffered_rows = 0
        self._draining = False
        self._backing_off = 0  # requests whose retry waits for its turn
        self._settings, self._port, self._clock = settings, port, clock

    @property
    def present(self) -> int:
        """Attempts that wait for an answer, requests in the buffer, and retries that wait for their turn."""
        return sum(self.balancer.outstanding) + len(self.buffered) + self._backing_off

    # -- requests ----------------------------------------------------------------------------------------

    def arrive(self, request: Routed) -> None:
        """A request is to be sent."""
        request.node = node = self.balancer.send(request.route, self._clock())
        if node == NOBODY:
            if not self._buffer(request):
                self.refused += 1
                self.balancer.end(request.retries > 0)
                self._settle(request, Ended(OUTCOME_FULL, REASON_NO_NODE))
            return
        counts = self.counts[node]
        counts.sent += 1
        counts.retries += request.retries > 0
        self._port.send(request)

    def ended(self, request: Routed, outcome: int, reason: int, load: Load | None = None, answer: Any = None) -> None:
        """The attempt under way has ended; `load` is what its node told of itself with the answer."""
        if request.settled:
            return
        balancer = self.balancer
        self.counts[request.node].outcomes[outcome] += 1
        balancer.forget(request.node, request.retries > 0)
        if load is not None and outcome != OUTCOME_LOST:
            kind, row_ns = self._settings.policy, self._settings.row_ns
            told = reported(kind, load.ongoing_requests, load.ongoing_rows, row_ns, load.replicas_up)
            balancer.hear(request.node, told)
        if balancer.judge(request.node, outcome, self._clock()):
            self.counts[request.node].ejections += 1
        if balancer.retry(outcome, request.retries):
            draw = request.route & DRAW_MASK
            settings = self._settings
            wait_ns = backoff_ns(settings.backoff_ns, settings.backoff_most_ns, request.retries, draw)
            request.retries += 1
            request.node = NOBODY
            self._backing_off += 1
            request.timer = self._port.later(wait_ns, self._retry, request)
            return
        self._settle(request, Ended(outcome, reason, answer))

    def _retry(self, request: Routed) -> None:
        self._backing_off -= 1
        request.timer = None
        request.route = another_draw(request.route)
        self.arrive(request)

    def give_up(self, request: Routed) -> None:
        """Its client has gone (rule 7)."""
        if request.settled:
            return
        request.settled = True
        if request.waits is not None:
            self._unbuffer(request)
            self.balancer.end(request.retries > 0)
        elif request.timer is not None:
            request.timer.cancel()
            request.timer = None
            self._backing_off -= 1
            self.balancer.end(request.retries > 0)
        else:
            self.balancer.forget(request.node, request.retries > 0)
            self._port.cancel(request)

    def _settle(self, request: Routed, ended: Ended) -> None:
        request.settled = True
        request.reply(ended)

    # -- nodes and the buffer (rule 16) ------------------------------------------------------------------

    def rotate(self, nodes: Sequence[int]) -> None:
        """From now on these are in rotation; what waited for one is sent by (priority, arrival)."""
        self.rotation = tuple(sorted(nodes))
        self.balancer.rotate(nodes)
        while self.rotation and self.buffered:
            request = min(self.buffered, key=_priority)
            needs = self._unbuffer(request)
            if self._clock() - request.since_ns > needs.timeout_ns:
                self.balancer.end(request.retries > 0)
                self._settle(request, Ended(OUTCOME_EXPIRED, REASON_DEADLINE))
            else:
                self.arrive(request)

    def drain(self) -> None:
        """Rule 12: what waits for a node is refused, and nothing waits for one any more."""
        self._draining = True
        while self.buffered:
            request = self.buffered[0]
            self._unbuffer(request)
            self.balancer.end(request.retries > 0)
            self._settle(request, Ended(OUTCOME_DRAINING, REASON_DRAINING))

    def _buffer(self, request: Routed) -> bool:
        """A request waits for a node, if there is room for its rows."""
        needs = request.needs()
        if self._draining or self._buffered_rows + needs.rows > self._settings.buffer_rows:
            return False
        request.waits, request.since_ns = needs, self._clock()
        self.buffered.append(request)
        self._buffered_rows += needs.rows
        return True

    def _unbuffer(self, request: Routed) -> Needs:
        needs = request.waits
        assert needs is not None
        request.waits = None
        self.buffered.remove(request)
        self._buffered_rows -= needs.rows
        return needs


def _priority(request: Routed) -> int:
    assert request.waits is not None
    return request.waits.priority
