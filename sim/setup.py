"""A scenario made ready to run: its model's measured service times, its load, its front, its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np

from serve.autoscaler import Idle
from serve.deployment import Deployment
from serve.policy.routing import ROUTE_ROUND_ROBIN
from serve.policy.scaling.rollout import thresholds
from serve.router import ROUTES, UNBOUNDED_ROWS, ejection_of, hedge_of
from sim.billing.prices import PriceBook
from sim.drawing import closed_clients
from sim.machines import Machine, Slot
from sim.mishaps import Mishaps
from sim.placing import Host, Placing
from sim.plane import Closed, Estate, Ints, Node, Router
from sim.pricing import Priced
from sim.rng import stream
from sim.scenario import Workload
from sim.service import Drawn
from sim.serving import Serving
from sim.workload import Load

Kinds = tuple[Drawn, ...]
"""What was drawn for one version, by the kind of its machines."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Requests of one class that one version serves: what the planes count apart."""

    class_: int
    group: int


def first_of_class(portions: Sequence[Portion]) -> list[int]:
    """By class: the number of its first portion, as which its requests arrive."""
    return [i for i, each in enumerate(portions) if i == 0 or each.class_ != portions[i - 1].class_]


@dataclass(frozen=True)
class Setup:
    """What every replication of a simulation shares."""

    deployment: Deployment
    workload: Workload
    prices: Priced
    starts: datetime
    served: tuple[Serving, ...]  # the versions of the models that are asked for, by group of the plane
    portions: tuple[Portion, ...]  # class by class, version by version
    load: Load  # of which sources have the numbers of their first portions
    placing: Placing
    slo_ns: Ints  # by portion
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
        """Replicas of all models that are there at first."""
        return sum(serving.count for serving in self.served)

    @property
    def models(self) -> dict[str, range]:
        """The groups of each model."""
        found: dict[str, range] = {}
        for group, serving in enumerate(self.served):
            first = found[serving.name].start if serving.name in found else group
            found[serving.name] = range(first, group + 1)
        return found

    @property
    def group_of(self) -> tuple[int, ...]:
        """By portion: which version serves it."""
        return tuple(portion.group for portion in self.portions)

    @property
    def shares(self) -> tuple[float, ...]:
        """By group: the share of its model's traffic that it has at first."""
        return tuple(serving.model.share_of(serving.version_name) for serving in self.served)

    def by_class(self, portions: Ints) -> Ints:
        """What is counted by portion (its first axis), by class."""
        summed: Ints = np.add.reduceat(portions, first_of_class(self.portions), axis=0)
        return summed

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """The machines that can hold replicas, by their number among all nodes of the deployment."""
        return self.placing.hosts

    @property
    def closed(self) -> Closed | None:
        """The closed-loop clients."""
        return closed_clients(self.load)

    def drawn(self, replication: int) -> tuple[Kinds, ...]:
        """Service times of one replication by version and kind of machine, each from its own bootstrap, and paths of
        the machine's level."""
        found = []
        for number, serving in enumerate(self.served):
            own = []
            for index, kind in enumerate(serving.kinds):
                purpose = f"bootstrap of {serving.label}" if number > 0 else "bootstrap"
                purpose = f"{purpose} on {kind.path.name}" if index > 0 else purpose
                rng = stream(self.seed, replication, "calibration", purpose)
                own.append(kind.law.bootstrap(rng, self.load.duration_ns))
            found.append(tuple(own))
        return tuple(found)

    def estate(self, drawn: Sequence[Kinds], replication: int) -> Estate:
        """What a plane simulates: the nodes that hold replicas, version by version, their machines, and the router."""
        nodes: list[Node] = []
        groups: list[int] = []
        machines: list[int] = []
        levels = self._levels(drawn, replication)
        for group, (serving, own) in enumerate(zip(self.served, drawn, strict=True)):
            for place in serving.places:
                machine, level = levels[place.node]
                there = serving.nodes(serving.kind(place.pool).on(own[serving.kind_of[place.pool]], level), place)
                nodes += there
                groups += [group] * len(there)
                machines += [machine] * len(there)
        shared = len(set(machines)) < len(machines)
        several = len(self.served) > 1
        return Estate(tuple(nodes), self.router, tuple(groups) if several else (), tuple(machines) if shared else ())

    def _levels(self, drawn: Sequence[Kinds], replication: int) -> dict[int, tuple[int, Drawn]]:
        """By node: which of the machines it is, and something drawn there, whose level takes the machine's path."""
        found = {}
        for machine, host in enumerate(self.hosts):
            there = [group for group, serving in enumerate(self.served) if host.pool in serving.kind_of]
            moved = next((group for group in there if not self.served[group].main.law.exact), there[0])
            kind = self.served[moved].kind_of[host.pool]
            level = drawn[moved][kind]
            if machine > 0:
                rng = stream(self.seed, replication, "node", str(host.node))
                level = self.served[moved].kinds[kind].law.elsewhere(level, rng, self.load.duration_ns)
            found[host.node] = machine, level
        return found

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that can hold replicas; of each pool the first so many are always there."""
        found, seen = [], Counter[str]()
        for host in self.hosts:
            pool = self.deployment.pools[host.pool]
            fixed = seen[host.pool] < pool.least
            seen[host.pool] += 1
            size = self.placing.sizes.get(host.node)
            spot = pool.buy == "spot"
            found.append(Machine(fixed, pool.provision, pool.empty_after, host.pool, size, spot))
        return tuple(found)

    @property
    def book(self) -> PriceBook:
        """The prices that it is billed by."""
        return self.prices.book

    @cached_property
    def slots(self) -> tuple[tuple[Slot, ...], ...]:
        """By group: where its replicas can run, in the order in which places are taken: by pool as preferred, then by
        node."""
        machine_of = {host.node: machine for machine, host in enumerate(self.hosts)}
        found = []
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
            found.append(tuple(slot for _, _, slot in sorted(own, key=lambda each: each[:2])))
        return tuple(found)

    def nodes_of(self, group: int) -> range:
        """The numbers of a version's nodes, as planes number them."""
        counts = [sum(each.node_count(place) for place in each.places) for each in self.served]
        return range(sum(counts[:group]), sum(counts[: group + 1]))

    # -- what changes --------------------------------------------------------------------------------------

    @property
    def scaled(self) -> bool:
        """Whether an autoscaler sets the number of some model's replicas."""
        return any(serving.model.replicas.autoscaler is not None for serving in self.served)

    @property
    def metered(self) -> bool:
        """Whether control looks at what nodes count: an autoscaler does, and who waits until one is empty."""
        return self.scaled or any(event.rollout is not None for event in self.mishaps.events)

    @property
    def controlled(self) -> bool:
        """Whether anything happens to replicas and machines."""
        return self.scaled or self.mishaps.any

    @property
    def changing(self) -> bool:
        """Whether what there is to serve with changes over time."""
        return self.scaled or self.mishaps.changes

    @property
    def router(self) -> Router | None:
        """The router, as planes take it."""
        router, served_by, several = self.deployment.router, self._served_by, len(self.served) > 1
        if router is None:  # several models on one machine: each has its queue there, with nothing in between
            return Router(ROUTE_ROUND_ROBIN, served_by=served_by) if several else None
        clients = [list(self.workload.classes.values())[portion.class_].client for portion in self.portions]
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
            credits=tuple(serving.model.credit_rows for serving in self.served),
            served_by=served_by if several else (),
            versioned=True,
            split=self._split if several else (),
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
    def _served_by(self) -> tuple[range, ...]:
        """By portion: the versions that may serve its requests, all of them for those that arrive as the first."""
        models = self.models
        return tuple(
            models[serving.name] if models[serving.name].start == group else range(group, group + 1)
            for group, serving in ((group, self.served[group]) for group in self.group_of)
        )

    @property
    def _split(self) -> tuple[int, ...]:
        """By group: up to where a model's draws go to it and the versions before it."""
        return tuple(
            upto for groups in self.models.values() for upto in thresholds(self.shares[groups.start : groups.stop])
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
