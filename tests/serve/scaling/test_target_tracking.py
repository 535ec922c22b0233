"""Target tracking as its documentation says, and our choices where it says nothing (see the module's docstring)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.policy.scaling.target_tracking import (
    TargetTracking,
    TargetTrackingSample,
    TargetTrackingSettings,
    proportional,
)

SETTINGS = TargetTrackingSettings(target=50.0, min_replicas=1, max_replicas=100)
HASTY = replace(SETTINGS, out_datapoints=1, in_datapoints=1)
"""Alarms of one datapoint, so that cooldowns can be seen alone."""


def _run(policy: TargetTracking, replicas: int, metrics: Sequence[float | None], begin: int = 0) -> list[int]:
    """The count set after each minute's datapoint; None is a missing one."""
    counts = []
    for minute, metric in enumerate(metrics, begin):
        sample = TargetTrackingSample(minute * 60 * SECOND_NS, replicas, metric or 0.0, metric is not None)
        replicas = policy.decide(sample).wanted
        counts.append(replicas)
    return counts


@pytest.mark.parametrize(
    ("replicas", "metric", "expected"),
    [(10, 75.0, 15), (10, 50.0, 10), (10, 50.1, 11), (3, 44.0, 3), (10, 20.0, 4), (1, 1.0, 1), (0, 99.0, 0)],
)
def test_the_ratio_is_rounded_up_either_way(replicas: int, metric: float, expected: int) -> None:
    assert proportional(replicas, metric, 50.0) == expected


def test_a_ratio_that_only_floats_put_above_a_whole_number_is_that_number() -> None:
    """3 x 0.1 / 0.3 is 1.0000000000000002."""
    assert proportional(3, 0.1, 0.3) == 1


def test_the_defaults_are_a_datapoint_a_minute_and_five_minutes_of_cooldown() -> None:
    cooldowns_ns = (SETTINGS.scale_out_cooldown_ns, SETTINGS.scale_in_cooldown_ns)
    assert (SETTINGS.period_ns, *cooldowns_ns) == (60 * SECOND_NS, 300 * SECOND_NS, 300 * SECOND_NS)


def test_the_third_datapoint_above_the_target_scales_out() -> None:
    assert _run(TargetTracking(SETTINGS), 10, [75.0, 75.0, 75.0]) == [10, 10, 15]


def test_the_fifteenth_datapoint_below_nine_tenths_scales_in() -> None:
    assert _run(TargetTracking(SETTINGS), 10, [20.0] * 15) == [10] * 14 + [4]


@pytest.mark.parametrize("metric", [45.0, 47.5, 50.0])
def test_from_nine_tenths_to_the_target_there_is_no_alarm(metric: float) -> None:
    assert _run(TargetTracking(SETTINGS), 10, [metric] * 40) == [10] * 40


@pytest.mark.parametrize("gap", [None, 50.0, 10.0])
def test_a_datapoint_that_is_not_above_begins_the_count_anew(gap: float | None) -> None:
    assert _run(TargetTracking(SETTINGS), 10, [75.0, 75.0, gap, 75.0, 75.0, 75.0]) == [10] * 5 + [15]


def test_a_missing_datapoint_is_not_low_utilisation() -> None:
    policy = TargetTracking(HASTY)
    assert _run(policy, 10, [None] * 20) == [10] * 20
    assert policy.decide(TargetTrackingSample(0, 10, 0.0, False)).reason == "no datapoint"


def test_within_its_cooldown_a_scale_out_adds_only_what_lies_beyond() -> None:
    """10 at 75 want 15; 100 would have wanted 20, so 5 more; 5 minutes after that the ratio is on all 20."""
    counts = _run(TargetTracking(HASTY), 10, [75.0, 75.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0])
    assert counts == [15, 15, 20, 20, 20, 20, 20, 40]


def test_a_scale_in_cooldown_blocks_until_exactly_its_end() -> None:
    assert _run(TargetTracking(HASTY), 100, [25.0] * 6) == [50, 50, 50, 50, 50, 25]


def test_a_scale_out_is_immediate_in_the_scale_in_cooldown_and_ends_it() -> None:
    assert _run(TargetTracking(HASTY), 10, [20.0, 20.0]) == [4, 4]
    assert _run(TargetTracking(HASTY), 10, [20.0, 100.0, 20.0]) == [4, 8, 4]


def test_a_scale_out_cooldown_does_not_delay_a_scale_in() -> None:
    assert _run(TargetTracking(HASTY), 10, [75.0, 20.0]) == [15, 6]


def test_an_alarm_acts_at_every_datapoint_while_it_lasts() -> None:
    policy = TargetTracking(replace(SETTINGS, scale_out_cooldown_ns=0))
    assert _run(policy, 1, [100.0] * 5) == [1, 1, 2, 4, 8]


def test_scale_in_can_be_off() -> None:
    assert _run(TargetTracking(replace(HASTY, scale_in=False)), 10, [1.0, 75.0]) == [10, 15]


def test_counts_stay_within_their_bounds() -> None:
    policy = TargetTracking(replace(HASTY, min_replicas=5, max_replicas=12))
    assert _run(policy, 10, [75.0, 1.0]) == [12, 5]
    assert _run(policy, 20, [50.0], begin=2) == [12]
    assert _run(policy, 2, [50.0], begin=3) == [5]


def test_at_equal_minimum_and_maximum_nothing_moves() -> None:
    policy = TargetTracking(replace(HASTY, min_replicas=7, max_replicas=7))
    assert _run(policy, 7, [1.0, 99.0, 1.0]) == [7, 7, 7]


def test_zero_replicas_never_scale_out() -> None:
    policy = TargetTracking(replace(HASTY, min_replicas=0))
    decision = policy.decide(TargetTrackingSample(0, 0, 99.0))
    assert decision == Decision(0, "no replica to go by")


@pytest.mark.parametrize(
    ("metrics", "replicas", "reason"),
    [
        ([75.0], 10, "75.0 over a target of 50.0"),
        ([75.0, 75.0], 10, "what was added is enough, in the scale-out cooldown"),
        ([75.0], 100, "at its maximum"),
        ([20.0], 10, "20.0 under a target of 50.0"),
        ([20.0, 20.0], 10, "in the scale-in cooldown"),
        ([44.0], 3, "one less would be over the target"),
        ([44.0], 1, "at its minimum"),
        ([50.0], 10, "no alarm: 50.0 at a target of 50.0"),
    ],
)
def test_reasons(metrics: list[float], replicas: int, reason: str) -> None:
    policy = TargetTracking(HASTY)
    for minute, metric in enumerate(metrics):
        decision = policy.decide(TargetTrackingSample(minute * 60 * SECOND_NS, replicas, metric))
        replicas = decision.wanted
    assert decision.reason == reason
