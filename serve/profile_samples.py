"""The raw samples behind a profile: reading them, and service times drawn from them.

A sample is one batch: threads, busy (other running replicas at its start), rows, at_s (when in the
measurement) and service_ns (from the dispatch decision to the completion seen by the front).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet

COLUMNS = ("threads", "busy", "rows", "at_s", "service_ns")

Samples = dict[str, npt.NDArray[Any]]


def load_samples(path: Path) -> Samples:
    """All columns of a profile's parquet file as arrays of one length.

    Raises
    ------
    ValueError : a column of COLUMNS is missing, or the file is empty.
    """
    table = pyarrow.parquet.read_table(path)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"{path}: columns {missing} are missing; a profile's samples have {list(COLUMNS)}")
    if table.num_rows == 0:
        raise ValueError(f"{path}: holds no samples")
    return {name: table.column(name).to_numpy() for name in table.column_names}


def save_samples(path: Path, samples: Samples) -> None:
    """Write what `load_samples` reads, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    pyarrow.parquet.write_table(pyarrow.table(dict(samples)), partial)
    partial.replace(path)


class ServiceTimes:
    """Quantile functions of the service time at one number of threads, by rows and busy neighbours.

    Between what was measured, equal quantiles are interpolated linearly, first in rows, then in
    busy; more neighbours than were measured count as the most that were. Where fewer rows were
    measured beside neighbours than alone, neighbours slow the larger batches by as much as they do there.
    """

    def __init__(self, samples: Samples, threads: int) -> None:
        chosen = samples["threads"] == threads
        if not np.any(chosen):
            found = sorted({int(t) for t in np.unique(samples["threads"])})
            raise ValueError(f"no samples at threads {threads}; measured were {found}")
        busy, rows, service_ns = (samples[c][chosen] for c in ("busy", "rows", "service_ns"))
        self._cells: dict[int, dict[int, npt.NDArray[np.float64]]] = {}
        for b in np.unique(busy):
            cells = self._cells.setdefault(int(b), {})
            for r in np.unique(rows[busy == b]):
                cells[int(r)] = np.sort(service_ns[(busy == b) & (rows == r)]).astype(np.float64)
        self._busy = sorted(self._cells)

    @property
    def rows_max(self) -> int:
        """Largest number of rows measured with the fewest neighbours."""
        return max(self._cells[self._busy[0]])

    def service_ns(self, rows: int, busy: int, share: float) -> int:
        """The `share` quantile, in [0, 1), of the service time of `rows` rows beside `busy` neighbours."""
        if rows > self.rows_max:
            raise ValueError(f"{rows} rows are beyond the measured {self.rows_max}")
        below, above, weight = _between(self._busy, busy)
        low = self._beside(below, rows, share)
        return round(low + (self._beside(above, rows, share) - low) * weight if weight else low)

    def _beside(self, busy: int, rows: int, share: float) -> float:
        cells = self._cells[busy]
        last = max(cells)
        if rows > last:
            alone = self._cells[self._busy[0]]
            return _value(cells, last, share) * _value(alone, rows, share) / _value(alone, last, share)
        return _value(cells, rows, share)


def _value(cells: dict[int, npt.NDArray[np.float64]], rows: int, share: float) -> float:
    below, above, weight = _between(sorted(cells), rows)
    low = _quantile(cells[below], share)
    return low + (_quantile(cells[above], share) - low) * weight


def _between(measured: list[int], wanted: int) -> tuple[int, int, float]:
    """The measured neighbours of `wanted` and its place between them, in [0, 1]; the ends stand for all beyond."""
    below = max((m for m in measured if m <= wanted), default=measured[0])
    above = min((m for m in measured if m >= wanted), default=measured[-1])
    return below, above, (wanted - below) / (above - below) if above > below else 0.0


def _quantile(ordered: npt.NDArray[np.float64], share: float) -> float:
    return float(ordered[int(share * len(ordered))])
