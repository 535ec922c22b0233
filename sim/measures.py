"""The metrics of a run, from a simulator's tally or from rows of either the simulator or the live engine.

One module for both sides, so that what is compared is computed by the same arithmetic. A run is
first summed up over its *window* (the load after the warm-up): `Totals` a class, `NodeTotals` the
node. `metrics` turns those into the words of `serve.vocabulary`.

Requests are counted by their arrival: a request that arrived in the window counts, whenever it was
answered. Spans of the node (busy, front, in system) are those that pass in the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_LOST,
    OUTCOME_OK,
)
from serve.records import Reason
from sim import error_budget
from sim.error_budget import Record
from sim.tally import (
    HISTOGRAM_BINS,
    SUM_ANSWER_S,
    SUM_CLIENT_S,
    SUM_COMPUTE_S,
    SUM_FRONT_S,
    SUM_LATENCY_S,
    SUM_QUEUE_S,
    SUM_SLOT_S,
    Floats,
    Ints,
    Tally,
    histogram_edges_ns,
)

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
"""Latency percentiles of a Result, by metric name."""

LATENCIES = ("mean", *PERCENTILES)
"""Metrics that an unstable queue does not have."""

DELAYS = {
    "front_delay": SUM_FRONT_S,
    "queue_delay": SUM_QUEUE_S,
    "slot_delay": SUM_SLOT_S,
    "compute": SUM_COMPUTE_S,
    "answer_delay": SUM_ANSWER_S,
    "client_delay": SUM_CLIENT_S,
}
"""Parts of the mean latency, by metric name; they add up to it."""

SHARES = {
    "refused": (OUTCOME_FULL, OUTCOME_DRAINING, OUTCOME_INVALID),
    "expired": (OUTCOME_EXPIRED,),
    "cancelled": (OUTCOME_CANCELLED,),
    "failed": (OUTCOME_LOST, OUTCOME_FAILED),
}
"""Outcomes that each share of requests counts."""

CDF_STEPS = 200
"""A latency distribution is written as its quantiles at so many even steps, both ends included."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of the requests of one class (or of all) that arrived in the window."""

    latency: Ints | Floats  # histogram counts (HISTOGRAM_BINS,), or latencies in s, ascending
    exact: bool  # whether `latency` holds latencies
    sums: Floats  # (SUM_COUNT,) over ok requests
    good: int
    outcomes: Ints  # (OUTCOME_COUNT,)
    drop_reasons: Ints  # (REASON_COUNT,)
    wasted_rows: int = 0  # of batches, of requests for which nobody waited in the end
    hedges: int = 0  # attempts beside another


@dataclass(frozen=True, slots=True)
class NodeTotals:
    """What the nodes did in the window of `span_s` seconds."""

    span_s: float
    replicas: float
    nodes: int
    batch_rows: Ints  # (rows_max + 1,)
    batch_reasons: Ints  # (REASON_COUNT,)
    busy_s: float
    front_busy_s: float
    in_system_s: float
    scale_ups: int = 0
    scale_downs: int = 0
    flaps: int = 0
    under_target: float = 0.0
    deaths: int = 0
    node_losses: int = 0
    reclaims: int = 0
    rollouts: int = 0
    rollbacks: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Time bins of a tally that count: `first` to before `last`, each `bin_ns` wide."""

    first: int
    last: int
    bin_ns: int

    @property
    def span_s(self) -> float:
        """Length."""
        return (self.last - self.first) * self.bin_ns * 1e-9


@dataclass(frozen=True, slots=True)
class Run:
    """One run, summed up: by class in the order of the scenario, all together, and the node."""

    classes: tuple[Totals, ...]
    total: Totals
    node: NodeTotals
    versions: tuple[Totals, ...] = field(default=())
    """By version of the models that have several, if that is known."""
    answered_in_time: tuple[int, ...] | None = field(default=None)
    """By class: ok requests of the window that were answered before the load ended; none: all were."""
    budgets: tuple[Record | None, ...] = field(default=())
    """By class, and of all: how the SLO fared over time; None where it names no percentile, nothing if unknown."""


# -- from a tally ----------------------------------------------------------------------------------------


def run_of_tally(
    tally: Tally,
    window: Window,
    replicas: float,
    in_time: tuple[int, ...] | None = None,
    latency_first: int = 0,
    nodes: int = 1,
) -> Run:
    """The run that a tally holds, within a window; its histograms may begin at bin `latency_first`."""
    cut = slice(window.first, window.last)
    classes = tuple(_class_totals(tally, c, cut, latency_first) for c in range(len(tally.latency)))
    node = NodeTotals(
        span_s=window.span_s,
        replicas=replicas,
        nodes=nodes,
        batch_rows=tally.batch_rows[cut].sum(axis=0),
        batch_reasons=tally.batch_reasons[cut].sum(axis=0),
        busy_s=float(tally.busy_s[cut].sum()),
        front_busy_s=float(tally.front_busy_s[cut].sum()),
        in_system_s=float(tally.in_system_s[cut].sum()),
    )
    return Run(classes, together(classes), node, answered_in_time=in_time)


def _class_totals(tally: Tally, class_: int, cut: slice, latency_first: int) -> Totals:
    kept = tally.latency[class_, cut].sum(axis=0)
    latency = np.zeros(HISTOGRAM_BINS, np.int64)
    latency[latency_first : latency_first + len(kept)] = kept
    return Totals(
        latency=latency,
        exact=False,
        sums=tally.sums[class_, cut].sum(axis=0),
        good=int(tally.good[class_, cut].sum()),
        outcomes=tally.outcomes[class_, cut].sum(axis=0),
        drop_reasons=tally.drop_reasons[class_, cut].sum(axis=0),
        wasted_rows=int(tally.wasted_rows[class_, cut].sum()),
        hedges=int(tally.hedges[class_, cut].sum()),
    )


def budgets_of_tally(tally: Tally, window: Window, objectives: Sequence[float | None]) -> tuple[Record | None, ...]:
    """By class, and of all, as the objectives: the SLO's record over the window, from its first whole bin on."""
    first, last = -(-window.first * window.bin_ns // tally.fine_ns), tally.fine.shape[1] - 1
    classes = [*tally.fine[:, first:last], tally.fine[:, first:last].sum(axis=0)]
    return tuple(
        None if objective is None else Record(counts[:, 0], counts[:, 1], tally.fine_ns * 1e-9, objective)
        for counts, objective in zip(classes, objectives, strict=True)
    )


def together(parts: Sequence[Totals]) -> Totals:
    """Totals of several classes (or runs) added up."""
    exact = parts[0].exact
    latency = (
        np.sort(np.concatenate([p.latency for p in parts])) if exact else np.sum([p.latency for p in parts], axis=0)
    )
    return Totals(
        latency=latency,
        exact=exact,
        sums=np.sum([p.sums for p in parts], axis=0),
        good=sum(p.good for p in parts),
        outcomes=np.sum([p.outcomes for p in parts], axis=0),
        drop_reasons=np.sum([p.drop_reasons for p in parts], axis=0),
        wasted_rows=sum(p.wasted_rows for p in parts),
        hedges=sum(p.hedges for p in parts),
    )


# -- quantiles ---------------------------------------------------------------------------------------------


def quantiles_s(totals: Totals, shares: Sequence[float]) -> list[float]:
    """Latency quantiles in s; nan where nothing was answered."""
    if totals.exact:
        if not len(totals.latency):
            return [math.nan] * len(shares)
        return [float(q) for q in np.quantile(totals.latency, shares)]
    return histogram_quantiles_s(totals.latency, shares)


def histogram_quantiles_s(counts: Ints | Floats, shares: Sequence[float]) -> list[float]:
    """Quantiles of a latency histogram, linear within a bin; nan if it is empty.

    A bin is 0.39 % wide, so the error is below that, and far below it where bins are well filled.
    """
    used = np.flatnonzero(counts)
    if not len(used):
        return [math.nan] * len(shares)
    edges = histogram_edges_ns()
    filled = counts[used]
    above = np.cumsum(filled)
    out = []
    for share in shares:
        rank = share * above[-1]
        i = min(int(np.searchsorted(above, rank, side="left")), len(used) - 1)
        within = (rank - (above[i] - filled[i])) / filled[i]
        low, high = edges[used[i]], edges[used[i] + 1]
        out.append(float(low + (high - low) * min(max(within, 0.0), 1.0)) * 1e-9)
    return out


# -- metrics -----------------------------------------------------------------------------------------------


def metrics(run: Run) -> tuple[dict[str, float], list[dict[str, float]]]:
    """(metrics of all requests and the node, metrics of each class, then of each version), by the names of
    `serve.vocabulary`.

    What is undefined (a percentile of no answer, a share of no request) is nan.
    """
    in_time = [c.outcomes[OUTCOME_OK] for c in run.classes] if run.answered_in_time is None else run.answered_in_time
    classes = [_request_metrics(t, run.node.span_s, int(n)) for t, n in zip(run.classes, in_time, strict=True)]
    total = _request_metrics(run.total, run.node.span_s, int(sum(in_time)))
    for found, totals, budget in zip((*classes, total), (*run.classes, run.total), run.budgets, strict=False):
        if budget is not None:
            found |= {"slo_met": _ratio(totals.good, int(totals.outcomes.sum()))} | error_budget.metrics(budget)
    total |= node_metrics(run.node)
    total["wasted"] = _ratio(run.total.wasted_rows, _rows(run.node))
    versions = [_request_metrics(t, run.node.span_s, int(t.outcomes[OUTCOME_OK])) for t in run.versions]
    return total, [*classes, *versions]


def _request_metrics(totals: Totals, span_s: float, answered: int) -> dict[str, float]:
    arrived = int(totals.outcomes.sum())
    ok = int(totals.outcomes[OUTCOME_OK])
    out = {"mean": _ratio(totals.sums[SUM_LATENCY_S], ok)}
    out |= dict(zip(PERCENTILES, quantiles_s(totals, list(PERCENTILES.values())), strict=True))
    out["arrival_rate"] = _ratio(arrived, span_s)
    out["throughput"] = _ratio(answered, span_s)
    out["goodput"] = _ratio(min(totals.good, answered), span_s)
    for name, outcomes in SHARES.items():
        out[name] = _ratio(totals.outcomes[list(outcomes)].sum(), arrived)
    out["lost"] = float(totals.outcomes[[OUTCOME_LOST, OUTCOME_FAILED]].sum())
    out["hedged"] = _ratio(totals.hedges, arrived)
    for name, column in DELAYS.items():
        out[name] = _ratio(totals.sums[column], ok)
    return out


def node_metrics(node: NodeTotals) -> dict[str, float]:
    """Metrics of the node alone."""
    batches = int(node.batch_rows.sum())
    return {
        "batch_mean": _ratio(_rows(node), batches),
        "busy": _ratio(node.busy_s, node.span_s * node.replicas),
        "front_busy": _ratio(node.front_busy_s, node.span_s * node.nodes),
        "in_system": _ratio(node.in_system_s, node.span_s),
        "replicas": float(node.replicas),
        "scale_ups": float(node.scale_ups),
        "scale_downs": float(node.scale_downs),
        "flaps": float(node.flaps),
        "under_target": node.under_target,
        "deaths": float(node.deaths),
        "node_losses": float(node.node_losses),
        "reclaims": float(node.reclaims),
        "rollouts": float(node.rollouts),
        "rollbacks": float(node.rollbacks),
    }


def _rows(node: NodeTotals) -> float:
    """Rows of all batches."""
    return float((node.batch_rows * np.arange(len(node.batch_rows))).sum())


def _ratio(value: float, of: float) -> float:
    return float(value) / float(of) if of else math.nan


# -- distributions -------------------------------------------------------------------------------------------


def batch_shares(batch_rows: Ints) -> dict[int, float]:
    """Share of batches by their rows, those that occurred."""
    count = int(batch_rows.sum())
    return {int(r): float(batch_rows[r]) / count for r in np.flatnonzero(batch_rows)}


def reason_shares(reasons: Ints, of: int) -> dict[str, float]:
    """Share of `of` things by reason, those that occurred, in the order of the codes."""
    return {Reason(int(r)).name.lower(): float(reasons[r]) / of for r in np.flatnonzero(reasons)}


def total_variation(one: dict[int, float], other: dict[int, float]) -> float:
    """Distance of two distributions over rows: half the sum of absolute differences, in [0, 1]."""
    return sum(abs(one.get(r, 0.0) - other.get(r, 0.0)) for r in one.keys() | other.keys()) / 2


def latency_cdf_s(totals: Totals) -> list[float]:
    """Latency quantiles at 0, 0.5, ..., 100 %; empty if nothing was answered."""
    quantiles = quantiles_s(totals, [i / CDF_STEPS for i in range(CDF_STEPS + 1)])
    return [] if math.isnan(quantiles[0]) else quantiles
