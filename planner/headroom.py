"""The load at which a deployment's SLO breaks: all open classes scaled alike, under common random numbers.

The arrivals of one seed at another rate are the same gaps stretched, so that from factor to factor
only the load changes and bisection is not led astray by luck.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.plan import Headroom
from sim import law_parts
from sim.law_moments import rate_rps
from sim.mix import with_laws
from sim.scenario import Workload

Breaks = Callable[[float], str]
"""What breaks at a multiple of the load; empty: nothing."""

FACTOR_MAX = 16.0
FACTOR_MIN = 1 / 64
RESOLUTION = 0.01
"""The factor is found to one part in a hundred."""


def scaled(workload: Workload, factor: float) -> Workload:
    """The workload with every open class's rate multiplied; closed loops set their own rate and stay."""
    return with_laws(workload, lambda law: law_parts.scaled(law, factor))


def stated_rate_rps(workload: Workload) -> float | None:
    """Requests per second of all classes; None if one states no rate."""
    rates = [rate_rps(law) for _, law in workload.laws]
    stated = [r for r in rates if r is not None]
    return sum(stated) if len(stated) == len(rates) else None


def find(breaks: Breaks, workload: Workload) -> Headroom | None:
    """The largest factor >= 1 that holds, given that 1 does; None if nothing can be scaled."""
    if all(law.closed is not None for _, law in workload.laws):
        return None
    holds, fails, why = 1.0, 1.0, ""
    while not why and fails < FACTOR_MAX:
        holds = fails
        fails = min(FACTOR_MAX, fails * 1.4)
        why = breaks(fails)
    if not why:
        return _headroom(FACTOR_MAX, "", workload)
    return _bisect(breaks, holds, fails, why, workload)


def find_below(breaks: Breaks, workload: Workload) -> Headroom | None:
    """The largest factor < 1 that holds, given that 1 does not; None if not even FACTOR_MIN does."""
    if all(law.closed is not None for _, law in workload.laws):
        return None
    fails, why, holds = 1.0, "", 1.0
    while fails > FACTOR_MIN:
        holds = max(FACTOR_MIN, fails / 2)
        broken = breaks(holds)
        if not broken:
            return _bisect(breaks, holds, fails, why, workload)
        fails, why = holds, broken
    return None


def _bisect(breaks: Breaks, holds: float, fails: float, why: str, workload: Workload) -> Headroom:
    while fails / holds > 1 + RESOLUTION:
        middle = (holds * fails) ** 0.5
        broken = breaks(middle)
        if broken:
            fails, why = middle, broken
        else:
            holds = middle
    return _headroom(holds, why, workload)


def _headroom(factor: float, why: str, workload: Workload) -> Headroom:
    rate = stated_rate_rps(workload)
    return Headroom(factor=factor, rate_rps=None if rate is None else rate * factor, breaks=why)
