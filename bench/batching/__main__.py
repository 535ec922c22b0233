"""Other engines' batching policies against the engines themselves: same arrivals, live and simulated.

    python -m bench.batching [--engines mosec,litserve,...] [--venvs FOLDER] [--seconds 30] [--runs 2]

Each engine is installed into an environment of its own (FOLDER/ENGINE, ignored by git) and serves a batch function that
sleeps a table's time; an open-loop client sends Poisson arrivals, twice the same. Written are the total variation (TV)
between the histograms of batch sizes, live and simulated, and of two live runs, and the latencies side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import report
from bench.batching.client import Client, Target
from serve.batching import POLICIES, SLOTS_UNBOUNDED, Batching
from serve.policy.codes import NEVER_NS
from serve.records import ANSWERED_NS, ARRIVAL_NS
from serve.scheduler import SchedulerSpec
from sim.plane import Node, Requests, Service, StopCode
from sim.reference import Reference
from sim.tally import BATCH_ROWS

HERE = Path(__file__).resolve().parent
VENVS = HERE.parent / "cache" / "batching"
PACKAGES = {"mosec": "mosec", "litserve": "litserve", "ray_serve": "ray[serve]", "triton": "nvidia-pytriton"}
DISTRIBUTIONS = {"mosec": "mosec", "litserve": "litserve", "ray_serve": "ray", "triton": "nvidia-pytriton"}

MAX_BATCH = 8
TIMES_NS = [20_000_000 + 4_000_000 * rows for rows in range(1, MAX_BATCH + 1)]
START_S = 120.0
MS = 1_000_000

Row = dict[str, Any]
LATENCIES: dict[str, Callable[[Any], Any]] = {
    "mean": np.nanmean,
    "p50": lambda values: np.nanpercentile(values, 50),
    "p99": lambda values: np.nanpercentile(values, 99),
}
COLUMNS = {
    "engine": "engine",
    "case": "case",
    "rate_rps": "requests/s",
    "window_ms": "window, ms",
    "batch_live": "rows a batch, live",
    "batch_simulated": "simulated",
    "tv": "TV of sizes",
    "tv_live": "of two live runs",
    "mean_live_ms": "mean, ms, live",
    "mean_simulated_ms": "simulated",
    "p50_live_ms": "p50, ms, live",
    "p50_simulated_ms": "simulated",
    "p99_live_ms": "p99, ms, live",
    "p99_simulated_ms": "simulated",
    "unanswered": "unanswered",
}


@dataclass(frozen=True)
class Case:
    """One load on one engine."""

    name: str
    engine: str
    rate_rps: float
    window_ns: int
    workers: int = 1
    preferred: tuple[int, ...] = ()
    late: bool = True  # of Triton: it fills no batch while its instances work
    max_ongoing: int = 64

    @property
    def batching(self) -> Batching:
        """As a file would say it."""
        own: dict[str, Any] = {}
        if self.preferred:
            own["preferred"] = list(self.preferred)
        if self.engine == "ray_serve":
            own["max_ongoing"] = self.max_ongoing
        told = {"policy": self.engine, "max_batch": MAX_BATCH, "window": f"{self.window_ns // 1000}us", **own}
        return Batching.model_validate(told)


def cases() -> list[Case]:
    """Three loads on every engine: one that the window rules, one near capacity, one shared by two workers.

    Ray closes its batches early, so that one replica has less capacity: it gets half as much.
    """
    found = []
    for engine in PACKAGES:
        found += [
            Case("light", engine, 15.0, 40 * MS),
            Case("heavy", engine, 50.0 if engine == "ray_serve" else 100.0, 20 * MS),
            Case("two workers", engine, 100.0, 20 * MS, workers=2),
        ]
    preferred = Case("preferred 4", "triton", 60.0, 40 * MS, preferred=(4,))
    return [*found, preferred, Case("preferred 4, prefetching", "triton", 60.0, 40 * MS, preferred=(4,), late=False)]


# -- live --------------------------------------------------------------------------------------------


def python_of(engine: str, venvs: Path) -> Path:
    """The interpreter of an engine's own environment, made if it is not there."""
    python = venvs / engine / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venvs / engine)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PACKAGES[engine]], check=True)
    return python


def version_of(python: Path, engine: str) -> str:
    """Version of the engine that is installed there."""
    code = f"import importlib.metadata as m; print(m.version({DISTRIBUTIONS[engine]!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def target(case: Case, port: int) -> Target:
    """How the engine is asked."""
    if case.engine == "litserve":
        return Target(port, "/predict", b'{"x": 1}', "application/json")
    if case.engine == "triton":
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
        return Target(port, "/v2/models/m/infer", json.dumps(body).encode(), "application/json")
    return Target(port, "/predict", b"1", "application/octet-stream")


@contextlib.contextmanager
def served(case: Case, python: Path, port: int, log: Path) -> Iterator[Client]:
    """A server of the case, ready, and its client."""
    settings = {
        "port": port, "workers": case.workers, "max_batch": MAX_BATCH, "window_ns": case.window_ns,
        "times_ns": TIMES_NS, "log": str(log), "max_ongoing": case.max_ongoing,
        "preferred": list(case.preferred), "late": case.late,
    }  # fmt: skip
    env = {**os.environ, "BENCH_BATCHING": json.dumps(settings), "PYTHONPATH": str(HERE / "servers")}
    script = HERE / "servers" / f"with_{case.engine}.py"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [str(python), str(script)], env=env, stdout=said, stderr=said, start_new_session=True, cwd=log.parent
        )
        client = Client(target(case, port))
        try:
            client.wait_until_ready(START_S, lambda: process.poll() is None)
            yield client
        except TimeoutError:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace")[-3000:])
            raise
        finally:
            client.close()
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started: its session is its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


@dataclass(frozen=True)
class Run:
    """What came of one run, live or simulated."""

    latencies_s: list[float]  # NaN: unanswered
    batches: list[int]  # their rows
    spans_ns: list[int]  # how long each held its worker


def live(case: Case, python: Path, port: int, instants_s: Sequence[float]) -> Run:
    """One run of the engine."""
    with tempfile.TemporaryDirectory(prefix="bench-batching-") as folder:
        log = Path(folder) / "batches"
        with served(case, python, port, log) as client:
            time.sleep(2.0)
            log.unlink(missing_ok=True)
            latencies_s = client.run(instants_s)
        lines = [[int(word) for word in line.split()] for line in log.read_text().splitlines()]
    return Run(latencies_s, [rows for _, _, rows, _ in lines], [ended - began for began, ended, *_ in lines])


def measured_ns(runs: Sequence[Run]) -> list[int]:
    """By rows, how long batches held their workers: the median, or the table's time where there was none."""
    told = [(rows, span_ns) for run in runs for rows, span_ns in zip(run.batches, run.spans_ns, strict=True)]
    by_rows = {n: [span_ns for rows, span_ns in told if rows == n] for n in range(1, MAX_BATCH + 1)}
    return [round(statistics.median(by_rows[n])) if by_rows[n] else TIMES_NS[n - 1] for n in by_rows]


# -- simulated -----------------------------------------------------------------------------------------


def simulated(case: Case, instants_s: Sequence[float], times_ns: Sequence[int]) -> Run:
    """The same of the reference simulator, with these service times by rows, and no cost of the engine's own."""
    batching, count = case.batching, len(instants_s)
    slots = SLOTS_UNBOUNDED if case.engine == "ray_serve" else 1
    spec = SchedulerSpec(
        MAX_BATCH, case.window_ns, slots=slots, policy=POLICIES[case.engine], settings=batching.settings
    )
    node = Node(spec, case.workers, Service(np.array([0, *times_ns], np.int64), 0, MAX_BATCH, 0))
    ones, never = np.ones(count, np.int64), np.full(count, NEVER_NS)
    arrival_ns = np.rint(np.array(instants_s) * 1e9).astype(np.int64)
    zeros = np.zeros(count, np.int64)
    plane = Reference(node, 1)
    for replica in range(case.workers):
        plane.ready(replica)
    plane.feed(Requests(arrival_ns, ones, zeros, zeros, never, never, zeros, zeros.reshape(1, count)))
    plane.end_feed()
    while plane.advance(NEVER_NS // 2).code != StopCode.UNTIL:
        pass
    rows, batches = plane.rows(), plane.batches()
    return Run(list((rows[:, ANSWERED_NS] - rows[:, ARRIVAL_NS]) / 1e9), [int(n) for n in batches[:, BATCH_ROWS]], [])


# -- side by side ----------------------------------------------------------------------------------------


def total_variation(a: Sequence[int], b: Sequence[int]) -> float:
    """Between the shares of batches by rows: 0 alike, 1 nothing in common."""
    left, right = Counter(a), Counter(b)
    return sum(abs(left[n] / len(a) - right[n] / len(b)) for n in range(1, MAX_BATCH + 1)) / 2


def measure(case: Case, python: Path, port: int, seconds: float, runs: int) -> Row:
    """One row."""
    rng = np.random.default_rng(11)
    gaps_s = rng.exponential(1 / case.rate_rps, round(case.rate_rps * seconds))
    instants_s = np.cumsum(gaps_s).tolist()
    told = [live(case, python, port + i, instants_s) for i in range(runs)]
    times_ns = measured_ns(told)
    predicted = simulated(case, instants_s, times_ns)
    row: Row = {
        "engine": case.engine,
        "case": case.name,
        "rate_rps": case.rate_rps,
        "window_ms": case.window_ns / MS,
        "workers": case.workers,
        "requests": len(instants_s),
        "unanswered": sum(int(np.isnan(run.latencies_s).sum()) for run in told),
        "times_ms": [round(ns / MS, 2) for ns in times_ns],
        "batch_live": statistics.median(statistics.mean(run.batches) for run in told),
        "batch_simulated": statistics.mean(predicted.batches),
        "tv": statistics.median(total_variation(run.batches, predicted.batches) for run in told),
        "tv_live": total_variation(told[0].batches, told[-1].batches) if runs > 1 else None,
        "histogram_live": _shares(told[0].batches),
        "histogram_simulated": _shares(predicted.batches),
    }
    for name, of in LATENCIES.items():
        row[f"{name}_live_ms"] = 1e3 * statistics.median(float(of(run.latencies_s)) for run in told)
        row[f"{name}_simulated_ms"] = 1e3 * float(of(predicted.latencies_s))
    print(json.dumps(row), file=sys.stderr)
    return row


def _shares(batches: Sequence[int]) -> list[float]:
    counts = Counter(batches)
    return [round(counts[n] / len(batches), 4) for n in range(1, MAX_BATCH + 1)]


def _with_others(rows: list[Row], versions: dict[str, str]) -> tuple[list[Row], dict[str, str]]:
    """What was measured, and what the file holds of engines that were not measured now."""
    path = report.RESULTS / "batching.json"
    kept = json.loads(path.read_text()) if path.exists() else {"rows": [], "versions": {}}
    rows = rows + [row for row in kept["rows"] if row["engine"] not in versions]
    rows.sort(key=lambda row: list(PACKAGES).index(str(row["engine"])))
    return rows, {name: version for name, version in kept["versions"].items() if name not in versions} | versions


def main() -> None:
    """Measure every case of the engines asked for; write the file and the page's table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engines", default=",".join(PACKAGES))
    parser.add_argument("--venvs", type=Path, default=VENVS)
    parser.add_argument("--seconds", type=float, default=30.0, help="of arrivals in each run")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--port", type=int, default=18400)
    told = parser.parse_args()
    engines = told.engines.split(",")
    pythons = {engine: python_of(engine, told.venvs) for engine in engines}
    wanted = [case for case in cases() if case.engine in engines]
    rows = [
        measure(case, pythons[case.engine], told.port + 10 * i, told.seconds, told.runs)
        for i, case in enumerate(wanted)
    ]
    head = report.provenance(max_batch=MAX_BATCH, times_ms=[ns / MS for ns in TIMES_NS], seconds=told.seconds)
    versions = {engine: version_of(python, engine) for engine, python in pythons.items()}
    rows, head["versions"] = _with_others(rows, versions)
    print(report.save("batching", head, rows))
    text = f"{report.told(head)}\n\n{report.table(rows, COLUMNS)}"
    report.splice(report.DOCS / "batching.md", "batching", text)
    print(text)


if __name__ == "__main__":
    main()
