"""How fast our HTTP front is: closed loops against the engine and against a bare loop, interleaved.

    python -m bench.engine [--rounds N] [--seconds S]

All servers stay up while the load generator goes round them in a random order, so that the machine's
moods meet all alike; each round gives one ratio to the bare loop's own round. Writes
bench/results/engine.json and the table in docs/engine-bench.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.progress import Progress

from bench import report
from serve import machine
from serve.launch import launch
from serve.load_plan import random_inputs
from serve.loadgen import ClientRows, closed_loop
from tests.serve.models import mlp

CONNECTIONS = (1, 64)
"""One shows what a lonely request costs, when every wake-up is paid for; many, what a busy server does."""
WIDTH = 64
BARE = "bare"
SEED = 20261124
PAGE = report.DOCS / "engine-bench.md"

COLUMNS = {
    "case": "server",
    "connections": "connections",
    "requests_per_s": "requests/s",
    "ratio": "x bare",
    "ratio_low": "lowest",
    "ratio_high": "highest",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "server_us_per_request": "server CPU us/request",
    "loadgen_us_per_request": "generator CPU us/request",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One server under test: a name, and the model's part of the engine's deployment (None: the bare loop)."""

    name: str
    settings: dict[str, Any] | None


CASES = (
    Case(BARE, None),
    Case("forebay, max_batch 1", {}),
    Case("forebay, max_batch 1, slots 2", {"replicas": {"slots": 2}}),
    Case("forebay, max_batch 16", {"batching": {"max_batch": 16}}),
)


@dataclass(slots=True)
class Rounds:
    """What was measured of one case, round by round."""

    requests_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    loadgen_us: list[float] = field(default_factory=list)

    def add(self, rows: ClientRows, server_cpu_s: float) -> None:
        """One round; RuntimeError if the server refused anything, since then it is no comparison."""
        ok = len(rows.latency_ns)
        if ok < len(rows):
            raise RuntimeError(f"{len(rows) - ok} of {len(rows)} requests were not answered 200")
        self.requests_per_s.append(ok / ((rows.end_ns - rows.start_ns) / 1e9))
        self.p50_ms.append(float(np.quantile(rows.latency_ns, 0.5)) / 1e6)
        self.p99_ms.append(float(np.quantile(rows.latency_ns, 0.99)) / 1e6)
        self.server_us.append(server_cpu_s / ok * 1e6)
        self.loadgen_us.append(rows.cpu_s / ok * 1e6)


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test that is up."""

    case: Case
    url: str
    pid: int


@contextlib.contextmanager
def running(case: Case, folder: Path) -> Iterator[Server]:
    """The server of a case while the block runs."""
    model = mlp(folder / "mlp.onnx", width=WIDTH, hidden=256, outputs=10)
    if case.settings is None:
        command = [sys.executable, "-m", "bench.bare", str(model), "--width", str(WIDTH)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=report.ROOT.parent) as process:
            try:
                assert process.stdout is not None
                yield Server(case, f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid)
            finally:
                process.kill()
        return
    with launch(_deployment(folder, case)) as live:
        yield Server(case, live.url, live.pid)


def _deployment(folder: Path, case: Case) -> Path:
    models = {"mlp": {"file": "mlp.onnx", "profile": "none.yaml", **(case.settings or {})}}
    pools = {"here": {"nodes": 1, "cores": machine.cores(), "price": "0 USD/h"}}
    path = folder / f"{case.name.replace(' ', '-').replace(',', '')}.json"
    path.write_text(json.dumps({"schema_version": 1, "models": models, "pools": pools}))
    return path


def cpu_times(servers: Sequence[Server]) -> machine.CpuTimes:
    """A reading in which the servers, we and our load generators, dead ones too, are not strangers."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    generators_s = used.ru_utime + used.ru_stime + time.process_time()
    found = machine.cpu_times(time.monotonic(), [server.pid for server in servers])
    return replace(found, ours_s=found.ours_s + generators_s)


Found = dict[tuple[str, int], Rounds]
"""What was measured, by case and number of connections."""


def measure(rounds: int, seconds: float) -> tuple[Found, float]:
    """`rounds` rounds of `seconds` each on every case and number of connections, after one to warm up, not counted.

    Also the cores that strangers took meanwhile.
    """
    inputs = random_inputs([("x", "FP32", [WIDTH])], 64, SEED)
    order = random.Random(SEED)
    found = {(case.name, connections): Rounds() for connections in CONNECTIONS for case in CASES}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack, Progress() as progress:
        servers = [stack.enter_context(running(case, Path(name))) for case in CASES]
        points = [(server, connections) for server in servers for connections in CONNECTIONS]
        task = progress.add_task("closed loops", total=(rounds + 1) * len(points))
        before = cpu_times(servers)
        for number in range(rounds + 1):
            for server, connections in order.sample(points, len(points)):
                before_s = machine.tree_cpu_s([server.pid])
                rows = closed_loop(server.url, "mlp", inputs, clients=connections, duration_s=seconds)
                if number:
                    found[server.case.name, connections].add(rows, machine.tree_cpu_s([server.pid]) - before_s)
                progress.advance(task)
        strangers_cores = before.strangers_share(cpu_times(servers))
    return found, strangers_cores


def rows_of(found: Found) -> list[dict[str, Any]]:
    """One row a case and number of connections: medians over the rounds, the ratio to the bare loop of each round."""
    rows = []
    for (name, connections), rounds in found.items():
        bare = found[BARE, connections].requests_per_s
        ratios = [ours / its for ours, its in zip(rounds.requests_per_s, bare, strict=True)]
        rows.append(
            {
                "case": name,
                "connections": connections,
                "rounds": len(ratios),
                "requests_per_s": median(rounds.requests_per_s),
                "ratio": median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
                "p50_ms": median(rounds.p50_ms),
                "p99_ms": median(rounds.p99_ms),
                "server_us_per_request": median(rounds.server_us),
                "loadgen_us_per_request": median(rounds.loadgen_us),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.engine", description="Our HTTP front beside a bare loop.")
    parser.add_argument("--rounds", type=int, default=6, help="rounds counted (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each (default: %(default)s)")
    told = parser.parse_args(arguments)
    found, strangers_cores = measure(told.rounds, told.seconds)
    head = report.provenance(
        rounds=told.rounds, seconds=told.seconds, model=f"mlp {WIDTH}-256-256-10", strangers_cores=strangers_cores
    )
    rows = rows_of(found)
    print(report.save("engine", head, rows))
    how = f"{told.rounds} rounds of {told.seconds:g} s; other programs took {strangers_cores:.2f} cores meanwhile."
    text = f"{report.told(head)}\n{how}\n\n{report.table(rows, COLUMNS)}"
    report.splice(PAGE, "engine", text)
    print(text)


if __name__ == "__main__":
    main()
