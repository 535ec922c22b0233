"""SkyServe against skypilot-org/skypilot tests/unit_tests/test_sky/serve/test_serve_autoscaling.py.

Test names are upstream's as far as they are its cases.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.policy.scaling.skyserve import (
    SkyServe,
    SkyServeSample,
    SkyServeSettings,
    fallback,
    replicas_by_rate,
)

UPSTREAM = SkyServeSettings(min_replicas=2, max_replicas=10, target_qps=5.0, overprovision=1)
"""`_build_request_service_spec`."""


def _targets(policy: SkyServe, requests: list[int]) -> list[int]:
    """The target after each decision, without overprovision."""
    targets = []
    for count in requests:
        policy.decide(SkyServeSample(0, count))
        targets.append(policy.target)
    return targets


def test_request_rate_hysteresis_delays_scale_down() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=1, max_replicas=5, downscale_delay_ns=40 * SECOND_NS))
    policy.target = 2
    assert _targets(policy, [300, 300]) == [2, 1]


def test_request_rate_hysteresis_delays_scale_up() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=1, max_replicas=5, upscale_delay_ns=40 * SECOND_NS))
    assert _targets(policy, [301, 301]) == [1, 2]


def test_scale_to_zero_uses_faster_decision_interval() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=0, max_replicas=3, overprovision=0))
    assert policy.decide(SkyServeSample(0, 0)).wanted == 0
    assert policy.interval_ns() == 5 * SECOND_NS
    assert policy.decide(SkyServeSample(0, 1)).wanted == 1
    assert policy.interval_ns() == 20 * SECOND_NS


def test_with_overprovision_the_interval_is_never_that_of_nothing_wanted() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=1, overprovision=1))
    assert policy.interval_ns() == 20 * SECOND_NS


def test_reasons() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=1, overprovision=0, base_ondemand_fallback_replicas=1))
    assert policy.decide(SkyServeSample(0, 300)).reason == "as wanted: 300 requests in 60 s"
    assert policy.decide(SkyServeSample(0, 301)).reason == "wants 2, 1 of 15 decisions: 301 requests in 60 s"
    assert policy.decide(SkyServeSample(0, 299)).reason == "as wanted: 299 requests in 60 s"


def test_overprovision_scales_up_extra_replica() -> None:
    policy = SkyServe(replace(UPSTREAM, max_replicas=5))
    assert policy.decide(SkyServeSample(0, 0)).wanted == 3


def test_fallback_autoscaler_keeps_base_ondemand() -> None:
    settings = replace(UPSTREAM, min_replicas=1, overprovision=0, base_ondemand_fallback_replicas=1)
    decision = SkyServe(settings).decide(SkyServeSample(0, 300))
    assert (decision.wanted, decision.on_demand) == (1, 1)


@pytest.mark.parametrize(
    ("requests", "replicas"), [(0, 2), (600, 2), (601, 3), (900, 3), (3000, 10), (3001, 10), (10**6, 10)]
)
def test_replicas_are_the_rate_over_the_target_rounded_up_within_bounds(requests: int, replicas: int) -> None:
    assert replicas_by_rate(UPSTREAM, requests) == replicas


def test_without_a_target_or_a_maximum_the_minimum_is_all() -> None:
    assert replicas_by_rate(SkyServeSettings(min_replicas=3), 10**6) == 3
    assert replicas_by_rate(SkyServeSettings(min_replicas=3, target_qps=1.0), 10**6) == 3


def test_the_default_delays_are_fifteen_and_sixty_decisions() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=1))
    up = _targets(policy, [1500] * 15)
    assert up == [1] * 14 + [5]
    assert _targets(policy, [0] * 60) == [5] * 59 + [1]


@pytest.mark.parametrize("interruption", [0, 300], ids=["the other way", "equality"])
def test_an_interruption_begins_the_count_anew(interruption: int) -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=0, upscale_delay_ns=40 * SECOND_NS))
    policy.target = 1
    assert _targets(policy, [600, interruption, 600, 600]) == [1, 1, 1, 2]


def test_the_last_desired_count_is_acted_on() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=1, upscale_delay_ns=40 * SECOND_NS))
    assert _targets(policy, [3000, 600]) == [1, 2]


def test_from_zero_there_is_no_delay() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=0, overprovision=0))
    assert _targets(policy, [0, 1200]) == [0, 4]


@pytest.mark.parametrize(
    ("base", "dynamic", "overprovision", "target", "ready_spot", "expected"),
    [
        pytest.param(1, False, 0, 5, 0, (4, 1), id="base only"),
        pytest.param(0, True, 0, 5, 5, (5, 0), id="all spot ready"),
        pytest.param(0, True, 0, 5, 2, (5, 3), id="one on demand for each spot that is not ready"),
        pytest.param(1, True, 0, 5, 2, (4, 3), id="beside the base"),
        pytest.param(1, True, 0, 5, 9, (4, 1), id="more spot ready than wanted, while scaling down"),
        pytest.param(1, True, 2, 3, 0, (4, 3), id="none for overprovision"),
        pytest.param(2, False, 0, 2, 0, (0, 2), id="base is all"),
        pytest.param(2, True, 0, 1, 0, (0, 1), id="base above the target"),
        pytest.param(1, True, 0, 0, 0, (0, 0), id="nothing wanted"),
    ],
)
def test_fallback(
    base: int, dynamic: bool, overprovision: int, target: int, ready_spot: int, expected: tuple[int, int]
) -> None:
    settings = replace(
        UPSTREAM,
        overprovision=overprovision,
        base_ondemand_fallback_replicas=base,
        dynamic_ondemand_fallback=dynamic,
    )
    assert fallback(settings, target, ready_spot) == expected


def test_on_demand_leaves_when_spot_returns() -> None:
    settings = replace(UPSTREAM, min_replicas=4, overprovision=0, dynamic_ondemand_fallback=True)
    policy = SkyServe(settings)
    decisions = [policy.decide(SkyServeSample(0, 0, ready_spot)) for ready_spot in (0, 4, 3, 4)]
    assert [(decision.wanted, decision.on_demand) for decision in decisions] == [(8, 4), (4, 0), (5, 1), (4, 0)]
    assert decisions[2].reason.startswith("1 on demand while 3 of 4 spot are ready")


def test_at_equal_minimum_and_maximum_nothing_moves() -> None:
    policy = SkyServe(replace(UPSTREAM, min_replicas=2, max_replicas=2, upscale_delay_ns=0, downscale_delay_ns=0))
    assert _targets(policy, [0, 10**6, 0]) == [2, 2, 2]
