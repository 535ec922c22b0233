"""The verdict on a simulation: may its numbers be believed, and does the deployment keep up.

- `unstable`: open stationary load, a queue without bound and requests without deadline, and arrivals
  at or above capacity, or a number in system that goes on growing. It has no percentiles.
- `overloaded`: the same rate, but a bounded queue or deadlines: what is admitted has percentiles.
- `unresolved`: keeps up, but the run is shorter than a mean needs to be known to 5 %.
- `stable`: keeps up. Closed loops always do.
- `recovered`, `not recovered`: of transient loads (traces, rates that change over time), by the number in system at
  their end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from serve.policy.codes import NEVER_NS
from sim import law_parts
from sim.intervals import t_quantile
from sim.law_moments import dispersion, rate_rps
from sim.result import Verdict
from sim.scenario import Workload
from sim.setup import Setup
from sim.tally import Floats

PRECISION = 0.05
"""Relative half-width, at 95 %, to which a resolved run knows the mean number in system."""

TREND_T = 1.6
"""A trend counts if the slope's t is beyond this many times the 95 % quantile (about 1 in 1,000)."""

END_BINS = 2
"""The end of a transient load: its last so many time bins, a twentieth of it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and why."""

    verdict: Verdict
    reason: str


def stationary(setup: Setup) -> bool:
    """Whether every class arrives openly at a constant mean rate, at replicas that stay."""
    return not setup.changing and all(rate_rps(law) is not None for _, law in setup.workload.laws)


def transient(setup: Setup) -> bool:
    """Whether some class's rate changes over time, or the replicas do."""
    return setup.changing or any(law_parts.transient(law) for _, law in setup.workload.laws)


def unbounded(setup: Setup) -> bool:
    """Whether nothing stops the queue from growing: no bound, and a class without deadline or patience."""
    endless = any(s.timeout_ns == NEVER_NS and not s.leaves for s in setup.load.open)
    return any(serving.spec.max_queue < 0 for serving in setup.served) and endless


def offered_rps(workload: Workload) -> float:
    """Rate of all open stationary classes together."""
    return sum(rate_rps(law) or 0.0 for _, law in workload.laws)


def judge(setup: Setup, capacity_rps: float | None, in_system: Floats, window_s: float) -> Judged:
    """The verdict.

    Parameters
    ----------
    capacity_rps : None for closed loops.
    in_system : (replications, time bins of the window), mean number in system.
    window_s : length of the window of one replication.
    """
    if transient(setup):
        return _recovery(setup, in_system)
    if capacity_rps is None:
        return _closed(setup, in_system)
    rate = offered_rps(setup.workload)
    load = f"{rate:.4g}/s offered, capacity {capacity_rps:.4g}/s"
    if rate >= capacity_rps:
        if unbounded(setup):
            return Judged("unstable", f"{load}: the queue grows without end")
        return Judged("overloaded", f"{load}: the excess is refused, expires or gives up")
    needed_s = resolved_s(rate / capacity_rps, capacity_rps, arrival_cv2(setup.workload))
    simulated_s = window_s * len(in_system)
    if needed_s > simulated_s:
        return Judged(
            "unresolved",
            f"{load}: a mean to {PRECISION:.0%} needs {needed_s:.3g} s, {simulated_s:.3g} s were simulated",
        )
    if unbounded(setup) and growing(in_system):
        return Judged("unstable", f"{load}: yet the number in system goes on growing")
    return Judged("stable", load)


def resolved_s(rho: float, capacity_rps: float, arrival_cv2: float) -> float:
    """Simulated time that the mean number in system needs to PRECISION.

    M/M/1's 2 (1 + rho) z^2 / (rho (1 - rho)^2 e^2) service times (Whitt, "Planning queueing
    simulations", Management Science 35(11), 1989), a service time being 1 / capacity, and burstier
    arrivals as much longer as they make the queue more variable.
    """
    times = 2 * (1 + rho) * 1.96**2 / (rho * (1 - rho) ** 2 * PRECISION**2)
    return times * (arrival_cv2 + 1) / 2 / capacity_rps


def arrival_cv2(workload: Workload) -> float:
    """Dispersion of the open classes' arrivals, averaged by rate: of independent gaps their squared coefficient of
    variation, of others what has the same variance of long counts."""
    total, weighted = 0.0, 0.0
    for _, law in workload.laws:
        rate = rate_rps(law) or 0.0
        total, weighted = total + rate, weighted + rate * (dispersion(law) or 0.0)
    return weighted / total if total else 1.0


def growing(in_system: Floats) -> bool:
    """Whether the number in system rises over the window: significantly over the replications, and by its own size."""
    replications, bins = in_system.shape
    if replications < 3 or bins < 3:
        return False
    x = np.linspace(-0.5, 0.5, bins)
    rises = in_system @ x / float((x**2).sum())  # over the whole window
    mean, error = float(rises.mean()), float(rises.std(ddof=1)) / math.sqrt(replications)
    return mean > TREND_T * t_quantile(replications - 1) * error and mean > float(in_system.mean())


def _closed(setup: Setup, in_system: Floats) -> Judged:
    clients = sum(s.clients for s in setup.load.closed)
    if setup.load.open and unbounded(setup) and growing(in_system):
        return Judged("unstable", "open requests beside closed-loop clients: the number in system goes on growing")
    return Judged("stable", f"{clients} closed-loop clients: never more of them in system than that")


def _recovery(setup: Setup, in_system: Floats) -> Judged:
    """Whether by the end no more than a fair share waits: what replicas hold and one more batch each, or the median."""
    course = in_system.mean(axis=0)
    end = float(course[-END_BINS:].mean())
    holds = sum(
        (each.most if setup.controlled else each.count) * (each.spec.slots + 1) * each.spec.max_batch
        for each in setup.served
    )
    usual = max(float(np.median(course)), float(holds))
    shown = f"{end:.4g} in system at the end, at most {float(course.max()):.4g} in between"
    return Judged("recovered" if end <= usual else "not recovered", shown)
