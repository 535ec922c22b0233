"""Ray Serve's policy against ray-project/ray python/ray/serve/tests/unit/test_autoscaling_policy.py of 2.54.

Test names are upstream's as far as they are its cases; its loop is 0.1 s.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.policy.scaling.ray_serve import (
    RayServe,
    RayServeSample,
    RayServeSettings,
    apply_bounds,
    apply_delay_logic,
    apply_scaling_factors,
    cold_start,
    loops,
    raw_replicas,
)

LOOP_NS = SECOND_NS // 10
AT_ONCE = RayServeSettings(min_replicas=0, max_replicas=10, upscale_delay_ns=0, downscale_delay_ns=0)


def _loops(policy: RayServe, count: int, ongoing: float, replicas: int) -> set[int]:
    """What `count` loops at `replicas` running and set answer."""
    return {policy.decide(RayServeSample(0, replicas, replicas, ongoing)).wanted for _ in range(count)}


class TestReplicaQueueLengthPolicy:
    @pytest.mark.parametrize(("old_name", "new_name"), [(True, True), (True, False), (False, True)])
    @pytest.mark.parametrize(("factor", "wanted"), [(10.0, 10), (0.5, 1)])
    def test_scaling_factor_scale_up_from_0_replicas(
        self, old_name: bool, new_name: bool, factor: float, wanted: int
    ) -> None:
        settings = replace(
            RayServeSettings(min_replicas=0, max_replicas=2),
            upscale_smoothing_factor=factor if old_name else None,
            upscaling_factor=factor if new_name else None,
        )
        assert cold_start(settings, RayServeSample(0, 0, 0, 1.0)) == wanted

    @pytest.mark.parametrize(("old_name", "new_name"), [(True, True), (True, False), (False, True)])
    def test_scaling_factor_scale_down_to_0_replicas(self, old_name: bool, new_name: bool) -> None:
        for factor, counts in ((10.0, [5, 1, 0]), (0.2, [5, 4, 3, 2, 1, 0])):
            settings = replace(
                AT_ONCE,
                downscale_smoothing_factor=factor if old_name else None,
                downscaling_factor=factor if new_name else None,
            )
            policy = RayServe(settings)
            for before, after in pairwise(counts):
                assert _loops(policy, 1, 0.0, before) == {after}

    @pytest.mark.parametrize("downscale_to_zero_delay_s", [None, 300])
    def test_upscale_downscale_delay(self, downscale_to_zero_delay_s: int | None) -> None:
        """Upstream's whole flow from one replica up to two, down to one and to none, with every interruption."""
        settings = RayServeSettings(
            min_replicas=0,
            max_replicas=2,
            target_ongoing_requests=1.0,
            downscale_to_zero_delay_ns=None if downscale_to_zero_delay_s is None else 300 * SECOND_NS,
        )
        policy = RayServe(settings)
        up, down, zero = 300, 6000, 6000 if downscale_to_zero_delay_s is None else 3000
        overload = 100.0
        assert policy.decide(RayServeSample(0, 0, 0, 1.0)).wanted == 1
        assert _loops(policy, up, overload, 1) == {1}
        assert _loops(policy, 1, overload, 1) == {2}
        assert _loops(policy, down, 0.0, 2) == {2}
        assert _loops(policy, 1, 0.0, 2) == {1}
        assert _loops(policy, zero, 0.0, 1) == {1}
        assert _loops(policy, 1, 0.0, 1) == {0}
        assert _loops(policy, up // 2, overload, 1) == {1}
        assert _loops(policy, 1, 0.0, 1) == {1}
        assert _loops(policy, up, overload, 1) == {1}
        assert _loops(policy, 1, overload, 1) == {2}
        assert _loops(policy, down // 2, 0.0, 2) == {2}
        assert _loops(policy, 1, overload, 2) == {2}
        assert _loops(policy, down, 0.0, 2) == {2}
        assert _loops(policy, 1, 0.0, 2) == {1}
        assert _loops(policy, zero // 2, 0.0, 1) == {1}
        assert _loops(policy, 1, overload, 1) == {1}
        assert _loops(policy, zero, 0.0, 1) == {1}
        assert _loops(policy, 1, 0.0, 1) == {0}

    def test_replicas_delayed_startup(self) -> None:
        policy = RayServe(
            RayServeSettings(
                min_replicas=1,
                max_replicas=200,
                target_ongoing_requests=1.0,
                upscale_delay_ns=0,
                downscale_delay_ns=100_000 * SECOND_NS,
            )
        )
        loops_seen = [(1, 1, 100.0, 100), (1, 100, 100.0, 100), (3, 100, 123.0, 123), (4, 123, 10.0, 123)]
        for running, target, ongoing, wanted in loops_seen:
            assert policy.decide(RayServeSample(0, running, target, ongoing)).wanted == wanted

    @pytest.mark.parametrize("delay_s", [30, 0])
    def test_fluctuating_ongoing_requests(self, delay_s: int) -> None:
        policy = RayServe(
            RayServeSettings(
                max_replicas=10,
                target_ongoing_requests=50.0,
                upscale_delay_ns=delay_s * SECOND_NS,
                downscale_delay_ns=delay_s * SECOND_NS,
            )
        )
        for _ in range(500):
            assert _loops(policy, 1, 100.0, 1) == {1 if delay_s else 2}
            assert _loops(policy, 1, 40.0, 2) == {2 if delay_s else 1}

    @pytest.mark.parametrize("ongoing_requests", [20, 100, 10])
    def test_single_replica_receives_all_requests(self, ongoing_requests: int) -> None:
        policy = RayServe(replace(AT_ONCE, min_replicas=1, max_replicas=50, target_ongoing_requests=5.0))
        assert _loops(policy, 1, float(ongoing_requests), 4) == {ongoing_requests // 5}


class TestAutoscalingConfigParameters:
    @pytest.mark.parametrize(
        ("factors", "desired", "current", "scaled"),
        [
            pytest.param({"upscaling_factor": 0.5}, 20, 10, 15, id="test_apply_scaling_factors_upscale"),
            pytest.param({"downscaling_factor": 0.5}, 5, 20, 13, id="test_apply_scaling_factors_downscale"),
            pytest.param({"downscaling_factor": 0.5}, 9, 10, 9, id="test_apply_scaling_factors_stuck_downscale"),
        ],
    )
    def test_apply_scaling_factors(self, factors: dict[str, Any], desired: int, current: int, scaled: int) -> None:
        settings = RayServeSettings(min_replicas=1, max_replicas=30, **factors)
        assert apply_scaling_factors(settings, desired, current) == scaled

    def test_apply_bounds(self) -> None:
        settings = RayServeSettings(min_replicas=1, max_replicas=10)
        assert [apply_bounds(settings, replicas) for replicas in (0, 5, 11)] == [1, 5, 10]

    def test_apply_delay_logic_upscale(self) -> None:
        settings = RayServeSettings(min_replicas=1, max_replicas=10, upscale_delay_ns=3 * LOOP_NS)
        counter = 0
        decisions = []
        for _ in range(3):
            decision, counter = apply_delay_logic(settings, 5, 1, counter)
            decisions.append(decision)
        assert decisions == [1, 1, 5], "0.3 s / 0.1 s are 2 loops to upstream"

    def test_apply_delay_logic_downscale(self) -> None:
        settings = RayServeSettings(
            min_replicas=0, max_replicas=10, downscale_to_zero_delay_ns=4 * LOOP_NS, downscale_delay_ns=3 * LOOP_NS
        )
        counter, target = 0, 4
        decisions = []
        for _ in range(8):
            target, counter = apply_delay_logic(settings, 0, target, counter)
            decisions.append(target)
        assert decisions == [4, 4, 1, 1, 1, 1, 1, 0]


class TestCustomPolicyWithDefaultParameters:
    @pytest.mark.parametrize(
        ("current", "raw", "up", "down", "expected"),
        [(1, 3, 0.5, None, 2), (1, 3, 1.0, None, 3), (3, 0, None, 0.5, 2), (3, 0, None, 1.0, 1)],
    )
    def test_apply_scaling_factors(
        self, current: int, raw: int, up: float | None, down: float | None, expected: int
    ) -> None:
        settings = replace(AT_ONCE, upscaling_factor=up, downscaling_factor=down, downscale_to_zero_delay_ns=0)
        bounded = apply_bounds(settings, apply_scaling_factors(settings, raw, current))
        assert apply_delay_logic(settings, bounded, current, 0) == (expected, 0)


@pytest.mark.parametrize(
    ("tenths", "expected"), [(0, 0), (1, 1), (3, 2), (4, 4), (6, 5), (7, 6), (300, 300), (6000, 6000)]
)
def test_delays_are_whole_loops_of_a_division_of_floats(tenths: int, expected: int) -> None:
    assert loops(tenths * LOOP_NS, LOOP_NS) == expected == int((tenths / 10) / 0.1)


def test_the_last_desired_count_is_acted_on_whatever_the_ones_before_it_were() -> None:
    """ray-project/ray#46497."""
    settings = replace(AT_ONCE, upscale_delay_ns=2 * LOOP_NS, target_ongoing_requests=1.0)
    policy = RayServe(settings)
    wanted = [policy.decide(RayServeSample(0, 1, 1, ongoing)).wanted for ongoing in (9.0, 8.0, 3.0)]
    assert wanted == [1, 1, 3]


def test_the_direction_is_against_the_count_set_not_against_what_runs() -> None:
    """Six ongoing want three: more than the one that runs, fewer than the five that are set."""
    policy = RayServe(replace(AT_ONCE, downscale_delay_ns=SECOND_NS))
    policy.decide(RayServeSample(0, 1, 5, 6.0))
    assert policy.counter == -1


def test_while_none_runs_the_counter_stays_and_nothing_ongoing_keeps_the_count() -> None:
    policy = RayServe(replace(AT_ONCE, upscale_delay_ns=SECOND_NS))
    policy.decide(RayServeSample(0, 1, 1, 100.0))
    assert policy.decide(RayServeSample(0, 0, 3, 0.0)).wanted == 3
    assert policy.decide(RayServeSample(0, 0, 3, 1.0)).wanted == 3
    assert policy.counter == 1


def test_at_zero_without_a_request_nothing_starts() -> None:
    assert RayServe(AT_ONCE).decide(RayServeSample(0, 0, 0, 0.0)).wanted == 0


def test_a_start_from_zero_is_bounded_last() -> None:
    policy = RayServe(RayServeSettings(min_replicas=0, max_replicas=2, upscaling_factor=10.0))
    decision = policy.decide(RayServeSample(0, 0, 0, 0.1))
    assert decision == Decision(2, "at its maximum")


def test_equality_resets_the_counter() -> None:
    policy = RayServe(replace(AT_ONCE, upscale_delay_ns=SECOND_NS))
    counters = []
    for ongoing in (10.0, 10.0, 2.0, 10.0, 0.0):
        policy.decide(RayServeSample(0, 1, 1, ongoing))
        counters.append(policy.counter)
    assert counters == [1, 2, 0, 1, 0], "downwards there is no delay: acted on, so the counter is 0 again"


def test_reasons() -> None:
    policy = RayServe(replace(AT_ONCE, upscale_delay_ns=LOOP_NS))
    reasons = [policy.decide(RayServeSample(0, 2, 2, ongoing)).reason for ongoing in (4.0, 6.0, 6.0)]
    assert reasons == [
        "as wanted: 4.0 ongoing on 2 running",
        "wants 3 since 1 loops: 6.0 ongoing on 2 running",
        "6.0 ongoing on 2 running",
    ]


def test_at_equal_minimum_and_maximum_nothing_moves() -> None:
    policy = RayServe(replace(AT_ONCE, min_replicas=3, max_replicas=3))
    for ongoing in (0.0, 1000.0):
        assert _loops(policy, 1, ongoing, 3) == {3}
    assert raw_replicas(policy.settings, RayServeSample(0, 3, 3, 1000.0)) == pytest.approx(500.0)
