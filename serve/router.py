"""What becomes of the requests for one model in front of several nodes, sans-IO: the driver around the balancer.

The live router calls it when a request was read, an attempt ended, a client left, a node came or went, or
a timer fired (rules 14, 16 and 17); it hands attempts to its `Port` and tells clients what came of their requests. The
clock is a parameter: `tests/serve/test_router.py` holds it to the choices of the reference simulator's network. HTTP
is `serve.proxy`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from serve.balancer import Balancer
from serve.deployment import Deployment
from serve.ejection import Ejection
from serve.hedging import P95, Hedge
from serve.policy import routing
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_COUNT,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_DEADLINE,
    REASON_DRAINING,
    REASON_NO_NODE,
)
from serve.policy.retries import backoff_ns, hedge_draw
from serve.policy.routing import DRAW_MASK, NOBODY, another_draw, reported
from serve.protocol.orca import Load
from serve.routing import Eject
from serve.routing import Hedge as HedgeSpec

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

A = TypeVar("A")


BUDGET_PERCENT = 20
"""Where a file has no `retry`: hedges go by it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a router of one model goes by."""

    policy: int  # ROUTE_* of `serve.policy.routing`
    retries: int = 0  # of one request, at most
    budget_percent: int = BUDGET_PERCENT  # of retries and hedges
    backoff_ns: int = 0
    backoff_most_ns: int = 0
    buffer_rows: int = 0  # that may wait while there is no candidate
    row_ns: int = 1  # what a row is expected to take of a replica; only what nodes differ by matters
    ejection: Ejection | None = None  # when a node that fails is left alone
    hedge: Hedge | None = None  # when what is not answered yet is sent to a second node as well
    credit_rows: int = 0  # that may be outstanding at a node before others wait; 0: any number


def settings_of(deployment: Deployment, model: str, row_ns: int = 1) -> Settings:
    """The settings of a model's router, as the deployment has them; round robin where it has none."""
    router, max_queue = deployment.router, deployment.models[model].queue.max_queue
    credit_rows = deployment.models[model].credit_rows
    rows = UNBOUNDED_ROWS if max_queue == "unbounded" else int(max_queue)
    if router is None:
        return Settings(routing.ROUTE_ROUND_ROBIN, buffer_rows=rows, row_ns=row_ns, credit_rows=credit_rows)
    retry = router.retry
    return Settings(
        ROUTES[router.policy],
        retries=0 if retry is None else retry.max,
        budget_percent=BUDGET_PERCENT if retry is None else round(100 * retry.budget),
        backoff_ns=0 if retry is None else retry.backoff,
        backoff_most_ns=0 if retry is None else retry.backoff_max,
        buffer_rows=rows if router.buffer is None else router.buffer,
        row_ns=row_ns,
        ejection=ejection_of(router.eject),
        hedge=hedge_of(router.hedge),
        credit_rows=credit_rows,
    )


def ejection_of(eject: Eject | None) -> Ejection | None:
    """When nodes are ejected, by a file."""
    return None if eject is None else Ejection(eject.failures, eject.base, round(100 * eject.most))


def hedge_of(hedge: HedgeSpec | None) -> Hedge | None:
    """When requests are hedged, by a file."""
    return None if hedge is None else Hedge(P95 if isinstance(hedge.after, str) else hedge.after)


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

    route: int  # draw of its last attempt but for hedges, or, for affinity, what is kept together; 62 bits
    reply: Callable[[Ended], None]
    needs: Callable[[], Needs] = Needs  # asked only of those that must wait for a node, or of all if nodes have credit
    payload: Any = None
    flights: list[Attempt] = field(default_factory=list)  # attempts that were sent and have not ended
    made: int = 0  # attempts
    retries: int = 0  # made, the one under way included
    settled: bool = False
    retry: Timer | None = None  # to come
    hedge: Timer | None = None
    waits: Needs | None = None  # in the buffer
    since_ns: int = 0  # when it entered it


@dataclass(slots=True, eq=False)
class Attempt:
    """One sending of a request to a node."""

    request: Routed
    number: int  # among its request's, from 0 on
    node: int
    route: int
    extra: bool  # a retry or hedge
    sent_ns: int
    rows: int = 1  # counted only where nodes have credit
    call: Any = None  # the port's


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """It is not made."""


class Port(Protocol):
    """Where attempts go."""

    def send(self, attempt: Attempt) -> None:
        """Send an attempt to its node; its end is told to `Router.ended`, never before this returns."""

    def cancel(self, attempt: Attempt) -> None:
        """Nobody waits for an attempt any more: its node is to learn of it, and its end is not told."""

    def later(self, delay_ns: int, call: Callable[[A], None], about: A) -> Timer:
        """Call in a while."""


@dataclass(slots=True)
class Counts:
    """What a router has counted of one node."""

    sent: int = 0  # attempts
    retries: int = 0  # of them
    hedges: int = 0  # of them
    ejections: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * OUTCOME_COUNT)  # of attempts that ended


class Router:
    """Of one model, in front of nodes numbered from 0; none is in rotation until `rotate`."""

    def __init__(self, settings: Settings, nodes: int, port: Port, clock: Callable[[], int]) -> None:
        limits = (settings.retries, settings.budget_percent, settings.ejection, settings.hedge, settings.credit_rows)
        self.balancer = Balancer(settings.policy, nodes, *limits)
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
        """A request is to be sent, for the first time or again, after those that wait for a node already."""
        self._empty()
        self._try(request)

    def _try(self, request: Routed) -> None:
        balancer, is_retry, rows = self.balancer, request.retries > 0, self._rows(request)
        node = balancer.send(request.route, self._clock(), rows=rows)
        if node == NOBODY:
            if not self._buffer(request):
                self.refused += 1
                balancer.end(is_retry)
                self._settle(request, Ended(OUTCOME_FULL, REASON_NO_NODE))
            return
        self.counts[node].retries += is_retry
        attempt = self._send(request, node, request.route, is_retry, rows)
        after_ns = NEVER_NS if is_retry else balancer.hedge_after_ns
        if after_ns < NEVER_NS:
            request.hedge = self._port.later(after_ns, self._hedge, attempt)

    def _rows(self, request: Routed) -> int:
        """What a request takes of its node's credit."""
        return request.needs().rows if self._settings.credit_rows else 1

    def _send(self, request: Routed, node: int, route: int, extra: bool, rows: int) -> Attempt:
        attempt = Attempt(request, request.made, node, route, extra, self._clock(), rows)
        request.made += 1
        request.flights.append(attempt)
        self.counts[node].sent += 1
        self._port.send(attempt)
        return attempt

    def _hedge(self, attempt: Attempt) -> None:
        """An attempt has not been heard of in time: another node is asked as well, within the retries' budget."""
        request = attempt.request
        request.hedge = None
        route = another_draw(hedge_draw(attempt.route))
        node = self.balancer.hedge(route, self._clock(), attempt.node, attempt.rows)
        if node != NOBODY:
            self.counts[node].hedges += 1
            self._send(request, node, route, True, attempt.rows)

    def ended(self, attempt: Attempt, outcome: int, reason: int, load: Load | None = None, answer: Any = None) -> None:
        """An attempt has ended; `load` is what its node told of itself with the answer. Its node may have room for
        another."""
        if not attempt.request.settled:
            self._learn(attempt, outcome, reason, load, answer)
            self._empty()

    def _learn(self, attempt: Attempt, outcome: int, reason: int, load: Load | None, answer: Any) -> None:
        """Somebody waited for an attempt. The first ok answer is the client's; without one the last attempt's end is
        the request's, unless it is retried."""
        request = attempt.request
        if request.hedge is not None and not attempt.extra:
            request.hedge.cancel()
            request.hedge = None
        request.flights.remove(attempt)
        self._hear(attempt, outcome, load)
        if outcome == OUTCOME_OK:
            self.balancer.answered(self._clock() - attempt.sent_ns)
        elif request.flights:
            return
        elif self.balancer.retry(outcome, request.retries):
            self._plan_retry(request)
            return
        self._call_back(request)
        self._settle(request, Ended(outcome, reason, answer))

    def _hear(self, attempt: Attempt, outcome: int, load: Load | None) -> None:
        """What an attempt's end says of its node."""
        balancer, settings, node = self.balancer, self._settings, attempt.node
        self.counts[node].outcomes[outcome] += 1
        balancer.forget(node, attempt.extra, attempt.rows)
        if load is not None and outcome != OUTCOME_LOST:
            balancer.hear(
                node,
                reported(settings.policy, load.ongoing_requests, load.ongoing_rows, settings.row_ns, load.replicas_up),
            )
        if balancer.judge(node, outcome, self._clock()):
            self.counts[node].ejections += 1

    def _call_back(self, request: Routed) -> None:
        """Nobody waits for its attempts any more."""
        for attempt in request.flights:
            self.balancer.forget(attempt.node, attempt.extra, attempt.rows)
            self._port.cancel(attempt)
        request.flights.clear()

    def _plan_retry(self, request: Routed) -> None:
        settings = self._settings
        draw = request.route & DRAW_MASK
        wait_ns = backoff_ns(settings.backoff_ns, settings.backoff_most_ns, request.retries, draw)
        request.retries += 1
        self._backing_off += 1
        request.retry = self._port.later(wait_ns, self._retry, request)

    def _retry(self, request: Routed) -> None:
        self._backing_off -= 1
        request.retry = None
        request.route = another_draw(request.route)
        self.arrive(request)

    def give_up(self, request: Routed) -> None:
        """Its client has gone (rule 7)."""
        if request.settled:
            return
        if request.waits is not None:
            self._unbuffer(request)
        if request.retry is not None:
            request.retry.cancel()
            request.retry = None
            self._backing_off -= 1
        if not request.flights:
            self.balancer.end(request.retries > 0)
        self._call_back(request)
        self._close(request)
        self._empty()

    def _close(self, request: Routed) -> None:
        request.settled = True
        if request.hedge is not None:
            request.hedge.cancel()
            request.hedge = None

    def _settle(self, request: Routed, ended: Ended) -> None:
        self._close(request)
        request.reply(ended)

    # -- nodes and the buffer (rule 16) ------------------------------------------------------------------

    def rotate(self, nodes: Sequence[int]) -> None:
        """From now on these are in rotation; what waited for one is sent by (priority, arrival)."""
        self.rotation = tuple(sorted(nodes))
        self.balancer.rotate(nodes)
        self._empty()

    def _empty(self) -> None:
        """What waits for a node is sent as long as there is a candidate."""
        while self.buffered and self.balancer.candidates(self._clock()):
            request = min(self.buffered, key=_priority)
            needs = self._unbuffer(request)
            if self._clock() - request.since_ns > needs.timeout_ns:
                self.balancer.end(request.retries > 0)
                self._settle(request, Ended(OUTCOME_EXPIRED, REASON_DEADLINE))
            else:
                self._try(request)

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
