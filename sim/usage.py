"""What a replication used, for its bill: machines while they were there, work on them, replicas up.

Instants are moved so that the window begins at 0; time bins are the tally's. Machines are numbered by the
order in which they were handed over, those that never hold a replica last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from serve.fleet import held_cores, places
from sim.billing.usage import CrossZone, FleetUsage, NodeUsage, Owner, ReplicaUsage, Work, up_of_replicas
from sim.history import History, Lease, Up
from sim.measures import Window
from sim.replication import Replication
from sim.serving import Serving
from sim.setup import Setup
from sim.tally import SUM_ROWS, Floats, Tally


@dataclass(frozen=True, slots=True)
class _Held:
    """A machine of a pool while it was there; `machine` none: it can hold no replica."""

    pool: str
    machine: int | None
    lease: Lease


def usage_of(setup: Setup, replication: Replication, window: Window) -> FleetUsage:
    """What the replication used within the window."""
    span_ns = window.first * window.bin_ns, window.last * window.bin_ns
    held = [each for each in _held(setup, replication) if each.lease.there_ns < span_ns[1]]
    nodes = [_node(number, each, setup, span_ns) for number, each in enumerate(held)]
    return FleetUsage(
        end_ns=span_ns[1] - span_ns[0],
        nodes=tuple(nodes),
        work=tuple(_work(setup, replication.tally, window, held, nodes)),
        up=up_of_replicas(_within(_replicas(setup, replication, held), span_ns), window.bin_ns),
        cross_zone=tuple(_cross_zone(setup, replication.tally, window)) if setup.deployment.costs.cross_zone else (),
        bin_ns=window.bin_ns,
    )


# -- machines ------------------------------------------------------------------------------------------


def _held(setup: Setup, replication: Replication) -> Iterator[_Held]:
    """Machines that can hold replicas, while they were there, then those that always are and can hold none."""
    pools = [host.pool for host in setup.hosts]
    if replication.history is None:
        leases: Iterable[Lease] = (Lease(machine, 0, ready_ns=0) for machine in range(len(pools)))
    else:
        leases = (each for each in replication.history.leases if each.gone_ns is None or each.gone_ns > each.there_ns)
    for lease in leases:
        yield _Held(pools[lease.machine], lease.machine, lease)
    holding = Counter(pools)
    for name, pool in setup.deployment.pools.items():
        for _ in range(pool.least - holding[name]):
            yield _Held(name, None, Lease(-1, 0, ready_ns=0))


def _node(number: int, held: _Held, setup: Setup, span_ns: tuple[int, int]) -> NodeUsage:
    """The machine as it is billed; what lies behind the window is not known yet."""
    start_ns, end_ns = span_ns
    lease, pool = held.lease, setup.deployment.pools[held.pool]
    assert pool.cores is not None
    ready_ns = None if lease.ready_ns is None or lease.ready_ns > end_ns else lease.ready_ns - start_ns
    gone_ns = None if lease.gone_ns is None or lease.gone_ns > end_ns else lease.gone_ns - start_ns
    return NodeUsage(
        node_id=number,
        pool=held.pool,
        type=setup.prices.types[held.pool],
        zone=pool.zone or "",
        buy=pool.buy,
        cores=pool.cores,
        handed_over_ns=lease.there_ns - start_ns,
        first_ready_ns=ready_ns,
        released_ns=gone_ns,
        reclaimed=lease.reclaimed and gone_ns is not None and pool.buy == "spot",
    )


# -- replicas ------------------------------------------------------------------------------------------


def _replicas(setup: Setup, replication: Replication, held: Sequence[_Held]) -> Iterator[ReplicaUsage]:
    """Replicas while they were up; those of models that nobody asks for are there all the time."""
    forever_ns, asked = 2**62, {serving.name for serving in setup.served}
    if replication.history is None:
        number_of = {host.node: number for number, host in enumerate(setup.hosts)}
        for serving in setup.served:
            for place in serving.places:
                cores = held_cores(serving.model, setup.deployment.pools[place.pool])
                there = ReplicaUsage(number_of[place.node], serving.name, cores, 0, forever_ns)
                yield from [there] * place.replicas
    else:
        leases = _by_machine(held)
        for serving, up in _ups(setup, replication.history):
            earlier = (n for n in reversed(leases[up.machine]) if held[n].lease.there_ns <= up.ready_ns)
            its = next(earlier, None)
            if its is None:
                continue  # its machine came after the window
            ends = [ns for ns in (up.down_ns, held[its].lease.gone_ns, forever_ns) if ns is not None]
            cores = held_cores(serving.model, setup.deployment.pools[held[its].pool])
            yield ReplicaUsage(its, serving.name, cores, up.ready_ns, min(ends))
    # Nodes beyond those of the model asked for are numbered by pool: they are alike, and always there.
    rest: dict[str, list[int]] = defaultdict(list)
    for number, each in enumerate(held):
        if each.lease.gone_ns is None:
            rest[each.pool].append(number)
    for other, model in setup.deployment.models.items():
        if other not in asked:
            seen = Counter[str]()
            for place in places(setup.deployment, other):
                numbers, at = rest[place.pool], seen[place.pool]
                seen[place.pool] += 1
                if at < len(numbers):
                    cores = held_cores(model, setup.deployment.pools[place.pool])
                    idle = ReplicaUsage(numbers[at], other, cores, 0, forever_ns)
                    yield from [idle] * place.replicas


def _ups(setup: Setup, history: History) -> Iterator[tuple[Serving, Up]]:
    """Every replica while it was up, with the version that it was of."""
    for serving, fleet in zip(setup.served, history.fleets, strict=True):
        yield from ((serving, up) for ups in fleet.ups.values() for up in ups)


def _by_machine(held: Sequence[_Held]) -> dict[int, list[int]]:
    """Numbers of the leases of each machine, in order of time."""
    found: dict[int, list[int]] = defaultdict(list)
    for number, each in enumerate(held):
        if each.machine is not None:
            found[each.machine].append(number)
    return found


def _within(replicas: Iterable[ReplicaUsage], span_ns: tuple[int, int]) -> Iterator[ReplicaUsage]:
    start_ns, end_ns = span_ns
    for each in replicas:
        up_ns, down_ns = max(each.up_ns, start_ns), min(each.down_ns, end_ns)
        if up_ns < down_ns:
            yield ReplicaUsage(each.node_id, each.model, each.threads, up_ns - start_ns, down_ns - start_ns)


# -- work ----------------------------------------------------------------------------------------------


def _work(
    setup: Setup, tally: Tally, window: Window, held: Sequence[_Held], nodes: Sequence[NodeUsage]
) -> Iterator[Work]:
    """Core-ns by machine, time bin and class; a row costs what rows of its version cost on average."""
    leases, owners = _by_machine(held), _owners(setup)
    for group in range(len(setup.served)):
        core_ns = _core_ns(setup, tally, window, group)
        split = list(zip(owners, *used_and_wasted(setup, tally, window, group), strict=True))
        for machine, bin_ in np.argwhere(core_ns > 0).tolist():
            for number, share in _shares(nodes, leases[machine], bin_, window).items():
                worked = float(core_ns[machine, bin_]) * share
                for owner, used, wasted in split:
                    if used + wasted > 0:
                        yield Work(number, bin_, owner, worked * used, worked * wasted)


def _core_ns(setup: Setup, tally: Tally, window: Window, group: int) -> Floats:
    """(machines, time bins of the window): what a model's replicas worked there."""
    machine_of = {slot.node: slot.machine for slot in setup.slots[group]}
    core_ns = np.zeros((len(setup.hosts), window.last - window.first))
    model, pools = setup.served[group].model, setup.deployment.pools
    for node in setup.nodes_of(group):
        machine = machine_of[node]
        cores = held_cores(model, pools[setup.hosts[machine].pool])
        core_ns[machine] += tally.node_busy_s[node, window.first : window.last] * 1e9 * cores
    return core_ns


def _shares(nodes: Sequence[NodeUsage], numbers: Sequence[int], bin_: int, window: Window) -> dict[int, float]:
    """Which leases of a machine did what it worked in a bin: by the time in which their replicas could."""
    start_ns, end_ns = bin_ * window.bin_ns, (bin_ + 1) * window.bin_ns
    could_ns = {}
    for number in numbers:
        node = nodes[number]
        ready_ns = end_ns if node.first_ready_ns is None else max(node.first_ready_ns, start_ns)
        could_ns[number] = max(0, min(node.held_until_ns(end_ns), end_ns) - ready_ns)
    total_ns = sum(could_ns.values())
    return {number: span_ns / total_ns for number, span_ns in could_ns.items() if span_ns > 0}


def used_and_wasted(setup: Setup, tally: Tally, window: Window, group: int = 0) -> tuple[Floats, Floats]:
    """By class, the shares of a version's work whose answers were used, and were not; together 1.

    Of all rows that its nodes computed, those of requests answered ok were used, over the whole replication: what
    arrives in one bin may be computed in another. Waste goes to classes by the rows that were computed for
    nobody, where there are none (a replica died, a node was lost) by all rows.
    """
    batches = tally.group_batch_rows[group].sum(axis=0)
    computed = float((batches * np.arange(len(batches))).sum())
    of_model = np.array([float(of == group) for of in setup.group_of])
    used = min(1.0, float(tally.sums[:, :, SUM_ROWS].sum(axis=1) @ of_model) / computed) if computed else 1.0
    cut = slice(window.first, window.last)
    ok_rows = tally.sums[:, cut, SUM_ROWS].sum(axis=1) * of_model
    wasted_rows = tally.wasted_rows[:, cut].sum(axis=1) * of_model
    useful = _normed(ok_rows, of_model)
    return useful * used, _normed(wasted_rows, useful) * (1 - used)


def _normed(weights: Floats, otherwise: Floats) -> Floats:
    """Shares in proportion to weights, of which some are above 0; else to others."""
    chosen = weights if weights.sum() > 0 else otherwise
    shares: Floats = chosen / chosen.sum() if chosen.sum() > 0 else np.full(len(chosen), 1 / len(chosen))
    return shares


def _cross_zone(setup: Setup, tally: Tally, window: Window) -> Iterator[CrossZone]:
    """Bytes of answered requests between the router and nodes of other zones, by the share of the work done there."""
    router, pools = setup.deployment.router, setup.deployment.pools
    assert router is not None
    elsewhere = np.array([pools[host.pool].zone != router.zone for host in setup.hosts])
    for class_, (group, owner) in enumerate(zip(setup.group_of, _owners(setup), strict=True)):
        core_ns = _core_ns(setup, tally, window, group)
        share = core_ns[elsewhere].sum(axis=0) / np.maximum(core_ns.sum(axis=0), 1.0)
        front = setup.served[group].main.measured.profile.front
        row_bytes = front.bytes_in_per_row + front.bytes_out_per_row
        crossing = tally.sums[class_, window.first : window.last, SUM_ROWS] * row_bytes * share
        for bin_ in np.flatnonzero(crossing).tolist():
            yield CrossZone(bin_, owner, round(float(crossing[bin_])))


def _owners(setup: Setup) -> list[Owner]:
    """By portion: whom its work belongs to."""
    of_class = [(name, tuple(sorted(class_.tags.items()))) for name, class_ in setup.workload.classes.items()]
    return [Owner(setup.served[portion.group].name, *of_class[portion.class_]) for portion in setup.portions]
