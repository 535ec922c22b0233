"""The Kubernetes HorizontalPodAutoscaler: one reconciliation of its controller per tick.

Order of a tick: out of bounds (no metric is looked at), every metric's proposal and their maximum (`hpa_replicas`),
the windows, the rates and bounds (`hpa_rates`).

Source: kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal.go, reconcileAutoscaler and
computeReplicasForMetrics; version as in `hpa_replicas`. The feature gate HPAScaleToZero is off, as by default: at zero
replicas the HPA is switched off, and whoever scaled to zero has to scale up again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.hpa_rates import (
    LIMIT_NONE,
    Behavior,
    Bounded,
    Timestamped,
    bounded,
    bounded_by_rules,
    longest_period_ns,
    remember,
    stabilised,
    stabilised_down,
)
from serve.policy.scaling.hpa_replicas import (
    DEFAULT_READINESS,
    DEFAULT_TOLERANCE,
    Pod,
    PodMetric,
    Proposal,
    Readiness,
    Tolerance,
    average_replicas,
    average_value_replicas,
    pod_rows,
    utilisation_replicas,
    value_replicas,
)
from serve.policy.scaling.nanoseconds import SECOND_NS

UTILISATION = "utilisation"
POD_AVERAGE = "pod_average"
VALUE = "value"
AVERAGE_VALUE = "average_value"
"""Kinds of target: mean per cent of the request; mean value of a pod; one number as it is; one number a replica."""


class MetricTarget(NamedTuple):
    """What one metric is to be.

    Parameters
    ----------
    kind : UTILISATION (of a resource), POD_AVERAGE (a pods metric, or a resource's average value), VALUE or
        AVERAGE_VALUE (of an object, or external).
    target : in per cent for UTILISATION, else in thousandths of the metric's unit; above 0.
    is_cpu : whether young pods are not trusted (`Readiness`); for the kinds that look at pods.
    """

    kind: str
    target: int
    is_cpu: bool = False


class Reading(NamedTuple):
    """What one metric reads at a tick; without arguments, that it could not be read.

    Parameters
    ----------
    total_milli : for VALUE and AVERAGE_VALUE, summed over its series.
    per_pod : else, in the order of the sample's pods; None for a pod without a sample.
    """

    total_milli: int | None = None
    per_pod: tuple[PodMetric | None, ...] = ()


@dataclass(frozen=True, slots=True)
class HpaSettings:
    """A HorizontalPodAutoscaler object and the controller's flags; the defaults are upstream's.

    Parameters
    ----------
    metrics : at least one; the largest proposal counts.
    max_replicas, min_replicas : bounds.
    interval_ns : between ticks (--horizontal-pod-autoscaler-sync-period).
    tolerance : per direction since v1.33 (there part of `behavior`; before, one flag for both).
    behavior : rates and windows; None for an object without a `behavior` block.
    down_window_ns : without one, the highest recommendation of this long counts (--...-downscale-stabilization).
    readiness : from when a young pod's CPU counts.

    Source: as of this module.
    """

    metrics: tuple[MetricTarget, ...]
    max_replicas: int
    min_replicas: int = 1
    interval_ns: int = 15 * SECOND_NS
    tolerance: Tolerance = DEFAULT_TOLERANCE
    behavior: Behavior | None = None
    down_window_ns: int = 300 * SECOND_NS
    readiness: Readiness = DEFAULT_READINESS


class HpaSample(NamedTuple):
    """What the HPA may know at a tick.

    Parameters
    ----------
    now_ns : instant of the tick.
    spec_replicas : asked for at present (the scale's spec).
    status_replicas : that exist, ready or not (the scale's status).
    readings : one per metric of the settings, in their order.
    pods : of the target, those on their way out included; may be empty if every kind is AVERAGE_VALUE.
    """

    now_ns: int
    spec_replicas: int
    status_replicas: int
    readings: tuple[Reading, ...]
    pods: tuple[Pod, ...] = ()


def propose(settings: HpaSettings, target: MetricTarget, reading: Reading, sample: HpaSample) -> Proposal | None:
    """What one metric asks for; None if it cannot be told."""
    current, tolerance = sample.spec_replicas, settings.tolerance
    if target.kind in (VALUE, AVERAGE_VALUE):
        if reading.total_milli is None:
            return None
        if target.kind == AVERAGE_VALUE:
            return average_value_replicas(sample.status_replicas, reading.total_milli, target.target, tolerance)
        return value_replicas(current, reading.total_milli, target.target, sample.pods, tolerance)
    if not reading.per_pod:
        return None
    rows = pod_rows(sample.pods, reading.per_pod, target.is_cpu, sample.now_ns, settings.readiness)
    replicas = utilisation_replicas if target.kind == UTILISATION else average_replicas
    return replicas(current, target.target, rows, tolerance)


def describe(target: MetricTarget, proposal: Proposal, current: int) -> str:
    """The clause that explains a proposal which nothing held back.

    It does not say over or under: with fewer pods than replicas, usage over the target may still ask for fewer.
    """
    if target.kind == UTILISATION:
        usage, wanted = f"{proposal.usage} %", f"{target.target} %"
    else:
        usage, wanted = f"{proposal.usage / 1000:g}", f"{target.target / 1000:g}"
    clause = f"{target.kind.replace('_', ' ')} of {usage} for a target of {wanted}"
    return f"no change: {clause}" if proposal.replicas == current else clause


class Hpa:
    """The controller of one target; a `Decision` is taken to be carried out before the next tick."""

    def __init__(self, settings: HpaSettings) -> None:
        self._settings = settings
        self._recommendations: list[Timestamped] = []
        self._ups: list[Timestamped] = []
        self._downs: list[Timestamped] = []

    def decide(self, sample: HpaSample) -> Decision:
        """One reconciliation."""
        settings, current = self._settings, sample.spec_replicas
        if not self._recommendations:
            # The replicas found at first count as a recommendation. Upstream notes it earlier in the same pass, so it
            # is older than a window of 0.
            self._recommendations.append(Timestamped(sample.now_ns - 1, current))
        if current == 0:
            return Decision(0, "switched off at zero replicas")
        if current > settings.max_replicas:
            decision = Decision(settings.max_replicas, f"above its maximum of {settings.max_replicas}")
        elif current < settings.min_replicas:
            decision = Decision(settings.min_replicas, f"below its minimum of {settings.min_replicas}")
        else:
            decision = self._from_metrics(sample)
        self._note_change(current, decision.wanted, sample.now_ns)
        return decision

    def _from_metrics(self, sample: HpaSample) -> Decision:
        metrics, current = self._settings.metrics, sample.spec_replicas
        proposals = [
            (target, propose(self._settings, target, reading, sample))
            for target, reading in zip(metrics, sample.readings, strict=True)
        ]
        known = [(target, proposal) for target, proposal in proposals if proposal is not None]
        if not known:
            return Decision(current, "no metric can be read")
        target, best = max(known, key=lambda pair: pair[1].replicas)
        unread = len(metrics) - len(known)
        if unread and best.replicas < current:
            return Decision(current, f"no scale-down while {unread} of {len(metrics)} metrics cannot be read")
        steady, kept = self._settle(current, best.replicas, sample.now_ns)
        if kept.limit != LIMIT_NONE:
            return Decision(kept.replicas, f"{kept.limit}: {kept.replicas}")
        if steady != best.replicas:
            direction = "downs" if steady > best.replicas else "ups"
            window_s = self._window_ns(steady > best.replicas) / SECOND_NS
            return Decision(kept.replicas, f"held by the {window_s:g} s window of scale-{direction}")
        return Decision(kept.replicas, describe(target, best, current))

    def _settle(self, current: int, recommended: int, now_ns: int) -> tuple[int, Bounded]:
        """The recommendation after the windows, and after the limits too; it is remembered as it was."""
        settings, behavior = self._settings, self._settings.behavior
        if behavior is None:
            steady = stabilised_down(self._recommendations, recommended, now_ns, settings.down_window_ns)
            kept = bounded(current, steady, settings.min_replicas, settings.max_replicas)
        else:
            steady = stabilised(
                self._recommendations, recommended, current, now_ns, behavior.up.window_ns, behavior.down.window_ns
            )
            kept = bounded_by_rules(
                current, steady, settings.min_replicas, settings.max_replicas, behavior, self._ups, self._downs, now_ns
            )
        remember(
            self._recommendations, Timestamped(now_ns, recommended), max(self._window_ns(False), self._window_ns(True))
        )
        return steady, kept

    def _window_ns(self, is_down: bool) -> int:
        behavior = self._settings.behavior
        if behavior is None:
            return self._settings.down_window_ns if is_down else 0
        return behavior.down.window_ns if is_down else behavior.up.window_ns

    def _note_change(self, current: int, wanted: int, now_ns: int) -> None:
        behavior = self._settings.behavior
        if behavior is None:
            return
        if wanted > current:
            remember(self._ups, Timestamped(now_ns, wanted - current), longest_period_ns(behavior.up))
        elif wanted < current:
            remember(self._downs, Timestamped(now_ns, current - wanted), longest_period_ns(behavior.down))
