"""From a scenario's world and events to what befalls the machines of a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gamma
from pathlib import Path

import numpy as np

from serve.deployment import Deployment
from serve.errors import Fault, SpecError
from serve.files import resolve
from serve.fleet import Place
from sim.failing import Act, Failing, Kind, instants
from sim.rng import stream
from sim.spot import Market, Supply
from sim.spot_traces import SpotTrace, read_spot_trace
from sim.world import Event, Fitted, NodeTarget, ReplicaTarget, Spot, World


@dataclass(frozen=True, slots=True)
class Mishaps:
    """What every replication of a simulation has in common of them."""

    world: World
    acts: tuple[Act, ...]
    traces: Mapping[str, SpotTrace]
    """By zone."""
    deployment: Deployment
    places: Sequence[Place]
    seed: int
    duration_ns: int

    @property
    def any(self) -> bool:
        """Whether anything can happen at all."""
        return bool(self.acts or self._spot_pools) or self.steady

    @property
    def steady(self) -> bool:
        """Whether things fail all the time, at the same rate."""
        failures = self.world.failures
        return failures.node.mtbf is not None or failures.replica is not None

    @property
    def changes(self) -> bool:
        """Whether what there is to serve with changes over time, beyond what fails all the time."""
        return bool(self.acts or self._spot_pools)

    @property
    def _spot_pools(self) -> list[str]:
        pools = self.deployment.pools.items()
        return [name for name, pool in pools if pool.buy == "spot" and pool.zone in self.world.spot]

    def failing(self, replication: int) -> Failing:
        """What fails in a replication."""
        failures = self.world.failures
        draws = partial(_failures, self.seed, replication)
        losses = None if failures.node.mtbf is None else partial(draws, "node", failures.node.mtbf)
        crashes = None if failures.replica is None else partial(draws, "replica", failures.replica.mtbf)
        return Failing(self.acts, losses, crashes)

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


def _failures(seed: int, replication: int, kind: str, mtbf_ns: int, which: int):  # type: ignore[no-untyped-def]
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
    model: str,
    places: Sequence[Place],
    seed: int,
    duration_ns: int,
    base: Path,
) -> Mishaps:
    """What befalls the machines that hold a model's replicas; `base` is the folder that traces are relative to.

    Raises
    ------
    SpecError : what there is not, or cannot be simulated, all faults at once; a trace that cannot be read.
    """
    faults = [*_event_faults(events, deployment, model, duration_ns), *_world_faults(world, deployment)]
    if faults:
        raise SpecError([Fault("scenario", field, what) for field, what in faults])
    acts = tuple(_act(event, deployment, places) for event in events)
    traces = {
        zone: read_spot_trace(resolve(base / "scenario.yaml", spot.trace))
        for zone, spot in world.spot.items()
        if spot.trace is not None
    }
    return Mishaps(world, acts, traces, deployment, places, seed, duration_ns)


def _act(event: Event, deployment: Deployment, places: Sequence[Place]) -> Act:
    heal_ns = None if event.for_ is None else event.at + event.for_
    if event.hang is not None:
        return Act(event.at, "hang", replica=int(event.hang.replica.split("/")[1]))
    if isinstance(event.fail, ReplicaTarget):
        return Act(event.at, "crash", replica=int(event.fail.replica.split("/")[1]))
    kinds: dict[Kind, NodeTarget | None] = {"lose": event.fail, "slow": event.slow, "cut": event.partition}
    kind, target = next((kind, target) for kind, target in kinds.items() if target is not None)
    per_mille = 1000 if event.slow is None else max(1, round(1000 * event.slow.factor))
    machines = _machines(target, deployment, places)
    return Act(event.at, kind, machines, heal_ns=heal_ns, per_mille=per_mille)


def _machines(target: NodeTarget, deployment: Deployment, places: Sequence[Place]) -> tuple[int, ...]:
    """Of the machines that can hold replicas those that are meant, in the order of nodes."""
    if target.zone is not None:
        return tuple(i for i, place in enumerate(places) if deployment.pools[place.pool].zone == target.zone)
    assert target.node is not None
    pool, number = target.node.split("/")
    first = 0
    for name, each in deployment.pools.items():
        if name == pool:
            break
        first += each.most
    return tuple(i for i, place in enumerate(places) if place.node == first + int(number))


def _event_faults(
    events: Sequence[Event], deployment: Deployment, model: str, duration_ns: int
) -> list[tuple[str, str]]:
    faults = []
    for i, event in enumerate(events):
        where = f"events.{i}"
        if event.at >= duration_ns:
            faults.append((f"{where}.at", "must lie before the end of the workload (workload.duration)"))
        for kind in ("fail", "slow", "hang", "partition"):
            target = getattr(event, kind)
            if target is not None:
                faults += _target_faults(f"{where}.{kind}", target, deployment, model)
    return faults


def _target_faults(
    where: str, target: NodeTarget | ReplicaTarget, deployment: Deployment, model: str
) -> list[tuple[str, str]]:
    if isinstance(target, ReplicaTarget):
        name, number = target.replica.split("/")
        replicas = deployment.models[model].replicas
        most = None if replicas.autoscaler is not None else replicas.count
        if name != model:
            return [(f"{where}.replica", f"must be one of {model}, got {target.replica!r}")]
        if most is not None and int(number) >= most:
            return [(f"{where}.replica", f"must be below {model}/{most}: counted from 0, got {target.replica!r}")]
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
