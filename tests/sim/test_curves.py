"""Rates over time: the curve is the stated one, the change of time inverts it, and what comes of it is Poisson."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sim.curves import RateCurve, curve_of
from sim.law_moments import expected_requests
from sim.law_parts import kind
from sim.laws import Arrivals
from sim.time_change import OperationalClock, crossing_s
from tests.sim.point_processes import Floats, S, assert_mean, instants

H = 3600.0


@dataclass(frozen=True)
class Case:
    """A law, how long it runs, and the rate that its definition gives at seconds since the start."""

    law: dict[str, Any]
    seconds: float
    rate: Callable[[Floats], Floats]
    bins: int

    @property
    def curve(self) -> RateCurve:
        """The curve of the law."""
        return curve_of(kind(Arrivals.model_validate(self.law))[1], round(self.seconds * S))

    def grid(self, per_bin: int) -> tuple[Floats, Floats]:
        """Seconds, and the integral of the rate up to each, by trapezoids."""
        at_s = np.linspace(0, self.seconds, self.bins * per_bin + 1)
        middle = self.rate((at_s[1:] + at_s[:-1]) / 2)
        return at_s, np.concatenate([[0.0], np.cumsum(middle * np.diff(at_s))])


def at_hours(knots: list[float], values: list[float]) -> Callable[[Floats], Floats]:
    """Straight lines between knots in hours."""
    return lambda at_s: np.interp(at_s / H, knots, values)


def polygon(knots: list[float], values: list[float]) -> Callable[[Floats], Floats]:
    """Straight lines between knots in seconds."""
    return lambda at_s: np.interp(at_s, knots, values)


WEEK = [1, 1, 1, 1, 1, 0.5, 0.25]
WEEK_MEAN = (5 * 1 + 0.5 + 0.25) / 7
CASES = {
    # 0.5/s at night and 1.5/s by day, seen from 18:00 on.
    "steps": Case(
        {"diurnal": {"mean": "1/s", "hours": [1, 3], "between": "step", "offset": "18h"}},
        48 * H,
        lambda at_s: np.where((at_s / H + 18) % 24 < 12, 0.5, 1.5),
        48,
    ),
    # Middles of four steps of 6 h at 3, 9, 15 and 21 h.
    "lines": Case(
        {"diurnal": {"mean": "1/s", "hours": [1, 2, 3, 2]}},
        24 * H,
        at_hours([0, 3, 9, 15, 21, 24], [0.75, 0.5, 1, 1.5, 1, 0.75]),
        24,
    ),
    # From Friday noon to Sunday midnight.
    "week": Case(
        {"diurnal": {"mean": "1/s", "hours": [2], "days": WEEK, "between": "step", "offset": "108h"}},
        60 * H,
        lambda at_s: np.select([at_s < 12 * H, at_s < 36 * H], [1.0, 0.5], 0.25) / WEEK_MEAN,
        30,
    ),
    "sinusoid": Case(
        {"sinusoid": {"mean": "50/s", "amplitude": "40/s", "period": "60s", "offset": "10s"}},
        600,
        lambda at_s: 50 + 40 * np.sin(2 * math.pi * (at_s + 10) / 60),
        60,
    ),
    "ramp": Case(
        {"ramp": {"from": "10/s", "to": "100/s", "over": "300s"}}, 600, polygon([0, 300, 600], [10, 100, 100]), 60
    ),
    "spike": Case(
        {"spike": {"base": "20/s", "peak": "200/s", "at": "100s", "for": "50s", "up": "30s", "down": "60s"}},
        400,
        polygon([0, 100, 130, 180, 240, 400], [20, 20, 200, 200, 20, 20]),
        40,
    ),
    "trend": Case(
        {"trend": {"rate": "50/s", "growth": "x2", "per": "100s"}}, 400, lambda at_s: 50 * 2 ** (at_s / 100), 40
    ),
    "decline": Case(
        {"trend": {"rate": "400/s", "growth": "x0.5", "per": "100s"}}, 400, lambda at_s: 400 * 0.5 ** (at_s / 100), 40
    ),
}
each_case = pytest.mark.parametrize("name", CASES)


@each_case
def test_the_curve_is_the_stated_rate(name: str) -> None:
    case = CASES[name]
    at_s, integral = case.grid(per_bin=2000)
    expected = case.curve.requests_until(np.rint(at_s * S).astype(np.int64))
    assert np.allclose(expected, integral, rtol=2e-6, atol=1e-6 * integral[-1])
    law = Arrivals.model_validate(case.law)
    assert expected_requests(law, round(case.seconds * S)) == pytest.approx(integral[-1], rel=2e-6)


@each_case
def test_the_change_of_time_is_inverted_to_the_nanosecond(name: str) -> None:
    curve = CASES[name].curve
    clock = OperationalClock.of(curve, round(CASES[name].seconds * S))
    units = np.linspace(0, clock.end - 3, 20_001).astype(np.int64)
    at_ns = clock.instants(units)
    assert (np.diff(at_ns) >= 0).all()
    off = curve.requests_until(at_ns) - units / clock.per_request
    fastest = float(curve.rate_rps.max() + np.abs(curve.slope).max() * 1e-9)
    assert np.abs(off).max() < 1.01e-9 * fastest + 1e-8, "off by more than one ns"


@each_case
def test_counts_are_poisson_around_the_integral_of_the_rate(name: str) -> None:
    """Pearson's chi-square, from both sides: a rate 8 % off anywhere, or counts too regular, would be found."""
    case = CASES[name]
    at_s, integral = case.grid(per_bin=2000)
    expected = np.diff(integral[::2000])
    counts = np.histogram(instants(case.law, case.seconds) / S, at_s[::2000])[0]
    chance = float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), case.bins))
    assert 1e-4 < chance < 1 - 1e-4
    found = stats.ncx2.sf(stats.chi2.isf(1e-4, case.bins), case.bins, 0.08**2 * expected.sum())
    assert found > 0.99


@each_case
def test_in_operational_time_it_is_the_unit_poisson_process(name: str) -> None:
    case = CASES[name]
    at_s, integral = case.grid(per_bin=20_000)
    passed = np.interp(instants(case.law, case.seconds) / S, at_s, integral)
    gaps = np.diff(passed, prepend=0.0)
    assert stats.kstest(gaps, "expon").pvalue > 1e-4
    assert abs(float(np.corrcoef(gaps[1:], gaps[:-1])[0, 1])) < 4.5 / math.sqrt(len(gaps)), "gaps are independent"


def test_other_gaps_keep_their_variability_in_operational_time() -> None:
    def gaps(cv: float) -> Floats:
        law = {"sinusoid": {"mean": "500/s", "amplitude": "400/s", "period": "60s", "cv": cv}}
        curve = curve_of(kind(Arrivals.model_validate(law))[1], 600 * S)
        return np.diff(curve.requests_until(instants(law, 600)))

    assert stats.kstest(gaps(0.5), "gamma", args=(4, 0, 0.25)).pvalue > 1e-4
    bursts = gaps(3)
    parts = np.array([(part**2).mean() for part in np.array_split(bursts, 60)])
    assert_mean(parts, 10.0, finds=0.15)
    assert_mean(np.array([part.mean() for part in np.array_split(bursts, 60)]), 1.0, finds=0.05)


def test_the_mean_of_a_diurnal_curve_is_that_of_its_week() -> None:
    for between in ("linear", "step"):
        law = {"diurnal": {"mean": "7/h", "hours": list(range(24)), "days": WEEK, "between": between, "offset": "3d"}}
        assert expected_requests(Arrivals.model_validate(law), 7 * 86_400 * S) == pytest.approx(7 * 7 * 24, rel=1e-9)


def test_a_segment_is_crossed_as_its_parabola_says() -> None:
    rate, slope = np.array([0.0, 5.0, 5.0, 10.0]), np.array([2.0, 0.0, 1e-12, -1.0])
    taken = crossing_s(rate, slope, np.array([9.0, 10.0, 10.0, 50.0]))
    assert taken == pytest.approx([3.0, 2.0, 2.0, 10.0])
    assert crossing_s(np.zeros(1), np.zeros(1), np.zeros(1)).tolist() == [0.0]


def test_busy_servers_lag_behind_a_sinusoid_as_theory_says() -> None:
    """M_t/M/inf (Eick, Massey and Whitt 1993): 10 + 5 / sqrt(1 + w^2) sin(w t - atan w), with a service of 1 h."""
    law = {"sinusoid": {"mean": "10/h", "amplitude": "5/h", "period": "1d"}}
    seen_h = np.array([72.0, 76.0, 80.0, 84.0, 88.0, 92.0])
    busy = []
    for replication in range(900):
        begun_h = instants(law, 96 * H, replication) / S / H
        ended_h = begun_h + np.random.default_rng(replication).standard_exponential(len(begun_h))
        busy.append([int(((begun_h <= at) & (ended_h > at)).sum()) for at in seen_h])
    omega = 2 * math.pi / 24
    expected = 10 + 5 / math.sqrt(1 + omega**2) * np.sin(omega * seen_h - math.atan(omega))
    assert math.isclose(5 / math.sqrt(1 + omega**2), 4.836986, abs_tol=1e-6)
    for at, mean in enumerate(expected):
        assert_mean(np.array(busy, np.float64)[:, at], float(mean), finds=0.12)
