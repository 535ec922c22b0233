"""From the laws that a scenario states to the point processes that arrivals are drawn from."""

from __future__ import annotations

import math
from pathlib import Path

from sim import counts, curves, traces
from sim.columns import Floats
from sim.law_moments import rate_rps
from sim.law_parts import kind, unscaled
from sim.laws import Arrivals, Sessions
from sim.mmpp import Chain, Modulated
from sim.point_process import Draw, Fixed, Periodic, Process, Renewal, Superposed, Thinned, whole_ns
from sim.rate_laws import Counts
from sim.sessions import Clustered
from sim.time_change import TimeChanged


def process_of(arrivals: Arrivals, base: Path, duration_ns: int) -> Process:
    """The point process of open arrivals in a run so long.

    `base` is the folder that files are relative to.

    Raises
    ------
    SpecError : a trace, or a file of counts, that cannot be used.
    """
    arrivals = unscaled(arrivals)
    name, law = kind(arrivals)
    match name:
        case "poisson" | "gamma" | "weibull":
            return Renewal(gap_draw(arrivals), rate_rps(arrivals) or 0.0)
        case "constant":
            return Periodic(1e9 / law)
        case "trace":
            return Fixed(traces.load(base / law.file, law.scale, law.from_, law.to)[0])
        case "counts":
            return _counted(law, base, duration_ns)
        case "mmpp":
            return Modulated(Chain.of(law))
        case "sum":
            return Superposed(tuple(process_of(member, base, duration_ns) for member in law))
        case "sessions":
            return _clustered(law, base, duration_ns)
        case "thinned":
            return Thinned(process_of(law.of, base, duration_ns), 0.0, law.keep)
    return TimeChanged(curves.curve_of(law, duration_ns), law.cv)


def gap_draw(arrivals: Arrivals) -> Draw:
    """Draws random gaps, in whole ns, of a law that states them."""
    if arrivals.poisson is not None:
        mean_ns = 1e9 / arrivals.poisson
        return lambda rng, count: whole_ns(rng.standard_exponential(count) * mean_ns)
    if arrivals.weibull is not None:
        weibull = arrivals.weibull
        scale_ns = 1e9 / weibull.rate / math.gamma(1 + 1 / weibull.shape)
        return lambda rng, count: whole_ns(rng.weibull(weibull.shape, count) * scale_ns)
    assert arrivals.gamma is not None
    shape = arrivals.gamma.cv**-2
    gamma_scale_ns = 1e9 / arrivals.gamma.rate / shape
    return lambda rng, count: whole_ns(rng.standard_gamma(shape, count) * gamma_scale_ns)


def _counted(law: Counts, base: Path, duration_ns: int) -> Process:
    read: Floats = counts.load(base / law.file, law.column, *law.part) * law.scale
    if law.within == "uniform":
        needed = min(len(read), -(-duration_ns // law.interval))
        return counts.scattered(base / law.file, law.column, read[:needed], law.interval)
    curve = curves.of_counts(read, law.interval, duration_ns)
    return TimeChanged(curve, 1.0 if law.within == "poisson" else 0.0)


def _clustered(law: Sessions, base: Path, duration_ns: int) -> Process:
    return Clustered(
        begins=process_of(law.begin, base, duration_ns),
        requests_mean=law.requests,
        geometric=law.lengths == "geometric",
        think_ns=law.think,
        exponential=law.thinks == "exponential",
    )
