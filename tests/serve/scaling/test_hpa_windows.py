"""The HPA's windows of stabilisation and its logs, by upstream's own tables.

Case names are those of kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal_test.go
(TestNormalizeDesiredReplicas, TestNormalizeDesiredReplicasWithBehavior, TestStoreScaleEvents), after its refactoring
of 2026.
"""

from __future__ import annotations

import pytest

from serve.policy.scaling.hpa_rates import (
    POLICY_PERCENT,
    POLICY_PODS,
    ScalingPolicy,
    ScalingRules,
    Timestamped,
    changed_within,
    longest_period_ns,
    remember,
    stabilised,
    stabilised_down,
)
from serve.policy.scaling.nanoseconds import SECOND_NS
from tests.serve.scaling.pods import NOW


def _log(*entries: tuple[int, int]) -> list[Timestamped]:
    """Entries of (replicas, seconds ago)."""
    return [Timestamped(NOW - ago_s * SECOND_NS, replicas) for replicas, ago_s in entries]


def _replicas(log: list[Timestamped]) -> list[int]:
    return [entry.replicas for entry in log]


@pytest.mark.parametrize(
    ("recommendations", "recommended", "expected", "after"),
    [
        pytest.param(_log(), 5, 5, [5], id="empty log"),
        pytest.param(_log((4, 120), (5, 60)), 3, 5, [4, 5, 3], id="stabilize"),
        pytest.param(_log((1, 120), (2, 60)), 3, 3, [1, 2, 3], id="no stabilize"),
        pytest.param(_log((10, 600), (9, 540)), 3, 3, [10, 3], id="no stabilize - old recommendations"),
        pytest.param(
            _log((10, 600), (4, 60), (5, 120), (9, 540)), 3, 5, [10, 4, 5, 3], id="stabilize - old recommendations"
        ),
    ],
)
def test_normalize_desired_replicas(
    recommendations: list[Timestamped], recommended: int, expected: int, after: list[int]
) -> None:
    log, window_ns = list(recommendations), 300 * SECOND_NS
    assert stabilised_down(log, recommended, NOW, window_ns) == expected
    remember(log, Timestamped(NOW, recommended), window_ns)
    assert _replicas(log) == after


@pytest.mark.parametrize(
    ("recommendations", "current", "recommended", "windows_s", "expected", "after"),
    [
        pytest.param(_log(), 100, 5, (0, 0), 5, [5], id="empty recommendations for scaling down"),
        pytest.param(
            _log((4, 120), (5, 60)), 100, 3, (0, 180), 5, [4, 5, 3], id="simple scale down stabilization"
        ),
        pytest.param(_log((4, 120), (5, 60)), 1, 7, (300, 0), 4, [4, 5, 7], id="simple scale up stabilization"),
        pytest.param(_log((1, 120), (2, 60)), 100, 3, (300, 0), 3, [1, 2, 3], id="no scale down stabilization"),
        pytest.param(_log((4, 120), (5, 60)), 1, 3, (0, 300), 3, [4, 5, 3], id="no scale up stabilization"),
        pytest.param(
            _log((10, 600), (9, 540)), 100, 3, (0, 0), 3, [10, 3],
            id="no scale down stabilization, reuse recommendation element",
        ),
        pytest.param(
            _log((10, 600), (9, 540)), 1, 100, (0, 0), 100, [10, 100],
            id="no scale up stabilization, reuse recommendation element",
        ),
        pytest.param(
            _log((10, 600), (4, 60), (5, 120), (9, 540)), 100, 3, (0, 180), 5, [10, 4, 5, 3],
            id="scale down stabilization, reuse one of obsolete recommendation element",
        ),
        pytest.param(
            _log((10, 6000), (6, 60), (5, 120), (9, 180)), 1, 100, (300, 0), 5, [100, 6, 5, 9],
            id="scale up stabilization, reuse one of obsolete recommendation element",
        ),
        pytest.param(
            _log((2, 6000), (3, 180)), 2, 1, (300, 300), 2, [1, 3],
            id="scale up and down stabilization, do not scale up when prenormalized rec goes down",
        ),
        pytest.param(
            _log((2, 6000), (1, 180)), 2, 3, (300, 300), 2, [3, 1],
            id="scale up and down stabilization, do not scale down when prenormalized rec goes up",
        ),
    ],
)  # fmt: skip
def test_normalize_desired_replicas_with_behavior(
    recommendations: list[Timestamped],
    current: int,
    recommended: int,
    windows_s: tuple[int, int],
    expected: int,
    after: list[int],
) -> None:
    log, up_window_ns, down_window_ns = list(recommendations), windows_s[0] * SECOND_NS, windows_s[1] * SECOND_NS
    assert stabilised(log, recommended, current, NOW, up_window_ns, down_window_ns) == expected
    remember(log, Timestamped(NOW, recommended), max(up_window_ns, down_window_ns))
    assert _replicas(log) == after


@pytest.mark.parametrize(
    ("before", "periods_s", "counted", "after"),
    [
        pytest.param(_log(), (60, 60), 0, [5], id="empty entries with two-policy-behavior"),
        pytest.param(_log((7, 61)), (60, 60), 0, [5], id="one outdated entry to be replaced with behavior"),
        pytest.param(_log((7, 58)), (60, 60), 7, [7, 5], id="one actual entry to be not touched with behavior"),
        pytest.param(_log((7, 61), (6, 59)), (60,), 6, [5, 6], id="two entries, one of them to be replaced"),
        pytest.param(
            _log((8, 29), (6, 59), (7, 61), (9, 61)), (60, 30), 14, [8, 6, 7, 5],
            id="replace one entry, use policies with different periods",
        ),
        pytest.param(_log((7, 58), (6, 59)), (120, 30), 13, [7, 6, 5], id="two entries, both actual"),
    ],
)  # fmt: skip
def test_store_scale_events(
    before: list[Timestamped], periods_s: tuple[int, ...], counted: int, after: list[int]
) -> None:
    kinds = (POLICY_PODS, POLICY_PERCENT)
    policies = [ScalingPolicy(kind, 10, period * SECOND_NS) for kind, period in zip(kinds, periods_s, strict=False)]
    log = list(before)
    assert changed_within(log, NOW, 60 * SECOND_NS) == counted
    remember(log, Timestamped(NOW, 5), longest_period_ns(ScalingRules(0, tuple(policies))))
    assert _replicas(log) == after


@pytest.mark.parametrize(
    ("age_ns", "without_block", "with_block"),
    [(300 * SECOND_NS - 1, 9, 9), (300 * SECOND_NS, 9, 3), (300 * SECOND_NS + 1, 3, 3)],
)
def test_at_the_very_end_of_the_window_the_two_ways_differ(age_ns: int, without_block: int, with_block: int) -> None:
    log, window_ns = [Timestamped(NOW - age_ns, 9)], 300 * SECOND_NS
    assert stabilised_down(log, 3, NOW, window_ns) == without_block
    assert stabilised(log, 3, 9, NOW, 0, window_ns) == with_block


def test_an_entry_as_old_as_the_window_is_not_overwritten_yet() -> None:
    log = [Timestamped(NOW - 300 * SECOND_NS, 9)]
    remember(log, Timestamped(NOW, 3), 300 * SECOND_NS)
    assert _replicas(log) == [9, 3]
    remember(log, Timestamped(NOW + 1, 4), 300 * SECOND_NS)
    assert _replicas(log) == [4, 3]
