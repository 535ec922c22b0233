"""How a model's replicas are scaled, as a deployment says it: one kind a policy of `serve.policy.scaling`.

Fields are named in our words and have their units; defaults are each project's own. `settings` is what the policy is
built with; bounds come from the model's `replicas`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serve.policy.scaling import (
    hpa,
    hpa_rates,
    hpa_replicas,
    idle,
    keda,
    kpa,
    predictive,
    ray_serve,
    scheduled,
    skyserve,
)
from serve.policy.scaling.nanoseconds import MINUTE_NS, SECOND_NS
from serve.policy.scaling.target_tracking import TargetTrackingSettings
from serve.spec import Spec
from serve.units import DurationNs, RateRps, Share

PositiveDurationNs = Annotated[DurationNs, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Metric = Literal["ongoing", "waiting"]
"""Requests enqueued and not answered, or not dispatched (rule 13's gauges)."""


class Bounds(Spec):
    """How few and how many replicas a policy may ask for."""

    least: int = Field(ge=0)
    most: int = Field(ge=0)


class RateLimit(Spec):
    """At most so many pods, or per cent of those there were, within any period."""

    pods: int | None = Field(None, ge=1, description="pods, or:")
    percent: int | None = Field(None, ge=1, description="per cent of the replicas a period ago")
    period: PositiveDurationNs = Field(15 * SECOND_NS, le=1800 * SECOND_NS, validate_default=False)

    @model_validator(mode="after")
    def _one(self) -> RateLimit:
        if (self.pods is None) == (self.percent is None):
            raise ValueError("takes either pods or percent, as in {pods: 4, period: 15s}")
        return self

    @property
    def policy(self) -> hpa_rates.ScalingPolicy:
        """As the HPA's own."""
        if self.pods is not None:
            return hpa_rates.ScalingPolicy(hpa_rates.POLICY_PODS, self.pods, self.period)
        assert self.percent is not None
        return hpa_rates.ScalingPolicy(hpa_rates.POLICY_PERCENT, self.percent, self.period)


_SELECT = {"max": hpa_rates.SELECT_MAX, "min": hpa_rates.SELECT_MIN, "disabled": hpa_rates.SELECT_DISABLED}


class Direction(Spec):
    """One direction of a `behavior` block; what is left out is upstream's default."""

    window: DurationNs | None = Field(None, description="stabilisation: the most cautious recommendation counts")
    limits: list[RateLimit] | None = Field(None, min_length=1, description="rates of change")
    select: Literal["max", "min", "disabled"] = Field("max", description="which limit decides")

    def rules(self, default: hpa_rates.ScalingRules) -> hpa_rates.ScalingRules:
        """As the HPA's own."""
        window_ns = default.window_ns if self.window is None else self.window
        policies = default.policies if self.limits is None else tuple(limit.policy for limit in self.limits)
        return hpa_rates.ScalingRules(window_ns, policies, _SELECT[self.select])


class HpaScaling(Spec):
    """What HPA and KEDA share: ticks, tolerance, rates."""

    interval: PositiveDurationNs = Field(15 * SECOND_NS, description="between two ticks", validate_default=False)
    tolerance: Share = Field(0.1, ge=0, description="of the ratio of usage to target", validate_default=False)
    scale_up: Direction | None = None
    scale_down: Direction | None = None
    down_window: DurationNs = Field(
        300 * SECOND_NS,
        ge=0,
        description="without scale_up and scale_down: the highest recommendation of this long counts",
        validate_default=False,
    )

    @property
    def behavior(self) -> hpa_rates.Behavior | None:
        """None where neither direction is said, which the HPA treats otherwise than defaults that are said."""
        if self.scale_up is None and self.scale_down is None:
            return None
        up, down = self.scale_up or Direction(), self.scale_down or Direction()
        return hpa_rates.Behavior(up.rules(hpa_rates.UP_RULES), down.rules(hpa_rates.DOWN_RULES))

    @property
    def both(self) -> hpa_replicas.Tolerance:
        """The tolerance in both directions."""
        return hpa_replicas.Tolerance(self.tolerance, self.tolerance)


class Hpa(HpaScaling):
    """Kubernetes' HorizontalPodAutoscaler."""

    kind: Literal["hpa"]
    cpu: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="mean busy per cent of the threads")
    ongoing: Positive | None = Field(None, description="mean requests enqueued and not answered of a replica")
    waiting: Positive | None = Field(None, description="mean requests waiting of a replica")
    scrape: PositiveDurationNs = Field(
        15 * SECOND_NS, description="metrics-server's resolution", validate_default=False
    )
    age: DurationNs = Field(0, ge=0, description="how old a scrape is before a tick sees it", validate_default=False)
    cpu_initialization: DurationNs = Field(300 * SECOND_NS, ge=0, validate_default=False)
    initial_delay: DurationNs = Field(30 * SECOND_NS, ge=0, validate_default=False)

    @model_validator(mode="after")
    def _some_metric(self) -> Hpa:
        if not self.metrics:
            raise ValueError("needs at least one of cpu, ongoing and waiting, as in {kind: hpa, cpu: 60}")
        return self

    @property
    def metrics(self) -> tuple[hpa.MetricTarget, ...]:
        """In the order cpu, ongoing, waiting."""
        found = [] if self.cpu is None else [hpa.MetricTarget(hpa.UTILISATION, self.cpu, is_cpu=True)]
        targets = (self.ongoing, self.waiting)
        found += [hpa.MetricTarget(hpa.POD_AVERAGE, _milli(target)) for target in targets if target is not None]
        return tuple(found)

    def settings(self, bounds: Bounds) -> hpa.HpaSettings:
        """What the policy is built with."""
        return hpa.HpaSettings(
            metrics=self.metrics,
            max_replicas=bounds.most,
            min_replicas=bounds.least,
            interval_ns=self.interval,
            tolerance=self.both,
            behavior=self.behavior,
            down_window_ns=self.down_window,
            readiness=hpa_replicas.Readiness(self.cpu_initialization, self.initial_delay),
        )


class Trigger(Spec):
    """One of KEDA's metrics."""

    metric: Metric = Field("waiting", description="summed over all replicas")
    target: Positive = Field(description="per replica")
    activation: float = Field(0.0, ge=0, description="above this it is active")


class Keda(HpaScaling):
    """KEDA's ScaledObject."""

    kind: Literal["keda"]
    triggers: list[Trigger] = Field(min_length=1)
    idle_replicas: Literal[0] | None = Field(None, description="replicas while nothing is active; none: the minimum")
    polling: PositiveDurationNs = Field(30 * SECOND_NS, validate_default=False)
    cooldown: DurationNs = Field(300 * SECOND_NS, ge=0, validate_default=False)
    initial_cooldown: DurationNs = Field(0, ge=0, validate_default=False)

    def settings(self, bounds: Bounds) -> keda.KedaSettings:
        """What the policy is built with."""
        return keda.KedaSettings(
            triggers=tuple(keda.KedaTrigger(_milli(t.target), _milli(t.activation)) for t in self.triggers),
            max_replicas=bounds.most,
            min_replicas=bounds.least,
            idle_replicas=self.idle_replicas,
            polling_interval_ns=self.polling,
            cooldown_ns=self.cooldown,
            initial_cooldown_ns=self.initial_cooldown,
            hpa_interval_ns=self.interval,
            tolerance=self.both,
            behavior=self.behavior,
            down_window_ns=self.down_window,
        )


class Kpa(Spec):
    """Knative's pod autoscaler."""

    kind: Literal["kpa"]
    metric: Literal["concurrency", "rps"] = "concurrency"
    target: Positive | None = Field(None, description="of a replica; none: 100 in flight, or 200/s")
    concurrency: int = Field(
        0, ge=0, description="requests that a replica takes at once (containerConcurrency); 0: any"
    )
    utilization: Share = Field(0.7, gt=0, description="share of the target that is aimed at", validate_default=False)
    scrape: PositiveDurationNs = Field(SECOND_NS, description="between two readings", validate_default=False)
    tick: PositiveDurationNs = Field(2 * SECOND_NS, validate_default=False)
    stable_window: PositiveDurationNs = Field(60 * SECOND_NS, validate_default=False)
    panic_window: Share = Field(0.1, gt=0, description="share of the stable window", validate_default=False)
    panic_threshold: Share = Field(2.0, gt=1, description="of what is ready", validate_default=False)
    burst_capacity: float = Field(211.0, ge=-1, description="-1: the buffer is always in the path; 0: only at zero")
    initial_replicas: int = Field(1, ge=0)
    activation_replicas: int = Field(1, ge=1)
    max_scale_up_rate: float = Field(1000.0, gt=1)
    max_scale_down_rate: float = Field(2.0, gt=1)
    scale_down_delay: DurationNs = Field(0, ge=0, validate_default=False)
    scale_to_zero_grace: DurationNs = Field(30 * SECOND_NS, ge=0, validate_default=False)
    pod_retention: DurationNs = Field(0, ge=0, validate_default=False)
    activation_timeout: DurationNs = Field(
        630 * SECOND_NS, ge=0, description="for the first to be ready, else to zero", validate_default=False
    )

    def settings(self, bounds: Bounds) -> kpa.KpaSettings:
        """What the policy is built with."""
        target, capacity = kpa.metric_target(self.metric == "rps", self.concurrency, self.target, self.utilization)
        return kpa.KpaSettings(
            target=target,
            capacity=capacity,
            target_burst_capacity=self.burst_capacity,
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            initial_replicas=self.initial_replicas,
            activation_replicas=self.activation_replicas,
            max_scale_up_rate=self.max_scale_up_rate,
            max_scale_down_rate=self.max_scale_down_rate,
            panic_threshold=self.panic_threshold,
            tick_ns=self.tick,
            stable_window_ns=self.stable_window,
            panic_window_ns=round(self.stable_window * self.panic_window),
            scale_down_delay_ns=self.scale_down_delay,
            scale_to_zero=bounds.least == 0,
            scale_to_zero_grace_ns=self.scale_to_zero_grace,
            pod_retention_ns=self.pod_retention,
            activation_timeout_ns=self.activation_timeout,
        )


class RayServe(Spec):
    """Ray Serve's autoscaling_config."""

    kind: Literal["ray_serve"]
    target_ongoing_requests: Positive = 2.0
    upscaling_factor: Positive | None = None
    downscaling_factor: Positive | None = None
    upscale_delay: DurationNs = Field(30 * SECOND_NS, ge=0, validate_default=False)
    downscale_delay: DurationNs = Field(600 * SECOND_NS, ge=0, validate_default=False)
    downscale_to_zero_delay: DurationNs | None = None
    look_back: PositiveDurationNs = Field(30 * SECOND_NS, description="of the mean", validate_default=False)
    push: PositiveDurationNs = Field(10 * SECOND_NS, description="metrics_interval_s", validate_default=False)
    loop: PositiveDurationNs = Field(SECOND_NS // 10, description="between two decisions", validate_default=False)

    def settings(self, bounds: Bounds) -> ray_serve.RayServeSettings:
        """What the policy is built with."""
        return ray_serve.RayServeSettings(
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            target_ongoing_requests=self.target_ongoing_requests,
            upscaling_factor=self.upscaling_factor,
            downscaling_factor=self.downscaling_factor,
            upscale_delay_ns=self.upscale_delay,
            downscale_delay_ns=self.downscale_delay,
            downscale_to_zero_delay_ns=self.downscale_to_zero_delay,
            loop_ns=self.loop,
        )


class SkyServe(Spec):
    """SkyServe's replica_policy."""

    kind: Literal["skyserve"]
    target: RateRps | None = Field(None, gt=0, description="requests per second and replica; none: no autoscaling")
    overprovision: int = Field(0, ge=0)
    base_ondemand_fallback_replicas: int = Field(0, ge=0)
    dynamic_ondemand_fallback: bool = False
    upscale_delay: DurationNs = Field(300 * SECOND_NS, ge=0, validate_default=False)
    downscale_delay: DurationNs = Field(1200 * SECOND_NS, ge=0, validate_default=False)
    interval: PositiveDurationNs = Field(20 * SECOND_NS, validate_default=False)
    no_replica_interval: PositiveDurationNs = Field(5 * SECOND_NS, validate_default=False)
    window: PositiveDurationNs = Field(60 * SECOND_NS, description="arrivals are counted over", validate_default=False)
    report: PositiveDurationNs = Field(
        20 * SECOND_NS, description="how often the balancer tells what has arrived", validate_default=False
    )

    @property
    def falls_back(self) -> bool:
        """Whether it says how many replicas are spot, and how many on demand."""
        return self.base_ondemand_fallback_replicas > 0 or self.dynamic_ondemand_fallback

    def settings(self, bounds: Bounds) -> skyserve.SkyServeSettings:
        """What the policy is built with."""
        return skyserve.SkyServeSettings(
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            target_qps=self.target,
            overprovision=self.overprovision,
            base_ondemand_fallback_replicas=self.base_ondemand_fallback_replicas,
            dynamic_ondemand_fallback=self.dynamic_ondemand_fallback,
            upscale_delay_ns=self.upscale_delay,
            downscale_delay_ns=self.downscale_delay,
            interval_ns=self.interval,
            no_replica_interval_ns=self.no_replica_interval,
            qps_window_ns=self.window,
        )


class TargetTracking(Spec):
    """Target tracking as AWS documents it."""

    kind: Literal["target_tracking"]
    metric: Literal["cpu", "ongoing"] = Field("cpu", description="busy per cent, or requests in flight, of a replica")
    target: Positive = 50.0
    scale_in: bool = True
    scale_out_cooldown: DurationNs = Field(300 * SECOND_NS, ge=0, validate_default=False)
    scale_in_cooldown: DurationNs = Field(300 * SECOND_NS, ge=0, validate_default=False)
    period: PositiveDurationNs = Field(60 * SECOND_NS, description="of a datapoint", validate_default=False)

    def settings(self, bounds: Bounds) -> TargetTrackingSettings:
        """What the policy is built with."""
        return TargetTrackingSettings(
            target=self.target,
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            scale_in=self.scale_in,
            scale_out_cooldown_ns=self.scale_out_cooldown,
            scale_in_cooldown_ns=self.scale_in_cooldown,
            period_ns=self.period,
        )


TimeOfWeek = Annotated[str, Field(pattern=r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Scheduled(Spec):
    """So many replicas from so many times of the week on."""

    kind: Literal["scheduled"]
    entries: dict[TimeOfWeek, Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="replicas by time of the week, as in {Mon 08:00: 6, Mon 20:00: 2}"
    )
    utc_offset: Annotated[float, Field(ge=-12, le=14)] = Field(0.0, description="local time less UTC, in hours")
    interval: PositiveDurationNs = Field(15 * SECOND_NS, validate_default=False)

    def settings(self, bounds: Bounds, starts_ns: int = 0) -> scheduled.ScheduledSettings:
        """What the policy is built with; `starts_ns` is Unix time at the run's start."""
        found = [
            scheduled.fixed(_time_of_week_ns(at), min(max(count, bounds.least), bounds.most))
            for at, count in self.entries.items()
        ]
        offset_ns = round(self.utc_offset * 60) * MINUTE_NS
        return scheduled.ScheduledSettings(tuple(sorted(found)), offset_ns, starts_ns)


class Predictive(Spec):
    """Ours: by the profile's capacity and a forecast over the time that a new replica needs (rule 20)."""

    kind: Literal["predictive"]
    capacity: dict[Annotated[int, Field(ge=1)], RateRps] | None = Field(
        None, description="rate that so many replicas carry within the SLO, from 1 on; plan and simulate write it"
    )
    profile_sha256: str | None = Field(None, description="hash of the profile that the capacity was computed from")
    horizon: PositiveDurationNs = Field(MINUTE_NS, description="from wanting to ready, p95", validate_default=False)
    lookback: PositiveDurationNs = Field(10 * MINUTE_NS, validate_default=False)
    season: DurationNs = Field(0, ge=0, description="such as 1d; 0s: none", validate_default=False)
    margin: Share = Field(0.1, ge=0, description="of capacity over the forecast", validate_default=False)
    hold: DurationNs = Field(5 * MINUTE_NS, ge=0, description="before fewer are wanted", validate_default=False)
    interval: PositiveDurationNs = Field(10 * SECOND_NS, validate_default=False)

    @model_validator(mode="after")
    def _table(self) -> Predictive:
        if self.capacity is None:
            return self
        counts, rates = list(self.capacity), list(self.capacity.values())
        if counts != list(range(1, len(counts) + 1)) or rates != sorted(rates) or rates[0] <= 0:
            raise ValueError("capacity must have rates for 1, 2, 3, ... replicas that do not fall")
        return self

    @model_validator(mode="after")
    def _bound(self) -> Predictive:
        if self.profile_sha256 is not None and self.capacity is None:
            raise ValueError("profile_sha256 is the hash of the profile that capacity was computed from; give both")
        return self

    def settings(self, bounds: Bounds) -> predictive.PredictiveSettings:
        """What the policy is built with; its capacity must be known."""
        assert self.capacity is not None, "whoever simulates or plans fills it in"
        return predictive.PredictiveSettings(
            capacity_milli_rps=tuple(_milli(rate) for rate in self.capacity.values()),
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            horizon_ns=self.horizon,
            lookback_ns=self.lookback,
            season_ns=self.season,
            margin_percent=round(self.margin * 100),
            hold_ns=self.hold,
            interval_ns=self.interval,
        )


class Idle(Spec):
    """One replica that goes when the last request has left, and comes with the next (rule 16)."""

    kind: Literal["idle"]
    after: DurationNs = Field(
        0, ge=0, description="how long nothing may be present before it goes", validate_default=False
    )

    def settings(self, bounds: Bounds) -> idle.IdleSettings:
        """What the policy is built with."""
        return idle.IdleSettings(self.after)


class Manifest(Spec):
    """Another project's own file, read as it is: HPA, KEDA, Knative or Ray Serve (`serve.manifests`)."""

    kind: Literal["manifest"] = "manifest"
    from_: str = Field(alias="from", min_length=1, description="that file, relative to this one")
    name: str | None = Field(None, description="of the object in it, or of Ray's deployment, where it holds several")


Autoscaler = Annotated[
    Manifest | Hpa | Keda | Kpa | RayServe | SkyServe | TargetTracking | Scheduled | Predictive | Idle,
    Field(discriminator="kind"),
]


def _milli(value: float) -> int:
    return round(value * 1000)


def _time_of_week_ns(text: str) -> int:
    """`Mon 08:00` since Monday, 00:00."""
    day, clock = text.split(" ")
    hours, minutes = clock.split(":")
    return scheduled.DAYS.index(day) * scheduled.DAY_NS + (int(hours) * 60 + int(minutes)) * MINUTE_NS
