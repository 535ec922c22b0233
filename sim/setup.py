"""A scenario made ready to run: its model's measured service times, its load, its front, its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from serve.autoscaler import Bounds, Idle
from serve.batching import UNCHECKED
from serve.deployment import Deployment, Model
from serve.deployment import Hedge as HedgeSpec
from serve.errors import Fault, ProfileError, SpecError
from serve.files import resolve, sha256
from serve.fleet import Place, places
from serve.hedging import P95, Hedge
from serve.policy.retries import ATTEMPTS_MAX
from serve.router import ROUTES, UNBOUNDED_ROWS, ejection_of
from serve.scaler import Scaler
from serve.scheduler import SchedulerSpec
from sim.billing.prices import PriceBook
from sim.drawing import closed_clients
from sim.fleet import Timing
from sim.level import Level
from sim.machines import Machine, Slot
from sim.mishaps import Mishaps, mishaps
from sim.plane import Closed, Estate, Ints, Node, Router, Service
from sim.pricing import Priced, priced
from sim.rng import stream
from sim.scenario import Slo, Workload
from sim.service import Drawn, Law, Measured, client_draw, front_at, front_vector
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
    model_name: str
    model: Model
    measured: Measured
    law: Law
    load: Load
    spec: SchedulerSpec
    front: Ints
    slo_ns: Ints  # by class
    objectives: tuple[float | None, ...]  # by class, and of all requests: the share that the SLO wants within it
    seed: int
    places: tuple[Place, ...]
    mishaps: Mishaps
    warnings: tuple[str, ...]

    @property
    def replicas(self) -> int:
        """Replicas of the model on all nodes, the most of them where an autoscaler sets their number."""
        if self.model.replicas.autoscaler is None:
            return self.model.replicas.count
        return sum(place.replicas for place in self.places)

    @property
    def per_replica(self) -> bool:
        """Whether each replica has an engine of its own."""
        return self.model.queue.per == "replica"

    @property
    def closed(self) -> Closed | None:
        """The closed-loop clients."""
        return closed_clients(self.load)

    def drawn(self, replication: int) -> Drawn:
        """Service times of one replication, from its own bootstrap and its own path of the machine's level."""
        rng = stream(self.seed, replication, "calibration", "bootstrap")
        return self.law.bootstrap(rng, self.load.duration_ns)

    def node(self, drawn: Drawn, replicas: int) -> Node:
        """A node with so many replicas."""
        retry_after_ns = self.deployment.front.retry_after
        front = front_at(self.front, drawn.front_level)
        expected_ns, deadline_ns = row_ns(drawn.service, self.spec), batch_deadline_ns(drawn.service, self.spec)
        return Node(self.spec, replicas, drawn.service, front, retry_after_ns, expected_ns, deadline_ns)

    def estate(self, drawn: Drawn, replication: int) -> Estate:
        """What a plane simulates: the nodes that hold replicas, each a machine of its own, and the router."""
        nodes: list[Node] = []
        for i, place in enumerate(self.places):
            own = drawn
            if i > 0:
                rng = stream(self.seed, replication, "node", str(place.node))
                own = self.law.elsewhere(drawn, rng, self.load.duration_ns)
            nodes += [self.node(own, 1)] * place.replicas if self.per_replica else [self.node(own, place.replicas)]
        return Estate(tuple(nodes), self.router)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that can hold replicas; of each pool the first so many are always there."""
        found, seen = [], Counter[str]()
        for place in self.places:
            pool = self.deployment.pools[place.pool]
            fixed = seen[place.pool] < pool.least
            seen[place.pool] += 1
            found.append(Machine(fixed, pool.provision, pool.empty_after, place.pool))
        return tuple(found)

    @property
    def book(self) -> PriceBook:
        """The prices that it is billed by."""
        return self.prices.book

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where replicas can run, in the order in which places are taken: by pool as preferred, then by node."""
        on = self.model.replicas.on or list(self.deployment.pools)
        slots, node = [], 0
        for machine, place in enumerate(self.places):
            for replica in range(place.replicas):
                slots.append(Slot(node, 0 if self.per_replica else replica, machine))
                node += self.per_replica
            node += not self.per_replica
        return tuple(sorted(slots, key=lambda slot: (on.index(self.places[slot.machine].pool), slot.machine)))

    def scaler(self) -> Scaler:
        """What sets the number of replicas."""
        replicas = self.model.replicas
        assert replicas.autoscaler is not None, "no autoscaler"
        bounds = Bounds(least=replicas.min, most=self.replicas)
        starts_ns = round(self.starts.replace(tzinfo=UTC).timestamp()) * 10**9
        return Scaler(replicas.autoscaler, bounds, replicas.threads, starts_ns)  # type: ignore[arg-type]

    @property
    def timing(self) -> Timing:
        """How long replicas take to come and to go."""
        replicas, router, startup = self.model.replicas, self.deployment.router, self.measured.profile.startup
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
        return self.model.replicas.autoscaler is not None or self.mishaps.any

    @property
    def changing(self) -> bool:
        """Whether what there is to serve with changes over time."""
        return self.model.replicas.autoscaler is not None or self.mishaps.changes

    @property
    def router(self) -> Router | None:
        """The router, as planes take it."""
        router = self.deployment.router
        if router is None:
            return None
        clients = [class_.client for class_ in self.workload.classes.values()]
        taken = Router(
            ROUTES[router.policy],
            router.network,
            router.state_age == 0,
            buffer_rows=self._buffer_rows,
            answer_timeout_ns=router.timeout,
            tells_empty=isinstance(self.model.replicas.autoscaler, Idle),
            client_retries=tuple(0 if client is None else client.retries for client in clients),
            silent=tuple(client is not None and not client.cancels for client in clients),
            ejection=ejection_of(router.eject),
            hedge=_hedge(router.hedge),
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
        router, max_queue = self.deployment.router, self.model.queue.max_queue
        if router is not None and router.buffer is not None:
            return router.buffer
        return UNBOUNDED_ROWS if max_queue == "unbounded" else int(max_queue)

    def load_on(self, drawn: Drawn) -> Load:
        """The load, of clients whose core has the level drawn."""
        client_ns = self.load.client_ns
        return replace(
            self.load,
            client_ns=lambda rng, rows: np.rint(client_ns(rng, rows) * drawn.front_level).astype(np.int64),
        )


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
    name = model_name(deployment, workload)
    model = deployment.models[name]
    path = resolve(deployment_base / "deployment.yaml", model.profile)
    measured = Measured.load(path)
    client_ns = client_draw(measured.profile.client, measured.profile.front.bytes_in_per_row)
    router = deployment.router
    load = replace(
        build(workload, model, base, client_ns, given),
        routed=router is not None,
        by_key=router is not None and router.policy == "affinity",
    )
    check_scaling(deployment, name)
    check_clients(deployment, workload)
    found = places(deployment, name, spare=bool(events) or world.takes_machines)
    befalls = mishaps(world, events, deployment, name, found, seed, load.duration_ns, base)
    law = replace(_law(path, measured, model, load, found), level=level)
    classes = tuple(workload.classes)
    limits = bounds(slo, classes)
    budget_ns = deployment.front_budget_ns(slo)
    return Setup(
        deployment=deployment,
        workload=workload,
        prices=prices,
        starts=world.starts,
        model_name=name,
        model=model,
        measured=measured,
        law=law,
        load=load,
        spec=model.scheduler_spec(),
        front=front_vector(measured.profile.front, measured.profile.noise, budget_ns),
        slo_ns=np.array(limits_ns(limits, classes), np.int64),
        objectives=(*objectives(limits, classes), objective_of_all(limits, classes)),
        seed=seed,
        places=tuple(found),
        mishaps=befalls,
        warnings=(
            *(f"{path}: {warning}" for warning in law.warnings),
            *measured.profile.warnings,
            *_changed(model, path),
            *_apart(model, found),
            *core_warnings(deployment),
            *_unchecked(deployment, name),
            *prices.warnings,
        ),
    )


def _unchecked(deployment: Deployment, name: str) -> list[str]:
    """What a result says of a batching policy that no measurement of the real engine stands behind."""
    policy = deployment.models[name].batching.policy
    return [f"models.{name}.batching.policy: unchecked: {UNCHECKED[policy]}"] if policy in UNCHECKED else []


def _law(path: Path, measured: Measured, model: Model, load: Load, found: Sequence[Place]) -> Law:
    """Service times of a model's replicas; ProfileError, by the profile's file, where they were not measured."""
    most, max_batch = max(place.replicas for place in found), model.batching.max_batch
    try:
        return measured.law(model.replicas.threads, most, max_batch, model.backend, load.rows_mean)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from None


def check_clients(deployment: Deployment, workload: Workload) -> None:
    """SpecError for clients' timeouts or keys without a router, no keys for affinity, or too many attempts."""
    router, faults = deployment.router, []
    for name, class_ in workload.classes.items():
        if class_.affinity is None and router is not None and router.policy == "affinity":
            faults.append(
                (f"workload.classes.{name}.affinity", "is missing, such as {keys: 1000}: the router goes by it")
            )
        if class_.affinity is not None and router is None:
            faults.append((f"workload.classes.{name}.affinity", "needs a router"))
        where = f"workload.classes.{name}.client"
        if class_.client is not None and router is None:
            faults.append((where, "needs a router, such as {policy: round_robin}, also before a single node"))
        elif class_.client is not None and router is not None:
            at_router = 1 + (router.retry.max if router.retry else 0) + (router.hedge is not None)
            attempts = (class_.client.retries + 1) * at_router
            if attempts > ATTEMPTS_MAX:
                faults.append(
                    (f"{where}.retries", f"make {attempts} attempts with the router's; at most {ATTEMPTS_MAX}")
                )
    if faults:
        raise SpecError([Fault("scenario", field, what) for field, what in faults])


def check_scaling(deployment: Deployment, name: str) -> None:
    """SpecError for what of an autoscaled model cannot be simulated."""
    model, faults = deployment.models[name], []
    where = f"models.{name}"
    scaler = model.replicas.autoscaler
    if scaler is not None and scaler.kind == "skyserve":
        faults.append((f"{where}.replicas.autoscaler", f"kind {scaler.kind} is not simulated yet"))
    if scaler is not None and scaler.kind == "idle":
        faults += _idle_faults(model, where)
    if scaler is not None and model.replicas.min == 0 and deployment.router is None:
        faults.append(("router", "is missing: it holds what comes while there is no replica (replicas.min: 0)"))
    if scaler is not None and model.replicas.min == 0 and scaler.kind in ("hpa", "target_tracking"):
        faults.append((f"{where}.replicas.min", f"must be at least 1: {scaler.kind} does not scale from zero"))
    if model.queue.per == "replica" and deployment.router is None:
        faults.append(("router", "is missing: engines of their own (queue.per: replica) need one"))
    if faults:
        raise SpecError([Fault("deployment", field, what) for field, what in faults])


def _idle_faults(model: Model, where: str) -> list[tuple[str, str]]:
    """What `idle` needs: one replica at most, and none if it is to go."""
    replicas, faults = model.replicas, []
    if replicas.min != 0:
        faults.append((f"{where}.replicas.min", f"must be 0, or kind idle never acts; got {replicas.min}"))
    if replicas.max != 1:
        faults.append((f"{where}.replicas.max", f"must be 1: kind idle has one come and go; got {replicas.max}"))
    if model.queue.per == "replica":
        faults.append((f"{where}.queue.per", "must be node: kind idle drains a replica, not an engine"))
    return faults


def _hedge(hedge: HedgeSpec | None) -> Hedge | None:
    """When requests are hedged, as planes take it."""
    return None if hedge is None else Hedge(P95 if isinstance(hedge.after, str) else hedge.after)


BATCH_DEADLINE_LEAST_NS = 10**9
BATCH_DEADLINE_FACTOR = 20
"""A batch hangs if it takes so many times the p99 of a full one, and a second at least (rule 19)."""


def batch_deadline_ns(service: Service, spec: SchedulerSpec) -> int:
    """After so long a batch is taken to hang."""
    cell = (service.pressure_max * (service.rows_max + 1) + spec.max_batch) << service.bits
    p99_ns = float(np.quantile(service.table[cell : cell + (1 << service.bits)], 0.99))
    return max(BATCH_DEADLINE_LEAST_NS, round(BATCH_DEADLINE_FACTOR * p99_ns * float(service.levels.max())))


def row_ns(service: Service, spec: SchedulerSpec) -> int:
    """What a row of a full batch is expected to take of a replica without neighbours."""
    cell = spec.max_batch << service.bits
    return int(service.table[cell : cell + (1 << service.bits)].mean() / spec.max_batch)


def model_name(deployment: Deployment, workload: Workload) -> str:
    """The one model that a workload asks for; SpecError for more, for one that is not deployed or a bad priority."""
    only = next(iter(deployment.models)) if len(deployment.models) == 1 else None
    faults, names = [], set()
    for class_name, class_ in workload.classes.items():
        where = f"workload.classes.{class_name}"
        name = class_.model or only
        if name not in deployment.models:
            known = ", ".join(deployment.models)
            faults.append(Fault("scenario", f"{where}.model", f"must be one of {known}, got {class_.model or 'none'}"))
            continue
        names.add(name)
        levels = deployment.models[name].queue.priority_levels
        if class_.priority >= levels:
            what = f"must be below the deployment's queue.priority_levels ({levels}), got {class_.priority}"
            faults.append(Fault("scenario", f"{where}.priority", what))
    if len(names) > 1:
        what = f"must ask for one model, got {', '.join(sorted(names))}; several on one node cannot be simulated yet"
        faults.append(Fault("scenario", "workload.classes", what))
    if faults:
        raise SpecError(faults)
    return str(names.pop())


def core_warnings(deployment: Deployment) -> list[str]:
    """Single nodes that have fewer cores than the replicas' threads.

    No fault, since such a node runs; but its replicas then wait for each other, which nobody measured.
    """
    if deployment.node_count > 1:
        return []  # replicas are placed where there is room for them
    models = [(f"models.{name}.replicas", model.replicas) for name, model in deployment.models.items()]
    needed = sum(replicas.count * replicas.threads for _, replicas in models)
    asked = " + ".join(f"{replicas.count} x {replicas.threads}" for _, replicas in models)
    where = ", ".join(field for field, _ in models)
    return [
        f"{where}: {asked} (count x threads) need {needed} cores, but a node of pools.{name} has {pool.cores}: fewer "
        "replicas or threads, or more cores"
        for name, pool in deployment.pools.items()
        if pool.cores is not None and needed > pool.cores
    ]


def _apart(model: Model, found: Sequence[Place]) -> list[str]:
    """A warning if engines that share a machine are simulated as if they did not."""
    most = max(place.replicas for place in found)
    if model.queue.per == "node" or most == 1:
        return []
    return [f"queue.per: up to {most} engines share a machine; they are simulated without slowing each other"]


def _changed(model: Model, path: Path) -> tuple[str, ...]:
    """A warning if the profile is not the one that the deployment was planned with."""
    if model.profile_sha256 is None or sha256(path) == model.profile_sha256:
        return ()
    return (f"{path}: is not the profile that the deployment was planned with (profile_sha256 differs)",)
