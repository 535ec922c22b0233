"""Capacity: throughput of a workload's row mix while the queue is never empty."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from serve.policy.codes import NEVER_NS, OUTCOME_OK, POLICY_TF_SERVING
from serve.policy.front import FRONT_BUDGET_NS
from sim.plane import Closed, Ints, Node, Requests, StopCode
from sim.planes import build_plane
from sim.rng import stream, uniform_bits
from sim.scenario import Engine
from sim.serving import Kind, Serving
from sim.setup import Setup
from sim.workload import Source

BATCHES = 2400
"""Batches in all, about (fewer on one replica): the batch times' own noise is then below a per cent."""

_TURNS_MIN, _TURNS_MAX = 60, 600  # batches of one replica

SLOTS_MOST = 2
"""Slots of a replica that must be filled: of one that has any number, further ones add nothing."""

_UNBOUNDED_BATCHES = 2**30

_BINS = 10  # of the run; the first is warm-up, the last has requests not yet answered


def capacity_rps(setup: Setup, engine: Engine) -> float:
    """Requests per second that the nodes answer at most together, at the machine's mean level.

    The router does not come into it: there is always something for every node to do. Of several models it is the rate
    of all requests at which the first of them has reached its own.
    """
    weights = np.array([source.weight for source in setup.load.sources])
    found, shares = [], setup.shares
    for group, serving in enumerate(setup.served):
        alike = Counter((place.replicas, serving.kind_of[place.pool]) for place in serving.places)
        own = sum(n * node_capacity_rps(setup, engine, *of, group) for of, n in sorted(alike.items()))
        asked = sum(float(weights[p.class_]) * shares[group] for p in setup.portions if p.group == group)
        found.append(own * float(weights.sum()) / asked if asked > 0 else math.inf)
    return min(found) if min(found) < math.inf else own


def node_capacity_rps(setup: Setup, engine: Engine, replicas: int, kind: int = 0, group: int = 0) -> float:
    """Requests per second that a node with so many replicas of a version answers at most, alone on its machine, which
    is of one of its kinds.

    Simulated with so many clients without a think time that more than a batch always waits, without
    deadlines, bound of the queue or budget of the front, which would only take work away.
    """
    serving = setup.served[group]
    node = _unbounded(serving, serving.kinds[kind], replicas)
    batch, slots = serving.spec.max_batch, min(serving.spec.slots, SLOTS_MOST)
    clients = (replicas * (slots + 1) + 4) * batch
    turns = max(_TURNS_MIN, min(_TURNS_MAX, BATCHES // replicas))
    duration_ns = turns * max(1, _batch_ns(node))
    closed = Closed(class_=np.zeros(clients, np.int64), think_ns=np.zeros(clients, np.int64))
    bin_ns = duration_ns // _BINS
    plane = build_plane(engine, node, 1, closed, _BINS + 1, bin_ns, np.full(1, NEVER_NS, np.int64))
    for replica in range(replicas):
        plane.ready(replica)
    plane.end_feed()
    draws = _Mix(setup, group)
    plane.feed_closed(draws.requests(4 * clients))
    while plane.advance(duration_ns).code == StopCode.STARVED:
        plane.feed_closed(draws.requests(4 * clients))
    answered = int(plane.tally().outcomes[0, 1 : _BINS - 1, OUTCOME_OK].sum())
    return answered / ((_BINS - 2) * bin_ns * 1e-9)


def _unbounded(serving: Serving, kind: Kind, replicas: int) -> Node:
    node = serving.node(kind, kind.law.expected(), replicas)
    front = node.front.copy()
    front[FRONT_BUDGET_NS] = -1
    spec = replace(node.scheduler, max_queue=-1)
    if spec.policy == POLICY_TF_SERVING:
        spec = replace(spec, settings=(_UNBOUNDED_BATCHES,))
    return replace(node, front=front, scheduler=spec)


def _batch_ns(node: Node) -> int:
    """Mean service time of a full batch beside all its neighbours."""
    service = node.service
    cell = service.pressure_max * (service.rows_max + 1) + node.scheduler.max_batch
    return int(service.table[cell << service.bits : (cell + 1) << service.bits].mean())


class _Mix:
    """Requests of all classes that ask for a model, mixed by their rates."""

    def __init__(self, setup: Setup, group: int) -> None:
        self._sources = [setup.load.sources[p.class_] for p in setup.portions if p.group == group]
        weights = np.array([source.weight for source in self._sources])
        self._edges = np.cumsum(weights) / max(weights.sum(), 1e-300)
        self._rng = stream(setup.seed, 0, "capacity", "mix")

    def requests(self, count: int) -> Requests:
        """The next so many."""
        chosen = np.minimum(np.searchsorted(self._edges, self._rng.random(count)), len(self._sources) - 1)
        by_class = np.stack([_rows(source, self._rng, count) for source in self._sources])
        never = np.full(count, NEVER_NS, np.int64)
        zeros = np.zeros(count, np.int64)
        return Requests(
            arrival_ns=zeros,
            rows=np.ascontiguousarray(by_class[chosen, np.arange(count)]),
            class_=zeros,
            priority=zeros,
            timeout_ns=never,
            patience_ns=never,
            client_ns=zeros,
            draw=uniform_bits(self._rng, count).reshape(1, count),
        )


def _rows(source: Source, rng: np.random.Generator, count: int) -> Ints:
    if source.given_rows is None:
        return source.rows(rng, count)
    return source.given_rows[rng.integers(0, len(source.given_rows), count)]
