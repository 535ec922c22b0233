"""The HPA's replica calculator for metrics of pods, by upstream's own tables.

Case names (and the names of upstream's one-case tests) are those of kubernetes/kubernetes,
pkg/controller/podautoscaler/replica_calculator_test.go, after its refactoring of 2026. Upstream's pods have two
containers, so a pod's usage and request here are twice a container's; cases of one container's metric have one.
"""

from __future__ import annotations

from typing import Any

import pytest

from serve.policy.scaling.hpa_replicas import (
    DEFAULT_TOLERANCE,
    READY,
    Pod,
    PodMetric,
    Proposal,
    Row,
    Tolerance,
    average_replicas,
    is_within,
    pod_rows,
    utilisation_replicas,
)
from serve.policy.scaling.nanoseconds import SECOND_NS
from tests.serve.scaling.pods import NOW, READINESS, pods_of


def _metrics(levels: list[int], pods: int) -> list[PodMetric | None]:
    """Upstream's samples end at the beginning of time and are a minute long; pods beyond `levels` have none."""
    known = [PodMetric(level, 0, 60 * SECOND_NS) for level in levels]
    return [*known, *([None] * (pods - len(known)))]


def _case(
    name: str,
    requests: int | list[int],
    levels: list[int],
    target: int,
    expected: tuple[int, int] | None,
    current: int | None = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    request: int = 2000,
    **marks: tuple[int, ...],
) -> Any:
    """`requests` may be a number of pods; `current` is that number unless given."""
    amounts = [request] * requests if isinstance(requests, int) else requests
    replicas = len(amounts) if current is None else current
    return pytest.param(replicas, pods_of(amounts, **marks), levels, target, tolerance, expected, id=name)


UP = [600, 1000, 1400]
DOWN = [200, 600, 1000, 500, 500]
MIXED = [1800, 2000, 2200]
JITTER = [800, 400, 620, 580, 604, 596, 602, 598, 600, 600]

RESOURCE_SCALE = [
    _case("scale up", 3, UP, 30, (5, 50)),
    _case("scale up: container metric", 3, [300, 500, 700], 30, (5, 50), request=1000),
    _case("scale up: unready pod scales less", 3, UP, 30, (4, 60), unready=(0,)),
    _case("scale up: hot-CPU container scales less", 3, [300, 500, 700], 30, (4, 60), request=1000, hot=(0,)),
    _case("scale up: hot-CPU pod scales less", 3, UP, 30, (4, 60), hot=(0,)),
    _case("no scale: unready pods ignored", 3, [800, 1000, 1400], 30, (3, 40), unready=(1, 2)),
    _case("no scale: hot-CPU pods ignored", 3, [800, 1000, 1400], 30, (3, 40), unready=(1, 2), hot=(1, 2)),
    _case("scale up: failed pods ignored", 4, [1000, 1400], 30, (4, 60), 2, unready=(2, 3), failed=(2, 3)),
    _case("scale up: pods being deleted are ignored", 4, [1000, 1400], 30, (4, 60), 2, deleting=(2, 3)),
    _case("scale down", 5, DOWN, 50, (3, 28)),
    _case("scale down: container metric", 5, [100, 300, 500, 250, 250], 50, (3, 28), request=1000),
    _case("scale down: exclude unready pods", 5, DOWN, 50, (2, 30), unready=(3, 4)),
    _case("scale down: exclude unscheduled pods", 5, [200], 50, (1, 10), pending=(1, 2, 3, 4)),
    _case("scale down: ignore hot-CPU pods", 5, DOWN, 50, (2, 30), hot=(3, 4)),
    _case("scale down: failed pods ignored", 7, DOWN, 50, (3, 28), 5, unready=(5, 6), failed=(5, 6)),
    _case("scale down: pods being deleted are ignored", 7, DOWN, 50, (3, 28), 5, deleting=(5, 6)),
]

RESOURCE_SINGLE = [
    _case("TestReplicaCalcDisjointResourcesMetrics", 1, [], 100, None),
    _case("TestReplicaCalcTolerance", MIXED, [2020, 2060, 2040], 100, (3, 102)),
    _case("TestReplicaCalcSuperfluousMetrics", 4, [8000, 19000, 6000, 14000], 100, (24, 587)),
    _case("TestReplicaCalcMissingMetrics", 4, [800, 190], 100, (3, 24)),
    _case("TestReplicaCalcEmptyMetrics", 4, [], 100, None),
    _case("TestReplicaCalcEmptyCPURequest", [0], [400], 100, None),
    _case("TestReplicaCalcMissingMetricsNoChangeEq", 2, [2000], 100, (2, 100)),
    _case("TestReplicaCalcMissingMetricsNoChangeGt", 2, [3800], 100, (2, 190)),
    _case("TestReplicaCalcMissingMetricsNoChangeLt", 2, [1200], 100, (2, 60)),
    _case("ours: a missing pod brings it within tolerance", 10, [2400] * 9, 100, (10, 120)),
    _case("TestReplicaCalcMissingMetricsUnreadyChange", 3, [200, 900], 50, (3, 45), unready=(0,)),
    _case("TestReplicaCalcMissingMetricsHotCpuNoChange", 3, [200, 900], 50, (3, 45), hot=(0,)),
    _case("TestReplicaCalcMissingMetricsUnreadyScaleUp", 3, [200, 4000], 50, (4, 200), unready=(0,)),
    _case("TestReplicaCalcMissingMetricsHotCpuScaleUp", 3, [200, 4000], 50, (4, 200), unready=(0,), hot=(0,)),
    _case("TestReplicaCalcMissingMetricsUnreadyScaleDown", 4, [200, 200, 200], 50, (3, 10), unready=(0,)),
    _case(
        "TestReplicaCalcMissingMetricsScaleDownTargetOver100",
        [2000, 2000, 4000, 4000],
        [400, 200, 200],
        300,
        (2, 6),
        unready=(0,),
    ),
    _case("TestReplicaCalcDuringRollingUpdateWithMaxSurge", 3, [200, 200], 50, (2, 10), current=2),
    _case("TestReplicaCalcComputedToleranceAlgImplementation", JITTER, [300] * 10, 56, (9, 50)),
    _case("TestReplicaCalcComputedToleranceAlgImplementation unscaling", JITTER, [300] * 10, 55, (10, 50)),
]

SLOW = [1320, 1280, 1300]
CONFIGURABLE_TOLERANCE = [
    _case("Outside of a 0% tolerance", MIXED, [1818, 2020, 2222], 100, (4, 101), None, Tolerance(0.0, 0.0)),
    _case("Within a 200% scale-up tolerance", MIXED, [3780, 3820, 3800], 100, (3, 190), None, Tolerance(0.1, 2.0)),
    _case(
        "Outside 8% scale-up tolerance (and superfuous scale-down tolerance)",
        MIXED,
        [2200, 2160, 2180],
        100,
        (4, 109),
        None,
        Tolerance(2.0, 0.08),
    ),
    _case("Within a 36% scale-down tolerance", MIXED, SLOW, 100, (3, 65), None, Tolerance(0.36, 0.1)),
    _case("Outside a 34% scale-down tolerance", MIXED, SLOW, 100, (2, 65), None, Tolerance(0.34, 0.1)),
]


@pytest.mark.parametrize(
    ("current", "pods", "levels", "target", "tolerance", "expected"),
    RESOURCE_SCALE + RESOURCE_SINGLE + CONFIGURABLE_TOLERANCE,
)
def test_replicas_for_a_utilisation(
    current: int, pods: tuple[Pod, ...], levels: list[int], target: int, tolerance: Tolerance, expected: Any
) -> None:
    rows = pod_rows(pods, _metrics(levels, len(pods)), True, NOW, READINESS)
    assert utilisation_replicas(current, target, rows, tolerance) == expected


BUSY = [20000, 21000, 21000]
MEAN_PER_POD = [
    _case("TestReplicaCalcScaleUpCM", 3, [20000, 10000, 30000], 15000, (4, 20000)),
    _case(
        "TestReplicaCalcScaleUpCMUnreadyHotCpuNoLessScale",
        3,
        [50000, 10000, 30000],
        15000,
        (6, 30000),
        unready=(2,),
        hot=(2,),
    ),
    _case(
        "TestReplicaCalcScaleUpCMUnreadyHotCpuScaleWouldScaleDown",
        3,
        [50000, 15000, 30000],
        15000,
        (7, 31666),
        unready=(0, 2),
        hot=(0, 2),
    ),
    _case("TestReplicaCalcScaleDownCM", 5, [12000] * 5, 20000, (3, 12000)),
    _case("TestReplicaCalcToleranceCM", 3, BUSY, 20000, (3, 20666)),
    _case("TestReplicaCalcConfigurableToleranceCM", 3, BUSY, 20000, (4, 20666), None, Tolerance(0.1, 0.01)),
    _case("TestPlainMetricReplicaCalcMissingMetricsNoChangeEq", 5, [20000, 19000, 21000], 20000, (5, 20000)),
    _case("TestReplicaCalcDuringRollingUpdateWithMaxSurgeCM", 3, [10000, 10000], 17000, (2, 10000), current=2),
    _case("no pods at all", [], [], 1000, None),
]


@pytest.mark.parametrize(("current", "pods", "levels", "target", "tolerance", "expected"), MEAN_PER_POD)
def test_replicas_for_a_mean_per_pod(
    current: int, pods: tuple[Pod, ...], levels: list[int], target: int, tolerance: Tolerance, expected: Any
) -> None:
    rows = pod_rows(pods, _metrics(levels, len(pods)), False, NOW, READINESS)
    assert average_replicas(current, target, rows, tolerance) == expected


@pytest.mark.parametrize(("percent", "within"), [(89, False), (90, True), (100, True), (110, True), (111, False)])
def test_both_ends_of_the_tolerance_are_within(percent: int, within: bool) -> None:
    """Before v1.33 |1 - ratio| was compared, and 110 % of the target was outside by one bit."""
    assert is_within(DEFAULT_TOLERANCE, percent / 100) is within
    proposal = utilisation_replicas(20, 100, [Row(READY, percent, 100)] * 20, DEFAULT_TOLERANCE)
    assert proposal is not None
    assert (proposal.replicas == 20) is within


def test_a_utilisation_is_cut_to_whole_per_cent_before_it_is_divided() -> None:
    """110.9 % of ten replicas would be eleven and a bit."""
    rows = [Row(READY, 1109, 1000)] * 10
    assert utilisation_replicas(10, 100, rows, Tolerance(0.0, 0.0)) == Proposal(11, 110)
