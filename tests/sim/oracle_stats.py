"""How far simulated replications lie from an exact result, in standard errors, and with what probability by chance.

A verdict comes from independent replications, never from per cent: `z_of` is Student's t turned into
the normal quantile of the same probability, so that one bound (`Z_BOUND`, 1 in 1,000) fits any number
of replications. A whole law is judged by the largest distance between the mean empirical tail and the
exact one, whose chance is found by flipping the signs of whole replications at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from tests.sim import oracles
from tests.sim.oracle_cases import Case, Claim, Engine, Sample, Tail, Times

Floats = npt.NDArray[np.float64]

ALPHA = 1e-3
"""Probability that a right simulator fails one claim."""
Z_BOUND = float(stats.norm.isf(ALPHA / 2))
RESOLVED = 500
"""Requests that have to be expected beyond a quantile for it to be judged."""
GRID = np.concatenate([np.arange(0.01, 0.99, 0.01), [0.99, 0.995, 0.999]])
"""Levels of the exact law at which the empirical one is compared."""


@dataclass(frozen=True)
class Size:
    """How much is simulated: replications of `count` requests, the first `warmup` of each not counted."""

    replications: int
    count: int
    warmup: int


SIZES: dict[Engine, Size] = {"fast": Size(16, 64_000, 4_000), "reference": Size(16, 1_000, 200)}
"""What the tests simulate. Warm-up is at least ten relaxation times of the slowest case on the fast engine; on
the reference it is one to five, and the bias that is left is far below its standard error."""


@dataclass(frozen=True)
class Verdict:
    """One claim of one case on one engine."""

    case: str
    claim: str
    engine: Engine
    exact: float
    simulated: float
    z: float
    requests: int

    @property
    def holds(self) -> bool:
        """Whether chance explains the difference."""
        return abs(self.z) < Z_BOUND


def judge(case: Case, engine: Engine, size: Size) -> list[Verdict]:
    """Simulate the case and compare each of its claims; the whole law, if known, comes last."""
    requests = size.replications * size.count
    claims = [claim for claim in case.claims if _resolved(claim, requests)]
    values: dict[Times, list[Floats]] = {claim.values: [] for claim in claims}
    tails = []
    for replication in range(size.replications):
        sample = case.sample(engine, replication, size.count, size.warmup)
        for times, of_replications in values.items():
            of_replications.append(times(sample))
        if case.law is not None:
            tails.append(_off(case.law, sample))
    verdicts = [_verdict(case, claim, engine, values[claim.values], requests) for claim in claims]
    if case.law is not None:
        distance, chance = law_distance(np.stack(tails))
        z = float(stats.norm.isf(chance / 2))
        verdicts.append(Verdict(case.name, "whole law (KS)", engine, 0.0, distance, z, requests))
    return verdicts


def _resolved(claim: Claim, requests: int) -> bool:
    """Whether enough requests are expected beyond a quantile for its share to be nearly normal.

    They come in clusters of some tens at high load, and a mean over few clusters is skewed.
    """
    return claim.expected == claim.exact or claim.expected * requests >= RESOLVED


def _verdict(case: Case, claim: Claim, engine: Engine, values: list[Floats], requests: int) -> Verdict:
    z = z_of(np.array([claim.statistic(v) for v in values]), claim.expected)
    return Verdict(case.name, claim.name, engine, claim.exact, claim.shown(np.concatenate(values)), z, requests)


def z_of(values: Floats, expected: float) -> float:
    """Standard errors between the mean of independent values and what it should be, as a normal quantile.

    >>> z_of(np.array([1.0, 1.0]), 1.0)
    0.0
    >>> round(z_of(np.array([0.9, 1.1, 1.0, 1.0]), 1.1), 2)
    -1.69
    """
    off = float(values.mean()) - expected
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    if spread < 1e-12 * max(1.0, abs(expected)):
        return 0.0 if abs(off) <= 1e-9 * max(1.0, abs(expected)) else math.copysign(math.inf, off)
    tail = float(stats.t.sf(abs(off) / spread, len(values) - 1))
    return math.copysign(float(stats.norm.isf(tail)), off)


def _off(law: tuple[Times, Tail], sample: Sample) -> Floats:
    """Empirical less exact tail of a replication, over the grid of the exact law's quantiles."""
    times, sf = law
    grid = _grid(sf)
    values = np.sort(times(sample))
    exact = np.array([sf(float(t)) for t in grid])
    return np.asarray(1 - np.searchsorted(values, grid, side="right") / len(values) - exact, np.float64)


@cache
def _grid(sf: Tail) -> Floats:
    """The exact law's quantiles at the levels of `GRID`, each once (a law may have an atom)."""
    return np.unique([oracles.quantile(sf, float(p)) for p in GRID])


def law_distance(off: Floats, flips: int = 9_999) -> tuple[float, float]:
    """Kolmogorov's distance between the mean empirical and the exact tail, and its chance if the law is right.

    Parameters
    ----------
    off : (replications, grid), empirical less exact.
    flips : random sign patterns; a replication's deviation is as likely as its negative.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (flips, len(off)))
    distance = float(np.abs(off.mean(axis=0)).max())
    by_chance = np.abs(signs @ off / len(off)).max(axis=1)
    return distance, float((1 + (by_chance >= distance).sum()) / (1 + flips))
