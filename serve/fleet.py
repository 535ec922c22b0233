"""The nodes of a deployment, and which of its replicas run on which (rule 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.batching import NOT_SERVED
from serve.deployment import Deployment, Pool
from serve.errors import Fault, SpecError
from serve.policy.scaling.placement import Room, Size, place_all


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
    rooms = [
        Room(number, name, Size(_cores(name, deployment.pools[name])))
        for number, name in enumerate(name for name, pool in deployment.pools.items() for _ in range(pool.most))
    ]
    found = {}
    for name in models:
        found[name] = _places(deployment, name, rooms, spare)
        taken = {place.node: place.replicas * deployment.models[name].replicas.threads for place in found[name]}
        rooms = [room._replace(left=room.left.without(Size(taken.get(room.node, 0)))) for room in rooms]
    return found


def _places(deployment: Deployment, model: str, rooms: Sequence[Room], spare: bool) -> list[Place]:
    """Where a model's replicas run, of what room there is."""
    replicas = deployment.models[model].replicas
    if replicas.autoscaler is None and len(rooms) == 1:
        return [Place(0, rooms[0].pool, replicas.count)]
    pools = list(deployment.pools) if replicas.on is None else replicas.on
    room_for = sum(room.left.cores // replicas.threads for room in rooms if room.pool in pools)
    most = replicas.count if replicas.autoscaler is None else min(replicas.max or room_for, room_for)
    nodes = place_all([Size(replicas.threads)] * max(most, replicas.count), pools, rooms)
    homeless = nodes.count(None)
    if homeless:
        what = (
            f"{replicas.count} replicas of {replicas.threads} threads do not fit: {homeless} find no node with that "
            f"many free cores in {', '.join(pools)}"
        )
        raise SpecError([Fault("deployment", f"models.{model}.replicas", f"{what}; fewer replicas, or more nodes")])
    most = max(nodes.count(room.node) for room in rooms)
    held = {room.node: nodes.count(room.node) for room in rooms if room.node in nodes}
    if spare:
        held |= {
            room.node: min(most, room.left.cores // replicas.threads)
            for room in rooms
            if room.node not in held and room.pool in pools and room.left.cores >= replicas.threads
        }
    return [Place(room.node, room.pool, held[room.node]) for room in rooms if room.node in held]


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
