"""Arrival laws fitted to instants by moments, as a scenario's file would write them. Pure.

Moments, not likelihood: what queues feel of arrivals is their rate and the variance of their counts, and a
fitted law is to have those of what was measured. A Gamma law by maximum likelihood has the right mean
logarithm instead, which the smallest gaps rule.

Times are seconds from the start of the run, ascending strictly. A fitter returns None where its law does
not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sim.curves import curve_of
from sim.dispersion import Floats, dispersion, gap_cv
from sim.law_moments import weibull_cv
from sim.law_text import cv_digits, digits, dwell_text, rate_text
from sim.laws import Arrivals

Law = dict[str, Any]

HOUR_S, DAY_HOURS = 3600.0, 24
FIT_BINS = 50
"""Counts at the longest scale that an MMPP is fitted to."""
EXCESS_Z = 3.0
"""An IDC above 1 by fewer standard errors than this, at every scale, is no burstiness."""
SHARE_MIN = 1e-3
"""Least share of time in a state of a fitted MMPP."""
SE_MIN = 1e-6
"""Standard error of an IDC that seems to have none."""


def poisson(times_s: Floats) -> Law | None:
    """By the rate."""
    return {"poisson": rate_text(_rate_rps(times_s))}


def gamma(times_s: Floats) -> Law | None:
    """By the rate and the gaps' coefficient of variation."""
    cv = gap_cv(np.diff(times_s))
    return None if cv is None else {"gamma": {"rate": rate_text(_rate_rps(times_s)), "cv": cv_digits(cv)}}


def weibull(times_s: Floats) -> Law | None:
    """By the rate and the gaps' coefficient of variation."""
    cv = gap_cv(np.diff(times_s))
    if cv is None:
        return None
    return {"weibull": {"rate": rate_text(_rate_rps(times_s)), "shape": digits(weibull_shape(cv), 4)}}


def weibull_shape(cv: float) -> float:
    """The shape with this coefficient of variation, within what scenarios take.

    >>> round(weibull_shape(1.0), 6), round(weibull_shape(5**0.5), 6)
    (1.0, 0.5)
    """
    low, high = 0.1, 100.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if weibull_cv(middle) > cv else (low, middle)
    return math.sqrt(low * high)


def diurnal(times_s: Floats) -> Law | None:
    """By the rate of each hour of the day, and the gaps' variability in operational time; from a day on."""
    begin, end = float(times_s[0]), float(times_s[-1])
    if end - begin < DAY_HOURS * HOUR_S:
        return None
    hours = np.arange(int(begin // HOUR_S), int(end // HOUR_S) + 1)
    watched_s = np.minimum(end, (hours + 1) * HOUR_S) - np.maximum(begin, hours * HOUR_S)
    exposure_s = np.bincount(hours % DAY_HOURS, weights=watched_s, minlength=DAY_HOURS)
    counts = np.bincount((times_s // HOUR_S).astype(np.int64) % DAY_HOURS, minlength=DAY_HOURS)
    # Half a request more, so that an hour in which none came is not one in which none can come.
    rates = (counts + 0.5) / exposure_s
    mean = float(rates.mean())
    law: Law = {"mean": rate_text(mean), "hours": [digits(float(rate / mean), 3) for rate in rates]}
    cv = _operational_cv(law, times_s)
    return {"diurnal": law if cv is None else {**law, "cv": cv}}


def _operational_cv(law: Law, times_s: Floats) -> float | None:
    """The gaps' cv once the rate is taken out; None if it is that of Poisson arrivals within 3 standard errors."""
    diurnal_law = Arrivals.model_validate({"diurnal": law}).diurnal
    assert diurnal_law is not None
    at_ns = times_s * 1e9
    curve = curve_of(diurnal_law, math.ceil(float(at_ns[-1])) + 1)
    cv = gap_cv(np.diff(curve.requests_until(at_ns)))
    return None if cv is None or abs(cv - 1) < 3 / math.sqrt(len(times_s)) else cv_digits(cv)


# -- MMPP of two states --------------------------------------------------------------------------------


def mmpp(times_s: Floats) -> Law | None:
    """By the rate, the IDC at all scales, and the skewness of the counts at one.

    A rate that jumps between two values has the autocovariance V exp(-s t), so that its counts have
    IDC(t) = 1 + 2 V / (rate s) [1 - (1 - exp(-s t)) / (s t)]: least squares give V and s. The skewness of
    the rate is that of two values with probabilities p and 1 - p, which gives p (Fischer and
    Meier-Hellstern 1993).
    """
    rate, span_s = _rate_rps(times_s), float(times_s[-1] - times_s[0])
    return two_states(rate, _doubling(1 / rate, span_s), partial(_counts, times_s))


def two_states(rate: float, scales_s: Floats, counts_of: Callable[[float], Floats]) -> Law | None:
    """By the counts of whole bins at each of some time scales; see `mmpp`."""
    scales_s, excess, se = _excess(scales_s, counts_of)
    if len(scales_s) < 3 or float((excess / se).max()) < EXCESS_Z:
        return None
    size, change_hz = _telegraph(scales_s, excess, se)
    if size <= 0:
        return None
    variance = size * rate * change_hz / 2
    short = scales_s[scales_s <= 0.3 / change_hz]
    skew = _rate_skew(counts_of(float(short[-1] if len(short) else scales_s[0])))
    high = (1 - skew / math.sqrt(4 + skew**2)) / 2
    high = min(max(high, SHARE_MIN), 1 - SHARE_MIN, 1 / (1 + variance / rate**2))
    spread = math.sqrt(variance * high * (1 - high))
    dwells_s = 1 / (high * change_hz), 1 / ((1 - high) * change_hz)
    rates = max(0.0, rate - spread / (1 - high)), rate + spread / high
    states = [{"rate": rate_text(r), "dwell": dwell_text(d)} for r, d in zip(rates, dwells_s, strict=True)]
    return {"mmpp": {"states": states}}


def _counts(times_s: Floats, scale_s: float) -> Floats:
    """Counts of whole bins since the first instant, which is not counted."""
    since_s = times_s[1:] - times_s[0]
    number = (since_s / scale_s).astype(np.int64)
    bins = int(since_s[-1] / scale_s)
    return np.bincount(number[number < bins], minlength=bins).astype(np.float64)


def _doubling(scale_s: float, span_s: float) -> Floats:
    """Scales from one on, each twice the one before, as long as there are FIT_BINS bins."""
    number = max(0, math.floor(math.log2(span_s / FIT_BINS / scale_s)) + 1)
    return np.asarray(scale_s * 2.0 ** np.arange(number), np.float64)


def _excess(scales_s: Floats, counts_of: Callable[[float], Floats]) -> tuple[Floats, Floats, Floats]:
    """Scales with the IDC less 1 and its standard error, at least 3 % of the IDC."""
    found = []
    for scale_s in scales_s.tolist():
        counts = counts_of(scale_s)
        if counts.any():
            at_scale = dispersion(counts, scale_s)
            found.append((scale_s, at_scale.idc - 1, max(at_scale.se, 0.03 * at_scale.idc, SE_MIN)))
    scales, excess, se = np.array(found).reshape(-1, 3).T
    return scales, excess, se


def _telegraph(scales_s: Floats, excess: Floats, se: Floats) -> tuple[float, float]:
    """Limit of the excess and rate of change, per second, by weighted least squares over a grid of the latter."""
    changes_hz = np.geomspace(0.1 / scales_s[-1], 10 / scales_s[0], 400)
    passed = changes_hz[:, np.newaxis] * scales_s
    shape = 1 + np.expm1(-passed) / passed
    weights = se**-2
    sizes = (shape * excess * weights).sum(axis=1) / (shape**2 * weights).sum(axis=1)
    errors = ((excess - sizes[:, np.newaxis] * shape) ** 2 * weights).sum(axis=1)
    best = int(np.argmin(errors))
    return float(sizes[best]), float(changes_hz[best])


def _rate_skew(counts: Floats) -> float:
    """Skewness of the rate over a bin, freed of what Poisson counts add to their second and third cumulants."""
    off = counts - counts.mean()
    mean, second, third = float(counts.mean()), float((off**2).mean()), float((off**3).mean())
    if second <= mean:
        return 0.0
    return float((third - 3 * second + 2 * mean) / (second - mean) ** 1.5)


def _rate_rps(times_s: Floats) -> float:
    return (len(times_s) - 1) / float(times_s[-1] - times_s[0])
