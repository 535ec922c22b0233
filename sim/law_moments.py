"""Moments of arrival laws in closed form: mean rate, dispersion of long counts, requests to be expected. Pure."""

from __future__ import annotations

import math

from sim.curves import curve_of
from sim.law_parts import kind, unscaled
from sim.laws import Arrivals
from sim.mmpp import Chain


def rate_rps(arrivals: Arrivals) -> float | None:
    """Mean rate of an open stationary law; None for the others."""
    name, law = kind(unscaled(arrivals))
    match name:
        case "poisson" | "constant":
            return float(law)
        case "gamma" | "weibull":
            return float(law.rate)
        case "mmpp":
            return Chain.of(law).mean_rps
        case "sessions":
            begun = rate_rps(law.begin)
            return None if begun is None else begun * float(law.requests)
        case "thinned":
            whole = rate_rps(law.of)
            return None if whole is None else whole * float(law.keep)
        case "sum":
            rates = [rate for member in law if (rate := rate_rps(member)) is not None]
            return math.fsum(rates) if len(rates) == len(law) else None
    return None


def dispersion(arrivals: Arrivals) -> float | None:
    """Variance over mean of the counts of long times of an open stationary law; None for the others.

    Of independent gaps that is their squared coefficient of variation, of sessions with N requests
    Var N / E N + E N x that of their beginnings; thinned, as much nearer to Poisson's 1 as fewer are kept.
    """
    name, law = kind(unscaled(arrivals))
    match name:
        case "poisson":
            return 1.0
        case "constant":
            return 0.0
        case "gamma":
            return float(law.cv**2)
        case "weibull":
            return weibull_cv(law.shape) ** 2
        case "mmpp":
            return Chain.of(law).dispersion
        case "sessions":
            begun = dispersion(law.begin)
            spread = law.requests - 1 if law.lengths == "geometric" else 0.0  # Var N / E N
            return None if begun is None else float(spread + begun * law.requests)
        case "thinned":
            whole = dispersion(law.of)
            return None if whole is None else float(1 + (whole - 1) * law.keep)
        case "sum":
            return _mean_dispersion(law)
    return None


def _mean_dispersion(members: list[Arrivals]) -> float | None:
    """Of a superposition: by the rates of its members, since their variances add up."""
    total, variance = 0.0, 0.0
    for member in members:
        rate, own = rate_rps(member), dispersion(member)
        if rate is None or own is None:
            return None
        total, variance = total + rate, variance + rate * own
    return variance / total


def weibull_cv(shape: float) -> float:
    """Coefficient of variation of a Weibull law.

    >>> round(weibull_cv(1.0), 6), round(weibull_cv(0.5), 6)
    (1.0, 2.236068)
    """
    ratio = math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape))
    return math.sqrt(ratio - 1)


def expected_requests(arrivals: Arrivals, duration_ns: int) -> float:
    """Requests to be expected in a run so long; 0 of files and closed loops, of which a scenario does not say."""
    arrivals = unscaled(arrivals)
    name, law = kind(arrivals)
    match name:
        case "sum":
            return math.fsum(expected_requests(member, duration_ns) for member in law)
        case "sessions":
            return expected_requests(law.begin, duration_ns) * float(law.requests)
        case "thinned":
            return expected_requests(law.of, duration_ns) * float(law.keep)
        case "diurnal" | "sinusoid" | "ramp" | "spike" | "trend":
            return curve_of(law, duration_ns).requests(duration_ns)
    return (rate_rps(arrivals) or 0.0) * duration_ns / 1e9
