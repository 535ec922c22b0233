"""Stories of the scheduler: how a request leaves unserved (deadline, cancellation, death, drain: rules 6, 7, 8, 12)."""

from __future__ import annotations

import pytest

from serve.policy.codes import NEVER_NS, OUTCOME_DRAINING, REASON_DRAINING
from serve.scheduler import Request
from tests.serve.scheduling import Desk

# -- rule 6: deadlines -----------------------------------------------------------------------------


def test_at_its_exact_deadline_a_request_may_still_leave() -> None:
    desk = Desk(max_batch=1)
    desk.arrives(0).arrives(1, timeout_ns=10)
    desk.at(10).ends(0)
    desk.deadline(1)
    assert desk.log == ["0 full r0: 0", "10 full r0: 1"], "the end comes before the deadline timer of the instant"


def test_a_request_still_waiting_when_the_timer_of_its_instant_fires_expires() -> None:
    desk = Desk(max_batch=1)
    desk.arrives(0).arrives(1, timeout_ns=10)
    assert desk.scheduler.wake_ns(0) == 10
    desk.at(10).deadline(1)
    assert desk.log[1:] == ["10 drop 1: expired (deadline)"]
    assert desk.scheduler.waiting_rows == 0


def test_a_deadline_timer_that_fires_early_or_late_for_a_dispatched_request_does_nothing() -> None:
    desk = Desk(max_batch=1)
    desk.arrives(0, timeout_ns=5).arrives(1, timeout_ns=9)
    desk.at(8).deadline(0).deadline(1)
    assert desk.log == ["0 full r0: 0"], "0 is dispatched and will be answered, late as it is; 1 has one ns left"


def test_whatever_is_past_its_deadline_expires_before_any_dispatch_by_deadline_then_id() -> None:
    """The timers were late (the front was busy): rule 3 itself begins by expiring."""
    desk = Desk(max_batch=4)
    desk.arrives(0, rows=4)
    desk.arrives(3, timeout_ns=7).arrives(2, timeout_ns=7).arrives(1, timeout_ns=5).arrives(4, timeout_ns=8)
    desk.at(8).ends(0)
    assert desk.log[1:] == [
        "8 drop 1: expired (deadline)",
        "8 drop 2: expired (deadline)",
        "8 drop 3: expired (deadline)",
        "8 idle r0: 4",
    ]


def test_expiry_makes_room_before_the_newcomer_is_judged() -> None:
    desk = Desk(max_batch=2, max_queue=1)
    desk.arrives(0, rows=2).arrives(1, timeout_ns=3)
    desk.at(4).arrives(2)
    assert desk.log[1:] == ["4 drop 1: expired (deadline)"]
    assert desk.requests[2].waiting


def test_expiry_can_undo_a_full_batch() -> None:
    desk = Desk(max_batch=2, window_ns=100)
    desk.arrives(0, timeout_ns=5)
    desk.at(6).arrives(1)
    assert desk.log == ["6 drop 0: expired (deadline)"]
    assert desk.scheduler.wake_ns(6) == 106


def test_a_timeout_of_zero_lets_a_request_leave_at_once_or_not_at_all() -> None:
    desk = Desk(max_batch=1)
    desk.arrives(0, timeout_ns=0).arrives(1, timeout_ns=0).deadline(1)
    assert desk.log == ["0 full r0: 0", "0 drop 1: expired (deadline)"]


def test_the_next_wake_is_the_earlier_of_window_and_deadline() -> None:
    desk = Desk(max_batch=4, window_ns=5)
    desk.arrives(0, timeout_ns=9)
    assert desk.scheduler.wake_ns(0) == 5
    desk.at(1).arrives(1, timeout_ns=2)
    assert desk.scheduler.wake_ns(1) == 3
    desk.at(3).deadline(1)
    assert desk.scheduler.wake_ns(3) == 5
    desk.at(5).runs()
    assert desk.scheduler.wake_ns(5) == NEVER_NS
    assert desk.log == ["3 drop 1: expired (deadline)", "5 window r0: 0"]


# -- rule 7: cancellation --------------------------------------------------------------------------


def test_a_waiting_request_that_is_cancelled_is_removed() -> None:
    desk = Desk(max_batch=2, window_ns=50)
    desk.arrives(0)
    desk.at(1).cancels(0)
    desk.at(2).arrives(1)
    assert desk.log == ["1 drop 0: cancelled (client)"]
    assert desk.scheduler.waiting_rows == 1
    assert desk.scheduler.wake_ns(2) == 52, "the window is now counted from the one that is left"


def test_a_cancellation_after_dispatch_changes_nothing_but_remembers_its_first_instant() -> None:
    desk = Desk(max_batch=2)
    desk.arrives(0, rows=2)
    desk.at(3).cancels(0).at(5).cancels(0)
    assert desk.log == ["0 full r0: 0"]
    assert desk.requests[0].cancelled_ns == 3
    desk.at(9).ends(0)
    assert desk.scheduler.in_flight == 0


def test_a_cancellation_in_the_second_slot_does_not_take_the_request_out_of_its_batch() -> None:
    desk = Desk(max_batch=1, slots=2)
    desk.arrives(0).arrives(1)
    desk.at(1).cancels(1)
    desk.at(2).ends(0)
    assert desk.log == ["0 full r0: 0", "0 full r0 second slot: 1", "2 start r0: 1"]


def test_the_first_of_two_cancellations_while_waiting_counts_and_the_second_does_nothing() -> None:
    desk = Desk(max_batch=1)
    desk.arrives(0).arrives(1)
    desk.at(2).cancels(1).cancels(1)
    assert desk.log[1:] == ["2 drop 1: cancelled (client)"]


# -- rule 8: failure -------------------------------------------------------------------------------


def test_requests_are_put_back_under_their_enqueue_numbers_and_batched_with_others() -> None:
    """1 and 2 lose their replica; they leave again before 3 and 4, who came later, and 3 joins them."""
    desk = Desk(replicas=1, max_batch=3)
    desk.at(0).arrives(9, rows=3)
    desk.at(1).arrives(1).arrives(2)
    desk.at(2).ends(0)  # 1 and 2 start
    desk.at(3).arrives(3).arrives(4)
    desk.at(4).dies(0)
    assert desk.scheduler.waiting_requests == 4
    desk.at(6).comes_up(0)
    assert desk.log[1:] == ["2 idle r0: 1 2", "6 full r0: 1 2 3"]
    assert [desk.requests[i].deaths for i in (1, 2, 3)] == [1, 1, 0]


def test_put_back_requests_keep_their_age_for_the_window() -> None:
    desk = Desk(replicas=2, max_batch=4, window_ns=5)
    desk.arrives(0, rows=4)
    desk.at(1).arrives(1)
    desk.at(2).dies(0)
    assert desk.log[1:] == ["2 full r1: 0"], "five rows wait: full"
    desk.at(5).comes_up(0)
    assert desk.scheduler.wake_ns(5) == 6
    desk.at(6).runs()
    assert desk.log[2:] == ["6 window r0: 1"]


def test_put_back_requests_keep_their_deadline_and_a_spent_timer_is_armed_again() -> None:
    desk = Desk(replicas=1, max_batch=1)
    desk.arrives(0, timeout_ns=10)
    assert desk.scheduler.wake_ns(0) == NEVER_NS, "dispatched: the deadline no longer binds"
    desk.at(4).dies(0)
    assert desk.scheduler.wake_ns(4) == 10
    desk.at(12).comes_up(0)
    assert desk.log[1:] == ["12 drop 0: expired (deadline)"]


def test_a_second_death_fails_a_request() -> None:
    desk = Desk(replicas=1, max_batch=1)
    desk.arrives(0)
    desk.at(1).dies(0).at(2).comes_up(0).at(3).dies(0).at(4).comes_up(0)
    assert desk.log == ["0 full r0: 0", "2 full r0: 0", "3 drop 0: failed (death)"]
    assert desk.requests[0].deaths == 2


def test_only_a_death_after_the_start_counts() -> None:
    """The batch in the second slot had not started: its death costs it nothing."""
    desk = Desk(replicas=1, max_batch=1, slots=2)
    desk.arrives(0).arrives(1)
    desk.at(1).dies(0)
    assert [desk.requests[i].deaths for i in (0, 1)] == [1, 0]
    desk.at(2).comes_up(0).at(3).dies(0)
    assert desk.log[2:] == ["2 full r0: 0", "2 full r0 second slot: 1", "3 drop 0: failed (death)"]
    assert desk.requests[1].waiting


def test_requests_put_back_are_never_refused_and_count_for_the_next_newcomer() -> None:
    desk = Desk(replicas=1, max_batch=2, max_queue=1)
    desk.arrives(0, rows=2).arrives(1)
    desk.at(1).dies(0)
    assert desk.scheduler.waiting_rows == 3
    desk.at(2).arrives(2)
    assert desk.log[1:] == ["2 drop 2: full (queue)"]


@pytest.mark.parametrize(
    ("cancelled_at", "deaths_before", "timeout_ns", "outcome"),
    [
        (4, 1, 3, "cancelled (client)"),
        (None, 1, 3, "failed (death)"),
        (None, 0, 4, "expired (deadline)"),
        (5, 0, 5, None),
    ],
    ids=["cancelled-before-all-else", "second-death-before-deadline", "deadline-passed", "ties-go-to-the-request"],
)
def test_the_order_of_the_put_back_at_a_death_at_5(
    cancelled_at: int | None, deaths_before: int, timeout_ns: int, outcome: str | None
) -> None:
    desk = Desk(replicas=1, max_batch=1)
    desk.arrives(0, timeout_ns=timeout_ns)
    desk.requests[0].deaths = deaths_before
    if cancelled_at is not None:
        desk.at(cancelled_at).cancels(0)
    desk.at(5).dies(0, run=False)
    assert desk.log[1:] == ([] if outcome is None else [f"5 drop 0: {outcome}"])
    assert desk.requests[0].waiting == (outcome is None)


def test_a_batch_that_ended_at_the_instant_of_the_death_is_done() -> None:
    desk = Desk(replicas=1, max_batch=1, slots=2)
    desk.arrives(0).arrives(1)
    done = desk.at(5).ends(0, finish=False)
    desk.dies(0)
    assert not desk.requests[0].waiting
    assert desk.requests[1].deaths == 1, "the second batch started at that very instant"
    assert desk.requests[1].waiting
    desk.at(6).comes_up(0)
    desk.at(7).arrives(2)
    desk.finishes(done)
    assert [[r.id for r in b.requests] for b in desk.scheduler.replicas[0].batches] == [[1], [2]]
    assert desk.log[2:] == ["5 start r0: 1", "6 full r0: 1", "7 full r0 second slot: 2"]


def test_a_late_finish_frees_no_slot_of_the_successor() -> None:
    desk = Desk(replicas=1, max_batch=1)
    desk.arrives(0).arrives(1).arrives(2)
    done = desk.at(5).ends(0, finish=False)
    desk.at(6).dies(0).comes_up(0)
    desk.at(7).finishes(done)
    assert desk.log == ["0 full r0: 0", "6 full r0: 1"]
    assert desk.scheduler.in_flight == 1


def test_a_replica_that_dies_idle_takes_nothing_with_it() -> None:
    desk = Desk(replicas=1, max_batch=1)
    desk.dies(0).at(1).comes_up(0).arrives(0)
    assert desk.log == ["1 full r0: 0"]
    assert desk.batches[0].incarnation == 1


# -- rule 12: drain --------------------------------------------------------------------------------


def test_a_draining_node_lets_partial_batches_leave_at_once() -> None:
    desk = Desk(replicas=1, max_batch=4, window_ns=50)
    desk.arrives(0)
    desk.at(1).drains()
    assert desk.log == ["1 drain r0: 0"]


def test_what_is_admitted_while_draining_is_served_with_reason_drain_or_full() -> None:
    desk = Desk(replicas=2, max_batch=2, window_ns=50)
    desk.drains().arrives(0).at(1).arrives(1, rows=2)
    assert desk.log == ["0 drain r0: 0", "1 full r1: 1"]


def test_an_arrival_after_the_drain_is_refused_without_being_enqueued() -> None:
    desk = Desk(max_batch=4)
    desk.drains()
    late = Request(id=0, rows=1)
    drop = desk.scheduler.refuse_draining(late)
    assert (drop.request, drop.outcome, drop.reason) == (late, OUTCOME_DRAINING, REASON_DRAINING)
    assert (late.number, desk.scheduler.waiting_requests) == (-1, 0)


def test_a_draining_replica_finishes_what_it_holds_and_takes_no_more() -> None:
    desk = Desk(replicas=2, max_batch=1, slots=2)
    desk.arrives(0).arrives(1).arrives(2)
    desk.at(1).drains_replica(0)
    desk.at(2).ends(0)
    desk.at(3).arrives(3).arrives(4)
    desk.at(4).ends(0)
    assert desk.log[3:] == ["2 start r0: 2", "3 full r1 second slot: 3"]
    assert desk.scheduler.replicas[0].batches == []
    assert desk.requests[4].waiting
