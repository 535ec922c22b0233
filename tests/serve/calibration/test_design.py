"""The experiment visits every cell, in random order, with requests that become batches of their own."""

from dataclasses import replace

import numpy as np
import pytest

from serve.calibration import design
from serve.calibration.design import Episode, Scale, coarse, cycle, neighbour_levels, plan_of, row_grid
from serve.load_plan import CLOSED_FIRST_ID, InputData, Target, build_forms, faults

TARGETS = tuple(
    Target(name, (InputData("x", "FP32", np.ones((2, 3), np.float32)),))
    for name in (design.SOLO, design.CROWD, design.NULL)
)
GRID = [1, 2, 3, 4]
SCALE = Scale(tuple(GRID), (0.002, 0.0025, 0.003, 0.0035), 1000.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def seed() -> np.ndarray:
    return np.array([1, 2], np.int64)


def test_the_grid_holds_powers_of_two_their_halfway_points_and_the_largest():
    assert row_grid(1) == [1]
    assert row_grid(2) == [1, 2]
    assert row_grid(32) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    assert row_grid(10) == [1, 2, 3, 4, 6, 8, 10]
    assert coarse(row_grid(10)) == [1, 2, 4, 8, 10]


def test_neighbours_are_tried_one_by_one_and_then_by_doubling():
    assert neighbour_levels(1) == [0]
    assert neighbour_levels(2) == [0, 1]
    assert neighbour_levels(8) == [0, 1, 2, 3, 4, 7]


def test_a_cycle_has_every_kind_of_episode_in_an_order_of_its_own():
    first, second = (cycle([0, 1], SCALE, 60.0, generator) for generator in (rng(), np.random.default_rng(6)))
    for episodes in (first, second):
        assert {(e.solo, e.crowd) for e in episodes if e.solo and not e.null} == {(1, 0), (2, 0), (1, 1), (2, 1)}
        assert any(e.null for e in episodes) and any(e.refused for e in episodes) and any(e.joined for e in episodes)
    assert [e.crowd for e in first] != [e.crowd for e in second]


def test_episodes_shrink_so_that_every_kind_comes_twice_in_a_short_time():
    assert sum(e.seconds for e in cycle([0, 1], SCALE, 3.0, rng())) == pytest.approx(1.5)


def test_an_episode_lasts_for_some_of_its_largest_batches():
    assert (
        max(e.seconds for e in cycle([0], replace(SCALE, times_s=(0.2,) * 4), 1e9, rng()))
        >= design.EPISODE_BATCHES * 0.2
    )


def test_each_client_asks_its_own_model_for_rows_of_the_grid():
    plan = plan_of(Episode(0.5, solo=2, crowd=1, think_s=0.01), GRID, TARGETS, 100, 0.002, seed())
    assert faults(plan) == []
    closed = plan.closed
    assert closed is not None and closed.clients == 3
    assert closed.first_id == CLOSED_FIRST_ID + 100
    rows, target = closed.rows.reshape(-1, 3), closed.target.reshape(-1, 3)
    assert np.all(target == [0, 0, 1])
    assert set(rows.reshape(-1).tolist()) == set(GRID)
    assert closed.thinks_ns.mean() == pytest.approx(0.01e9, rel=0.1)
    assert len(build_forms(plan, "h:1").forms) == 2 * len(GRID)


def test_the_null_model_gets_rows_that_it_takes_and_rows_that_it_refuses():
    closed = plan_of(Episode(0.5, null=1, refused=1), GRID, TARGETS, 0, 0.002, seed()).closed
    rows = closed.rows.reshape(-1, 2)
    assert np.all(closed.target == 2)
    assert np.all(rows[:, 0] == design.NULL_ROWS)
    assert np.all((rows[:, 1] > design.NULL_ROWS) & (rows[:, 1] <= GRID[-1]))
    lone = plan_of(Episode(0.5, refused=1), [1], TARGETS, 0, 0.002, seed()).closed
    assert np.all(lone.rows == 2), "a model of batch 1 is refused with two rows all the same"


def test_others_arrive_in_the_background_at_their_own_pace_and_are_refused():
    episodes = [e for e in cycle([0, 1], SCALE, 60.0, rng()) if e.background]
    assert {(e.solo, e.crowd) for e in episodes} == {(1, 0), (2, 0), (1, 1), (2, 1)}
    for level in (0, 1):
        assert {e.centre // 2 for e in episodes if e.crowd == level} == {0, 1}, "a small and a large size each"
    for e in episodes:
        share = e.background / e.background_s / SCALE.arrivals_rps(e.centre)
        assert design.ARRIVALS_SHARE[0] <= share <= design.ARRIVALS_SHARE[1]
    assert [SCALE.arrivals_rps(k) for k in (0, 3)] == [500.0, 1000.0], "its own rate, up to what is allowed"
    closed = plan_of(
        Episode(0.5, solo=1, background=2, think_s=0.5, background_s=0.004), GRID, TARGETS, 0, 1.0, seed()
    ).closed
    assert np.all(closed.target.reshape(-1, 3) == [0, 2, 2])
    assert np.all(closed.rows.reshape(-1, 3)[:, 1:] == design.NULL_ROWS + 1)
    thinks_ns = closed.thinks_ns.reshape(-1, 3)
    assert thinks_ns[:, 1:].mean() == pytest.approx(4e6, rel=0.2)
    assert len(thinks_ns) > 0.5 / 0.004, "enough for its own pace, not only for the slow client's"


def test_rows_are_drawn_about_an_episode_s_centre_and_every_size_occurs():
    drawn = plan_of(Episode(2.0, solo=1, centre=2), GRID, TARGETS, 0, 0.001, seed()).closed.rows
    counts = np.bincount(drawn, minlength=5)[1:]
    assert counts.argmax() == 2
    assert counts.min() > 0.05 * counts.max()


def test_joining_clients_send_single_rows():
    closed = plan_of(Episode(0.5, joined=6), GRID, TARGETS, 0, 0.002, seed()).closed
    assert closed.clients == 6
    assert np.all(closed.rows == 1) and np.all(closed.target == 0)


def test_the_same_seed_gives_the_same_plan_and_another_another():
    plans = [
        plan_of(Episode(0.5, solo=1, think_s=0.01), GRID, TARGETS, 0, 0.002, np.array([1, n], np.int64)).closed.rows
        for n in (2, 2, 3)
    ]
    assert np.array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


def test_rests_are_those_of_loads_from_nearly_none_to_nearly_full():
    rng = np.random.default_rng(1)
    scale = Scale((1, 2, 4, 8), (0.001, 0.0015, 0.0025, 0.004), 1e6)
    rested = [e for _ in range(200) for e in cycle([0], scale, 100.0, rng) if e.rested]
    busy = np.array([scale.times_s[e.centre] / (scale.times_s[e.centre] + e.think_s) for e in rested])
    assert len(rested) == 400 and not any(e.background for e in rested)
    assert 0.02 <= busy.min() < 0.1 and 0.85 < busy.max() <= 0.95
    assert busy.mean() == pytest.approx(0.485, abs=0.05)
