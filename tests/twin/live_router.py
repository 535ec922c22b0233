"""The reference simulator's router recorded, and `serve.router` taken through the same events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from serve.policy.codes import ATTEMPT_BITS, NEVER_NS
from serve.policy.routing import ROUTE_LEAST_WORK
from serve.protocol.orca import Load
from serve.router import A, Attempt, Ended, Needs, Routed, Router, Settings
from serve.scheduler import Request
from sim import plane
from sim.network import Network
from sim.station import Answer


@dataclass
class Record:
    """What happened at a router, in order, and what it decided: (instant, what, request, ...)."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    sent: list[tuple[int, int, int, int]] = field(default_factory=list)  # instant, request, attempt, node
    settled: list[tuple[int, int, int, int]] = field(default_factory=list)  # instant, request, outcome, reason


class RecordedNetwork(Network):
    """The simulator's router, which writes down what happens to it."""

    record: Record

    def _begin(self, attempt: Request) -> None:
        self.record.events.append((self._clock.now_ns, "arrive", attempt.id, attempt))
        super()._begin(attempt)

    def _carry(self, attempt: Request) -> None:
        super()._carry(attempt)
        self.record.sent.append((self._clock.now_ns, attempt.id, _number(attempt), attempt.payload.node))

    def _hedge(self, attempt: Request) -> None:
        state = attempt.payload.state
        if not state.settled and attempt in state.flights:
            self.record.events.append((self._clock.now_ns, "hedge", attempt.id, None))
        super()._hedge(attempt)

    def _end(self, attempt: Request, answer: Answer, left_ns: int) -> None:
        if not attempt.payload.state.settled:
            self.record.events.append((self._clock.now_ns, "ended", attempt.id, (_number(attempt), answer)))
        super()._end(attempt, answer, left_ns)

    def _retry(self, attempt: Request) -> None:
        if not attempt.payload.state.settled:
            self.record.events.append((self._clock.now_ns, "retry", attempt.id, None))
        super()._retry(attempt)

    def _give_up(self, first: Request) -> None:
        if not first.payload.state.settled:
            self.record.events.append((self._clock.now_ns, "gone", first.id, None))
        super()._give_up(first)

    def rotate(self, nodes: Sequence[int], group: int) -> None:
        self.record.events.append((self._clock.now_ns, "rotate", group, list(nodes)))
        super().rotate(nodes, group)

    def _settle(self, attempt: Request, outcome: int, reason: int, stay_ns: int = 0) -> None:
        self.record.settled.append((self._clock.now_ns, attempt.id, outcome, reason))
        super()._settle(attempt, outcome, reason, stay_ns)


def _number(attempt: Request) -> int:
    return int(attempt.payload.index & (1 << ATTEMPT_BITS) - 1)


@contextmanager
def recorded() -> Iterator[Record]:
    """References that are built meanwhile write down what happens to their router."""
    record = Record()
    network = type("Recorded", (RecordedNetwork,), {"record": record})
    with mock.patch("sim.reference.Network", network):
        yield record


class World:
    """Clock and nodes of live routers, one a group of nodes, that are taken through a record."""

    def __init__(self, estate: plane.Estate) -> None:
        router = estate.router
        assert router is not None
        credits = router.credits or (0,) * estate.group_count
        settings = Settings(
            router.policy,
            router.retries,
            router.budget_percent,
            router.backoff_ns,
            router.backoff_most_ns,
            router.buffer_rows,
            ejection=router.ejection,
            hedge=router.hedge,
        )
        self.now_ns = 0
        groups = range(estate.group_count)
        self.routers = [
            Router(replace(settings, credit_rows=credits[group]), len(estate.nodes), self, lambda: self.now_ns)
            for group in groups
        ]
        for group, own in enumerate(self.routers):
            own.rotate(estate.nodes_of(group))
        self.of: dict[int, Router] = {}
        self.record = Record()
        self.requests: dict[int, Routed] = {}
        self.attempts: dict[tuple[int, int], Attempt] = {}
        self.due: dict[tuple[int, str], tuple[int, Callable[[], None]]] = {}
        self._policy = router.policy

    # -- the router's port -----------------------------------------------------------------------------

    def send(self, attempt: Attempt) -> None:
        number = attempt.request.payload
        self.attempts[number, attempt.number] = attempt
        self.record.sent.append((self.now_ns, number, attempt.number, attempt.node))

    def cancel(self, attempt: Attempt) -> None:
        pass

    def later(self, delay_ns: int, call: Callable[[A], None], about: A) -> Any:
        what, request = ("hedge", about.request) if isinstance(about, Attempt) else ("retry", about)
        assert isinstance(request, Routed)
        key = request.payload, what
        self.due[key] = (self.now_ns + delay_ns, lambda: call(about))
        return mock.Mock(cancel=lambda: self.due.pop(key))

    # -- events ----------------------------------------------------------------------------------------

    def replay(self, events: list[tuple[Any, ...]]) -> Record:
        """Have all of it happen again."""
        for self.now_ns, what, number, more in events:
            getattr(self, f"_{what}")(number, more)
        assert all(due_ns >= self.now_ns for due_ns, _ in self.due.values()), "a retry or hedge was forgotten"
        return self.record

    def _arrive(self, number: int, attempt: Request) -> None:
        def reply(ended: Ended) -> None:
            self.record.settled.append((self.now_ns, number, ended.outcome, ended.reason))

        needs = Needs(attempt.rows, attempt.priority, NEVER_NS)
        self.requests[number] = Routed(attempt.payload.route, reply, lambda: needs, payload=number)
        self.of[number] = self.routers[attempt.payload.group]
        self.of[number].arrive(self.requests[number])

    def _ended(self, number: int, told: tuple[int, Answer]) -> None:
        attempt, answer = self.attempts[number, told[0]], told[1]
        load = Load(0, answer.told, 1) if self._policy == ROUTE_LEAST_WORK else Load(answer.told, 0, 1)
        self.of[number].ended(attempt, answer.outcome, answer.reason, load)

    def _retry(self, number: int, _: None) -> None:
        self._fire(number, "retry")

    def _hedge(self, number: int, _: None) -> None:
        self._fire(number, "hedge")

    def _fire(self, number: int, what: str) -> None:
        due_ns, call = self.due.pop((number, what))
        assert due_ns == self.now_ns
        call()

    def _gone(self, number: int, _: None) -> None:
        self.of[number].give_up(self.requests[number])

    def _rotate(self, group: int, nodes: list[int]) -> None:
        self.routers[group].rotate(nodes)
