"""KPA's bounds and scale to zero against knative/serving pkg/reconciler/autoscaling/kpa/scaler_test.go.

Ids are upstream's names. `proxied_s` None stands for an activator that the probe does not find.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.kpa import (
    UNKNOWN,
    Activity,
    KpaSettings,
    Status,
    next_activity,
    reconcile,
    to_zero,
)
from serve.policy.scaling.nanoseconds import SECOND_NS

GRACE_S, STABLE_S, OWN_STABLE_S, ACTIVATION_S = 60, 300, 45, 121 + 30
ACTIVATING, ACTIVE, INACTIVE = Activity.ACTIVATING, Activity.ACTIVE, Activity.INACTIVE


def _settings(**seconds_or_counts: int) -> KpaSettings:
    """Upstream's configuration of these tests; keys in seconds end in `_s`."""
    given = {"stable_window_s": STABLE_S, "scale_to_zero_grace_s": GRACE_S, "activation_timeout_s": ACTIVATION_S}
    changes: dict[str, Any] = {}
    for key, value in (given | seconds_or_counts).items():
        if key.endswith("_s"):
            changes[key.removesuffix("_s") + "_ns"] = value * SECOND_NS
        else:
            changes[key] = value
    return replace(KpaSettings(), **changes)


def _status(
    activity: Activity,
    seconds: float = 0,
    proxied_s: float | None = 0,
    initialized: bool = True,
    reachable: bool = True,
) -> Status:
    proxied_ns = None if proxied_s is None else int(proxied_s * SECOND_NS)
    return Status(activity, int(seconds * SECOND_NS), proxied_ns, initialized, reachable)


@pytest.mark.parametrize(
    ("start", "scale_to", "settings", "status", "wanted", "scaling"),
    [
        pytest.param(
            1, 0, {}, _status(ACTIVE, STABLE_S - 1), 1, False, id="waits to scale to zero (just before idle period)"
        ),
        pytest.param(
            1, 0, {"stable_window_s": OWN_STABLE_S}, _status(ACTIVE, OWN_STABLE_S - 1), 1, False,
            id="waits to scale to zero (just before idle period), custom PA window",
        ),
        pytest.param(
            1, 0, {"stable_window_s": OWN_STABLE_S}, _status(ACTIVE, STABLE_S), 0, False,
            id="custom PA window, check for standard window, no probe",
        ),
        pytest.param(10, 0, {}, _status(ACTIVE, STABLE_S - 1), 1, True, id="scale to 1 waiting for idle expires"),
        pytest.param(1, 0, {}, _status(ACTIVE, STABLE_S), 0, False, id="waits to scale to zero after idle period"),
        pytest.param(
            1, 0, {}, _status(ACTIVE, STABLE_S, proxied_s=STABLE_S), 0, False,
            id="waits to scale to zero after idle period; sks in proxy mode",
        ),
        pytest.param(
            1, 0, {"stable_window_s": OWN_STABLE_S}, _status(ACTIVE, OWN_STABLE_S), 0, False,
            id="waits to scale to zero after idle period (custom PA window)",
        ),
        pytest.param(
            1, 0, {"pod_retention_s": 0}, _status(INACTIVE, GRACE_S), 0, True,
            id="can scale to zero after grace period, but 0 PA retention",
        ),
        pytest.param(
            1, 0, {"pod_retention_s": 2 * GRACE_S}, _status(INACTIVE, GRACE_S), 0, False,
            id="can't scale to zero after grace period, but before last pod retention",
        ),
        pytest.param(
            1, 0, {"pod_retention_s": GRACE_S}, _status(INACTIVE, GRACE_S), 0, True,
            id="scale to zero after grace period, and after last pod retention",
        ),
        pytest.param(1, 0, {}, _status(INACTIVE, GRACE_S), 0, True, id="scale to zero after grace period"),
        pytest.param(
            1, 0, {}, _status(INACTIVE, GRACE_S - 1), 0, False, id="waits to scale to zero (just before grace period)"
        ),
        pytest.param(
            1, 0, {}, _status(INACTIVE, GRACE_S - 1, proxied_s=GRACE_S - 1), 0, False,
            id="waits to scale to zero (just before grace period, sks short)",
        ),
        pytest.param(
            1, 0, {"pod_retention_s": 42}, _status(INACTIVE, GRACE_S - 1, proxied_s=GRACE_S), 0, True,
            id="waits to scale to zero (just before grace period, sks in proxy long) and last pod timeout positive",
        ),
        pytest.param(
            1, 0, {}, _status(INACTIVE, GRACE_S - 1, proxied_s=GRACE_S), 0, True,
            id="waits to scale to zero (just before grace period, sks in proxy long)",
        ),
        pytest.param(
            1, 0, {}, _status(INACTIVE, GRACE_S, proxied_s=None), 0, False,
            id="scale to zero after grace period, but fail prober",
        ),
        pytest.param(
            1, 0, {}, _status(ACTIVATING, ACTIVATION_S / 2), UNKNOWN, False,
            id="waits to scale to zero while activating until after deadline exceeded",
        ),
        pytest.param(
            1, 0, {}, _status(ACTIVATING, ACTIVATION_S + 1), 0, True,
            id="scale to zero while activating after deadline exceeded",
        ),
        pytest.param(
            1, 0, {}, _status(ACTIVATING, ACTIVATION_S), UNKNOWN, False, id="ours: exactly at the deadline"
        ),
        pytest.param(
            1, 0, {}, _status(ACTIVATING, initialized=False), UNKNOWN, False,
            id="ours: an initial scale of 1 is no lower bound",
        ),
        pytest.param(
            1, 0, {"activation_timeout_s": 5 + 30}, _status(ACTIVATING, 5 + 30 + 1), 0, True,
            id="scale to zero while activating after revision deadline exceeded",
        ),
        pytest.param(
            10, 0, {"min_replicas": 2}, _status(INACTIVE, GRACE_S - 1), 2, True,
            id="scale down to minScale before grace period",
        ),
        pytest.param(
            10, 0, {"min_replicas": 2}, _status(INACTIVE, GRACE_S), 2, True,
            id="scale down to minScale after grace period",
        ),
        pytest.param(
            10, 0, {"min_replicas": 2}, _status(INACTIVE, GRACE_S, reachable=False), 0, True,
            id="ignore minScale if unreachable",
        ),
        pytest.param(
            1, 0, {"pod_retention_s": 2 * GRACE_S}, _status(INACTIVE, GRACE_S, reachable=False), 0, True,
            id="ours: no last pod retention if unreachable (#15161)",
        ),
        pytest.param(
            2, 0, {"initial_replicas": 2}, _status(INACTIVE, GRACE_S, initialized=False, reachable=False), 0, True,
            id="ours: no initial scale if unreachable (#16327)",
        ),
        pytest.param(
            10, 0, {"min_replicas": 2}, _status(INACTIVE, GRACE_S), 2, True,
            id="observe minScale if reachability unknown",
        ),
        pytest.param(1, 10, {}, _status(ACTIVATING), 10, True, id="scales up"),
        pytest.param(1, 10, {"max_replicas": 8}, _status(ACTIVATING), 8, True, id="scales up to maxScale"),
        pytest.param(1, 10, {}, _status(INACTIVE, GRACE_S / 2), 10, True, id="scale up inactive revision"),
        pytest.param(
            0, UNKNOWN, {}, _status(INACTIVE), UNKNOWN, False, id="does not scale up from zero with no metrics"
        ),
        pytest.param(0, 1, {}, _status(ACTIVATING), 1, True, id="scales up from zero to desired one"),
        pytest.param(0, 10, {}, _status(ACTIVATING), 10, True, id="scales up from zero to desired high scale"),
        pytest.param(12, UNKNOWN, {}, _status(ACTIVE), UNKNOWN, False, id="negative scale does not scale"),
        pytest.param(
            2, 0, {"initial_replicas": 2}, _status(ACTIVE, 120), 1, True,
            id="initial scale attained, but now time to scale down",
        ),
        pytest.param(
            0, 1, {"initial_replicas": 2}, _status(ACTIVATING, initialized=False), 2, True,
            id="haven't scaled to initial scale, override desired scale with initial scale",
        ),
        pytest.param(
            5, 1, {"initial_replicas": 5}, _status(ACTIVATING, initialized=False), 5, False,
            id="initial scale reached for the first time",
        ),
        pytest.param(
            0, 0, {"initial_replicas": 0}, _status(INACTIVE), 0, False, id="reaching initial scale zero"
        ),
        pytest.param(
            10, 0, {"scale_to_zero": False}, _status(ACTIVE), 1, True,
            id="EnableScaleToZero == false and minScale == 0",
        ),
        pytest.param(
            10, 0, {"scale_to_zero": False, "min_replicas": 2}, _status(ACTIVE), 2, True,
            id="EnableScaleToZero == false and minScale == 2",
        ),
        pytest.param(
            10, UNKNOWN, {"scale_to_zero": False}, _status(ACTIVE), UNKNOWN, False,
            id="EnableScaleToZero == false and desire pod is -1(initial value)",
        ),
    ],
)  # fmt: skip
def test_scaler(
    start: int, scale_to: int, settings: dict[str, int], status: Status, wanted: int, scaling: bool
) -> None:
    """TestScaler and TestDisableScaleToZero; `scaling`: the count set changes from `start`."""
    step = reconcile(_settings(**settings), status, Decision(scale_to, "recommended"))
    assert step.wanted == wanted
    assert (step.applied and step.wanted != start) == scaling
    assert step.reason


@pytest.mark.parametrize(
    ("scale_to", "reason"),
    [(1, "at its minimum of 2"), (2, "recommended"), (8, "recommended"), (9, "at its maximum of 8")],
)
def test_a_bound_is_the_reason_only_where_it_changes_the_count(scale_to: int, reason: str) -> None:
    settings = _settings(min_replicas=2, max_replicas=8)
    assert reconcile(settings, _status(ACTIVE), Decision(scale_to, "recommended")).reason == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (_status(ACTIVATING, 1), "still activating: held"),
        (_status(ACTIVATING, ACTIVATION_S + 1), "not active in time: to zero"),
        (_status(ACTIVE, 1), "no traffic, active for less than 300 s: one kept"),
        (_status(ACTIVE, STABLE_S), "no traffic: now inactive, the buffer takes over"),
        (_status(INACTIVE, 1, proxied_s=None), "no traffic: the buffer is not in the path yet"),
        (_status(INACTIVE, 1), "no traffic: last one kept for 42 s"),
        (_status(INACTIVE, 42), "no traffic: the buffer in the path for 60 s first"),
        (_status(INACTIVE, GRACE_S), "no traffic: to zero"),
    ],
)
def test_reasons_on_the_way_to_zero(status: Status, reason: str) -> None:
    assert to_zero(_settings(pod_retention_s=42), status).reason == reason


@pytest.mark.parametrize(
    ("activity", "wanted", "ready", "min_ready", "after"),
    [
        (ACTIVE, 0, 1, 1, INACTIVE),
        (ACTIVATING, 0, 0, 1, INACTIVE),
        (ACTIVATING, UNKNOWN, 0, 0, INACTIVE),
        (INACTIVE, 1, 0, 1, ACTIVATING),
        (INACTIVE, UNKNOWN, 0, 1, INACTIVE),
        (INACTIVE, UNKNOWN, 1, 1, INACTIVE),
        (ACTIVATING, UNKNOWN, 1, 1, ACTIVE),
        (ACTIVE, UNKNOWN, 1, 1, ACTIVE),
        (ACTIVE, 3, 1, 2, ACTIVATING),
        (INACTIVE, 2, 2, 2, ACTIVE),
    ],
)
def test_what_makes_it_active(activity: Activity, wanted: int, ready: int, min_ready: int, after: Activity) -> None:
    """The cases of computeActiveCondition in pkg/reconciler/autoscaling/kpa/kpa.go."""
    assert next_activity(activity, wanted, ready, min_ready) is after
