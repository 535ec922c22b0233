"""Burstiness is measured as theory says, and fits recover what was generated."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm

from sim.burstiness import Burstiness, best_fit, of_instants, untied
from sim.dispersion import SCALES_S, dispersion
from sim.law_moments import dispersion as limit_of
from sim.law_parts import kind
from sim.laws import Arrivals
from sim.likelihood import log_likelihood
from tests.sim.point_processes import Ints, S, instants

BURSTS: dict[str, Any] = {
    "mmpp": {"states": [{"rate": "20/s", "dwell": "4s"}, {"rate": "120/s", "dwell": "1s"}]},
}
DAY: dict[str, Any] = {"diurnal": {"mean": "1200/h", "hours": [1, 1, 1, 2, 4, 6, 5, 3]}}


# -- measures --------------------------------------------------------------------------------------------


def test_poisson_arrivals_have_an_index_of_one_at_every_scale() -> None:
    found = of_instants(instants({"poisson": "50/s"}, 20_000), 20_000 * S)
    assert [scale.scale_s for scale in found.scales] == list(SCALES_S[:-1]), "an hour has too few bins"
    for scale in found.scales:
        assert abs(scale.idc - 1) < 6 * scale.se, "the longest scale has 20 bins, whose error is not well known"
    assert found.scales[2].se < 0.02, "at 1 s an index 13 % off would be found"
    assert found.rate_rps == pytest.approx(50, abs=4.5 * math.sqrt(50 / 20_000))
    assert found.gap_cv == pytest.approx(1, abs=4.5 / 1000)
    assert found.gap_lag1 == pytest.approx(0, abs=4.5 / 1000)


def test_standard_errors_are_those_of_repeated_runs() -> None:
    def measured(replication: int) -> Burstiness:
        return of_instants(instants(BURSTS, 400, replication), 400 * S)

    found = [measured(replication).scales for replication in range(80)]
    for at, scale_s in enumerate((0.1, 0.3, 1.0, 3.0)):
        indices, errors = (np.array([getattr(scales[at], name) for scales in found]) for name in ("idc", "se"))
        assert found[0][at].scale_s == scale_s
        assert 0.6 < float(errors.mean()) / float(indices.std(ddof=1)) < 1.4


def test_gaps_that_alternate_are_anticorrelated() -> None:
    gaps = np.tile([1, 3], 500) * S
    found = of_instants(np.cumsum(gaps))
    assert found.gap_lag1 == pytest.approx(-1, abs=0.01)
    assert found.gap_cv == pytest.approx(0.5, abs=0.01)
    assert found.requests == 999, "the first is where the span begins"
    assert found.rate_rps == pytest.approx(0.5, rel=1e-3)


def test_peaks_are_relative_to_the_mean() -> None:
    at_s = np.concatenate([np.arange(100) + 0.5, 50 + np.arange(50) / 100])
    found = {scale.scale_s: scale for scale in of_instants(np.sort(np.rint(at_s * S)).astype(np.int64), 100 * S).scales}
    assert found[1.0].peak_to_mean == pytest.approx(51 / 1.5)
    assert found[3.0].peak_to_mean == pytest.approx(53 / (149 / 33)), "33 bins of 3 s, the last second left out"


def test_constant_counts_have_no_dispersion() -> None:
    assert dispersion(np.full(50, 7), 1.0).idc == dispersion(np.full(50, 7), 1.0).se == 0


@pytest.mark.parametrize(
    ("arrival_ns", "span_ns"),
    [([1, 2], None), ([5, 5, 5], None), ([1, 3, 2], 9), ([1, 2, 10], 9), ([-1, 2, 3], 9), ([], None)],
    ids=["two", "no time", "out of order", "after the span", "before it", "none"],
)
def test_what_cannot_be_measured_is_refused(arrival_ns: list[int], span_ns: int | None) -> None:
    with pytest.raises(ValueError, match="instants"):
        of_instants(np.array(arrival_ns, np.int64), span_ns)


# -- likelihood --------------------------------------------------------------------------------------------


def test_laws_that_are_poisson_have_its_likelihood() -> None:
    times_s = instants({"poisson": "3/s"}, 200) / S
    poisson = log_likelihood(Arrivals.model_validate({"poisson": "3/s"}), times_s)
    gaps = np.diff(times_s)
    assert poisson == pytest.approx(len(gaps) * math.log(3) - 3 * float(gaps.sum()))
    same: list[dict[str, Any]] = [
        {"gamma": {"rate": "3/s", "cv": 1}},
        {"weibull": {"rate": "3/s", "shape": 1}},
        {"mmpp": {"states": [{"rate": "3/s", "dwell": "1s"}, {"rate": "3/s", "dwell": "9s"}]}},
        {"diurnal": {"mean": "3/s", "hours": [1]}},
    ]
    for law in same:
        assert log_likelihood(Arrivals.model_validate(law), times_s) == pytest.approx(poisson), law


def test_the_likelihood_of_gaps_is_the_product_of_their_densities() -> None:
    times_s = instants({"gamma": {"rate": "3/s", "cv": 1.5}}, 200) / S
    gaps = np.diff(times_s)
    densities: list[tuple[dict[str, Any], Any]] = [
        ({"gamma": {"rate": "3/s", "cv": 2.5}}, stats.gamma(2.5**-2, scale=2.5**2 / 3)),
        ({"gamma": {"rate": "3/s", "cv": 0.5}}, stats.gamma(4, scale=1 / 12)),
        ({"weibull": {"rate": "3/s", "shape": 0.7}}, stats.weibull_min(0.7, scale=1 / 3 / math.gamma(1 + 1 / 0.7))),
    ]
    for law, density in densities:
        assert log_likelihood(Arrivals.model_validate(law), times_s) == pytest.approx(density.logpdf(gaps).sum()), law


def test_the_likelihood_of_a_day_is_that_of_its_rates() -> None:
    """Gamma gaps of the requests expected between two instants, times the rate at the later one."""
    times_s = np.array([1.0, 5.9, 6.1, 11.5, 12.0, 30.2]) * 3600
    # 0.5/h before noon and 1.5/h after it.
    law = {"diurnal": {"mean": "1/h", "hours": [1, 3], "between": "step", "cv": 2}}
    expected, rates = np.array([2.45, 0.1, 2.7, 0.25, 12 * 1.5 + 6.2 * 0.5]), np.array([0.5, 0.5, 0.5, 1.5, 0.5]) / 3600
    found = log_likelihood(Arrivals.model_validate(law), times_s)
    assert found == pytest.approx(float((stats.gamma(0.25, scale=4).logpdf(expected) + np.log(rates)).sum()))


def test_the_likelihood_of_an_mmpp_is_the_product_of_its_matrices() -> None:
    times_s = np.array([0.0, 0.01, 0.5, 0.52, 3.0, 3.001])
    leave, rates = np.array([[-0.25, 0.25], [1.0, -1.0]]), np.diag([20.0, 120.0])
    states = np.array([0.8 * 20, 0.2 * 120]) / 40
    for gap in np.diff(times_s):
        states = states @ expm((leave - rates) * gap) @ rates
    assert log_likelihood(Arrivals.model_validate(BURSTS), times_s) == pytest.approx(math.log(states.sum()), rel=1e-9)


def test_an_mmpp_that_is_silent_in_one_state_has_hyperexponential_gaps() -> None:
    """A. Kuczura, "The interrupted Poisson process as an overflow process", Bell System Technical Journal 52(3), 1973.

    Rates so far apart that (1 - d / h) / 2, computed as it reads, has lost its digits.
    """
    rate, change = 1e5, 1e-3
    total = rate + 2 * change
    fast = (total + math.sqrt(total**2 - 4 * rate * change)) / 2
    slow = rate * change / fast
    gaps = np.array([1e-5, 1500.0, 2e-5, 700.0])
    chance = (rate - slow) / (fast - slow)
    densities = chance * fast * np.exp(-fast * gaps) + (fast - rate) / (fast - slow) * slow * np.exp(-slow * gaps)
    states = [{"rate": "0/s", "dwell": "1000s"}, {"rate": f"{rate:.0f}/s", "dwell": "1000s"}]
    for ordered in (states, states[::-1]):
        found = log_likelihood(Arrivals.model_validate({"mmpp": {"states": ordered}}), np.cumsum([0, *gaps]))
        assert found == pytest.approx(float(np.log(densities).sum()), rel=1e-6)


# -- fits --------------------------------------------------------------------------------------------------

GENERATED: dict[str, tuple[dict[str, Any], float]] = {
    "poisson": ({"poisson": "40/s"}, 500),
    "bursty gamma": ({"gamma": {"rate": "40/s", "cv": 3}}, 1000),
    "regular gamma": ({"gamma": {"rate": "40/s", "cv": 0.4}}, 500),
    "weibull": ({"weibull": {"rate": "40/s", "shape": 0.6}}, 1000),
    "mmpp": (BURSTS, 2000),
    "diurnal": (DAY, 6 * 86_400),
}


@pytest.mark.parametrize("name", GENERATED)
def test_the_law_that_generated_them_fits_best(name: str) -> None:
    law, seconds = GENERATED[name]
    fits = best_fit(instants(law, seconds))
    assert kind(fits[0].law)[0] == next(iter(law))
    assert all(better.score >= worse.score for better, worse in pairwise(fits))


def fitted(law: dict[str, Any], seconds: float) -> Arrivals:
    """The fit of the kind that was generated."""
    (name,) = law
    return next(fit.law for fit in best_fit(instants(law, seconds)) if kind(fit.law)[0] == name)


def test_parameters_of_renewal_laws_are_recovered() -> None:
    gamma = fitted({"gamma": {"rate": "40/s", "cv": 3}}, 2000).gamma
    assert gamma is not None
    assert gamma.rate == pytest.approx(40, rel=0.06)
    assert gamma.cv == pytest.approx(3, rel=0.06)
    weibull = fitted({"weibull": {"rate": "40/s", "shape": 0.6}}, 2000).weibull
    assert weibull is not None
    assert weibull.rate == pytest.approx(40, rel=0.04)
    assert weibull.shape == pytest.approx(0.6, rel=0.05)


def test_parameters_of_an_mmpp_are_recovered() -> None:
    found = fitted(BURSTS, 20_000)
    assert found.mmpp is not None
    low, high = found.mmpp.states
    assert low.rate == pytest.approx(20, rel=0.25)
    assert high.rate == pytest.approx(120, rel=0.25)
    assert low.dwell / S == pytest.approx(4, rel=0.3)
    assert high.dwell / S == pytest.approx(1, rel=0.3)
    assert limit_of(found) == pytest.approx(limit_of(Arrivals.model_validate(BURSTS)), rel=0.2)


def test_hours_of_the_day_are_recovered() -> None:
    found = fitted(DAY, 20 * 86_400).diurnal
    assert found is not None
    assert found.mean == pytest.approx(1200 / 3600, rel=0.01)
    assert found.cv == 1, "the gaps are Poisson once the day is taken out"
    hours = np.array(found.hours).reshape(8, 3).mean(axis=1)
    # The mean of the polygon over a step: an eighth of its neighbours, six eighths of its own.
    knots = np.array(DAY["diurnal"]["hours"])
    means = (np.roll(knots, 1) + 6 * knots + np.roll(knots, -1)) / 8
    assert hours == pytest.approx(means / means.mean(), rel=0.05)


def test_a_day_of_hours_is_fitted_from_two_days_on() -> None:
    def kinds(days: float) -> set[str]:
        return {kind(fit.law)[0] for fit in best_fit(instants({"poisson": "0.2/s"}, days * 86_400))}

    assert "diurnal" not in kinds(1.9)
    assert kinds(2.1) >= {"poisson", "gamma", "weibull", "diurnal"}


def test_instants_of_one_stamp_are_spread_over_its_resolution() -> None:
    at_ns = np.array([0, 3, 3, 3, 6, 12], np.int64) * S
    assert untied(at_ns) == pytest.approx([0, 3, 4, 5, 6, 12])
    stamped: Ints = instants({"poisson": "4/s"}, 3000) // (3 * S) * (3 * S)
    assert {kind(fit.law)[0] for fit in best_fit(stamped)} >= {"poisson", "gamma"}


def test_a_trace_may_count_from_1970() -> None:
    at_ns = instants({"poisson": "50000/s"}, 1)
    since_1970_ns = np.rint((at_ns / S + 1.7e9) * 1e9).astype(np.int64)
    fits, same = best_fit(since_1970_ns), best_fit(at_ns)
    assert (since_1970_ns[1:] == since_1970_ns[:-1]).any(), "doubles of 1.7e9 s are 240 ns apart: stamps are shared"
    assert kind(fits[0].law)[0] == kind(same[0].law)[0] == "poisson"
    for one, other in zip(fits, same, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-3)


@pytest.mark.parametrize("arrival_ns", [list(range(99)), [7] * 200], ids=["few", "all one"])
def test_too_little_to_fit_is_refused(arrival_ns: list[int]) -> None:
    with pytest.raises(ValueError, match="needs at least 100 instants that are not all one"):
        best_fit(np.array(arrival_ns, np.int64))
