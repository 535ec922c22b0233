"""KEDA: the operator's decision at a poll by upstream's own tests, and both halves over time.

The ids of `test_request_scale` are the test names of kedacore/keda, pkg/scaling/executor/scale_scaledobjects_test.go
(main of mid-2026), as far as they are about replicas; the cases after them are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.keda import Keda, KedaSample, KedaSettings, KedaTrigger, request_scale
from serve.policy.scaling.nanoseconds import SECOND_NS
from tests.serve.scaling.pods import NOW

ONE_EACH = (KedaTrigger(1000),)


@pytest.mark.parametrize(
    ("minimum", "idle", "current", "is_active", "has_error", "last_active_s", "wanted", "noted"),
    [
        pytest.param(0, None, 10, False, False, None, 0, False, id="TestScaleToMinReplicasWhenNotActive"),
        pytest.param(5, None, 1, False, False, None, 5, False, id="TestScaleToMinReplicasFromLowerInitialReplicaCount"),
        pytest.param(0, None, 0, True, False, None, 1, True, id="TestScaleFromMinReplicasWhenActive"),
        pytest.param(5, 0, 10, False, False, None, 0, False, id="TestScaleToIdleReplicasWhenNotActive"),
        pytest.param(5, 0, 0, True, False, None, 5, True, id="TestScaleFromIdleToMinReplicasWhenActive"),
        pytest.param(5, 0, 2, True, False, None, 5, True, id="TestEventWitTriggerInfo"),
        pytest.param(1, None, 1, True, False, None, 1, True, id="TestRequestScale_AllHealthy_HPAHealthy"),
        pytest.param(1, None, 1, False, True, None, 1, False, id="TestRequestScale_ScalerError_HPAHealthy"),
        pytest.param(1, None, 1, True, True, None, 1, False, id="TestRequestScale_PartialError_HPAHealthy"),
        pytest.param(0, None, 10, False, True, None, 10, False, id="an error keeps the replicas from zero"),
        pytest.param(0, None, 0, True, True, None, 1, True, id="activated by one trigger while another fails"),
        pytest.param(0, None, 3, False, False, 299, 3, False, id="cooling down"),
        pytest.param(0, None, 3, False, False, 300, 3, False, id="exactly at the end of the cooldown"),
        pytest.param(0, None, 3, False, False, 301, 0, False, id="cooled down"),
        pytest.param(5, 0, 7, False, False, 301, 0, False, id="cooled down to idle"),
        pytest.param(5, 0, 0, False, False, 9, 0, False, id="idle stays idle"),
        pytest.param(5, 0, 5, True, False, 9, 5, True, id="active at the minimum"),
        pytest.param(5, 0, 7, True, False, 9, 7, True, id="active above the minimum"),
        pytest.param(5, None, 2, True, False, 9, 2, True, id="active below a minimum that the HPA brings it to"),
        pytest.param(2, None, 7, False, False, 301, 7, False, id="above a minimum the HPA scales down"),
        pytest.param(0, None, 0, False, False, 301, 0, False, id="zero stays zero"),
    ],
)
def test_request_scale(
    minimum: int,
    idle: int | None,
    current: int,
    is_active: bool,
    has_error: bool,
    last_active_s: int | None,
    wanted: int,
    noted: bool,
) -> None:
    """`last_active_s` ago a trigger was active; `noted`: this poll counts as active."""
    settings = KedaSettings(ONE_EACH, min_replicas=minimum, idle_replicas=idle)
    last_active_ns = None if last_active_s is None else NOW - last_active_s * SECOND_NS
    request = request_scale(settings, current, is_active, has_error, last_active_ns, NOW)
    assert request.wanted == wanted
    assert request.last_active_ns == (NOW if noted else last_active_ns)
    assert request.reason


@pytest.mark.parametrize(
    ("age_s", "wanted", "reason"),
    [
        (59, 4, "cooling down for 60 s"),
        (60, 4, "cooling down for 60 s"),
        (61, 0, "inactive for its whole cooldown"),
    ],
)
def test_before_the_first_activity_the_initial_cooldown_counts_from_the_creation(
    age_s: int, wanted: int, reason: str
) -> None:
    created_ns = NOW - age_s * SECOND_NS
    settings = KedaSettings(ONE_EACH, initial_cooldown_ns=60 * SECOND_NS, created_ns=created_ns)
    request = request_scale(settings, 4, False, False, None, NOW)
    assert (request.wanted, request.reason) == (wanted, reason)


def _run(policy: Keda, replicas: int, values: Sequence[int | None]) -> tuple[list[KedaSample], list[Decision]]:
    """Calls at 15 s, 30 s, ...; what is wanted exists at the next one."""
    samples: list[KedaSample] = []
    decisions: list[Decision] = []
    for index, value in enumerate(values):
        samples.append(KedaSample((index + 1) * 15 * SECOND_NS, replicas, replicas, (value,)))
        decisions.append(policy.decide(samples[-1]))
        replicas = decisions[-1].wanted
    return samples, decisions


def _story(settings: KedaSettings, replicas: int, values: Sequence[int | None]) -> list[int]:
    """Replicas after each call."""
    return [decision.wanted for decision in _run(Keda(settings), replicas, values)[1]]


def test_it_wants_to_be_asked_at_every_poll_and_every_tick_of_the_hpa() -> None:
    assert KedaSettings(ONE_EACH).interval_ns == 15 * SECOND_NS
    assert KedaSettings(ONE_EACH, polling_interval_ns=10 * SECOND_NS).interval_ns == 5 * SECOND_NS


def test_a_burst_at_zero_waits_for_the_poll_and_then_grows_at_the_rate_of_the_hpa() -> None:
    """Polls are at the first, third, ... call; the burst comes just after the first."""
    assert _story(KedaSettings(ONE_EACH), 0, [0, *([20_000] * 6)]) == [0, 0, 1, 4, 8, 16, 20]


def test_at_more_than_zero_the_poll_does_not_matter() -> None:
    settings = KedaSettings(ONE_EACH, polling_interval_ns=3600 * SECOND_NS, hpa_interval_ns=15 * SECOND_NS)
    assert _story(settings, 2, [2_000, 4_000, 4_000]) == [2, 4, 4]


def test_between_its_ticks_the_hpa_does_nothing() -> None:
    """Asked each 5 s; the load has doubled since just after the first call."""
    policy = Keda(KedaSettings(ONE_EACH, polling_interval_ns=10 * SECOND_NS))
    values = [2_000, 4_000, 4_000, 4_000]
    samples = [KedaSample(index * 5 * SECOND_NS, 2, 2, (value,)) for index, value in enumerate(values)]
    assert [policy.decide(sample).wanted for sample in samples] == [2, 2, 2, 4]


def test_a_value_at_the_activation_does_not_activate_one_above_it_does() -> None:
    settings = KedaSettings((KedaTrigger(1000, activation_milli=5_000),))
    assert _story(settings, 0, [5_000, 5_000, 5_001]) == [0, 0, 1]


def test_any_trigger_activates_and_the_hpa_takes_the_largest_proposal() -> None:
    policy = Keda(KedaSettings((KedaTrigger(1000), KedaTrigger(2000, activation_milli=50_000))))
    assert policy.decide(KedaSample(15 * SECOND_NS, 0, 0, (0, 50_001))).wanted == 1
    decision = policy.decide(KedaSample(30 * SECOND_NS, 1, 1, (3_000, 4_000)))
    assert decision == Decision(3, "average value of 3 for a target of 1")


def test_the_fall_to_one_is_the_hpas_and_the_last_step_the_operators() -> None:
    """The load ends after 15 s. Polls are at 15 s, 45 s, ...; that at 315 s is not later than the cooldown's end."""
    after = _story(KedaSettings(ONE_EACH), 3, [3_000, *([0] * 23)])
    assert after == [3] * 21 + [1, 0, 0], "1 at 330 s, 0 at 345 s"


def test_a_trigger_that_cannot_be_read_stops_both_ways_down() -> None:
    after = _story(KedaSettings(ONE_EACH), 3, [3_000, *([None] * 60)])
    assert after == [3] * 61


def test_idle_replicas_skip_what_lies_below_the_minimum() -> None:
    settings = KedaSettings(ONE_EACH, min_replicas=4, idle_replicas=0, cooldown_ns=60 * SECOND_NS)
    after = _story(settings, 0, [0, 0, 1_000, 0, 0, 0, 0, 0, 0, 0])
    assert after == [0, 0, 4, 4, 4, 4, 4, 4, 0, 0], "active at 45 s, so 60 s are over at the poll of 135 s"


def test_reasons_are_for_an_operator() -> None:
    policy = Keda(KedaSettings(ONE_EACH))
    calls = [(15, 0, 0), (30, 0, 0), (45, 0, 2_000), (60, 1, 2_000), (75, 2, 0), (376, 1, 0)]
    reasons = [policy.decide(KedaSample(at * SECOND_NS, now, now, (value,))).reason for at, now, value in calls]
    assert reasons == [
        "no trigger is active",
        "no trigger is active",
        "a trigger became active",
        "average value of 2 for a target of 1",
        "held by the 300 s window of scale-downs",
        "inactive for its whole cooldown",
    ]


def test_the_same_samples_give_the_same_decisions_again() -> None:
    values = [0, 9_000, 9_000, 0, 4_000, None, 0, *([0] * 40), 7_000, 7_000, 7_000]
    samples, decisions = _run(Keda(KedaSettings(ONE_EACH)), 0, values)
    replay = Keda(KedaSettings(ONE_EACH))
    assert [replay.decide(sample) for sample in samples] == decisions
    assert all(decision.reason for decision in decisions)
