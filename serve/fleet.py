"""The nodes of a deployment, and which of its replicas run on which (rule 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.batching import NOT_SERVED
from serve.deployment import Deployment, Model, Pool, Replicas, check_single
from serve.errors import Fault, SpecError
from serve.policy.scaling.placement import Room, Size, place_all
from serve.units import format_bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A node that holds replicas of a model."""

    node: int
    pool: str
    replicas: int


def places(deployment: Deployment, model: str, *, spare: bool = False) -> list[Place]:
    """The nodes that hold a model's replicas, by their number among all nodes of the deployment; where an autoscaler
    sets their number, of as many as it may set and there is room for. `spare`: also other nodes of their pools, where
    they can go if a node fails, each with room for as many as the fullest holds.

    A single node takes all of a fixed number, more than it has cores for as well: such a node runs, if badly.

    Raises
    ------
    SpecError : replicas that fit on no node.
    """
    return places_of(deployment, [model], spare=spare)[model]


def places_of(deployment: Deployment, models: Sequence[str], *, spare: bool = False) -> dict[str, list[Place]]:
    """The same of several models, which share the nodes: each gets what those before it have left.

    Raises
    ------
    SpecError : replicas that fit on no node.
    """
    rooms = rooms_of(deployment, models)
    found = {}
    for name in models:
        found[name] = _places(deployment, name, rooms, spare)
        size, taken = size_of(deployment.models[name]), {place.node: place.replicas for place in found[name]}
        rooms = [room._replace(left=room.left.without(size.times(taken.get(room.node, 0)))) for room in rooms]
    return found


def size_of(model: Model) -> Size:
    """What a replica of a model needs of its node."""
    replicas = model.replicas
    return Size(replicas.threads, replicas.memory or 0, replicas.accelerators, replicas.accelerator_memory or 0)


def held_cores(model: Model, pool: Pool) -> int:
    """Cores of a node that a replica is taken to hold: its threads, or its part of the node by accelerators, which
    nobody else uses meanwhile."""
    replicas = model.replicas
    if not replicas.accelerators or not pool.accelerators:
        return replicas.threads
    return max(replicas.threads, -(-(pool.cores or 1) * replicas.accelerators // pool.accelerators))


def rooms_of(deployment: Deployment, models: Sequence[str]) -> list[Room]:
    """All nodes that there can be, empty.

    Raises
    ------
    SpecError : what is not known of a pool that some model may be on, and asks for.
    """
    faults = [
        Fault("deployment", f"pools.{pool}.{field}", f"is missing: models.{name}.replicas.{field} asks for it")
        for name in models
        for pool in deployment.models[name].replicas.on or deployment.pools
        for field in ("memory", "accelerator_memory")
        if getattr(deployment.models[name].replicas, field) is not None
        and getattr(deployment.pools[pool], field) is None
    ]
    if faults:
        raise SpecError(faults)
    sizes = {name: _node_size(name, pool) for name, pool in deployment.pools.items()}
    nodes = [name for name, pool in deployment.pools.items() for _ in range(pool.most)]
    return [Room(number, name, sizes[name]) for number, name in enumerate(nodes)]


def _node_size(name: str, pool: Pool) -> Size:
    accelerators = pool.accelerators or 0
    return Size(_cores(name, pool), pool.memory or 0, accelerators, accelerators * (pool.accelerator_memory or 0))


def _places(deployment: Deployment, model: str, rooms: Sequence[Room], spare: bool) -> list[Place]:
    """Where a model's replicas run, of what room there is."""
    replicas, size = deployment.models[model].replicas, size_of(deployment.models[model])
    if replicas.autoscaler is None and len(rooms) == 1:
        endless = rooms[0].left._replace(cores=size.cores * replicas.count)
        if endless.holds(size.times(replicas.count)):
            return [Place(0, rooms[0].pool, replicas.count)]
    pools = list(deployment.pools) if replicas.on is None else replicas.on
    fit = {room.node: room.left.count(size) for room in rooms if room.pool in pools}
    room_for = sum(fit.values())
    most = replicas.count if replicas.autoscaler is None else min(replicas.most or room_for, room_for)
    nodes = place_all([size] * max(most, replicas.count), pools, rooms)
    homeless = nodes.count(None)
    if homeless:
        what = (
            f"{replicas.count} replicas of {_needs(replicas)} do not fit: {homeless} find no node with that much "
            f"left in {', '.join(pools)}"
        )
        raise SpecError([Fault("deployment", f"models.{model}.replicas", f"{what}; fewer replicas, or more nodes")])
    most = max(nodes.count(room.node) for room in rooms)
    held = {room.node: nodes.count(room.node) for room in rooms if room.node in nodes}
    if spare:
        held |= {node: min(most, count) for node, count in fit.items() if node not in held and count > 0}
    return [Place(room.node, room.pool, held[room.node]) for room in rooms if room.node in held]


def _needs(replicas: Replicas) -> str:
    """What a replica asks for, in words."""
    needs = [f"{replicas.threads} threads"]
    if replicas.memory is not None:
        needs.append(f"{format_bytes(replicas.memory)} of memory")
    if replicas.accelerators:
        needs.append(f"{replicas.accelerators} accelerators")
    if replicas.accelerator_memory is not None:
        needs.append(f"{format_bytes(replicas.accelerator_memory)} of accelerator memory")
    return ", ".join(needs)


def most(deployment: Deployment, model: str) -> int:
    """Replicas that a model can have: as many as an autoscaler may set and there is room for, else its count."""
    if deployment.models[model].replicas.autoscaler is None:
        return deployment.models[model].replicas.count
    return sum(place.replicas for place in places(deployment, model))


def _check_served(deployment: Deployment) -> None:
    """SpecError for batching policies that the live engine does not run."""
    faults = [
        Fault("deployment", f"models.{name}.batching.policy", f"{policy} is simulated only: {NOT_SERVED[policy]}")
        for name, model in deployment.models.items()
        if (policy := model.batching.policy) in NOT_SERVED
    ]
    if faults:
        raise SpecError(faults)
    check_single(deployment, "an engine")


def engines_of(deployment: Deployment) -> list[Deployment]:
    """What each engine of a deployment runs, in the order in which a router numbers them: one a node that holds
    replicas, one a replica of models whose replicas have queues of their own (`queue.per: replica`).

    On one machine they share its cores as the system sees fit. An autoscaler's replicas begin at `count`, and stay.

    Raises
    ------
    SpecError : replicas that fit on no node, or batching that is simulated only.
    """
    _check_served(deployment)
    fixed = {
        name: model.model_copy(
            update={"replicas": model.replicas.model_copy(update={"autoscaler": None, "affinity": "none"})}
        )
        for name, model in deployment.models.items()
    }
    placed = deployment.model_copy(update={"models": fixed})
    held = {name: {place.node: place for place in found} for name, found in places_of(placed, list(fixed)).items()}
    engines = []
    for node in sorted({node for found in held.values() for node in found}):
        there = {name: found[node] for name, found in held.items() if node in found}
        shared = {name: place.replicas for name, place in there.items() if fixed[name].queue.per == "node"}
        alone = [name for name in there if name not in shared for _ in range(there[name].replicas)]
        pool = next(iter(there.values())).pool
        engines += [_engine(placed, pool, counts) for counts in (shared, *({name: 1} for name in alone)) if counts]
    return engines


def log_folder(folder: Path, engine: int | str) -> Path:
    """Where an engine of a fleet has its log, in the fleet's folder."""
    return folder / f"engine-{engine}"


def _engine(deployment: Deployment, pool: str, counts: dict[str, int]) -> Deployment:
    """One engine on a node of a pool, with so many replicas of each of its models."""
    models = {}
    for name, count in counts.items():
        fixed = {"count": count, "on": None, "autoscaler": None}
        replicas = deployment.models[name].replicas.model_copy(update=fixed)
        models[name] = deployment.models[name].model_copy(update={"replicas": replicas})
    one = deployment.pools[pool].model_copy(update={"nodes": 1})
    return deployment.model_copy(update={"models": models, "pools": {pool: one}, "router": None})


def _cores(name: str, pool: Pool) -> int:
    if pool.cores is None:
        what = f"is missing: what a {pool.type} has is known where there is a price list, to simulate and to plan"
        raise SpecError([Fault("deployment", f"pools.{name}.cores", what)])
    return pool.cores


def node_of(deployment: Deployment, pool: str | None) -> Deployment:
    """The deployment of one node, which `forebay serve` runs: the first of a pool that holds replicas. It has the most
    replicas that it may hold: an autoscaler sets those of all nodes together.

    Raises
    ------
    SpecError : a batching policy that is simulated only; a pool that there is not, or that holds none; several nodes,
        and no pool is named.
    """
    _check_served(deployment)
    if pool is None:
        if deployment.node_count == 1:
            return deployment
        known = ", ".join(deployment.pools)
        what = (
            f"has {deployment.node_count} nodes, of which one engine is one: name its pool ({known}) by --pool, or "
            "serve all of them on this machine by --fleet"
        )
        raise SpecError([Fault("deployment", "pools", what)])
    if pool not in deployment.pools:
        raise SpecError.of("--pool", "", f"must be one of {', '.join(deployment.pools)}, got {pool!r}")
    if deployment.node_count == 1:
        return deployment
    counts = {}
    for name, found in places_of(deployment, list(deployment.models)).items():
        place = next((place for place in found if place.pool == pool), None)
        if place is not None:
            counts[name] = place.replicas
    if not counts:
        raise SpecError.of("--pool", "", f"{pool!r} holds no replicas")
    return _engine(deployment, pool, counts)
