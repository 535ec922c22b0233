"""Our autoscaler: ahead of a ramp by its horizon, through a season, up at once and down slowly."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.predictive import Predictive, PredictiveSample, PredictiveSettings, replicas_for

S = 10**9
TEN = tuple(10_000 * n for n in range(1, 21))  # 10/s a replica


def decisions(settings: PredictiveSettings, rate_rps: Callable[[float], float], seconds: int) -> list[Decision]:
    """One decision an interval under a rate, whose arrivals are its integral."""
    policy, found, arrivals, replicas = Predictive(settings), [], 0.0, 1
    step_s = settings.interval_ns // S
    for at_s in range(0, seconds, step_s):
        decision = policy.decide(PredictiveSample(at_s * S, int(arrivals), replicas))
        found.append(decision)
        replicas = decision.wanted
        arrivals += rate_rps(at_s + step_s / 2) * step_s
    return found


def wanted(settings: PredictiveSettings, rate_rps: Callable[[float], float], seconds: int) -> list[int]:
    return [decision.wanted for decision in decisions(settings, rate_rps, seconds)]


@given(rate=st.integers(-5, 10**7), table=st.lists(st.integers(1, 10**5), min_size=1, max_size=6))
def test_the_fewest_replicas_that_carry_a_rate(rate: int, table: list[int]) -> None:
    capacity = tuple(sorted(table))
    each = max(1, capacity[-1] - (capacity[-2] if len(capacity) > 1 else 0))

    def carried(count: int) -> int:
        if count == 0:
            return 0
        return capacity[count - 1] if count <= len(capacity) else capacity[-1] + each * (count - len(capacity))

    count = replicas_for(rate, capacity)
    assert carried(count) >= rate
    assert count == 0 or carried(count - 1) < rate


def test_a_steady_load_gets_what_it_needs_and_a_margin() -> None:
    counts = wanted(PredictiveSettings(TEN, margin_percent=10), lambda _: 45.0, 1200)
    assert set(counts[3:]) == {5}
    assert set(wanted(PredictiveSettings(TEN, margin_percent=20), lambda _: 45.0, 1200)[3:]) == {6}


def test_a_ramp_is_met_before_it_arrives() -> None:
    settings = PredictiveSettings(TEN, horizon_ns=120 * S, margin_percent=0)

    def rate(at_s: float) -> float:
        return 10 + at_s / 12  # 10/s more every two minutes

    counts = wanted(settings, rate, 1200)
    for tick in range(60, 120):
        due = rate(tick * 10 + 120)
        assert abs(counts[tick] - due / 10) <= 1.1, f"at {tick * 10} s"


def test_a_spike_is_followed_at_once_and_left_slowly() -> None:
    settings = PredictiveSettings(TEN, hold_ns=300 * S, margin_percent=0)
    counts = wanted(settings, lambda at: 100.0 if 600 <= at < 660 else 10.0, 1500)
    assert max(counts[:61]) == 1
    assert counts[62] >= 10, "two intervals later"
    assert min(counts[62 : 66 + 30]) >= 10
    assert counts[-1] == 1


def test_a_season_that_is_known_is_met_ahead_of_time() -> None:
    settings = PredictiveSettings(TEN, season_ns=3600 * S, horizon_ns=120 * S, lookback_ns=300 * S, margin_percent=0)

    def rate(at_s: float) -> float:
        return 80.0 if 1800 <= at_s % 3600 < 2400 else 20.0

    found = decisions(settings, rate, 7200)
    first, second = (next(t for t in range(start, start + 360) if found[t].wanted >= 8) for start in (100, 460))
    assert first * 10 >= 1800
    assert second * 10 <= 3600 + 1800 - 110, "the second day it is ready when the load comes"
    assert found[second].reason.startswith("season")


def test_a_season_is_moved_by_how_much_higher_the_load_is_now() -> None:
    settings = PredictiveSettings(TEN, season_ns=1200 * S, horizon_ns=60 * S, lookback_ns=300 * S, margin_percent=0)

    def rate(at_s: float) -> float:
        return 30 + 20 * math.sin(2 * math.pi * at_s / 1200) + (40 if at_s >= 2400 else 0)

    counts = wanted(settings, rate, 3600)
    for tick in range(300, 350):
        assert counts[tick] >= rate(tick * 10 + 60) / 10 - 1.1


def test_bounds_are_kept_and_named() -> None:
    settings = PredictiveSettings(TEN, min_replicas=2, max_replicas=4, hold_ns=0)
    found = decisions(settings, lambda at: 0.0 if at < 300 else 900.0, 600)
    assert [d.wanted for d in found[2:29]] == [2] * 27
    assert found[-1].wanted == 4
    assert found[-1].reason.endswith("at most 4")


def test_without_load_none_is_wanted_where_none_may_be() -> None:
    settings = PredictiveSettings(TEN, min_replicas=0, hold_ns=60 * S)
    counts = wanted(settings, lambda at: 10.0 if at < 300 else 0.0, 1800)
    assert counts[-1] == 0


@pytest.mark.parametrize("table", [(), (0, 5), (20, 10)])
def test_a_table_that_falls_is_refused(table: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError):
        Predictive(PredictiveSettings(table))


def test_replayed_samples_give_the_same_decisions() -> None:
    settings = PredictiveSettings(TEN, season_ns=600 * S)
    samples = [PredictiveSample(k * 10 * S, k * k, 1) for k in range(200)]
    once, again = Predictive(settings), Predictive(settings)
    assert [once.decide(s) for s in samples] == [again.decide(s) for s in samples]
