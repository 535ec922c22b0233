"""Synthetic but complete profiles for tests: tau(rows) = base + row x rows, with a given noise and neighbour effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.files import save, sha256
from serve.profile import (
    ClientCosts,
    FrontCosts,
    Machine,
    ModelFacts,
    Noise,
    Profile,
    Samples,
    ServiceCell,
    Startup,
    Tensor,
)


@dataclass(frozen=True, slots=True)
class Synthetic:
    """What a synthetic profile is made of; the defaults are a steady machine with a free front and client."""

    base_ms: float = 2.0
    row_ms: float = 0.5
    rows: Sequence[int] = (1, 2, 3, 4, 6, 8, 12, 16)
    threads: Sequence[int] = (1,)
    busy: Sequence[int] = (0,)
    slowdown: float = 0.1  # share that each busy neighbour adds
    noise_cv: float = 0.0  # of the lognormal that service times are multiplied by
    samples: int = 200  # a cell; 0: a profile without a samples' file
    seed: int = 0
    parse_us: float = 0.0
    finish_batch_us: float = 0.0
    finish_request_us: float = 0.0
    refuse_us: float = 0.0
    dispatch_us: float = 0.0
    unstamped_us: float = 0.0  # CPU of the front beside its jobs, per request and again per batch
    send_us: Sequence[float] = (0.0,)
    receive_us: Sequence[float] = (0.0,)
    level_series: Sequence[float] = (1.0,)  # the machine's level by window; samples taken in one are as much slower
    level_bin_s: float = 1.0
    timer_late_us: float = 0.0
    joining_us: float = 0.0  # what each further request of a batch adds

    def tau_ms(self, threads: int, busy: int, rows: int) -> float:
        """Mean service time of a cell."""
        return (self.base_ms + self.row_ms * rows) / threads * (1 + self.slowdown * busy)


def write_profile(folder: Path, synthetic: Synthetic | None = None, *, name: str = "toy") -> Path:
    """Write `<name>.yaml` and its samples into `folder`; returns the profile's path."""
    made = synthetic or Synthetic()
    file = folder / f"{name}.parquet"
    columns = _columns(made)
    if made.samples:
        _write_samples(file, columns)
    path = folder / f"{name}.yaml"
    save(path, _profile(made, name, columns, file))
    return path


def _columns(made: Synthetic) -> dict[str, np.ndarray]:
    """The samples, one row a batch."""
    rng = np.random.default_rng(made.seed)
    sigma = np.sqrt(np.log1p(made.noise_cv**2))
    cells = [(t, b, r) for t in made.threads for b in made.busy for r in made.rows]
    count = made.samples or 2000
    times = [made.tau_ms(*cell) * 1e6 * rng.lognormal(-(sigma**2) / 2, sigma, count) for cell in cells]
    at_s = rng.permutation(np.linspace(0.0, 0.999 * len(made.level_series) * made.level_bin_s, count * len(cells)))
    levels = np.array(made.level_series)[(at_s // made.level_bin_s).astype(int)]
    threads, busy, rows = (np.repeat([cell[i] for cell in cells], count).astype(np.int64) for i in range(3))
    return {
        "threads": threads,
        "busy": busy,
        "rows": rows,
        "at_s": at_s,
        "met": busy,
        "idle_ns": np.zeros(len(busy), np.int64),
        "service_ns": np.rint(np.concatenate(times) * levels).astype(np.int64),
    }


def _write_samples(file: Path, columns: dict[str, np.ndarray]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), file)


def _cell(made: Synthetic, columns: dict[str, np.ndarray], threads: int, busy: int, rows: int) -> ServiceCell:
    own = (columns["threads"] == threads) & (columns["busy"] == busy) & (columns["rows"] == rows)
    times_ms = columns["service_ns"][own] / 1e6
    return ServiceCell(
        threads=threads,
        busy=busy,
        rows=rows,
        samples=made.samples,
        mean_ms=float(times_ms.mean()),
        p50_ms=float(np.quantile(times_ms, 0.5)),
        p99_ms=float(np.quantile(times_ms, 0.99)),
        p99_pooled=made.samples < 500,
        origin="assumed",
    )


def _profile(made: Synthetic, name: str, columns: dict[str, np.ndarray], file: Path) -> Profile:
    samples = Samples(file="none", sha256="none", rows=0)
    if made.samples:
        samples = Samples(file=file.name, sha256=sha256(file), rows=len(columns["rows"]))
    return Profile(
        name=name,
        date="2026-11-24",
        backend="emulated",
        settings={"made": "synthetic"},
        machine=Machine(cpu="none", cores=2, memory_gib=1.0, kernel="none", versions={}),
        model=ModelFacts(
            file="none.onnx",
            sha256="0" * 64,
            inputs=[Tensor(name="x", datatype="FP32", shape=[4])],
            outputs=[Tensor(name="y", datatype="FP32", shape=[2])],
            batch_axis=0,
            max_batch=max(made.rows),
            data="random",
        ),
        service=[_cell(made, columns, t, b, r) for t in made.threads for b in made.busy for r in made.rows],
        fit={"base_ms": made.base_ms, "row_ms": made.row_ms, "error": 0.0, "joining_us": made.joining_us},
        front=FrontCosts(
            parse_us=made.parse_us,
            parse_us_per_kib=0.0,
            finish_batch_us=made.finish_batch_us,
            finish_request_us=made.finish_request_us,
            finish_us_per_kib=0.0,
            refuse_us=made.refuse_us,
            dispatch_us=made.dispatch_us,
            bytes_in_per_row=16,
            bytes_out_per_row=8,
            unstamped_us_per_request=made.unstamped_us,
            unstamped_us_per_batch=made.unstamped_us,
            origin="assumed",
        ),
        client=ClientCosts(
            send_us=list(made.send_us), receive_us=list(made.receive_us), cpu_us_per_request=0.0, origin="assumed"
        ),
        startup=Startup(spawn_s=0.0, load_s=0.0, warmup_s=0.0, memory_mib=0.0, origin="assumed"),
        noise=Noise(
            timer_late_us=[made.timer_late_us, made.timer_late_us],
            wake_idle_us=[0.0, 0.0],
            wake_busy_us=[0.0, 0.0],
            loop_jitter_us=[0.0, 0.0],
            repeat_cv=float(np.std(made.level_series)),
            level_series=list(made.level_series),
            level_bin_s=made.level_bin_s,
            disturbed=False,
        ),
        samples=samples,
    )
