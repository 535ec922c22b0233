"""From a deployment and its workload to a setup: files are read, replicas placed, faults told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from serve.deployment import Deployment
from serve.errors import Fault, SpecError
from serve.files import resolve
from sim.checks import asked_models, check_clients, check_scaling, core_warnings
from sim.level import Level
from sim.mishaps import mishaps
from sim.placing import Group, Placing, placing
from sim.pricing import priced
from sim.rollouts import check_rollouts, extra_replicas
from sim.scenario import Slo, Workload
from sim.service import Measured, client_draw, front_vector
from sim.serving import Kind, Serving, fronts_warning, law_of
from sim.setup import Portion, Setup, first_of_class
from sim.slo import bounds, limits_ns, objective_of_all, objectives
from sim.workload import Given, Load, build
from sim.world import NO_WORLD, Event, World


def prepare(
    deployment: Deployment,
    workload: Workload,
    slo: Slo,
    seed: int,
    base: Path,
    deployment_base: Path,
    given: Mapping[str, Given] | None = None,
    level: Level | None = None,
    world: World = NO_WORLD,
    events: Sequence[Event] = (),
) -> Setup:
    """Load and check all that a simulation needs.

    `base` is the folder that traces are relative to, `deployment_base` the one of profiles and price files; `level`:
    see `Law`; `world`: what the deployment cannot choose.

    Raises
    ------
    SpecError, ProfileError : a file or setting that cannot be used.
    """
    prices = priced(deployment, deployment_base)
    deployment = prices.deployment
    names = asked_models(deployment, workload)
    asked = list(dict.fromkeys(names))
    check_scaling(deployment, asked)
    check_clients(deployment, workload)
    check_rollouts(events, deployment, asked)
    groups = _groups(deployment, asked, events)
    router, spare = deployment.router, bool(events) or world.takes_machines
    scaled = any(deployment.models[name].replicas.autoscaler is not None for name in asked)
    placed = placing(deployment, groups, controlled=scaled or spare, spare=spare)
    measured = _measured(deployment, groups, placed, deployment_base)
    first = next(iter(measured[0].values()))[1].profile
    client_ns = client_draw(first.client, first.front.bytes_in_per_row)
    portions = [
        Portion(class_, group)
        for class_, name in enumerate(names)
        for group, each in enumerate(groups)
        if each.model == name
    ]
    load = replace(
        build(workload, [deployment.models[name] for name in names], base, client_ns, given),
        routed=router is not None or len(groups) > 1,
        by_key=router is not None and router.policy == "affinity",
    )
    numbers = zip(load.sources, first_of_class(portions), strict=True)
    sources = tuple(replace(source, index=first) for source, first in numbers)
    load = replace(load, sources=sources)
    served = _served(deployment, groups, placed, measured, load, names, slo, level)
    befalls = mishaps(world, events, deployment, groups, placed.hosts, seed, load.duration_ns, base)
    classes = tuple(workload.classes)
    limits = bounds(slo, classes)
    by_class = limits_ns(limits, classes)
    return Setup(
        deployment=deployment,
        workload=workload,
        prices=prices,
        starts=world.starts,
        served=tuple(served),
        portions=tuple(portions),
        load=load,
        placing=placed,
        slo_ns=np.array([by_class[portion.class_] for portion in portions], np.int64),
        objectives=(*objectives(limits, classes), objective_of_all(limits, classes)),
        seed=seed,
        mishaps=befalls,
        warnings=(
            *dict.fromkeys(text for one in served for text in one.warnings),
            *fronts_warning(served),
            *core_warnings(deployment),
            *prices.warnings,
        ),
    )


def _groups(deployment: Deployment, names: Sequence[str], events: Sequence[Event]) -> list[Group]:
    """The versions that are simulated: of each model that is asked for those that have traffic, or get it by a
    rollout."""
    found = []
    for name in names:
        model, extra = deployment.models[name], extra_replicas(deployment.models[name], name, events)
        rolls = {event.rollout.to for event in events if event.rollout is not None and event.rollout.model == name}
        for version, share in zip(model.all_versions, model.shares, strict=True):
            if share > 0 or version in rolls:
                found.append(Group(name, version, extra))
    return found


def _measured(
    deployment: Deployment, groups: Sequence[Group], placed: Placing, base: Path
) -> list[dict[str, tuple[Path, Measured]]]:
    """By group and pool that can hold it: the profile of its machines. Each file is read once."""
    found, read, faults = [], dict[Path, Measured](), []
    for group, places in zip(groups, placed.places, strict=True):
        model = deployment.models[group.model]
        own = {}
        for pool in dict.fromkeys(place.pool for place in places):
            name = model.all_versions[group.version].profile_on(deployment.pools[pool].type)
            if name is None:
                where = f"models.{group.model}.{model.path_to(group.version)}profile"
                type_ = deployment.pools[pool].type
                faults.append((where, f"has none for {type_ or 'machines without a type'} (pools.{pool})"))
                continue
            path = resolve(base / "deployment.yaml", name)
            if path not in read:
                read[path] = Measured.load(path)
            own[pool] = path, read[path]
        found.append(own)
    if faults:
        raise SpecError([Fault("deployment", field, what) for field, what in dict.fromkeys(faults)])
    return found


def _served(
    deployment: Deployment,
    groups: Sequence[Group],
    placed: Placing,
    measured: Sequence[Mapping[str, tuple[Path, Measured]]],
    load: Load,
    names: Sequence[str],
    slo: Slo,
    level: Level | None,
) -> list[Serving]:
    """The versions of the models that are asked for, by group; models that nobody asks for are not simulated."""
    models = {group.model: deployment.models[group.model] for group in groups}
    levels = max(model.queue.priority_levels for model in models.values())  # planes have the same ones everywhere
    cores = min(model.replicas.threads for model in models.values())
    served = []
    for number, (group, by_pool) in enumerate(zip(groups, measured, strict=True)):
        model = models[group.model]
        asking = tuple(s for s, name in zip(load.sources, names, strict=True) if name == group.model)
        rows_mean, beside = replace(load, sources=asking).rows_mean, placed.most_beside(number, cores)
        paths = list(dict.fromkeys(path for path, _ in by_pool.values()))
        read = dict(by_pool.values())
        kinds = [
            Kind(
                path,
                read[path],
                law_of(path, read[path], model, rows_mean, beside, level),
                front_vector(read[path].profile.front, read[path].profile.noise, deployment.front_budget_ns(slo)),
            )
            for path in paths
        ]
        served.append(
            Serving(
                name=group.model,
                version_name=group.version,
                model=model,
                kinds=tuple(kinds),
                kind_of={pool: paths.index(path) for pool, (path, _) in by_pool.items()},
                spec=replace(model.scheduler_spec(), priority_levels=levels),
                places=tuple(placed.places[number]),
                count=placed.counts[number],
                retry_after_ns=deployment.front.retry_after,
            )
        )
    return served
