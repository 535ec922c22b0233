"""A few seconds of measurement, to tell whether an old profile still holds on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve import machine
from serve.calibration import design, fit
from serve.calibration.rig import Logs, deployment_of, rig, write_null_profile
from serve.calibration.samples import Columns, samples_of, where
from serve.calibration.subject import Subject, inspect
from serve.files import load, resolve
from serve.load_plan import Target
from serve.profile import Profile, ServiceCell
from serve.scratch import scratch

TOLERANCE = 0.05
"""Difference that is put down to chance on the steadiest machine."""
LEVELS_TOLERATED = 2.0
"""How many of the profile's own standard deviations from window to window are tolerated beyond that."""
TOLERANCE_MAX = 0.2
"""More is not tolerated, however disturbed the machine was when it was calibrated."""
EPISODE_S = 0.3
EPISODE_BATCHES = 20


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """How fast the machine is now, relative to a profile.

    `level` is the ratio of service times of the same sizes, of warm replicas (none: nothing could be compared),
    `measured_s` how long it was measured, `agrees` whether it differs from 1 by no more than the profile's own
    noise, and `why` the sentence that says so.
    """

    level: float | None
    measured_s: float
    agrees: bool
    why: str


def spot_check(path: Path, seconds: float = 5.0, seed: int = 0, model: Path | None = None) -> SpotCheck:
    """Measure the batches of the profile at `path` again, without neighbours, under the load that calibration uses.

    It takes about `seconds`, the engine's start included. `model` is the model's file, if it is not where the
    profile says.

    Raises
    ------
    SpecError : the profile or its model cannot be read. EngineError : the model cannot be served.
    """
    profile = load(path, Profile)
    subject = subject_of(profile, model or resolve(path, profile.model.file), seed)
    with scratch() as folder:
        logs, measured_s = _measure(profile, subject, folder, time.monotonic() + seconds, seed)
    samples = samples_of(logs, seed=seed)
    found = warm_times(where(samples, fit.single(samples)), profile.cold_us)
    known_ms = {c.rows: c.busy_ms for c in known_cells(profile)}
    level, agrees, why = compare(profile.noise.repeat_cv, known_ms, found)
    return SpotCheck(level, measured_s, agrees, why)


def subject_of(profile: Profile, file: Path, seed: int) -> Subject:
    """The profile's model, in `file`, with random inputs of the shapes that it was measured with."""
    model = profile.model
    shapes = {t.name: t.shape for t in model.inputs}
    return inspect(file, model.max_batch, model.batch_axis is not None, shapes, None, seed)


def known_cells(profile: Profile) -> list[ServiceCell]:
    """The cells that are measured again: without neighbours, at the fewest threads."""
    threads = min(c.threads for c in profile.service)
    return [c for c in profile.service if c.threads == threads and c.busy == 0]


def _measure(profile: Profile, subject: Subject, folder: Path, until_s: float, seed: int) -> tuple[Logs, float]:
    """The logs, and how long the episodes took."""
    cells = known_cells(profile)
    threads = cells[0].threads
    write_null_profile(folder / "null.yaml", subject.facts, [threads])
    deployment = deployment_of(
        Path(subject.facts.file).resolve(),
        folder / "null.yaml",
        threads=threads,
        replicas=1,
        max_batch=subject.facts.max_batch,
        cores=machine.cores(),
    )
    scale = design.Scale.of({c.rows: c.mean_ms / 1e3 for c in cells}, subject.bytes_in)
    targets = [Target(name, subject.inputs) for name in (design.SOLO, design.CROWD, design.NULL)]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x5907,))))
    seconds = max(EPISODE_S, EPISODE_BATCHES * scale.typical_s)
    first_id = 0
    with rig(folder, deployment, threads) as bench:
        began_s = time.monotonic()
        while not first_id or time.monotonic() + 2 * seconds < until_s:
            for episode in design.work(0, scale, seconds, rng):
                seeds = rng.integers(0, 2**63, 2)
                plan = design.plan_of(episode, scale.grid, targets, first_id, scale.times_s[0] / 10, seeds)
                assert plan.closed is not None
                first_id += len(plan.closed.rows)
                bench.run(plan)
        measured_s = time.monotonic() - began_s
    return bench.logs, measured_s


@dataclass(frozen=True, slots=True)
class WarmTime:
    """What batches of one size took without neighbours, less what their replica's idleness before them added."""

    mean_ms: float
    samples: int


def warm_times(samples: Columns, curve_us: Sequence[float]) -> dict[int, WarmTime]:
    """By rows; of batches that met no neighbour.

    What idleness adds is taken out by the profile's own curve: how long a replica waited differs from one short look
    to the next, and on some machines a wait of 0.3 ms makes a batch a quarter slower.
    """
    alone = (samples["busy"] == 0) & (samples["met"] == 0)
    warm = fit.warmed(where(samples, alone), curve_us)
    rows, times_ms = warm["rows"], warm["service_ns"] / 1e6
    values, counts = np.unique(rows, return_counts=True)
    return {
        int(r): WarmTime(float(times_ms[rows == r].mean()), int(n))
        for r, n in zip(values, counts, strict=True)
        if n >= SAMPLES_MIN
    }


SAMPLES_MIN = 5


def compare(
    repeat_cv: float, known_ms: Mapping[int, float], found: Mapping[int, WarmTime]
) -> tuple[float | None, bool, str]:
    """What was found against what is known, both by rows: level, agrees, why.

    The level is the geometric mean of the ratios, each weighted by its samples.
    """
    both = sorted(known_ms.keys() & found.keys())
    if not both:
        return None, False, "no batch size of the profile could be measured again in the time given"
    ratios = [math.log(found[r].mean_ms / known_ms[r]) for r in both]
    level = math.exp(np.average(ratios, weights=[found[r].samples for r in both]))
    allowed = min(TOLERANCE + LEVELS_TOLERATED * repeat_cv, TOLERANCE_MAX)
    shown = ", ".join(f"{r} rows {found[r].mean_ms:.3g} ms, was {known_ms[r]:.3g}" for r in both)
    verdict = f"service takes {level - 1:+.1%} of what was measured ({shown}); {allowed:.1%} is this machine's noise"
    return level, abs(level - 1) <= allowed, verdict
