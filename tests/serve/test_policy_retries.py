"""Retries, backoff, ejection and hedges of rule 17."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy import codes
from serve.policy.retries import backoff_ns, ejected_ns, ejections_max, hedge_ns, retryable, within_budget

MS = 1_000_000


def test_only_what_its_node_did_not_serve_is_sent_again() -> None:
    again = {name for name in dir(codes) if name.startswith("OUTCOME_") and retryable(getattr(codes, name))}
    assert again == {"OUTCOME_LOST", "OUTCOME_FULL", "OUTCOME_DRAINING"}


@pytest.mark.parametrize(
    ("in_flight", "outstanding", "allowed"), [(0, 0, 1), (2, 0, 1), (3, 0, 0), (3, 15, 0), (3, 16, 1), (20, 100, 0)]
)
def test_a_fifth_of_what_is_outstanding_may_be_retries_and_three_always(
    in_flight: int, outstanding: int, allowed: int
) -> None:
    assert within_budget(in_flight, outstanding, 20) == allowed


@pytest.mark.parametrize(("done", "most"), [(0, 25), (1, 50), (2, 100), (3, 200), (4, 250), (60, 250)])
def test_backoff_doubles_up_to_its_bound(done: int, most: int) -> None:
    longest = backoff_ns(25 * MS, 250 * MS, done, 2**31 - 1)
    assert longest == pytest.approx(most * MS, rel=1e-3)
    assert longest < most * MS
    assert backoff_ns(25 * MS, 250 * MS, done, 2**30) == pytest.approx(most * MS / 2, rel=1e-3)
    assert backoff_ns(25 * MS, 250 * MS, done, 0) == 0


@given(
    base=st.integers(0, 2**41 - 1),
    most=st.integers(0, 2**41 - 1),
    done=st.integers(0, 62),
    draw=st.integers(0, 2**31 - 1),
)
def test_no_product_leaves_int64(base: int, most: int, done: int, draw: int) -> None:
    assert 0 <= backoff_ns(base, most, done, draw) <= most
    with np.errstate(over="raise"):
        wrapped = backoff_ns(np.int64(base), np.int64(most), np.int64(done), np.int64(draw))
    assert wrapped == backoff_ns(base, most, done, draw)


@pytest.mark.parametrize(("nodes", "most"), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (100, 10)])
def test_a_tenth_may_be_ejected_and_one_always(nodes: int, most: int) -> None:
    assert ejections_max(nodes, 10) == most


def test_each_ejection_lasts_longer_than_the_one_before() -> None:
    assert [ejected_ns(30, n) for n in (1, 2, 3)] == [30, 60, 90]


def test_a_hedge_waits_for_its_delay_or_for_what_is_late() -> None:
    assert (hedge_ns(5, 9), hedge_ns(0, 9), hedge_ns(-1, 9)) == (5, 0, 9)
