"""Who pays what: the charges of a bill by pool, model, request class and tags, in FOCUS columns.

A pool's charges are shared among the owners of its cost as the attribution splits it; what belongs to no
node (commitments bought or left, the load balancer) is nobody's. Averages over replications.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta

from sim.billing.attribution import Share
from sim.billing.lines import Line, focus_columns
from sim.billing.usage import Owner
from sim.cost import Cost
from sim.measures import Window
from sim.result import Charge, Showback
from sim.setup import Setup

NODE_PARTS = ("useful_usd", "cold_usd", "wasted_usd", "idle_usd")
AMOUNTS = ("billed_usd", "effective_usd", "list_usd", *NODE_PARTS)

_Key = tuple[str, str, str, Owner]
"""Kind of line, pool, name of the commitment, owner."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Lines of one kind, pool and commitment, added up; one of them stands for their columns."""

    line: Line
    billed_usd: float
    effective_usd: float
    list_usd: float


def showback(setup: Setup, costs: Sequence[Cost], window: Window) -> Showback:
    """The charges of a run within its window, on average over replications."""
    sums: defaultdict[_Key, dict[str, float]] = defaultdict(lambda: dict.fromkeys(AMOUNTS, 0.0))
    lines: dict[_Key, Line] = {}
    for cost in costs:
        for key, line, amounts in _charges(cost):
            lines[key] = line
            for name, usd in amounts.items():
                sums[key][name] += usd / len(costs)
    start = setup.starts + timedelta(microseconds=window.first * window.bin_ns // 1000)
    return Showback(
        charge_period_start=start.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z"),
        hours=window.span_s / 3600,
        charges=[_charge(setup, key, lines[key], sums[key]) for key in sorted(sums)],
    )


def _charges(cost: Cost) -> Iterator[tuple[_Key, Line, Mapping[str, float]]]:
    """What each owner pays of each group of lines."""
    groups = _groups(cost)
    by_pool: defaultdict[str, list[Share]] = defaultdict(list)
    for share in cost.attribution.shares:
        by_pool[share.pool].append(share)
    pool_usd = {pool: math.fsum(share.parts.usd for share in shares) for pool, shares in by_pool.items()}
    for (kind, pool, name, owner), group in groups.items():
        whole = {"billed_usd": group.billed_usd, "effective_usd": group.effective_usd, "list_usd": group.list_usd}
        if not pool or not pool_usd.get(pool):
            yield (kind, pool, name, owner), group.line, whole
            continue
        of_pool = group.effective_usd / pool_usd[pool]
        for share in by_pool[pool]:
            part = share.parts.usd / pool_usd[pool]
            amounts = {amount: usd * part for amount, usd in whole.items()}
            amounts |= {name: getattr(share.parts, name) * of_pool for name in NODE_PARTS}
            yield (kind, pool, name, share.owner), group.line, amounts


def _groups(cost: Cost) -> dict[_Key, _Group]:
    lines: defaultdict[_Key, list[Line]] = defaultdict(list)
    for line in cost.bill.lines:
        name = "" if line.commitment is None else line.commitment.name
        lines[line.kind, line.pool, name, line.owner].append(line)
    return {
        key: _Group(
            of_key[0],
            math.fsum(line.billed_usd for line in of_key),
            math.fsum(line.effective_usd for line in of_key),
            math.fsum(line.list_usd for line in of_key),
        )
        for key, of_key in lines.items()
    }


def _charge(setup: Setup, key: _Key, line: Line, amounts: Mapping[str, float]) -> Charge:
    kind, pool, _, owner = key
    focus = focus_columns(line, setup.starts)
    pools, models = setup.deployment.pools, setup.deployment.models
    tags = (pools[pool].tags if pool else {}) | (models[owner.model].tags if owner.model else {}) | dict(owner.tags)
    return Charge.model_validate(
        {
            "kind": kind,
            "pool": pool or None,
            "model": owner.model or None,
            "request_class": owner.class_ or None,
            "tags": tags,
            **amounts,
            **{name: focus[name] for name in ("ChargeCategory", "PricingCategory", *_COMMITMENT)},
        }
    )


_COMMITMENT = ("CommitmentDiscountId", "CommitmentDiscountCategory", "CommitmentDiscountStatus")
