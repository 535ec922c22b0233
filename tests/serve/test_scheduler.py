"""Stories of the scheduler under a fake clock: who is let in, and which rows leave when (rules 1, 2, 3, 9).

Each story drives events and compares the whole log of decisions; `docs/rulebook.md` names these tests.
"""

from __future__ import annotations

import pytest

from serve.policy.codes import NEVER_NS
from tests.serve.scheduling import Desk

# -- rule 1: admission -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, -1, 5])
def test_rows_outside_one_to_max_batch_are_invalid(rows: int) -> None:
    desk = Desk(max_batch=4)
    desk.arrives(0, rows=rows)
    assert desk.log == ["0 drop 0: invalid (rows)"]
    assert desk.scheduler.waiting_requests == 0


def test_max_batch_rows_are_the_most_that_is_valid() -> None:
    assert Desk(max_batch=4).arrives(0, rows=4).log == ["0 full r0: 0"]


def test_the_newcomer_is_refused_only_after_rule_3_had_its_chance() -> None:
    """With no room to wait at all, a request that an idle replica takes at once is let in."""
    desk = Desk(max_batch=1, max_queue=0)
    desk.arrives(0).arrives(1)
    desk.at(5).ends(0)
    desk.arrives(2)
    assert desk.log == ["0 full r0: 0", "0 drop 1: full (queue)", "5 full r0: 2"]


def test_max_queue_counts_rows_and_lets_in_up_to_it() -> None:
    desk = Desk(max_batch=4, max_queue=4)
    desk.arrives(0, rows=4)  # runs
    desk.arrives(1, rows=3).arrives(2, rows=2).arrives(3, rows=1)
    assert desk.log == ["0 full r0: 0", "0 drop 2: full (queue)"]
    assert desk.scheduler.waiting_rows == 4


def test_a_newcomer_that_completes_a_batch_is_let_in_though_the_queue_was_at_its_bound() -> None:
    desk = Desk(replicas=1, max_batch=3, max_queue=2, window_ns=9)
    desk.arrives(0, rows=2).arrives(1, rows=1)
    assert desk.log == ["0 full r0: 0 1"]


def test_lower_priorities_do_not_count_against_a_newcomer() -> None:
    desk = Desk(max_batch=2, max_queue=2, priority_levels=2)
    desk.arrives(0, rows=2)  # runs
    desk.arrives(1, priority=1).arrives(2, priority=1).arrives(3, priority=1)
    desk.arrives(4, priority=0).arrives(5, priority=0).arrives(6, priority=0)
    desk.arrives(7, priority=1)
    assert desk.log[1:] == ["0 drop 3: full (queue)", "0 drop 6: full (queue)", "0 drop 7: full (queue)"]


def test_only_the_newcomer_is_refused_never_one_who_waits() -> None:
    desk = Desk(max_batch=1, max_queue=1, priority_levels=2)
    desk.arrives(0).arrives(1, priority=1).arrives(2, priority=0)
    assert desk.log == ["0 full r0: 0"], "two wait though the bound is one: each passed its own test"
    assert desk.requests[1].waiting and desk.requests[2].waiting


def test_an_unbounded_queue_refuses_nobody() -> None:
    desk = Desk(max_batch=1, max_queue=-1)
    for request_id in range(1000):
        desk.arrives(request_id)
    assert desk.log == ["0 full r0: 0"]
    assert desk.scheduler.waiting_requests == 999


# -- rule 2: order and prefix ----------------------------------------------------------------------


def test_a_batch_is_the_longest_prefix_and_the_first_that_does_not_fit_ends_it() -> None:
    """Request 3 would fit in the place of 2; it may not overtake."""
    desk = Desk(max_batch=4)
    desk.arrives(0, rows=4)
    desk.arrives(1, rows=3).arrives(2, rows=2).arrives(3, rows=1)
    desk.at(1).ends(0)
    desk.at(2).ends(0)
    assert desk.log[1:] == ["1 full r0: 1", "2 idle r0: 2 3"]


def test_priorities_mix_in_a_batch_the_highest_first() -> None:
    desk = Desk(max_batch=3, priority_levels=3)
    desk.arrives(0, rows=3)
    desk.arrives(1, priority=2).arrives(2, priority=0).arrives(3, priority=1).arrives(4, priority=0)
    desk.at(1).ends(0)
    assert desk.log[1:] == ["1 full r0: 2 4 3"]


def test_a_higher_priority_that_does_not_fit_holds_back_the_lower_ones() -> None:
    desk = Desk(max_batch=4, priority_levels=2)
    desk.arrives(0, rows=4)
    desk.arrives(1, rows=1, priority=1).arrives(2, rows=2).arrives(3, rows=3)
    desk.at(1).ends(0)
    desk.at(2).ends(0)
    assert desk.log[1:] == ["1 full r0: 2", "2 full r0: 3 1"]


def test_equal_instants_leave_in_enqueue_order_whatever_their_ids() -> None:
    desk = Desk(max_batch=3)
    desk.arrives(9, rows=3).arrives(7).arrives(8).arrives(2)
    desk.at(1).ends(0)
    assert desk.log[1:] == ["1 full r0: 7 8 2"]


# -- rule 3: dispatch and its reasons --------------------------------------------------------------


def test_without_a_window_a_lone_request_leaves_at_once() -> None:
    assert Desk(max_batch=8).arrives(0).log == ["0 idle r0: 0"]


def test_full_wins_over_idle_and_window_and_drain() -> None:
    desk = Desk(max_batch=2, window_ns=5)
    desk.arrives(0).at(5).arrives(1)
    assert desk.log == ["5 full r0: 0 1"], "due by its window, but full"
    desk = Desk(max_batch=1)
    desk.drains().arrives(0)
    assert desk.log == ["0 full r0: 0"]


def test_three_arrivals_one_story() -> None:
    """Window 5, at most 2 rows: the pair leaves full, the third when its own window ends, not a tick before."""
    desk = Desk(replicas=2, max_batch=2, window_ns=5)
    desk.at(0).arrives(1)
    assert desk.scheduler.wake_ns(0) == 5
    desk.at(3).arrives(2)
    assert desk.scheduler.wake_ns(3) == NEVER_NS
    desk.at(4).arrives(3)
    assert desk.scheduler.wake_ns(4) == 9
    desk.at(8).runs()
    desk.at(9).runs()
    assert desk.log == ["3 full r0: 1 2", "9 window r1: 3"]


def test_the_window_is_counted_from_the_oldest_at_any_priority_even_outside_the_prefix() -> None:
    """Request 1 is oldest but of low priority and too large for the batch: its age releases 2 and 3."""
    desk = Desk(replicas=2, max_batch=4, window_ns=10, priority_levels=2)
    desk.at(0).arrives(1, rows=3, priority=1)
    desk.at(9).arrives(2, rows=1)
    assert desk.log == ["9 full r0: 2 1"]
    desk = Desk(replicas=2, max_batch=8, window_ns=10, priority_levels=2)
    desk.at(0).arrives(1, rows=3, priority=1)
    desk.at(9).arrives(2, rows=4, priority=0)
    desk.at(10).runs()
    assert desk.log == ["10 window r0: 2 1"]


def test_the_oldest_can_be_left_behind_by_its_own_window() -> None:
    desk = Desk(replicas=2, max_batch=4, window_ns=10, priority_levels=2)
    desk.at(0).arrives(9, rows=4).arrives(8, rows=4)  # both replicas busy
    desk.at(1).arrives(1, rows=3, priority=1).arrives(2, rows=2)
    desk.at(5).ends(0)
    desk.ends(1)
    assert desk.log[2:] == ["5 full r0: 2"], "five waiting rows are full; three left are not due before 11"
    assert desk.scheduler.wake_ns(5) == 11
    desk.at(11).runs()
    assert desk.log[3:] == ["11 window r1: 1"]


def test_a_window_that_ended_while_all_were_busy_is_due_at_once() -> None:
    desk = Desk(max_batch=4, window_ns=5)
    desk.at(0).arrives(0, rows=4)
    desk.at(1).arrives(1)
    desk.at(6).runs()
    assert desk.scheduler.wake_ns(6) == NEVER_NS, "its window is over: only a free slot can help"
    desk.at(20).ends(0)
    assert desk.log[1:] == ["20 window r0: 1"]


def test_a_window_due_exactly_at_an_arrival_takes_the_newcomer_along() -> None:
    """Order of one instant: arrivals come before window timers."""
    desk = Desk(max_batch=4, window_ns=5)
    desk.at(0).arrives(0).at(5).arrives(1).runs()
    assert desk.log == ["5 window r0: 0 1"]


def test_run_repeats_until_nothing_more_may_leave() -> None:
    desk = Desk(replicas=3, max_batch=2)
    for replica in range(3):
        desk.scheduler.replicas[replica].up = False
    for request_id in range(5):
        desk.arrives(request_id)
    for replica in range(3):
        desk.scheduler.up(replica)
    desk.at(1).runs()
    assert desk.log == ["1 full r0: 0 1", "1 full r1: 2 3", "1 idle r2: 4"]


# -- rule 9: batches are formed late ---------------------------------------------------------------


def test_no_batch_is_formed_before_a_slot_can_take_it() -> None:
    """Two wait behind a running batch; a third of higher priority still gets in front of them."""
    desk = Desk(max_batch=2, priority_levels=2)
    desk.arrives(0, rows=2)
    desk.at(1).arrives(1, priority=1).arrives(2, priority=1)
    desk.at(2).arrives(3)
    desk.at(3).ends(0)
    assert desk.log[1:] == ["3 full r0: 3 1"]
    assert desk.scheduler.waiting_requests == 1


def test_nothing_leaves_while_no_replica_is_up() -> None:
    desk = Desk(max_batch=1)
    desk.dies(0).arrives(0).at(7).comes_up(0)
    assert desk.log == ["7 full r0: 0"]
