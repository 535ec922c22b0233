"""Arrival laws fitted to requests counted in successive intervals, and how likely the counts are under each. Pure.

Counts tell nothing of what happens within an interval, hence not Weibull gaps from Gamma ones of the same variability:
the laws are Poisson, Gamma, an MMPP of two states and the hours of the day. As in `sim.law_fits` they are fitted by
moments. The counts of an interval in which m are expected, with an index of dispersion D, are taken for Poisson if D is
1, for negative binomial above it, and for normal below it; those of an MMPP for Poisson at the rate of a state that
changes between intervals only, which is near the truth where states outlast intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.curves import curve_of
from sim.dispersion import Floats
from sim.law_fits import DAY_HOURS, FIT_BINS, HOUR_S, Law, two_states
from sim.law_moments import rate_rps
from sim.law_parts import kind
from sim.law_text import cv_digits, digits, rate_text
from sim.laws import Arrivals
from sim.likelihood import TINY, product_of
from sim.mmpp import Chain

CV_MAX = 100.0
"""Scenarios take no larger one: counts that scatter more follow their own course, which no such law has."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Whole counts of successive intervals, the first of which is number `first` of the file."""

    counts: Floats
    interval_s: float
    first: int = 0

    @property
    def rate_rps(self) -> float:
        """Requests per second."""
        return float(self.counts.mean()) / self.interval_s

    def halves(self) -> tuple[Counted, Counted]:
        """The earlier half, and the later one."""
        half = len(self.counts) // 2
        later = Counted(self.counts[half:], self.interval_s, self.first + half)
        return Counted(self.counts[:half], self.interval_s, self.first), later

    def summed(self, scale_s: float) -> Floats:
        """Counts of whole bins of a scale, which is a multiple of the interval."""
        width = round(scale_s / self.interval_s)
        bins = len(self.counts) // width
        return np.asarray(self.counts[: bins * width].reshape(bins, width).sum(axis=1), np.float64)


def poisson(counted: Counted) -> Law | None:
    """By the rate."""
    return {"poisson": rate_text(counted.rate_rps)}


def gamma(counted: Counted) -> Law | None:
    """By the rate and the counts' index of dispersion: that of many gaps is their squared cv. None above CV_MAX."""
    cv = math.sqrt(float(counted.counts.var(ddof=1) / counted.counts.mean()))
    return None if cv > CV_MAX else {"gamma": {"rate": rate_text(counted.rate_rps), "cv": cv_digits(cv)}}


def mmpp(counted: Counted) -> Law | None:
    """As of instants, at time scales from the interval on."""
    most = len(counted.counts) // FIT_BINS
    scales_s = np.asarray(counted.interval_s * 2.0 ** np.arange(most.bit_length()), np.float64)
    return two_states(counted.rate_rps, scales_s, counted.summed)


def diurnal(counted: Counted) -> Law | None:
    """By the rate of each hour of the day and what the counts scatter around it; from a day on, of whole parts of an
    hour. None where a cv above CV_MAX is left."""
    each = HOUR_S / counted.interval_s
    if each != int(each) or len(counted.counts) < DAY_HOURS * each:
        return None
    hours = (np.arange(len(counted.counts)) + counted.first) // int(each) % DAY_HOURS
    # Half a request more, so that an hour in which none came is not one in which none can come.
    sums = np.bincount(hours, weights=counted.counts, minlength=DAY_HOURS) + 0.5
    rates = sums / np.bincount(hours, minlength=DAY_HOURS) / counted.interval_s
    mean = float(rates.mean())
    law: Law = {"mean": rate_text(mean), "hours": [digits(float(rate / mean), 3) for rate in rates]}
    expected = _expected(Arrivals.model_validate({"diurnal": law}), counted)
    cv = math.sqrt(float(((counted.counts - expected) ** 2 / np.maximum(expected, TINY)).mean()))
    if cv > CV_MAX:
        return None
    # The index of Poisson counts has a standard error of sqrt(2 / n).
    poissonian = abs(cv**2 - 1) < 3 * math.sqrt(2 / len(counted.counts))
    return {"diurnal": law if poissonian else {**law, "cv": cv_digits(cv)}}


FITTERS: tuple[tuple[int, Callable[[Counted], Law | None]], ...] = (
    (1, poisson),
    (2, gamma),
    (4, mmpp),
    (25, diurnal),
)
"""Number of parameters and fitter, the simplest first."""


def log_likelihood(arrivals: Arrivals, counted: Counted) -> float:
    """Log-probability of the counts under one of those laws, in nats."""
    name, law = kind(arrivals)
    if name == "mmpp":
        return _mmpp(Chain.of(law), counted)
    expected = _expected(arrivals, counted)
    return float(_log_probability(counted.counts, expected, 1.0 if name == "poisson" else law.cv**2).sum())


def _expected(arrivals: Arrivals, counted: Counted) -> Floats:
    """Requests to be expected in each interval."""
    if arrivals.diurnal is None:
        return np.full(len(counted.counts), (rate_rps(arrivals) or 0.0) * counted.interval_s)
    numbers = np.arange(len(counted.counts) + 1) + counted.first
    edges_ns = np.asarray(numbers * counted.interval_s * 1e9, np.float64)
    curve = curve_of(arrivals.diurnal, math.ceil(float(edges_ns[-1])) + 1)
    return np.asarray(np.diff(curve.requests_until(edges_ns)), np.float64)


def _log_probability(counts: Floats, expected: Floats, idc: float) -> Floats:
    """Of each count, by what is expected and the index of dispersion."""
    from scipy.special import gammaln  # heavy, and only fits to counts need it

    mean = np.maximum(expected, TINY)
    if idc == 1:
        return np.asarray(counts * np.log(mean) - mean - gammaln(counts + 1), np.float64)
    if idc < 1:
        variance = idc * mean
        return np.asarray(-((counts - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2, np.float64)
    size = mean / (idc - 1)
    chosen = gammaln(counts + size) - gammaln(size) - gammaln(counts + 1)
    return np.asarray(chosen - size * math.log(idc) + counts * math.log(1 - 1 / idc), np.float64)


def _mmpp(chain: Chain, counted: Counted) -> float:
    """Forward through a hidden chain of two states that changes between intervals: exp(Q g) in closed form."""
    leaving = -np.diag(chain.generator)
    kept = math.exp(-float(leaving.sum()) * counted.interval_s)
    change = np.tile(chain.shares, (2, 1)) * (1 - kept) + np.eye(2) * kept
    log_probability = partial(_log_probability, counted.counts, idc=1.0)
    expected = [np.full(len(counted.counts), rate * counted.interval_s) for rate in chain.rate_rps]
    logs = np.stack([log_probability(mean) for mean in expected], axis=1)
    best = logs.max(axis=1)
    product, factor = product_of(change * np.exp(logs - best[:, np.newaxis])[:, np.newaxis, :])
    last = max(float(chain.shares @ product @ np.ones(2)), TINY)
    return math.log(last) + factor + float(best.sum())
