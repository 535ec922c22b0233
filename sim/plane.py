"""The Plane: what both simulators are given, do and return, so that the same code drives either.

A plane simulates a node (front, queue, replicas), or an estate of nodes behind a router, and is
advanced in time by its caller, which adds control (replica up, dead, drain) between two advances.
`sim.reference` is the SimPy plane over the production scheduler, `sim.dataplane` the compiled one;
from the same inputs they take the same decision on every request, to the nanosecond. Both are
built alike:

    Reference(node, classes, closed=None, *, time_bins=1, bin_ns=2**62, slo_ns=None, fine=NO_FINE)
    DataPlane(node, classes, closed=None, *, keep="tally", time_bins=1, bin_ns=2**62, slo_ns=None, fine=NO_FINE,
              pool=1024, metered=False)

`classes` is the number of request classes, `slo_ns` (classes,) the latency bound of goodput,
`time_bins` and `bin_ns` the time bins of the tally, `fine` number and width of the error budget's;
`keep` is "tally", "rows" or "both" (the reference always keeps rows); `metered` planes can be
scraped (the reference always can); `pool` is where the number of requests present starts: it grows.
A run is: feed (and feed_closed), end_feed, ready(0), ..., then `advance` until it returns UNTIL,
feeding more on STARVED. `now_ns` is the instant of the last stop, where control acts.

Instants and spans are int64 ns. Chance enters only as the arrays of `Requests`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np

from serve.ejection import Ejection
from serve.hedging import P95, Hedge
from serve.policy.codes import NEVER_NS, POLICY_RAY_SERVE
from serve.policy.front import FRONT_BUDGET_NS, FRONT_PARAM_COUNT
from serve.policy.retries import ATTEMPTS_MAX
from serve.policy.scaling.metering import Scrape
from serve.policy.service import COLD_KNOTS
from serve.records import Rows
from serve.scheduler import SchedulerSpec
from sim.tally import HISTOGRAM_BINS as HISTOGRAM_BINS
from sim.tally import HISTOGRAM_SUB_BITS as HISTOGRAM_SUB_BITS
from sim.tally import SUM_ANSWER_S as SUM_ANSWER_S
from sim.tally import SUM_CLIENT_S as SUM_CLIENT_S
from sim.tally import SUM_COMPUTE_S as SUM_COMPUTE_S
from sim.tally import SUM_COUNT as SUM_COUNT
from sim.tally import SUM_FRONT_S as SUM_FRONT_S
from sim.tally import SUM_LATENCY_S as SUM_LATENCY_S
from sim.tally import SUM_LATENCY_SQUARED_S2 as SUM_LATENCY_SQUARED_S2
from sim.tally import SUM_QUEUE_S as SUM_QUEUE_S
from sim.tally import SUM_SLOT_S as SUM_SLOT_S
from sim.tally import Floats as Floats
from sim.tally import Ints as Ints
from sim.tally import Tally as Tally
from sim.tally import empty_tally as empty_tally


@dataclass(frozen=True, slots=True)
class Service:
    """Service times as a table (see `serve.policy.service`) and the machine's level over time."""

    table: Ints  # ((pressure_max + 1) * (rows_max + 1)) << bits entries, flat
    bits: int
    rows_max: int
    pressure_max: int  # more busy neighbours than this count as this many
    levels: Floats = field(default_factory=lambda: np.ones(1))  # by start_ns // level_bin_ns; the last one lasts
    level_bin_ns: int = 2**62
    handover_ns: int = 0  # what a batch saves that waited in the second slot
    cold_ns: Ints = field(default_factory=lambda: np.zeros(COLD_KNOTS, np.int64))  # see `serve.policy.service.cold_ns`


@dataclass(frozen=True, slots=True)
class Node:
    """One node: the limits of its queue, its replicas, its front and its service times."""

    scheduler: SchedulerSpec
    replicas: int
    service: Service
    front: Ints = field(default_factory=lambda: free_front())  # vector of `serve.policy.front`
    retry_after_ns: int = 10_000_000  # what a refused closed-loop client waits at least
    row_ns: int = 0  # what a row is expected to take of a replica: what a router weighs work by
    batch_deadline_ns: int = NEVER_NS  # after its start the replica of a batch that hangs is killed (rule 14)


BUFFER = -1
"""What waits at the router for group 0, in place of a node: of a stop, or to be scraped; for group g: BUFFER - g."""

SPLIT_WHOLE = 2**31
"""What the parts of a model's versions are parts of."""

NO_ROUTE: Ints = np.zeros(0, np.int64)
"""For requests that no router sends."""


@dataclass(frozen=True, slots=True)
class Router:
    """What sends requests to nodes (rule 17)."""

    policy: int  # ROUTE_* of `serve.policy.routing`
    network_ns: int = 0  # from the router to a node, and back
    true_state: bool = False  # queues and work are known as they are, not as the nodes' last answers told them
    buffer_rows: int = 0  # that may wait at the router while there is no candidate (rule 16)
    retries: int = 0  # of a request whose attempt was lost or refused, at most
    budget_percent: int = 20  # retries at a time, of what is outstanding; a few are always allowed
    backoff_ns: int = 0  # the first retry waits less than this, each further one up to twice as long
    backoff_most_ns: int = 0  # no longer than this
    answer_timeout_ns: int = NEVER_NS  # an attempt of which nothing came back, over a cut network, is lost after this
    client_retries: tuple[int, ...] = ()  # by class: how often clients ask again when their patience has ended
    tells_empty: bool = False  # control is told whenever the last request has come to its end
    silent: tuple[bool, ...] = ()  # by class: whether nodes never learn that a client gave up, and work on
    ejection: Ejection | None = None  # when a node that fails is left alone
    hedge: Hedge | None = None  # when what is not answered yet is sent to another node as well
    credits: tuple[int, ...] = ()  # by group: rows that may be outstanding at a node before others wait; 0, (): any
    served_by: tuple[range, ...] = ()  # by class: the groups that serve it, versions of one model; (): group 0
    versioned: bool = False  # requests that the i-th version of a model serves count as i classes further on
    split: tuple[int, ...] = ()  # by group: up to where, of SPLIT_WHOLE, a model's draws go to it and those before it

    @property
    def attempts(self) -> int:
        """Attempts that one request may have."""
        return (1 + self.retries + (self.hedge is not None)) * (max(self.client_retries, default=0) + 1)


@dataclass(frozen=True, slots=True)
class Estate:
    """Nodes behind a router; none if there is but one node, which clients reach themselves.

    Nodes of a group serve the same requests, one version of one model; a group's nodes have successive numbers. Nodes
    on one machine slow each other as replicas of one node do.
    """

    nodes: tuple[Node, ...]
    router: Router | None = None
    groups: tuple[int, ...] = ()  # by node; (): all are of group 0
    machines: tuple[int, ...] = ()  # by node; (): each has one of its own

    @classmethod
    def of(cls, what: Node | Estate) -> Estate:
        """The estate of a single node, or the one that is given."""
        return cls((what,)) if isinstance(what, Node) else what

    @property
    def group_count(self) -> int:
        """How many groups there are."""
        return self.groups[-1] + 1 if self.groups else 1

    @property
    def group_of(self) -> tuple[int, ...]:
        """By node, the group that it is of."""
        return self.groups or (0,) * len(self.nodes)

    def nodes_of(self, group: int) -> range:
        """The nodes of a group."""
        if not self.groups:
            return range(len(self.nodes))
        first = self.groups.index(group)
        return range(first, first + self.groups.count(group))

    @property
    def rows_max(self) -> int:
        """Most rows that a batch can have on any node."""
        return max(node.scheduler.max_batch for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Requests:
    """Arrays by request id, ids counting up from `first_id`; `draw` has one row per death survived.

    Open arrivals are ordered by `arrival_ns`. Closed-loop requests are indexed by
    k * clients + client for the k-th request of a client, and their `arrival_ns` is unused but for
    k = 0, where it is the instant of the client's first request.
    """

    arrival_ns: Ints
    rows: Ints
    class_: Ints
    priority: Ints
    timeout_ns: Ints  # NEVER_NS: none
    patience_ns: Ints  # the client cancels at arrival + patience; NEVER_NS: never
    client_ns: Ints  # what client and network add to the server's latency
    draw: Ints  # (deaths + 1, n), non-negative, uniform over int64: service of a batch led by this request
    first_id: int = 0
    route: Ints = field(default_factory=lambda: NO_ROUTE)
    """What a router draws by, or keeps together (see `serve.policy.routing`); zeros if not given."""

    def __post_init__(self) -> None:
        if self.route is NO_ROUTE:
            object.__setattr__(self, "route", np.zeros(len(self.arrival_ns), np.int64))

    def __len__(self) -> int:
        return len(self.arrival_ns)


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed-loop clients: after an answer a client thinks, then sends its next request.

    It is sent at answered + client_ns + think; after a refusal (full, draining) the pause is
    max(think, retry_after), after a cancellation it counts from the instant the request was dropped;
    after anything but ok it is at least 1 ns, so that no client loops within an instant.
    """

    class_: Ints  # by client
    think_ns: Ints  # by client; one think time for all its requests
    first_id: int = 2**39  # ids of closed-loop requests start here, above every open one


class StopCode(IntEnum):
    """Why `advance` returned."""

    UNTIL = 0  # everything before `until`, and classes 0 and 1 at it, is handled
    STARVED = 1  # the open arrivals or closed-loop arrays that were fed ran out before `until`
    NO_REPLICA = 2  # an arrival met no replica that is up; of node BUFFER: no node, where nothing waited before
    DRAINED = 3  # a draining replica finished its last batch
    FAILED = 4  # a request failed by its last death
    EMPTY = 5  # the last request that the router waited for has come to its end
    DIED = 6  # a replica that hung was killed


@dataclass(frozen=True, slots=True)
class Stop:
    """Where an advance ended."""

    code: StopCode
    at_ns: int
    which: int = -1  # the request (NO_REPLICA, FAILED) or the replica (DRAINED, DIED)
    node: int = 0


def free_front() -> Ints:
    """A front whose jobs take no time and which refuses nobody."""
    front = np.zeros(FRONT_PARAM_COUNT, np.int64)
    front[6] = -1
    return front


def check_estate(estate: Estate, closed: Closed | None = None) -> None:
    """Refuse an estate that no plane can simulate; ValueError with the fault of a node or of the whole."""
    for node in estate.nodes:
        check_node(node, closed)
    router = estate.router
    levels = {node.scheduler.priority_levels for node in estate.nodes}
    faults = {
        "an estate needs nodes": not estate.nodes,
        "several nodes need a router": len(estate.nodes) > 1 and router is None,
        "nodes must have the same priorities": len(levels) > 1,
        "network_ns must not be negative": router is not None and router.network_ns < 0,
        "an ejection takes a failure and no negative time": router is not None
        and router.ejection is not None
        and (router.ejection.failures < 1 or router.ejection.base_ns < 0),
        "answer_timeout_ns must not be negative": router is not None and router.answer_timeout_ns < 0,
        "retries must not be negative": router is not None and min((router.retries, *router.client_retries)) < 0,
        f"a request can have {ATTEMPTS_MAX} attempts": router is not None and router.attempts > ATTEMPTS_MAX,
        "a hedge is sent after a time, or by the p95 of some answers": router is not None
        and router.hedge is not None
        and (router.hedge.after_ns < P95 or router.hedge.answers < 1),
    }
    if found := [*(text for text, wrong in faults.items() if wrong), *_check_parts(estate)]:
        raise ValueError("; ".join(found))


def _check_parts(estate: Estate) -> list[str]:
    """What is wrong with an estate's groups and machines."""
    count, groups, router = len(estate.nodes), estate.groups, estate.router
    numbers = sorted(set(groups))
    faults = {
        f"groups must have one entry for each of {count} nodes, 0, 1, ... in order": bool(groups)
        and (len(groups) != count or list(groups) != sorted(groups) or numbers != list(range(len(numbers)))),
        f"machines must have one entry, not negative, for each of {count} nodes": bool(estate.machines)
        and (len(estate.machines) != count or min(estate.machines) < 0),
        "nodes of several groups need a router": router is None and len(numbers) > 1,
    }
    if router is not None and not any(faults.values()):
        served = [group for class_ in router.served_by for group in class_]
        empty = any(len(class_) == 0 for class_ in router.served_by)
        faults["router.served_by must name groups that there are"] = (
            empty or max(served, default=0) >= estate.group_count
        )
        if router.split:
            check_split(estate, router.split)
    return [text for text, wrong in faults.items() if wrong]


def check_split(estate: Estate, upto: Sequence[int]) -> None:
    """Refuse parts of versions that are not one a group, or no parts."""
    if len(upto) != estate.group_count or min(upto) < 0 or max(upto) > SPLIT_WHOLE:
        raise ValueError(f"a split has {estate.group_count} parts up to {SPLIT_WHOLE}, got {list(upto)}")


def check_rotation(estate: Estate, nodes: Sequence[int], group: int) -> None:
    """Refuse to send what a group serves to other nodes."""
    if not 0 <= group < estate.group_count:
        raise ValueError(f"group must be in [0, {estate.group_count}), got {group}")
    if foreign := set(nodes).difference(estate.nodes_of(group)):
        raise ValueError(f"nodes {sorted(foreign)} are not of group {group}")


def check_node(node: Node, closed: Closed | None = None) -> None:
    """Refuse a node that no plane can simulate, before it gives nonsense.

    Raises
    ------
    ValueError: the service table's shape is not what its fields say, lacks batches that the
    scheduler may form, a front cost is negative, or closed-loop clients have ids of open requests.
    """
    service, spec = node.service, node.scheduler
    cells = (service.pressure_max + 1) * (service.rows_max + 1)
    faults = {
        f"service.table has {len(service.table)} entries, not {cells} cells << bits": len(service.table)
        != cells << service.bits,
        f"service.rows_max ({service.rows_max}) is below max_batch ({spec.max_batch})": service.rows_max
        < spec.max_batch,
        f"front must have {FRONT_PARAM_COUNT} entries": len(node.front) != FRONT_PARAM_COUNT,
        "front costs must not be negative": bool(np.any(node.front[:FRONT_BUDGET_NS] < 0)),
        "replicas must be at least 1": node.replicas < 1,
        "level_bin_ns must be positive": service.level_bin_ns < 1 or len(service.levels) < 1,
        f"cold_ns must be {COLD_KNOTS} ascending times": len(service.cold_ns) != COLD_KNOTS
        or bool(np.any(np.diff(service.cold_ns, prepend=0) < 0)),
        "batch_deadline_ns must be positive": node.batch_deadline_ns < 1,
        "slots must be 1 or 2": spec.slots not in (1, 2) and spec.policy != POLICY_RAY_SERVE,
        "service times and levels must not be negative": bool(np.any(service.table < 0) or np.any(service.levels < 0)),
        "closed.think_ns must have one entry a client": closed is not None
        and len(closed.think_ns) != len(closed.class_),
    }
    if found := [text for text, wrong in faults.items() if wrong]:
        raise ValueError("; ".join(found))


def check_bins(time_bins: int, bin_ns: int) -> None:
    """Refuse time bins that are none or have no width."""
    if time_bins < 1 or bin_ns < 1:
        raise ValueError(f"time_bins and bin_ns must be at least 1, got {time_bins} and {bin_ns}")


def within(values: Ints, bound: int) -> bool:
    """Whether all values lie in [0, bound)."""
    return len(values) == 0 or bool(values.min() >= 0 and values.max() < bound)


def check_requests(requests: Requests, node: Node, classes: int) -> None:
    """Refuse requests of a class or priority that the node does not have, or arrays of unequal length."""
    count = len(requests)
    columns = (requests.rows, requests.class_, requests.priority, requests.timeout_ns, requests.patience_ns)
    lengths = {len(c) for c in (*columns, requests.client_ns, requests.route)} | {requests.draw.shape[-1]}
    faults = {
        f"arrays must all have {count} entries": lengths != {count},
        "draw must be (deaths + 1, n)": requests.draw.ndim != 2,
        f"class must be in [0, {classes})": not within(requests.class_, classes),
        f"priority must be in [0, {node.scheduler.priority_levels})": not within(
            requests.priority, node.scheduler.priority_levels
        ),
    }
    if found := [text for text, wrong in faults.items() if wrong]:
        raise ValueError("; ".join(found))


def check_open(requests: Requests, now_ns: int) -> None:
    """Refuse open arrivals that are out of order or lie in the past."""
    arrival_ns = requests.arrival_ns
    if len(arrival_ns) and (arrival_ns[0] < now_ns or np.any(arrival_ns[1:] < arrival_ns[:-1])):
        raise ValueError(f"arrival_ns must be in order and not before now ({now_ns} ns)")


def check_first_closed(requests: Requests, closed: Closed, now_ns: int) -> None:
    """Refuse a first chunk of closed-loop requests that lacks a client's first one, or starts in the past."""
    clients = len(closed.class_)
    if len(requests) < clients or np.any(requests.arrival_ns[:clients] < now_ns):
        raise ValueError(f"the first closed-loop chunk must start each of {clients} clients, not before {now_ns} ns")


def check_slow(per_mille: int) -> None:
    """Refuse a node on which batches would take no time."""
    if per_mille < 1:
        raise ValueError(f"per_mille must be at least 1, got {per_mille}")


class Plane(Protocol):
    """A node, or an estate with its nodes numbered, under simulated time. Replicas are down until `ready`."""

    @property
    def now_ns(self) -> int:
        """Instant of the last stop."""

    @property
    def unsettled(self) -> int:
        """Requests that the router has not seen the end of; of an estate with a router."""

    def feed(self, requests: Requests) -> None:
        """Hand over the next open arrivals (ids go on where the last chunk ended)."""

    def feed_closed(self, requests: Requests) -> None:
        """Hand over the next requests of the closed-loop clients."""

    def end_feed(self) -> None:
        """No more open arrivals will come: `advance` no longer stops STARVED."""

    def advance(self, until_ns: int) -> Stop:
        """Handle every event before `until_ns`, and classes 0 and 1 at it; return early where control must react."""

    def ready(self, replica: int, node: int = 0) -> None:
        """Control, at the instant of the last stop: the replica is up."""

    def kill(self, replica: int, node: int = 0) -> None:
        """Control: the replica dies (rule 8)."""

    def drain_replica(self, replica: int, node: int = 0) -> None:
        """Control: the replica takes no more batches."""

    def retire(self, replica: int, node: int = 0) -> None:
        """Control: a replica goes, unless it has a batch; a new one may be ready in its place."""

    def drain(self, node: int = 0) -> None:
        """Control: the node drains (rule 12)."""

    def lose(self, node: int) -> None:
        """Control: the node goes, and all that it holds (rule 14); a replica that is ready there is one of a new node.
        Of an estate with a router."""

    def rotate(self, nodes: Sequence[int], group: int = 0) -> None:
        """Control: from now on the router sends to these nodes of a group only; at first it sends to all."""

    def split(self, upto: Sequence[int]) -> None:
        """Control: from now on requests are given to the versions of their models by these parts (see `Router`)."""

    def slow(self, node: int, per_mille: int) -> None:
        """Control: batches that start at the node from now on take so many thousandths of their time (grey failure);
        1000: as they should. A new node is not slow."""

    def hang(self, replica: int, node: int = 0) -> None:
        """Control: the batch that runs on a replica that is up, else the next to start there, never ends; after
        `batch_deadline_ns`, at the place of its end, the replica is killed (rule 8), which control is told (DIED)."""

    def cut(self, node: int, off: bool) -> None:
        """Control: nothing passes between router and node any more, or again: what reaches the other side meanwhile is
        dropped, and lost `answer_timeout_ns` after the attempt was sent; the node works on. Of an estate with a router.
        """

    def scrape(self, node: int = 0) -> Scrape:
        """What is counted of a node, now (rule 13)."""

    def outcomes(self) -> Ints:
        """(classes, OUTCOME_COUNT): requests that have come to their end by now; with a router (planes built to
        tally)."""

    def rows(self) -> Rows:
        """The rows of all requests that left by `now_ns`, by request id (planes built to keep rows); with a router, of
        all attempts that it has heard of, by (request, attempt).

        A request that left was answered, refused or dropped; `answered_ns` is when, also for a
        cancelled one. What a death undid (replica, batch, dispatch, start) is -1 again.
        """

    def tally(self) -> Tally:
        """Histograms and sums so far (planes built to tally)."""
