"""Energy of a fleet and what it emits, from the power of cores that work and of cores that are held idle."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sim.billing.prices import EnergyRates
from sim.billing.usage import FleetUsage

W_NS_PER_KWH = 3.6e15


@dataclass(frozen=True, slots=True)
class Energy:
    """Of all nodes while they were held in the run; `co2e_kg` none: what a kWh emits is not known."""

    kwh: float
    co2e_kg: float | None


def energy(usage: FleetUsage, rates: EnergyRates) -> Energy:
    """Energy from hand-over to release, the billed minimum aside; wasted work counts as work.

    Work of more threads than a node has cores takes the power of its cores.
    """
    worked: defaultdict[int, float] = defaultdict(float)
    for work in usage.work:
        worked[work.node_id] += work.useful_core_ns + work.wasted_core_ns
    w_ns = 0.0
    for node in sorted(usage.nodes, key=lambda node: node.node_id):
        held_ns = max(0, node.held_until_ns(usage.end_ns) - max(0, node.handed_over_ns))
        busy_core_ns = min(worked[node.node_id], node.cores * held_ns)
        w_ns += busy_core_ns * rates.busy_w_per_core + (node.cores * held_ns - busy_core_ns) * rates.idle_w_per_core
    kwh = w_ns / W_NS_PER_KWH
    return Energy(kwh, None if rates.co2e_kg_per_kwh is None else kwh * rates.co2e_kg_per_kwh)
