"""Calibration's front door: measure a model on this machine into a Profile, and check one again in seconds.

The parts are in `serve.calibration`; docs/calibration.md says how each number is measured and why.
"""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve import machine, records
from serve.calibration import design, fit, overheads
from serve.calibration.rig import Logs, Rig, deployment_of, rig, write_null_profile
from serve.calibration.samples import Columns, merge, samples_of, where
from serve.calibration.spot import spot_check
from serve.calibration.subject import Subject, inspect
from serve.calibration.write import save_profile
from serve.errors import EngineError, Fault, SpecError
from serve.load_plan import Target
from serve.policy.codes import OUTCOME_FAILED
from serve.profile import Noise, Profile, Samples, ServiceCell, Startup
from serve.scratch import scratch

__all__ = ["calibrate", "spot_check"]

Progress = Callable[[float, str], None]
"""Told the share done, in [0, 1], and what is being measured."""

MAX_BATCH_DEFAULT = 32
GAIN_MIN = 1.03
"""Doubling the batch must raise throughput by this factor to be worth measuring."""
PROBE_ROUNDS = 6
"""Batches of each size in the first look that plans the rest."""
PROBE_SHARE = 0.15
"""Share of the time that it may take."""
MEASURE_MIN_S = 3.0
"""Every number of threads is measured at least this long, even if start-up alone has used the budget."""
CLOSING_SHARE = 0.06
"""Share of the budget kept for stopping the engine and reading its logs."""
GRID_MARGIN, DENSE_MARGIN = 2, 8
"""How many times over the least time for a grid's samples must be left: sizes are not asked for equally often, and
other episodes take their share. What a dense grid lacks for is samples in its largest sizes."""
LEVEL_STEP_MAX = 0.15
"""A window farther than this from the whole, and than 5 robust deviations, counts as a disturbance."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, as the profile's settings record it."""

    model_path: Path
    out: Path
    budget_s: float
    threads: tuple[int, ...]
    max_batch: int | None
    seed: int


def calibrate(
    model_path: Path,
    *,
    out: Path,
    budget_s: float = 60.0,
    threads: Sequence[int] = (1,),
    max_batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    data: Mapping[str, npt.NDArray[np.generic]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Profile:
    """Measure a model on this machine and write its profile to `out`, the samples beside it.

    Parameters
    ----------
    model_path : a .onnx file.
    budget_s : time for all of it, start-up included; below about 10 s it is overrun by up to MEASURE_MIN_S for
        each number of threads, and what could not be measured is named in `warnings`.
    threads : numbers of compute threads per replica; each is measured.
    max_batch : largest batch; none: up to 32, or fewer where throughput stops growing.
    shapes : sizes, without the batch axis, of inputs that vary: {name: sizes}.
    data : example inputs, {name: array with rows along the first axis}; none: random, and recorded so.

    Raises
    ------
    SpecError : the arguments do not fit the model, all faults at once. EngineError : it cannot be served.
    """
    asked = Request(Path(model_path), Path(out), budget_s, tuple(threads), max_batch, seed)
    if faults := request_faults(asked, machine.cores()):
        raise SpecError(faults)
    subject = inspect(asked.model_path, max_batch or MAX_BATCH_DEFAULT, max_batch is not None, shapes, data, seed)
    tell = progress or (lambda share, what: None)
    tell(0.0, "starting the engine")
    begun_s = time.monotonic()
    parts: list[Logs] = []
    strangers: list[float] = []
    grid = design.row_grid(subject.facts.max_batch)
    with scratch() as folder:
        write_null_profile(folder / "null.yaml", subject.facts, asked.threads)
        for number, each in enumerate(asked.threads):
            until_s = begun_s + budget_s * (1 - CLOSING_SHARE) * (number + 1) / len(asked.threads)
            run = Run(asked, subject, folder, each, until_s, lambda share: tell(share, "measuring"), begun_s)
            grid = run.measure(grid)
            parts.append(run.logs)
            strangers.append(run.strangers)
    tell(1.0, "fitting")
    return assemble(asked, subject, parts, grid, max(strangers))


def request_faults(asked: Request, cores: int) -> list[Fault]:
    """What is wrong with the request itself, found before a minute is spent on it."""
    found = []
    if not asked.budget_s > 0:
        found.append(Fault("--budget", "", f"must be above 0 s, got {asked.budget_s:g}"))
    if not asked.threads or not all(1 <= t <= cores for t in asked.threads):
        found.append(Fault("--threads", "", f"must be numbers of threads from 1 to the {cores} cores of this machine"))
    if asked.max_batch is not None and asked.max_batch < 1:
        found.append(Fault("--max-batch", "", f"must be at least 1 row, got {asked.max_batch}"))
    if asked.out.suffix not in (".yaml", ".yml", ".json"):
        found.append(
            Fault(str(asked.out), "", "a profile is a .yaml or .json file; its samples go into a .parquet beside it")
        )
    folder = next(p for p in asked.out.resolve().parents if p.exists())
    if not os.access(folder, os.W_OK):
        found.append(Fault(str(asked.out), "", f"cannot be written: {folder} is not ours to write to"))
    return found


@dataclass(slots=True)
class Run:
    """The measurement of one number of threads."""

    asked: Request
    subject: Subject
    folder: Path
    threads: int
    until_s: float
    tell: Callable[[float], None]
    begun_s: float
    strangers: float = 0.0
    _logs: Logs | None = None
    _ids: int = 0

    @property
    def logs(self) -> Logs:
        """What was measured."""
        assert self._logs is not None, "measure() comes first"
        return self._logs

    def measure(self, grid: list[int]) -> list[int]:
        """Run episodes until the time is up; returns the batch sizes that were worth measuring."""
        cores = machine.cores()
        replicas = max(2, min(cores // self.threads, 8))
        deployment = deployment_of(
            self.asked.model_path.resolve(),
            self.folder / "null.yaml",
            threads=self.threads,
            replicas=replicas,
            max_batch=self.subject.facts.max_batch,
            cores=cores,
        )
        with rig(self.folder, deployment, self.threads) as bench, self._watch(bench):
            self._logs = bench.logs
            self.until_s = max(self.until_s, time.monotonic() + MEASURE_MIN_S)
            times_s = self._probe(bench, grid)
            grid = worthwhile(grid, times_s, self.asked.max_batch is not None)
            left_s = self.until_s - time.monotonic()
            levels = design.neighbour_levels(replicas)
            times_s = between(times_s, grid)
            grid = affordable(grid, times_s, levels, left_s)
            self._episodes(bench, grid, times_s, levels)
        return grid

    @contextmanager
    def _watch(self, bench: Rig) -> Iterator[None]:
        pids = [*bench.pids, bench.generator.pid]
        before = machine.cpu_times(time.monotonic(), pids)
        yield
        self.strangers = before.strangers_share(machine.cpu_times(time.monotonic(), pids))

    def _probe(self, bench: Rig, grid: Sequence[int]) -> dict[int, float]:
        """A first look: median client latency of a few lone requests of each size, in s."""
        rows = np.tile(np.asarray(grid, np.int64), PROBE_ROUNDS)
        seconds = PROBE_SHARE * (self.until_s - time.monotonic())
        plan = design.probe_plan(rows, seconds, self._targets(), self._take_ids(len(rows)))
        bench.place(neighbours=False)
        client = bench.run(plan, apart=False)
        failed = client.status != 200
        if failed.any():
            raise EngineError(f"{self.asked.model_path}: {failed.sum()} of {len(failed)} requests failed when probed")
        return extrapolated(grid, rows[: len(client)], (client.received_ns - client.sent_ns) / 1e9)

    def _episodes(self, bench: Rig, grid: Sequence[int], times_s: Mapping[int, float], levels: Sequence[int]) -> None:
        rng = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence(self.asked.seed, spawn_key=(0xCA11, self.threads)))
        )
        fastest_s = times_s[grid[0]] / 3
        scale = design.Scale.of({r: times_s[r] for r in grid}, self.subject.bytes_in)
        full_s = self.until_s - time.monotonic()
        while True:
            for episode in design.cycle(levels, scale, full_s, rng):
                if self.until_s - time.monotonic() < episode.seconds:
                    return
                seed = rng.integers(0, 2**63, 2)
                plan = design.plan_of(episode, grid, self._targets(), self._ids, fastest_s, seed)
                assert plan.closed is not None
                self._take_ids(len(plan.closed.rows))
                bench.place(neighbours=episode.crowd > 0)
                bench.run(plan, apart=not episode.joined, rested=episode.rested)
                self.tell(min(1.0, (time.monotonic() - self.begun_s) / self.asked.budget_s))

    def _take_ids(self, count: int) -> int:
        first = self._ids
        self._ids += count
        return first

    def _targets(self) -> tuple[Target, ...]:
        return tuple(Target(name, self.subject.inputs) for name in (design.SOLO, design.CROWD, design.NULL))


def extrapolated(
    grid: Sequence[int], rows: npt.NDArray[np.int64], spans_s: npt.NDArray[np.float64]
) -> dict[int, float]:
    """Median time by batch size; sizes that were not reached are taken to cost as much per row as the largest known.

    >>> extrapolated([1, 2, 4], np.array([1, 2, 1]), np.array([0.5, 0.6, 0.7]))
    {1: 0.6, 2: 0.6, 4: 1.2}
    """
    known = {int(r): float(np.median(spans_s[rows == r])) for r in np.unique(rows)}
    last = max(known)
    return {r: known.get(r, known[last] * r / last) for r in grid}


def worthwhile(grid: Sequence[int], times_s: Mapping[int, float], told: bool) -> list[int]:
    """The grid up to where doubling the batch no longer raises throughput; all of it if `max_batch` was told.

    >>> worthwhile([1, 2, 4, 8], {1: 1.0, 2: 1.2, 4: 2.4, 8: 4.8}, False)
    [1, 2]
    """
    if told:
        return list(grid)
    best = grid[0]
    for rows in grid:
        if rows / times_s[rows] >= GAIN_MIN * best / times_s[best] or rows < 2:
            best = rows
    return [r for r in grid if r <= best]


def between(times_s: Mapping[int, float], grid: Sequence[int]) -> dict[int, float]:
    """Times of the dense grid's sizes, on straight lines between the known ones.

    >>> between({1: 1.0, 2: 2.0, 4: 3.0}, [1, 2, 4])[3]
    2.5
    """
    return {r: float(np.interp(r, list(times_s), list(times_s.values()))) for r in design.dense(grid)}


def affordable(grid: Sequence[int], times_s: Mapping[int, float], levels: Sequence[int], left_s: float) -> list[int]:
    """The densest grid of which the time left allows enough samples of each cell, at least the grid's powers of two."""
    for sizes, margin in ((design.dense(grid), DENSE_MARGIN), (list(grid), GRID_MARGIN)):
        if fit.CELL_SAMPLES_MIN * len(levels) * sum(times_s[r] for r in sizes) * margin <= left_s:
            return sizes
    return design.coarse(grid)


# -- from logs to the profile --------------------------------------------------------------------------------


def assemble(asked: Request, subject: Subject, parts: Sequence[Logs], grid: Sequence[int], strangers: float) -> Profile:
    """Fit everything and write it."""
    check_answered(asked.model_path, parts)
    samples = merge([samples_of(logs, seed=asked.seed) for logs in parts])
    ones = where(samples, fit.single(samples))
    lone = where(samples, fit.lone(samples))
    cold_us = fit.cold_us(lone)
    cells = fit.service_cells(ones, cold_us)
    if not any(c.rows == 1 and c.busy == 0 for c in cells):
        raise EngineError(
            f"{asked.model_path}: {asked.budget_s:g} s were too short for {fit.CELL_SAMPLES_MIN} samples of a lone "
            f"row; give a larger budget, such as {max(60, 2 * asked.budget_s):.0f}s"
        )
    kept = where(ones, fit.in_cells(ones, cells))
    undisturbed = fit.warmed(where(kept, fit.unmet(kept)), cold_us)
    level = fit.level(undisturbed["at_s"], fit.ratios(undisturbed))
    disturbed = disturbances(level, fit.stalls(kept), strangers)
    # As in all our files, a path is relative to the file that names it.
    file = os.path.relpath(asked.model_path.resolve(), asked.out.resolve().parent)
    facts = subject.facts.model_copy(update={"file": file, "max_batch": max(c.rows for c in cells if c.busy == 0)})
    wake_idle, wake_busy = fit.wake_us(lone)
    lines = overheads.front_lines(parts)
    profile = Profile(
        name=profile_name(asked.out),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        settings=settings_of(asked, parts, samples),
        machine=machine.describe(),
        model=facts,
        service=cells,
        cold_us=cold_us,
        fit=fit.curve(cells) | {"joining_us": fit.joining_us(samples)},
        front=overheads.front_costs(parts, lines, subject.bytes_in, subject.bytes_out),
        client=overheads.client_costs(parts, lines, subject.bytes_in),
        startup=startup_of(parts),
        noise=Noise(
            timer_late_us=overheads.timer_late_us(parts),
            wake_idle_us=wake_idle,
            wake_busy_us=wake_busy,
            loop_jitter_us=overheads.jitter_us(kept),
            repeat_cv=level.repeat_cv,
            level_series=level.series,
            level_bin_s=level.bin_s,
            disturbed=bool(disturbed),
        ),
        samples=Samples(file=asked.out.with_suffix(".parquet").name, sha256="", rows=len(kept["rows"])),
        warnings=[*subject.warnings, *disturbed, *thin(cells, grid)],
    )
    return save_profile(asked.out, profile, kept)


def check_answered(model_path: Path, parts: Sequence[Logs]) -> None:
    """EngineError if the model failed on what it was sent: times of failures are no service times."""
    failed = sum(int(np.count_nonzero(logs.requests[:, records.OUTCOME] == OUTCOME_FAILED)) for logs in parts)
    if failed:
        raise EngineError(
            f"{model_path}: {failed} requests failed in the model or with its process; see the engine's log"
        )


def disturbances(level: fit.Level, stalls: int, strangers: float) -> list[str]:
    """Why this run was not as undisturbed as the machine can be, one sentence each."""
    found = []
    if strangers > machine.STRANGERS_MAX:
        found.append(
            f"disturbed: other processes, or the hypervisor, took {strangers:.2f} cores while this was measured; "
            "calibrate again on a quiet machine"
        )
    series = np.array(level.series)
    usual = 1.4826 * float(np.median(np.abs(series - np.median(series))))
    steps = np.abs(series - np.median(series)) > max(LEVEL_STEP_MAX, 5 * usual)
    if steps.any():
        found.append(
            f"disturbed: in {int(steps.sum())} of {len(series)} windows of {level.bin_s:g} s the same work took more "
            f"than {max(LEVEL_STEP_MAX, 5 * usual):.0%} longer or shorter than usual here"
        )
    if stalls:
        found.append(
            f"disturbed: batches that met a stall of the whole machine: {stalls}, each over {fit.STALL_RATIO} times "
            "its like and over 50 ms"
        )
    return found


def thin(cells: Sequence[ServiceCell], grid: Sequence[int]) -> list[str]:
    """Which planned cells have too few samples to be used."""
    have = {(c.threads, c.busy, c.rows) for c in cells}
    found = []
    for threads in sorted({c.threads for c in cells}):
        for busy in sorted({c.busy for c in cells if c.threads == threads}):
            missing = [r for r in grid if (threads, busy, r) not in have]
            if missing:
                found.append(
                    f"threads {threads}, busy {busy}: fewer than {fit.CELL_SAMPLES_MIN} samples of {missing} rows, "
                    "which are left out; a larger budget measures them"
                )
    return found


def settings_of(asked: Request, parts: Sequence[Logs], samples: Columns) -> dict[str, str]:
    """How it was measured, for whoever reads the file."""
    return {
        "budget": f"{asked.budget_s:g}s",
        "threads": ",".join(str(t) for t in asked.threads),
        "seed": str(asked.seed),
        "replicas": str(
            1 + max(len(p.started["models"].get(design.CROWD, {"replicas": []})["replicas"]) for p in parts)
        ),
        "load": "closed-loop clients over HTTP, binary tensors",
        "batches": str(len(samples["rows"])),
    }


def startup_of(parts: Sequence[Logs]) -> Startup:
    """Start-up of the replicas, means over all of them, and the memory of one."""
    started = [
        r
        for p in parts
        for n in (design.SOLO, design.CROWD)
        for r in p.started["models"].get(n, {"replicas": []})["replicas"]
    ]
    return Startup(
        **{key: fit.rounded(float(np.mean([r[key] for r in started]))) for key in ("spawn_s", "load_s", "warmup_s")},
        memory_mib=fit.rounded(max(p.memory_mib for p in parts)),
    )


def profile_name(out: Path) -> str:
    """A name by the rules of names, from the file's.

    >>> profile_name(Path("out/My Model.yaml"))
    'my-model'
    """
    name = re.sub(r"[^a-z0-9_-]+", "-", out.stem.lower()).strip("-_")
    return name if name[:1].isalpha() else f"profile-{name}".rstrip("-")
