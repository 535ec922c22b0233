"""What a replication costs: its bill, whose it is, what a perfect system would have paid, its energy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from serve.fleet import held_cores
from sim.billing.attribution import Attribution, attribute, check
from sim.billing.bill import Bill, bill
from sim.billing.bound import Choice, cheapest_usd_per_h, perfect_usd
from sim.billing.energy import Energy, energy
from sim.billing.hours import HOUR_NS
from sim.billing.prices import PriceBook
from sim.billing.usage import FleetUsage
from sim.measures import Window
from sim.replication import Replication
from sim.setup import Setup
from sim.tally import SUM_ROWS
from sim.usage import usage_of

MONTH_H = 730.0
"""Hours of a month: a twelfth of 8,760."""

PARTS = {
    "cost_useful": "useful_usd",
    "cost_cold": "cold_usd",
    "cost_wasted": "wasted_usd",
    "cost_idle": "idle_usd",
    "cost_unused": "unused_commitment_usd",
    "cost_other": "other_usd",
}
"""Parts of the bill by metric name; together they are all of it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The bill of one replication within its window, and what follows from it."""

    usage: FleetUsage
    bill: Bill
    attribution: Attribution
    bound_usd: float
    """What the same answers would have cost a perfect system."""
    energy: Energy | None


def cost_of(setup: Setup, replication: Replication, window: Window) -> Cost:
    """Bill a replication, split the bill, and check that the parts add up to it."""
    usage = usage_of(setup, replication, window)
    billed = bill(usage, setup.book, setup.starts + timedelta(microseconds=window.first * window.bin_ns // 1000))
    attribution = attribute(billed, usage)
    check(attribution, billed)
    used = None if setup.book.energy is None else energy(usage, setup.book.energy)
    return Cost(usage, billed, attribution, _bound_usd(setup, replication, window), used)


def cost_metrics(cost: Cost, book: PriceBook, throughput_rps: float) -> dict[str, float]:
    """The metrics of a bill by the names of `serve.vocabulary`; nan where one is undefined."""
    figures, parts, hours = cost.bill.total, cost.attribution.total, cost.usage.end_ns / HOUR_NS
    usd_per_h = _rounded(figures.usd_per_h)
    out = {
        "cost_usd_per_h": usd_per_h,
        "cost_usd_per_1k": _ratio(usd_per_h * 1000, throughput_rps * 3600),
        "cost_usd_per_month": _rounded(usd_per_h * MONTH_H),
        "cost_bound_usd_per_h": cost.bound_usd / hours,
        "cost_gap": 1 - _ratio(cost.bound_usd, figures.usd),
        **{name: _ratio(getattr(parts, part), figures.usd) for name, part in PARTS.items()},
        "idle_hours": _idle_hours(cost.usage),
    }
    if any(line.commitment is not None for line in cost.bill.lines):
        out["commitment_utilisation"] = figures.commitment_utilisation
        out["commitment_coverage"] = figures.commitment_coverage
        out["effective_savings_rate"] = figures.effective_savings_rate
    if cost.energy is not None:
        out["energy_kwh"] = cost.energy.kwh
    if cost.energy is not None and cost.energy.co2e_kg is not None:
        out["co2e_kg"] = cost.energy.co2e_kg
    return out


def _rounded(usd: float) -> float:
    """Without what adding up hours leaves behind the twelfth digit: it would decide `<= 0.35 USD/h`."""
    return float(f"{usd:.12g}")


def _ratio(value: float, of: float) -> float:
    return value / of if of else math.nan


def _idle_hours(usage: FleetUsage) -> float:
    """Node-hours held in which no core computed, a node that computes on some of its cores counting in part."""
    cores = {node.node_id: node.cores for node in usage.nodes}
    held_ns = sum(max(0, node.held_until_ns(usage.end_ns) - max(0, node.handed_over_ns)) for node in usage.nodes)
    worked_ns = math.fsum((one.useful_core_ns + one.wasted_core_ns) / cores[one.node_id] for one in usage.work)
    return max(0.0, held_ns - worked_ns) / HOUR_NS


def _bound_usd(setup: Setup, replication: Replication, window: Window) -> float:
    """Rows computed in the window whose answers were used, at the cheapest of the deployment's pools and batch sizes.

    Rows are taken to be computed evenly over the time that replicas work: what arrives in a window that ends in the
    middle of an overload is computed later.
    """
    tally = replication.tally
    busy_s = tally.busy_s
    worked = float(busy_s[window.first : window.last].sum() / busy_s.sum()) if busy_s.any() else 0.0
    ok_rows = tally.sums[:, :, SUM_ROWS].sum(axis=1) * worked
    span_ns = (window.last - window.first) * window.bin_ns
    rows_of, choices, book = {}, {}, setup.book
    for group, serving in enumerate(setup.served):
        rows_of[serving.label] = float(ok_rows[[of == group for of in setup.group_of]].sum())
        service_ns = [
            {rows: float(alone_ns[rows]) for rows in range(1, serving.spec.max_batch + 1)}
            for alone_ns in replication.alone_ns[group]
        ]
        choices[serving.label] = [
            Choice(
                cheapest_usd_per_h(setup.prices.types[name], book, 0, span_ns),
                pool.cores or 1,
                held_cores(serving.model, pool),
                service_ns[serving.kind_of.get(name, 0)],
            )
            for name, pool in setup.deployment.pools.items()
            if name in serving.kind_of or isinstance(serving.version.profile, str)
        ]
    return perfect_usd(rows_of, choices)
