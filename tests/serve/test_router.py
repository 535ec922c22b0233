"""The router's stories under a clock of our own; that it decides as the simulator does is held in tests/twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import pytest

from serve.deployment import Deployment
from serve.ejection import Ejection
from serve.files import parse
from serve.hedging import P95, Hedge
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_NO_NODE,
    REASON_NONE,
)
from serve.policy.routing import ROUTE_LEAST_OUTSTANDING, ROUTE_ROUND_ROBIN, ROUTE_SHORTEST_QUEUE
from serve.protocol.orca import Load
from serve.router import A, Attempt, Ended, Needs, Routed, Router, Settings, settings_of


@dataclass
class Timer:
    """A call to come."""

    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class World:
    """A router, its clock, and what went out of it."""

    settings: Settings
    nodes: int = 2
    now_ns: int = 0
    sent: list[tuple[str, int]] = field(default_factory=list)
    cancelled: list[tuple[str, int]] = field(default_factory=list)
    answers: dict[str, Ended] = field(default_factory=dict)
    requests: dict[str, Routed] = field(default_factory=dict)
    due: list[tuple[int, int, Timer, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.router = Router(self.settings, self.nodes, self, lambda: self.now_ns)

    def send(self, attempt: Attempt) -> None:
        self.sent.append((attempt.request.payload, attempt.node))

    def cancel(self, attempt: Attempt) -> None:
        self.cancelled.append((attempt.request.payload, attempt.node))

    def later(self, delay_ns: int, call: Callable[[A], None], about: A) -> Timer:
        timer = Timer()
        heappush(self.due, (self.now_ns + delay_ns, len(self.due), timer, lambda: call(about)))
        return timer

    def ask(self, name: str, **needs: Any) -> None:
        request = Routed(2**61 + 2**30, lambda ended: self.answers.update({name: ended}), lambda: Needs(**needs), name)
        self.requests[name] = request
        self.router.arrive(request)

    def ends(self, name: str, outcome: int = OUTCOME_OK, load: Load | None = None, flight: int = 0) -> None:
        attempt = self.requests[name].flights[flight]
        self.router.ended(attempt, outcome, REASON_NONE, load, f"answer to {name}")

    def wait(self) -> None:
        """Until nothing is due any more."""
        while self.due:
            self.now_ns, _, timer, call = heappop(self.due)
            if not timer.cancelled:
                call()


ROUND = Settings(ROUTE_ROUND_ROBIN, retries=2, backoff_ns=2**20, backoff_most_ns=2**21, buffer_rows=3)


def world(settings: Settings = ROUND, rotation: tuple[int, ...] = (0, 1), nodes: int = 2) -> World:
    made = World(settings, nodes)
    made.router.rotate(rotation)
    return made


@pytest.mark.parametrize("outcome", [OUTCOME_LOST, OUTCOME_FULL, OUTCOME_DRAINING])
def test_what_a_node_did_not_take_is_sent_again_after_a_backoff(outcome: int) -> None:
    it = world()
    it.ask("a")
    it.ends("a", outcome)
    assert it.sent == [("a", 0)] and it.answers == {}
    it.wait()
    assert it.sent == [("a", 0), ("a", 1)] and 0 < it.now_ns < 2**20
    it.ends("a")
    assert it.answers["a"] == Ended(OUTCOME_OK, REASON_NONE, "answer to a")
    assert it.router.balancer.extra == 0 == it.router.present
    assert [counts.retries for counts in it.router.counts] == [0, 1]


def test_after_the_last_retry_the_nodes_own_answer_is_passed_on() -> None:
    it = world()
    it.ask("a")
    for _ in range(3):
        it.ends("a", OUTCOME_FULL)
        it.wait()
    assert len(it.sent) == 3
    assert it.answers["a"] == Ended(OUTCOME_FULL, REASON_NONE, "answer to a")


def test_what_failed_at_its_node_is_not_sent_again() -> None:
    it = world()
    it.ask("a")
    it.ends("a", OUTCOME_FAILED)
    assert it.answers["a"].outcome == OUTCOME_FAILED and it.due == []


def test_retries_stop_at_the_budget() -> None:
    it = world(Settings(ROUTE_ROUND_ROBIN, retries=9, budget_percent=20))
    for number in range(10):
        it.ask(f"{number}")
    for number in range(10):
        it.ends(f"{number}", OUTCOME_LOST)
    # Three are always allowed; no fourth, with fewer than fifteen outstanding.
    assert len(it.due) == 3 and len(it.answers) == 7


def test_without_a_node_requests_wait_by_priority_as_far_as_there_is_room() -> None:
    it = world(rotation=())
    it.ask("late", rows=1, priority=1)
    it.ask("large", rows=3)
    it.ask("first", rows=2, priority=0)
    assert it.answers == {"large": Ended(OUTCOME_FULL, REASON_NO_NODE)} and it.router.refused == 1
    assert it.router.present == 2
    it.router.rotate((1,))
    assert it.sent == [("first", 1), ("late", 1)]


def test_a_timeout_that_passes_in_the_buffer_is_an_expiry() -> None:
    it = world(rotation=())
    it.ask("hasty", timeout_ns=10)
    it.ask("patient", timeout_ns=11)
    it.ask("calm", timeout_ns=NEVER_NS)
    it.now_ns = 11
    it.router.rotate((0, 1))
    assert it.answers == {"hasty": Ended(OUTCOME_EXPIRED, 9)}
    assert [name for name, _ in it.sent] == ["patient", "calm"]


def test_a_client_that_leaves_is_forgotten_wherever_its_request_is() -> None:
    it = world()
    it.ask("sent")
    (attempt,) = it.requests["sent"].flights
    it.router.give_up(it.requests["sent"])
    assert it.cancelled == [("sent", 0)] and it.router.balancer.outstanding == [0, 0]
    it.router.ended(attempt, OUTCOME_OK, REASON_NONE)  # the answer crossed it
    it.ask("waits for its retry")
    it.ends("waits for its retry", OUTCOME_LOST)
    it.router.give_up(it.requests["waits for its retry"])
    it.wait()
    it.router.rotate(())
    it.ask("in the buffer")
    it.router.give_up(it.requests["in the buffer"])
    it.router.rotate((0, 1))
    assert it.cancelled == [("sent", 0)] and it.answers == {} and len(it.sent) == 2
    assert it.router.balancer.extra == 0 == it.router.present


def test_a_drain_refuses_what_waits_and_lets_nothing_wait_any_more() -> None:
    it = world(rotation=())
    it.ask("waits")
    it.router.drain()
    assert it.answers["waits"].outcome == OUTCOME_DRAINING
    it.ask("comes")
    assert it.answers["comes"] == Ended(OUTCOME_FULL, REASON_NO_NODE) and it.router.present == 0


def test_it_knows_only_what_it_sent_and_what_nodes_told() -> None:
    least = world(Settings(ROUTE_LEAST_OUTSTANDING))
    for name in "abc":
        least.ask(name)
    least.ends("a")
    least.ask("d")
    assert [node for _, node in least.sent] == [0, 1, 0, 0]
    told = world(Settings(ROUTE_SHORTEST_QUEUE))
    told.ask("a")
    told.ask("b")
    told.ends("a", load=Load(5, 9, 1))
    told.ask("c")
    assert [node for _, node in told.sent] == [0, 0, 1]


def test_a_files_router_is_what_it_goes_by() -> None:
    data: dict[str, Any] = {
        "models": {"m": {"backend": "emulated", "profile": "p.yaml", "queue": {"max_queue": 9}}},
        "pools": {"here": {"nodes": 2, "cores": 2, "price": "0 USD/h"}},
        "router": {"policy": "shortest_queue", "retry": {"max": 2, "budget": "30%", "backoff": "1ms"}},
    }
    made = settings_of(parse(data, Deployment, "d.yaml"), "m", 7)
    assert made == Settings(ROUTE_SHORTEST_QUEUE, 2, 30, 1_000_000, 250_000_000, 9, 7)
    data["router"] = {"policy": "shortest_queue", "buffer": 4, "eject": {"failures": 2, "base": "1s", "most": "50%"}}
    made = settings_of(parse(data, Deployment, "d.yaml"), "m")
    assert made == Settings(ROUTE_SHORTEST_QUEUE, 0, 20, 0, 0, 4, 1, Ejection(2, 1_000_000_000, 50))


CREDITED = Settings(ROUTE_ROUND_ROBIN, buffer_rows=9, credit_rows=2)


def test_with_credit_requests_wait_until_an_answer_has_made_room_by_priority() -> None:
    it = world(CREDITED)
    it.ask("a", rows=3)
    it.ask("b")
    it.ask("c")
    it.ask("d", priority=1)
    it.ask("e")
    assert it.sent == [("a", 0), ("b", 1), ("c", 1)], "the first goes beyond what its node has credit for"
    it.ends("b")
    assert it.sent[3:] == [("e", 1)]
    it.router.give_up(it.requests["a"])
    assert it.sent[4:] == [("d", 0)] and it.cancelled == [("a", 0)]
    for name in "cde":
        it.ends(name)
    assert it.router.present == 0 and it.router.balancer.candidates(0) == [0, 1]


def test_a_fleets_queue_gives_each_replica_what_its_slots_hold() -> None:
    model = {
        "backend": "emulated",
        "profile": "p.yaml",
        "batching": {"max_batch": 4},
        "queue": {"per": "fleet", "max_queue": 5},
        "replicas": {"slots": 2},
    }
    data = {"models": {"m": model}, "pools": {"here": {"cores": 1, "price": "1 USD/h"}}, "router": {"policy": "p2c"}}
    deployment = parse(data, Deployment, "d.yaml")
    made = settings_of(deployment, "m")
    assert (made.credit_rows, made.buffer_rows) == (8, 5)
    assert deployment.models["m"].scheduler_spec().max_queue == 12, "what is too much is refused at the router"


HEDGED = Settings(ROUTE_ROUND_ROBIN, retries=1, hedge=Hedge(1000))


def test_what_is_late_is_asked_of_another_node_and_the_first_answer_counts() -> None:
    it = world(HEDGED)
    it.ask("a")
    it.wait()
    assert it.sent == [("a", 0), ("a", 1)] and it.now_ns == 1000
    it.ends("a", flight=1)
    assert it.answers["a"].outcome == OUTCOME_OK and it.cancelled == [("a", 0)]
    assert it.router.balancer.outstanding == [0, 0] and it.router.balancer.extra == 0 == it.router.present
    assert [counts.hedges for counts in it.router.counts] == [0, 1]


def test_what_is_answered_in_time_is_not_hedged() -> None:
    it = world(HEDGED)
    it.ask("a")
    it.ends("a")
    it.wait()
    assert it.sent == [("a", 0)]


def test_while_one_of_two_attempts_is_under_way_nothing_is_retried() -> None:
    it = world(HEDGED)
    it.ask("a")
    it.wait()
    it.ends("a", OUTCOME_LOST)
    assert it.answers == {} and it.router.balancer.outstanding == [0, 1]
    it.ends("a", OUTCOME_FULL)
    it.wait()
    assert len(it.sent) == 3 and it.requests["a"].flights[0].extra
    it.router.give_up(it.requests["a"])
    assert it.router.balancer.extra == 0 == it.router.present and len(it.cancelled) == 1


def test_a_client_that_leaves_takes_both_attempts_along() -> None:
    it = world(HEDGED)
    it.ask("a")
    it.wait()
    it.router.give_up(it.requests["a"])
    assert it.cancelled == [("a", 0), ("a", 1)] and it.router.present == 0


def test_a_files_hedge_is_a_delay_or_the_p95() -> None:
    for after, made in (("p95", Hedge(P95)), ("5ms", Hedge(5_000_000))):
        data: dict[str, Any] = {
            "models": {"m": {"backend": "emulated", "profile": "p.yaml"}},
            "pools": {"here": {"nodes": 2, "cores": 2, "price": "0 USD/h"}},
            "router": {"hedge": {"after": after}},
        }
        assert settings_of(parse(data, Deployment, "d.yaml"), "m").hedge == made
