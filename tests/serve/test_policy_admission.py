"""The admission leaves as a specification: who is refused, expires, or is dropped at a put-back (rules 1, 6, 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy import admission
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_PENDING,
)

UNBOUNDED = -1


@pytest.mark.parametrize(
    ("waiting_rows", "max_queue", "refused"),
    [(1, 0, 1), (4, 4, 0), (5, 4, 1), (10**9, UNBOUNDED, 0)],
    ids=["loss-system-lets-nobody-wait", "at-the-bound", "one-row-over", "unbounded"],
)
def test_a_newcomer_overflows_only_above_the_bound(waiting_rows: int, max_queue: int, refused: int) -> None:
    assert admission.overflows(waiting_rows, max_queue) == refused


def test_at_its_exact_deadline_a_request_is_not_expired() -> None:
    assert [admission.expired(100, now) for now in (99, 100, 101)] == [0, 0, 1]


def test_without_a_deadline_a_request_never_expires() -> None:
    assert admission.expired(NEVER_NS, NEVER_NS - 1) == 0


INSTANTS = st.integers(0, 6)


@given(cancelled=INSTANTS, deaths=st.integers(0, 3), max_deaths=st.integers(-1, 3), deadline=INSTANTS, now=INSTANTS)
def test_a_put_back_asks_for_cancellation_then_deaths_then_the_deadline(
    cancelled: int, deaths: int, max_deaths: int, deadline: int, now: int
) -> None:
    outcome = admission.put_back_outcome(cancelled, deaths, max_deaths, deadline, now)
    in_order = [
        (cancelled < now, OUTCOME_CANCELLED),
        (0 <= max_deaths <= deaths, OUTCOME_FAILED),
        (deadline < now, OUTCOME_EXPIRED),
        (True, OUTCOME_PENDING),
    ]
    assert outcome == next(code for holds, code in in_order if holds)


def test_a_request_that_has_nothing_against_it_waits_again() -> None:
    assert admission.put_back_outcome(NEVER_NS, 1, 2, NEVER_NS, 10**18) == OUTCOME_PENDING
