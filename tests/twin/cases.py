"""Random nodes and arrivals on coarse grids of time, and what two planes make of them.

A case is drawn from (family, seed, size, features): the fewer and smaller these are, the simpler
the case, which is how hypothesis shrinks one. Times are small multiples of a grid, so that events
fall on the same instant all the time; each feature of the rulebook is a bit that can be switched off.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serve.batching import SLOTS_UNBOUNDED, triton_settings
from serve.ejection import Ejection
from serve.hedging import P95, Hedge
from serve.policy.codes import (
    NEVER_NS,
    POLICY_LITSERVE,
    POLICY_MOSEC,
    POLICY_RAY_SERVE,
    POLICY_TF_SERVING,
    POLICY_TORCHSERVE,
    POLICY_TRITON,
)
from serve.policy.front import (
    FRONT_BUDGET_NS,
    FRONT_DISPATCH_NS,
    FRONT_DISPATCH_NS_PER_KIB,
    FRONT_DISPATCH_NS_PER_REQUEST,
    FRONT_PARAM_COUNT,
    FRONT_TIMER_LATE_NS,
)
from serve.policy.scaling.metering import Scrape
from serve.policy.service import COLD_KNOTS
from serve.records import COLUMNS, Rows
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import (
    BUFFER,
    SPLIT_WHOLE,
    Closed,
    Estate,
    Ints,
    Node,
    Plane,
    Requests,
    Router,
    Service,
    Stop,
    StopCode,
)
from sim.reference import Reference
from sim.tally import Tally

FEATURES = (
    "rows",
    "window",
    "bound",
    "priorities",
    "slots",
    "deadlines",
    "patience",
    "front",
    "budget",
    "late",
    "closed",
    "deaths",
    "drains",
    "neighbours",
    "levels",
    "stops",
    "cold",
    "faults",
    "engines",
)
END_NS = 10**12
ENGINES = (
    POLICY_TRITON,
    POLICY_TF_SERVING,
    POLICY_TORCHSERVE,
    POLICY_MOSEC,
    POLICY_LITSERVE,
    POLICY_RAY_SERVE,
)
POLICIES = range(7)  # ROUTE_* of `serve.policy.routing`


@dataclass(frozen=True)
class Case:
    """A node or an estate, what arrives, and when control acts or the clock is stopped."""

    what: Node | Estate
    chunks: list[Requests]
    closed: Closed | None
    closed_chunks: list[Requests]
    acts: list[tuple[int, str, int, int]]  # (instant, method of Plane or "", replica, node), in order
    pool: int
    time_bins: int
    bin_ns: int
    slo_ns: Ints
    fine: tuple[int, int]
    classes: int = 2


def draw_case(family: int, seed: int, size: int, features: int) -> Case:
    """The case of these four numbers."""
    rng = np.random.default_rng([family, seed])
    on = {name: bool(features >> i & 1) for i, name in enumerate(FEATURES)}
    grid_ns = int(rng.choice([1, 10, 1000, 100_000]))  # the last reaches beyond the first knots of `cold_ns`
    node = _node(rng, on, grid_ns)
    arrivals = _arrivals(rng, on, grid_ns, size)
    closed, closed_chunks = _closed(rng, on, grid_ns, size) if on["closed"] else (None, [])
    return Case(
        what=node,
        chunks=_chunks(rng, arrivals),
        closed=closed,
        closed_chunks=closed_chunks,
        acts=sorted(_acts(rng, on, node, grid_ns, size), key=lambda act: act[0]),
        pool=int(rng.integers(1, 9)),
        time_bins=int(rng.integers(1, 4)),
        bin_ns=int(rng.integers(3, 40)) * grid_ns,
        slo_ns=rng.integers(0, 30, 2) * grid_ns,
        fine=(int(rng.integers(0, 5)), int(rng.integers(2, 25)) * grid_ns),
    )


def _node(rng: np.random.Generator, on: dict[str, bool], grid_ns: int) -> Node:
    max_batch = int(rng.integers(1, 7))
    spec = SchedulerSpec(
        max_batch=max_batch,
        window_ns=int(rng.integers(1, 9)) * grid_ns if on["window"] else 0,
        max_queue=int(rng.integers(0, 8)) if on["bound"] else -1,
        priority_levels=3 if on["priorities"] else 1,
        slots=2 if on["slots"] else 1,
        max_deaths=int(rng.choice([-1, 1, 2, 3])),
    )
    if on["engines"]:
        spec = _engine(rng, spec)
    bits, pressure_max, rows_max = int(rng.integers(0, 3)), int(rng.integers(1, 4)), max_batch + int(rng.integers(0, 2))
    shape = (pressure_max + 1, rows_max + 1, 1 << bits)
    # A service of no time ends within its own instant; closed loops could then spin on the spot.
    table = rng.integers(1 if on["closed"] else 0, 9, shape)
    table += rng.integers(0, 3, (pressure_max + 1, 1, 1)) if on["neighbours"] else 0
    if not on["neighbours"]:
        table[:] = table[0]
    levels = rng.choice([0.5, 1.0, 1.37, 3.0], 4) if on["levels"] else np.ones(1)
    handover_ns = int(rng.integers(0, 4)) * grid_ns if on["slots"] else 0
    cold_ns = np.cumsum(rng.integers(0, 3, COLD_KNOTS)) * grid_ns if on["cold"] else np.zeros(COLD_KNOTS, np.int64)
    service = Service(
        (table * grid_ns).ravel(), bits, rows_max, pressure_max, levels, 13 * grid_ns, handover_ns, cold_ns
    )
    node = Node(spec, int(rng.integers(1, 5)), service, _front(rng, on, grid_ns), int(rng.integers(1, 20)) * grid_ns)
    return replace(node, batch_deadline_ns=int(rng.integers(1, 20)) * grid_ns) if on["faults"] else node


def _engine(rng: np.random.Generator, spec: SchedulerSpec) -> SchedulerSpec:
    """The same under another engine's policy; only Triton knows priorities."""
    known = ENGINES if spec.priority_levels == 1 else (POLICY_TRITON,)
    policy, slots = int(rng.choice(known)), 1
    settings: tuple[int, ...] = ()
    if policy == POLICY_TRITON:
        preferred = sorted({int(size) for size in rng.integers(1, spec.max_batch + 1, int(rng.integers(1, 4)))})
        settings = triton_settings(preferred)
    elif policy == POLICY_TF_SERVING:
        settings, spec = (int(rng.integers(1, 5)),), replace(spec, max_queue=-1)
    elif policy == POLICY_RAY_SERVE:
        settings, slots = (int(rng.integers(1, 12)),), SLOTS_UNBOUNDED
    return replace(spec, policy=policy, settings=settings, slots=slots)


def _front(rng: np.random.Generator, on: dict[str, bool], grid_ns: int) -> Ints:
    front = np.zeros(FRONT_PARAM_COUNT, np.int64)
    if on["front"]:
        front[:6] = rng.integers(0, 3, 6) * rng.integers(0, 2, 6) * grid_ns
        front[[7, 8]] = rng.choice([0, 1024, 700], 2)
        handing_over = [FRONT_DISPATCH_NS, FRONT_DISPATCH_NS_PER_KIB, FRONT_DISPATCH_NS_PER_REQUEST]
        front[handing_over] = rng.integers(0, 3, 3) * rng.integers(0, 2, 3) * grid_ns
    front[FRONT_BUDGET_NS] = int(rng.integers(0, 5)) * grid_ns if on["budget"] else -1
    front[FRONT_TIMER_LATE_NS] = int(rng.integers(1, 4)) * grid_ns if on["late"] else 0
    return front


def _asked(rng: np.random.Generator, on: dict[str, bool], grid_ns: int, arrival_ns: Ints) -> Requests:
    count = len(arrival_ns)
    never = np.full(count, NEVER_NS)

    def some(feature: str, low: int, high: int) -> Ints:
        values = rng.integers(low, high, count) * grid_ns
        return np.where(rng.random(count) < 0.7, values, never) if on[feature] else never

    return Requests(
        arrival_ns=arrival_ns,
        rows=rng.integers(1, 5, count) if on["rows"] else np.ones(count, np.int64),
        class_=rng.integers(0, 2, count),
        priority=rng.integers(0, 3, count) if on["priorities"] else np.zeros(count, np.int64),
        timeout_ns=some("deadlines", 0, 15),
        patience_ns=some("patience", 0, 25),
        client_ns=rng.integers(0, 3, count) * grid_ns,
        draw=rng.integers(0, 2**62, (int(rng.integers(1, 4)), count)),
    )


def _arrivals(rng: np.random.Generator, on: dict[str, bool], grid_ns: int, size: int) -> Requests:
    gaps = rng.choice([0, 0, 1, 2, 5], size) if rng.random() < 0.7 else rng.integers(0, 12, size)
    return _asked(rng, on, grid_ns, np.cumsum(gaps, dtype=np.int64) * grid_ns)


def _chunks(rng: np.random.Generator, requests: Requests, first: int = 1) -> list[Requests]:
    """The same requests in chunks of random sizes, the first one of at least `first`."""
    chunks, at = [], 0
    while at < len(requests):
        upto = at + max(int(rng.integers(1, len(requests) + 1)), 0 if at else first)
        columns = {
            f.name: getattr(requests, f.name)[..., at:upto]
            for f in dataclasses.fields(Requests)
            if f.name != "first_id"
        }
        columns["draw"] = columns["draw"][: int(rng.integers(1, len(requests.draw) + 1))]
        chunks.append(Requests(**columns, first_id=at))
        at = upto
    return chunks


def _closed(rng: np.random.Generator, on: dict[str, bool], grid_ns: int, size: int) -> tuple[Closed, list[Requests]]:
    clients = int(rng.integers(1, 5))
    think_ns = rng.integers(0, 6, clients) * grid_ns
    count = clients * int(rng.integers(1, 2 + size // 4))
    requests = _asked(rng, on, grid_ns, rng.integers(0, 9, count) * grid_ns)
    return Closed(requests.class_[:clients], think_ns), _chunks(rng, requests, clients)


def draw_estate(family: int, seed: int, size: int, features: int) -> Case:
    """The same of an estate: some nodes, unlike each other, behind a router."""
    rng = np.random.default_rng([family, seed])
    on = {name: bool(features >> i & 1) for i, name in enumerate(FEATURES)}
    grid_ns = int(rng.choice([1, 10, 1000, 100_000]))
    nodes = tuple(
        replace(_node(rng, on, grid_ns), row_ns=int(rng.integers(1, 4)) * grid_ns) for _ in range(rng.integers(1, 6))
    )
    router = Router(
        int(rng.choice(POLICIES)),
        network_ns=int(rng.integers(0, 4)) * grid_ns,
        true_state=bool(rng.integers(0, 2)),
        buffer_rows=int(rng.choice([0, 0, 3, 40])),
        tells_empty=bool(rng.integers(0, 2)),
        retries=int(rng.integers(0, 4)),
        budget_percent=int(rng.choice([0, 20, 100])),
        backoff_ns=int(rng.integers(0, 4)) * grid_ns,
        backoff_most_ns=int(rng.integers(0, 9)) * grid_ns,
        answer_timeout_ns=int(rng.integers(0, 40)) * grid_ns if on["faults"] else NEVER_NS,
        client_retries=(int(rng.integers(0, 4)), 0) if on["patience"] else (),
        silent=(False, bool(rng.integers(0, 2))) if on["patience"] else (),
        ejection=_ejection(rng, grid_ns),
        hedge=_hedge(rng, grid_ns),
    )
    arrivals = _with_routes(rng, _arrivals(rng, on, grid_ns, size))
    closed, closed_chunks = _closed(rng, on, grid_ns, size) if on["closed"] else (None, [])
    acts = [act for number, node in enumerate(nodes) for act in _acts(rng, on, node, grid_ns, size, number)]
    if on["deaths"]:
        for _ in range(int(rng.integers(0, 3))):
            at_ns, number = int(rng.integers(0, 2 * size)) * grid_ns, int(rng.integers(0, len(nodes)))
            back_ns = at_ns + int(rng.integers(0, 15)) * grid_ns
            acts.append((at_ns, "lose", 0, number))
            acts += [(back_ns, "ready", replica, number) for replica in range(nodes[number].replicas)]
    groups, machines, served_by, split = _parts(rng, len(nodes))
    if on["stops"]:
        for act in ("rotate", "rotate", "rotate", "split"):
            at_ns, bits = int(rng.integers(0, 2 * size)) * grid_ns, int(rng.integers(0, 2**20))
            acts.append((at_ns, act, bits, int(rng.integers(0, max(groups, default=0) + 1))))
    if on["faults"]:
        for _ in range(int(rng.integers(0, 4))):
            at_ns, number = int(rng.integers(0, 2 * size)) * grid_ns, int(rng.integers(0, len(nodes)))
            acts += [(at_ns, "cut", 1, number), (at_ns + int(rng.integers(0, 30)) * grid_ns, "cut", 0, number)]
    credits = tuple(rng.choice([0, 1, 2, 5], max(groups, default=0) + 1).tolist()) if rng.random() < 0.5 else ()
    versioned = len(served_by) == 2 and len(served_by[0]) == 1
    classes = 1 + len(served_by[1]) if versioned else 2
    router = replace(router, served_by=served_by, split=split, versioned=versioned, credits=credits)
    return Case(
        what=Estate(nodes, router, groups, machines),
        chunks=_chunks(rng, arrivals),
        closed=closed,
        closed_chunks=[_with_routes(rng, chunk) for chunk in closed_chunks],
        acts=sorted((acts[i] for i in rng.permutation(len(acts))), key=lambda act: act[0]),
        pool=int(rng.integers(1, 9)),
        time_bins=int(rng.integers(1, 4)),
        bin_ns=int(rng.integers(3, 40)) * grid_ns,
        slo_ns=rng.integers(0, 30, classes) * grid_ns,
        fine=(int(rng.integers(0, 5)), int(rng.integers(2, 25)) * grid_ns),
        classes=classes,
    )


def _parts(rng: np.random.Generator, count: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[range, ...], Any]:
    """Groups and machines of so many nodes, groups by class, parts of versions; often none of them."""
    groups: tuple[int, ...] = (0,) * count
    machines: tuple[int, ...] = ()
    if rng.random() < 0.5:
        groups = tuple(np.cumsum([0, *rng.integers(0, 2, count - 1)]).tolist())
    if rng.random() < 0.5:
        machines = tuple(rng.integers(0, count, count).tolist())
    if groups[-1] == 0:
        return (), machines, (), ()
    firsts = rng.integers(0, groups[-1] + 1, 2).tolist()
    served_by = tuple(range(first, int(rng.integers(first, groups[-1] + 1)) + 1) for first in firsts)
    return groups, machines, served_by, _split(rng, groups[-1] + 1) if rng.random() < 0.7 else ()


def _split(rng: np.random.Generator, groups: int) -> tuple[int, ...]:
    return tuple(rng.choice([0, SPLIT_WHOLE // 3, SPLIT_WHOLE // 2, SPLIT_WHOLE], groups).tolist())


def _ejection(rng: np.random.Generator, grid_ns: int) -> Ejection | None:
    if rng.random() < 0.5:
        return None
    return Ejection(int(rng.integers(1, 4)), int(rng.integers(0, 20)) * grid_ns, int(rng.choice([10, 40, 100])))


def _hedge(rng: np.random.Generator, grid_ns: int) -> Hedge | None:
    if rng.random() < 0.4:
        return None
    return Hedge(P95 if rng.random() < 0.5 else int(rng.integers(0, 12)) * grid_ns, int(rng.integers(1, 8)))


def _with_routes(rng: np.random.Generator, requests: Requests) -> Requests:
    return replace(requests, route=rng.integers(0, 2**62, len(requests)))


def _acts(
    rng: np.random.Generator, on: dict[str, bool], node: Node, grid_ns: int, size: int, number: int = 0
) -> list[tuple[int, str, int, int]]:
    replicas, last = node.replicas, 2 * size + 10

    def when() -> int:
        return int(rng.integers(0, last)) * grid_ns

    late = rng.random() < 0.2  # replicas that come up one after another
    acts = [(when() if late else 0, "ready", r, number) for r in range(replicas)]
    if on["deaths"]:
        for _ in range(int(rng.integers(1, 6))):
            at, replica = when(), int(rng.integers(0, replicas))
            acts.append((at, "kill", replica, number))
            acts.append((at + int(rng.integers(0, 15)) * grid_ns, "ready", replica, number))
    if on["drains"]:
        drained = [int(rng.integers(0, replicas)) for _ in range(int(rng.integers(0, 3)))]
        acts += [(when(), "drain_replica", replica, number) for replica in drained]
        acts += [(when(), "drain", 0, number)] * int(rng.integers(0, 2))
        gone = [int(rng.integers(0, replicas)) for _ in range(int(rng.integers(0, 4)))]
        acts += [
            act for replica in gone for act in ((when(), "retire", replica, number), (when(), "ready", replica, number))
        ]
    if on["stops"]:
        acts += [(when(), "", 0, number) for _ in range(6)]
    if on["faults"]:
        acts += [(when(), "slow", int(rng.choice([1, 500, 1000, 3000])), number) for _ in range(3)]
        for _ in range(int(rng.integers(0, 4))):
            at, replica = when(), int(rng.integers(0, replicas))
            acts += [(at, "hang", replica, number), (at + int(rng.integers(0, 40)) * grid_ns, "ready", replica, number)]
    return [acts[i] for i in rng.permutation(len(acts))]


def stuck_head_case(count: int = 200) -> Case:
    """A request that waits at the head while those behind it come and cancel: its ring fills with holes."""
    instants = np.arange(count, dtype=np.int64) * 10
    ones, never = np.ones(count, np.int64), np.full(count, NEVER_NS)
    patience_ns = np.full(count, 15)
    patience_ns[::9] = NEVER_NS
    draw = np.zeros((1, count), np.int64)
    requests = Requests(instants, ones, ones * 0, ones * 0, never, patience_ns, ones * 0, draw)
    node = Node(SchedulerSpec(max_batch=2), 1, Service(np.full(3, 7), 0, 2, 0))
    acts = [(10 * count, "ready", 0, 0)]
    return Case(node, [requests], None, [], acts, 4, 1, 10**6, np.zeros(2, np.int64), (0, 1))


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of a plane that was taken through a case."""

    stops: list[Stop]
    scrapes: list[Scrape]  # of all nodes, at every such instant
    outcomes: list[list[list[int]]]  # of an estate, the same
    rows: list[Rows]  # at every instant at which control acts, and at the end
    tally: Tally
    ended: bool  # nothing was left to do


def run(plane: Plane, case: Case) -> Outcome:
    """Take a plane through a case."""
    chunks, closed_chunks = iter(case.chunks), iter(case.closed_chunks)
    stops: list[Stop] = []
    rows: list[Rows] = []
    scrapes: list[Scrape] = []
    outcomes: list[list[list[int]]] = []
    if case.closed is not None:
        plane.feed_closed(next(closed_chunks))
    open_ended = False
    nodes = range(len(Estate.of(case.what).nodes))
    for at_ns, act, replica, node in [*case.acts, (END_NS, "", 0, 0)]:
        while (stop := plane.advance(at_ns)).code != StopCode.UNTIL:
            stops.append(stop)
            if stop.code != StopCode.STARVED:
                continue
            chunk, closed_chunk = next(chunks, None), None
            if chunk is not None:
                plane.feed(chunk)
            elif not open_ended:
                plane.end_feed()
                open_ended = True
            elif (closed_chunk := next(closed_chunks, None)) is not None:
                plane.feed_closed(closed_chunk)
            else:
                return Outcome(stops, scrapes, outcomes, [*rows, plane.rows()], plane.tally(), False)
        stops.append(stop)
        rows.append(plane.rows())
        scrapes += [plane.scrape(number) for number in nodes]
        if isinstance(case.what, Estate):
            outcomes.append(plane.outcomes().tolist())
            scrapes += [plane.scrape(BUFFER - group) for group in range(case.what.group_count)]
        if act in ("ready", "kill", "drain_replica", "retire", "hang"):
            getattr(plane, act)(replica, node)
        elif act in ("drain", "lose"):
            getattr(plane, act)(node)
        elif act == "slow":
            plane.slow(node, replica)
        elif act == "cut":
            plane.cut(node, bool(replica))
        elif act == "rotate":
            of_group = Estate.of(case.what).nodes_of(node)
            plane.rotate([number for number in of_group if replica >> number & 1], node)
        elif act == "split":
            plane.split(_split(np.random.default_rng(replica), Estate.of(case.what).group_count))
    return Outcome(stops, scrapes, outcomes, rows, plane.tally(), True)


def both(case: Case) -> tuple[Outcome, Outcome]:
    """The case's outcome on the reference and on the data plane."""
    bins = {"time_bins": case.time_bins, "bin_ns": case.bin_ns, "slo_ns": case.slo_ns, "fine": case.fine}
    slow = run(Reference(case.what, case.classes, case.closed, **bins), case)  # type: ignore[arg-type]
    fast = run(DataPlane(case.what, case.classes, case.closed, keep="both", pool=case.pool, metered=True, **bins), case)  # type: ignore[arg-type]
    return slow, fast


def difference(slow: Outcome, fast: Outcome) -> str:
    """The first thing in which two outcomes differ, in words; empty if nothing."""
    for i, (a, b) in enumerate(zip(slow.rows, fast.rows, strict=False)):
        if a.shape != b.shape:
            return f"rows at stop {i}: reference {a[:, 0].tolist()}, data plane {b[:, 0].tolist()}"
        if wrong := np.argwhere(a != b).tolist():
            row, column = wrong[0]
            what = f"request {a[row, 0]}, {COLUMNS[column]}"
            return f"{what}: reference {a[row, column]}, data plane {b[row, column]} ({len(wrong)} fields differ)"
    if slow.stops != fast.stops or slow.ended != fast.ended:
        pairs = zip(slow.stops, fast.stops, strict=False)
        return f"stops: {next((p for p in pairs if p[0] != p[1]), (len(slow.stops), len(fast.stops)))}"
    if different := [pair for pair in zip(slow.scrapes, fast.scrapes, strict=False) if pair[0] != pair[1]]:
        return f"scrapes: {different[0]}"
    if slow.outcomes != fast.outcomes:
        return f"outcomes: {next(p for p in zip(slow.outcomes, fast.outcomes, strict=True) if p[0] != p[1])}"
    return _tally_difference(slow.tally, fast.tally) if slow.ended else ""


def _tally_difference(slow: Tally, fast: Tally) -> str:
    for f in dataclasses.fields(Tally):
        a, b = np.asarray(getattr(slow, f.name)), np.asarray(getattr(fast, f.name))
        same = np.allclose(a, b, rtol=1e-9, atol=1e-18) if a.dtype.kind == "f" else np.array_equal(a, b)
        if not same:
            return f"tally.{f.name}: reference {a[a != b]}, data plane {b[a != b]}"
    return ""
