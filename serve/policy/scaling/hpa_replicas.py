"""How many replicas one metric asks for: the replica calculator of the Kubernetes HPA.

One function per kind of target. Windows, rates and bounds come after it (`hpa_rates`), several metrics in `hpa`.
Quantities are integers in thousandths of the metric's unit (upstream's milli-values).

Source: kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator.go and metrics/utilization.go, master
during the development of v1.37, read in the fork omerap12/kubernetes at a769d588. It has the tolerances per direction
of v1.33, missing pods at max(100 %, target) on a scale-down, and counts pods that succeeded as ignored.

Not restated: container metrics and pod-level requests (the caller sums the requests), metrics of unknown pods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from serve.policy.scaling.nanoseconds import SECOND_NS

REPLICAS_MAX = 2**31 - 1
"""Upstream's counts are int32 and stay at their maximum instead of overflowing."""

READY = 0
UNREADY = 1
MISSING = 2
IGNORED = 3
"""What a pod is to one metric: it counts, is too young, has no sample, or is on its way out."""


class Tolerance(NamedTuple):
    """How far usage / target may be from 1.0 without a change, as a share, in either direction."""

    down: float = 0.1
    up: float = 0.1


class Readiness(NamedTuple):
    """From when a pod's CPU is trusted, in ns after its start (two flags of kube-controller-manager)."""

    cpu_initialization_ns: int = 300 * SECOND_NS
    initial_delay_ns: int = 30 * SECOND_NS


DEFAULT_TOLERANCE = Tolerance()
DEFAULT_READINESS = Readiness()


class Pod(NamedTuple):
    """A pod at a tick.

    Parameters
    ----------
    started_ns : instant of its start; None before.
    ready_changed_ns : since when `ready` is what it is; None while the pod has no such condition.
    ready, pending, finished, deleting : passes its probe; not yet on a node; succeeded or failed; asked to go.
    request_milli : requested amount of the resource; 0 if it requests none, which fails a utilisation.
    """

    started_ns: int | None
    ready_changed_ns: int | None
    ready: bool = True
    pending: bool = False
    finished: bool = False
    deleting: bool = False
    request_milli: int = 0


class PodMetric(NamedTuple):
    """A pod's sample: its mean over the `window_ns` that ended at `at_ns`."""

    value_milli: int
    at_ns: int
    window_ns: int


class Row(NamedTuple):
    """A pod as the arithmetic needs it."""

    group: int
    value_milli: int
    request_milli: int


class Proposal(NamedTuple):
    """Replicas that a metric asks for, and its usage: per cent for a utilisation, else thousandths."""

    replicas: int
    usage: int


Measure = Callable[[list[Row]], tuple[int, float]]
"""Usage of some pods, and that usage over the target."""


def is_within(tolerance: Tolerance, ratio: float) -> bool:
    """Whether usage / target is close enough to 1.0 to leave the replicas alone; both ends are within."""
    return 1.0 - tolerance.down <= ratio <= 1.0 + tolerance.up


def pod_group(pod: Pod, metric: PodMetric | None, is_cpu: bool, now_ns: int, readiness: Readiness) -> int:
    """What the pod is to this metric; readiness matters to CPU only, since other metrics do not peak at a start."""
    if pod.deleting or pod.finished:
        return IGNORED
    if pod.pending:
        return UNREADY
    if metric is None:
        return MISSING
    if is_cpu and not _is_cpu_trusted(pod, metric, now_ns, readiness):
        return UNREADY
    return READY


def _is_cpu_trusted(pod: Pod, metric: PodMetric, now_ns: int, readiness: Readiness) -> bool:
    if pod.started_ns is None or pod.ready_changed_ns is None:
        return False
    if pod.started_ns + readiness.cpu_initialization_ns > now_ns:
        # The whole sample has to lie after the pod became ready.
        return pod.ready and metric.at_ns >= pod.ready_changed_ns + metric.window_ns
    # A pod that is unready since shortly after its start has never been ready; later it was, and its load is real.
    return pod.ready or pod.ready_changed_ns >= pod.started_ns + readiness.initial_delay_ns


def pod_rows(
    pods: Sequence[Pod], metrics: Sequence[PodMetric | None], is_cpu: bool, now_ns: int, readiness: Readiness
) -> list[Row]:
    """The pods with their samples (None: missing), in the same order."""
    return [
        Row(
            pod_group(pod, metric, is_cpu, now_ns, readiness),
            0 if metric is None else metric.value_milli,
            pod.request_milli,
        )
        for pod, metric in zip(pods, metrics, strict=True)
    ]


def utilisation_replicas(current: int, target_percent: int, rows: list[Row], tolerance: Tolerance) -> Proposal | None:
    """Replicas for a mean share of the request, in whole per cent (truncated); None if it cannot be told."""
    if any(row.request_milli == 0 for row in rows):
        return None
    # A missing pod is taken to use its request, or more if the target is to use more.
    assumed_percent = max(100, target_percent)

    def measure(counted: list[Row]) -> tuple[int, float]:
        used = sum(row.value_milli for row in counted)
        percent = used * 100 // sum(row.request_milli for row in counted)
        return percent, percent / target_percent

    return _replicas(current, rows, measure, lambda row: row.request_milli * assumed_percent // 100, tolerance)


def average_replicas(current: int, target_milli: int, rows: list[Row], tolerance: Tolerance) -> Proposal | None:
    """Replicas for a mean value per pod (a pods metric, or a resource's average value); None if it cannot be told."""

    def measure(counted: list[Row]) -> tuple[int, float]:
        average = sum(row.value_milli for row in counted) // len(counted)
        return average, average / target_milli

    return _replicas(current, rows, measure, lambda row: target_milli, tolerance)


def _replicas(
    current: int, rows: list[Row], measure: Measure, assumed: Callable[[Row], int], tolerance: Tolerance
) -> Proposal | None:
    """From the ready pods; if others could change the answer, again with the cautious guess for them.

    Going down, a missing pod is taken to use what `assumed` says; going up, missing and unready ones use nothing.
    """
    counted = [row for row in rows if row.group == READY]
    if not counted:
        return None
    usage, ratio = measure(counted)
    if ratio == 1.0:
        return Proposal(current, usage)
    others = [row for row in rows if row.group == MISSING or (row.group == UNREADY and ratio > 1.0)]
    if not others:
        return Proposal(current if is_within(tolerance, ratio) else math.ceil(ratio * len(counted)), usage)
    counted += [row._replace(value_milli=assumed(row) if ratio < 1.0 else 0) for row in others]
    _, cautious = measure(counted)
    if is_within(tolerance, cautious) or (cautious < 1.0) != (ratio < 1.0):
        return Proposal(current, usage)
    wanted = math.ceil(cautious * len(counted))
    # More pods than replicas (a rolling update) must not turn the direction round either.
    return Proposal(min(wanted, current) if ratio < 1.0 else max(wanted, current), usage)


def value_replicas(
    current: int, total_milli: int, target_milli: int, pods: Sequence[Pod], tolerance: Tolerance
) -> Proposal | None:
    """Replicas for one number of an object or from outside that every *ready* pod shares; None without pods."""
    ratio = total_milli / target_milli
    if is_within(tolerance, ratio):
        return Proposal(current, total_milli)
    if not pods:
        return None
    ready = sum(pod.ready and not pod.pending and not pod.finished for pod in pods)
    return Proposal(_count(ratio * ready), total_milli)


def average_value_replicas(status_replicas: int, total_milli: int, target_milli: int, tolerance: Tolerance) -> Proposal:
    """Replicas for one number divided by the replicas that exist, ready or not."""
    if status_replicas == 0:
        return Proposal(_count(total_milli / target_milli), 0)
    usage = math.ceil(total_milli / status_replicas)
    if is_within(tolerance, total_milli / (target_milli * status_replicas)):
        return Proposal(status_replicas, usage)
    return Proposal(_count(total_milli / target_milli), usage)


def _count(replicas: float) -> int:
    return min(math.ceil(replicas), REPLICAS_MAX)
