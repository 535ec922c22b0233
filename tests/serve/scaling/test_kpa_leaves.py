"""KPA's leaves: windows of maxima, targets, rate limits, and when the buffer is in the path.

Ids are upstream's names, of knative/serving pkg/autoscaler/aggregation/max/*_test.go and
pkg/reconciler/autoscaling/resources/target_test.go (its cases whose target no minimum changes).
"""

from __future__ import annotations

import pytest

from serve.policy.scaling.kpa import (
    KpaSample,
    KpaSettings,
    MaxWindow,
    buffer_in_path,
    desired_replicas,
    excess_burst_capacity,
    metric_target,
)
from serve.policy.scaling.nanoseconds import SECOND_NS


@pytest.mark.parametrize(
    ("values", "ticks", "expected"),
    [
        pytest.param([1], None, [1], id="single value"),
        pytest.param([1, 2], None, [1, 2], id="ascending values"),
        pytest.param([2, 1], None, [2, 2], id="descending values"),
        pytest.param([1, 2, 1], None, [1, 2, 2], id="up, down, up"),
        pytest.param([5, 6, 5, 5, 5, 5, 5], None, [5, 6, 6, 6, 6, 6, 5], id="windowing out"),
        pytest.param([6, 5, 2, 1], [0, 1, 2, 6], [6, 6, 6, 2], id="windowing out with gaps"),
        pytest.param([5, 6, 5, 7, 5, 5, 1], None, [5, 6, 6, 7, 7, 7, 7], id="windowing out 2"),
        pytest.param([5, 8, 5, 7, 5, 5], None, [5, 8, 8, 8, 8, 8], id="windowing out 3"),
        pytest.param([5, 8, 5, 7, 5, 5, 1], None, [5, 8, 8, 8, 8, 8, 7], id="windowing out 4"),
        pytest.param(
            [5, 8, 5, 7, 5, 5, 1, 4, 4, 4], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5], id="windowing out 5"
        ),
        pytest.param(
            [5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4], id="windowing out 6"
        ),
        pytest.param(
            [5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9], id="windowing out 7"
        ),
        pytest.param(
            [5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9, 3, 4, 2, 1, 0],
            None,
            [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9, 9, 9, 9, 9, 4],
            id="windowing out 8",
        ),
        pytest.param(list(range(1, 8)), [1] * 7, list(range(1, 8)), id="multiple with same index, ascending"),
        pytest.param(list(range(7, 0, -1)), [1] * 7, [7] * 7, id="multiple with same index, descending"),
        pytest.param([6, 5], [0, 0], [6, 6], id="two values in same second"),
        pytest.param([5, 8], [0, 1], [5, 8], id="two values"),
        pytest.param([5, 4], [0, 6], [5, 4], id="time gap"),
    ],
)  # fmt: skip
def test_window_max(values: list[int], ticks: list[int] | None, expected: list[int]) -> None:
    """TestWindowMax and TestTimedWindowMax: windows of five ticks."""
    window = MaxWindow(5)
    places = range(len(values)) if ticks is None else ticks
    assert [window.record(tick, value) for tick, value in zip(places, values, strict=True)] == expected


def test_a_window_of_no_tick_is_the_last_value() -> None:
    window = MaxWindow(0)
    assert [window.record(tick, value) for tick, value in ((0, 4), (0, 2), (1, 3), (2, 1))] == [4, 2, 3, 1]


@pytest.mark.parametrize(
    ("rps", "concurrency", "target", "utilization", "expected"),
    [
        pytest.param(False, 0, None, 0.8, (80.0, 100.0), id="default CC + 80% TU"),
        pytest.param(
            False, 12, None, 0.75, (9.0, 12.0),
            id="with container concurrency 12 and TU=80%, but TU annotation 75%",
        ),
        pytest.param(False, 10, None, 0.8, (8.0, 10.0), id="with container concurrency 10 and TU=80%"),
        pytest.param(False, 0, 10.0, 0.75, (7.5, 10.0), id="with target annotation 10 and TU=75%"),
        pytest.param(
            False, 10, 1.0, 1.0, (1.0, 1.0), id="with container concurrency greater than target annotation (ok)"
        ),
        pytest.param(False, 0, 500.0, 1.0, (500.0, 500.0), id="with target annotation greater than default (ok)"),
        pytest.param(
            False, 1, 10.0, 1.0, (1.0, 1.0),
            id="with target annotation greater than container concurrency (ignore annotation for safety)",
        ),
        pytest.param(True, 1, None, 0.7, (140.0, 200.0), id="RPS: defaults"),
        pytest.param(True, 0, None, 0.75, (150.0, 200.0), id="RPS: with TU annotation 75%"),
        pytest.param(True, 0, 300.0, 0.7, (210.0, 300.0), id="RPS: with target annotation greater than default"),
    ],
)  # fmt: skip
def test_resolve_metric_target(
    rps: bool, concurrency: int, target: float | None, utilization: float, expected: tuple[float, float]
) -> None:
    """TestResolveMetricTarget."""
    assert metric_target(rps, concurrency, target, utilization) == expected


def test_the_default_settings_are_the_config_maps() -> None:
    settings = KpaSettings()
    assert (settings.target, settings.capacity) == metric_target(False, 0, None)
    assert settings.panic_window_ns * 10 == settings.stable_window_ns == 30 * settings.tick_ns == 60 * SECOND_NS
    assert settings.activation_timeout_ns == (600 + 30) * SECOND_NS, "a revision's progress deadline, and a buffer"


@pytest.mark.parametrize(("ready", "wanted"), [(1, 1000), (2, 2000)])
def test_one_tick_multiplies_by_a_thousand_at_most(ready: int, wanted: int) -> None:
    assert desired_replicas(KpaSettings(), 1e9, ready, True) == wanted


@pytest.mark.parametrize(("ready", "reachable", "wanted"), [(5, True, 2), (2, True, 1), (1, True, 0), (5, False, 0)])
def test_one_tick_halves_at_most_unless_no_route_leads_here(ready: int, reachable: bool, wanted: int) -> None:
    assert desired_replicas(KpaSettings(), 0.0, ready, reachable) == wanted


@pytest.mark.parametrize(
    ("ready", "panic", "excess", "in_path"),
    [(2, 0.0, -11, True), (3, 0.0, 89, False), (3, 89.0, 0, False), (3, 89.5, -1, True), (3, 300.0, -211, True)],
)
def test_the_buffer_is_in_the_path_while_there_is_no_excess(
    ready: int, panic: float, excess: int, in_path: bool
) -> None:
    """Replicas of 100 in flight, to be ready for 211 more; an excess of exactly 0 is enough."""
    assert excess_burst_capacity(KpaSettings(), KpaSample(0, ready, ready, 0.0, panic)) == excess
    assert buffer_in_path(excess, ready, wanted=1) == in_path


@pytest.mark.parametrize(("ready", "wanted", "in_path"), [(1, 0, True), (0, 1, True), (1, 1, False)])
def test_without_a_burst_to_be_ready_for_the_buffer_is_there_at_zero_only(
    ready: int, wanted: int, in_path: bool
) -> None:
    excess = excess_burst_capacity(KpaSettings(target_burst_capacity=0.0), KpaSample(0, ready, ready, 0.0, 1e6))
    assert excess == 0
    assert buffer_in_path(excess, ready, wanted) == in_path
