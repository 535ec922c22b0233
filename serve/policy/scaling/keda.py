"""KEDA: the operator scales 0 <-> 1 at its polls, an HPA that it owns scales 1 <-> N at its own ticks.

Source: kedacore/keda, pkg/scaling/executor/scale_scaledobjects.go (RequestScale), pkg/scaling/scale_handler.go
(startScaleLoop) and apis/keda/v1alpha1/scaledobject_types.go, main of 2026, after issue #7579 (RequestScale returns a
ScaleResult).

Not restated: fallback replicas, pausing, forced activation, scaling modifiers, push scalers, targets of type Value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.hpa import AVERAGE_VALUE, Hpa, HpaSample, HpaSettings, MetricTarget, Reading
from serve.policy.scaling.hpa_rates import Behavior
from serve.policy.scaling.hpa_replicas import DEFAULT_TOLERANCE, Tolerance
from serve.policy.scaling.nanoseconds import SECOND_NS


class KedaTrigger(NamedTuple):
    """One metric: its value per replica for the HPA, and the value above which it is active; in thousandths."""

    target_milli: int
    activation_milli: int = 0


@dataclass(frozen=True, slots=True)
class KedaSettings:
    """A ScaledObject; the defaults are upstream's.

    Parameters
    ----------
    triggers : at least one; any of them makes it active.
    max_replicas, min_replicas : bounds of the HPA, whose minimum is at least 1; 0 lets the operator go to zero.
    idle_replicas : replicas while nothing is active; None to stay at the minimum. Upstream allows 0 only: the HPA
        would bring any other count below `min_replicas` back to it.
    polling_interval_ns : between looks at the triggers.
    cooldown_ns : from the last poll that found one active until the step to zero (or idle).
    initial_cooldown_ns, created_ns : the same from its creation, while none has ever been active.
    hpa_interval_ns, tolerance, behavior, down_window_ns : the HPA's, see `HpaSettings`.

    Source: as of this module.
    """

    triggers: tuple[KedaTrigger, ...]
    max_replicas: int = 100
    min_replicas: int = 0
    idle_replicas: int | None = None
    polling_interval_ns: int = 30 * SECOND_NS
    cooldown_ns: int = 300 * SECOND_NS
    initial_cooldown_ns: int = 0
    created_ns: int = 0
    hpa_interval_ns: int = 15 * SECOND_NS
    tolerance: Tolerance = DEFAULT_TOLERANCE
    behavior: Behavior | None = None
    down_window_ns: int = 300 * SECOND_NS

    @property
    def interval_ns(self) -> int:
        """How often to call `decide`, so that neither a poll nor a tick of the HPA comes late."""
        return math.gcd(self.polling_interval_ns, self.hpa_interval_ns)


class KedaSample(NamedTuple):
    """What KEDA may know at an instant.

    Parameters
    ----------
    now_ns : the instant.
    spec_replicas : asked for at present.
    status_replicas : that exist, ready or not.
    values_milli : one per trigger, in their order; None for one that could not be read.
    """

    now_ns: int
    spec_replicas: int
    status_replicas: int
    values_milli: tuple[int | None, ...]


class Request(NamedTuple):
    """What the operator asks for at a poll, and when a trigger was last active (None: never)."""

    wanted: int
    last_active_ns: int | None
    reason: str


def request_scale(
    settings: KedaSettings, current: int, is_active: bool, has_error: bool, last_active_ns: int | None, now_ns: int
) -> Request:
    """The operator's decision at a poll.

    Parameters
    ----------
    current : replicas asked for at present.
    is_active, has_error : whether any trigger is active, and whether any could not be read.
    last_active_ns : the last poll that found one active.
    """
    minimum, idle = settings.min_replicas, settings.idle_replicas
    if is_active:
        if current == 0 or (idle is not None and current < minimum):
            return Request(max(minimum, 1), now_ns, "a trigger became active")
        if has_error:
            # Neither scaled nor counted as activity: the cooldown goes on from before the error.
            return Request(current, last_active_ns, "active, though a trigger cannot be read")
        return Request(current, now_ns, "a trigger is active")
    if has_error:
        return Request(current, last_active_ns, "kept: none is active, but a trigger cannot be read")
    if (idle is not None and current > idle) or (current > 0 and minimum == 0):
        if _has_cooled_down(settings, last_active_ns, now_ns):
            return Request(minimum if idle is None else idle, last_active_ns, "inactive for its whole cooldown")
        cooldown_ns = settings.initial_cooldown_ns if last_active_ns is None else settings.cooldown_ns
        return Request(current, last_active_ns, f"cooling down for {cooldown_ns / SECOND_NS:g} s")
    if idle is None and current < minimum:
        return Request(minimum, last_active_ns, f"below its minimum of {minimum}")
    return Request(current, last_active_ns, "no trigger is active")


def _has_cooled_down(settings: KedaSettings, last_active_ns: int | None, now_ns: int) -> bool:
    """Strictly later, as upstream: a poll at the very end of the cooldown leaves it to the next one."""
    if last_active_ns is None:
        return settings.created_ns + settings.initial_cooldown_ns < now_ns
    return last_active_ns + settings.cooldown_ns < now_ns


class Keda:
    """Operator and HPA of one target; both are due at the first call.

    If a poll changes the replicas, the HPA's tick of that instant waits for the next call, since its sample is from
    before the change.
    """

    def __init__(self, settings: KedaSettings) -> None:
        self._settings = settings
        self._hpa = Hpa(
            HpaSettings(
                metrics=tuple(MetricTarget(AVERAGE_VALUE, trigger.target_milli) for trigger in settings.triggers),
                max_replicas=settings.max_replicas,
                min_replicas=max(settings.min_replicas, 1),
                interval_ns=settings.hpa_interval_ns,
                tolerance=settings.tolerance,
                behavior=settings.behavior,
                down_window_ns=settings.down_window_ns,
            )
        )
        self._poll_due_ns: int | None = None
        self._tick_due_ns: int | None = None
        self._last_active_ns: int | None = None
        self._reason = ""

    def decide(self, sample: KedaSample) -> Decision:
        """What is due at this instant: a poll, a tick of the HPA, both or neither."""
        now_ns, current = sample.now_ns, sample.spec_replicas
        if self._poll_due_ns is None or now_ns >= self._poll_due_ns:
            self._poll_due_ns = now_ns + self._settings.polling_interval_ns
            wanted = self._poll(sample)
            if wanted != current:
                return Decision(wanted, self._reason)
        if self._tick_due_ns is None or now_ns >= self._tick_due_ns:
            self._tick_due_ns = now_ns + self._settings.hpa_interval_ns
            readings = tuple(Reading(total_milli=value) for value in sample.values_milli)
            decision = self._hpa.decide(HpaSample(now_ns, current, sample.status_replicas, readings))
            if current > 0:
                return decision
        return Decision(current, self._reason)

    def _poll(self, sample: KedaSample) -> int:
        triggers = zip(self._settings.triggers, sample.values_milli, strict=True)
        is_active = any(value is not None and value > trigger.activation_milli for trigger, value in triggers)
        wanted, self._last_active_ns, self._reason = request_scale(
            self._settings,
            sample.spec_replicas,
            is_active,
            None in sample.values_milli,
            self._last_active_ns,
            sample.now_ns,
        )
        return wanted
