"""Laws fitted to counts: what generated them is found again, and the probabilities of counts are those of theory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sim.burstiness import best_fit_of_counts, of_counts
from sim.count_fits import CV_MAX, Counted, log_likelihood
from sim.dispersion import counts_of, dispersion
from sim.law_parts import kind
from sim.laws import Arrivals
from tests.sim.point_processes import S, instants

BURSTS: dict[str, Any] = {"mmpp": {"states": [{"rate": "20/s", "dwell": "40s"}, {"rate": "120/s", "dwell": "10s"}]}}
DAY: dict[str, Any] = {"diurnal": {"mean": "1200/h", "hours": [1, 1, 1, 2, 4, 6, 5, 3]}}
GENERATED: dict[str, tuple[dict[str, Any], float, float]] = {
    "poisson": ({"poisson": "40/s"}, 2000, 1),
    "gamma": ({"gamma": {"rate": "100/s", "cv": 3}}, 20_000, 10),
    "regular gamma": ({"gamma": {"rate": "100/s", "cv": 0.4}}, 10_000, 10),
    "mmpp": (BURSTS, 40_000, 1),
    "diurnal": (DAY, 8 * 86_400, 600),
}


def counted(law: dict[str, Any], seconds: float, interval_s: float) -> Counted:
    """Requests of a law in intervals."""
    counts = counts_of(instants(law, seconds), round(seconds * S), round(interval_s * S))
    return Counted(counts.astype(np.float64), interval_s)


def fitted(name: str) -> Arrivals:
    """The fit of the kind that was generated."""
    fits = best_fit_of_counts(counted(*GENERATED[name]))
    return next(fit.law for fit in fits if kind(fit.law)[0] == next(iter(GENERATED[name][0])))


@pytest.mark.parametrize("name", GENERATED)
def test_the_law_that_generated_them_fits_best(name: str) -> None:
    best = best_fit_of_counts(counted(*GENERATED[name]))[0]
    assert kind(best.law)[0] == next(iter(GENERATED[name][0]))


@pytest.mark.parametrize(("name", "cv"), [("gamma", 3), ("regular gamma", 0.4)])
def test_the_variability_of_gaps_is_that_of_counts(name: str, cv: float) -> None:
    gamma = fitted(name).gamma
    assert gamma is not None
    assert gamma.rate == pytest.approx(100, rel=0.03)
    # The square's own error is sqrt(2 / n) of it, with n of 1,000 and more.
    assert gamma.cv == pytest.approx(cv, rel=0.1)


def test_parameters_of_an_mmpp_are_recovered() -> None:
    mmpp = fitted("mmpp").mmpp
    assert mmpp is not None
    low, high = mmpp.states
    assert (low.rate, high.rate) == (pytest.approx(20, rel=0.25), pytest.approx(120, rel=0.25))
    assert (low.dwell / S, high.dwell / S) == (pytest.approx(40, rel=0.3), pytest.approx(10, rel=0.3))


def test_hours_of_the_day_are_recovered() -> None:
    diurnal = fitted("diurnal").diurnal
    assert diurnal is not None
    assert diurnal.mean == pytest.approx(1200 / 3600, rel=0.01)
    knots = np.array(DAY["diurnal"]["hours"])
    means = (np.roll(knots, 1) + 6 * knots + np.roll(knots, -1)) / 8
    assert np.array(diurnal.hours).reshape(8, 3).mean(axis=1) == pytest.approx(means / means.mean(), rel=0.05)


def test_probabilities_of_counts_are_those_of_their_laws() -> None:
    counts = np.array([0.0, 3, 7, 2, 30])
    seen = Counted(counts, 2.0)

    def found(law: dict[str, Any]) -> float:
        return log_likelihood(Arrivals.model_validate(law), seen)

    assert found({"poisson": "3/s"}) == pytest.approx(stats.poisson(6).logpmf(counts).sum())
    # Mean 6 and variance 4 x 6: 6 / 3 failures at a chance of 1 / 4.
    assert found({"gamma": {"rate": "3/s", "cv": 2}}) == pytest.approx(stats.nbinom(2, 0.25).logpmf(counts).sum())
    assert found({"gamma": {"rate": "3/s", "cv": 0.5}}) == pytest.approx(
        stats.norm(6, math.sqrt(1.5)).logpdf(counts).sum()
    )
    by_hour = {"diurnal": {"mean": "3/s", "hours": [1]}}
    assert found(by_hour) == pytest.approx(found({"poisson": "3/s"}))


def test_the_probability_of_an_mmpp_is_the_sum_over_its_paths() -> None:
    counts, interval_s = np.array([1.0, 5, 0, 9]), 0.5
    law = {"mmpp": {"states": [{"rate": "2/s", "dwell": "4s"}, {"rate": "12/s", "dwell": "1s"}]}}
    kept = math.exp(-1.25 * interval_s)
    shares = np.array([0.8, 0.2])
    change = (1 - kept) * np.tile(shares, (2, 1)) + kept * np.eye(2)
    states = shares
    for count in counts:
        states = states @ change * stats.poisson(np.array([1.0, 6.0])).pmf(count)
    found = log_likelihood(Arrivals.model_validate(law), Counted(counts, interval_s))
    assert found == pytest.approx(math.log(states.sum()))


def test_counts_are_measured_at_multiples_of_their_interval() -> None:
    seen = counted({"poisson": "40/s"}, 2000, 0.5)
    found = of_counts(seen)
    assert [scale.scale_s for scale in found.scales] == [0.5, 1.5, 5, 15, 50]
    assert found.scales[1] == dispersion(seen.summed(1.5), 1.5)
    assert found.scales[0].idc == pytest.approx(1, abs=6 * found.scales[0].se)
    assert (found.gap_cv, found.gap_lag1) == (None, None)
    assert found.rate_rps == pytest.approx(seen.rate_rps)


def test_what_scatters_beyond_any_cv_has_no_law_of_gaps() -> None:
    wild = Counted(np.tile([0.0, 1e6, 3e6, 2e7], 50), 60.0)
    assert float(wild.counts.var() / wild.counts.mean()) > CV_MAX**2
    assert {kind(fit.law)[0] for fit in best_fit_of_counts(wild)} <= {"poisson", "mmpp"}


@pytest.mark.parametrize("counts", [[1.0] * 99, [0.0] * 200, [1.0] * 100 + [0.0] * 101], ids=["few", "none", "half"])
def test_too_little_to_fit_is_refused(counts: list[float]) -> None:
    with pytest.raises(ValueError, match="needs at least 100 intervals, with requests in both halves, got"):
        best_fit_of_counts(Counted(np.array(counts), 1.0))
