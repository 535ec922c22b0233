"""Traces of how many spot machines could be had, read from a file that a user names.

Two formats: a CSV with columns start_s, end_s and available, row after row in time; and the JSON of
skypilot-org/spot-traces (NSDI 2024), {"metadata": {"gap_seconds": 600}, "data": [1, 0, ...]}, where data holds the
number available at each tick. Those traces state no licence, so none is shipped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from serve.errors import SpecError
from sim.spot import Supply

SECOND_NS = 10**9
COLUMNS = ["start_s", "end_s", "available"]


@dataclass(frozen=True, slots=True)
class SpotTrace:
    """Machines that could be had: `available[i]` from `starts_ns[i]` to the next one, the last to `length_ns`."""

    starts_ns: tuple[int, ...]
    available: tuple[int, ...]
    length_ns: int

    @property
    def most(self) -> int:
        """The most that there were."""
        return max(self.available)

    def supply(self, offset_ns: int, duration_ns: int, scale: int = 1) -> Supply:
        """So much of the trace from an offset on, over its end to its beginning, with `scale` times as many."""
        starts, available = [0], [self.available[self._index(offset_ns % self.length_ns)]]
        at_ns, i = offset_ns % self.length_ns, self._index(offset_ns % self.length_ns)
        passed_ns = 0
        while True:
            end_ns = self.starts_ns[i + 1] if i + 1 < len(self.starts_ns) else self.length_ns
            passed_ns += end_ns - at_ns
            if passed_ns > duration_ns:
                break
            i = (i + 1) % len(self.starts_ns)
            at_ns = self.starts_ns[i]
            if self.available[i] != available[-1]:
                starts.append(passed_ns)
                available.append(self.available[i])
        return Supply(tuple(starts), tuple(scale * count for count in available))

    def _index(self, at_ns: int) -> int:
        return int(np.searchsorted(self.starts_ns, at_ns, side="right")) - 1


def read_spot_trace(path: Path) -> SpotTrace:
    """The trace of a file.

    Raises
    ------
    SpecError : it cannot be read, or is no such trace.
    """
    try:
        starts_s, ends_s, available = _published(path) if path.suffix == ".json" else _table(path)
    except OSError as error:
        raise SpecError.of(str(path), "", f"cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError.of(str(path), "", f"is no trace of spot machines ({error})") from None
    if not len(starts_s):
        raise SpecError.of(str(path), "", "has no rows")
    if starts_s[0] != 0 or np.any(starts_s[1:] != ends_s[:-1]) or np.any(ends_s <= starts_s):
        raise SpecError.of(str(path), "start_s", "must begin at 0, and each row where the one before ends")
    if np.any(available < 0) or np.any(available != np.floor(available)):
        raise SpecError.of(str(path), "available", "must be whole numbers, not negative")
    starts_ns = tuple(round(float(start) * SECOND_NS) for start in starts_s)
    return SpotTrace(starts_ns, tuple(int(count) for count in available), round(float(ends_s[-1]) * SECOND_NS))


Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def _table(path: Path) -> Columns:
    table = pd.read_csv(path)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"lacks the columns {', '.join(missing)}")
    starts, ends, available = (table[column].to_numpy(float) for column in COLUMNS)
    return starts, ends, available


def _published(path: Path) -> Columns:
    told = json.loads(path.read_text())
    gap_s, available = float(told["metadata"]["gap_seconds"]), np.array(told["data"], float)
    starts = gap_s * np.arange(len(available))
    return starts, starts + gap_s, available
