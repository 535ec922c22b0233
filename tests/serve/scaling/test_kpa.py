"""KPA against its own tests: knative/serving pkg/autoscaler/scaling/autoscaler_test.go (ids are its names).

Its scaler's cases are in test_kpa_zero.py, its windows' in test_kpa_leaves.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from serve.policy.scaling.kpa import UNKNOWN, Kpa, KpaSample, KpaSettings, excess_burst_capacity
from serve.policy.scaling.nanoseconds import SECOND_NS

TARGET_UTILIZATION = 0.75


def _settings(target: float, burst: float) -> KpaSettings:
    """Upstream's newTestAutoscaler: rates of 10, a panic threshold of 2, a stable window of 60 s."""
    return KpaSettings(
        target=target,
        capacity=target / TARGET_UTILIZATION,
        target_burst_capacity=burst,
        max_scale_up_rate=10.0,
        max_scale_down_rate=10.0,
    )


def _created(settings: KpaSettings, ready: int = 1) -> Kpa:
    """A policy created over `ready` replicas, by a first sample without data."""
    policy = Kpa(settings)
    assert policy.recommend(_sample(0, ready, 0.0, 0.0)._replace(has_data=False)).wanted == UNKNOWN
    return policy


def _sample(now_s: float, ready: int, stable: float, panic: float, reachable: bool = True) -> KpaSample:
    return KpaSample(int(now_s * SECOND_NS), ready, ready, stable, panic, True, reachable)


def _expected_excess(target: float, burst: float, panic: float, ready: int) -> int:
    """Upstream's expectedEBC; compared, as there, to within one."""
    return math.floor(target / TARGET_UTILIZATION * ready - burst - panic)


@pytest.mark.parametrize(
    ("target", "burst", "stable", "panic", "ready", "wanted", "excess", "changes"),
    [
        pytest.param(10, 100, 0, 0, 1, 0, None, {}, id="AutoscalerNoDataAtZeroNoAutoscale"),
        pytest.param(181, -1, 21, 26, 1, 1, -1, {}, id="AutoscalerStableModeUnlimitedTBC"),
        pytest.param(10, 0, 50, 49, 1, 5, 0, {}, id="Autoscaler0TBC"),
        pytest.param(10, 100, 50, 50, 1, 5, None, {}, id="AutoscalerStableModeNoChange"),
        pytest.param(10, 100, 50, 50, 5, 5, None, {}, id="AutoscalerStableModeNoChangeAlreadyScaled"),
        pytest.param(
            1, 1982, 3, 3.1, 2, 3, None, {"max_scale_up_rate": 1.1},
            id="AutoscalerStableModeIncreaseWithSmallScaleUpRate",
        ),
        pytest.param(
            10, 1982, 1, 1, 100, 90, None, {"max_scale_down_rate": 1.1},
            id="AutoscalerStableModeDecreaseWithSmallScaleDownRate",
        ),
        pytest.param(10, 84, 50, 100, 1, 10, None, {}, id="AutoscalerPanicModeDoublePodCount"),
    ],
)  # fmt: skip
def test_scale(
    target: float, burst: float, stable: float, panic: float, ready: int, wanted: int, excess: int | None,
    changes: dict[str, Any],
) -> None:  # fmt: skip
    """Upstream's TestAutoscalerScale, but the three cases below; an excess of None is computed as upstream does."""
    settings = replace(_settings(target, burst), **changes)
    sample = _sample(1, ready, stable, panic)
    assert _created(settings).recommend(sample).wanted == wanted
    expected = _expected_excess(target, burst, panic, ready) if excess is None else excess
    assert excess_burst_capacity(settings, sample) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("stable", "wanted"),
    [
        pytest.param(50, 50, id="AutoscalerPanicStableLargerThanPanic"),
        pytest.param(20, 30, id="AutoscalerPanicStableLessThanPanic"),
    ],
)
def test_scale_in_panic(stable: float, wanted: int) -> None:
    policy = _created(_settings(1, 100), ready=5)
    assert policy.recommend(_sample(5, 5, stable, 30)).wanted == wanted


def test_scale_autoscaler_stable_mode_decrease_non_reachable() -> None:
    policy = _created(replace(_settings(10, 1982), max_scale_down_rate=1.1))
    assert policy.recommend(_sample(1, 100, 1, 1, reachable=False)).wanted == 1


@pytest.mark.parametrize(
    ("target", "burst", "ticks"),
    [
        pytest.param(10, 100, [(0, 1, 50, 50, 5)], id="TestAutoscalerMetrics"),
        pytest.param(10, 100, [(61, 1, 100, 99, 10)], id="TestAutoscalerMetricsWithRPS"),
        pytest.param(
            10, 101, [(1, 1, 50, 10, 5), (1, 1, 100, 10, 10)],
            id="TestAutoscalerStableModeIncreaseWithConcurrencyDefault",
        ),
        pytest.param(10, 101, [(1, 1, 50, 50, 5), (1, 1, 100, 99, 10)], id="TestAutoscalerStableModeIncreaseWithRPS"),
        pytest.param(10, 98, [(1, 8, 100, 100, 10), (1, 8, 50, 50, 5)], id="TestAutoscalerStableModeDecrease"),
        pytest.param(10, 75, [(1, 1, 1, 0, 1), (1, 1, 0, 0, 0)], id="TestAutoscalerStableModeNoTrafficScaleToZero"),
        pytest.param(
            1, 98, [(1, 10, 11, 25, 25), (31, 40, 30, 41, 41), (63, 55, 50, 56, 50)],
            id="TestAutoscalerUnpanicAfterSlowIncrease",
        ),
        pytest.param(1, 98, [(1, 10, 11, 25, 25), (31, 40, 30, 80, 80)], id="TestAutoscalerExtendPanicWindow"),
        pytest.param(
            1, 101,
            [(1, 1, 6, 6, 6), (1, 6, 36, 36, 36), (2, 36, 216, 216, 216), (2, 216, 1296, 1296, 1296),
             (3, 1296, 1296, 1296, 1296)],
            id="TestAutoscalerPanicModeExponentialTrackAndStabilize",
        ),
        pytest.param(
            10, 93, [(1, 1, 100, 100, 10), (1, 10, 100, 1000, 100), (31, 10, 1, 1, 100), (62, 10, 1, 1, 1)],
            id="TestAutoscalerPanicThenUnPanicScaleDown",
        ),
        pytest.param(
            10, 61, [(1, 1, 1000, 1001, 10), (1, 10, 1000, 1001, 100)], id="TestAutoscalerRateLimitScaleUp"
        ),
        pytest.param(10, 61, [(1, 100, 1, 1, 10), (1, 10, 1, 1, 1)], id="TestAutoscalerRateLimitScaleDown"),
        pytest.param(
            10, 81, [(1, 0, 1000, 888, 10)], id="TestAutoscalerUseOnePodAsMinimumIfEndpointsNotFound"
        ),
    ],
)  # fmt: skip
def test_stories(target: float, burst: float, ticks: list[tuple[float, int, float, float, int]]) -> None:
    """Ticks of (second, ready, stable, panic, wanted), after a creation over one replica."""
    settings = _settings(target, burst)
    policy = _created(settings)
    for now_s, ready, stable, panic, wanted in ticks:
        sample = _sample(now_s, ready, stable, panic)
        assert policy.recommend(sample).wanted == wanted, now_s
        expected = _expected_excess(target, burst, panic, ready)
        assert excess_burst_capacity(settings, sample) == pytest.approx(expected, abs=1)


def test_panic_begins_is_renewed_and_ends() -> None:
    """The panic instants that TestAutoscalerUnpanicAfterSlowIncrease and TestAutoscalerExtendPanicWindow look at."""
    policy = _created(_settings(1, 98))
    policy.recommend(_sample(1, 10, 11, 25))
    assert policy.panic_since_ns == 1 * SECOND_NS
    policy.recommend(_sample(31, 40, 30, 41))
    assert policy.panic_since_ns == 1 * SECOND_NS
    policy.recommend(_sample(40, 40, 30, 80))
    assert policy.panic_since_ns == 40 * SECOND_NS
    policy.recommend(_sample(102, 55, 50, 56))
    assert policy.panic_since_ns is None


def test_panic_ends_only_after_the_whole_stable_window() -> None:
    policy = _created(_settings(1, 98))
    policy.recommend(_sample(1, 1, 2, 2))
    policy.recommend(_sample(61, 2, 1, 1))
    assert policy.panic_since_ns is not None
    decision = policy.recommend(_sample(61, 2, 1, 1)._replace(now_ns=61 * SECOND_NS + 1))
    assert policy.panic_since_ns is None
    assert decision.wanted == 1


def test_autoscaler_activation_scale() -> None:
    policy = _created(replace(_settings(10, 75), activation_replicas=2))
    assert policy.recommend(_sample(1, 1, 0, 0)).wanted == 0
    assert policy.recommend(_sample(1, 1, 1, 0)).wanted == 2


def test_autoscaler_update_target() -> None:
    policy = _created(_settings(10, 77))
    assert policy.recommend(_sample(1, 1, 100, 101)).wanted == 10
    policy.settings = _settings(1, 71)
    sample = _sample(1, 10, 100, 101, reachable=False)
    assert policy.recommend(sample).wanted == 100
    assert excess_burst_capacity(policy.settings, sample) == pytest.approx(_expected_excess(1, 71, 101, 10), abs=1)


def test_autoscaler_no_data_no_autoscale() -> None:
    policy = _created(_settings(10, 100))
    assert policy.recommend(_sample(1, 1, 0, 0)._replace(has_data=False)).wanted == UNKNOWN


@pytest.mark.parametrize(("ready", "panics"), [(0, False), (1, False), (2, True)])
def test_start_in_panic_mode(ready: int, panics: bool) -> None:
    policy = _created(_settings(100, 11), ready=ready)
    assert (policy.panic_since_ns is not None, policy.panic_replicas) == (panics, ready)


def test_reasons() -> None:
    policy = _created(_settings(10, 0))
    ticks = [(1, 10, 10), (3, 10, 100), (5, 20, 50), (7, 100, 100), (9, 200, 100)]
    assert [policy.recommend(_sample(now_s, 1, stable, panic))[:2] for now_s, stable, panic in ticks] == [
        (1, "stable: 10.0 over a target of 10.0"),
        (10, "panic: 100.0 over a target of 10.0"),
        (10, "panic: kept at the most it reached"),
        (10, "panic: 100.0 over a target of 10.0"),
        (10, "panic: 100.0 over a target of 10.0"),
    ]


DELAYED = KpaSettings(
    target=10.0,
    capacity=0.0,
    target_burst_capacity=0.0,
    max_scale_up_rate=10.0,
    max_scale_down_rate=10.0,
    panic_threshold=100.0,
    scale_down_delay_ns=300 * SECOND_NS,
)


def test_autoscaler_scale_down_delay() -> None:
    """TestAutoscalerScaleDownDelay, `simple` and then `gradual`, on one autoscaler."""
    policy = Kpa(DELAYED)
    story = [(2, 40, 4), (300, 0, 4), (302, 0, 0), (540, 40, 4), (600, 30, 4), (660, 0, 4), (840, 0, 3), (900, 0, 0)]
    wanted = [policy.recommend(_sample(now_s, 0, load, load)).wanted for now_s, load, _ in story]
    assert wanted == [expected for _, _, expected in story]


def test_autoscaler_scale_down_delay_not_reachable() -> None:
    policy = Kpa(DELAYED)
    assert policy.recommend(_sample(2, 0, 40, 40)).wanted == 4
    assert policy.recommend(_sample(60, 0, 0, 0)).wanted == 4
    assert policy.recommend(_sample(62, 0, 0, 0, reachable=False)).wanted == 0


def test_autoscaler_scale_down_delay_zero() -> None:
    policy = Kpa(replace(DELAYED, scale_down_delay_ns=0))
    assert policy.recommend(_sample(0, 0, 40, 40)).wanted == 4
    assert policy.recommend(_sample(0.5, 0, 20, 20)).wanted == 2


def test_a_delay_of_one_tick_still_takes_the_largest_of_that_tick() -> None:
    policy = Kpa(replace(DELAYED, scale_down_delay_ns=2 * SECOND_NS))
    loads = [(0.0, 40.0), (0.5, 20.0), (2.0, 20.0)]
    assert [policy.recommend(_sample(now_s, 0, load, load)).wanted for now_s, load in loads] == [4, 4, 2]
