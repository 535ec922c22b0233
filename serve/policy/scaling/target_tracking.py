"""Target tracking as AWS Application Auto Scaling documents it for ECS services: two alarms, one ratio, two cooldowns.

Source: Application Auto Scaling user guide, "How target tracking scaling works" and API reference,
TargetTrackingScalingPolicyConfiguration (2024). Documented: scale out in proportion to the metric, scale in more
gradually and only when clearly below the target; a cooldown of 300 s each way; capacity added by the scale-out that
began a cooldown counts as part of the next one; within the scale-in cooldown no scale-in, while a scale-out is done at
once and ends it; no scale-in on missing data. The alarms (3 and 15 one-minute datapoints, 90 %) are those that the
service creates for ECS, seen in its console, not a documented promise.

Our choices, where the documentation says nothing exact:
- The ratio is applied to the count set now, its result rounded up, in both directions.
- An alarm acts at every datapoint while it lasts. A missing datapoint ends both alarms.
- Within the scale-out cooldown the ratio is applied to the count from before that scale-out; only what lies beyond the
  count reached is added, and the cooldown then begins anew, still from the count before.
- A cooldown begins with the decision (not when replicas are ready) and is over exactly at its end. The scale-out
  cooldown does not delay a scale-in: the 15 datapoints do.
- Zero replicas have no metric, hence never scale out; a count outside the bounds is brought back at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS

ROUNDING = 1e-12
"""Relative; a ratio this far above a whole number of replicas is that number."""


@dataclass(frozen=True, slots=True)
class TargetTrackingSettings:
    """The policy's configuration; one datapoint comes each `period_ns`, which is also how often `decide` is called."""

    target: float = 50.0
    min_replicas: int = 1
    max_replicas: int = 1
    scale_in: bool = True
    scale_out_cooldown_ns: int = 300 * SECOND_NS
    scale_in_cooldown_ns: int = 300 * SECOND_NS
    period_ns: int = 60 * SECOND_NS
    out_datapoints: int = 3
    in_datapoints: int = 15
    in_share: float = 0.9


class TargetTrackingSample(NamedTuple):
    """One datapoint: the metric's average per replica over the last period, and the count set now."""

    now_ns: int
    replicas: int
    metric: float
    has_data: bool = True


def proportional(replicas: int, metric: float, target: float) -> int:
    """Replicas that would bring the average per replica to the target, but for the rounding of floats."""
    return math.ceil(replicas * metric / target * (1 - ROUNDING))


class TargetTracking:
    """Target tracking with its state: both alarms' runs of datapoints and both cooldowns."""

    def __init__(self, settings: TargetTrackingSettings) -> None:
        self.settings = settings
        self._above = 0
        self._below = 0
        self._scaled_out_ns: int | None = None
        self._scaled_in_ns: int | None = None
        self._before_out = 0

    def decide(self, sample: TargetTrackingSample) -> Decision:
        """Replicas to set at this datapoint."""
        settings = self.settings
        self._count(sample)
        bounded = self._bounded(sample.replicas)
        if bounded != sample.replicas:
            return Decision(bounded, "at its minimum" if bounded > sample.replicas else "at its maximum")
        if not sample.has_data:
            return Decision(sample.replicas, "no datapoint")
        if self._above >= settings.out_datapoints:
            return self._out(sample)
        if self._below >= settings.in_datapoints and settings.scale_in:
            return self._in(sample)
        return Decision(sample.replicas, f"no alarm: {sample.metric:.1f} at a target of {settings.target:.1f}")

    def _count(self, sample: TargetTrackingSample) -> None:
        """Enter the datapoint into both alarms."""
        low = self.settings.target * self.settings.in_share
        self._above = self._above + 1 if sample.has_data and sample.metric > self.settings.target else 0
        self._below = self._below + 1 if sample.has_data and sample.metric < low else 0

    def _out(self, sample: TargetTrackingSample) -> Decision:
        """The high alarm's answer."""
        cooling = self._cooling(self._scaled_out_ns, self.settings.scale_out_cooldown_ns, sample.now_ns)
        before = self._before_out if cooling else sample.replicas
        wanted = self._bounded(proportional(before, sample.metric, self.settings.target))
        if wanted <= sample.replicas:
            if sample.replicas == self.settings.max_replicas:
                return Decision(sample.replicas, "at its maximum")
            held = "what was added is enough, in the scale-out cooldown" if cooling else "no replica to go by"
            return Decision(sample.replicas, held)
        self._scaled_out_ns, self._scaled_in_ns, self._before_out = sample.now_ns, None, before
        return Decision(wanted, f"{sample.metric:.1f} over a target of {self.settings.target:.1f}")

    def _in(self, sample: TargetTrackingSample) -> Decision:
        """The low alarm's answer."""
        if self._cooling(self._scaled_in_ns, self.settings.scale_in_cooldown_ns, sample.now_ns):
            return Decision(sample.replicas, "in the scale-in cooldown")
        wanted = self._bounded(proportional(sample.replicas, sample.metric, self.settings.target))
        if wanted == sample.replicas:
            at_minimum = wanted == self.settings.min_replicas
            return Decision(wanted, "at its minimum" if at_minimum else "one less would be over the target")
        self._scaled_in_ns = sample.now_ns
        return Decision(wanted, f"{sample.metric:.1f} under a target of {self.settings.target:.1f}")

    def _bounded(self, replicas: int) -> int:
        """Within the minimum and the maximum."""
        return max(self.settings.min_replicas, min(self.settings.max_replicas, replicas))

    @staticmethod
    def _cooling(since_ns: int | None, cooldown_ns: int, now_ns: int) -> bool:
        """Whether a cooldown that began at `since_ns` still runs."""
        return since_ns is not None and now_ns < since_ns + cooldown_ns
