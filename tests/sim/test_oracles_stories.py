"""Worked examples on both planes: the front's station, neighbours, deaths and drains, instant by instant (rules 6-12).

Times are ns, small enough to be worked out by hand; each story compares what the rows say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from serve import records
from serve.policy import front as front_leaf
from serve.policy.codes import NEVER_NS
from serve.records import Outcome, Reason, Rows
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import Node, Plane, Requests, Service, free_front
from sim.reference import Reference
from tests.sim.oracle_cases import Engine

ENGINES = pytest.mark.parametrize("engine", ["fast", "reference"])


ONE_ROW = SchedulerSpec(max_batch=1)


@dataclass(frozen=True)
class Sent:
    """A request of a story."""

    arrival_ns: int
    rows: int = 1
    timeout_ns: int = NEVER_NS
    patience_ns: int = NEVER_NS


@dataclass(frozen=True)
class Story:
    """A node and what is sent to it; `service_ns[pressure]` is the time of a batch of any size."""

    sent: list[Sent]
    limits: SchedulerSpec = ONE_ROW
    replicas: int = 1
    service_ns: tuple[int, ...] = (100,)
    front: dict[str, int] = field(default_factory=dict)

    def node(self) -> Node:
        """The node; every batch's time depends on its neighbours only."""
        costs = free_front()
        for name, value in self.front.items():
            costs[getattr(front_leaf, f"FRONT_{name.upper()}")] = value
        rows_max = self.limits.max_batch
        table = np.repeat(np.array(self.service_ns), rows_max + 1)
        return Node(self.limits, self.replicas, Service(table, 0, rows_max, len(self.service_ns) - 1), costs)

    def requests(self) -> Requests:
        """The arrays of what is sent."""
        sent = self.sent
        zeros = np.zeros(len(sent), np.int64)
        return Requests(
            arrival_ns=np.array([s.arrival_ns for s in sent]),
            rows=np.array([s.rows for s in sent]),
            class_=zeros,
            priority=zeros,
            timeout_ns=np.array([s.timeout_ns for s in sent]),
            patience_ns=np.array([s.patience_ns for s in sent]),
            client_ns=zeros,
            draw=np.zeros((2, len(sent)), np.int64),
        )

    def told(self, engine: Engine, *control: tuple[int, Callable[[Plane], None]]) -> Rows:
        """The rows, with control acting at its instants."""
        plane: Plane = Reference(self.node(), 1) if engine == "reference" else DataPlane(self.node(), 1, keep="rows")
        for replica in range(self.replicas):
            plane.ready(replica)
        plane.feed(self.requests())
        plane.end_feed()
        for at_ns, act in (*control, (10**6, lambda _: None)):
            while plane.now_ns < at_ns:
                plane.advance(at_ns)
            act(plane)
        return plane.rows()


def _instants(rows: Rows, *columns: int) -> list[list[int]]:
    found: list[list[int]] = rows[:, list(columns)].tolist()
    return found


def _ends(rows: Rows) -> list[str]:
    """Outcome, reason and the instant of leaving of each request."""
    return [
        f"{Outcome(row[records.OUTCOME]).name} {Reason(row[records.REASON]).name} {row[records.ANSWERED_NS]}".lower()
        for row in rows
    ]


SERVED = (records.ENQUEUE_NS, records.DISPATCH_NS, records.DONE_NS, records.ANSWERED_NS)


# -- rule 10: the front ---------------------------------------------------------------------------------


@ENGINES
def test_a_finish_waits_behind_a_parse_and_the_slot_is_held_until_then(engine: Engine) -> None:
    """The batch ends at 15 while the front parses until 20; at 22 its slot is free, at 25 its answer is out."""
    front = {"parse_ns": 10, "finish_batch_ns": 2, "finish_request_ns": 3}
    rows = Story([Sent(0), Sent(3)], service_ns=(5,), front=front).told(engine)
    assert _instants(rows, *SERVED) == [[10, 10, 15, 25], [20, 22, 27, 32]]


@ENGINES
def test_answers_leave_one_by_one_in_row_order_and_hold_the_station(engine: Engine) -> None:
    """Finish 23-25, answers at 29, 33, 37; what arrives at 26 is parsed only after them."""
    front = {"parse_ns": 1, "finish_batch_ns": 2, "finish_request_ns": 4}
    sent = [Sent(0), Sent(0), Sent(0), Sent(26)]
    rows = Story(sent, SchedulerSpec(3, window_ns=10), service_ns=(20,), front=front).told(engine)
    assert _instants(rows, *SERVED) == [[1, 3, 23, 29], [2, 3, 23, 33], [3, 3, 23, 37], [38, 48, 68, 74]]


@ENGINES
def test_the_next_dispatch_is_decided_before_the_answers_leave(engine: Engine) -> None:
    front = {"finish_batch_ns": 2, "finish_request_ns": 50}
    rows = Story([Sent(0), Sent(5)], service_ns=(20,), front=front).told(engine)
    assert _instants(rows, *SERVED) == [[0, 0, 20, 72], [5, 22, 42, 124]]


@ENGINES
def test_handing_a_batch_over_holds_the_front_before_it_answers_or_parses(engine: Engine) -> None:
    """The first leaves at 0: the second, which came at 3, is parsed at 7; its batch leaves at 20, the answer at 27."""
    rows = Story([Sent(0), Sent(3)], service_ns=(20,), front={"dispatch_ns": 7}).told(engine)
    assert _instants(rows, *SERVED) == [[0, 0, 20, 27], [7, 20, 40, 40]]


@ENGINES
def test_a_parse_and_an_answer_cost_by_their_bytes(engine: Engine) -> None:
    front = {
        "parse_ns": 5, "parse_ns_per_kib": 3, "bytes_in_per_row": 2048,
        "finish_request_ns": 7, "finish_ns_per_kib": 2, "bytes_out_per_row": 1024,
    }  # fmt: skip
    rows = Story([Sent(0, rows=2)], SchedulerSpec(2), service_ns=(20,), front=front).told(engine)
    assert _instants(rows, *SERVED) == [[5 + 12, 17, 37, 37 + 7 + 4]]


@ENGINES
def test_a_refusal_is_a_job_of_its_own(engine: Engine) -> None:
    """Parsed at 4 and 8; the second meets a full house and its refusal takes the front until 13."""
    front = {"parse_ns": 4, "refuse_ns": 5}
    rows = Story([Sent(0), Sent(0), Sent(9)], SchedulerSpec(1, max_queue=0), front=front).told(engine)
    assert _ends(rows) == ["ok full 104", "full queue 13", "full queue 22"]


@ENGINES
def test_whoever_waited_too_long_for_its_parse_is_refused_unread(engine: Engine) -> None:
    """Budget 8: the second begins its parse after exactly 8, the third would after 16."""
    front = {"parse_ns": 8, "refuse_ns": 1, "budget_ns": 8}
    rows = Story([Sent(0), Sent(0), Sent(0)], SchedulerSpec(1), replicas=2, front=front).told(engine)
    assert _ends(rows) == ["ok full 108", "ok full 116", "full front 17"]
    assert rows[2, records.ENQUEUE_NS] == -1


@ENGINES
def test_a_window_that_ends_while_the_front_works_is_closed_by_the_end_of_the_job(engine: Engine) -> None:
    """Due at 14; the front parses from 12 to 16, and that request rides along."""
    rows = Story([Sent(0), Sent(12)], SchedulerSpec(4, window_ns=10), front={"parse_ns": 4}).told(engine)
    assert _instants(rows, records.DISPATCH_NS, records.BATCH) == [[16, 0], [16, 0]]
    rows = Story([Sent(0)], SchedulerSpec(4, window_ns=10), front={"parse_ns": 4}).told(engine)
    assert _instants(rows, records.DISPATCH_NS) == [[14]], "on an idle front it leaves on time"


@ENGINES
def test_timers_of_an_idle_front_are_as_late_as_they_were_measured(engine: Engine) -> None:
    """Window due at 10, deadline of the one behind at 60; both timers fire 3 late."""
    sent = [Sent(0), Sent(20, timeout_ns=40)]
    rows = Story(sent, SchedulerSpec(4, window_ns=10), front={"timer_late_ns": 3}).told(engine)
    assert rows[0, records.DISPATCH_NS] == 13
    assert _ends(rows)[1] == "expired deadline 63"


# -- rules 6 and 7: deadlines and cancellations, in the front and behind it ---------------------------------


@ENGINES
@pytest.mark.parametrize(("busy_front", "leaves_ns"), [(False, 50), (True, 52)])
def test_a_deadline_strikes_on_an_idle_front_or_at_the_end_of_its_job(
    engine: Engine, busy_front: bool, leaves_ns: int
) -> None:
    """Deadline 50; a parse from 48 to 52 is in the way in the second story."""
    sent = [Sent(0), Sent(6, timeout_ns=40)] + ([Sent(48)] if busy_front else [])
    rows = Story(sent, front={"parse_ns": 4}).told(engine)
    assert _ends(rows)[1] == f"expired deadline {leaves_ns}"


@ENGINES
def test_at_its_exact_deadline_a_request_still_leaves_with_the_replica_that_ends(engine: Engine) -> None:
    rows = Story([Sent(0), Sent(1, timeout_ns=99), Sent(2, timeout_ns=97)]).told(engine)
    assert _ends(rows) == ["ok full 100", "ok full 200", "expired deadline 99"]


@ENGINES
def test_a_waiting_request_is_cancelled_at_once_even_while_the_front_works(engine: Engine) -> None:
    rows = Story([Sent(0), Sent(1, patience_ns=49), Sent(48)], front={"parse_ns": 4}).told(engine)
    assert _ends(rows)[1] == "cancelled client 50"


@ENGINES
@pytest.mark.parametrize(("patience_ns", "enqueued_ns"), [(9, -1), (10, 10)])
def test_a_request_cancelled_in_the_front_has_its_parse_paid(
    engine: Engine, patience_ns: int, enqueued_ns: int
) -> None:
    """Parsed from 0 to 10; given up at 9 it is dropped at 10, given up at 10 it was enqueued first."""
    rows = Story([Sent(0, patience_ns=patience_ns), Sent(0)], front={"parse_ns": 10}).told(engine)
    assert rows[0, records.ENQUEUE_NS] == enqueued_ns
    assert rows[1, records.ENQUEUE_NS] == 20, "the parse of the first was paid, and no refusal answers it"
    assert _ends(rows)[0] == ("cancelled client 10" if enqueued_ns < 0 else "cancelled client 110")


@ENGINES
@pytest.mark.parametrize(("patience_ns", "ends"), [(28, ["cancelled client 28", "ok full 32"]), (29, None)])
def test_an_answer_given_up_before_it_begins_costs_nothing(
    engine: Engine, patience_ns: int, ends: list[str] | None
) -> None:
    """Answers begin at 24, 28, 32 or, without the second's, at 24 and 28."""
    sent = [Sent(0), Sent(0, patience_ns=patience_ns - 1), Sent(0)]
    front = {"finish_batch_ns": 4, "finish_request_ns": 4}
    rows = Story(sent, SchedulerSpec(3, window_ns=10), service_ns=(20,), front=front).told(engine)
    assert _ends(rows)[0] == "ok full 28"
    assert _ends(rows)[1:] == (ends or ["ok full 32", "ok full 36"])


# -- rules 5 and 11: slots and neighbours ------------------------------------------------------------------------


@ENGINES
def test_neighbours_are_those_that_run_when_a_batch_starts(engine: Engine) -> None:
    """Alone 100, beside another 200. The first two start alone and beside one; the third, at the instant at
    which the first ends, has the second for its only neighbour; the fourth, at 210, has the third."""
    sent = [Sent(0), Sent(10), Sent(100), Sent(210)]
    rows = Story(sent, replicas=3, service_ns=(100, 200, 900)).told(engine)
    assert _instants(rows, records.REPLICA, records.DONE_NS) == [[0, 100], [1, 210], [0, 300], [1, 410]]


@ENGINES
def test_more_neighbours_than_were_measured_count_as_the_most_measured(engine: Engine) -> None:
    rows = Story([Sent(0), Sent(1), Sent(2)], replicas=3, service_ns=(100, 200)).told(engine)
    assert _instants(rows, records.DONE_NS) == [[100], [201], [202]]


@ENGINES
def test_a_batch_in_the_second_slot_reads_its_neighbours_when_it_starts(engine: Engine) -> None:
    """Dispatched at 2 while both replicas run, it starts at 100 beside the other; the next at 201, alone."""
    sent = [Sent(0), Sent(1), Sent(2), Sent(3)]
    rows = Story(sent, SchedulerSpec(1, slots=2), replicas=2, service_ns=(100, 200)).told(engine)
    assert _instants(rows, records.DISPATCH_NS, records.START_NS, records.DONE_NS) == [
        [0, 0, 100],
        [1, 1, 201],
        [2, 100, 300],
        [3, 201, 401],
    ]


# -- rules 8 and 12: deaths and drains -------------------------------------------------------------------------


@ENGINES
def test_a_death_puts_back_and_a_second_one_fails(engine: Engine) -> None:
    story = Story([Sent(0), Sent(1)])
    rows = story.told(
        engine,
        (40, lambda plane: plane.kill(0)),
        (50, lambda plane: plane.ready(0)),
        (90, lambda plane: plane.kill(0)),
        (95, lambda plane: plane.ready(0)),
    )
    assert _ends(rows) == ["failed death 90", "ok full 195"]
    assert rows[:, records.DEATHS].tolist() == [2, 0]


@ENGINES
def test_a_batch_that_ends_at_the_instant_of_the_death_is_done(engine: Engine) -> None:
    rows = Story([Sent(0)]).told(engine, (100, lambda plane: plane.kill(0)))
    assert _ends(rows) == ["ok full 100"]


@ENGINES
def test_after_the_drain_arrivals_are_refused_unparsed_and_those_in_the_front_admitted(engine: Engine) -> None:
    """Drain at 12, in the parse of the second, which is admitted at 20 and leaves with the first; the third gets a
    refusal from 20 to 22."""
    story = Story(
        [Sent(0), Sent(11), Sent(13)], SchedulerSpec(4, window_ns=1000), front={"parse_ns": 9, "refuse_ns": 2}
    )
    rows = story.told(engine, (12, lambda plane: plane.drain()))
    assert _ends(rows) == ["ok drain 120", "ok drain 120", "draining draining 22"]
    assert rows[2, records.ENQUEUE_NS] == -1


@ENGINES
def test_a_draining_replica_ends_what_it_holds_and_takes_no_more(engine: Engine) -> None:
    story = Story([Sent(0), Sent(1), Sent(2)], replicas=2)
    rows = story.told(engine, (50, lambda plane: plane.drain_replica(0)))
    assert _instants(rows, records.REPLICA, records.START_NS) == [[0, 0], [1, 1], [1, 101]]
