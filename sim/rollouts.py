"""From a scenario's rollouts to what control does (rule 18)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve.deployment import Deployment, Model
from serve.errors import Fault, SpecError
from serve.policy.scaling.rollout import RollingSettings
from sim.rollout import RolloutPlan, Stage
from sim.world import Event, RolloutEvent


def rollout_plan(at_ns: int, event: RolloutEvent, versions: Mapping[str, int], classes: Sequence[int]) -> RolloutPlan:
    """What an event asks for.

    Parameters
    ----------
    versions : their numbers among those of the model that are simulated.
    classes : of the plane's requests, those that the new version serves.
    """
    rolling = RollingSettings(event.surge, event.unavailable) if event.kind == "rolling" else None
    stages = [Stage(step.traffic, step.hold) for step in event.steps]
    return RolloutPlan(
        at_ns=at_ns,
        to=versions[event.to],
        rolling=rolling,
        stages=(*stages, Stage(1.0, event.keep)),
        classes=tuple(classes),
        min_ready_ns=event.min_ready,
        progress_ns=event.progress,
        abort_share=event.abort,
        check_ns=event.check,
    )


def extra_replicas(model: Model, name: str, events: Sequence[Event]) -> int:
    """Replicas of a version that can be there beside those wanted: what rolling updates have too many of, or one where
    parts of them are rounded up."""
    asked = [event.rollout for event in events if event.rollout is not None and event.rollout.model == name]
    wanted = model.replicas.max or model.replicas.count
    surges = [RollingSettings(each.surge, each.unavailable).bounds(wanted)[0] for each in asked]
    return max(surges, default=int(len(model.all_versions) > 1))


def check_rollouts(events: Sequence[Event], deployment: Deployment, names: Sequence[str]) -> None:
    """SpecError for models and versions that there are not, and rollouts without a router."""
    faults = []
    for i, event in enumerate(events):
        rollout, where = event.rollout, f"events.{i}.rollout"
        if rollout is None:
            continue
        if deployment.router is None:
            faults.append((where, "needs a router, such as {policy: p2c}: it divides the traffic"))
        if rollout.model not in names:
            faults.append((f"{where}.model", f"must be one of {', '.join(names)}, got {rollout.model!r}"))
            continue
        known = deployment.models[rollout.model].all_versions
        if rollout.to not in known:
            faults.append((f"{where}.to", f"must be one of {', '.join(known)}, got {rollout.to!r}"))
        elif len(known) == 1:
            faults.append((f"{where}.to", f"is the only version of {rollout.model}: models.{rollout.model}.versions"))
    if faults:
        raise SpecError([Fault("scenario", field, what) for field, what in faults])
