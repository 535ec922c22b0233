"""The bill of a simulated fleet, by clock-hour and in total.

In each clock-hour: spot by its time at its price; reservations cover on-demand usage of their type, paid
used or not; savings plans cover the rest, highest discount first; what is left costs the list price.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sim.billing.charges import billed_nodes, hour_lines
from sim.billing.hours import HOUR_NS, clock_hours
from sim.billing.lines import MACHINES, Line
from sim.billing.prices import PriceBook
from sim.billing.usage import FleetUsage


@dataclass(frozen=True, slots=True)
class Figures:
    """A bill, or an hour of one, in numbers; nan where one is undefined."""

    usd: float
    """All of it, upfront sums amortised."""
    usd_per_h: float
    """Per hour of the run."""
    list_usd: float
    """The same machine time at on-demand list price, spot included; refunded time counts on neither side."""
    commitment_utilisation: float
    """Share of what commitments cost that was used, in [0, 1]."""
    commitment_coverage: float
    """Share of on-demand usage that commitments covered, at list price, in [0, 1]; spot is not on-demand usage."""
    effective_savings_rate: float
    """1 - (cost of machines and unused commitments / list cost): below 0 if commitments cost more than they save.

    Over list, as the FinOps Foundation defines it: (ListCost - EffectiveCost) / ListCost.
    """


@dataclass(frozen=True, slots=True)
class HourBill:
    """One clock-hour, or the part of it that the bill covers."""

    start_ns: int
    end_ns: int
    lines: tuple[Line, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Bill:
    """All clock-hours that a bill covers, in order; at least one."""

    hours: tuple[HourBill, ...]
    total: Figures

    @property
    def start_ns(self) -> int:
        """From here."""
        return self.hours[0].start_ns

    @property
    def end_ns(self) -> int:
        """To here: the run's end, or where the billed minimum of its last nodes ends."""
        return self.hours[-1].end_ns

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines of all hours."""
        return tuple(line for hour in self.hours for line in hour.lines)


def bill(usage: FleetUsage, book: PriceBook, starts: datetime, from_ns: int = 0, until_ns: int | None = None) -> Bill:
    """What a run that begins at `starts` is billed between two instants of it; `until_ns` none: to its end.

    Of a clock-hour that lies only in part within them, commitments cover and cost that part. Cut at full
    hours, the bills of the parts together are the bill of the whole.

    Raises
    ------
    ValueError : a type (or spot of a type) without a price, or an empty stretch of time.
    """
    nodes = billed_nodes(usage, book)
    last_ns = max([usage.end_ns, *(node.end_ns for node in nodes)])
    until_ns = last_ns if until_ns is None else min(until_ns, last_ns)
    if not 0 <= from_ns < until_ns:
        raise ValueError(f"must cover time between 0 and {last_ns} ns, got {from_ns} to {until_ns}")
    hours = []
    for start_ns, end_ns in clock_hours(starts, from_ns, until_ns):
        lines = hour_lines(start_ns, end_ns, nodes, usage, book)
        hours.append(HourBill(start_ns, end_ns, lines, figures(lines, min(end_ns, usage.end_ns) - start_ns)))
    every = [line for hour in hours for line in hour.lines]
    return Bill(tuple(hours), figures(every, min(until_ns, usage.end_ns) - from_ns))


def figures(lines: Collection[Line], run_ns: int) -> Figures:
    """The numbers of some lines, which cover `run_ns` of the run; <= 0: they lie after its end."""
    usd = math.fsum(line.effective_usd for line in lines)
    machines = [line for line in lines if line.kind in MACHINES]
    list_usd = math.fsum(line.list_usd for line in machines)
    used_usd = math.fsum(line.effective_usd for line in machines if line.kind == "committed")
    unused_usd = math.fsum(line.effective_usd for line in lines if line.kind == "unused")
    covered_usd = math.fsum(line.list_usd for line in machines if line.kind == "committed")
    on_demand_usd = math.fsum(line.list_usd for line in machines if line.kind == "on_demand")
    machines_usd = math.fsum(line.effective_usd for line in machines)
    return Figures(
        usd=usd,
        usd_per_h=_ratio(usd, max(0, run_ns) / HOUR_NS),
        list_usd=list_usd,
        commitment_utilisation=_ratio(used_usd, used_usd + unused_usd),
        commitment_coverage=_ratio(covered_usd, covered_usd + on_demand_usd),
        effective_savings_rate=1 - _ratio(machines_usd + unused_usd, list_usd),
    )


def _ratio(value: float, of: float) -> float:
    return value / of if of else math.nan
