"""From a scenario's world and events to what befalls the machines of a deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gamma
from pathlib import Path

import numpy as np

from serve.deployment import Deployment
from serve.errors import Fault, SpecError
from serve.files import resolve
from sim.failing import Act, Failing, Kind, instants
from sim.placing import Group, Host
from sim.rng import stream
from sim.spot import Market, Supply
from sim.spot_traces import SpotTrace, read_spot_trace
from sim.world import Event, Fitted, NodeTarget, ReplicaTarget, Spot, World


@dataclass(frozen=True, slots=True)
class Mishaps:
    """What every replication of a simulation has in common of them."""

    world: World
    events: tuple[Event, ...]
    acts: tuple[Act, ...]
    traces: Mapping[str, SpotTrace]
    """By zone."""
    deployment: Deployment
    groups: Sequence[Group]
    seed: int
    duration_ns: int

    @property
    def any(self) -> bool:
        """Whether anything can happen at all."""
        return self.changes or self.steady

    @property
    def steady(self) -> bool:
        """Whether things fail all the time, at the same rate."""
        failures = self.world.failures
        return failures.node.mtbf is not None or failures.replica is not None

    @property
    def changes(self) -> bool:
        """Whether what there is to serve with changes over time, beyond what fails all the time."""
        return bool(self.events or self._spot_pools)

    @property
    def _spot_pools(self) -> list[str]:
        pools = self.deployment.pools.items()
        return [name for name, pool in pools if pool.buy == "spot" and pool.zone in self.world.spot]

    def failing(self, replication: int) -> Failing:
        """What fails in a replication."""
        failures = self.world.failures
        draws = partial(_failures, self.seed, replication)
        losses = None if failures.node.mtbf is None else partial(draws, failures.node.mtbf, "node")
        crashes = None if failures.replica is None else partial(self._crashes, draws, failures.replica.mtbf)
        return Failing(self.acts, losses, crashes)

    def _crashes(self, draws: Callable[..., Iterator[int]], mtbf_ns: int, group: int, number: int) -> Iterator[int]:
        """Instants at which a group's replica of a number dies, if it is up."""
        own = self.groups[group]
        return draws(mtbf_ns, "replica" if group == 0 else f"replica {own.model}.{own.version}", number)

    def markets(self, replication: int) -> dict[str, Market]:
        """Where spot pools have their machines from in a replication."""
        start = float(stream(self.seed, replication, "world", "spot").random())
        return {name: self._market(name, replication, start) for name in self._spot_pools}

    def _market(self, name: str, replication: int, start: float) -> Market:
        pool = self.deployment.pools[name]
        assert pool.zone is not None
        spot = self.world.spot[pool.zone]
        supply, lifetime_ns = self._supply(spot, pool.zone, pool.most, start), None
        if spot.fitted is not None:
            lifetimes: dict[int, np.random.Generator] = {}

            def lifetime_ns(machine: int, fitted: Fitted = spot.fitted) -> int:
                own = lifetimes.setdefault(machine, stream(self.seed, replication, f"node {machine}", "spot"))
                return _lifetime_ns(fitted, own)

        return Market(
            stream(self.seed, replication, name, "spot"),
            pool.patience,
            pool.retry,
            supply,
            spot.notice,
            spot.no_notice,
            lifetime_ns,
        )

    def _supply(self, spot: Spot, zone: str, nodes: int, start: float) -> Supply | None:
        if spot.fitted is not None:
            return None if spot.fitted.available is None else Supply((0,), (spot.fitted.available,))
        trace = self.traces[zone]
        offset_ns = round(start * trace.length_ns) if spot.from_ is None else spot.from_
        return trace.supply(offset_ns, 2 * self.duration_ns, -(-nodes // max(trace.most, 1)))


def _failures(seed: int, replication: int, mtbf_ns: int, kind: str, which: int) -> Iterator[int]:
    return instants(stream(seed, replication, f"{kind} {which}", "failures"), mtbf_ns)


def _lifetime_ns(fitted: Fitted, rng: np.random.Generator) -> int:
    if fitted.weibull is not None:
        shape = fitted.weibull.shape
        return round(fitted.weibull.mean / gamma(1 + 1 / shape) * float(rng.weibull(shape)))
    assert fitted.lognormal is not None
    return round(fitted.lognormal.median * float(rng.lognormal(0.0, fitted.lognormal.sigma)))


# -- what a file says --------------------------------------------------------------------------------------


def mishaps(
    world: World,
    events: Sequence[Event],
    deployment: Deployment,
    groups: Sequence[Group],
    hosts: Sequence[Host],
    seed: int,
    duration_ns: int,
    base: Path,
) -> Mishaps:
    """What befalls the machines that hold replicas of some groups, `hosts`. `base` is the folder that
    traces are relative to.

    Raises
    ------
    SpecError : what there is not, or cannot be simulated, all faults at once; a trace that cannot be read.
    """
    faults = [*_event_faults(events, deployment, groups, duration_ns), *_world_faults(world, deployment)]
    if faults:
        raise SpecError([Fault("scenario", field, what) for field, what in faults])
    acts = tuple(_act(event, deployment, groups, hosts) for event in events if event.rollout is None)
    traces = {
        zone: read_spot_trace(resolve(base / "scenario.yaml", spot.trace))
        for zone, spot in world.spot.items()
        if spot.trace is not None
    }
    return Mishaps(world, tuple(events), acts, traces, deployment, groups, seed, duration_ns)


def _act(event: Event, deployment: Deployment, groups: Sequence[Group], hosts: Sequence[Host]) -> Act:
    heal_ns = None if event.for_ is None else event.at + event.for_
    if event.hang is not None:
        return _of_replica(event.at, "hang", event.hang, deployment, groups)
    if isinstance(event.fail, ReplicaTarget):
        return _of_replica(event.at, "crash", event.fail, deployment, groups)
    kinds: dict[Kind, NodeTarget | None] = {"lose": event.fail, "slow": event.slow, "cut": event.partition}
    kind, target = next((kind, target) for kind, target in kinds.items() if target is not None)
    per_mille = 1000 if event.slow is None else max(1, round(1000 * event.slow.factor))
    machines = _machines(target, deployment, hosts)
    return Act(event.at, kind, machines, heal_ns=heal_ns, per_mille=per_mille)


def _of_replica(at_ns: int, kind: Kind, target: ReplicaTarget, deployment: Deployment, groups: Sequence[Group]) -> Act:
    """Of a model's replicas, one of the version that has most of the traffic at first."""
    name, number = target.replica.split("/")
    model = deployment.models[name]
    main = next(version for version, each in model.all_versions.items() if each == model.main)
    group = next(i for i, each in enumerate(groups) if (each.model, each.version) == (name, main))
    return Act(at_ns, kind, group=group, replica=int(number))


def _machines(target: NodeTarget, deployment: Deployment, hosts: Sequence[Host]) -> tuple[int, ...]:
    """Of the machines that can hold replicas those that are meant, in the order of nodes."""
    if target.zone is not None:
        return tuple(i for i, host in enumerate(hosts) if deployment.pools[host.pool].zone == target.zone)
    assert target.node is not None
    name, number = target.node.split("/")
    first = 0
    for pool, each in deployment.pools.items():
        if pool == name:
            break
        first += each.most
    return tuple(i for i, host in enumerate(hosts) if host.node == first + int(number))


def _event_faults(
    events: Sequence[Event], deployment: Deployment, groups: Sequence[Group], duration_ns: int
) -> list[tuple[str, str]]:
    faults = []
    for i, event in enumerate(events):
        where = f"events.{i}"
        if event.at >= duration_ns:
            faults.append((f"{where}.at", "must lie before the end of the workload (workload.duration)"))
        for kind in ("fail", "slow", "hang", "partition"):
            target = getattr(event, kind)
            if target is not None:
                faults += _target_faults(f"{where}.{kind}", target, deployment, groups)
    return faults


def _target_faults(
    where: str, target: NodeTarget | ReplicaTarget, deployment: Deployment, groups: Sequence[Group]
) -> list[tuple[str, str]]:
    if isinstance(target, ReplicaTarget):
        name, number = target.replica.split("/")
        models = list(dict.fromkeys(group.model for group in groups))
        if name not in models:
            return [(f"{where}.replica", f"must be one of {', '.join(models)}, got {target.replica!r}")]
        replicas = deployment.models[name].replicas
        if replicas.autoscaler is None and int(number) >= replicas.count:
            what = f"must be below {name}/{replicas.count}: counted from 0, got {target.replica!r}"
            return [(f"{where}.replica", what)]
        return []
    if deployment.router is None:
        return [(where, "needs a router, such as {policy: p2c}: without one nobody notices that a node is gone")]
    zones = sorted({pool.zone for pool in deployment.pools.values() if pool.zone is not None})
    if target.zone is not None and target.zone not in zones:
        known = ", ".join(zones) or "none: pools.*.zone says which there are"
        return [(f"{where}.zone", f"must be one of {known}, got {target.zone!r}")]
    if target.node is not None:
        pool, number = target.node.split("/")
        if pool not in deployment.pools:
            return [(f"{where}.node", f"must name one of {', '.join(deployment.pools)}, got {target.node!r}")]
        if int(number) >= deployment.pools[pool].most:
            what = f"must be below {pool}/{deployment.pools[pool].most}: counted from 0, got {target.node!r}"
            return [(f"{where}.node", what)]
    return []


def _world_faults(world: World, deployment: Deployment) -> list[tuple[str, str]]:
    faults = []
    if deployment.router is None and world.failures.node.mtbf is not None:
        faults.append(("world.failures.node", "needs a router, such as {policy: p2c}"))
    spot = {name: pool for name, pool in deployment.pools.items() if pool.buy == "spot"}
    for name, pool in spot.items():
        if world.spot and pool.zone not in world.spot:
            known = ", ".join(world.spot)
            faults.append(
                (f"pools.{name}.zone", f"must be one of world.spot ({known}): it buys spot; got {pool.zone!r}")
            )
        if world.spot and deployment.router is None:
            faults.append((f"pools.{name}.buy", "spot machines need a router, such as {policy: p2c}"))
    return faults
