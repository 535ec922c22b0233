"""Intervals cover what they promise to, and say nothing where there is nothing to say."""

import math

import numpy as np
import pytest

from sim.intervals import Shifts, calibration_variance, ci, pi

TRIALS = 2000


def covered(hits: int) -> bool:
    """Whether so many hits of TRIALS agree with 95 %, at 4 standard errors."""
    return abs(hits / TRIALS - 0.95) < 4 * math.sqrt(0.95 * 0.05 / TRIALS)


def test_ci_covers_the_mean_where_calibration_is_exact() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(TRIALS):
        interval = ci(rng.normal(3.0, 1.0, 20), Shifts.none(20))
        assert interval is not None
        hits += interval[0] <= 3.0 <= interval[1]
    assert covered(hits)


def test_pi_covers_one_more_lognormal_run() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(TRIALS):
        interval = pi(rng.lognormal(0.0, 0.4, 20))
        assert interval is not None
        hits += interval[0] <= rng.lognormal(0.0, 0.4) <= interval[1]
    assert covered(hits)


def test_ci_carries_the_calibration_that_replications_average_out() -> None:
    """Truth: metric = 2 exp(3 x level) + noise; the calibration is off by one draw of its own bootstrap."""
    rng = np.random.default_rng(2)
    hits, widths = 0, []
    for _ in range(TRIALS):
        off = rng.normal(0, 0.02)
        shifts = Shifts(rng.normal(0, 0.02, (40, 1)), rng.normal(0, 0.02, 40))
        values = 2 * (1 + 3 * (off + shifts.calibration[:, 0] + shifts.level)) + rng.normal(0, 0.02, 40)
        interval = ci(values, shifts)
        assert interval is not None
        hits += interval[0] <= 2.0 <= interval[1]
        widths.append(interval[1] - interval[0])
    assert hits / TRIALS > 0.93
    assert np.mean(widths) < 2 * 2.2 * 2 * 3 * 0.02 * math.sqrt(1 + 2 / 40) * 1.15


def test_a_metric_that_does_not_respond_gets_no_calibration_variance() -> None:
    rng = np.random.default_rng(3)
    added, sampling = [], []
    for _ in range(300):
        values, shifts = rng.normal(0, 1, 20), Shifts(rng.normal(0, 0.02, (20, 1)), np.zeros(20))
        added.append(calibration_variance(values, shifts))
        sampling.append(values.var(ddof=1) / 20)
    assert np.median(added) == 0
    assert np.mean(added) < np.mean(sampling)


def test_what_responds_to_the_tail_alone_has_the_tails_uncertainty() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        logs = rng.normal(0, 1, (30, 2)) @ np.array([[0.01, 0.01], [0.0, 0.03]])
        found.append(calibration_variance(4 * logs[:, 1] + rng.normal(0, 0.01, 30), Shifts(logs, np.zeros(30))))
    assert np.mean(found) == pytest.approx(16 * (0.01**2 + 0.03**2), rel=0.1)


def test_pi_narrows_to_the_spread_not_to_zero() -> None:
    values = np.random.default_rng(4).lognormal(0, 0.1, 1000)
    interval = pi(values)
    assert interval is not None
    assert interval[0] == pytest.approx(math.exp(-0.196), rel=0.02)
    assert interval[1] == pytest.approx(math.exp(0.196), rel=0.02)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]], ids=["none", "one", "nan", "inf"])
def test_too_little_to_say(values: list[float]) -> None:
    assert ci(values, Shifts.none(len(values))) is None
    assert pi(values) is None


def test_equal_values_have_no_width() -> None:
    assert ci([0.0] * 5, Shifts.none(5)) == (0.0, 0.0)
    assert pi([0.0] * 5) == (0.0, 0.0)
    assert pi([7.0] * 5) == (7.0, 7.0)


def test_shares_stay_within_their_bounds_even_when_some_are_zero() -> None:
    values = [0.0, 0.0, 0.01, 0.0, 0.3]
    for interval in (ci(values, Shifts.none(5), (0.0, 1.0)), pi(values, (0.0, 1.0))):
        assert interval is not None
        assert 0.0 == interval[0] < interval[1] <= 1.0
    near_one = pi([0.99, 0.98, 1.0, 0.97], (0.0, 1.0))
    assert near_one is not None
    assert near_one[1] == 1.0


def test_two_values_give_wide_but_finite_intervals() -> None:
    interval = pi([1.0, 2.0])
    assert interval is not None
    assert 0 < interval[0] < 1e-3
    assert 1e3 < interval[1] < math.inf
