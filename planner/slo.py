"""The SLO's bounds in inside units, and whether a Result holds them by the far end of its `pi`.

A bound is an upper one, but for rates. It is held when the end of the prediction interval that
lies nearest the bound is still inside: one run of this length will then keep it 19 times of 20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from serve.errors import SpecError
from serve.units import format_duration, format_rate, format_share
from serve.vocabulary import METRICS
from sim.claims import LOWER_BOUNDED, Expectation, bounds_of
from sim.result import ClassResult, Estimate, Result

LATENCIES = ("p99", "p99.9", "p95", "p90", "p50", "mean")
"""Latency metrics, the one that a plan is ordered by first."""
LOSSES = ("refused", "expired", "failed")
LOSS_IMPLIED = 0.01
"""Share that may be lost where the SLO says nothing: a p99 of the admitted alone promises nothing."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound: `limit` in the unit of its metric; `class_` None is all requests together."""

    metric: str
    limit: float
    class_: str | None = None
    implied: bool = False  # not written in the SLO: see LOSS_IMPLIED

    @property
    def lower(self) -> bool:
        """Whether the metric must be at least `limit` instead of at most."""
        return self.metric in LOWER_BOUNDED

    @property
    def name(self) -> str:
        """As `slo:` names it: `p99` or `interactive.p99`."""
        return self.metric if self.class_ is None else f"{self.class_}.{self.metric}"

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.lower else '<='} {show(self.metric, self.limit)}"


@dataclass(frozen=True, slots=True)
class Check:
    """A bound against a Result: the estimate, the end of its interval that counts, and the judgement."""

    bound: Bound
    value: float | None
    far: float | None
    held: bool

    @property
    def excess(self) -> float:
        """How far the far end is beyond the bound, as a ratio: above 1 is a miss, inf if nothing can be said."""
        if self.far is None:
            return inf
        if self.bound.lower:
            return self.bound.limit / self.far if self.far > 0 else inf
        return self.far / self.bound.limit if self.bound.limit > 0 else 1.0 + self.far

    def __str__(self) -> str:
        if self.value is None or self.far is None:
            return f"{self.bound}: no value, the queue is not stable"
        metric = self.bound.metric
        return f"{self.bound}: {show(metric, self.value)}, up to {show(metric, self.far)} in one run"


def show(metric: str, value: float) -> str:
    """A value of a metric with its unit, as files write it."""
    unit = METRICS[metric].unit
    if unit == "s":
        return format_duration(_rounded_ns(value))
    if unit == "1/s":
        return format_rate(float(f"{value:.4g}"))
    if unit == "share":
        return format_share(float(f"{value:.3g}"))
    return f"{value:.4g}"


def _rounded_ns(value_s: float) -> int:
    return round(float(f"{value_s:.3g}") * 1e9)


def parse_slo(slo: Mapping[str, str | float], classes: tuple[str, ...]) -> list[Bound]:
    """The bounds of `slo`, then the implied ones on losses (see LOSS_IMPLIED).

    Raises
    ------
    SpecError : all faults at once.
    """
    claims, faults = bounds_of(slo, classes, "scenario")
    if faults:
        raise SpecError(faults)
    bounds = [_bound(claim) for claim in claims]
    written = {b.metric for b in bounds if b.class_ is None}
    return bounds + [Bound(m, LOSS_IMPLIED, implied=True) for m in LOSSES if m not in written]


def _bound(claim: Expectation) -> Bound:
    limit = claim.low if claim.of.metric in LOWER_BOUNDED else claim.high
    return Bound(claim.of.metric, limit, claim.of.class_)


def estimate_of(bound: Bound, result: Result) -> Estimate | None:
    """The estimate that a bound speaks of; None if the Result lacks it."""
    part: ClassResult | None = result.total if bound.class_ is None else result.classes.get(bound.class_)
    return None if part is None else part.metrics.get(bound.metric)


def check(bound: Bound, result: Result) -> Check:
    """The bound against the far end of `pi`."""
    estimate = estimate_of(bound, result)
    if estimate is None or estimate.value is None:
        return Check(bound, None, None, held=False)
    far = estimate.value if estimate.pi is None else estimate.pi[0 if bound.lower else 1]
    held = far >= bound.limit if bound.lower else far <= bound.limit
    return Check(bound, estimate.value, far, held)


def hopeless(bound: Bound, result: Result) -> bool:
    """Whether even the near end of `ci` misses the bound: no longer run can make it hold."""
    estimate = estimate_of(bound, result)
    if estimate is None or estimate.value is None or estimate.ci is None:
        return False
    return estimate.ci[1] < bound.limit if bound.lower else estimate.ci[0] > bound.limit


def latency_metric(bounds: list[Bound]) -> Bound:
    """The latency that a plan is ordered by: the SLO's own, p99 before the others; else p99 unbounded."""
    for metric in LATENCIES:
        for bound in bounds:
            if bound.metric == metric:
                return bound
    return Bound("p99", inf)


def latency_limits_s(bounds: list[Bound]) -> list[float]:
    """The SLO's bounds on its leading latency metric, of all requests and of classes, in ascending order."""
    leading = latency_metric(bounds).metric
    return sorted(b.limit for b in bounds if b.metric == leading)


def latency_limit_s(bounds: list[Bound]) -> float | None:
    """The loosest of them: nobody may take longer; None if there is none."""
    return max(latency_limits_s(bounds), default=None)
