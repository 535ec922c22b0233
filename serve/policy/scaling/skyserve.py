"""SkyServe's autoscaler: requests per second over a target, with hysteresis, and on-demand replicas beside spot.

Source: skypilot-org/skypilot 0.10 (2025), sky/serve/autoscalers.py (RequestRateAutoscaler,
FallbackRequestRateAutoscaler) and sky/serve/constants.py. Not restated: targets per kind of accelerator, pools, and
the choice among versions and replicas to stop (rules 15 and 18 make it here).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS


@dataclass(frozen=True, slots=True)
class SkyServeSettings:
    """Upstream's replica_policy and constants.

    `max_replicas` None: the minimum; `target_qps` (requests per second and replica) None: no autoscaling.
    `overprovision` replicas are added to the target. With `base_ondemand_fallback_replicas` or
    `dynamic_ondemand_fallback` the other replicas are spot; without both, all are of the one kind that the pools say.
    """

    min_replicas: int = 1
    max_replicas: int | None = None
    target_qps: float | None = None
    overprovision: int = 0
    base_ondemand_fallback_replicas: int = 0
    dynamic_ondemand_fallback: bool = False
    upscale_delay_ns: int = 300 * SECOND_NS
    downscale_delay_ns: int = 1200 * SECOND_NS
    interval_ns: int = 20 * SECOND_NS
    no_replica_interval_ns: int = 5 * SECOND_NS
    qps_window_ns: int = 60 * SECOND_NS


class SkyServeSample(NamedTuple):
    """What SkyServe knows at one decision.

    `requests`: arrivals in the last `qps_window_ns`, as of the load balancer's last report (each 20 s); `ready_spot`:
    spot replicas that are ready.
    """

    now_ns: int
    requests: int
    ready_spot: int = 0


def replicas_by_rate(settings: SkyServeSettings, requests: int) -> int:
    """Replicas for the requests of one window, within bounds."""
    if settings.target_qps is None:
        return settings.min_replicas
    rate = requests / (settings.qps_window_ns / SECOND_NS)
    most = settings.min_replicas if settings.max_replicas is None else settings.max_replicas
    return max(settings.min_replicas, min(most, math.ceil(rate / settings.target_qps)))


def fallback(settings: SkyServeSettings, target: int, ready_spot: int) -> tuple[int, int]:
    """(spot, on demand) replicas for a target without overprovision, which is spot only.

    Dynamic fallback puts an on-demand replica beside every spot one that is wanted and not ready: preempted, starting
    or not to be had. Upstream fails an assertion if the base exceeds the target; here there is no spot then.
    """
    base = settings.base_ondemand_fallback_replicas
    spot = target + settings.overprovision - base
    missing = max(0, spot - ready_spot) if settings.dynamic_ondemand_fallback else 0
    return max(0, spot), min(base + missing, target)


class SkyServe:
    """SkyServe with its state: the target and, for either direction, how many decisions in a row wanted another."""

    def __init__(self, settings: SkyServeSettings) -> None:
        self.settings = settings
        self.target = settings.min_replicas
        self.upscale_counter = 0
        self.downscale_counter = 0

    def decide(self, sample: SkyServeSample) -> Decision:
        """Replicas to set at this decision."""
        settings = self.settings
        desired = replicas_by_rate(settings, sample.requests)
        reason = self._move(desired, f"{sample.requests} requests in {settings.qps_window_ns / SECOND_NS:g} s")
        if settings.base_ondemand_fallback_replicas == 0 and not settings.dynamic_ondemand_fallback:
            return Decision(self.target + settings.overprovision, reason)
        spot, on_demand = fallback(settings, self.target, sample.ready_spot)
        if on_demand > settings.base_ondemand_fallback_replicas:
            reason = f"{on_demand} on demand while {sample.ready_spot} of {spot} spot are ready; {reason}"
        return Decision(spot + on_demand, reason, on_demand)

    def interval_ns(self) -> int:
        """Time to the next decision: shorter while nothing is wanted."""
        if self.target + self.settings.overprovision == 0:
            return self.settings.no_replica_interval_ns
        return self.settings.interval_ns

    def _move(self, desired: int, load: str) -> str:
        """Bring the target to `desired` if it was wanted long enough, from zero at once; why it is where it is."""
        upscales = self.settings.upscale_delay_ns // self.settings.interval_ns
        downscales = self.settings.downscale_delay_ns // self.settings.interval_ns
        if desired == self.target:
            self.upscale_counter = self.downscale_counter = 0
            return f"as wanted: {load}"
        if self.target == 0:
            self.target = desired
            return f"from zero: {load}"
        if desired > self.target:
            self.upscale_counter, self.downscale_counter = self.upscale_counter + 1, 0
            if self.upscale_counter < upscales:
                return f"wants {desired}, {self.upscale_counter} of {upscales} decisions: {load}"
        else:
            self.upscale_counter, self.downscale_counter = 0, self.downscale_counter + 1
            if self.downscale_counter < downscales:
                return f"wants {desired}, {self.downscale_counter} of {downscales} decisions: {load}"
        self.upscale_counter = self.downscale_counter = 0
        self.target = desired
        return load
