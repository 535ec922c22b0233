"""The HPA over many ticks: what its windows and rates do to a step of the load. Ours, not upstream's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.hpa import AVERAGE_VALUE, Hpa, HpaSample, HpaSettings, MetricTarget, Reading
from serve.policy.scaling.hpa_rates import (
    DOWN_RULES,
    POLICY_PERCENT,
    POLICY_PODS,
    SELECT_DISABLED,
    UP_RULES,
    Behavior,
    ScalingPolicy,
)
from serve.policy.scaling.nanoseconds import SECOND_NS

TICK = 15 * SECOND_NS


def _settings(behavior: Behavior | None = None, min_replicas: int = 1, max_replicas: int = 100) -> HpaSettings:
    """One request a replica."""
    return HpaSettings((MetricTarget(AVERAGE_VALUE, 1000),), max_replicas, min_replicas, behavior=behavior)


def _run(policy: Hpa, replicas: int, loads: list[int], start_ns: int = 0) -> tuple[list[HpaSample], list[Decision]]:
    """A tick per load (in requests); whatever is wanted exists at the next one."""
    samples: list[HpaSample] = []
    decisions: list[Decision] = []
    for index, load in enumerate(loads):
        reading = Reading(total_milli=1000 * load)
        samples.append(HpaSample(start_ns + index * TICK, replicas, replicas, (reading,)))
        decisions.append(policy.decide(samples[-1]))
        replicas = decisions[-1].wanted
    return samples, decisions


def _wanted(policy: Hpa, replicas: int, loads: list[int], start_ns: int = 0) -> list[int]:
    return [decision.wanted for decision in _run(policy, replicas, loads, start_ns)[1]]


def _up(*policies: ScalingPolicy, select: str = "Max", window_ns: int = 0) -> Behavior:
    return Behavior(up=UP_RULES._replace(policies=policies, select=select, window_ns=window_ns))


@pytest.mark.parametrize(
    ("behavior", "wanted"),
    [
        pytest.param(None, [4, 8, 16, 32, 64, 100], id="no behavior block"),
        pytest.param(Behavior(), [5, 10, 20, 40, 80, 100], id="an empty behavior block"),
        pytest.param(
            _up(ScalingPolicy(POLICY_PODS, 4, 60 * SECOND_NS)), [5, 5, 5, 5, 9, 9], id="four pods in any minute"
        ),
        pytest.param(
            _up(ScalingPolicy(POLICY_PERCENT, 10, TICK)), [2, 3, 4, 5, 6, 7], id="ten per cent, rounded up, a tick"
        ),
        pytest.param(_up(*UP_RULES.policies, select=SELECT_DISABLED), [1, 1, 1, 1, 1, 1], id="no scale-up at all"),
    ],
)
def test_from_one_replica_to_a_hundred(behavior: Behavior | None, wanted: list[int]) -> None:
    assert _wanted(Hpa(_settings(behavior)), 1, [100] * 6) == wanted


def test_the_default_rates_are_per_15_s() -> None:
    """Four of four were added at 0 s, and all of them count until just before 15 s."""
    policy = Hpa(_settings(Behavior()))
    for now_ns, replicas, wanted in ((0, 4, 8), (TICK - 1, 8, 8), (TICK, 8, 16)):
        sample = HpaSample(now_ns, replicas, replicas, (Reading(total_milli=100_000),))
        assert policy.decide(sample).wanted == wanted


@pytest.mark.parametrize(("behavior", "ticks"), [(None, 21), (Behavior(), 20)])
def test_a_fall_of_the_load_waits_for_the_window_to_forget_the_last_high_recommendation(
    behavior: Behavior | None, ticks: int
) -> None:
    """The last one for four is at 0 s. At 300 s, the window's very end, only a behavior block has forgotten it."""
    _, decisions = _run(Hpa(_settings(behavior)), 4, [4] + [1] * ticks)
    assert [decision.wanted for decision in decisions] == [4] * ticks + [1]
    assert {decision.reason for decision in decisions[1:ticks]} == {"held by the 300 s window of scale-downs"}


def test_the_replicas_found_at_first_are_a_recommendation_too() -> None:
    """Dated an instant before the first tick, they are forgotten at 300 s, where one of 0 s would still count."""
    assert _wanted(Hpa(_settings()), 4, [1] * 21) == [4] * 20 + [1]


def test_a_short_peak_keeps_its_replicas_for_the_whole_window() -> None:
    wanted = _wanted(Hpa(_settings()), 2, [2, 4, *([2] * 21)])
    assert wanted == [2] + [4] * 21 + [2]


def test_after_the_window_a_fall_may_be_of_any_size_but_for_the_minimum() -> None:
    settings = _settings(min_replicas=3)
    assert _wanted(Hpa(settings), 90, [0] * 21)[-2:] == [90, 3]


def test_a_window_of_scale_ups_takes_the_lowest_recommendation() -> None:
    """The load is up from 15 s on; the recommendation for two of 0 s counts until 60 s."""
    behavior = _up(*UP_RULES.policies, window_ns=60 * SECOND_NS)
    _, decisions = _run(Hpa(_settings(behavior)), 2, [2, 6, 6, 6, 6])
    assert [decision.wanted for decision in decisions] == [2, 2, 2, 2, 6]
    assert decisions[2].reason == "held by the 60 s window of scale-ups"


def test_at_equal_minimum_and_maximum_nothing_moves() -> None:
    assert _wanted(Hpa(_settings(min_replicas=2, max_replicas=2)), 2, [0, 9, 1, 50]) == [2, 2, 2, 2]


def test_what_a_rate_has_left_after_a_smaller_change_may_still_be_used() -> None:
    four = (ScalingPolicy(POLICY_PODS, 4, 60 * SECOND_NS),)
    assert _wanted(Hpa(_settings(_up(*four))), 1, [3, 100]) == [3, 5]
    down = Behavior(down=DOWN_RULES._replace(policies=four, window_ns=0))
    assert _wanted(Hpa(_settings(down)), 10, [8, 1]) == [8, 6]


@pytest.mark.parametrize(("replicas", "load", "wanted"), [(10, 6, 6), (5, 9, 9)], ids=["maximum", "minimum"])
def test_exactly_at_a_bound_the_metric_still_counts(replicas: int, load: int, wanted: int) -> None:
    settings = replace(_settings(min_replicas=5, max_replicas=10), down_window_ns=0)
    assert _wanted(Hpa(settings), replicas, [load]) == [wanted]


def test_the_default_tick_is_15_s() -> None:
    assert _settings().interval_ns == TICK


def test_at_zero_replicas_it_is_switched_off_until_somebody_else_scales_up() -> None:
    policy = Hpa(_settings())
    assert _wanted(policy, 0, [9, 9]) == [0, 0]
    assert _wanted(policy, 1, [9, 9], start_ns=2 * TICK) == [4, 8]


def test_out_of_bounds_it_moves_at_once_past_windows_and_rates() -> None:
    behavior = Behavior(*(rules._replace(select=SELECT_DISABLED) for rules in Behavior()))
    assert _wanted(Hpa(_settings(behavior, 5, 10)), 1, [0]) == [5]
    assert _wanted(Hpa(_settings(behavior, 5, 10)), 50, [99]) == [10]


def test_the_same_samples_give_the_same_decisions_again() -> None:
    loads = [1, 30, 30, 7, 0, 0, 90, 2, *([1] * 40), 12]
    for behavior in (None, Behavior(), _up(ScalingPolicy(POLICY_PODS, 4, 60 * SECOND_NS))):
        samples, decisions = _run(Hpa(_settings(behavior)), 1, loads)
        replay = Hpa(_settings(behavior))
        assert [replay.decide(sample) for sample in samples] == decisions
        assert all(decision.reason for decision in decisions)
