"""What the router does after a failure (rule 17): retries within a budget, backoff, ejection, hedges. Leaves.

Sources: retry budgets as in Envoy (`retry_budget`: 20 % of what is outstanding, at least 3) and Finagle; backoff with
full jitter (Envoy's `base_interval`; Brooker, "Exponential backoff and jitter", AWS architecture blog, 2015);
ejection as in Envoy's outlier detection (`consecutive_5xx` 5, `base_ejection_time` 30 s times the number of ejections,
`max_ejection_percent` 10, but at least one host); hedges as in Dean and Barroso, "The tail at scale", CACM 56(2), 2013.
"""

from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_LOST,
)

BUDGET_MIN = 3
"""Retries in flight that are always allowed."""
SHIFT_MAX = 62
"""Bits that an int64 can be shifted by."""
LARGEST = 2**63 - 1
"""Of an int64."""
ATTEMPTS_MAX = 63
"""Attempts of one request, for the index of its events."""


def retryable(outcome):
    """Whether an attempt that ended so may be sent again: it was lost with its node, or its node would not take it."""
    if outcome in (OUTCOME_LOST, OUTCOME_FULL, OUTCOME_DRAINING):
        return 1
    return 0


def within_budget(in_flight, outstanding, budget_percent):
    """Whether one more retry or hedge may be sent beside `in_flight` of them, with so many requests outstanding."""
    if in_flight < BUDGET_MIN or in_flight * 100 < outstanding * budget_percent:
        return 1
    return 0


def backoff_ns(base_ns, most_ns, retries, draw):
    """How long to wait before the retry after `retries` of them: a uniform share of the base, doubled for each.

    Parameters
    ----------
    base_ns, most_ns : the first retry waits less than `base_ns`, none longer than `most_ns`; below 2**41 (36 min).
    draw : in [0, 2**31), keyed by (request id, attempt).
    """
    span_ns = most_ns
    if retries < SHIFT_MAX and base_ns <= most_ns >> retries:
        span_ns = base_ns << retries
    return (span_ns >> 10) * draw >> 21


def judged(outcome):
    """What an answer says of its node: 1 that it fails, 0 nothing, -1 that it works."""
    if outcome == OUTCOME_CANCELLED:
        return 0
    if outcome in (OUTCOME_LOST, OUTCOME_FAILED, OUTCOME_EXPIRED, OUTCOME_FULL, OUTCOME_DRAINING):
        return 1
    return -1


def ejections_max(nodes, percent):
    """How many of `nodes` may be ejected at once."""
    return max(1, nodes * percent // 100)


def ejected_ns(base_ns, ejections):
    """How long a node stays ejected, of which this is the `ejections`-th time."""
    return base_ns * ejections


def hedge_ns(fixed_ns, p95_ns):
    """How long after the first attempt a hedge is sent: a fixed delay, else (negative) the p95 of late answers."""
    if fixed_ns >= 0:
        return fixed_ns
    return p95_ns


def hedge_draw(draw):
    """What a hedge's draw is made of, so that it is another one than that of a retry of the same attempt."""
    return LARGEST - draw
