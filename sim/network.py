"""The reference's router (rule 17): it sends attempts to stations over the network, and hears what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from serve.balancer import Balancer
from serve.policy.codes import (
    EVENT_ANSWERED,
    EVENT_DELIVERED,
    EVENT_GIVEN_UP,
    EVENT_RETRY,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    REASON_CLIENT,
    REASON_NO_NODE,
    REASON_PARTITION,
)
from serve.policy.retries import backoff_ns
from serve.policy.routing import DRAW_MASK, NOBODY
from serve.policy.scaling.metering import Counters, Gauges, Scrape
from serve.scheduler import Request
from sim.arrivals import Trip, first_attempt, retry_of, try_after
from sim.clock import Clock
from sim.ledger import Ledger
from sim.plane import Router
from sim.station import Answer, Station


class Network:
    """A router and its stations, which are `network_ns` away.

    `settled` is called with each request that has come to its end for its client, and its outcome.
    """

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        router: Router,
        stations: Sequence[Station],
        settled: Callable[[Request, int], None],
    ) -> None:
        self.balancer = Balancer(router.policy, len(stations), router.retries, router.budget_percent, router.ejection)
        self._clock, self._ledger, self._router = clock, ledger, router
        self._stations, self._settled = stations, settled
        self._cut: set[int] = set()
        self._buffered: list[Request] = []
        self._buffered_rows = self._buffered_area_ns = self._buffered_ns = 0
        self.woken = -1
        """Request that entered an empty buffer, of which control has yet to be told."""
        self.unsettled = 0
        """Requests that have not come to their end."""
        self.emptied = False
        """The last of them just has, and control has yet to be told."""

    def arrive(self, request: Request) -> None:
        """A request arrives at the router, now."""
        self.unsettled += 1
        self._begin(first_attempt(request))

    def _begin(self, attempt: Request) -> None:
        """A client asks, for the first time or again."""
        trip: Trip = attempt.payload
        if trip.asks_ns < NEVER_NS:
            trip.give_up_ns = self._clock.now_ns + trip.asks_ns
            self._clock.at(trip.give_up_ns, EVENT_GIVEN_UP, attempt.id, self._give_up, attempt)
        self._send(attempt)

    def _send(self, attempt: Request) -> None:
        """An attempt is sent to a node; or there is none, which is the request's end."""
        trip: Trip = attempt.payload
        if self._router.true_state:
            for number, station in enumerate(self._stations):
                self.balancer.hear(number, station.told)
        trip.node = self.balancer.send(trip.route, self._clock.now_ns)
        if trip.node == NOBODY:
            if self._buffer(attempt):
                return
            self.balancer.end_retry(trip.retries)
            self._settle(attempt, OUTCOME_FULL, REASON_NO_NODE)
            return
        trip.state.in_flight, trip.state.latest = True, attempt
        at_ns = self._clock.now_ns + self._router.network_ns
        self._clock.at(at_ns, EVENT_DELIVERED, trip.index, self._deliver, attempt)

    # -- the buffer (rule 16) ----------------------------------------------------------------------------

    def _buffer(self, attempt: Request) -> bool:
        """An attempt waits for a node, if there is room for its rows."""
        if self._buffered_rows + attempt.rows > self._router.buffer_rows:
            return False
        if not self._buffered:
            self.woken = attempt.id
        self._pass()
        trip: Trip = attempt.payload
        trip.state.latest, trip.state.buffered = attempt, True
        trip.arrival_ns = self._clock.now_ns
        self._buffered.append(attempt)
        self._buffered_rows += attempt.rows
        return True

    def _unbuffer(self, attempt: Request) -> None:
        self._pass()
        attempt.payload.state.buffered = False
        self._buffered.remove(attempt)
        self._buffered_rows -= attempt.rows

    def _pass(self) -> None:
        self._buffered_area_ns += len(self._buffered) * (self._clock.now_ns - self._buffered_ns)
        self._buffered_ns = self._clock.now_ns

    def rotate(self, nodes: Sequence[int]) -> None:
        """From now on these are candidates; what waited for one is sent by (priority, arrival)."""
        self.balancer.rotate(nodes)
        while nodes and self._buffered:
            attempt = min(self._buffered, key=lambda waiting: waiting.priority)
            self._unbuffer(attempt)
            waited_ns = self._clock.now_ns - attempt.payload.arrival_ns
            if attempt.timeout_ns < NEVER_NS:
                attempt.timeout_ns = max(0, attempt.timeout_ns - waited_ns)
            self._send(attempt)

    def scrape(self) -> Scrape:
        """What is counted of the buffer, now."""
        self._pass()
        count, area_ns = len(self._buffered), self._buffered_area_ns
        return Scrape(self._clock.now_ns, Counters(ongoing_ns=area_ns, waiting_ns=area_ns), Gauges(count, count))

    # -- at the nodes ------------------------------------------------------------------------------------

    def _deliver(self, attempt: Request) -> None:
        """An attempt reaches its node, which learns that the client gave up one network delay after the router."""
        trip: Trip = attempt.payload
        now_ns, patience_ns = self._clock.now_ns, NEVER_NS
        if trip.node in self._cut:
            trip.arrival_ns = now_ns
            self._drop(attempt, now_ns)
            return
        if trip.give_up_ns < NEVER_NS and not self._is_silent(trip.class_):
            patience_ns = trip.give_up_ns + self._router.network_ns - now_ns
        attempt.payload = replace(trip, arrival_ns=now_ns, patience_ns=patience_ns)
        self._stations[trip.node].arrive(attempt)

    def answer(self, attempt: Request, answer: Answer) -> None:
        """An attempt left its node, now: the router hears of it when the network has carried it."""
        left_ns = self._clock.now_ns
        at_ns = left_ns + self._router.network_ns
        self._clock.at(at_ns, EVENT_ANSWERED, attempt.payload.index, self._hear, attempt, answer, left_ns)

    def cut(self, node: int, off: bool) -> None:
        """Nothing passes between router and node any more, or again."""
        (self._cut.add if off else self._cut.discard)(node)

    def _drop(self, attempt: Request, left_ns: int) -> None:
        """An attempt, or its answer, does not arrive: it is given up when nothing has come back for so long."""
        trip: Trip = attempt.payload
        sent_ns = trip.arrival_ns - self._router.network_ns
        at_ns = max(self._clock.now_ns, min(sent_ns + self._router.answer_timeout_ns, NEVER_NS))
        answer = Answer(OUTCOME_LOST, REASON_PARTITION, 0)
        self._clock.at(at_ns, EVENT_ANSWERED, trip.index, self._end, attempt, answer, left_ns)

    def _hear(self, attempt: Request, answer: Answer, left_ns: int) -> None:
        """An answer reaches the router, if the network is whole."""
        if attempt.payload.node in self._cut:
            self._drop(attempt, left_ns)
        else:
            self._end(attempt, answer, left_ns)

    def _end(self, attempt: Request, answer: Answer, left_ns: int) -> None:
        """The router knows what became of an attempt."""
        trip: Trip = attempt.payload
        self._ledger.row(attempt, trip.node, answer.outcome, answer.reason, left_ns)
        if trip.state.settled:
            return
        self.balancer.forget(trip.node, trip.retries)
        if answer.outcome != OUTCOME_LOST:
            self.balancer.hear(trip.node, answer.told)
        self.balancer.judge(trip.node, answer.outcome, self._clock.now_ns)
        trip.state.in_flight = False
        if self.balancer.retry(answer.outcome, trip.retries):
            router, trip.state.retries = self._router, trip.retries + 1
            wait_ns = backoff_ns(router.backoff_ns, router.backoff_most_ns, trip.retries, trip.route & DRAW_MASK)
            self._clock.at(self._clock.now_ns + wait_ns, EVENT_RETRY, trip.index + 1, self._retry, attempt)
            return
        self._settle(attempt, answer.outcome, answer.reason, left_ns - trip.arrival_ns)

    def _retry(self, attempt: Request) -> None:
        if not attempt.payload.state.settled:
            self._send(retry_of(attempt))

    def _give_up(self, first: Request) -> None:
        """A client's patience ends; the node that has its request learns of it by itself (rule 7)."""
        state = first.payload.state
        if state.settled:
            return
        latest: Request = state.latest
        trip: Trip = latest.payload
        if state.in_flight:
            self.balancer.forget(trip.node, state.retries)
        elif state.buffered:
            self._unbuffer(latest)
            self.balancer.end_retry(state.retries)
        else:
            self.balancer.end_retry(state.retries)
        if trip.tries < self._tries(trip.class_):
            state.settled = True
            self._begin(try_after(latest, trip.index + 1))
        else:
            self._settle(first, OUTCOME_CANCELLED, REASON_CLIENT)

    def _is_silent(self, class_: int) -> bool:
        """Whether nodes never learn that clients of this class gave up."""
        silent = self._router.silent
        return silent[class_] if class_ < len(silent) else False

    def _tries(self, class_: int) -> int:
        """How often a client of this class asks again."""
        tries = self._router.client_retries
        return tries[class_] if class_ < len(tries) else 0

    def _settle(self, attempt: Request, outcome: int, reason: int, stay_ns: int = 0) -> None:
        attempt.payload.state.settled = True
        self.unsettled -= 1
        self.emptied = self._router.tells_empty and self.unsettled == 0
        self._ledger.settled(attempt, outcome, reason, stay_ns, self._clock.now_ns)
        self._settled(attempt, outcome)
