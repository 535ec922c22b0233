"""How likely instants are under an arrival law: the log-density of their gaps, each given those before it. Pure."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim.curves import curve_of
from sim.law_parts import kind
from sim.laws import Arrivals, Weibull
from sim.mmpp import Chain
from sim.rate_laws import Diurnal

Floats = npt.NDArray[np.float64]

TINY = 1e-300
"""Gaps of nothing count as this: their logarithm exists."""
LOG_MAX = 700.0
"""Gaps as unlikely as e^-(e^700) are no likelier than that: the exponential exists."""


def log_likelihood(arrivals: Arrivals, times_s: Floats) -> float:
    """Log-density, in nats per second of each gap, of the instants after the first, which is taken as given.

    Of poisson, gamma, weibull, mmpp (two states) and diurnal; times count from the start of the run and
    ascend strictly.
    """
    gaps_s = np.diff(times_s)
    name, law = kind(arrivals)
    match name:
        case "poisson":
            return _renewal(gaps_s * law, 1.0) + len(gaps_s) * math.log(law)
        case "gamma":
            return _renewal(gaps_s * law.rate, law.cv) + len(gaps_s) * math.log(law.rate)
        case "weibull":
            return _weibull(gaps_s, law)
        case "mmpp":
            return _mmpp(gaps_s, Chain.of(law))
        case "diurnal":
            return _diurnal(times_s, law)
    raise ValueError(f"the likelihood of {name} is not known")


def _renewal(gaps: Floats, cv: float) -> float:
    """Of gaps with a Gamma law of mean 1."""
    shape = cv**-2
    constant = shape * math.log(shape) - math.lgamma(shape)
    logs = np.log(np.maximum(gaps, TINY))
    return float(((shape - 1) * logs - shape * gaps).sum()) + len(gaps) * constant


def _weibull(gaps_s: Floats, law: Weibull) -> float:
    scale_s = 1 / law.rate / math.gamma(1 + 1 / law.shape)
    logs = np.log(np.maximum(gaps_s / scale_s, TINY))
    powers = np.exp(np.minimum(law.shape * logs, LOG_MAX))
    return float(((law.shape - 1) * logs - powers).sum()) + len(gaps_s) * math.log(law.shape / scale_s)


def _diurnal(times_s: Floats, law: Diurnal) -> float:
    """Gaps in operational time, and the rate by which it passes at each instant."""
    at_ns = times_s * 1e9
    curve = curve_of(law, math.ceil(float(at_ns[-1])) + 1)
    rates = np.maximum(curve.rate_at(at_ns[1:]), TINY)
    return _renewal(np.diff(curve.requests_until(at_ns)), law.cv) + float(np.log(rates).sum())


def _mmpp(gaps_s: Floats, chain: Chain) -> float:
    """The product, over the gaps g, of exp((Q - R) g) R, between the states met by an arrival and 1.

    With m the mean of the diagonal of A = Q - R and +-h the eigenvalues of A - m, exp(A g) is
    exp((m + h) g) [(1 + e) / 2 + (1 - e) / (2 h) (A - m)], where e = exp(-2 h g): no term overflows. On its diagonal
    d, -d of A - m that is (1 + d / h) / 2 + e (1 - d / h) / 2, of whose two shares the smaller is
    b c / (2 h (h + |d|)), with b and c off the diagonal of A: no difference of almost equal numbers.
    """
    decay = chain.generator - np.diag(chain.rate_rps)
    if decay.shape != (2, 2):
        raise ValueError(f"the likelihood of an MMPP of {len(decay)} states is not known")
    middle, half = float(np.trace(decay)) / 2, float(decay[0, 0] - decay[1, 1]) / 2
    across = float(decay[0, 1] * decay[1, 0])
    root = math.sqrt(half**2 + across)
    smaller = across / (2 * root * (root + abs(half)))
    slow = np.array([1 - smaller, smaller] if half > 0 else [smaller, 1 - smaller])
    passed = -2 * root * gaps_s
    matrices = (-np.expm1(passed) / (2 * root))[:, np.newaxis, np.newaxis] * decay
    matrices[:, (0, 1), (0, 1)] = slow + np.exp(passed)[:, np.newaxis] * slow[::-1]
    product, logs = product_of(matrices * chain.rate_rps)
    met = chain.shares * chain.rate_rps / chain.mean_rps
    last = max(float(met @ product @ np.ones(2)), TINY)
    return math.log(last) + logs + (middle + root) * float(gaps_s.sum())


def product_of(matrices: Floats) -> tuple[Floats, float]:
    """The product of (n, 2, 2) matrices without negative entries, its largest entry 1, and the log of its factor.

    Pairs of neighbours are multiplied until one matrix is left, so that numpy works on all of them at once.
    """
    logs = 0.0
    while True:
        largest = np.maximum(matrices.max(axis=(1, 2)), TINY)
        matrices, logs = matrices / largest[:, np.newaxis, np.newaxis], logs + float(np.log(largest).sum())
        if len(matrices) == 1:
            return matrices[0], logs
        if len(matrices) % 2:
            matrices = np.concatenate([matrices, np.eye(2)[np.newaxis]])
        matrices = matrices[0::2] @ matrices[1::2]
