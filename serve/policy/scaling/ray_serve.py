"""Ray Serve's autoscaler: ongoing requests over a target, gain factors, bounds, and decisions counted loop by loop.

Source: ray-project/ray 2.54 (early 2026, after #58857, before #62144), python/ray/serve/autoscaling_policy.py,
python/ray/serve/_private/autoscaling_state.py (`get_decision_num_replicas`), AutoscalingConfig of
python/ray/serve/config.py. Its delays count loops; since #62144 (April 2026) they are wall time, which is the same
while a loop takes exactly 0.1 s, but for the truncation of `loops`. Not restated: `initial_replicas`,
`target_capacity` (the deployment's own business).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS


@dataclass(frozen=True, slots=True)
class RayServeSettings:
    """Upstream's AutoscalingConfig with its defaults, delays in ns; `num_replicas: auto` means `max_replicas` 100.

    Factors are gains on the change wanted; None falls back to the older names: `up-`/`downscale_smoothing_factor`, then
    `smoothing_factor`. `downscale_to_zero_delay_ns` None means `downscale_delay_ns`. `loop_ns` is upstream's
    CONTROL_LOOP_INTERVAL_S, how often `decide` must be called.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing_requests: float = 2.0
    upscaling_factor: float | None = None
    downscaling_factor: float | None = None
    upscale_smoothing_factor: float | None = None
    downscale_smoothing_factor: float | None = None
    smoothing_factor: float = 1.0
    upscale_delay_ns: int = 30 * SECOND_NS
    downscale_delay_ns: int = 600 * SECOND_NS
    downscale_to_zero_delay_ns: int | None = None
    loop_ns: int = SECOND_NS // 10


class RayServeSample(NamedTuple):
    """What Ray Serve knows at one loop.

    `running`: replicas that run; `target`: the count set now; `ongoing`: requests running on replicas plus queued in
    handles, time-weighted mean over `look_back_period_s` (30 s).
    """

    now_ns: int
    running: int
    target: int
    ongoing: float


def upscaling_factor(settings: RayServeSettings) -> float:
    """The gain of a change upwards."""
    return settings.upscaling_factor or settings.upscale_smoothing_factor or settings.smoothing_factor


def downscaling_factor(settings: RayServeSettings) -> float:
    """The gain of a change downwards."""
    return settings.downscaling_factor or settings.downscale_smoothing_factor or settings.smoothing_factor


def loops(delay_ns: int, loop_ns: int) -> int:
    """How many equal decisions are withheld before one is acted on.

    Truncated after a division of seconds as floats, as upstream does it: 0.3 s at 0.1 s a loop are 2 loops, not 3.
    """
    return int((delay_ns / SECOND_NS) / (loop_ns / SECOND_NS))


def cold_start(settings: RayServeSettings, sample: RayServeSample) -> int:
    """Replicas while none runs: no delay, no bounds, and the counter stays as it is."""
    if sample.ongoing > 0:
        return max(math.ceil(upscaling_factor(settings)), sample.target)
    return sample.target


def raw_replicas(settings: RayServeSettings, sample: RayServeSample) -> float:
    """The desired count before gains, in upstream's order of operations; at least one replica must run."""
    error_ratio = sample.ongoing / (settings.target_ongoing_requests * sample.running)
    return sample.running * error_ratio


def apply_scaling_factors(settings: RayServeSettings, desired: float, running: int) -> int:
    """The desired count with the gain on its distance from what runs; downwards it moves by at least one."""
    delta = desired - running
    factor = upscaling_factor(settings) if delta > 0 else downscaling_factor(settings)
    scaled = math.ceil(running + factor * delta)
    if scaled == running and math.ceil(float(desired)) < running:
        return scaled - 1
    return scaled


def apply_bounds(settings: RayServeSettings, replicas: int) -> int:
    """Within the minimum and the maximum."""
    return max(settings.min_replicas, min(settings.max_replicas, replicas))


def apply_delay_logic(settings: RayServeSettings, desired: int, target: int, counter: int) -> tuple[int, int]:
    """(replicas, counter): the desired count after longer than its delay in one direction, else `target`.

    The counter is positive while it is upwards, negative while it is downwards. What is acted on is the last
    one, whatever the ones before it were. Zero is reached from one replica only.
    """
    if desired > target:
        counter = max(counter, 0) + 1
        if counter > loops(settings.upscale_delay_ns, settings.loop_ns):
            return desired, 0
        return target, counter
    if desired < target:
        counter = min(counter, 0) - 1
        delay_ns = settings.downscale_delay_ns
        if target != 1:
            desired = max(1, desired)
        elif settings.downscale_to_zero_delay_ns is not None:
            delay_ns = settings.downscale_to_zero_delay_ns
        if counter < -loops(delay_ns, settings.loop_ns):
            return desired, 0
        return target, counter
    return target, 0


class RayServe:
    """Ray Serve's default policy with its state: the decision counter."""

    def __init__(self, settings: RayServeSettings) -> None:
        self.settings = settings
        self.counter = 0

    def decide(self, sample: RayServeSample) -> Decision:
        """Replicas to set at this loop."""
        load = f"{sample.ongoing:.1f} ongoing on {sample.running} running"
        if sample.running == 0:
            wanted, reason = cold_start(self.settings, sample), f"none runs: {load}"
        else:
            scaled = apply_scaling_factors(self.settings, raw_replicas(self.settings, sample), sample.running)
            desired = apply_bounds(self.settings, scaled)
            wanted, self.counter = apply_delay_logic(self.settings, desired, sample.target, self.counter)
            reason = self._reason(load, desired, sample.target)
        bounded = apply_bounds(self.settings, wanted)
        if bounded != wanted:
            reason = "at its minimum" if bounded > wanted else "at its maximum"
        return Decision(bounded, reason)

    def _reason(self, load: str, desired: int, target: int) -> str:
        """Why the desired count was acted on, or is still counted."""
        if desired == target:
            return f"as wanted: {load}"
        if self.counter == 0:
            return load
        return f"wants {desired} since {abs(self.counter)} loops: {load}"
