"""The reference's router (rule 17): it sends attempts to stations over the network, and hears what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from serve.balancer import Balancer
from serve.policy.codes import (
    EVENT_ANSWERED,
    EVENT_CANCEL,
    EVENT_DELIVERED,
    EVENT_GIVEN_UP,
    EVENT_RETRY,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_CLIENT,
    REASON_NO_NODE,
    REASON_PARTITION,
)
from serve.policy.retries import backoff_ns
from serve.policy.routing import DRAW_MASK, NOBODY, another_draw, version
from serve.policy.scaling.metering import Scrape
from serve.scheduler import Request
from sim.arrivals import State, Trip, first_attempt, hedge_of, retry_of, try_after
from sim.buffer import Buffer
from sim.clock import Clock
from sim.ledger import Ledger
from sim.plane import Estate, Router
from sim.station import Answer, Station


class Network:
    """A router and its stations, which are `network_ns` away.

    `settled` is called with each request that has come to its end for its client, and its outcome.
    """

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        estate: Estate,
        router: Router,
        stations: Sequence[Station],
        settled: Callable[[Request, int], None],
    ) -> None:
        self._clock, self._ledger, self._router = clock, ledger, router
        self._stations, self._settled = stations, settled
        self._cut: set[int] = set()
        self._groups = range(estate.group_count)
        credits = router.credits or (0,) * estate.group_count
        self.balancers = [self._balancer(estate.nodes_of(group), credits[group]) for group in self._groups]
        self._buffers = [Buffer(router.buffer_rows) for _ in self._groups]
        self.split = router.split or (0,) * estate.group_count
        """By group: up to where, of SPLIT_WHOLE, a model's draws go to it and those before it."""
        self.woken: tuple[int, int] | None = None
        """Request that entered an empty buffer, and its group, of which control has yet to be told."""
        self.unsettled = 0
        """Requests that have not come to their end."""
        self.emptied = False
        """The last of them just has, and control has yet to be told."""

    def _balancer(self, nodes: Sequence[int], credit_rows: int) -> Balancer:
        """Of the nodes of one group."""
        router = self._router
        limits = (router.retries, router.budget_percent, router.ejection, router.hedge, credit_rows)
        balancer = Balancer(router.policy, len(self._stations), *limits)
        balancer.rotate(nodes)
        return balancer

    def arrive(self, request: Request) -> None:
        """A request arrives at the router, now: from here on one version of its model serves it (rule 18)."""
        self.unsettled += 1
        attempt = first_attempt(request)
        trip: Trip = attempt.payload
        served_by = self._router.served_by
        served = served_by[trip.class_] if trip.class_ < len(served_by) else range(1)
        draw = another_draw(trip.route) & DRAW_MASK
        trip.group = int(version(draw, self.split, served.start, len(served)))
        if self._router.versioned:
            trip.class_ += trip.group - served.start
        self._begin(attempt)

    def _begin(self, attempt: Request) -> None:
        """A client asks, for the first time or again."""
        trip: Trip = attempt.payload
        if trip.asks_ns < NEVER_NS:
            trip.give_up_ns = self._clock.now_ns + trip.asks_ns
            self._clock.at(trip.give_up_ns, EVENT_GIVEN_UP, attempt.id, self._give_up, attempt)
        self._send_in_turn(attempt)

    def _send_in_turn(self, attempt: Request) -> None:
        """An attempt is sent after those that wait for a node already."""
        self._empty(attempt.payload.group)
        self._send(attempt)

    def _send(self, attempt: Request) -> None:
        """An attempt is sent to a node; or there is none, which is the request's end."""
        trip: Trip = attempt.payload
        balancer = self.balancers[trip.group]
        self._look(balancer)
        trip.state.latest = attempt
        trip.node = balancer.send(trip.route, self._clock.now_ns, rows=attempt.rows)
        if trip.node != NOBODY:
            self._carry(attempt)
            self._plan_hedge(attempt)
        elif not self._wait(attempt):
            balancer.end(trip.extra)
            self._settle(attempt, OUTCOME_FULL, REASON_NO_NODE)

    def _look(self, balancer: Balancer) -> None:
        if self._router.true_state:
            for number, station in enumerate(self._stations):
                balancer.hear(number, station.told)

    def _carry(self, attempt: Request) -> None:
        """An attempt is on its way to its node."""
        trip: Trip = attempt.payload
        trip.state.flights.append(attempt)
        at_ns = self._clock.now_ns + self._router.network_ns
        self._clock.at(at_ns, EVENT_DELIVERED, trip.index, self._deliver, attempt)

    def _wait(self, attempt: Request) -> bool:
        """An attempt waits for a node of its group, if there is room for it."""
        group = attempt.payload.group
        was_empty = not len(self._buffers[group])
        if not self._buffers[group].push(attempt, self._clock.now_ns):
            return False
        if was_empty and not self.balancers[group].has_nodes:
            self.woken = attempt.id, group
        return True

    # -- hedges ------------------------------------------------------------------------------------------

    def _plan_hedge(self, attempt: Request) -> None:
        """What the client asked for, no retry, is hedged if it is not heard of in time."""
        trip: Trip = attempt.payload
        after_ns = self.balancers[trip.group].hedge_after_ns
        if after_ns < NEVER_NS and not trip.extra:
            self._clock.at(self._clock.now_ns + after_ns, EVENT_RETRY, trip.index, self._hedge, attempt)

    def _hedge(self, attempt: Request) -> None:
        trip: Trip = attempt.payload
        state, balancer = trip.state, self.balancers[trip.group]
        if state.settled or attempt not in state.flights:
            return
        beside = hedge_of(attempt, state.made)
        self._look(balancer)
        node = balancer.hedge(beside.payload.route, self._clock.now_ns, trip.node, attempt.rows)
        if node != NOBODY:
            state.made += 1
            beside.payload.node = node
            self._carry(beside)

    def _withdraw(self, attempt: Request) -> None:
        """Nobody waits for an attempt any more, of which its node learns when the network has carried it,
        unless it is cut off."""
        trip: Trip = attempt.payload
        self.balancers[trip.group].forget(trip.node, trip.extra, attempt.rows)
        if trip.node in self._cut:
            return
        at_ns = self._clock.now_ns + self._router.network_ns
        trip.cancel_ns = min(trip.cancel_ns, at_ns)
        index = self._stations[trip.node].timer_index(attempt)
        self._clock.at(at_ns, EVENT_CANCEL, index, self._cancel, attempt)

    def _cancel(self, attempt: Request) -> None:
        self._stations[attempt.payload.node].cancel(attempt)

    # -- the buffers (rule 16) ---------------------------------------------------------------------------

    def rotate(self, nodes: Sequence[int], group: int) -> None:
        """From now on these are candidates of a group; what waited for one is sent by (priority, arrival)."""
        self.balancers[group].rotate(nodes)
        self._empty(group)

    def _empty(self, group: int) -> None:
        """What waits for a node is sent as long as there is a candidate."""
        buffer, balancer, now_ns = self._buffers[group], self.balancers[group], self._clock.now_ns
        while len(buffer) and balancer.candidates(now_ns):
            self._send(buffer.pop(now_ns))

    def scrape(self, group: int) -> Scrape:
        """What is counted of a group's buffer, now."""
        return self._buffers[group].scrape(self._clock.now_ns)

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
        """The router knows what became of an attempt, and that its node may have room for another."""
        trip: Trip = attempt.payload
        wanted = not trip.state.settled
        self._ledger.row(attempt, trip.node, answer.outcome, answer.reason, left_ns, wanted=wanted)
        if wanted:
            self._learn(attempt, answer, left_ns)
            self._empty(trip.group)

    def _learn(self, attempt: Request, answer: Answer, left_ns: int) -> None:
        """Somebody waited for an attempt. The first ok answer is the client's; without one the last attempt's end is
        the request's, unless it is retried."""
        trip: Trip = attempt.payload
        state, now_ns, balancer = trip.state, self._clock.now_ns, self.balancers[trip.group]
        state.flights.remove(attempt)
        balancer.forget(trip.node, trip.extra, attempt.rows)
        if answer.outcome != OUTCOME_LOST:
            balancer.hear(trip.node, answer.told)
        balancer.judge(trip.node, answer.outcome, now_ns)
        if answer.outcome == OUTCOME_OK:
            balancer.answered(now_ns - trip.arrival_ns + self._router.network_ns)
        elif state.flights:
            return
        elif balancer.retry(answer.outcome, state.retries):
            self._plan_retry(state)
            return
        for other in state.flights:
            self._withdraw(other)
        self._settle(attempt, answer.outcome, answer.reason, left_ns - trip.arrival_ns)

    def _plan_retry(self, state: State) -> None:
        assert state.latest is not None, "nothing was sent"
        router, route = self._router, state.latest.payload.route
        wait_ns = backoff_ns(router.backoff_ns, router.backoff_most_ns, state.retries, route & DRAW_MASK)
        state.retries += 1
        retry = retry_of(state.latest, state.number())
        self._clock.at(self._clock.now_ns + wait_ns, EVENT_RETRY, retry.payload.index, self._retry, retry)

    def _retry(self, attempt: Request) -> None:
        if not attempt.payload.state.settled:
            self._send_in_turn(attempt)

    def _give_up(self, first: Request) -> None:
        """A client's patience ends; the nodes that have its request learn of it by themselves (rule 7)."""
        state: State = first.payload.state
        if state.settled:
            return
        latest = state.latest
        assert latest is not None, "nothing was sent"
        trip: Trip = latest.payload
        balancer = self.balancers[trip.group]
        for attempt in state.flights:
            balancer.forget(attempt.payload.node, attempt.payload.extra, attempt.rows)
        if state.buffered:
            self._buffers[trip.group].remove(latest, self._clock.now_ns)
        if not state.flights:
            balancer.end(state.retries > 0)
        if trip.tries < self._tries(trip.class_):
            state.settled = True
            self._begin(try_after(latest))
        else:
            self._settle(first, OUTCOME_CANCELLED, REASON_CLIENT)
        self._empty(trip.group)

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
