"""Does a live engine scale as the simulator says? A ramp of load, live twice, beside its prediction.

    python -m bench.ramp [--policies hpa,kpa] [--again]

Up to eight emulated replicas under a load of 0.2 -> 6 -> 0.2 of one replica's capacity, all time constants of scaling
divided by one TIME_SCALE. For each policy:

(a) replay: the policy, fed the logged samples, decides what was decided, at every tick;
(b) the live number of replicas within the simulator's 95 % band, by tick. Each of REPLICATIONS runs has the arrivals
    that the engine met, by its own log, and a start-up drawn from those measured in the run;
(c) the two live runs beside each other: what no prediction can beat.

A policy that is in bench/results/ramp/ is not run again (`--again`: all). Writes bench/results/ramp.json,
docs/ramp.png and the table of docs/ramp.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import report
from serve import affinity, files
from serve.deployment import Deployment
from serve.launch import launch
from serve.load_plan import LoadPlan, OpenLoad
from serve.loadgen import ClientRows, inputs_of, replay
from serve.records import ARRIVAL_NS
from serve.request_log import read_requests
from serve.scaling_log import SCALING_FILE, Logged
from serve.scaling_log import replay as decided_again
from serve.time_scale import faster
from sim.prepare import prepare
from sim.replication import run
from sim.rng import stream
from sim.scenario import Scenario, Workload
from sim.simulate import completed
from sim.workload import Given
from tests.profiles import Synthetic, write_profile

Ints = npt.NDArray[np.int64]

SEED = 20261201
TIME_SCALE = 20.0
REPLICATIONS = 40
RUNS = 2
MOST = 8
SERVICE_MS = 40.0
CAPACITY_RPS = 1000.0 / SERVICE_MS
"""Of one replica, which takes one request at a time."""
KNOTS_S = (0.0, 10.0, 50.0, 80.0, 120.0, 160.0)
LEVELS = (0.2, 0.2, 6.0, 6.0, 0.2, 0.2)
"""Load over time, in replicas' capacities; a straight line between."""
SLO_P99 = "160ms"
"""What the predictive autoscaler's capacity is computed for."""

POLICIES: dict[str, dict[str, Any]] = {
    "hpa": {"kind": "hpa", "cpu": 75},
    "kpa": {"kind": "kpa", "target": 1.2},
    "ray_serve": {"kind": "ray_serve", "target_ongoing_requests": 0.8},
    "predictive": {"kind": "predictive"},
}
RESULTS = report.RESULTS / "ramp"
PAGE = report.DOCS / "ramp.md"
PICTURE = "![Replicas over time, live on the predicted band](ramp.png)"
COLUMNS = {
    "policy": "policy",
    "run": "run",
    "ticks": "ticks",
    "missed": "missed",
    "replayed": "replayed",
    "within": "within the band",
    "width": "median width",
    "off": "mean distance from the median",
    "between": "mean distance of the runs",
    "lost": "not answered ok",
    "late_share": "late sends",
    "start_up_s": "start-up, s",
}


# -- what is run ---------------------------------------------------------------------------------------


def deployment_of(policy: str, profile: Path) -> Deployment:
    """What is served and simulated, its time constants already divided; paths are absolute."""
    replicas = {"max": MOST, "autoscaler": POLICIES[policy]}
    model = {
        "profile": str(profile),
        "backend": "emulated",
        "queue": {"max_queue": 100_000},
        "replicas": replicas,
    }
    content = {"models": {"m": model}, "pools": {"here": {"cores": MOST, "price": "1 USD/h"}}}
    scenario = Scenario(
        seed=SEED,
        workload=workload_of(60 * 10**9),
        deployment=Deployment.model_validate(content),
        slo={"p99": SLO_P99},
    )
    whole = completed(scenario, profile.parent, profile.parent).deployment
    assert isinstance(whole, Deployment)
    return faster(whole, TIME_SCALE)


def workload_of(duration_ns: int) -> Workload:
    """One class; its law only stands for the mean, since arrivals are given."""
    arrivals = {"poisson": f"{CAPACITY_RPS:g}/s"}
    return Workload.model_validate({"duration": f"{duration_ns}ns", "classes": {"all": {"arrivals": arrivals}}})


def arrivals_ns() -> Ints:
    """Poisson arrivals whose rate follows the ramp, by thinning; from the ramp's start on."""
    rng = stream(SEED, 0, "bench", "ramp")
    most = max(LEVELS) * CAPACITY_RPS
    count = rng.poisson(most * KNOTS_S[-1])
    at_s = np.sort(rng.uniform(0.0, KNOTS_S[-1], count))
    kept = rng.uniform(0.0, max(LEVELS), count) < np.interp(at_s, KNOTS_S, LEVELS)
    return np.asarray(at_s[kept] * 1e9, np.int64)


# -- live ----------------------------------------------------------------------------------------------


def live(path: Path, deployment: Deployment, at_ns: Ints, log_dir: Path) -> tuple[ClientRows, Logged, Ints]:
    """One run of the ramp: what clients saw, the log of scaling with every tick decided again, and what arrived when,
    counted from the engine's own instant 0."""
    with launch(path, log_dir=log_dir) as engine:
        plan = LoadPlan("m", inputs_of(engine.url, "m", seed=SEED), OpenLoad(at_ns, np.ones(len(at_ns), np.int64)))
        rows = replay(engine.url, plan, cpus=affinity.generator_of(deployment, affinity.here()))
    logged = decided_again(log_dir / SCALING_FILE)
    return rows, logged, np.sort(read_requests(log_dir)[:, ARRIVAL_NS]) - logged.began_ns


# -- beside the simulator --------------------------------------------------------------------------------


def predicted(deployment: Deployment, base: Path, at_ns: Ints, start_ups_ns: Sequence[int], until_ns: int) -> Ints:
    """(replications, ticks): replicas that counted at each tick, for arrivals counted from the engine's instant 0."""
    given = {"all": Given(at_ns, np.ones(len(at_ns), np.int64))}
    setup = prepare(deployment, workload_of(until_ns), {}, SEED, base, base, given)
    counts = []
    for replication in range(REPLICATIONS):
        rng = stream(SEED, replication, "bench", "start_up")
        start_up_ns = int(rng.choice(np.asarray(start_ups_ns, np.int64)))
        model = setup.first.model
        replicas = model.replicas.model_copy(update={"start_up": start_up_ns})
        serving = replace(setup.first, model=model.model_copy(update={"replicas": replicas}))
        one = replace(setup, served=(serving,))
        history = run(one, replication, "fast").history
        assert history is not None
        counts.append([step.counted for step in history.models[0].steps if step.at_ns <= until_ns])
    return np.array(counts, np.int64)


def compared(logged: Logged, counts: Ints) -> dict[str, Any]:
    """The live run within the band; ticks that the live loop missed are left out."""
    tick_ns = np.gcd.reduce([tick.at_ns for tick in logged.ticks])
    index = np.array([tick.at_ns // tick_ns - 1 for tick in logged.ticks])
    here = index < counts.shape[1]
    index, seen = index[here], np.array([tick.counted for tick in logged.ticks])[here]
    low, high = np.quantile(counts, 0.025, axis=0, method="lower"), np.quantile(counts, 0.975, axis=0, method="higher")
    middle = np.quantile(counts, 0.5, axis=0, method="nearest")
    return {
        "ticks": len(logged.ticks),
        "missed": int(counts.shape[1] - len(index)),
        "replayed": logged.agreeing / len(logged.ticks),
        "within": float(np.mean((low[index] <= seen) & (seen <= high[index]))),
        "width": float(np.median(high - low)),
        "off": float(np.mean(np.abs(seen - middle[index]))),
        "tick_s": float(tick_ns) / 1e9,
        "live": changes(index, seen),
        "low": changes(np.arange(len(low)), low),
        "high": changes(np.arange(len(high)), high),
    }


def changes(ticks: Ints, values: Ints) -> list[list[int]]:
    """(tick, value) where a value begins, which is all that a step function has."""
    first = np.concatenate([[True], np.diff(values) != 0])
    return np.stack([ticks[first], values[first]], axis=1).tolist()


def run_policy(policy: str, folder: Path) -> dict[str, Any]:
    """Two live runs of one policy, each beside its prediction."""
    profile = write_profile(
        folder,
        Synthetic(base_ms=SERVICE_MS, row_ms=0.0, noise_cv=0.1, samples=400, rows=(1,), busy=range(MOST), slowdown=0.0),
    )
    deployment = deployment_of(policy, profile)
    path = folder / f"{policy}.yaml"
    files.save(path, deployment)
    at_ns, runs = arrivals_ns(), []
    for number in range(RUNS):
        rows, logged, met_ns = live(path, deployment, at_ns, folder / f"{policy}-{number}")
        until_ns = round(KNOTS_S[-1] * 1e9) + rows.start_ns - logged.began_ns
        counts = predicted(deployment, folder, met_ns, logged.start_ups_ns, until_ns)
        found = compared(logged, counts)
        found |= {
            "policy": policy,
            "run": number + 1,
            "lost": int(np.count_nonzero(rows.status != 200)),
            "requests": len(rows),
            "late_share": rows.late_share,
            "offset_s": (rows.start_ns - logged.began_ns) / 1e9,
            "start_up_s": float(np.median(logged.start_ups_ns)) / 1e9,
            "start_ups_s": [ns / 1e9 for ns in logged.start_ups_ns],
            "late_ms": [float(np.quantile([t.late_ns for t in logged.ticks], q)) / 1e6 for q in (0.5, 0.99)],
        }
        runs.append(found)
    between = distance([over_time(found) for found in runs])
    rows_of = [found | {"between": between} for found in runs]
    return report.provenance(commit=commit(), policy=policy, settings=POLICIES[policy], rows=rows_of)


def over_time(found: dict[str, Any], key: str = "live") -> Ints:
    """The number of replicas every 100 ms from the ramp's start on."""
    at = np.array([tick + 1 for tick, _ in found[key]]) * found["tick_s"] - found["offset_s"]
    values = np.array([value for _, value in found[key]])
    grid = np.arange(0.0, KNOTS_S[-1], 0.1)
    return np.asarray(values[np.maximum(np.searchsorted(at, grid, side="right") - 1, 0)], np.int64)


def distance(runs: Sequence[Ints]) -> float:
    """Mean distance of two runs, in replicas."""
    return float(np.mean(np.abs(runs[0] - runs[-1])))


def commit() -> str:
    """Of the working tree."""
    asked = ["git", "-C", str(report.ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


# -- all of it -------------------------------------------------------------------------------------------


def figure(kept: Sequence[dict[str, Any]], path: Path) -> None:
    """Live runs on the predicted band, a panel a policy."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    drawn, panels = pyplot.subplots(len(kept), 1, figsize=(9, 2.4 * len(kept)), sharex=True, squeeze=False)
    grid = np.arange(0.0, KNOTS_S[-1], 0.1)
    for panel, one in zip(panels[:, 0], kept, strict=True):
        first = one["rows"][0]
        panel.fill_between(
            grid, over_time(first, "low"), over_time(first, "high"), step="post", alpha=0.35, label="predicted, 95 %"
        )
        for found in one["rows"]:
            panel.step(grid, over_time(found), where="post", lw=1, label=f"live, run {found['run']}")
        panel.plot(grid, np.interp(grid, KNOTS_S, LEVELS), "k:", lw=1, label="load, in capacities of a replica")
        panel.set_ylabel(f"{one['policy']}\nreplicas")
        panel.set_ylim(0, MOST + 0.5)
    panels[0, 0].legend(loc="upper right", fontsize=7)
    panels[-1, 0].set_xlabel(f"seconds, at {TIME_SCALE:g} times the speed")
    drawn.tight_layout()
    drawn.savefig(path, dpi=110)
    pyplot.close(drawn)


def main() -> None:
    """Run what is missing, and write it all down."""
    parser = argparse.ArgumentParser(description="Live scaling beside its prediction.")
    parser.add_argument("--policies", default=",".join(POLICIES), help="parted by commas (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="run those too that are there")
    told = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for policy in told.policies.split(","):
        path = RESULTS / f"{policy}.json"
        if path.exists() and not told.again:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = run_policy(policy, Path(folder))
        files.save_text(path, json.dumps(found) + "\n")
        for row in found["rows"]:
            print({key: row[key] for key in COLUMNS}, flush=True)
    kept = [json.loads((RESULTS / f"{p}.json").read_text()) for p in POLICIES if (RESULTS / f"{p}.json").exists()]
    rows = [row for one in kept for row in one["rows"]]
    head = report.provenance(schema_version=1, commit=commit(), time_scale=TIME_SCALE, replications=REPLICATIONS)
    slim = [{k: v for k, v in row.items() if k not in ("live", "low", "high")} for row in rows]
    report.save("ramp", head | {"runs": [{k: v for k, v in one.items() if k != "rows"} for one in kept]}, slim)
    figure(kept, report.DOCS / "ramp.png")
    report.splice(PAGE, "ramp", f"{report.told(kept[-1])}\n\n{report.table(slim, COLUMNS)}\n\n{PICTURE}")


if __name__ == "__main__":
    main()
