"""The machine's level: how fast it is just then, relative to its calibration, and how that wanders.

Calibration timed the same work in successive windows (`noise.level_series`); a simulated run gets a
path made of that series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve.profile import Noise

Floats = npt.NDArray[np.float64]

START_WINDOWS = 3
"""Windows of the level between a spot check and the run that follows it: the engine starts, a primer is sent."""

DRIFT_QUARTERS = 4
DRIFT_AFTER_LOOK, DRIFT_LATER = 2.0, 4.0
"""How far the machine strays, in deviations between quarters of its series: within seconds of a look at its level, and
at any time after calibration. With these, series of 55 s covered 94 % of what followed in seven minutes, both ways
(a noisy host; docs/calibration.md)."""


STRAYS, FRONT_STRAYS = 0.02, 0.1
"""Least deviation of replicas' and of the front's level between a look and the runs that follow it: a calm minute of
calibration says too little of that. By the fidelity grid of 2026-11-25 (docs/fidelity.md)."""


@dataclass(frozen=True, slots=True)
class Level:
    """The machine's level just before a run, as a spot check found it: service times relative to the profile's, what
    idleness adds to them relative to the profile's `cold_us`, and what the front's work takes relative to its costs.
    Of emulated replicas, which draw their service times: how late they wake, on average."""

    value: float
    measured_s: float
    cold: float = 1.0
    front: float = 1.0
    late_ns: int = 0


def calibration_level(noise: Noise, rng: np.random.Generator) -> float:
    """Mean level of a calibration made again, relative to the one that was made.

    Its windows are drawn with replacement in blocks, since the level of one resembles the next's
    (circular block bootstrap; blocks of the square root of their number).
    """
    series = np.array(noise.level_series or [1.0])
    count = len(series)
    length = math.ceil(math.sqrt(count))
    starts = rng.integers(0, count, -(-count // length))
    drawn = (starts[:, np.newaxis] + np.arange(length)).reshape(-1)[:count] % count
    return float(series[drawn].mean() / series.mean())


def level_path(
    noise: Noise, duration_ns: int, rng: np.random.Generator, level: Level | None = None
) -> tuple[Floats, int]:
    """The machine's level in successive windows of a run, and their length.

    Stretches of the measured series, half of it long, each from a random window on and turning round
    at the ends. The level of one second resembles that of the second before; a run shorter than a
    stretch gets one that really happened, and the mean of a longer one is still not certain.

    If the `level` just before the run is known, the path goes on from there as the series did from a
    random place on: relative to its mean over as many windows as that level was measured in.
    """
    series = np.array(noise.level_series or [1.0])
    bin_ns = max(1, round(noise.level_bin_s * 1e9))
    windows = min(duration_ns // bin_ns + 2, 2**20)
    there_and_back = np.concatenate([series, series[::-1]])
    if level is not None:
        before = max(1, round(level.measured_s / noise.level_bin_s))
        seen = rng.integers(0, len(there_and_back)) + np.arange(before + START_WINDOWS + windows)
        path = there_and_back[seen % len(there_and_back)]
        return level.value * path[before + START_WINDOWS :] / path[:before].mean(), bin_ns
    length = math.ceil(len(series) / 2)
    starts = rng.integers(0, len(there_and_back), -(-windows // length))
    path = (starts[:, np.newaxis] + np.arange(length)).reshape(-1)[:windows]
    return there_and_back[path % len(there_and_back)], bin_ns


def drift(noise: Noise, rng: np.random.Generator, looked: bool, strays: float = STRAYS) -> float:
    """Factor by which the machine strays beyond what so short a series shows; lognormal about 1.

    What quarters of the series differ by, beyond what the scatter of their windows explains, goes on: noise of
    this kind has no scale of its own, and the longer one waits, the further it goes. `looked`: the level was
    measured seconds before, from which it strays by `strays` at least.
    """
    series = np.log(np.array(noise.level_series))
    if len(series) < 2 * DRIFT_QUARTERS:
        return 1.0
    quarters = np.array_split(series, DRIFT_QUARTERS)
    scatter = float(np.mean([quarter.var(ddof=1) / len(quarter) for quarter in quarters]))
    beyond = max(0.0, float(np.var([quarter.mean() for quarter in quarters], ddof=1)) - scatter)
    deviations = DRIFT_AFTER_LOOK if looked else DRIFT_LATER
    deviation = max(deviations * math.sqrt(beyond), strays if looked else 0.0)
    return math.exp(deviation * rng.standard_normal())


def run_levels(
    noise: Noise, duration_ns: int, rng: np.random.Generator, level: Level | None = None, strays: float = STRAYS
) -> tuple[Floats, int]:
    """The level in successive windows of a run, drift included, and their length; `level`: as in `level_path`,
    `strays`: as in `drift`."""
    path, bin_ns = level_path(noise, duration_ns, rng, level)
    return path * drift(noise, rng, level is not None, strays), bin_ns
