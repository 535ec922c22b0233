"""Each autoscaler on a real day, its bill beside its SLO: a JSON file, a table and a figure in docs/.

    python -m bench.autoscalers [--hours 23.5]

Counts of tweets by 10 s (scenarios/traces) are requests to a service whose answers take 100 ms on average, a replica a
node; replicas take 30 s to start. Every policy meets the same arrivals, with its own project's defaults where
a target need not be named; targets aim at about two thirds of a replica's time. Two replications give the numbers,
the first of them is drawn. Writes bench/results/autoscalers.json, docs/autoscalers.png and the table of
docs/autoscalers.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import report
from serve.deployment import Deployment
from sim import counts
from sim.prepare import prepare
from sim.replication import Replication, run
from sim.scenario import Scenario
from sim.simulate import completed, simulate
from sim.tally import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCENARIOS = report.ROOT.parent / "scenarios"
TRACE = "traces/twitter-day.csv"
INTERVAL_S = 10
SERVICE_S = 0.1  # mean, of the profile
MOST = 64
SLO = {"p95": "500ms"}
WINDOW_S = 300

POLICIES: dict[str, dict[str, Any] | None] = {
    "fixed at 16": None,
    "HPA, cpu 65 %": {"kind": "hpa", "cpu": 65},
    "KEDA, ongoing 0.7": {"kind": "keda", "triggers": [{"metric": "ongoing", "target": 0.7}]},
    "Knative KPA": {"kind": "kpa", "target": 1},
    "Ray Serve": {"kind": "ray_serve", "target_ongoing_requests": 0.7},
    "target tracking, 65 %": {"kind": "target_tracking", "target": 65},
    "predictive": {"kind": "predictive", "horizon": "45s", "interval": "10s"},
}

COLUMNS = {
    "policy": "policy",
    "usd_per_day": "USD a day",
    "cost_per_1k": "USD per 1,000",
    "slo_met": "requests within the SLO, %",
    "slo_windows": "5-min windows, %",
    "budget_left": "error budget left, %",
    "p95_ms": "p95, ms",
    "refused": "refused, %",
    "replicas": "replicas, mean",
    "moves": "moves",
    "flaps": "flaps",
    "under_target": "time short of replicas, %",
}


@dataclass(frozen=True)
class Day:
    """What is drawn of a policy's first replication."""

    present: tuple[tuple[int, int], ...]  # (ns, replicas) from then on
    good: Floats  # by window: share of requests within the SLO


def scenario(policy: dict[str, Any] | None, hours: float) -> Scenario:
    """The day under a policy."""
    replicas: dict[str, Any] = {"count": 16, "threads": 1}
    if policy is not None:
        replicas = {"count": 8, "min": 1, "max": MOST, "threads": 1, "start_up": "30s", "autoscaler": policy}
    until = f"{round(hours * 360) * INTERVAL_S}s"
    arrivals = {"counts": {"file": TRACE, "interval": f"{INTERVAL_S}s", "within": "poisson"}}
    model = {
        "backend": "emulated",
        "profile": "profiles/exponential.yaml",
        "batching": {"max_batch": 1},
        "queue": {"per": "replica", "max_queue": 64},
        "replicas": replicas,
    }
    nodes: Any = {"min": 1, "max": MOST} if policy is not None else 16
    pool = {"nodes": nodes, "cores": 1, "price": "0.10 USD/h"}
    return Scenario.model_validate(
        {
            "seed": 7,
            "replications": 2,
            "workload": {"duration": until, "classes": {"requests": {"arrivals": arrivals}}},
            "deployment": {
                "models": {"m": model},
                "pools": {"here": pool},
                "router": {"policy": "least_outstanding", "network": "200us"},
            },
            "slo": SLO,
        }
    )


def row(name: str, asked: Scenario) -> dict[str, Any]:
    """A policy's numbers, from the mean over replications."""
    result = simulate(asked, base=SCENARIOS)
    found = {metric: estimate.value for metric, estimate in result.total.metrics.items()}

    def percent(metric: str) -> float | None:
        value = found[metric]
        return None if value is None else 100 * value

    return {
        "policy": name,
        "usd_per_day": 24 * (found["cost_usd_per_h"] or 0.0),
        "cost_per_1k": found["cost_usd_per_1k"],
        "p95_ms": None if found["p95"] is None else found["p95"] * 1e3,
        "replicas": found["replicas"],
        "moves": (found["scale_ups"] or 0.0) + (found["scale_downs"] or 0.0),
        "flaps": found.get("flaps"),
        **{name: percent(name) for name in ("slo_met", "slo_windows", "budget_left", "refused", "under_target")},
    }


def day(asked: Scenario) -> Day:
    """The first replication, as it is drawn."""
    asked = completed(asked, SCENARIOS, SCENARIOS)
    assert isinstance(asked.deployment, Deployment)
    setup = prepare(asked.deployment, asked.workload, asked.slo, asked.seed, SCENARIOS, SCENARIOS)
    one: Replication = run(setup, 0, "fast")
    present = ((0, setup.first.model.replicas.count),) if one.history is None else tuple(one.history.fleets[0].present)
    fine: Ints = one.tally.fine[0, :-1]
    wide = WINDOW_S * 10**9 // one.tally.fine_ns
    sums = np.add.reduceat(fine, np.arange(0, len(fine), wide), axis=0)
    return Day(present, sums[:, 0] / np.maximum(sums[:, 1], 1))


def plot(rows: list[dict[str, Any]], days: list[Day], hours: float, path: Path) -> None:
    """Replicas over the day above what the load keeps busy, missed windows marked; at the right, bill against SLO."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 1.25 * len(rows) + 1), layout="constrained")
    grid = figure.add_gridspec(len(rows), 3)
    busy = counts.load(SCENARIOS / TRACE)[: round(hours * 360)] / INTERVAL_S * SERVICE_S
    first: Axes | None = None
    for number, (found, drawn) in enumerate(zip(rows, days, strict=True)):
        axes = figure.add_subplot(grid[number, :2], sharex=first, sharey=first)
        first = first or axes
        _course(axes, found, drawn, busy, hours)
        if number < len(rows) - 1:
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel("hour of the day")
    _against(figure.add_subplot(grid[:, 2]), rows)
    figure.suptitle("A real day (tweets a second) under each autoscaler: replicas over the load, missed windows in red")
    figure.savefig(path, dpi=110)


def _course(axes: Axes, found: dict[str, Any], drawn: Day, busy: Floats, hours: float) -> None:
    minute = busy[: len(busy) // 6 * 6].reshape(-1, 6)
    at_h = np.arange(len(minute)) / 60
    axes.fill_between(at_h, minute.mean(axis=1), color="0.8", linewidth=0)
    axes.plot(at_h, minute.max(axis=1), color="0.65", linewidth=0.5)
    instants = [at_ns / 3.6e12 for at_ns, _ in drawn.present] + [hours]
    levels = [level for _, level in drawn.present]
    axes.step(instants, [*levels, levels[-1]], where="post", color="tab:blue", linewidth=0.9)
    for window in np.flatnonzero(drawn.good < 0.95):
        start_h = window * WINDOW_S / 3600
        axes.axvspan(start_h, start_h + WINDOW_S / 3600, color="tab:red", alpha=0.35, linewidth=0)
    axes.set(xlim=(0, hours), ylim=(0, MOST + 1))
    axes.set_ylabel("replicas", fontsize=8)
    windows = f"{found['slo_windows']:.0f} % of windows in the SLO"
    axes.set_title(f"{found['policy']}: {found['usd_per_day']:.1f} USD a day, {windows}", fontsize=9, loc="left", pad=2)


def _against(axes: Axes, rows: list[dict[str, Any]]) -> None:
    missed = [100 - found["slo_met"] for found in rows]
    axes.scatter([found["usd_per_day"] for found in rows], missed, color="tab:blue")
    for found, share in zip(rows, missed, strict=True):
        axes.annotate(
            found["policy"], (found["usd_per_day"], share), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    axes.axhline(5, color="tab:red", linewidth=0.8)
    axes.text(0.98, 5, "what the SLO allows", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)
    axes.set(ylim=(0, 1.15 * max(missed)), xlabel="USD a day", ylabel="requests outside the SLO, %")
    axes.margins(x=0.3)
    axes.set_title("Bill against SLO: down and to the left is better", fontsize=9)


def main() -> None:
    """Simulate every policy; write the file, the figure and the page's table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=23.5, help="of the day, from midnight")
    told = parser.parse_args()
    asked = {name: scenario(policy, told.hours) for name, policy in POLICIES.items()}
    rows, days = [], []
    for name, each in asked.items():
        rows.append(row(name, each))
        days.append(day(each))
        print({key: value if isinstance(value, str) else round(value or 0.0, 3) for key, value in rows[-1].items()})
    head = report.provenance(hours=told.hours, trace=TRACE, slo=SLO)
    print(report.save("autoscalers", head, rows))
    plot(rows, days, told.hours, report.DOCS / "autoscalers.png")
    report.splice(report.DOCS / "autoscalers.md", "autoscalers", report.table(rows, COLUMNS))


if __name__ == "__main__":
    main()
