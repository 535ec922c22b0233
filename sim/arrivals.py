"""The reference's arrivals: open ones as they are fed, and closed-loop clients that think and send again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from serve.policy.codes import (
    ATTEMPT_BITS,
    CAUSE_CLIENT_RETRY,
    CAUSE_FIRST,
    CAUSE_HEDGE,
    CAUSE_ROUTER_RETRY,
    EVENT_ARRIVAL,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_FULL,
    OUTCOME_OK,
)
from serve.policy.retries import hedge_draw
from serve.policy.routing import another_draw
from serve.scheduler import Request
from sim.clock import Clock
from sim.plane import Closed, Node, Requests, check_first_closed, check_open, check_requests


@dataclass(slots=True)
class State:
    """What becomes of a request since its client asked last, whichever attempt brings it about."""

    made: int = 1  # numbers given to attempts at the request, earlier tries of its client included
    settled: bool = False  # its client has its answer, or gave up
    flights: list[Request] = field(default_factory=list)  # attempts sent to a node, and not heard of
    buffered: bool = False  # an attempt waits at the router for a node
    latest: Request | None = None  # the attempt, no hedge, that was sent, or began to wait, last
    retries: int = 0  # of the router, the one that is under way included

    def number(self) -> int:
        """The next attempt's."""
        self.made += 1
        return self.made - 1


@dataclass(slots=True)
class Trip:
    """What the driver knows of a request, or of one attempt at it, beyond the scheduler: its payload."""

    class_: int
    arrival_ns: int  # at the node
    patience_ns: int
    client_ns: int
    draws: tuple[int, ...]
    route: int
    index: int  # of its events: the request's id or the attempt's index
    client: int = -1  # closed-loop client that sent it
    first_ns: int = -1  # arrival at the router
    timeout_ns: int = NEVER_NS  # of each of its attempts
    asks_ns: int = NEVER_NS  # how long its client waits each time that it asks
    give_up_ns: int = NEVER_NS  # until when it waits now
    group: int = 0  # of nodes that serve it
    node: int = 0
    cause: int = CAUSE_FIRST
    cancel_ns: int = NEVER_NS  # when its node learns, as far as is known, that nobody waits for it
    tries: int = 0  # how often the client has asked before
    state: State = field(default_factory=State)

    @property
    def extra(self) -> bool:
        """Whether the router made the attempt beyond what its client asked for."""
        return self.cause in (CAUSE_ROUTER_RETRY, CAUSE_HEDGE)

    @property
    def attempt(self) -> int:
        """Number of the attempt, of a request that a router sends."""
        return self.index & ((1 << ATTEMPT_BITS) - 1)


def first_attempt(request: Request) -> Request:
    """The first attempt at a request that arrives at the router now."""
    trip: Trip = request.payload
    sent = replace(
        trip,
        index=request.id << ATTEMPT_BITS,
        first_ns=trip.arrival_ns,
        asks_ns=trip.patience_ns,
        timeout_ns=request.timeout_ns,
    )
    return Request(request.id, request.rows, request.priority, request.timeout_ns, sent)


def retry_of(attempt: Request, number: int) -> Request:
    """The router's next attempt after one, with draws of its own."""
    return _after(attempt, number, another_draw, cause=CAUSE_ROUTER_RETRY)


def hedge_of(attempt: Request, number: int) -> Request:
    """An attempt beside another, with draws of its own."""
    return _after(attempt, number, lambda draw: another_draw(hedge_draw(draw)), cause=CAUSE_HEDGE)


def try_after(attempt: Request) -> Request:
    """The client's next try after one whose last attempt is given, with draws of its own."""
    trip: Trip = attempt.payload
    state = State(made=trip.state.made)
    return _after(attempt, state.number(), another_draw, cause=CAUSE_CLIENT_RETRY, tries=trip.tries + 1, state=state)


def _after(attempt: Request, number: int, redraw: Callable[[int], int], **changes: Any) -> Request:
    trip: Trip = attempt.payload
    draws = tuple(redraw(draw) for draw in trip.draws)
    index = (attempt.id << ATTEMPT_BITS) + number
    sent = replace(trip, index=index, draws=draws, route=redraw(trip.route), cancel_ns=NEVER_NS, **changes)
    return Request(attempt.id, attempt.rows, attempt.priority, trip.timeout_ns, sent)


class Arrivals:
    """Calls `arrive(request)` at each arrival, as an event of its own."""

    def __init__(
        self, clock: Clock, node: Node, classes: int, closed: Closed | None, arrive: Callable[[Request], None]
    ) -> None:
        self._clock, self._node, self._classes, self._closed, self._arrive = clock, node, classes, closed, arrive
        self._open: deque[Request] = deque()
        self._open_id, self._armed, self._ended = -1, False, False
        clients = 0 if closed is None else len(closed.class_)
        self._clients: list[deque[Request]] = [deque() for _ in range(clients)]
        self._turns = [0] * clients
        self._hungry: list[int] = []  # clients whose next request was due but not fed
        self._closed_fed = 0

    @property
    def starved(self) -> bool:
        """Whether the next arrival may be one that was not fed."""
        return bool(self._hungry) or not (self._armed or self._ended)

    def feed(self, requests: Requests) -> None:
        """The next open arrivals."""
        check_requests(requests, self._node, self._classes)
        check_open(requests, self._clock.now_ns)
        if self._open_id < 0:
            self._open_id = requests.first_id
        self._open.extend(_requests_of(requests, self._open_id))
        self._open_id += len(requests)
        self._arm()

    def end_feed(self) -> None:
        """No more open arrivals will come."""
        self._ended = True

    def feed_closed(self, requests: Requests) -> None:
        """The next requests of the closed-loop clients, client by client."""
        check_requests(requests, self._node, self._classes)
        if self._closed is None:
            raise ValueError("this plane was built without closed-loop clients")
        if self._closed_fed == 0:
            check_first_closed(requests, self._closed, self._clock.now_ns)
        for request in _requests_of(requests, self._closed.first_id + self._closed_fed):
            index = request.id - self._closed.first_id
            request.payload.client = client = index % len(self._clients)
            self._clients[client].append(request)
            if index < len(self._clients):
                self._send(client, request.payload.arrival_ns)
        self._closed_fed += len(requests)

    def resume(self) -> None:
        """Clients that had nothing to send try again, now."""
        hungry, self._hungry = self._hungry, []
        for client in hungry:
            self._send(client, self._clock.now_ns)

    def left(self, request: Request, outcome: int) -> None:
        """A request left: if a closed-loop client sent it, when that one sends its next."""
        trip = request.payload
        if self._closed is None or trip.client < 0:
            return
        pause_ns = int(self._closed.think_ns[trip.client])
        if outcome in (OUTCOME_FULL, OUTCOME_DRAINING):
            pause_ns = max(pause_ns, self._node.retry_after_ns)
        if outcome != OUTCOME_CANCELLED:
            pause_ns += trip.client_ns
        if outcome != OUTCOME_OK:
            pause_ns = max(pause_ns, 1)
        self._send(trip.client, self._clock.now_ns + pause_ns)

    def _arm(self) -> None:
        if self._open and not self._armed:
            self._armed = True
            request = self._open[0]
            self._clock.at(request.payload.arrival_ns, EVENT_ARRIVAL, request.id, self._open_arrival)

    def _open_arrival(self) -> None:
        self._armed = False
        request = self._open.popleft()
        self._arm()
        self._arrive(request)

    def _send(self, client: int, at_ns: int) -> None:
        """Arrange the client's next request, whose id is known even before it is fed."""
        assert self._closed is not None
        id_ = self._closed.first_id + self._turns[client] * len(self._clients) + client
        self._clock.at(at_ns, EVENT_ARRIVAL, id_, self._closed_arrival, client)

    def _closed_arrival(self, client: int) -> None:
        if not self._clients[client]:
            self._hungry.append(client)
            return
        self._turns[client] += 1
        request = self._clients[client].popleft()
        request.payload.arrival_ns = self._clock.now_ns
        self._arrive(request)


def _requests_of(requests: Requests, first_id: int) -> list[Request]:
    """The scheduler's view of each request, the driver's own in `payload`."""
    columns = (requests.arrival_ns, requests.rows, requests.class_, requests.priority)
    more = (requests.timeout_ns, requests.patience_ns, requests.client_ns)
    draws = [tuple(d) for d in requests.draw.T.tolist()]
    fields = zip(*(c.tolist() for c in columns + more), draws, requests.route.tolist(), strict=True)
    return [
        Request(
            first_id + i,
            rows,
            priority,
            timeout_ns,
            Trip(class_, arrival_ns, patience_ns, client_ns, draw, route, first_id + i),
        )
        for i, (arrival_ns, rows, class_, priority, timeout_ns, patience_ns, client_ns, draw, route) in enumerate(
            fields
        )
    ]
