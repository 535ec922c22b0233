"""Autoscalers as files write them: upstream's defaults where nothing is said, faults where nonsense is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from serve.autoscaler import Autoscaler, Bounds
from serve.policy.scaling.hpa import HpaSettings, MetricTarget
from serve.policy.scaling.hpa_rates import DOWN_RULES, UP_RULES, ScalingPolicy
from serve.policy.scaling.keda import KedaSettings, KedaTrigger
from serve.policy.scaling.kpa import KpaSettings
from serve.policy.scaling.predictive import PredictiveSettings
from serve.policy.scaling.ray_serve import RayServeSettings
from serve.policy.scaling.scheduled import DAY_NS, fixed
from serve.policy.scaling.skyserve import SkyServeSettings
from serve.policy.scaling.target_tracking import TargetTrackingSettings

S = 10**9
READER: TypeAdapter[Any] = TypeAdapter(Autoscaler)
BOUNDS = Bounds(least=1, most=8)


def read(**fields: Any) -> Any:
    return READER.validate_python(fields)


def test_what_is_not_said_is_upstreams_default() -> None:
    cpu = MetricTarget("utilisation", 60, is_cpu=True)
    assert read(kind="hpa", cpu=60).settings(BOUNDS) == HpaSettings((cpu,), 8, 1)
    triggers = (KedaTrigger(5000),)
    assert read(kind="keda", triggers=[{"target": 5}]).settings(BOUNDS) == KedaSettings(triggers, 8, 1)
    assert read(kind="kpa").settings(BOUNDS) == KpaSettings(min_replicas=1, max_replicas=8, scale_to_zero=False)
    assert read(kind="ray_serve").settings(BOUNDS) == RayServeSettings(1, 8)
    assert read(kind="skyserve").settings(BOUNDS) == SkyServeSettings(1, 8)
    assert read(kind="target_tracking").settings(BOUNDS) == TargetTrackingSettings(50.0, 1, 8)
    table = {1: "10/s", 2: "25.5/s"}
    assert read(kind="predictive", capacity=table).settings(BOUNDS) == PredictiveSettings((10_000, 25_500), 1, 8)


def test_metrics_come_in_one_order() -> None:
    kinds = [m.kind for m in read(kind="hpa", waiting=3, ongoing=0.5, cpu=70).settings(BOUNDS).metrics]
    targets = [m.target for m in read(kind="hpa", waiting=3, ongoing=0.5, cpu=70).settings(BOUNDS).metrics]
    assert (kinds, targets) == (["utilisation", "pod_average", "pod_average"], [70, 500, 3000])


def test_a_direction_that_is_said_makes_a_behavior_and_the_other_keeps_its_default() -> None:
    asked = read(kind="hpa", cpu=60, scale_down={"limits": [{"pods": 1, "period": "60s"}], "select": "min"})
    behavior = asked.settings(BOUNDS).behavior
    assert behavior is not None
    assert behavior.up == UP_RULES
    assert behavior.down == DOWN_RULES._replace(policies=(ScalingPolicy("Pods", 1, 60 * S),), select="Min")


def test_kpa_scales_to_zero_where_the_minimum_is_zero_and_aims_at_a_share_of_its_target() -> None:
    settings = read(kind="kpa", target=4, utilization="50%", panic_window="5%").settings(Bounds(least=0, most=3))
    assert settings.scale_to_zero
    assert (settings.target, settings.capacity, settings.panic_window_ns) == (2.0, 4.0, 3 * S)


def test_a_schedule_is_sorted_and_kept_within_the_bounds() -> None:
    settings = read(kind="scheduled", entries={"Tue 08:30": 99, "Mon 00:00": 0}, utc_offset=1.5).settings(BOUNDS)
    assert settings.entries == (fixed(0, 1), fixed(DAY_NS + 510 * 60 * S, 8))
    assert settings.utc_offset_ns == 90 * 60 * S


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "hpa"}, "at least one of cpu, ongoing and waiting"),
        ({"kind": "hpa", "cpu": 60, "scale_up": {"limits": [{"pods": 1, "percent": 5}]}}, "either pods or percent"),
        ({"kind": "hpa", "cpu": 60, "scale_up": {"limits": [{"period": "5s"}]}}, "either pods or percent"),
        ({"kind": "hpa", "cpu": 60, "interval": "0s"}, "greater than 0"),
        ({"kind": "keda", "triggers": []}, "at least 1 item"),
        ({"kind": "predictive", "capacity": {1: "9/s", 3: "20/s"}}, "1, 2, 3, ... replicas that do not fall"),
        ({"kind": "predictive", "capacity": {1: "9/s", 2: "8/s"}}, "1, 2, 3, ... replicas that do not fall"),
        ({"kind": "scheduled", "entries": {"Mon 24:00": 1}}, "should match pattern"),
        ({"kind": "vpa"}, "does not match any of the expected tags"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        READER.validate_python(fields)
