"""The HPA's rates and bounds, by upstream's own tables.

Case names (and the names of upstream's one-case tests) are those of kubernetes/kubernetes,
pkg/controller/podautoscaler/horizontal_test.go, after its refactoring of 2026.
"""

from __future__ import annotations

from typing import Any

import pytest

from serve.policy.scaling.hpa_rates import (
    DOWN_RULES,
    LIMIT_DOWN_RATE,
    LIMIT_MAX_REPLICAS,
    LIMIT_MIN_REPLICAS,
    LIMIT_NONE,
    LIMIT_UP_RATE,
    POLICY_PERCENT,
    POLICY_PODS,
    SELECT_DISABLED,
    SELECT_MIN,
    UP_RULES,
    Behavior,
    ScalingPolicy,
    ScalingRules,
    Timestamped,
    bounded,
    bounded_by_rules,
    changed_within,
    down_limit,
    legacy_up_limit,
    up_limit,
)
from serve.policy.scaling.nanoseconds import SECOND_NS
from tests.serve.scaling.pods import NOW

# DesiredWithinRange, TooManyReplicas, TooFewReplicas, ScaleUpLimit and ScaleDownLimit in upstream's conditions.
IN, MANY, FEW, FAST, SLOW = LIMIT_NONE, LIMIT_MAX_REPLICAS, LIMIT_MIN_REPLICAS, LIMIT_UP_RATE, LIMIT_DOWN_RATE


def _rules(pods: int, pods_period_s: int, percent: int = 0, percent_period_s: int = 0) -> ScalingRules:
    """Upstream's generateScalingRules: the policies that are not 0, the larger change wins."""
    policies = []
    if pods:
        policies.append(ScalingPolicy(POLICY_PODS, pods, pods_period_s * SECOND_NS))
    if percent:
        policies.append(ScalingPolicy(POLICY_PERCENT, percent, percent_period_s * SECOND_NS))
    return ScalingRules(0, tuple(policies))


def _spread(changes: list[int], period_s: int) -> list[Timestamped]:
    """Upstream's generateEventsUniformDistribution: each change in the middle of its share of the last `period_s`."""
    share = period_s / len(changes)
    ages = [int(period_s - share * (index + 1) + share / 2) for index in range(len(changes))]
    return [Timestamped(NOW - age * SECOND_NS, change) for age, change in zip(ages, changes, strict=True)]


@pytest.mark.parametrize(
    ("current", "recommended", "bounds", "expected", "limit"),
    [
        pytest.param(5, 7, (3, 8), 7, IN, id="prenormalized desired replicas within range"),
        pytest.param(3, 1, (2, 8), 2, FEW, id="prenormalized desired replicas < minReplicas"),
        pytest.param(1, 0, (0, 10), 0, IN, id="prenormalized desired zeroed replicas within range"),
        pytest.param(20, 1000, (1, 10), 10, MANY, id="maxReplicas is the limit because maxReplicas < scaleUpLimit"),
        pytest.param(3, 1000, (1, 2000), 6, FAST, id="scaleUpLimit is the limit because scaleUpLimit < maxReplicas"),
        pytest.param(3, 6, (1, 2000), 6, IN, id="exactly the limit"),
        pytest.param(3, 7, (1, 6), 6, MANY, id="the maximum and the rate agree"),
        pytest.param(2, 9, (2, 2), 2, MANY, id="min = max, going up"),
        pytest.param(2, 1, (2, 2), 2, FEW, id="min = max, going down"),
    ],
)
def test_bounds_without_a_behavior_block(
    current: int, recommended: int, bounds: tuple[int, int], expected: int, limit: str
) -> None:
    assert bounded(current, recommended, *bounds) == (expected, limit)


@pytest.mark.parametrize(("current", "limit"), [(0, 4), (1, 4), (2, 4), (3, 6), (100, 200)])
def test_without_a_behavior_block_a_tick_doubles_or_reaches_four(current: int, limit: int) -> None:
    assert legacy_up_limit(current) == limit


def _case(
    name: str,
    current: int,
    recommended: int,
    expected: int,
    limit: str,
    bounds: tuple[int, int] = (1, 1000),
    up: ScalingRules = UP_RULES,
    down: ScalingRules = DOWN_RULES,
    ups: list[Timestamped] | None = None,
    downs: list[Timestamped] | None = None,
) -> Any:
    return pytest.param(
        current, recommended, bounds, Behavior(up, down), ups or [], downs or [], expected, limit, id=name
    )


GROWN = _spread([1, 5, 9], 120)
TENS = _spread([10, 10, 10], 120)
FOUR = _spread([8, 12, 9, 11], 120)

SCALING_WITH_RULES = [
    _case("prenormalized desired replicas within range", 5, 7, 7, IN, (3, 8)),
    _case("prenormalized desired replicas < minReplicas", 3, 1, 2, FEW, (2, 8)),
    _case("prenormalized desired replicas within range when minReplicas is 0", 1, 0, 0, IN, (0, 10)),
    _case("maxReplicas is the limit because maxReplicas < scaleUpLimit", 20, 1000, 10, MANY, (1, 10)),
    _case("desired replica count is more than the maximum replica count", 100, 1000, 150, MANY, (100, 150)),
    _case(
        "scaleUpLimit is the limit because scaleUpLimit < maxReplicas with user policies",
        3, 1000, 4, FAST, (1, 2000), up=_rules(0, 0, 1, 60),
    ),
    _case("scaleUp with default behavior", 10, 50, 20, FAST),
    _case("scaleUp with pods policy larger than percent policy", 10, 500, 110, FAST, up=_rules(100, 60, 100, 60)),
    _case("scaleUp with percent policy larger than pods policy", 10, 500, 20, FAST, up=_rules(2, 60, 100, 60)),
    _case("scaleUp with spec MaxReplicas limitation with large pod policy", 10, 50, 50, IN, up=_rules(100, 60)),
    _case("scaleUp with spec MaxReplicas limitation with large percent policy", 10, 50, 50, IN, up=_rules(10000, 60)),
    _case("scaleUp with pod policy limitation", 10, 50, 40, FAST, up=_rules(30, 60)),
    _case("scaleUp with percent policy limitation", 10, 50, 30, FAST, up=_rules(0, 0, 200, 60)),
    _case("scaleDown with percent policy larger than pod policy", 100, 2, 80, SLOW, down=_rules(20, 60, 1, 60)),
    _case("scaleDown with pod policy larger than percent policy", 100, 2, 98, SLOW, down=_rules(2, 60, 1, 60)),
    _case("scaleDown with spec MinReplicas limitation with large pod policy", 10, 0, 1, FEW, down=_rules(100, 60)),
    _case(
        "scaleDown with spec MinReplicas limitation with large percent policy",
        10, 2, 5, FEW, (5, 1000), down=_rules(0, 0, 100, 60),
    ),
    _case("scaleDown with pod policy limitation", 10, 2, 5, SLOW, down=_rules(5, 60)),
    _case("scaleDown with percent policy limitation", 10, 5, 5, IN, down=_rules(0, 0, 50, 60)),
    _case(
        "scaleUp with spec MaxReplicas limitation with large pod policy and events",
        100, 500, 200, MANY, (1, 200), up=_rules(300, 60), ups=GROWN,
    ),
    _case(
        "scaleUp with spec MaxReplicas limitation with large percent policy and events",
        100, 500, 200, MANY, (1, 200), up=_rules(0, 0, 10000, 60), ups=GROWN,
    ),
    _case(
        "scaleUp with currentReplicas limitation with rate.PeriodSeconds with a lot of recent scale up events",
        100, 500, 100, FAST, up=_rules(5, 120), ups=GROWN,
    ),
    _case("scaleUp with pod policy and previous scale up events", 100, 500, 235, FAST, up=_rules(150, 120), ups=GROWN),
    _case(
        "scaleUp with percent policy and previous scale up events",
        100, 500, 255, FAST, up=_rules(0, 0, 200, 120), ups=GROWN,
    ),
    _case(
        "scaleUp with percent policy and previous scale up and down events",
        6, 24, 16, FAST, up=_rules(0, 0, 300, 300), ups=_spread([4], 120), downs=_spread([2], 120),
    ),
    _case("scaleDown with default policy and previous events", 10, 5, 5, IN, downs=GROWN),
    _case(
        "scaleDown with spec MinReplicas=nil limitation with large pod policy and previous events",
        100, 0, 1, FEW, down=_rules(115, 120), downs=GROWN,
    ),
    _case(
        "scaleDown with spec MinReplicas limitation with large pod policy and previous events",
        100, 0, 5, FEW, (5, 1000), down=_rules(130, 120), downs=GROWN,
    ),
    _case(
        "scaleDown with spec MinReplicas limitation with large percent policy and previous events",
        100, 2, 5, FEW, (5, 1000), down=_rules(0, 0, 100, 120), downs=GROWN,
    ),
    _case(
        "scaleDown with pod policy limitation and previous events",
        100, 2, 100, SLOW, down=_rules(5, 120), downs=GROWN,
    ),
    _case(
        "scaleDown with percent policy limitation and previous events",
        100, 0, 56, SLOW, down=_rules(0, 0, 50, 120), downs=_spread([2, 4, 6], 120),
    ),
    _case(
        "scaleDown with percent policy and previous scale up and down events",
        10, 1, 6, SLOW, down=_rules(0, 0, 50, 180), ups=_spread([2], 120), downs=_spread([4], 120),
    ),
    _case(
        "scaleDown with previous events preventing further scale down",
        100, 0, 100, SLOW, down=_rules(0, 0, 10, 120), downs=TENS,
    ),
    _case(
        "scaleDown with with previous events still allowing more scale down",
        10, 5, 5, IN, down=_rules(0, 0, 1000, 120), downs=TENS,
    ),
    _case("ours: up exactly to the rate", 10, 20, 20, IN),
    _case("ours: up, the maximum and the rate agree", 10, 50, 20, MANY, (1, 20)),
    _case("ours: down exactly to the rate", 10, 5, 5, IN, down=_rules(5, 60)),
    _case("ours: down, the minimum and the rate agree", 10, 2, 5, FEW, (5, 1000), down=_rules(5, 60)),
    _case("check 'outdated' flag for events for one behavior for up", 100, 200, 200, IN, up=_rules(1000, 60), ups=FOUR),
    _case(
        "check that events were not marked 'outdated' for two different policies in the behavior for up",
        100, 200, 200, IN, up=_rules(1000, 120, 100, 60), ups=FOUR,
    ),
    _case(
        "check that events were marked 'outdated' for two different policies in the behavior for up",
        100, 200, 200, IN, up=_rules(1000, 30, 100, 60), ups=FOUR,
    ),
    _case(
        "check 'outdated' flag for events for one behavior for down", 100, 5, 5, IN, down=_rules(1000, 60), downs=FOUR,
    ),
    _case(
        "check that events were not marked 'outdated' for two different policies in the behavior for down",
        100, 5, 5, IN, down=_rules(1000, 120, 100, 60), downs=FOUR,
    ),
    _case(
        "check that events were marked 'outdated' for two different policies in the behavior for down",
        100, 5, 5, IN, down=_rules(1000, 30, 100, 60), downs=FOUR,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("current", "recommended", "bounds", "behavior", "ups", "downs", "expected", "limit"), SCALING_WITH_RULES
)
def test_scaling_with_rules(
    current: int,
    recommended: int,
    bounds: tuple[int, int],
    behavior: Behavior,
    ups: list[Timestamped],
    downs: list[Timestamped],
    expected: int,
    limit: str,
) -> None:
    assert bounded_by_rules(current, recommended, *bounds, behavior, ups, downs, NOW) == (expected, limit)


SMALLEST = _rules(2, 60, 50, 60)._replace(select=SELECT_MIN)


def test_calculate_scale_up_limit_with_scaling_rules() -> None:
    assert up_limit(1, [], [], SMALLEST, NOW) == 2


def test_calculate_scale_down_limit_with_behaviors() -> None:
    assert down_limit(5, [], [], SMALLEST, NOW) == 3


def test_a_disabled_direction_keeps_the_replicas_whatever_happened() -> None:
    off = UP_RULES._replace(select=SELECT_DISABLED)
    assert up_limit(5, GROWN, [], off, NOW) == down_limit(5, [], GROWN, off, NOW) == 5
    assert bounded_by_rules(5, 9, 1, 10, Behavior(up=off), [], [], NOW) == (5, LIMIT_UP_RATE)
    assert bounded_by_rules(5, 1, 1, 10, Behavior(down=off), [], [], NOW) == (5, LIMIT_DOWN_RATE)


@pytest.mark.parametrize(("age_ns", "counted"), [(0, 3), (60 * SECOND_NS - 1, 3), (60 * SECOND_NS, 0)])
def test_a_change_exactly_one_period_old_no_longer_counts(age_ns: int, counted: int) -> None:
    assert changed_within([Timestamped(NOW - age_ns, 3)], NOW, 60 * SECOND_NS) == counted
