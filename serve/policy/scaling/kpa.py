"""Knative's pod autoscaler (KPA): two averages of what is in flight, panic, and scale to zero.

Source: knative/serving with #15161, #15831, #16327 (January 2026): pkg/autoscaler/{scaling,aggregation/max}, pkg/
reconciler/autoscaling/{kpa,resources}, config/core/configmaps/autoscaler.yaml. A tick is upstream's autoscaler (`Kpa.
recommend`), then its reconciler (`reconcile`), for which the buffer (activator) is in the path from the next tick on.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS

UNKNOWN = -1  # What is recommended before any data: nothing.
TARGET_MIN = 0.01


@dataclass(frozen=True, slots=True)
class KpaSettings:
    """Upstream's DeciderSpec and config-autoscaler, with ratios for its per cents.

    `target` (aimed at) and `capacity` (at most) are per replica, see `metric_target`; `panic_window_ns` is for whoever
    takes the averages; `max_replicas` 0: no bound; `target_burst_capacity` 0: the buffer only at zero, -1: always.
    """

    target: float = 70.0
    capacity: float = 100.0
    target_burst_capacity: float = 211.0
    min_replicas: int = 0
    max_replicas: int = 0
    initial_replicas: int = 1
    activation_replicas: int = 1
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    panic_threshold: float = 2.0
    tick_ns: int = 2 * SECOND_NS
    stable_window_ns: int = 60 * SECOND_NS
    panic_window_ns: int = 6 * SECOND_NS
    scale_down_delay_ns: int = 0
    scale_to_zero: bool = True
    scale_to_zero_grace_ns: int = 30 * SECOND_NS
    pod_retention_ns: int = 0
    activation_timeout_ns: int = 630 * SECOND_NS


class KpaSample(NamedTuple):
    """What KPA knows at one tick. The first sample also creates it: in panic, if more than one replica is ready.

    `stable`, `panic`: requests in flight (or per second) in the whole deployment, averaged over either window, 0.0
    without data; `replicas`: the count set now, of which `ready` serve; `reachable`: has a route.
    """

    now_ns: int
    ready: int
    replicas: int
    stable: float
    panic: float
    has_data: bool = True
    reachable: bool = True


class Activity(Enum):
    """Condition `Active` of upstream's PodAutoscaler: unknown, true, false."""

    ACTIVATING = "activating"
    ACTIVE = "active"
    INACTIVE = "inactive"


class Status(NamedTuple):
    """What the reconciler goes by. `proxied_ns`: how long the buffer has been in the path; None: it is not."""

    activity: Activity
    activity_ns: int
    proxied_ns: int | None
    initialized: bool = True
    reachable: bool = True


class Step(NamedTuple):
    """The reconciler's answer: replicas (or UNKNOWN), whether they are set now, and why."""

    wanted: int
    applied: bool
    reason: str


def metric_target(rps: bool, concurrency: int, target: float | None, utilization: float = 0.7) -> tuple[float, float]:
    """(target, capacity) of a replica for at most `concurrency` at once (0: any) and the user's own `target`."""
    default = 200.0 if rps else float(concurrency or 100)
    capacity = default if target is None else target
    if concurrency and not rps:
        capacity = min(capacity, default)
    return max(TARGET_MIN, capacity * utilization), capacity


def desired_replicas(settings: KpaSettings, value: float, ready: int, reachable: bool) -> int:
    """Replicas for one window's average, within what one tick may change; `ready` is at least 1."""
    most = math.ceil(settings.max_scale_up_rate * ready)
    least = math.floor(ready / settings.max_scale_down_rate) if reachable else 0
    raw = math.ceil(value / settings.target)
    desired = min(max(raw, least), most)
    return max(desired, settings.activation_replicas) if raw > 0 else desired


def excess_burst_capacity(settings: KpaSettings, sample: KpaSample) -> int:
    """Requests that the ready replicas could take beyond the burst to be prepared for; below 0 the buffer helps."""
    burst = settings.target_burst_capacity
    return math.floor(sample.ready * settings.capacity - burst - sample.panic) if burst > 0 else int(burst)


def buffer_in_path(excess: int, ready: int, wanted: int) -> bool:
    """Whether requests pass the buffer: at zero replicas, before one is ready, or without excess burst capacity."""
    return wanted == 0 or ready == 0 or excess < 0


def next_activity(activity: Activity, wanted: int, ready: int, min_ready: int) -> Activity:
    """Upstream's computeActiveCondition: `min_ready` replicas make it active."""
    if wanted == 0 or min_ready == 0 or (wanted == UNKNOWN and activity is Activity.INACTIVE):
        return Activity.INACTIVE
    return Activity.ACTIVE if ready >= min_ready else Activity.ACTIVATING


def to_zero(settings: KpaSettings, status: Status) -> Step:
    """What becomes of a recommendation of none: idle first, then the buffer in the path, then zero."""
    grace_ns, retention_ns = settings.scale_to_zero_grace_ns, settings.pod_retention_ns if status.reachable else 0
    if not settings.scale_to_zero:
        return Step(1, True, "no traffic, scale to zero is off")
    if status.activity is Activity.ACTIVATING:
        late = status.activity_ns > settings.activation_timeout_ns
        return Step(0, True, "not active in time: to zero") if late else Step(UNKNOWN, False, "still activating: held")
    if status.activity is Activity.ACTIVE:
        if status.activity_ns >= settings.stable_window_ns:
            return Step(0, False, "no traffic: now inactive, the buffer takes over")
        return Step(1, True, f"no traffic, active for less than {settings.stable_window_ns / SECOND_NS:g} s: one kept")
    if status.proxied_ns is None:
        return Step(0, False, "no traffic: the buffer is not in the path yet")
    if status.activity_ns < retention_ns:
        return Step(0, False, f"no traffic: last one kept for {retention_ns / SECOND_NS:g} s")
    if status.activity_ns >= grace_ns or status.proxied_ns >= grace_ns:
        return Step(0, True, "no traffic: to zero")
    return Step(0, False, f"no traffic: the buffer in the path for {grace_ns / SECOND_NS:g} s first")


def reconcile(settings: KpaSettings, status: Status, recommended: Decision) -> Step:
    """Bounds, then scale to zero. The first `initial_replicas` are a lower bound until they have been ready once."""
    wanted, reason = recommended.wanted, recommended.reason
    if wanted == UNKNOWN and status.activity is not Activity.ACTIVATING:
        return Step(UNKNOWN, False, reason)
    least = settings.min_replicas if status.reachable else 0
    if settings.initial_replicas > 1 and not status.initialized and status.reachable:
        least = max(least, settings.initial_replicas)
    if wanted < least:
        wanted, reason = least, f"at its minimum of {least}"
    elif 0 < settings.max_replicas < wanted:
        wanted, reason = settings.max_replicas, f"at its maximum of {settings.max_replicas}"
    return to_zero(settings, status) if wanted == 0 else Step(wanted, True, reason)


class MaxWindow:
    """The largest value of the last `size` ticks, of several at one tick the largest; of size 0 just the last value."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._falling: deque[tuple[int, int]] = deque()

    def record(self, tick: int, value: int) -> int:
        """Enter `value` at `tick` (never before an earlier one); the maximum now."""
        while self._falling and value >= self._falling[-1][1]:
            self._falling.pop()
        while self._falling and tick - self._falling[0][0] >= self.size:
            self._falling.popleft()
        if not self._falling or self._falling[-1][0] != tick:
            self._falling.append((tick, value))
        return self._falling[0][1]


class Kpa:
    """KPA with its state: panic, scale-down delay, activity, and since when the buffer has been in the path."""

    def __init__(self, settings: KpaSettings) -> None:
        self.settings = settings
        self.panic_since_ns: int | None = None
        self.panic_replicas = 0
        self._delay = MaxWindow(math.ceil(settings.scale_down_delay_ns / settings.tick_ns))
        burst = settings.target_burst_capacity
        self._excess = int(settings.initial_replicas * settings.capacity - burst) if burst > 0 else int(burst)
        self._recommended = Decision(UNKNOWN, "no data yet")
        self._activity = Activity.ACTIVATING
        self._activity_since_ns: int | None = None
        self._proxied_since_ns: int | None = None
        self._initialized = False

    def decide(self, sample: KpaSample) -> Decision:
        """Replicas to set at this tick; without data the last recommendation still stands."""
        recommended = self.recommend(sample)
        if recommended.wanted != UNKNOWN:
            self._recommended, self._excess = recommended, excess_burst_capacity(self.settings, sample)
        proxied_ns = None if self._proxied_since_ns is None else sample.now_ns - self._proxied_since_ns
        activity_ns = sample.now_ns - (self._activity_since_ns or 0)
        status = Status(self._activity, activity_ns, proxied_ns, self._initialized, sample.reachable)
        step = reconcile(self.settings, status, self._recommended)
        self._note(sample, step.wanted)
        return Decision(step.wanted if step.applied else sample.replicas, step.reason)

    def recommend(self, sample: KpaSample) -> Decision:
        """Upstream's Scale: replicas before bounds and scale to zero; UNKNOWN without data."""
        if self._activity_since_ns is None:
            self._activity_since_ns, self.panic_replicas = sample.now_ns, sample.ready
            self.panic_since_ns = sample.now_ns if sample.ready > 1 else None
        if not sample.has_data:
            return Decision(UNKNOWN, "no data")
        ready, target = max(1, sample.ready), self.settings.target
        wanted = desired_replicas(self.settings, sample.stable, ready, sample.reachable)
        reason = f"stable: {sample.stable:.1f} over a target of {target:.1f}"
        if self._panicking(sample.now_ns, math.ceil(sample.panic / target) / ready):
            panicked = desired_replicas(self.settings, sample.panic, ready, sample.reachable)
            if panicked >= wanted:
                wanted, reason = panicked, f"panic: {sample.panic:.1f} over a target of {target:.1f}"
            if wanted < self.panic_replicas:
                wanted, reason = self.panic_replicas, "panic: kept at the most it reached"
            self.panic_replicas = wanted
        if sample.reachable:
            delayed = self._delay.record(sample.now_ns // self.settings.tick_ns, wanted)
            if delayed != wanted:
                return Decision(delayed, f"held by the {self.settings.scale_down_delay_ns / SECOND_NS:g} s delay")
        return Decision(wanted, reason)

    def _panicking(self, now_ns: int, load: float) -> bool:
        """Whether this tick is in panic; `load` is the panic window's desired count over the ready replicas."""
        if load >= self.settings.panic_threshold:
            self.panic_since_ns = now_ns
        elif self.panic_since_ns is not None and self.panic_since_ns + self.settings.stable_window_ns < now_ns:
            self.panic_since_ns, self.panic_replicas = None, 0
        return self.panic_since_ns is not None

    def _note(self, sample: KpaSample, wanted: int) -> None:
        """Carry what the reconciler goes by to the next tick."""
        if not buffer_in_path(self._excess, sample.ready, wanted):
            self._proxied_since_ns = None
        elif self._proxied_since_ns is None:
            self._proxied_since_ns = sample.now_ns
        least = self.settings.min_replicas if sample.reachable else 0
        min_ready = max(least, 1 if self._initialized else self.settings.initial_replicas)
        self._initialized = self._initialized or sample.ready >= min_ready
        activity = next_activity(self._activity, wanted, sample.ready, min_ready)
        if activity is not self._activity:
            self._activity, self._activity_since_ns = activity, sample.now_ns
