"""Where the replicas of models and their versions can run (rule 15)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serve.deployment import Deployment, Model
from serve.errors import Fault, SpecError
from serve.fleet import Place, places_of, rooms_of, size_of
from serve.policy.scaling.placement import Size
from serve.policy.scaling.rollout import split

ENDLESS = 2**31
"""More replicas than there is room for anywhere."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that can hold replicas, by its number among all nodes of the deployment."""

    node: int
    pool: str


@dataclass(frozen=True, slots=True)
class Group:
    """One version of a model: `extra` replicas may be there beside those wanted, while a rollout is under way."""

    model: str
    version: str
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Placing:
    """By group: the nodes that can hold its replicas, and how many are there at first; by node, what it has room for,
    where the groups compete for it."""

    places: Sequence[Sequence[Place]]
    counts: Sequence[int]
    sizes: Mapping[int, Size]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The machines that can hold replicas of any group, by node."""
        pools = {place.node: place.pool for places in self.places for place in places}
        return tuple(Host(node, pools[node]) for node in sorted(pools))

    def most_beside(self, group: int, cores: int) -> int:
        """Replicas that can be on one machine of a group, where each has at least so many cores."""
        beside = together(self.places)
        most = max(beside[place.node] for place in self.places[group])
        if not self.sizes:
            return most
        return min(most, max(self.sizes[place.node].cores // cores for place in self.places[group]))


def placing(deployment: Deployment, groups: Sequence[Group], *, controlled: bool, spare: bool) -> Placing:
    """Where groups can run.

    Parameters
    ----------
    controlled : their replicas come and go; several groups then share what room there is, else each has its own.
    spare : they can go to further nodes if one fails.

    Raises
    ------
    SpecError : replicas that fit on no node.
    """
    counts = _counts(deployment, groups)
    if len(groups) == 1 and deployment.models[groups[0].model].replicas.on_demand is None:
        (group,) = groups
        return Placing([places_of(deployment, [group.model], spare=spare)[group.model]], counts, {})
    fixed = _fixed(deployment, groups, counts)
    if not controlled:
        return Placing(fixed, counts, {})
    rooms = rooms_of(deployment, list(dict.fromkeys(group.model for group in groups)))
    if len(rooms) == 1 and not rooms[0].left.holds(_taken(deployment, groups, counts)):
        # More than it has room for: a single node takes all of them, and as many as come.
        crowded = [[Place(0, rooms[0].pool, _most(deployment.models[g.model], 0) + g.extra)] for g in groups]
        return Placing(crowded, counts, {})
    places = []
    for group in groups:
        model = deployment.models[group.model]
        pools, size, most = (
            model.replicas.on or list(deployment.pools),
            size_of(model),
            _most(model, ENDLESS) + group.extra,
        )
        fit = {room: min(most, room.left.count(size)) for room in rooms if room.pool in pools}
        places.append([Place(room.node, room.pool, count) for room, count in fit.items() if count > 0])
    return Placing(places, counts, {room.node: room.left for room in rooms})


def _counts(deployment: Deployment, groups: Sequence[Group]) -> list[int]:
    """Replicas of each group that are there at first."""
    models = [deployment.models[group.model] for group in groups]
    return [
        split(model.replicas.count, [model.share_of(group.version)])[0]
        for group, model in zip(groups, models, strict=True)
    ]


def _most(model: Model, unbounded: int) -> int:
    """Replicas that it may have: `unbounded`, or those that it begins with, where nothing says how many."""
    replicas = model.replicas
    return replicas.count if replicas.autoscaler is None else max(replicas.count, replicas.most or unbounded)


def _taken(deployment: Deployment, groups: Sequence[Group], counts: Sequence[int]) -> Size:
    """What the first replicas need together."""
    sizes = [size_of(deployment.models[group.model]).times(count) for group, count in zip(groups, counts, strict=True)]
    return Size(*(sum(each) for each in zip(*sizes, strict=True)))


def _fixed(deployment: Deployment, groups: Sequence[Group], counts: Sequence[int]) -> list[list[Place]]:
    """The nodes of as many replicas as there are at first, group by group."""
    apart = {}
    for group, count in zip(groups, counts, strict=True):
        model = deployment.models[group.model]
        replicas = model.replicas.model_copy(update={"count": count, "autoscaler": None})
        apart[f"{group.model}.{group.version}"] = model.model_copy(update={"replicas": replicas})
    try:
        found = places_of(deployment.model_copy(update={"models": apart}), list(apart))
    except SpecError as error:
        raise SpecError([_of_model(fault, groups) for fault in error.faults]) from None
    return list(found.values())


def _of_model(fault: Fault, groups: Sequence[Group]) -> Fault:
    """A fault of a group, as one of its model."""
    field = fault.field
    for group in groups:
        field = field.replace(f"models.{group.model}.{group.version}.", f"models.{group.model}.")
    return Fault(fault.file, field, fault.message)


def together(places: Iterable[Sequence[Place]]) -> Counter[int]:
    """Replicas of all groups by node."""
    found = Counter[int]()
    for each in places:
        for place in each:
            found[place.node] += place.replicas
    return found
