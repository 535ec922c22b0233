"""The HPA's replica calculator for one number of an object or from outside, and what a pod is to a metric.

Case names (and the names of upstream's one-case tests) are those of kubernetes/kubernetes,
pkg/controller/podautoscaler/replica_calculator_test.go, after its refactoring of 2026. Where TestGroupPods has pods
that succeeded (which count no longer since), these run.
"""

from __future__ import annotations

import pytest

from serve.policy.scaling.hpa_replicas import (
    DEFAULT_TOLERANCE,
    IGNORED,
    MISSING,
    READY,
    REPLICAS_MAX,
    UNREADY,
    Pod,
    PodMetric,
    Proposal,
    Readiness,
    Row,
    Tolerance,
    average_value_replicas,
    pod_group,
    pod_rows,
    value_replicas,
)
from serve.policy.scaling.nanoseconds import SECOND_NS
from tests.serve.scaling.pods import NOW, READINESS

INT64_MAX = 2**63 - 1
USUAL = DEFAULT_TOLERANCE
FINE = Tolerance(0.1, 0.01)


@pytest.mark.parametrize(
    ("replicas", "ready", "total", "target", "tolerance", "expected"),
    [
        pytest.param(3, 3, 20000, 15000, USUAL, 4, id="TestReplicaCalcScaleUpCMObject"),
        pytest.param(3, 1, 50000, 10000, USUAL, 5, id="TestReplicaCalcScaleUpCMObjectIgnoresUnreadyPods"),
        pytest.param(3, 1, 8600, 4400, USUAL, 2, id="TestReplicaCalcScaleUpCMExternalIgnoresUnreadyPods"),
        pytest.param(5, 5, 12000, 20000, USUAL, 3, id="TestReplicaCalcScaleDownCMObject"),
        pytest.param(5, 5, 8600, 14334, USUAL, 3, id="TestReplicaCalcScaleDownCMExternal"),
        pytest.param(3, 3, 20666, 20000, USUAL, 3, id="TestReplicaCalcToleranceCMObject"),
        pytest.param(3, 3, 8600, 8888, USUAL, 3, id="TestReplicaCalcToleranceCMExternal"),
        pytest.param(3, 3, 20666, 20000, FINE, 4, id="TestReplicaCalcConfigurableToleranceCMObject"),
        pytest.param(3, 3, 8900, 8800, FINE, 4, id="TestReplicaCalcConfigurableToleranceCMExternal"),
        pytest.param(3, 3, INT64_MAX, 1, USUAL, REPLICAS_MAX, id="TestReplicaCalcScaleUpOverflow"),
        pytest.param(3, 3, 2**63, INT64_MAX, USUAL, 3, id="TestReplicaCalcExternalMetricUsageOverflow"),
        pytest.param(3, 0, 8600, 4400, USUAL, 0, id="nobody is ready"),
    ],
)
def test_replicas_for_a_value(
    replicas: int, ready: int, total: int, target: int, tolerance: Tolerance, expected: int
) -> None:
    pods = [Pod(0, 0, ready=index < ready) for index in range(replicas)]
    assert value_replicas(replicas, total, target, pods, tolerance) == Proposal(expected, total)


def test_of_the_pods_that_are_not_on_their_way_in_or_out_the_ready_ones_count() -> None:
    """A pod that is being deleted still counts while it is ready, as upstream."""
    pods = [Pod(0, 0), Pod(0, 0, pending=True), Pod(0, 0, finished=True), Pod(0, 0, deleting=True)]
    assert value_replicas(4, 3000, 1000, pods, USUAL) == Proposal(6, 3000)


def test_a_value_without_pods_is_unknown_unless_it_is_within_tolerance() -> None:
    assert value_replicas(3, 5000, 1000, [], USUAL) is None
    assert value_replicas(3, 1000, 1000, [], USUAL) == Proposal(3, 1000)


@pytest.mark.parametrize(
    ("replicas", "total", "target", "tolerance", "expected"),
    [
        pytest.param(3, 20000, 5000, USUAL, (4, 6667), id="TestReplicaCalcScaleUpCMPerPodObject"),
        pytest.param(3, 8600, 2150, USUAL, (4, 2867), id="TestReplicaCalcScaleUpPerPodCMExternal"),
        pytest.param(5, 6000, 2000, USUAL, (3, 1200), id="TestReplicaCalcScaleDownPerPodCMObject"),
        pytest.param(5, 8600, 2867, USUAL, (3, 1720), id="TestReplicaCalcScaleDownPerPodCMExternal"),
        pytest.param(4, 20166, 5000, USUAL, (4, 5042), id="TestReplicaCalcTolerancePerPodCMObject"),
        pytest.param(3, 8600, 2900, USUAL, (3, 2867), id="TestReplicaCalcTolerancePerPodCMExternal"),
        pytest.param(4, 20208, 5000, FINE, (5, 5052), id="TestReplicaCalcConfigurableTolerancePerPodCMObject"),
        pytest.param(3, 8600, 2800, FINE, (4, 2867), id="TestReplicaCalcConfigurableTolerancePerPodCMExternal"),
        pytest.param(0, 8600, 2800, USUAL, (4, 0), id="no replica exists yet"),
        pytest.param(0, 0, 2800, USUAL, (0, 0), id="no replica and nothing to do"),
        pytest.param(10, 110, 10, USUAL, (10, 11), id="exactly at the upper tolerance"),
        pytest.param(10, 90, 10, USUAL, (10, 9), id="exactly at the lower tolerance"),
    ],
)
def test_replicas_for_an_average_value(
    replicas: int, total: int, target: int, tolerance: Tolerance, expected: tuple[int, int]
) -> None:
    assert average_value_replicas(replicas, total, target, tolerance) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(1, REPLICAS_MAX, id="TestExternalPerPodMetricReplicaOverflow"),
        pytest.param(INT64_MAX, 1, id="TestExternalPerPodMetricUsageOverflow"),
    ],
)
def test_an_average_value_stays_an_int32(target: int, expected: int) -> None:
    assert REPLICAS_MAX == 2_147_483_647
    assert average_value_replicas(1, INT64_MAX, target, USUAL).replicas == expected


def _aged(age_s: int | None, changed_s: int | None, ready: bool = True) -> Pod:
    """Started and last changed so many seconds ago."""
    started_ns = None if age_s is None else NOW - age_s * SECOND_NS
    return Pod(started_ns, None if changed_s is None else NOW - changed_s * SECOND_NS, ready)


def _sample(ago_s: int = 0, window_s: int = 0) -> PodMetric:
    return PodMetric(1, NOW - ago_s * SECOND_NS, window_s * SECOND_NS)


NEW = Pod(None, None)


@pytest.mark.parametrize(
    ("pod", "metric", "group"),
    [
        pytest.param(_aged(0, None), _sample(), UNREADY, id="unready a pod without ready condition - CPU"),
        pytest.param(
            _aged(60, 30),
            _sample(0, 30),
            READY,
            id="count in a ready pod with fresh metrics during initialization period - CPU",
        ),
        pytest.param(
            _aged(60, 30),
            _sample(0, 60),
            UNREADY,
            id="unready a ready pod without fresh metrics during initialization period - CPU",
        ),
        pytest.param(
            _aged(600, 594, False),
            _sample(),
            UNREADY,
            id="unready an unready pod during initialization period - CPU",
        ),
        pytest.param(
            _aged(180, 180),
            _sample(120, 60),
            READY,
            id="count in a ready pod without fresh metrics after initialization period - CPU",
        ),
        pytest.param(
            _aged(600, 540, False),
            _sample(),
            READY,
            id="count in an unready pod that was ready after initialization period - CPU",
        ),
        pytest.param(
            _aged(600, 590, False),
            _sample(),
            READY,
            id="unready pod that has never been ready after initialization period - CPU",
        ),
        pytest.param(_aged(180, None), None, MISSING, id="a missing pod"),
        pytest.param(NEW._replace(pending=True), None, UNREADY, id="pending pods are unreadied"),
        pytest.param(
            NEW._replace(pending=True, deleting=True), _sample(), IGNORED, id="ignore pods with deletion timestamps"
        ),
        pytest.param(NEW._replace(finished=True), _sample(), IGNORED, id="ignore pods in a failed state"),
        pytest.param(_aged(120, 120), _sample(120, 60), READY, id="the initialization period has just ended"),
        pytest.param(_aged(119, 119), _sample(119, 60), UNREADY, id="it ends in a second"),
        pytest.param(_aged(600, 591, False), _sample(), UNREADY, id="unready since before the initial delay ended"),
    ],
)
def test_what_a_pod_is_to_its_cpu(pod: Pod, metric: PodMetric | None, group: int) -> None:
    assert pod_group(pod, metric, True, NOW, READINESS) == group


def test_count_in_a_ready_pod_memory() -> None:
    """Other resources look at no readiness at all."""
    assert pod_group(NEW, _sample(0, 60), False, NOW, READINESS) == READY


def test_the_default_flags_are_the_controllers() -> None:
    assert Readiness() == (300 * SECOND_NS, 30 * SECOND_NS)


def test_several_pods_keep_their_order() -> None:
    pods = [_aged(0, None), _aged(180, 180)._replace(request_milli=7), _aged(180, None)]
    rows = pod_rows(pods, [_sample(), _sample(), None], True, NOW, READINESS)
    assert rows == [Row(UNREADY, 1, 0), Row(READY, 1, 7), Row(MISSING, 0, 0)]
    assert pod_rows([], [], True, NOW, READINESS) == []
