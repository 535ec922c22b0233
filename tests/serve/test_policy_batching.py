"""The batching leaves as a specification: when a batch may leave, which slot takes it, what fits (rules 2, 3, 5)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy import batching
from serve.policy.codes import (
    EVENT_ARRIVAL,
    NEVER_NS,
    POLICY_FOREBAY,
    REASON_DRAIN,
    REASON_FULL,
    REASON_IDLE,
    REASON_NONE,
    REASON_WINDOW,
)


@dataclass(frozen=True)
class Queue:
    """What a policy is shown of a queue, and its parameters."""

    max_batch: int
    window_ns: int
    waiting_rows: int
    oldest_ns: int
    age_ns: int
    draining: bool = False

    def step(self, age_ns: int | None = None) -> tuple[int, int, int]:
        """The leaf's answer when the oldest is `age_ns` old."""
        now_ns = self.oldest_ns + (self.age_ns if age_ns is None else age_ns)
        view = (self.waiting_rows, self.oldest_ns, int(self.draining))
        answer: tuple[int, int, int] = batching.step(
            POLICY_FOREBAY, (self.max_batch, self.window_ns), None, EVENT_ARRIVAL, now_ns, view
        )
        return answer


QUEUES = st.builds(
    Queue,
    max_batch=st.integers(1, 64),
    window_ns=st.integers(0, 50),
    waiting_rows=st.integers(1, 80),
    oldest_ns=st.integers(0, 10**15),
    age_ns=st.integers(0, 100),
    draining=st.booleans(),
)


@pytest.mark.parametrize(
    ("queue", "answer"),
    [
        (Queue(4, 5, 0, 100, 0), (0, REASON_NONE, NEVER_NS)),
        (Queue(4, 5, 3, 100, 4), (0, REASON_NONE, 105)),
        (Queue(4, 5, 3, 100, 5), (4, REASON_WINDOW, NEVER_NS)),
        (Queue(4, 5, 4, 100, 0), (4, REASON_FULL, NEVER_NS)),
        (Queue(4, 5, 9, 100, 90, draining=True), (4, REASON_FULL, NEVER_NS)),
        (Queue(4, 5, 3, 100, 0, draining=True), (4, REASON_DRAIN, NEVER_NS)),
        (Queue(4, 0, 3, 100, 0, draining=True), (4, REASON_DRAIN, NEVER_NS)),
        (Queue(4, 0, 1, 100, 0), (4, REASON_IDLE, NEVER_NS)),
        (Queue(1, 5, 1, 100, 0), (1, REASON_FULL, NEVER_NS)),
    ],
    ids=[
        "empty-waits-for-nothing",
        "young-and-partial-waits-until-its-window-ends",
        "due-at-the-very-instant",
        "full-at-once",
        "full-before-drain-and-window",
        "drain-before-window",
        "drain-before-idle",
        "no-window-is-idle",
        "batches-of-one-never-wait",
    ],
)
def test_reasons_and_their_order(queue: Queue, answer: tuple[int, int, int]) -> None:
    assert queue.step() == answer


@given(queue=QUEUES)
def test_a_batch_is_offered_max_batch_rows_or_none(queue: Queue) -> None:
    rows, reason, _ = queue.step()
    assert rows in (0, queue.max_batch)
    assert (rows == 0) == (reason == REASON_NONE)


@given(queue=QUEUES)
def test_what_waits_asks_to_be_woken_exactly_when_its_answer_changes(queue: Queue) -> None:
    """Not a nanosecond early, not a nanosecond late; what may leave needs no timer."""
    _, reason, wake_ns = queue.step()
    if reason != REASON_NONE:
        assert wake_ns == NEVER_NS
        return
    due = wake_ns - queue.oldest_ns
    assert due == queue.window_ns > queue.age_ns
    assert queue.step(due - 1)[1] == REASON_NONE
    assert queue.step(due)[1] == REASON_WINDOW


@given(queue=QUEUES, later=st.integers(0, 1000))
def test_what_may_leave_may_still_leave_later(queue: Queue, later: int) -> None:
    """A window that is over stays over: a queue that waits for a slot loses nothing by it."""
    if queue.step()[0]:
        assert queue.step(queue.age_ns + later) == queue.step()


@given(queue=QUEUES, more=st.integers(0, 100))
def test_more_rows_never_hold_a_batch_back(queue: Queue, more: int) -> None:
    grown = Queue(
        queue.max_batch,
        queue.window_ns,
        queue.waiting_rows + more,
        queue.oldest_ns,
        queue.age_ns,
        queue.draining,
    )
    assert grown.step()[0] >= queue.step()[0]


@pytest.mark.parametrize("reason", [REASON_FULL, REASON_WINDOW, REASON_IDLE, REASON_DRAIN])
@pytest.mark.parametrize("slots", [1, 2])
def test_an_idle_replica_takes_every_reason_a_running_one_only_full_ones_and_only_into_a_free_slot(
    slots: int, reason: int
) -> None:
    assert batching.slot_takes(0, slots, reason) == 1
    assert batching.slot_takes(1, slots, reason) == int(slots == 2 and reason == REASON_FULL)
    assert batching.slot_takes(2, slots, reason) == 0


@given(taken=st.integers(0, 64), rows=st.integers(1, 64), max_batch=st.integers(1, 64))
def test_a_request_fits_if_the_batch_stays_within_max_batch(taken: int, rows: int, max_batch: int) -> None:
    assert batching.fits(taken, rows, max_batch) == int(taken + rows <= max_batch)
