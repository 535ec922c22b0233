"""Error budgets by hand: shares, windows, burn rates, recovery."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.error_budget import (
    Record,
    budget_left,
    burn_rate,
    metrics,
    recovered_after_s,
    recovery_s,
    windows_within,
    within,
)


def record(bad: list[int], each: int = 100, bin_s: float = 60.0, objective: float = 0.99) -> Record:
    """So many bad requests of 100 in each minute."""
    total = np.full(len(bad), each)
    return Record(total - np.array(bad, np.int64), total, bin_s, objective)


def test_a_budget_is_what_the_objective_leaves() -> None:
    half = record([1, 0] * 10)  # 10 bad of 2,000, of which 20 may be
    assert within(half) == pytest.approx(0.995)
    assert budget_left(half) == pytest.approx(0.5)
    assert budget_left(record([2] * 4)) == pytest.approx(-1.0)


def test_windows_are_judged_each_by_itself() -> None:
    spoilt = record([0] * 5 + [6, 0, 0, 0, 0] + [5, 0, 0, 0, 0] + [0, 0])
    assert windows_within(spoilt) == pytest.approx(3 / 4), "6 of 500 are too many, 5 are not; the last is short"


@pytest.mark.parametrize(("window_s", "rate"), [(60, 50.0), (120, 25.0), (240, 12.5), (9999, 50 / 6)])
def test_the_worst_window_burns_the_faster_the_shorter_it_is(window_s: float, rate: float) -> None:
    assert burn_rate(record([0, 0, 50, 0, 0, 0]), window_s) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("bad", "at_s", "after_s"),
    [
        ([0, 0, 0, 0], 60, 0.0),
        ([0, 0, 9, 9, 0, 0], 120, 120.0),
        ([0, 0, 9, 9, 0, 0], 150, 90.0),
        ([0, 0, 9, 0, 9, 0], 120, 180.0),
        ([9, 0, 0, 0], 60, 0.0),
        ([0, 9, 9, 9], 60, math.inf),
    ],
)
def test_recovery_counts_from_the_event_to_the_last_missed_window(bad: list[int], at_s: float, after_s: float) -> None:
    assert recovered_after_s(record(bad), at_s) == after_s


@pytest.mark.parametrize(
    ("bad", "after_s"),
    [([0, 0, 0], 0.0), ([0, 9, 0, 0], 60.0), ([0, 9, 0, 9, 0], 180.0), ([0, 0, 9], math.inf), ([9, 0, 0], 60.0)],
)
def test_recovery_without_an_event_begins_with_the_first_miss(bad: list[int], after_s: float) -> None:
    assert recovery_s(record(bad)) == after_s
    assert metrics(record(bad))["recovery"] == after_s


def test_a_record_of_no_bins_says_nothing() -> None:
    assert all(math.isnan(value) for value in metrics(record([])).values())


def test_nothing_that_happened_is_nothing_missed() -> None:
    empty = record([0, 0, 0], each=0)
    assert math.isnan(within(empty))
    assert (windows_within(empty), budget_left(empty), burn_rate(empty, 60.0)) == (1.0, 1.0, 0.0)
    assert recovered_after_s(empty, 0.0) == 0.0
    none = Record(np.zeros(0, np.int64), np.zeros(0, np.int64), 60.0, 0.99)
    assert math.isnan(windows_within(none)) and burn_rate(none, 60.0) == 0.0


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(1, 40))
def test_a_burn_rate_of_one_uses_the_budget_up(bad: list[int], minutes: int) -> None:
    run = record(bad)
    whole = burn_rate(run, 60.0 * len(bad))
    assert whole == pytest.approx(1 - budget_left(run))
    assert burn_rate(run, 60.0 * minutes) >= whole - 1e-9 or minutes >= len(bad) or len(bad) % minutes


@pytest.mark.parametrize(
    ("good", "total", "bin_s", "objective"),
    [([2], [1], 60, 0.9), ([-1], [1], 60, 0.9), ([1], [1, 1], 60, 0.9), ([1], [1], 0, 0.9), ([1], [1], 60, 1.0)],
)
def test_what_cannot_be_is_refused(good: list[int], total: list[int], bin_s: float, objective: float) -> None:
    with pytest.raises(ValueError, match="must"):
        Record(np.array(good), np.array(total), bin_s, objective)
