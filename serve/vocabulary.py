"""The metric names: one list with meaning and unit, for Result, `expect:`, `slo:`, the app and Prometheus."""

from dataclasses import dataclass
from math import inf
from typing import Literal

Unit = Literal["s", "1/s", "share", "rows", "usd/h", "usd", "1", "count", "node-h", "kWh", "kg"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of a run. Inside: seconds, per second, shares in [0, 1], USD."""

    name: str
    unit: Unit
    meaning: str
    per_class: bool = True
    least: float = 0.0
    """What no value is below."""


METRICS = {
    m.name: m
    for m in (
        Metric("mean", "s", "mean latency of answered requests, from the intended instant to the answer received"),
        Metric("p50", "s", "median latency"),
        Metric("p90", "s", "90th percentile of latency"),
        Metric("p95", "s", "95th percentile of latency"),
        Metric("p99", "s", "99th percentile of latency"),
        Metric("p99.9", "s", "99.9th percentile of latency"),
        Metric("arrival_rate", "1/s", "requests offered per second"),
        Metric("throughput", "1/s", "requests answered ok per second"),
        Metric("goodput", "1/s", "requests answered ok within the SLO's latency bound per second"),
        Metric("refused", "share", "share refused: queue full, front over budget, draining, invalid"),
        Metric("expired", "share", "share whose deadline passed in the queue"),
        Metric("cancelled", "share", "share cancelled by the client"),
        Metric("failed", "share", "share that failed: lost or their replica died once too often"),
        Metric("lost", "count", "requests that were lost or failed after they had been admitted"),
        Metric("slo_met", "share", "share of requests answered ok within the SLO's latency bound"),
        Metric("slo_windows", "share", "share of 5-minute windows in which the SLO's share of requests was"),
        Metric("budget_left", "share", "share of the run's error budget that is left; below 0: overdrawn", least=-inf),
        Metric("burn_1h", "1", "error budget burnt in the worst hour, in multiples of what the SLO allows"),
        Metric("burn_6h", "1", "the same of the worst six hours"),
        Metric("recovery", "s", "time from the first minute that missed the SLO to the end of the last one"),
        Metric("batch_mean", "rows", "mean rows of a batch", per_class=False),
        Metric("busy", "share", "share of time that replicas compute", per_class=False),
        Metric("front_busy", "share", "share of time that the fronts work", per_class=False),
        Metric("in_system", "1", "mean number of requests present", per_class=False),
        Metric("hedged", "share", "attempts beside another that was late, per request"),
        Metric("wasted", "share", "share of the rows computed that nobody waited for in the end", per_class=False),
        Metric("front_delay", "s", "mean time from arrival to enqueue"),
        Metric("queue_delay", "s", "mean time from enqueue to dispatch"),
        Metric("slot_delay", "s", "mean time from dispatch to start"),
        Metric("compute", "s", "mean service time of the batch a request rode in"),
        Metric("answer_delay", "s", "mean time from the batch's end to the answer written"),
        Metric("client_delay", "s", "mean time that the client and the network add"),
        Metric("replicas", "1", "mean number of replicas there, starting and draining ones included", per_class=False),
        Metric("scale_ups", "count", "times that more replicas were set", per_class=False),
        Metric("scale_downs", "count", "times that fewer replicas were set", per_class=False),
        Metric("flaps", "count", "of these, the ones that undid another within 10 minutes", per_class=False),
        Metric("under_target", "share", "share of time with fewer replicas ready than were wanted", per_class=False),
        Metric("deaths", "count", "times that a replica died by itself", per_class=False),
        Metric("node_losses", "count", "machines that were lost", per_class=False),
        Metric("reclaims", "count", "spot machines that their provider took back", per_class=False),
        Metric("rollouts", "count", "rollouts that came to their end", per_class=False),
        Metric("rollbacks", "count", "rollouts that were given up and taken back", per_class=False),
        Metric("cost_usd_per_h", "usd/h", "the bill per hour", per_class=False),
        Metric("cost_usd_per_1k", "usd", "the bill per 1,000 requests answered ok", per_class=False),
        Metric("cost_usd_per_month", "usd", "the bill of 730 hours like those simulated", per_class=False),
        Metric("cost_useful", "share", "share of the bill: work whose answers were used", per_class=False),
        Metric("cost_cold", "share", "share of the bill: nodes before their first replica is ready", per_class=False),
        Metric("cost_wasted", "share", "share of the bill: work whose answers nobody used", per_class=False),
        Metric("cost_idle", "share", "share of the bill: cores that do nothing", per_class=False),
        Metric("cost_unused", "share", "share of the bill: commitments that are not used", per_class=False),
        Metric("cost_other", "share", "share of the bill: what is paid beside nodes", per_class=False),
        Metric(
            "cost_bound_usd_per_h",
            "usd/h",
            "what a system without loss pays for the same answers",
            per_class=False,
        ),
        Metric("cost_gap", "share", "share of the bill above that bound", per_class=False, least=-inf),
        Metric("commitment_utilisation", "share", "share of commitments that is used, by cost", per_class=False),
        Metric(
            "commitment_coverage", "share", "share of on-demand time under commitments, at list price", per_class=False
        ),
        Metric(
            "effective_savings_rate",
            "share",
            "what machines and unused commitments cost less than at list price; below 0: more",
            per_class=False,
            least=-inf,
        ),
        Metric("idle_hours", "node-h", "node-hours of the run in which no core computed", per_class=False),
        Metric("energy_kwh", "kWh", "energy of the run's nodes", per_class=False),
        Metric("co2e_kg", "kg", "greenhouse gases that this energy emits", per_class=False),
    )
}
