"""The raw samples behind a profile: reading them, and service times drawn from them.

A sample is one batch: threads, busy (other running replicas at its start), rows, at_s (when in the
measurement) and service_ns (from the dispatch decision to the completion seen by the front).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet

COLUMNS = ("threads", "busy", "rows", "at_s", "service_ns")

Samples = dict[str, npt.NDArray[np.generic]]


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
    """Quantile functions of the service time at one number of threads, by busy and rows.

    Between measured rows the two quantiles are interpolated linearly; busy beyond what was
    measured counts as the most that was. Rows beyond are an error.
    """

    def __init__(self, samples: Samples, threads: int) -> None:
        chosen = samples["threads"] == threads
        if not np.any(chosen):
            found = sorted({int(t) for t in np.unique(samples["threads"])})
            raise ValueError(f"no samples at threads {threads}; measured were {found}")
        self._cells: dict[int, dict[int, npt.NDArray[np.int64]]] = {}
        busy, rows = samples["busy"][chosen], samples["rows"][chosen]
        service_ns = samples["service_ns"][chosen].astype(np.int64)
        for b in np.unique(busy):
            cells = self._cells.setdefault(int(b), {})
            for r in np.unique(rows[busy == b]):
                cells[int(r)] = np.sort(service_ns[(busy == b) & (rows == r)])

    @property
    def rows_max(self) -> int:
        """Largest number of rows measured with no busy neighbour."""
        return max(self._cells[min(self._cells)])

    def service_ns(self, rows: int, busy: int, share: float) -> int:
        """The `share` quantile, in [0, 1), of the service time of `rows` rows beside `busy` neighbours."""
        measured = max((b for b in self._cells if b <= busy), default=min(self._cells))
        cells = self._cells[measured]
        above = min((r for r in cells if r >= rows), default=None)
        if above is None:
            raise ValueError(f"{rows} rows at busy {measured} are beyond the measured {max(cells)}")
        below = max((r for r in cells if r <= rows), default=above)
        high = _quantile(cells[above], share)
        if below == above:
            return high
        low = _quantile(cells[below], share)
        return low + (high - low) * (rows - below) // (above - below)


def _quantile(ordered: npt.NDArray[np.int64], share: float) -> int:
    return int(ordered[int(share * len(ordered))])
