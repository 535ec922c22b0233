"""Bounds against Results: which end of which interval counts, and how a miss is told."""

from __future__ import annotations

from math import inf

import pytest

from planner.slo import Bound, check, hopeless, latency_limit_s, latency_metric, parse_slo, show
from serve.errors import SpecError
from sim.result import Result
from tests.planner.worlds import estimate, result, scenario


def outcome(**metrics: object) -> Result:
    """A Result with these estimates."""
    return result(scenario(), metrics)


@pytest.mark.parametrize(
    ("bound", "value", "held", "far"),
    [
        pytest.param(Bound("p99", 0.010), 0.0090, True, 0.0099, id="upper-end-below-an-upper-bound"),
        pytest.param(Bound("p99", 0.010), 0.0095, False, 0.01045, id="upper-end-above-it"),
        pytest.param(Bound("throughput", 100.0), 115.0, True, 103.5, id="lower-end-above-a-lower-bound"),
        pytest.param(Bound("throughput", 100.0), 105.0, False, 94.5, id="lower-end-below-it"),
    ],
)
def test_the_end_of_pi_that_lies_nearest_the_bound_counts(bound: Bound, value: float, held: bool, far: float) -> None:
    found = check(bound, outcome(**{bound.metric: estimate(value, 0.1)}))
    assert found.held is held
    assert found.far == pytest.approx(far)
    assert (found.excess > 1) is not held


def test_a_percentile_that_does_not_exist_is_not_held_and_infinitely_far() -> None:
    found = check(Bound("p99", 0.010), outcome(p99=estimate(None)))
    assert not found.held
    assert found.excess == inf
    assert "not stable" in str(found)


@pytest.mark.parametrize(("value", "expected"), [(0.0102, False), (0.0104, True), (0.0090, False)])
def test_hopeless_needs_the_near_end_of_ci_beyond_the_bound(value: float, expected: bool) -> None:
    assert hopeless(Bound("p99", 0.010), outcome(p99=estimate(value, 0.09))) is expected


def test_a_share_of_nothing_allowed_is_held_by_nothing_only() -> None:
    bound = Bound("refused", 0.0)
    assert check(bound, outcome(refused=estimate(0.0))).held
    missed = check(bound, outcome(refused=estimate(0.02)))
    assert not missed.held
    assert missed.excess == pytest.approx(1.02)


def test_a_class_has_its_own_bound_and_a_missing_class_does_not_hold() -> None:
    (bound, *_) = parse_slo({"fast.p99": "10ms"}, ("fast",))
    assert (bound.class_, bound.metric) == ("fast", "p99")
    assert bound.limit == pytest.approx(0.010)
    assert not check(bound, outcome(p99=estimate(0.001))).held


def test_the_leading_latency_is_p99_before_others_and_its_loosest_limit_counts() -> None:
    bounds = parse_slo({"p50": "1ms", "a.p99": "10ms", "b.p99": "30ms"}, ("a", "b"))
    assert latency_metric(bounds).metric == "p99"
    assert latency_limit_s(bounds) == pytest.approx(0.030)
    assert latency_metric(parse_slo({"throughput": "1/s"}, ())) == Bound("p99", inf)


def test_all_faults_of_an_slo_come_at_once() -> None:
    with pytest.raises(SpecError) as raised:
        parse_slo({"p98": "1ms", "p99": "fast", "refused": "1ms"}, ())
    assert len(raised.value.faults) == 3


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [("p99", 0.0123456, "12.3ms"), ("throughput", 123.456, "123.5/s"), ("refused", 0.01234, "1.23%")],
)
def test_values_are_shown_with_their_unit(metric: str, value: float, text: str) -> None:
    assert show(metric, value) == text
