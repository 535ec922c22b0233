"""Whose cost a bill is: useful, cold, wasted, idle, unused commitment and other, by model, class, team and tag.

In each bin of the usage what a node costs (machine and disk) is split:

- cold: the time from hand-over to its first readiness;
- useful: cost x core-ns worked / (cores x ns billed in the bin), for the owner of the work;
- wasted: the same of work whose answers nobody used;
- idle: the rest, draining included.

Cold and idle time has no owner of its own: it is shared by the models with replicas up on the node in
that bin, by time up x threads, else by those up in its pool, else it stays with the pool. What is unused
of a commitment and the load balancer are nobody's; cross-zone traffic is its owner's (both are `other`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from sim.billing.bill import Bill
from sim.billing.lines import Line
from sim.billing.usage import NOBODY, FleetUsage, NodeUsage, Owner, Work, bins_of

TOLERANCE = 1e-9
"""Relative difference between a bill and its parts that is rounding."""

Part = Literal["useful_usd", "cold_usd", "wasted_usd", "idle_usd", "unused_commitment_usd", "other_usd"]


@dataclass(frozen=True, slots=True)
class Parts:
    """A cost by what it was for."""

    useful_usd: float = 0.0
    cold_usd: float = 0.0
    wasted_usd: float = 0.0
    idle_usd: float = 0.0
    unused_commitment_usd: float = 0.0
    other_usd: float = 0.0

    @property
    def usd(self) -> float:
        """All of it."""
        return math.fsum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True, slots=True)
class Share:
    """What one owner's part of a pool costs; both are empty of what belongs to nobody."""

    pool: str
    owner: Owner
    parts: Parts


@dataclass(frozen=True, slots=True)
class Attribution:
    """A bill, split; one share for each pool and owner, in order."""

    shares: tuple[Share, ...]

    @property
    def total(self) -> Parts:
        """All shares together."""
        return _together(self.shares)

    def by_model(self) -> dict[str, Parts]:
        """By model; under the empty name what belongs to none."""
        return self._by(lambda share: share.owner.model)

    def by_class(self) -> dict[str, Parts]:
        """By request class; under the empty name what no request caused, such as idle time."""
        return self._by(lambda share: share.owner.class_)

    def by_tag(self, name: str) -> dict[str, Parts]:
        """By the value of a tag, such as `team`; under the empty name what has none."""
        return self._by(lambda share: share.owner.tag(name))

    def by_pool(self) -> dict[str, Parts]:
        """By pool; under the empty name what is no pool's, such as an unused commitment."""
        return self._by(lambda share: share.pool)

    def _by(self, key: Callable[[Share], str]) -> dict[str, Parts]:
        groups: defaultdict[str, list[Share]] = defaultdict(list)
        for share in self.shares:
            groups[key(share)].append(share)
        return {name: _together(groups[name]) for name in sorted(groups)}


def _together(shares: Sequence[Share]) -> Parts:
    return Parts(**{part.name: math.fsum(getattr(s.parts, part.name) for s in shares) for part in fields(Parts)})


def check(attribution: Attribution, bill: Bill) -> None:
    """Assert that no part is negative and that they add up to the bill, to 1e-9."""
    parts = [getattr(share.parts, part.name) for share in attribution.shares for part in fields(Parts)]
    assert all(usd >= 0 for usd in parts), f"a part of the bill is negative: {min(parts)} USD"
    total_usd = math.fsum(parts)
    assert math.isclose(total_usd, bill.total.usd, rel_tol=TOLERANCE), f"{total_usd} USD of {bill.total.usd} USD"


def attribute(bill: Bill, usage: FleetUsage) -> Attribution:
    """Split the bill of a whole run.

    Work of more threads than a node has cores is scaled down to the cores.

    Raises
    ------
    ValueError : the bill covers only a part of the run.
    """
    if bill.start_ns != 0 or bill.end_ns < usage.end_ns:
        raise ValueError(f"must be the bill of the whole run, got {bill.start_ns} to {bill.end_ns} ns")
    ledger: defaultdict[tuple[str, Owner, Part], float] = defaultdict(float)
    lines: defaultdict[int, list[Line]] = defaultdict(list)
    for line in bill.lines:
        if line.node_id is not None:
            lines[line.node_id].append(line)
        elif line.kind == "unused":
            ledger["", NOBODY, "unused_commitment_usd"] += line.effective_usd
        elif line.kind != "purchase":
            ledger["", line.owner, "other_usd"] += line.effective_usd
    up, work = _Up.of(usage), _by_node_and_bin(usage.work)
    for node in sorted(usage.nodes, key=lambda node: node.node_id):
        for bin_, cost in _bins(node, lines[node.node_id], usage.bin_ns).items():
            sharers = up.sharers(node, bin_)
            for owner, part, usd in _split(node, cost, work.get((node.node_id, bin_), ()), sharers):
                ledger[node.pool, owner, part] += usd
    return _attribution(ledger)


def _attribution(ledger: Mapping[tuple[str, Owner, Part], float]) -> Attribution:
    shares: defaultdict[tuple[str, Owner], dict[str, float]] = defaultdict(dict)
    for (pool, owner, part), usd in ledger.items():
        shares[pool, owner][part] = usd
    return Attribution(tuple(Share(pool, owner, Parts(**shares[pool, owner])) for pool, owner in sorted(shares)))


def _by_node_and_bin(work: Sequence[Work]) -> dict[tuple[int, int], list[Work]]:
    found: defaultdict[tuple[int, int], list[Work]] = defaultdict(list)
    for one in work:
        found[one.node_id, one.bin].append(one)
    return dict(found)


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a node costs in one bin, and how long it is billed and cold in it."""

    usd: float
    billed_ns: int
    cold_ns: int


def _bins(node: NodeUsage, lines: Sequence[Line], bin_ns: int) -> dict[int, _Cost]:
    """The node's cost by bin; its lines together cover its billed time without a gap, each evenly."""
    if not lines:
        return {}
    usd: defaultdict[int, float] = defaultdict(float)
    for line in lines:
        for bin_, inside_ns in bins_of(line.start_ns, line.end_ns, bin_ns):
            usd[bin_] += line.effective_usd * (inside_ns / (line.end_ns - line.start_ns))
    start_ns, end_ns = min(line.start_ns for line in lines), max(line.end_ns for line in lines)
    ready_ns = end_ns if node.first_ready_ns is None else max(start_ns, node.first_ready_ns)
    cold = dict(bins_of(start_ns, ready_ns, bin_ns))
    billed = bins_of(start_ns, end_ns, bin_ns)
    return {bin_: _Cost(usd[bin_], billed_ns, cold.get(bin_, 0)) for bin_, billed_ns in billed}


def _split(
    node: NodeUsage, cost: _Cost, work: Sequence[Work], sharers: Mapping[Owner, float]
) -> Iterator[tuple[Owner, Part, float]]:
    """(owner, part, USD) of one node in one bin."""
    worked = math.fsum(one.useful_core_ns + one.wasted_core_ns for one in work)
    warm = node.cores * (cost.billed_ns - cost.cold_ns)
    scale = 1.0 if worked <= warm else warm / worked
    usd_per_core_ns = cost.usd / (node.cores * cost.billed_ns) * scale
    for one in work:
        yield one.owner, "useful_usd", one.useful_core_ns * usd_per_core_ns
        yield one.owner, "wasted_usd", one.wasted_core_ns * usd_per_core_ns
    cold_usd = cost.usd * (cost.cold_ns / cost.billed_ns)
    idle_usd = max(0.0, cost.usd - cold_usd - worked * usd_per_core_ns)  # below 0 by rounding only
    for owner, share in sharers.items():
        yield owner, "cold_usd", cold_usd * share
        yield owner, "idle_usd", idle_usd * share


@dataclass(frozen=True, slots=True)
class _Up:
    """Core-ns of replicas up by model: on each node and in each pool, by bin."""

    on_node: Mapping[tuple[int, int], Mapping[str, int]]
    in_pool: Mapping[tuple[str, int], Mapping[str, int]]

    @classmethod
    def of(cls, usage: FleetUsage) -> _Up:
        pools = {node.node_id: node.pool for node in usage.nodes}
        on_node: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
        in_pool: defaultdict[tuple[str, int], dict[str, int]] = defaultdict(dict)
        for up in usage.up:
            if up.core_ns > 0:
                for core_ns in (on_node[up.node_id, up.bin], in_pool[pools[up.node_id], up.bin]):
                    core_ns[up.model] = core_ns.get(up.model, 0) + up.core_ns
        return cls(on_node, in_pool)

    def sharers(self, node: NodeUsage, bin_: int) -> dict[Owner, float]:
        """Who shares what has no owner, and how much of it each."""
        core_ns = self.on_node.get((node.node_id, bin_)) or self.in_pool.get((node.pool, bin_))
        if core_ns is None:
            return {NOBODY: 1.0}
        total = sum(core_ns.values())
        return {Owner(model): core_ns[model] / total for model in sorted(core_ns)}
