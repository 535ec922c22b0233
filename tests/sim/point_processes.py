"""Instants of arrival laws for tests, and means held to what they must be, with the power of holding them so."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.dispersion import counts_of, dispersion
from sim.laws import Arrivals
from sim.point_process import Draws, before_end
from sim.processes import process_of
from sim.rng import stream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

S = 10**9
Z_BOUND = 4.5
"""A right mean fails once in 10,000 with 40 values, by Student's t."""
Z_POWER = 2.33
"""Beyond the bound by so much, a wrong one is found 99 times of 100."""


def draws_of(seed: int = 1, replication: int = 0, owner: str = "a") -> Draws:
    """The streams of one class in one replication."""
    return partial(stream, seed, replication, owner)


def instants(
    arrivals: dict[str, Any], seconds: float, replication: int = 0, chunk: int = 65_536, base: Path = Path()
) -> Ints:
    """All instants of a law in a run so long."""
    duration_ns = round(seconds * S)
    process = process_of(Arrivals.model_validate(arrivals), base, duration_ns)
    found = before_end(process, draws_of(replication=replication), duration_ns, chunk)
    return np.concatenate([np.zeros(0, np.int64), *found])


def rates(arrivals: dict[str, Any], seconds: float, replications: int) -> Floats:
    """Requests per second of independent runs."""
    return np.array([len(instants(arrivals, seconds, each)) / seconds for each in range(replications)])


def idcs(arrivals: dict[str, Any], seconds: float, scale_s: float, replications: int) -> Floats:
    """Variance over mean of the counts of independent runs, at one time scale."""
    found = []
    for each in range(replications):
        counts = counts_of(instants(arrivals, seconds, each), round(seconds * S), round(scale_s * S))
        found.append(dispersion(counts, scale_s).idc)
    return np.array(found)


def assert_mean(values: Floats, expected: float, finds: float) -> None:
    """Independent values have this mean, and are so many that one off by the share `finds` would hardly pass."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    assert abs(mean - expected) < Z_BOUND * error, f"{mean:.6g} +- {error:.2g}, expected {expected:.6g}"
    found = (Z_BOUND + Z_POWER) * error / expected
    assert found < finds, f"only an error of {found:.1%} would be found"
