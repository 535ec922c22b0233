"""What a live engine that scales itself did in a run, from its log of scaling."""

from __future__ import annotations

from pathlib import Path

from serve.scaling_log import SCALING_FILE, replay

SCALED = ("replicas", "scale_ups", "scale_downs")
"""Metrics that only such an engine has; its replicas are those that were set, draining ones not among them."""


def scaling_metrics(folder: Path, model: str, start_ns: int, end_ns: int) -> dict[str, float]:
    """SCALED, over a span of CLOCK_MONOTONIC, from the logs in a folder; SpecError if there are none of the model."""
    logged = replay(folder / SCALING_FILE, model)
    ticks = [(logged.began_ns + tick.at_ns, tick.applied, tick.applied - tick.counted) for tick in logged.ticks]
    first = logged.ticks[0].counted if logged.ticks else 0
    begun = [(logged.began_ns, first), *((at_ns, applied) for at_ns, applied, _ in ticks)]
    area = 0
    for i, (at_ns, count) in enumerate(begun):
        until_ns = begun[i + 1][0] if i + 1 < len(begun) else end_ns
        area += count * max(0, min(until_ns, end_ns) - max(at_ns, start_ns))
    changes = [change for at_ns, _, change in ticks if start_ns <= at_ns < end_ns]
    ups, downs = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return dict(zip(SCALED, (area / (end_ns - start_ns), float(ups), float(downs)), strict=True))
