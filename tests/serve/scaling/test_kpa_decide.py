"""KPA tick by tick: recommendation, bounds and scale to zero together."""

from __future__ import annotations

import pytest

from serve.policy.scaling.kpa import Kpa, KpaSample, KpaSettings
from serve.policy.scaling.nanoseconds import SECOND_NS


def _run(policy: Kpa, begin_s: int, end_s: int, in_flight: float, replicas: int) -> list[tuple[int, int]]:
    """(second, replicas) at each change, in ticks of 2 s; whatever is set is ready at the next tick."""
    changes = []
    for now_s in range(begin_s, end_s, 2):
        decision = policy.decide(KpaSample(now_s * SECOND_NS, replicas, replicas, in_flight, in_flight))
        if decision.wanted != replicas:
            replicas = decision.wanted
            changes.append((now_s, replicas))
    return changes


def test_with_the_buffer_in_the_path_all_along_there_is_no_grace_to_wait_for() -> None:
    """One replica of 100 never has 211 to spare, so after 60 s active the next tick goes to zero, and back at once."""
    policy = Kpa(KpaSettings())
    assert _run(policy, 0, 60, 1.0, 1) == []
    assert _run(policy, 60, 200, 0.0, 1) == [(62, 0)]
    assert _run(policy, 200, 300, 1.0, 0) == [(200, 1)]


def test_without_the_buffer_in_the_path_the_grace_is_waited_for() -> None:
    policy = Kpa(KpaSettings(target_burst_capacity=0.0))
    assert _run(policy, 0, 60, 1.0, 1) == []
    assert _run(policy, 60, 200, 0.0, 1) == [(90, 0)]


def test_scale_to_zero_with_tbc_minus_one_needs_no_grace_either() -> None:
    policy = Kpa(KpaSettings(target_burst_capacity=-1.0))
    assert _run(policy, 0, 60, 1.0, 1) == []
    assert _run(policy, 60, 200, 0.0, 1) == [(62, 0)]


def test_traffic_within_the_grace_keeps_the_replica() -> None:
    policy = Kpa(KpaSettings(target_burst_capacity=0.0))
    assert _run(policy, 0, 60, 1.0, 1) == []
    assert _run(policy, 60, 80, 0.0, 1) == []
    assert _run(policy, 80, 84, 1.0, 1) == []
    assert _run(policy, 84, 300, 0.0, 1) == [(170, 0)], "active again at 80 s, so inactive at 140 s"


def test_without_data_the_last_recommendation_stands() -> None:
    policy = Kpa(KpaSettings(target=1.0))
    blind = KpaSample(0, 1, 1, 0.0, 0.0, has_data=False)
    assert policy.decide(blind).wanted == 1
    assert policy.decide(KpaSample(2 * SECOND_NS, 1, 1, 4.0, 4.0)).wanted == 4
    assert policy.decide(blind._replace(now_ns=4 * SECOND_NS, replicas=4)).wanted == 4


@pytest.mark.parametrize(("initial_replicas", "to_zero_s"), [(1, 64), (3, 92)])
def test_before_any_data_the_buffer_goes_by_the_capacity_of_the_first_replicas(
    initial_replicas: int, to_zero_s: int
) -> None:
    """One of 100 cannot take 211, so the buffer is there from the start; to three it comes when they are inactive."""
    policy = Kpa(KpaSettings(initial_replicas=initial_replicas, max_scale_down_rate=10.0))
    for now_s in range(0, to_zero_s, 2):
        sample = KpaSample(now_s * SECOND_NS, initial_replicas, initial_replicas, 0.0, 0.0, has_data=now_s > 60)
        assert policy.decide(sample).wanted == initial_replicas
    assert policy.decide(sample._replace(now_ns=to_zero_s * SECOND_NS)).wanted == 0


def test_the_first_replicas_are_kept_until_they_have_been_ready() -> None:
    policy = Kpa(KpaSettings(initial_replicas=3))
    waiting = KpaSample(0, 0, 3, 1.0, 1.0)
    assert policy.decide(waiting).wanted == 3
    assert policy.decide(waiting._replace(now_ns=2 * SECOND_NS, ready=3)).wanted == 3, "read before it is noted"
    assert policy.decide(waiting._replace(now_ns=4 * SECOND_NS, ready=3)).wanted == 1


def test_at_equal_minimum_and_maximum_nothing_moves() -> None:
    policy = Kpa(KpaSettings(min_replicas=2, max_replicas=2))
    for now_s, load in enumerate((0.0, 1e6, 0.0)):
        assert policy.decide(KpaSample(now_s * SECOND_NS, 2, 2, load, load)).wanted == 2
