"""Admission, expiry and put-back: who is let in and who leaves the queue unserved (rules 1, 6, 8)."""

from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_PENDING,
)


def overflows(waiting_rows, max_queue):
    """Whether a newcomer that still waits is refused (rule 1).

    `waiting_rows` counts the rows, its own included, that wait at its own and higher priorities;
    `max_queue` < 0 means unbounded.
    """
    if max_queue >= 0 and waiting_rows > max_queue:
        return 1
    return 0


def expired(deadline_ns, now_ns):
    """Whether a waiting request's deadline has passed (rule 6): at its exact instant it may still leave."""
    if deadline_ns < now_ns:
        return 1
    return 0


def put_back_outcome(cancelled_ns, deaths, max_deaths, deadline_ns, now_ns):
    """What becomes of a request whose replica died at `now_ns` (rule 8): OUTCOME_PENDING means it waits again.

    `cancelled_ns` is when its client gave up (NEVER_NS: it did not); `deaths` includes this one if
    the batch had started; `max_deaths` < 0 means unbounded.
    """
    if cancelled_ns < now_ns:
        return OUTCOME_CANCELLED
    if max_deaths >= 0 and deaths >= max_deaths:
        return OUTCOME_FAILED
    if deadline_ns < now_ns:
        return OUTCOME_EXPIRED
    return OUTCOME_PENDING
