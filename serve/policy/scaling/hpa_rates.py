"""What the HPA makes of a recommendation: windows of stabilisation, rates of change, bounds.

Pure functions of logs that the policy keeps. The comparisons at the very end of a window are upstream's, which
differ: without a `behavior` block a recommendation exactly one window old still counts, with one it no longer does; nor
does a change exactly one period old.

Source: kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal.go (stabilizeRecommendation*,
convertDesiredReplicasWith*, calculateScale*Limit*, storeScaleEvent) and pkg/apis/autoscaling/v2/defaults.go; version
as in `hpa_replicas`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from serve.policy.scaling.nanoseconds import SECOND_NS

POLICY_PODS = "Pods"
POLICY_PERCENT = "Percent"

SELECT_MAX = "Max"
SELECT_MIN = "Min"
SELECT_DISABLED = "Disabled"

LIMIT_NONE = ""
LIMIT_MAX_REPLICAS = "at its maximum"
LIMIT_MIN_REPLICAS = "at its minimum"
LIMIT_UP_RATE = "held by the rate of scale-ups"
LIMIT_DOWN_RATE = "held by the rate of scale-downs"


class ScalingPolicy(NamedTuple):
    """At most `value` pods, or per cent of the replicas `period_ns` ago, within any `period_ns` (at most 1,800 s)."""

    kind: str
    value: int
    period_ns: int


class ScalingRules(NamedTuple):
    """One direction of a `behavior` block.

    Parameters
    ----------
    window_ns : the most cautious recommendation of this long counts.
    policies : at least one.
    select : which policy decides: that of the largest change, of the smallest, or no change at all.
    """

    window_ns: int
    policies: tuple[ScalingPolicy, ...]
    select: str = SELECT_MAX


_PERIOD_NS = 15 * SECOND_NS
UP_RULES = ScalingRules(0, (ScalingPolicy(POLICY_PODS, 4, _PERIOD_NS), ScalingPolicy(POLICY_PERCENT, 100, _PERIOD_NS)))
DOWN_RULES = ScalingRules(300 * SECOND_NS, (ScalingPolicy(POLICY_PERCENT, 100, _PERIOD_NS),))


class Behavior(NamedTuple):
    """A `behavior` block; what it leaves out has upstream's defaults (use `UP_RULES._replace(...)`)."""

    up: ScalingRules = UP_RULES
    down: ScalingRules = DOWN_RULES


class Timestamped(NamedTuple):
    """A recommendation for so many replicas, or a change by so many, at an instant."""

    at_ns: int
    replicas: int


class Bounded(NamedTuple):
    """What is left of a recommendation, and which limit (LIMIT_*) cut it."""

    replicas: int
    limit: str


def remember(log: list[Timestamped], latest: Timestamped, keep_ns: int) -> None:
    """Write `latest` over the last entry that is older than `keep_ns`, or else append it.

    Upstream reuses places so, one a time; an older entry that stays does count in a longer period of the other
    direction, hence the log is not simply trimmed.
    """
    old = [index for index, entry in enumerate(log) if entry.at_ns < latest.at_ns - keep_ns]
    if old:
        log[old[-1]] = latest
    else:
        log.append(latest)


def stabilised_down(recommendations: Sequence[Timestamped], recommended: int, now_ns: int, window_ns: int) -> int:
    """Without a `behavior` block: the highest recommendation of the window."""
    return max([recommended, *(entry.replicas for entry in recommendations if entry.at_ns >= now_ns - window_ns)])


def stabilised(
    recommendations: Sequence[Timestamped],
    recommended: int,
    current: int,
    now_ns: int,
    up_window_ns: int,
    down_window_ns: int,
) -> int:
    """With one: `current`, but at least the lowest of the one window, and at most the highest of the other."""
    lowest = min([recommended, *(entry.replicas for entry in recommendations if entry.at_ns > now_ns - up_window_ns)])
    highest = max(
        [recommended, *(entry.replicas for entry in recommendations if entry.at_ns > now_ns - down_window_ns)]
    )
    return min(max(current, lowest), highest)


def changed_within(changes: Sequence[Timestamped], now_ns: int, period_ns: int) -> int:
    """Sum of the changes of the last `period_ns`."""
    return sum(entry.replicas for entry in changes if entry.at_ns > now_ns - period_ns)


def replicas_before(
    current: int, ups: Sequence[Timestamped], downs: Sequence[Timestamped], now_ns: int, period_ns: int
) -> int:
    """How many there were a period ago, by what has changed since."""
    return current - changed_within(ups, now_ns, period_ns) + changed_within(downs, now_ns, period_ns)


def longest_period_ns(rules: ScalingRules) -> int:
    """How long a change has to be remembered for these rules."""
    return max(policy.period_ns for policy in rules.policies)


def up_limit(
    current: int, ups: Sequence[Timestamped], downs: Sequence[Timestamped], rules: ScalingRules, now_ns: int
) -> int:
    """Most replicas that the rules allow now; below `current` if more were added than they allow."""
    if rules.select == SELECT_DISABLED:
        return current
    limits = []
    for kind, value, period_ns in rules.policies:
        start = replicas_before(current, ups, downs, now_ns, period_ns)
        # Rounded up: a small percentage of few replicas would never let one be added.
        limits.append(start + value if kind == POLICY_PODS else math.ceil(start * (1 + value / 100)))
    return min(limits) if rules.select == SELECT_MIN else max(limits)


def down_limit(
    current: int, ups: Sequence[Timestamped], downs: Sequence[Timestamped], rules: ScalingRules, now_ns: int
) -> int:
    """Fewest replicas that the rules allow now; above `current` if more were removed than they allow."""
    if rules.select == SELECT_DISABLED:
        return current
    limits = []
    for kind, value, period_ns in rules.policies:
        start = replicas_before(current, ups, downs, now_ns, period_ns)
        limits.append(start - value if kind == POLICY_PODS else int(start * (1 - value / 100)))
    return max(limits) if rules.select == SELECT_MIN else min(limits)


def legacy_up_limit(current: int) -> int:
    """Most replicas after one tick without a `behavior` block; scale-downs have no such limit."""
    return max(2 * current, 4)


def bounded(current: int, recommended: int, min_replicas: int, max_replicas: int) -> Bounded:
    """The recommendation within the bounds and the rate that hold without a `behavior` block."""
    limit = legacy_up_limit(current)
    if recommended < min_replicas:
        return Bounded(min_replicas, LIMIT_MIN_REPLICAS)
    if recommended <= min(limit, max_replicas):
        return Bounded(recommended, LIMIT_NONE)
    return Bounded(limit, LIMIT_UP_RATE) if limit < max_replicas else Bounded(max_replicas, LIMIT_MAX_REPLICAS)


def bounded_by_rules(
    current: int,
    recommended: int,
    min_replicas: int,
    max_replicas: int,
    behavior: Behavior,
    ups: Sequence[Timestamped],
    downs: Sequence[Timestamped],
    now_ns: int,
) -> Bounded:
    """The recommendation within the bounds and the rates of a `behavior` block; a rate never reverses the direction."""
    if recommended > current:
        highest = max(up_limit(current, ups, downs, behavior.up, now_ns), current)
        if recommended > min(highest, max_replicas):
            if highest < max_replicas:
                return Bounded(highest, LIMIT_UP_RATE)
            return Bounded(max_replicas, LIMIT_MAX_REPLICAS)
    if recommended < current:
        lowest = min(down_limit(current, ups, downs, behavior.down, now_ns), current)
        if recommended < max(lowest, min_replicas):
            if lowest > min_replicas:
                return Bounded(lowest, LIMIT_DOWN_RATE)
            return Bounded(min_replicas, LIMIT_MIN_REPLICAS)
    return Bounded(recommended, LIMIT_NONE)
