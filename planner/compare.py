"""Predicted against measured: errors, the noise floor of repeated runs, and what counts as good enough.

Pure: from a Result and live Runs to the rows of a Report. A prediction of a metric is accepted if
its interval holds the median of the runs, or if it is off by no more than the stated tolerance, or
by no more than the runs differ among themselves: nothing can predict what does not repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from planner.report import BATCH_TV_TOLERANCE, TOLERANCE, BoundCheck, Comparison, ReportVerdict, Run
from planner.scaled_run import SCALED
from planner.slo import Bound, show
from serve.vocabulary import METRICS
from sim.measures import DELAYS, total_variation
from sim.result import Result

SHOWN = (
    "mean",
    "p50",
    "p90",
    "p95",
    "p99",
    "p99.9",
    "throughput",
    "goodput",
    "batch_mean",
    "busy",
    "front_busy",
    "refused",
    "expired",
    "cancelled",
    "failed",
    *DELAYS,
)
"""Metrics of a Report's table, in its order."""


def compare(predicted: Result, runs: Sequence[Run], rehearsed: Result | None = None) -> list[Comparison]:
    """One row a metric that either side knows."""
    scaled = any("replicas" in run.metrics for run in runs)
    rows = [comparison(name, predicted, runs, rehearsed) for name in (*SHOWN, *(SCALED if scaled else ()))]
    return [row for row in rows if row.predicted is not None or row.measured is not None]


def comparison(name: str, predicted: Result, runs: Sequence[Run], rehearsed: Result | None = None) -> Comparison:
    """One metric: predicted for one run (`Estimate.typical`, of latencies and their parts; of the rehearsal, if there
    was one), its interval, the runs, and the judgement where it is a judged one."""
    estimate = (rehearsed or predicted).total.metrics.get(name)
    value = None if estimate is None else estimate.typical if METRICS[name].unit == "s" else estimate.value
    expected = predicted.total.metrics.get(name)
    interval = None if expected is None else expected.pi
    seen = [run.metrics.get(name) for run in runs]
    known = [v for v in seen if v is not None]
    measured = median(known) if known else None
    covered = None if interval is None or measured is None else interval[0] <= measured <= interval[1]
    row = Comparison(
        metric=name,
        unit=METRICS[name].unit,
        predicted=value,
        interval=interval,
        measured=measured,
        runs=seen,
        error=relative(value, measured),
        noise=noise(known),
        covered=covered,
        tolerance=TOLERANCE.get(name),
        ok=None,
    )
    return row.model_copy(update={"ok": accepted(row)})


def relative(value: float | None, measured: float | None) -> float | None:
    """(value - measured) / measured; None where undefined."""
    if value is None or not measured:
        return None
    return (value - measured) / measured


def noise(values: Sequence[float]) -> float | None:
    """Largest difference between two runs as a share of their median: the live-against-live error."""
    if len(values) < 2 or not median(values):
        return None
    return (max(values) - min(values)) / median(values)


def accepted(row: Comparison) -> bool | None:
    """Whether a prediction is good enough; None for a metric that is only shown."""
    if row.tolerance is None:
        return None
    if row.predicted is None or row.measured is None or row.error is None:
        return row.predicted is None and row.measured is None
    return bool(row.covered) or abs(row.error) <= max(row.tolerance, row.noise or 0.0)


def batch_distance(predicted: Result, runs: Sequence[Run]) -> tuple[float | None, float | None]:
    """Total variation of batch sizes: (predicted against the runs together, largest between successive runs)."""
    logged = [run.batch_rows for run in runs if run.batch_rows]
    if not logged:
        return None, None
    sizes = {rows for shares in logged for rows in shares}
    together = {rows: sum(s.get(rows, 0.0) for s in logged) / len(logged) for rows in sizes}
    between = [total_variation(a, b) for a, b in pairwise(logged)]
    return total_variation(predicted.batch_rows, together), max(between, default=None)


def check_bounds(bounds: Sequence[Bound], runs: Sequence[Run]) -> list[BoundCheck]:
    """Each bound of the SLO against the median of the live runs."""
    checks = []
    for bound in bounds:
        parts = [run.metrics if bound.class_ is None else run.classes.get(bound.class_, {}) for run in runs]
        known = [v for part in parts if (v := part.get(bound.metric)) is not None]
        measured = median(known) if known else None
        held = measured is not None and (measured >= bound.limit if bound.lower else measured <= bound.limit)
        checks.append(BoundCheck(bound=str(bound), metric=bound.metric, measured=measured, held=held))
    return checks


def prediction_faults(rows: Sequence[Comparison], batch_tv: float | None, batch_tv_noise: float | None) -> list[str]:
    """What was predicted worse than is accepted, a sentence each; empty if all is well."""
    found = [_fault(row) for row in rows if row.ok is False]
    allowed = max(BATCH_TV_TOLERANCE, batch_tv_noise or 0.0)
    if batch_tv is not None and batch_tv > allowed:
        found.append(f"batch sizes: total variation {batch_tv:.3f}, accepted {allowed:.3f}")
    return found


def _fault(row: Comparison) -> str:
    if row.predicted is None or row.measured is None or row.error is None:
        return f"{row.metric}: predicted {row.predicted}, measured {row.measured}"
    return (
        f"{row.metric}: predicted {show(row.metric, row.predicted)}, measured {show(row.metric, row.measured)} "
        f"({row.error:+.1%}; accepted {max(row.tolerance or 0.0, row.noise or 0.0):.1%} or inside the interval)"
    )


def verdict(bounds: Sequence[BoundCheck], faults: Sequence[str]) -> tuple[ReportVerdict, str]:
    """The verdict of a Report and its reason."""
    missed = [
        f"{b.bound}: measured nothing" if b.measured is None else f"{b.bound}: measured {show(b.metric, b.measured)}"
        for b in bounds
        if not b.held
    ]
    if missed and faults:
        return "slo missed and prediction off", "; ".join([*missed, *faults])
    if missed:
        return "slo missed", "; ".join(missed)
    if faults:
        return "prediction off", "; ".join(faults)
    return "ok", "the SLO was met, and every judged metric was predicted within its interval, tolerance or noise"
