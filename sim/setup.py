"""A scenario made ready to run: its model's measured service times, its load, its front, its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from serve.autoscaler import Bounds, Idle
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.files import resolve
from serve.fleet import places_of
from serve.policy.routing import ROUTE_ROUND_ROBIN
from serve.router import ROUTES, UNBOUNDED_ROWS, ejection_of, hedge_of
from serve.scaler import Scaler
from sim.billing.prices import PriceBook
from sim.checks import asked_models, check_clients, check_scaling, core_warnings
from sim.drawing import closed_clients
from sim.fleet import Timing
from sim.level import Level
from sim.machines import Machine, Slot
from sim.mishaps import Mishaps, mishaps
from sim.plane import Closed, Estate, Ints, Node, Router
from sim.pricing import Priced, priced
from sim.rng import stream
from sim.scenario import Slo, Workload
from sim.service import Drawn, Measured, client_draw, front_vector
from sim.serving import Serving, law_of, together
from sim.slo import bounds, limits_ns, objective_of_all, objectives
from sim.workload import Given, Load, build
from sim.world import NO_WORLD, Event, World


@dataclass(frozen=True, slots=True)
class Setup:
    """What every replication of a simulation shares."""

    deployment: Deployment
    workload: Workload
    prices: Priced
    starts: datetime
    served: tuple[Serving, ...]  # the models that are asked for
    group_of: tuple[int, ...]  # by class: which of them
    load: Load
    slo_ns: Ints  # by class
    objectives: tuple[float | None, ...]  # by class, and of all requests: the share that the SLO wants within it
    seed: int
    mishaps: Mishaps
    warnings: tuple[str, ...]

    @property
    def first(self) -> Serving:
        """The model that is asked for, or the first of several."""
        return self.served[0]

    @property
    def replicas(self) -> int:
        """Replicas of all models, the most of them where an autoscaler sets their number."""
        return sum(serving.replicas for serving in self.served)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The machines that can hold replicas, by their number among all nodes of the deployment."""
        found = {place.node: place.pool for serving in self.served for place in serving.places}
        return tuple(Host(node, found[node]) for node in sorted(found))

    @property
    def closed(self) -> Closed | None:
        """The closed-loop clients."""
        return closed_clients(self.load)

    def drawn(self, replication: int) -> tuple[Drawn, ...]:
        """Service times of one replication by model, each from its own bootstrap, and paths of the machine's level."""
        found = []
        for number, serving in enumerate(self.served):
            purpose = f"bootstrap of {serving.name}" if number > 0 else "bootstrap"
            rng = stream(self.seed, replication, "calibration", purpose)
            found.append(serving.law.bootstrap(rng, self.load.duration_ns))
        return tuple(found)

    def estate(self, drawn: Sequence[Drawn], replication: int) -> Estate:
        """What a plane simulates: the nodes that hold replicas, model by model, their machines, and the router."""
        nodes: list[Node] = []
        groups: list[int] = []
        machines: list[int] = []
        levels = self._levels(drawn, replication)
        for group, (serving, own) in enumerate(zip(self.served, drawn, strict=True)):
            for place in serving.places:
                machine, level = levels[place.node]
                there = serving.nodes(serving.on(own, level), place)
                nodes += there
                groups += [group] * len(there)
                machines += [machine] * len(there)
        shared = len(set(machines)) < len(machines)
        several = len(self.served) > 1
        return Estate(tuple(nodes), self.router, tuple(groups) if several else (), tuple(machines) if shared else ())

    def _levels(self, drawn: Sequence[Drawn], replication: int) -> dict[int, tuple[int, Drawn]]:
        """By node: which of the machines it is, and something drawn there, whose level takes the machine's path."""
        found = {}
        moved = next((i for i, serving in enumerate(self.served) if not serving.law.exact), 0)
        for machine, host in enumerate(self.hosts):
            there = drawn[moved]
            if machine > 0:
                rng = stream(self.seed, replication, "node", str(host.node))
                there = self.served[moved].law.elsewhere(there, rng, self.load.duration_ns)
            found[host.node] = machine, there
        return found

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that can hold replicas; of each pool the first so many are always there."""
        found, seen = [], Counter[str]()
        for host in self.hosts:
            pool = self.deployment.pools[host.pool]
            fixed = seen[host.pool] < pool.least
            seen[host.pool] += 1
            found.append(Machine(fixed, pool.provision, pool.empty_after, host.pool))
        return tuple(found)

    @property
    def book(self) -> PriceBook:
        """The prices that it is billed by."""
        return self.prices.book

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where replicas can run, model by model, in the order in which places are taken: by pool as preferred, then by
        node."""
        machine_of = {host.node: machine for machine, host in enumerate(self.hosts)}
        slots: list[Slot] = []
        for group, serving in enumerate(self.served):
            node = self.nodes_of(group).start
            on = serving.model.replicas.on or list(self.deployment.pools)
            own = []
            for place in serving.places:
                for replica in range(place.replicas):
                    number = node + replica if serving.per_replica else node
                    slot = Slot(number, 0 if serving.per_replica else replica, machine_of[place.node])
                    own.append((on.index(place.pool), slot.machine, slot))
                node += serving.node_count(place)
            slots += [slot for _, _, slot in sorted(own, key=lambda each: each[:2])]
        return tuple(slots)

    def nodes_of(self, group: int) -> range:
        """The numbers of a model's nodes, as planes number them."""
        counts = [sum(each.node_count(place) for place in each.places) for each in self.served]
        return range(sum(counts[:group]), sum(counts[: group + 1]))

    def scaler(self) -> Scaler:
        """What sets the number of replicas."""
        replicas = self.first.model.replicas
        assert replicas.autoscaler is not None, "no autoscaler"
        bounds = Bounds(least=replicas.min, most=self.replicas)
        starts_ns = round(self.starts.replace(tzinfo=UTC).timestamp()) * 10**9
        return Scaler(replicas.autoscaler, bounds, replicas.threads, starts_ns)  # type: ignore[arg-type]

    @property
    def timing(self) -> Timing:
        """How long replicas take to come and to go."""
        replicas, router = self.first.model.replicas, self.deployment.router
        startup = self.first.measured.profile.startup
        start_up_ns = replicas.start_up
        if start_up_ns is None:
            start_up_ns = round((startup.spawn_s + startup.load_s + startup.warmup_s) * 1e9)
        if router is None:
            return Timing(start_up_ns, drain_limit_ns=replicas.drain_limit)
        failures = self.mishaps.world.failures.node
        noticed = (failures.detect, failures.replace)
        return Timing(start_up_ns, router.probe, router.propagation, replicas.drain_limit, *noticed)

    @property
    def controlled(self) -> bool:
        """Whether anything happens to replicas and machines."""
        return self.first.model.replicas.autoscaler is not None or self.mishaps.any

    @property
    def changing(self) -> bool:
        """Whether what there is to serve with changes over time."""
        return self.first.model.replicas.autoscaler is not None or self.mishaps.changes

    @property
    def router(self) -> Router | None:
        """The router, as planes take it."""
        router = self.deployment.router
        served_by = tuple(range(group, group + 1) for group in self.group_of) if len(self.served) > 1 else ()
        if router is None:  # several models on one machine: each has its queue there, with nothing in between
            return Router(ROUTE_ROUND_ROBIN, served_by=served_by) if served_by else None
        clients = [class_.client for class_ in self.workload.classes.values()]
        taken = Router(
            ROUTES[router.policy],
            router.network,
            router.state_age == 0,
            buffer_rows=self._buffer_rows,
            answer_timeout_ns=router.timeout,
            tells_empty=isinstance(self.first.model.replicas.autoscaler, Idle),
            client_retries=tuple(0 if client is None else client.retries for client in clients),
            silent=tuple(client is not None and not client.cancels for client in clients),
            ejection=ejection_of(router.eject),
            hedge=hedge_of(router.hedge),
            served_by=served_by,
        )
        if router.retry is None:
            return taken
        retry = router.retry
        return replace(
            taken,
            retries=retry.max,
            budget_percent=round(100 * retry.budget),
            backoff_ns=retry.backoff,
            backoff_most_ns=retry.backoff_max,
        )

    @property
    def _buffer_rows(self) -> int:
        """Rows that may wait at the router while there is no node."""
        router, queues = self.deployment.router, [serving.model.queue for serving in self.served]
        if router is not None and router.buffer is not None:
            return router.buffer
        return max(UNBOUNDED_ROWS if queue.max_queue == "unbounded" else int(queue.max_queue) for queue in queues)

    def load_on(self, drawn: Drawn) -> Load:
        """The load, of clients whose core has the level drawn."""
        client_ns = self.load.client_ns
        return replace(
            self.load,
            client_ns=lambda rng, rows: np.rint(client_ns(rng, rows) * drawn.front_level).astype(np.int64),
        )


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that can hold replicas."""

    node: int
    pool: str


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
    models = {name: deployment.models[name] for name in names}
    check_scaling(deployment, tuple(models))
    check_clients(deployment, workload)
    profiles = {name: resolve(deployment_base / "deployment.yaml", model.profile) for name, model in models.items()}
    measured = {name: Measured.load(path) for name, path in profiles.items()}
    first = measured[names[0]].profile
    client_ns = client_draw(first.client, first.front.bytes_in_per_row)
    router = deployment.router
    load = replace(
        build(workload, [models[name] for name in names], base, client_ns, given),
        routed=router is not None or len(models) > 1,
        by_key=router is not None and router.policy == "affinity",
    )
    spare = bool(events) or world.takes_machines
    if len(models) > 1 and spare:
        what = f"failures and spot cannot be simulated with several models yet ({', '.join(models)})"
        raise SpecError.of("scenario", "events" if events else "world", what)
    served = _served(deployment, names, profiles, measured, load, slo, level, spare)
    befalls = mishaps(world, events, deployment, names[0], served[0].places, seed, load.duration_ns, base)
    classes = tuple(workload.classes)
    limits = bounds(slo, classes)
    return Setup(
        deployment=deployment,
        workload=workload,
        prices=prices,
        starts=world.starts,
        served=tuple(served),
        group_of=tuple(list(models).index(name) for name in names),
        load=load,
        slo_ns=np.array(limits_ns(limits, classes), np.int64),
        objectives=(*objectives(limits, classes), objective_of_all(limits, classes)),
        seed=seed,
        mishaps=befalls,
        warnings=(
            *dict.fromkeys(text for one in served for text in one.warnings(profiles[one.name])),
            *_fronts(served),
            *core_warnings(deployment),
            *prices.warnings,
        ),
    )


def _served(
    deployment: Deployment,
    names: Sequence[str],
    profiles: Mapping[str, Path],
    measured: Mapping[str, Measured],
    load: Load,
    slo: Slo,
    level: Level | None,
    spare: bool,
) -> list[Serving]:
    """The models that are asked for, by class; models that nobody asks for are not simulated."""
    models = {name: deployment.models[name] for name in names}
    placed = places_of(deployment, tuple(models), spare=spare)
    levels = max(model.queue.priority_levels for model in models.values())  # planes have the same ones everywhere
    beside = together(placed.values())
    budget_ns, served = deployment.front_budget_ns(slo), []
    for name, model in models.items():
        own = replace(load, sources=tuple(s for s, asked in zip(load.sources, names, strict=True) if asked == name))
        most = max(beside[place.node] for place in placed[name])
        profile = measured[name].profile
        served.append(
            Serving(
                name=name,
                model=model,
                measured=measured[name],
                law=law_of(profiles[name], measured[name], model, own.rows_mean, most, level),
                spec=replace(model.scheduler_spec(), priority_levels=levels),
                front=front_vector(profile.front, profile.noise, budget_ns),
                places=tuple(placed[name]),
                retry_after_ns=deployment.front.retry_after,
            )
        )
    return served


def _fronts(served: Sequence[Serving]) -> list[str]:
    """What is simplified where several models share a machine."""
    nodes = Counter(place.node for serving in served for place in serving.places)
    if max(nodes.values()) == 1:
        return []
    return ["models that share a machine are simulated with a front each: as one engine a model, not one for all"]
