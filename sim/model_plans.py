"""From a setup to what control is to do with each model: where its replicas go, who sets their number, what rolls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import numpy as np

from serve.autoscaler import Bounds
from serve.deployment import StartUp
from serve.fleet import size_of
from serve.scaler import Scaler
from sim.control import ModelPlan
from sim.fleet import FleetPlan, Timing
from sim.rng import stream
from sim.rollouts import rollout_plan
from sim.setup import Setup


def model_plans(setup: Setup, replication: int) -> list[ModelPlan]:
    """What control is to do with each model in a replication."""
    return [_model_plan(setup, name, groups, replication) for name, groups in setup.models.items()]


def _model_plan(setup: Setup, name: str, groups: range, replication: int) -> ModelPlan:
    model = setup.served[groups.start].model
    fleets = [
        FleetPlan(
            _timing(setup, group),
            setup.slots[group],
            size_of(model),
            setup.served[group].per_replica,
            group,
            start_ups_ns(
                model.replicas.start_up, stream(setup.seed, replication, setup.served[group].label, "start-up")
            ),
        )
        for group in groups
    ]
    versions = {setup.served[group].version_name: number for number, group in enumerate(groups)}
    rollouts = [
        rollout_plan(event.at, event.rollout, versions, _portions_of(setup, groups[versions[event.rollout.to]]))
        for event in setup.mishaps.events
        if event.rollout is not None and event.rollout.model == name
    ]
    shares = setup.shares[groups.start : groups.stop]
    replicas = model.replicas
    return ModelPlan(fleets, replicas.count, _scaler(setup, groups), shares, rollouts, replicas.on_demand)


def _portions_of(setup: Setup, group: int) -> list[int]:
    return [number for number, portion in enumerate(setup.portions) if portion.group == group]


def _scaler(setup: Setup, groups: range) -> Scaler | None:
    """What sets the number of a model's replicas; None: nothing does."""
    replicas = setup.served[groups.start].model.replicas
    if replicas.autoscaler is None:
        return None
    room = max(setup.served[group].most for group in groups)
    bounds = Bounds(least=replicas.min, most=min(replicas.max or room, room))
    starts_ns = round(setup.starts.replace(tzinfo=UTC).timestamp()) * 10**9
    return Scaler(replicas.autoscaler, bounds, replicas.threads, starts_ns)  # type: ignore[arg-type]


def _timing(setup: Setup, group: int) -> Timing:
    """How long replicas of a version take to come and to go."""
    serving, router = setup.served[group], setup.deployment.router
    replicas, startup = serving.model.replicas, serving.main.measured.profile.startup
    start_up_ns = round((startup.spawn_s + startup.load_s + startup.warmup_s) * 1e9)
    if isinstance(replicas.start_up, int):
        start_up_ns = replicas.start_up
    if router is None:
        return Timing(start_up_ns, drain_limit_ns=replicas.drain_limit)
    failures = setup.mishaps.world.failures.node
    noticed = (failures.detect, failures.replace)
    return Timing(start_up_ns, router.probe, router.propagation, replicas.drain_limit, *noticed)


def start_ups_ns(law: int | StartUp | None, rng: np.random.Generator) -> Callable[[], int] | None:
    """Draws how long start-ups take; None where they always take as long."""
    if not isinstance(law, StartUp):
        return None
    if law.exponential is not None:
        mean_ns = law.exponential.mean
        return lambda: round(mean_ns * float(rng.standard_exponential()))
    assert law.lognormal is not None
    median_ns, sigma = law.lognormal.median, law.lognormal.sigma
    return lambda: round(median_ns * float(rng.lognormal(0.0, sigma)))
