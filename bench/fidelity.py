"""How far predictions are off: a grid of cells, each predicted, then run live twice.

    python -m bench.fidelity --set full|quick

Per model: calibrate once, measure the saturation throughput of each number of replicas with closed
loops, then run every cell of windows x replicas x loads x arrivals through `planner.verify`, which
writes the prediction down before the engine starts. No live data of a cell enters its profile.
Every run is kept under bench/results/fidelity/, one folder a cell, one file a run; a cell that was
run with the present profile is not run again (`--again` runs all). Writes bench/results/fidelity.json
and the tables of docs/fidelity.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import fidelity_table, report
from bench.fidelity_models import CACHE, MODELS, FidelityModel
from planner.compare import compare
from planner.look import look
from planner.report import Report
from planner.subject import Subject, read_subject
from planner.verify import SPOT_CHECK_S, now_text, verify
from serve import files, machine
from serve.benchmark import calibrate
from serve.deployment import Deployment
from serve.loadgen import closed_loop
from serve.profile import Profile
from sim.scenario import Workload
from sim.simulate import predict

RESULTS = report.RESULTS / "fidelity"
"""Every run of every cell."""

WINDOWS_MS = (0, 2, 10)
FLEETS = ((1, False), (2, True))  # replicas, emulated
LOADS = (0.3, 0.6, 0.8, 0.9)
ARRIVALS = ("poisson", "gamma-cv3")
SEED = 20261124
"""Of inputs, and in each cell's own seed."""
QUEUE_ROWS = 100_000
"""Nobody is refused: what is compared are latencies."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What is run, and for how long."""

    name: str
    models: tuple[FidelityModel, ...]
    windows_ms: tuple[int, ...]
    fleets: tuple[tuple[int, bool], ...]
    loads: tuple[float, ...]
    arrivals: tuple[str, ...]
    duration_s: float
    saturation_s: float
    budget_s: int  # of a calibration
    look_s: float = SPOT_CHECK_S  # before each prediction


FULL = Grid("full", MODELS, WINDOWS_MS, FLEETS, LOADS, ARRIVALS, 12.0, 6.0, 60)
QUICK = Grid("quick", MODELS[:2], (2,), FLEETS, (0.3, 0.8), ARRIVALS[:1], 6.0, 3.0, 25, 4.0)


@dataclass(frozen=True, slots=True)
class Fleet:
    """A model, its replicas, and the window that they run with."""

    model: FidelityModel
    replicas: int
    emulated: bool
    window_ms: int = 0

    @property
    def router(self) -> str | None:
        """Policy of the router before its nodes; none: a node that clients reach themselves."""
        return None

    @property
    def name(self) -> str:
        """Unique among the fleets of one model and window."""
        return f"{self.model.name}-r{self.replicas}{'e' if self.emulated else ''}"

    def deployment(self, profile: Path, file: Path, planned_for: dict[str, Any] | None = None) -> Deployment:
        """What is served; paths are absolute."""
        return Deployment.model_validate(
            {
                "models": {
                    self.model.name: {
                        "file": str(file),
                        "profile": str(profile),
                        "backend": "emulated" if self.emulated else "onnx",
                        "batching": {"max_batch": self.model.max_batch, "window": f"{self.window_ms}ms"},
                        "queue": {"max_queue": QUEUE_ROWS},
                        "replicas": {"count": self.replicas},
                    }
                },
                "pools": {"here": {"cores": machine.cores(), "price": "0 USD/h"}},
                "planned_for": planned_for,
            }
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid."""

    fleet: Fleet
    load: float
    arrivals: str

    @property
    def name(self) -> str:
        """Unique in the grid; the name of its folder."""
        return f"{self.fleet.name}-w{self.fleet.window_ms}-l{self.load * 100:.0f}-{self.arrivals}"

    @property
    def seed(self) -> int:
        """Of its own: what is luck in one cell says nothing of another."""
        return zlib.crc32(f"{SEED} {self.name}".encode())

    def planned_for(self, rate_rps: float, duration_s: float) -> dict[str, Any]:
        """The workload, as a deployment holds it."""
        rate = f"{rate_rps:.6g}/s"
        law = {"poisson": rate} if self.arrivals == "poisson" else {"gamma": {"rate": rate, "cv": 3.0}}
        return {
            "workload": {"duration": f"{duration_s:g}s", "classes": {"all": {"arrivals": law}}},
            "slo": {},
            "seed": self.seed,
            "replications": 20,
        }


def cells_of(grid: Grid) -> list[Cell]:
    """All cells of a grid, model by model; loads change fastest, so that one machine's mood meets all of them."""
    points = itertools.product(grid.models, grid.fleets, grid.windows_ms, grid.arrivals, grid.loads)
    return [Cell(Fleet(m, count, emulated, w), load, law) for m, (count, emulated), w, law, load in points]


# -- what a cell rests on ----------------------------------------------------------------------------


def calibrated(model: FidelityModel, budget_s: int, again: bool) -> Path:
    """The model's profile, calibrated now unless the cache has one of this machine and model."""
    path = CACHE / "profiles" / f"{model.name}-{budget_s}s.yaml"
    onnx = model.fetch()
    if path.exists() and not again and _still_holds(path, onnx):
        return path
    note(f"calibrating {model.name} ({budget_s} s)")
    calibrate(onnx, out=path, budget_s=budget_s, max_batch=model.max_batch, shapes=model.shapes)
    return path


def _still_holds(path: Path, onnx: Path) -> bool:
    profile = files.load(path, Profile)
    return profile.model.sha256 == files.sha256(onnx) and not machine.differences(profile.machine, machine.describe())


def capacity_rps(fleet: Fleet, profile: Path, grid: Grid) -> dict[str, float]:
    """Throughput with the queue never empty: predicted, then live (median of two runs); kept beside the cells, by
    profile."""
    kept = RESULTS / "saturation" / f"{fleet.name}.json"
    sha = files.sha256(profile)
    known = json.loads(kept.read_text()) if kept.exists() else {"runs": []}
    mine = [run for run in known["runs"] if run["profile_sha256"] == sha]
    if not mine:
        note(f"saturating {fleet.name}")
        predicted, found = _saturate(fleet, profile, grid.saturation_s, grid.look_s)
        mine = [{"date": now_text(), "profile_sha256": sha, "rps": rps, "predicted_rps": predicted} for rps in found]
        known["runs"] += mine
        write_json(kept, known)
    return {"measured": median(r["rps"] for r in mine), "predicted": median(r["predicted_rps"] for r in mine)}


def _saturate(fleet: Fleet, profile: Path, seconds: float, look_s: float) -> tuple[float, list[float]]:
    path = CACHE / "cells" / f"{fleet.name}-saturation.yaml"
    anything = Cell(fleet, 1.0, "poisson").planned_for(1.0, 1.0)
    files.save(path, fleet.deployment(profile, fleet.model.fetch(), anything))
    subject = read_subject(path, SEED)
    predicted = predicted_capacity_rps(subject, look_s)
    cpus = subject.generator_cores
    clients, inputs = clients_of(subject), subject.inputs()
    found = []
    with subject.launch() as live:
        for _ in range(2):
            rows = closed_loop(live.url, fleet.model.name, inputs, clients=clients, duration_s=seconds, cpus=cpus)
            found.append(_steady_rps(rows.received_ns[rows.status == 200] - rows.start_ns, seconds))
    return predicted, found


def predicted_capacity_rps(subject: Subject, look_s: float) -> float:
    """The simulator's capacity, at the machine's present level."""
    level = look(saturated(subject), look_s)
    workload, base = subject.planned.workload, subject.path.parent
    found = predict(subject.deployment, workload, base=base, replications=2, level=level).capacity_rps
    assert found is not None, "an open workload has a capacity"
    return found


def saturated(subject: Subject) -> Subject:
    """The same deployment, with a queue that is never empty."""
    law = {"closed": {"clients": clients_of(subject), "think": "0ms"}}
    workload = Workload.model_validate({"duration": "60s", "classes": {"all": {"arrivals": law}}})
    return replace(subject, planned=subject.planned.model_copy(update={"workload": workload}))


def clients_of(subject: Subject) -> int:
    """Closed-loop clients that keep the queue from ever being empty."""
    return 4 * subject.deployment.models[subject.name].batching.max_batch * subject.replicas


def _steady_rps(answered_ns: Any, seconds: float) -> float:
    """Answers per second between a quarter and the end of the run."""
    start_ns, end_ns = seconds * 0.25e9, seconds * 1e9
    return float(np.count_nonzero((answered_ns >= start_ns) & (answered_ns < end_ns))) / (0.75 * seconds)


# -- a cell ------------------------------------------------------------------------------------------


def run_cell(
    cell: Cell, profile: Path, capacity: dict[str, float], grid: Grid, facts: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Predict and run one cell; the file of the run, which holds its row and more `facts`, is written at the end."""
    folder = RESULTS / cell.name
    date = now_text()
    path = CACHE / "cells" / f"{cell.name}.yaml"
    rate_rps = cell.load * capacity["measured"]
    planned_for = cell.planned_for(rate_rps, grid.duration_s)
    files.save(path, cell.fleet.deployment(profile, cell.fleet.model.fetch(), planned_for))
    stamp = re.sub(r"[^0-9TZ]", "", date)
    held = verify(path, repeats=2, prediction_path=folder / f"{stamp}.prediction.json", spot_check_s=grid.look_s)
    held = held.model_copy(update={"deployment": str(path.relative_to(CACHE.parents[1]))})
    kept = {
        "cell": cell.name,
        "date": date,
        "profile_sha256": files.sha256(profile),
        "disturbed": files.load(profile, Profile).noise.disturbed,
        "duration_s": grid.duration_s,
        "row": row_of(cell, rate_rps, capacity, held),
        "report": files.plain(held),
        **(facts or {}),
    }
    write_json(folder / f"{stamp}.json", kept)
    return kept


def row_of(cell: Cell, rate_rps: float, capacity: dict[str, float], held: Report) -> dict[str, Any]:
    """A row of fidelity.json. Times in ms; `measured` is the first live run, `repeat` the second."""
    first, second = held.runs[0], held.runs[-1]
    predicted = held.predicted.total.metrics
    intervals = {f"{m}_ms": predicted[m].pi for m in ("mean", "p50", "p95", "p99")}
    return {
        "model": cell.fleet.model.name,
        "window_ms": float(cell.fleet.window_ms),
        "replicas": cell.fleet.replicas,
        "emulated": cell.fleet.emulated,
        "router": cell.fleet.router,
        "load": cell.load,
        "rate_rps": rate_rps,
        "arrivals": cell.arrivals,
        "n": first.requests,
        "oversubscribed": held.oversubscribed,
        "late_share": max(run.late_share for run in held.runs),
        "loadgen_cpu_share": max(run.loadgen_cores for run in held.runs),
        "measured": numbers(first.metrics),
        "repeat": numbers(second.metrics),
        "predicted": numbers({c.metric: c.predicted for c in held.comparisons}),
        "interval": {k: None if v is None else [v[0] * 1e3, v[1] * 1e3] for k, v in intervals.items()},
        "batch_tv": held.batch_tv,
        "capacity_rps": capacity,
        "level": held.level,
        "front_level": held.front_level,
    }


def numbers(metrics: dict[str, float | None]) -> dict[str, float | None]:
    """The measures of a row, from metrics of the vocabulary."""
    times = {f"{m}_ms": metrics.get(m) for m in ("mean", "p50", "p95", "p99")}
    return {k: None if v is None else v * 1e3 for k, v in times.items()} | {
        "throughput_rps": metrics.get("throughput"),
        "busy_share": metrics.get("busy"),
    }


def latest(cell: Cell, profile_sha256: str | None = None) -> dict[str, Any] | None:
    """The newest run of a cell (with this profile, if one is named); None if there is none."""
    runs = sorted(p for p in (RESULTS / cell.name).glob("*.json") if not p.name.endswith(".prediction.json"))
    for path in reversed(runs):
        kept: dict[str, Any] = json.loads(path.read_text())
        if profile_sha256 is None or kept["profile_sha256"] == profile_sha256:
            return {**kept, "row": row_again(cell, kept)}
    return None


def row_again(cell: Cell, kept: dict[str, Any]) -> dict[str, Any]:
    """The row of a kept run, from its report: compared as runs are compared now."""
    held, row = Report.model_validate(kept["report"]), kept["row"]
    held = held.model_copy(update={"comparisons": compare(held.predicted, held.runs, held.rehearsed)})
    return row_of(cell, row["rate_rps"], row["capacity_rps"], held)


# -- all of it -----------------------------------------------------------------------------------------


def run_grid(grid: Grid, again: bool = False) -> list[dict[str, Any]]:
    """Run what is missing of a grid; the newest run of each of its cells."""
    cells = cells_of(grid)
    profiles = {model.name: calibrated(model, grid.budget_s, again) for model in grid.models}
    done = []
    for number, cell in enumerate(cells, start=1):
        profile = profiles[cell.fleet.model.name]
        kept = None if again else latest(cell, files.sha256(profile))
        if kept is None:
            capacity = capacity_rps(cell.fleet, profile, grid)
            kept = run_cell(cell, profile, capacity, grid)
        done.append(kept)
        note(f"{number}/{len(cells)} {cell.name}: {in_short(kept['row'])}")
    return done


def in_short(row: dict[str, Any]) -> str:
    """Errors of a cell's latencies beside their noise, in a line."""
    parts = []
    for metric in fidelity_table.LATENCIES:
        error, floor = fidelity_table.error(row, metric), fidelity_table.noise(row, metric)
        if error is not None and floor is not None:
            parts.append(f"{metric.removesuffix('_ms')} off {error:.1%} (noise {floor:.1%})")
    return ", ".join(parts) or "no latency was measured"


def write_results(kept: Sequence[dict[str, Any]], grid: Grid) -> Path:
    """bench/results/fidelity.json, and the generated part of docs/fidelity.md."""
    rows = [k["row"] for k in kept]
    head = report.provenance(
        schema_version=1,
        set=grid.name,
        versions=machine.describe().versions,
        last_run=max(k["date"] for k in kept),
        duration_s=grid.duration_s,
        disturbed=sorted({k["row"]["model"] for k in kept if k["disturbed"]}),
        summary=fidelity_table.summary(rows),
    )
    path = report.save("fidelity", head, rows)
    # A quick run has a part of the page of its own, so that it does not replace the table of a full one.
    part = "fidelity" if grid is FULL else "fidelity-quick"
    text = f"\n{report.told(head)}\n{fidelity_table.markdown(rows, head)}\n"
    report.splice(report.DOCS / "fidelity.md", part, text)
    return path


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically, a line a key of the root; folders are made."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items())
    files.save_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def note(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Iterable[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--set", choices=["full", "quick"], default="full", help="all cells, or a few in 5 minutes")
    parser.add_argument("--again", action="store_true", help="calibrate and run again what is there")
    parser.add_argument("--tables", action="store_true", help="run nothing, write json and tables of what is there")
    options = parser.parse_args(None if argv is None else list(argv))
    grid = FULL if options.set == "full" else QUICK
    if options.tables:
        kept = [k for cell in cells_of(grid) if (k := latest(cell)) is not None]
    else:
        kept = run_grid(grid, options.again)
    if not kept:
        raise SystemExit("no cell has been run yet")
    note(f"written: {write_results(kept, grid)}, docs/fidelity.md")


if __name__ == "__main__":
    main()
