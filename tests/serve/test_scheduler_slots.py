"""Stories of the scheduler: which replica and which slot takes a batch (rules 4 and 5)."""

from __future__ import annotations

from tests.serve.scheduling import Desk

# -- rule 4: choice --------------------------------------------------------------------------------


def test_the_lowest_idle_id_is_taken_so_that_high_ids_idle() -> None:
    desk = Desk(replicas=3, max_batch=1)
    desk.arrives(0).arrives(1)
    desk.at(1).ends(0)
    desk.at(2).arrives(2).arrives(3)
    assert desk.log == ["0 full r0: 0", "0 full r1: 1", "2 full r0: 2", "2 full r2: 3"]


def test_fewest_occupied_slots_come_before_the_lowest_id() -> None:
    desk = Desk(replicas=2, max_batch=1, slots=2)
    for request_id in range(5):
        desk.arrives(request_id)
    assert desk.log == ["0 full r0: 0", "0 full r1: 1", "0 full r0 second slot: 2", "0 full r1 second slot: 3"]


def test_down_and_draining_replicas_take_nothing() -> None:
    desk = Desk(replicas=3, max_batch=1)
    desk.dies(0).drains_replica(1)
    desk.arrives(0).arrives(1)
    assert desk.log == ["0 full r2: 0"]
    desk.at(3).comes_up(0)
    assert desk.log[1:] == ["3 full r0: 1"]


# -- rule 5: slots ---------------------------------------------------------------------------------


def test_the_second_slot_takes_only_full_batches() -> None:
    desk = Desk(max_batch=2, slots=2)
    desk.arrives(0)
    desk.at(1).arrives(1)
    assert desk.log == ["0 idle r0: 0"], "one row waits: not full, and the replica is running"
    desk.at(2).arrives(2)
    assert desk.log[1:] == ["2 full r0 second slot: 1 2"]


def test_a_full_reason_counts_for_the_second_slot_whatever_the_rows() -> None:
    """Four rows wait, so the reason is full, though the prefix that fits holds only three."""
    desk = Desk(max_batch=4, slots=2)
    desk.arrives(0, rows=4).arrives(1, rows=3).arrives(2, rows=2)
    assert desk.log == ["0 full r0: 0", "0 full r0 second slot: 1"]
    assert desk.batches[1].rows == 3


def test_neither_window_nor_drain_releases_into_the_second_slot() -> None:
    desk = Desk(max_batch=4, slots=2, window_ns=5)
    desk.arrives(0, rows=4).arrives(1)
    desk.at(5).runs().drains()
    assert desk.log == ["0 full r0: 0"]
    desk.at(6).ends(0)
    assert desk.log[1:] == ["6 drain r0: 1"]


def test_a_batch_in_the_second_slot_starts_when_the_one_before_it_ends() -> None:
    desk = Desk(max_batch=1, slots=2)
    desk.arrives(0).arrives(1)
    second = desk.batches[1]
    assert (second.dispatch_ns, second.start_ns) == (0, -1)
    desk.at(8).ends(0)
    assert (second.start_ns, second.ended_ns) == (8, -1)
    desk.at(11).ends(0)
    assert second.ended_ns == 11
    assert desk.log == ["0 full r0: 0", "0 full r0 second slot: 1", "8 start r0: 1"]


def test_a_slot_stays_occupied_until_its_finish() -> None:
    """Ended with its finish pending counts as running: a partial batch waits, with one slot all batches wait."""
    desk = Desk(max_batch=2)
    desk.arrives(0, rows=2)
    ended = desk.at(4).ends(0, finish=False)
    desk.arrives(1, rows=2)
    assert desk.log == ["0 full r0: 0"]
    desk.at(6).finishes(ended)
    assert desk.log[1:] == ["6 full r0: 1"]


def test_a_full_batch_starts_at_once_in_the_second_slot_of_a_replica_whose_finish_is_pending() -> None:
    desk = Desk(max_batch=2, slots=2)
    desk.arrives(0, rows=2)
    ended = desk.at(4).ends(0, finish=False)
    desk.arrives(1)
    assert desk.log == ["0 full r0: 0"], "partial: it waits for an idle replica"
    desk.at(5).arrives(2)
    assert desk.log[1:] == ["5 full r0: 1 2"], "nothing runs there, so it starts at once"
    desk.at(6).finishes(ended)
    assert [batch.id for batch in desk.scheduler.replicas[0].batches] == [1]


def test_a_third_batch_waits_for_a_slot() -> None:
    desk = Desk(max_batch=1, slots=2)
    desk.arrives(0).arrives(1).arrives(2)
    first = desk.at(1).ends(0, finish=False)
    assert desk.log[2:] == ["1 start r0: 1"], "the finish of the first is pending: both slots are occupied"
    desk.at(2).finishes(first)
    assert desk.log[3:] == ["2 full r0 second slot: 2"]


def test_running_counts_replicas_that_compute_and_in_flight_counts_occupied_slots() -> None:
    desk = Desk(replicas=2, max_batch=1, slots=2)
    desk.arrives(0).arrives(1).arrives(2)
    assert (desk.scheduler.running, desk.scheduler.in_flight) == (2, 3)
    ended = desk.at(1).ends(1, finish=False)
    assert (desk.scheduler.running, desk.scheduler.in_flight) == (1, 3)
    desk.finishes(ended)
    assert (desk.scheduler.running, desk.scheduler.in_flight) == (1, 2)


def test_before_rule_3_has_run_the_scheduler_sees_a_batch_that_may_leave() -> None:
    """What the simulators assert after each event is not true of every state."""
    desk = Desk(max_batch=2, window_ns=5)
    desk.arrives(0, run=False)
    assert not desk.scheduler.may_dispatch(4)
    assert desk.scheduler.may_dispatch(5)
    desk.at(5).runs()
    assert not desk.scheduler.may_dispatch(5)
