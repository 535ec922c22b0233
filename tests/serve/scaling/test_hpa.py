"""One reconciliation of the HPA, by upstream's own tables.

Case names are those of kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal_test.go, after its refactoring
of 2026: TestScaleUpCPU, TestScaleDownCPU, TestReplicaLimits, TestUpscaleCap, TestMetricsEdgeCases, TestTolerance,
TestCPUScalingEdgeCases, TestConfigurableTolerance, TestScaleUpCM, TestScaleUpCMObject, TestScaleUpCMExternal,
TestScaleDownCM, TestScaleWithOneInvalidMetric, TestOneMetricEmptyExternalError and TestInvalidMetricSourceType. Where
upstream starts with an empty list of recommendations, the window of scale-downs here is 0.
"""

from __future__ import annotations

from typing import Any

import pytest

from serve.policy.scaling.hpa import (
    AVERAGE_VALUE,
    POD_AVERAGE,
    UTILISATION,
    VALUE,
    Hpa,
    HpaSample,
    HpaSettings,
    MetricTarget,
    Reading,
)
from serve.policy.scaling.hpa_rates import DOWN_RULES, POLICY_PERCENT, UP_RULES, Behavior, ScalingPolicy
from serve.policy.scaling.hpa_replicas import PodMetric, Tolerance
from serve.policy.scaling.nanoseconds import SECOND_NS
from tests.serve.scaling.pods import NOW, READINESS, pods_of

FAILED = Reading()


def _per_pod(levels: list[int], pods: int) -> Reading:
    known = [PodMetric(level, NOW, 60 * SECOND_NS) for level in levels]
    return Reading(per_pod=(*known, *([None] * (pods - len(known)))))


def _cpu(
    name: str,
    bounds: tuple[int, int],
    spec: int,
    target: int,
    levels: list[int],
    expected: tuple[int, str],
    requests: list[int] | None = None,
    window_s: int = 300,
    tolerance: Tolerance | None = None,
    behavior: Behavior | None = None,
    **marks: tuple[int, ...],
) -> Any:
    """A case with one CPU utilisation; `expected`: the replicas and a part of the reason."""
    amounts = [1000] * spec if requests is None else requests
    settings = HpaSettings(
        (MetricTarget(UTILISATION, target, is_cpu=True),),
        bounds[1],
        bounds[0],
        tolerance=tolerance or Tolerance(),
        behavior=behavior,
        down_window_ns=window_s * SECOND_NS,
        readiness=READINESS,
    )
    sample = HpaSample(NOW, spec, spec, (_per_pod(levels, len(amounts)),), pods_of(amounts, **marks))
    return pytest.param(settings, sample, *expected, id=name)


UP, DOWN, MIXED = [300, 500, 700], [100, 300, 500, 250, 250], [900, 1000, 1100]
SEVENFOLD = Behavior(up=UP_RULES._replace(policies=(ScalingPolicy(POLICY_PERCENT, 700, 60 * SECOND_NS),)))
HELD = "held by the 300 s window of scale-downs"

CPU = [
    _cpu("scale up", (2, 6), 3, 30, UP, (5, "utilisation of 50 % for a target of 30 %")),
    _cpu("scale up with unready pods results in less scale", (2, 6), 3, 30, UP, (4, "of 60 % for"), unready=(0,)),
    _cpu("scale up with hot cpu pods results in less scale", (2, 6), 3, 30, UP, (4, "of 60 % for"), hot=(0,)),
    _cpu("scale up ignores failed pods", (2, 6), 2, 30, [500, 700], (4, "of 60 %"), [1000] * 4, failed=(2, 3)),
    _cpu("scale up ignores deletion pods", (2, 6), 2, 30, [500, 700], (4, "of 60 %"), [1000] * 4, deleting=(2, 3)),
    _cpu(
        "no scale up when all unready pods bring utilization within target",
        (2, 6), 3, 30, [400, 500, 700], (3, "no change: utilisation of 40 % for a target of 30 %"), unready=(1, 2),
    ),
    _cpu("scale down", (2, 6), 5, 50, DOWN, (3, "of 28 % for a target of 50 %"), window_s=0),
    _cpu("scale down includes unready pods", (2, 6), 5, 50, DOWN, (2, "of 30 %"), window_s=0, unready=(3, 4)),
    _cpu("scale down ignores hot cpu pods", (2, 6), 5, 50, DOWN, (2, "of 30 %"), window_s=0, hot=(3, 4)),
    _cpu("scale down ignores failed pods", (2, 6), 5, 50, DOWN, (3, "28 %"), [1000] * 7, 0, failed=(5, 6)),
    _cpu("scale down ignores deletion pods", (2, 6), 5, 50, DOWN, (3, "28 %"), [1000] * 7, 0, deleting=(5, 6)),
    _cpu("TestScaleDownStabilizeInitialSize", (2, 6), 5, 50, DOWN, (5, HELD)),
    _cpu("scale down clamped to min replicas", (2, 5), 3, 90, [10, 95, 10], (2, "at its minimum: 2"), MIXED, 0),
    _cpu("scale down to zero when min replicas is zero", (0, 5), 3, 90, [0, 0, 0], (0, "of 0 % for"), MIXED, 0),
    _cpu("scale down clamped to min when desired is zero", (2, 5), 3, 90, [0, 0, 0], (2, "minimum: 2"), MIXED, 0),
    _cpu("no scaling when spec replicas is zero", (3, 5), 0, 90, [], (0, "switched off at zero replicas")),
    _cpu("scale up to min when below min replicas", (3, 5), 2, 90, [], (3, "below its minimum of 3")),
    _cpu("scale down to max when above max replicas", (3, 5), 10, 90, [], (5, "above its maximum of 5")),
    _cpu("scale up clamped to max replicas", (2, 5), 3, 90, [8000, 9500, 1000], (5, "at its maximum: 5"), MIXED),
    _cpu(
        "capped by scale up rules",
        (1, 100), 3, 10, [100, 200, 300], (24, "rate of scale-ups: 24"), [100] * 3, behavior=SEVENFOLD,
    ),
    _cpu(
        "capped by max replicas when scale up limit exceeds max",
        (1, 20), 3, 10, [100, 200, 300], (20, "at its maximum: 20"), [100] * 3, behavior=SEVENFOLD,
    ),
    _cpu("superfluous metrics reported", (2, 6), 4, 100, [4000, 9500, 3000, 7000], (6, "at its maximum: 6")),
    _cpu("missing metrics from some pods", (2, 6), 4, 100, [400, 95], (3, "of 24 % for"), window_s=0),
    _cpu("empty metrics from all pods", (2, 6), 4, 100, [], (4, "no metric can be read")),
    _cpu("empty CPU requests", (1, 5), 1, 100, [200], (1, "no metric can be read"), [0]),
    _cpu("missing reports from some pods", (1, 5), 4, 50, [200], (2, "of 100 % for a target of 50 %"), [200], 0),
    _cpu("more replicas than spec no scale", (1, 8), 4, 50, [500] * 5, (4, "no change"), [1000] * 5),
    _cpu("CPU resource metric within tolerance", (1, 5), 3, 100, [1010, 1030, 1020], (3, "no change"), MIXED),
    _cpu(
        "scaling up because of a 1% configurable tolerance", (1, 5), 3, 100, [1010, 1030, 1020], (4, "of 102 % for"),
        MIXED, tolerance=Tolerance(0.1, 0.01), behavior=Behavior(),
    ),
    _cpu(
        "no scale-down because of a 90% configurable tolerance", (1, 5), 3, 100, [300] * 3, (3, "no change"),
        tolerance=Tolerance(0.9, 0.1), behavior=Behavior(down=DOWN_RULES._replace(window_ns=0)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "sample", "wanted", "reason"), CPU)
def test_one_tick_with_cpu(settings: HpaSettings, sample: HpaSample, wanted: int, reason: str) -> None:
    decision = Hpa(settings).decide(sample)
    assert decision.wanted == wanted
    assert reason in decision.reason


OTHER = [
    pytest.param(POD_AVERAGE, 15000, [20000, 10000, 30000], (2, 6), 3, 4, {}, id="scale up custom metric"),
    pytest.param(
        POD_AVERAGE, 15000, [50000, 10000, 30000], (2, 6), 3, 6, {"unready": (2,), "hot": (2,)},
        id="unready and hot cpu pods do not reduce scale for custom metric",
    ),
    pytest.param(
        POD_AVERAGE, 15000, [50000, 15000, 30000], (2, 6), 3, 6, {"unready": (0, 2), "hot": (0, 2)},
        id="unready and hot cpu pods scale to max with scaling limited condition",
    ),
    pytest.param(VALUE, 15000, 20000, (2, 6), 3, 4, {}, id="scale up object metric with value target"),
    pytest.param(
        AVERAGE_VALUE, 10000, 40000, (2, 6), 3, 4, {}, id="scale up per-pod object metric with average value target",
    ),
    pytest.param(VALUE, 15000, 20000, (0, 6), 0, 0, {}, id="scale up from zero with feature gate disabled"),
    pytest.param(VALUE, 6666, 8600, (2, 6), 3, 4, {}, id="scale up external metric with value target"),
    pytest.param(
        AVERAGE_VALUE, 2222, 8600, (2, 6), 3, 4, {}, id="scale up external metric with per-pod average value target",
    ),
    pytest.param(POD_AVERAGE, 20000, [12000] * 5, (2, 6), 5, 3, {}, id="scale down pods metric"),
    pytest.param(VALUE, 20000, 12000, (2, 6), 5, 3, {}, id="scale down object metric with value target"),
    pytest.param(VALUE, 20000, 0, (0, 6), 5, 0, {}, id="scale down to zero object metric with feature gate disabled"),
    pytest.param(
        AVERAGE_VALUE, 20000, 60000, (2, 6), 5, 3, {}, id="scale down per-pod object metric with average value target",
    ),
    pytest.param(VALUE, 14400, 8600, (2, 6), 5, 3, {}, id="scale down external metric with value target"),
    pytest.param(
        AVERAGE_VALUE, 3000, 8600, (2, 6), 5, 3, {}, id="scale down per-pod external metric with average value target",
    ),
    pytest.param(POD_AVERAGE, 20000, [20000, 20001, 21000], (1, 5), 3, 3, {}, id="pods metric within tolerance"),
    pytest.param(VALUE, 20000, 20050, (1, 5), 3, 3, {}, id="object metric with value target within tolerance"),
    pytest.param(VALUE, 8666, 8600, (2, 6), 4, 4, {}, id="external metric with value target within tolerance"),
    pytest.param(
        AVERAGE_VALUE, 2200, 8600, (2, 6), 4, 4, {},
        id="per-pod external metric with average value target within tolerance",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "target", "levels", "bounds", "spec", "wanted", "marks"), OTHER)
def test_one_tick_with_another_metric(
    kind: str,
    target: int,
    levels: int | list[int],
    bounds: tuple[int, int],
    spec: int,
    wanted: int,
    marks: dict[str, tuple[int, ...]],
) -> None:
    settings = HpaSettings((MetricTarget(kind, target),), bounds[1], bounds[0], down_window_ns=0, readiness=READINESS)
    reading = Reading(total_milli=levels) if isinstance(levels, int) else _per_pod(levels, spec)
    sample = HpaSample(NOW, spec, spec, (reading,), pods_of([1000] * spec, **marks))
    assert Hpa(settings).decide(sample).wanted == wanted


SHORT = "no scale-down while 1 of 2 metrics cannot be read"


@pytest.mark.parametrize(
    ("levels", "target", "other", "wanted", "reason"),
    [
        pytest.param([300, 400, 500], 30, FAILED, 4, "of 40 % for", id="scale up with one invalid metric"),
        pytest.param([300, 400, 500], 30, FAILED, 4, "of 40 % for", id="scale up when one external metric errors"),
        pytest.param(DOWN, 50, FAILED, 5, SHORT, id="no scale down when one metric has invalid source type"),
        pytest.param(DOWN, 50, FAILED, 5, SHORT, id="no scale down when one external metric errors"),
        pytest.param([], 50, FAILED, 3, "no metric can be read", id="only invalid metric source type"),
        pytest.param([500] * 5, 50, FAILED, 5, "no change", id="one metric fails, the other is content"),
        pytest.param(UP, 30, Reading(total_milli=3000), 5, "utilisation", id="the larger proposal is the first"),
        pytest.param(UP, 30, Reading(total_milli=6000), 6, "average value of 2 for", id="it is the second"),
        pytest.param(DOWN, 50, Reading(total_milli=4000), 4, "average value of 0.8 for", id="both are for fewer"),
    ],
)
def test_of_several_metrics(levels: list[int], target: int, other: Reading, wanted: int, reason: str) -> None:
    spec = len(levels) or 3
    metrics = (MetricTarget(UTILISATION, target, is_cpu=True), MetricTarget(AVERAGE_VALUE, 1000))
    settings = HpaSettings(metrics, 6, 2, down_window_ns=0, readiness=READINESS)
    decision = Hpa(settings).decide(HpaSample(NOW, spec, spec, (_per_pod(levels, spec), other), pods_of([1000] * spec)))
    assert decision.wanted == wanted
    assert reason in decision.reason


def test_within_tolerance_an_average_value_asks_for_the_replicas_that_exist() -> None:
    """As upstream: two of five have not been created yet, and the three that exist suffice."""
    settings = HpaSettings((MetricTarget(AVERAGE_VALUE, 1000),), 10, down_window_ns=0)
    assert Hpa(settings).decide(HpaSample(NOW, 5, 3, (Reading(total_milli=3000),))).wanted == 3
