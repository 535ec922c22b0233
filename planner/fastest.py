"""The best that a profile allows: the most rows per second, and the least latency, of a deployment's replicas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from planner import cost
from serve.deployment import Deployment
from serve.profile import Profile, ServiceCell


def _fastest(
    profile: Profile, threads: int, rows_max: int, time_ms: Callable[[ServiceCell], float]
) -> tuple[list[int], list[float]]:
    """Rows 1..rows_max and, in s, the time of the fastest neighbourhood, linear between what was measured."""
    best: dict[int, float] = {}
    for cell in (c for c in profile.service if c.threads == threads):
        value = time_ms(cell) / 1e3
        best[cell.rows] = min(value, best.get(cell.rows, math.inf))
    measured = sorted(best)
    rows = list(range(1, rows_max + 1))
    return rows, list(np.interp(rows, measured, [best[r] for r in measured]))


def capacity_rows_per_s(deployment: Deployment, profile: Profile) -> float:
    """The most rows per second that the replicas can ever serve: every batch of the best size, nobody disturbed."""
    model = cost.only_model(deployment)[1]
    rows, mean_s = _fastest(profile, model.replicas.threads, model.batching.max_batch, lambda cell: cell.busy_ms)
    return model.replicas.count * max(r / s for r, s in zip(rows, mean_s, strict=True))


def latency_floor_s(deployment: Deployment, profile: Profile, metric: str) -> float:
    """The least that a latency metric can be: that statistic of the fastest batch of a replica at work, without any
    waiting."""
    model = cost.only_model(deployment)[1]
    statistic = {"mean": "mean_ms", "p99": "p99_ms", "p99.9": "p99_ms"}.get(metric, "p50_ms")

    def time_ms(cell: ServiceCell) -> float:
        return float(getattr(cell, statistic)) - (cell.mean_ms - cell.busy_ms)

    return min(_fastest(profile, model.replicas.threads, model.batching.max_batch, time_ms)[1])
