"""What rules a candidate out without simulating it.

A bound is admissible: no simulation could find the candidate holding the SLO. Its replicas do not fit
the cores, the rows that arrive are more than it can ever serve, or its fastest batch already takes
longer than the SLO allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner import cost
from planner.fastest import capacity_rows_per_s, latency_floor_s
from planner.slo import LATENCIES, Bound, latency_limit_s
from planner.space import Candidate
from serve.profile import Profile
from sim.law_moments import rate_rps
from sim.mix import law_of
from sim.scenario import RequestClass, Workload

BOUND_SLACK = 0.05
"""Means and medians are loosened by this share: replications draw the calibration anew, the machine has better days."""
TAIL_SLACK = 0.2
"""Higher percentiles by this one: a thin cell's tail is pooled over batch sizes when it is simulated."""


@dataclass(frozen=True, slots=True)
class Offered:
    """Load that the open classes offer at least, and for how long; traces and closed loops are not counted."""

    requests_per_s: float
    rows_per_s: float
    duration_s: float
    lost: float  # share that the SLO lets be lost


def offered(workload: Workload, bounds: list[Bound]) -> Offered:
    """The load of the classes whose rate the scenario states."""
    rates = [(rate_rps(law_of(workload, name)), mean_rows(c)) for name, c in workload.classes.items()]
    losses = [b.limit for b in bounds if b.class_ is None and b.metric in ("refused", "expired", "cancelled", "failed")]
    patient = all(c.patience is None for c in workload.classes.values())
    return Offered(
        requests_per_s=sum(rate for rate, _ in rates if rate is not None),
        rows_per_s=sum(rate * rows for rate, rows in rates if rate is not None),
        duration_s=workload.duration / 1e9,
        lost=min(1.0, sum(losses)) if patient else 1.0,
    )


def mean_rows(class_: RequestClass) -> float:
    """Mean rows of a request."""
    if isinstance(class_.rows, int):
        return float(class_.rows)
    return sum(rows * weight for rows, weight in class_.rows.items()) / sum(class_.rows.values())


def most_rows(workload: Workload) -> int:
    """Rows of the largest request."""
    return max(c.rows if isinstance(c.rows, int) else max(c.rows) for c in workload.classes.values())


Ruling = Literal["rows", "cores", "capacity", "latency floor"]


@dataclass(frozen=True, slots=True)
class Outside:
    """Why a candidate is ruled out without simulating it."""

    limit: Ruling
    reason: str


def front_floor_cores(candidate: Candidate, profile: Profile, load: Offered) -> float:
    """The least CPU of the candidate's front."""
    max_batch = cost.only_model(candidate.deployment)[1].batching.max_batch
    return cost.front_floor_cores(profile.front, load.requests_per_s, load.rows_per_s, max_batch, load.lost)


def ruled_out(
    candidate: Candidate, profile: Profile, workload: Workload, load: Offered, bounds: list[Bound]
) -> Outside | None:
    """The first bound that a candidate cannot meet: rows, cores, capacity, latency floor."""
    return (
        _rows_outside(candidate, workload)
        or cores_outside(candidate, front_floor_cores(candidate, profile, load))
        or capacity_outside(candidate, profile, load, bounds)
        or _floor_outside(candidate, profile, bounds)
    )


def _rows_outside(candidate: Candidate, workload: Workload) -> Outside | None:
    max_batch = cost.only_model(candidate.deployment)[1].batching.max_batch
    if most_rows(workload) <= max_batch:
        return None
    return Outside(
        "rows", f"requests have up to {most_rows(workload)} rows, max_batch is {max_batch}: they are invalid"
    )


def cores_outside(candidate: Candidate, front_cores: float) -> Outside | None:
    """Replicas and front together against the pool's cores."""
    cores = cost.cores_of(candidate.deployment)
    needed = candidate.replica_cores + front_cores
    if needed <= cores:
        return None
    return Outside(
        "cores", f"needs {needed:.3f} cores (replicas {candidate.replica_cores}, front {front_cores:.3f}) of {cores}"
    )


def capacity_outside(candidate: Candidate, profile: Profile, load: Offered, bounds: list[Bound]) -> Outside | None:
    """Rows that must be served against rows that can be, the backlog that may be left at the end included."""
    capacity = capacity_rows_per_s(candidate.deployment, profile) * (1 + BOUND_SLACK)
    grace_s = latency_limit_s(bounds) or load.duration_s
    if load.rows_per_s * (1 - load.lost) * load.duration_s <= capacity * (load.duration_s + grace_s):
        return None
    return Outside("capacity", f"can serve at most {capacity:.0f} rows/s, {load.rows_per_s:.0f} rows/s arrive")


def _floor_outside(candidate: Candidate, profile: Profile, bounds: list[Bound]) -> Outside | None:
    for bound in bounds:
        if bound.metric not in LATENCIES:
            continue
        slack = BOUND_SLACK if bound.metric in ("mean", "p50") else TAIL_SLACK
        floor_s = latency_floor_s(candidate.deployment, profile, bound.metric) * (1 - slack)
        if floor_s > bound.limit:
            return Outside(
                "latency floor", f"the fastest batch alone has {bound.metric} {floor_s * 1e3:.3g}ms: {bound}"
            )
    return None
