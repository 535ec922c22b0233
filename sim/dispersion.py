"""How arrivals scatter: the index of dispersion for counts by time scale, and the variability of gaps. Pure.

The index (IDC) is the variance over the mean of the counts of successive times of one length: 1 at every
scale for Poisson arrivals, rising with the scale for bursts that last.
Source: R. Gusella, "Characterizing the variability of arrival processes with indexes of dispersion",
IEEE Journal on Selected Areas in Communications 9(2), 1991.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SCALES_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
BINS_MIN = 20
"""Counts that an index rests on at least."""
BINS_MAX = 2**24
"""Scales that would make more of them are left out: 19 days at 0.1 s."""
BLOCKS = 20
"""Runs of successive counts that the jackknife leaves out in turn."""


@dataclass(frozen=True, slots=True)
class Dispersion:
    """The counts of one time scale."""

    scale_s: float
    bins: int
    idc: float
    se: float  # standard error of idc
    peak_to_mean: float  # largest count over the mean


def counts_of(at_ns: Ints, span_ns: int, scale_ns: int) -> Ints:
    """Counts of the whole bins of a scale in [0, span)."""
    bins = span_ns // scale_ns
    number = at_ns // scale_ns
    counted: Ints = np.bincount(number[number < bins], minlength=bins)
    return counted


def dispersion(counts: Ints | Floats, scale_s: float) -> Dispersion:
    """Of at least BINS_MIN counts, some of them above 0."""
    mean = float(counts.mean())
    idc = float(counts.var(ddof=1)) / mean
    return Dispersion(scale_s, len(counts), idc, _jackknife_se(counts), float(counts.max()) / mean)


def _jackknife_se(counts: Ints | Floats) -> float:
    """Standard error of the IDC from leaving out one run of successive counts at a time, which keeps what ties them."""
    blocks = min(BLOCKS, len(counts) // 2)
    size, mean = len(counts) // blocks, float(counts.mean())
    off = (counts[: blocks * size] - mean).reshape(blocks, size)
    sums, squares = off.sum(axis=1), (off**2).sum(axis=1)
    left = (blocks - 1) * size
    shifts = (sums.sum() - sums) / left
    variances = (squares.sum() - squares - left * shifts**2) / (left - 1)
    means = mean + shifts
    values = np.divide(variances, means, out=np.zeros(blocks), where=means > 0)
    return math.sqrt((blocks - 1) / blocks * float(((values - values.mean()) ** 2).sum()))


def gap_cv(gaps: Ints | Floats) -> float | None:
    """Coefficient of variation of the gaps; None below three of them, or if all are 0."""
    mean = float(gaps.mean()) if len(gaps) >= 3 else 0.0
    return float(gaps.std(ddof=1)) / mean if mean > 0 else None


def gap_lag1(gaps: Ints | Floats) -> float | None:
    """Correlation of each gap with the next; None below three of them, or if all are alike."""
    if len(gaps) < 3:
        return None
    off = gaps - gaps.mean()
    variance = float((off**2).sum())
    return float((off[1:] * off[:-1]).sum()) / variance if variance > 0 else None
