"""The engine under test and the generator that drives it.

One launch measures one number of threads. The deployment holds the model twice, as a single replica
(`solo`) and as the replicas beside it (`crowd`), so that a single replica can be driven to saturation
while any number of neighbours is busy, and an emulated model that answers at once (`null`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from serve import affinity, machine
from serve.calibration.design import CROWD, NULL, NULL_WINDOW_NS, SOLO
from serve.deployment import Deployment
from serve.files import save, sha256
from serve.launch import Live, launch
from serve.load_plan import LoadPlan
from serve.loadgen import ClientRows, LoadGenerator
from serve.profile import (
    ClientCosts,
    FrontCosts,
    ModelFacts,
    Noise,
    Profile,
    Samples,
    ServiceCell,
    Startup,
)
from serve.records import Rows
from serve.request_log import read_batches, read_requests
from serve.units import format_duration

QUEUES = (SOLO, NULL, CROWD)
"""The models as they stand in the deployment: a row's `queue` is the place in it. The last may be absent."""

LAUNCH_TIMEOUT_S = 600.0
RETRY_AFTER_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """One replay: what the client saw, CPU seconds of the engine's front process, whether its requests were kept
    apart, so that each became a batch of its own, and whether its replica was let rest between them."""

    client: ClientRows
    front_cpu_s: float
    apart: bool = True
    rested: bool = False


@dataclass(slots=True)
class Logs:
    """All that one launch left behind: the engine's logs, the generator's rows and what start-up took."""

    threads: int
    started: dict[str, Any]
    memory_mib: float
    spans: list[Span] = field(default_factory=list)
    requests: Rows = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    batches: Rows = field(default_factory=lambda: np.zeros((0, 0), np.int64))


@dataclass(frozen=True, slots=True)
class Rig:
    """A running engine and generator."""

    live: Live
    generator: LoadGenerator
    logs: Logs

    def run(self, plan: LoadPlan, apart: bool = True, rested: bool = False) -> ClientRows:
        """Replay a plan, and note what it took; `apart` and `rested` as in `Span`."""
        before_s = machine.process_cpu_s(self.live.pid)
        client = self.generator.replay(plan)
        self.logs.spans.append(Span(client, machine.process_cpu_s(self.live.pid) - before_s, apart, rested))
        return client

    def place(self, neighbours: bool) -> None:
        """Put the processes on the cores that a deployment of one replica, or of all of them, would have."""
        models = self.live.started["models"]
        running = [r["pid"] for n in ((SOLO, CROWD) if neighbours else (SOLO,)) for r in models[n]["replicas"]]
        shares = affinity.layout(affinity.here(), [self.logs.threads] * len(running))
        for pid, cores in zip(running, shares.replicas, strict=True):
            affinity.keep_to(pid, cores)
        for replica in models[NULL]["replicas"]:
            affinity.keep_to(replica["pid"], sorted({c for own in shares.replicas for c in own}))
        for pid in (self.live.pid, self.generator.pid):
            affinity.keep_to(pid, shares.front)

    @property
    def pids(self) -> list[int]:
        """Our processes, for telling strangers' work from ours."""
        return [os.getpid(), self.live.pid]


@contextmanager
def rig(folder: Path, deployment: Deployment, threads: int) -> Iterator[Rig]:
    """Launch the engine; when the block ends, `logs` holds what it wrote. Raises EngineError."""
    path = folder / f"threads-{threads}.yaml"
    save(path, deployment)
    log_dir = folder / f"threads-{threads}"
    with launch(path, log_dir=log_dir, timeout_s=LAUNCH_TIMEOUT_S) as live:
        subject = live.started["models"][SOLO]["replicas"][0]
        logs = Logs(threads, live.started, machine.memory_mib(subject["pid"]) or subject["memory_mib"])
        with LoadGenerator(live.url, cpus=affinity.generator_of(deployment, affinity.here())) as generator:
            yield Rig(live, generator, logs)
    logs.requests, logs.batches = read_requests(log_dir), read_batches(log_dir)


def deployment_of(
    model_path: Path, null_profile: Path, *, threads: int, replicas: int, max_batch: int, cores: int
) -> Deployment:
    """What one launch serves: `replicas` of the model in all, the first of them as `solo`."""

    def of(count: int) -> dict[str, Any]:
        return {
            "file": str(model_path),
            "profile": "unused.yaml",
            "batching": {"max_batch": max_batch},
            "queue": {"max_queue": max(1024, 4 * max_batch)},
            "replicas": {"count": count, "threads": threads},
        }

    null = {
        "profile": str(null_profile),
        "backend": "emulated",
        "batching": {"max_batch": max(2, max_batch), "window": format_duration(NULL_WINDOW_NS)},
        "queue": {"max_queue": 1},
        "replicas": {"count": 1, "threads": threads},
    }
    models = {SOLO: of(1), NULL: null} | ({CROWD: of(replicas - 1)} if replicas > 1 else {})
    return Deployment.model_validate(
        {
            "models": {name: models[name] for name in QUEUES if name in models},
            "pools": {"here": {"cores": cores, "price": "0 USD/h"}},
            "front": {"retry_after": format_duration(RETRY_AFTER_NS)},
        }
    )


def write_null_profile(path: Path, facts: ModelFacts, threads: Sequence[int]) -> None:
    """A profile of the model's shape whose service takes a nanosecond: what the null model emulates."""
    rows = [1, max(2, facts.max_batch)]
    cells = [(t, r) for t in threads for r in rows]
    columns = {
        "threads": [t for t, _ in cells],
        "busy": [0 for _ in cells],
        "rows": [r for _, r in cells],
        "at_s": [0.0 for _ in cells],
        "service_ns": [1 for _ in cells],
    }
    samples = path.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.table(columns), samples)
    nothing = FrontCosts(
        parse_us=0, parse_us_per_kib=0, finish_batch_us=0, finish_request_us=0, finish_us_per_kib=0, refuse_us=0,
        bytes_in_per_row=0, bytes_out_per_row=0, origin="assumed",
    )  # fmt: skip
    profile = Profile(
        name="null",
        date="1970-01-01",
        backend="emulated",
        settings={},
        machine=machine.describe(),
        model=facts.model_copy(update={"max_batch": rows[-1], "batch_axis": 0}),
        service=[
            ServiceCell(
                threads=t, busy=0, rows=r, samples=1, mean_ms=1e-6, p50_ms=1e-6, p99_ms=1e-6, p99_pooled=True,
                origin="assumed",
            )
            for t, r in cells
        ],
        fit={},
        front=nothing,
        client=ClientCosts(send_us=[0.0], receive_us=[0.0], cpu_us_per_request=0.0, origin="assumed"),
        startup=Startup(spawn_s=0, load_s=0, warmup_s=0, memory_mib=0, origin="assumed"),
        noise=Noise(
            timer_late_us=[0.0, 0.0], wake_idle_us=[0.0, 0.0], wake_busy_us=[0.0, 0.0], loop_jitter_us=[0.0, 0.0],
            repeat_cv=0.0, level_series=[1.0], level_bin_s=1.0, disturbed=False,
        ),
        samples=Samples(file=samples.name, sha256=sha256(samples), rows=len(cells)),
    )  # fmt: skip
    save(path, profile)
