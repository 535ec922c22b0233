"""How an SLO fares over time: its share of requests and of windows, the error budget, how fast it burns, recovery.

Pure, over equal bins of time: `good` requests that met the SLO and `total` ones, by bin. The objective is a share, such
as 0.99 of requests below the latency bound.

Source: Google, The Site Reliability Workbook (2018), chapters 2 and 5: the budget is 1 - objective, a burn rate of 1
uses it up in exactly the SLO's period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


NAMES = ("slo_windows", "budget_left", "burn_1h", "burn_6h", "recovery")
"""Metrics of a Record, in the order of `serve.vocabulary`."""

BINS_MAX = 4096
WIDTHS_S = (1, 5, 15, 60, 300, 3600)


@dataclass(frozen=True, slots=True)
class Record:
    """Requests by bin.

    Raises
    ------
    ValueError : arrays of unequal length, more good than total, no width, or an objective outside (0, 1).
    """

    good: Ints
    total: Ints
    bin_s: float
    objective: float

    def __post_init__(self) -> None:
        if self.good.shape != self.total.shape or np.any(self.good < 0) or np.any(self.good > self.total):
            raise ValueError("good must have a count for each bin, from 0 to its total")
        if not (self.bin_s > 0 and 0 < self.objective < 1):
            raise ValueError(f"bin_s must be > 0 and objective in (0, 1), got {self.bin_s} and {self.objective}")

    @property
    def bad(self) -> Ints:
        """Requests that did not meet the SLO."""
        return self.total - self.good


def within(record: Record) -> float:
    """Share of requests within the SLO; nan of none."""
    total = int(record.total.sum())
    return int(record.good.sum()) / total if total else math.nan


def windows_within(record: Record, window_s: float = 300.0) -> float:
    """Share of successive windows that met the objective; one without requests did, a last incomplete one counts.

    `window_s` is rounded to whole bins.
    """
    good, total = (_summed(counts, _bins(record, window_s)) for counts in (record.good, record.total))
    return float(np.mean(good >= record.objective * total)) if len(total) else math.nan


def budget_left(record: Record) -> float:
    """Share of the error budget of this run that is left; negative if it is overdrawn, 1 without requests."""
    allowed = (1 - record.objective) * float(record.total.sum())
    return 1 - float(record.bad.sum()) / allowed if allowed else 1.0


def burn_rate(record: Record, window_s: float) -> float:
    """The highest burn rate of any window of this length (the whole run, if that is shorter): its share of bad requests
    over the budget; 0 without requests."""
    bins = min(_bins(record, window_s), len(record.total))
    if not bins:
        return 0.0
    bad, total = (_sliding(counts, bins) for counts in (record.bad, record.total))
    shares = np.divide(bad, total, out=np.zeros(len(total)), where=total > 0)
    return float(shares.max() / (1 - record.objective))


def recovered_after_s(record: Record, at_s: float, window_s: float = 60.0) -> float:
    """How long after an event every window, to the run's end, has met the objective; inf if it never did.

    Windows begin with the bin in which the event lies; one without requests meets it.
    """
    first = int(at_s // record.bin_s)
    bins = _bins(record, window_s)
    good, total = (_summed(counts[first:], bins) for counts in (record.good, record.total))
    missed = np.flatnonzero(good < record.objective * total)
    if not len(missed):
        return 0.0
    last = int(missed[-1]) + 1
    if last == len(total):
        return math.inf
    return max(0.0, (first + last * bins) * record.bin_s - at_s)


def recovery_s(record: Record, window_s: float = 60.0) -> float:
    """From the first window that missed the objective to the end of the last one; 0 if none did, inf if the last of the
    run did."""
    bins = _bins(record, window_s)
    good, total = (_summed(counts, bins) for counts in (record.good, record.total))
    missed = np.flatnonzero(good < record.objective * total)
    return recovered_after_s(record, int(missed[0]) * bins * record.bin_s, window_s) if len(missed) else 0.0


def metrics(record: Record) -> dict[str, float]:
    """What an SLO over time comes to, by the names of `serve.vocabulary`; nan of no bins."""
    if not len(record.total):
        return dict.fromkeys(NAMES, math.nan)
    values = (
        windows_within(record),
        budget_left(record),
        burn_rate(record, 3600.0),
        burn_rate(record, 6 * 3600.0),
        recovery_s(record),
    )
    return dict(zip(NAMES, values, strict=True))


def bins_of(duration_ns: int) -> tuple[int, int]:
    """Number and width in ns of the bins in which a load's requests are counted: the narrowest of a few widths, all of
    which make whole minutes and 5-minute windows until a load lasts for two weeks, that leaves at most BINS_MAX; and
    one more for what is later."""
    width_s = next((width for width in WIDTHS_S if duration_ns <= BINS_MAX * width * 10**9), WIDTHS_S[-1])
    return -(-duration_ns // (width_s * 10**9)) + 1, width_s * 10**9


def _bins(record: Record, window_s: float) -> int:
    return max(1, round(window_s / record.bin_s))


def _summed(counts: Ints, bins: int) -> Ints:
    """Sums of successive windows, the last one of what is left."""
    if not len(counts):
        return counts
    return np.add.reduceat(counts, np.arange(0, len(counts), bins))


def _sliding(counts: Ints, bins: int) -> Floats:
    """Sums of every window of so many bins."""
    sums = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(sums[bins:] - sums[:-bins], np.float64)
