"""Rule 18: a rolling update keeps its bounds at every step and ends; versions get their shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.scaling.rollout import (
    Count,
    RollingSettings,
    RollingStep,
    given_up,
    rolled,
    rolling,
    split,
    thresholds,
)

QUARTER = RollingSettings()


@pytest.mark.parametrize(
    ("settings", "wanted", "bounds"),
    [
        (QUARTER, 10, (3, 2)),
        (QUARTER, 4, (1, 1)),
        (QUARTER, 1, (1, 0)),
        (RollingSettings(2, 0), 10, (2, 0)),
        (RollingSettings(0, 0), 10, (0, 1)),
        (RollingSettings(0.1, 0.1), 10, (1, 1)),
    ],
)
def test_shares_round_so_that_there_is_never_too_little(
    settings: RollingSettings, wanted: int, bounds: tuple[int, int]
) -> None:
    assert settings.bounds(wanted) == bounds


# Kubernetes' own cases: TestDeploymentController_reconcileNewReplicaSet and ...reconcileOldReplicaSets.
@pytest.mark.parametrize(
    ("replicas", "surge", "old", "new", "scaled_to"),
    [(10, 0, 10, 0, 0), (10, 2, 10, 0, 2), (10, 2, 5, 0, 7), (10, 2, 10, 2, 2)],
)
def test_reconcile_new_replica_set(replicas: int, surge: int, old: int, new: int, scaled_to: int) -> None:
    step = rolling(RollingSettings(surge, 0 if surge else 1), replicas, Count(old), Count(new))
    assert new + step.start == scaled_to


@pytest.mark.parametrize(
    ("unavailable", "old", "new", "ready_old", "ready_new", "left"),
    [(0, 10, 0, 10, 0, 10), (2, 10, 0, 10, 0, 8), (2, 10, 0, 8, 0, 8), (2, 10, 0, 9, 0, 8), (2, 8, 2, 8, 0, 8)],
)
def test_reconcile_old_replica_sets(
    unavailable: int, old: int, new: int, ready_old: int, ready_new: int, left: int
) -> None:
    settings = RollingSettings(0 if unavailable else 1, unavailable)
    counts = Count(ready_old, old - ready_old), Count(ready_new, new - ready_new)
    step = rolling(settings, 10, *counts)
    assert old - step.end_other - step.drain == left


@given(
    wanted=st.integers(1, 40),
    surge=st.one_of(st.integers(0, 5), st.floats(0, 1)),
    unavailable=st.one_of(st.integers(0, 5), st.floats(0, 1)),
    data=st.data(),
)
def test_a_rollout_keeps_its_bounds_and_ends(
    wanted: int, surge: float | int, unavailable: float | int, data: st.DataObject
) -> None:
    settings = RollingSettings(surge, unavailable)
    most, missing = settings.bounds(wanted)
    old, new = Count(wanted), Count(0)
    for _ in range(4 * wanted + 4):
        step = rolling(settings, wanted, old, new)
        old = Count(old.available - step.drain, old.other - step.end_other)
        new = Count(new.available, new.other + step.start)
        assert old.total + new.total <= wanted + most + step.drain + step.end_other
        assert old.available + new.available >= wanted - missing
        assert new.total <= wanted
        if rolled(wanted, old, new):
            return
        ready = data.draw(st.integers(min(1, new.other), new.other))
        new = Count(new.available + ready, new.other - ready)
    assert rolled(wanted, old, new), "it has to end"


def test_what_is_not_available_ends_first() -> None:
    assert rolling(RollingSettings(0, 2), 10, Count(8, 2), Count(0)) == RollingStep(0, 2, 0)


def test_a_step_is_given_up_when_it_stands_still_or_fails() -> None:
    assert given_up(599, 600, 0, 0, 0.05) == ""
    assert "no replica became available" in given_up(600, 600, 0, 0, 0.05)
    assert given_up(0, 600, 5, 100, 0.05) == ""
    assert "6 of 100 requests failed, over 5.0%" in given_up(0, 600, 6, 100, 0.05)


@pytest.mark.parametrize(
    ("wanted", "shares", "counts"),
    [(20, [0.95, 0.05], [19, 1]), (3, [0.5, 0.5], [2, 2]), (10, [0.1] * 10, [1] * 10), (7, [1.0, 0.0], [7, 0])],
)
def test_the_wanted_count_is_split_by_traffic(wanted: int, shares: list[float], counts: list[int]) -> None:
    assert split(wanted, shares) == counts


def test_draws_fall_to_versions_by_their_shares() -> None:
    assert thresholds([1.0]) == [2**31]
    assert thresholds([0.25, 0.0, 0.75]) == [2**29, 2**29, 2**31]
    assert thresholds([1.0, 0.0]) == [2**31, 2**31], "no draw is left to a version without traffic"
    assert thresholds([0.1] * 10)[-1] == 2**31
