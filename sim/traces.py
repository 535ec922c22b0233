"""Arrival traces: CSV (also gzipped) or parquet with a column arrival_s and, optionally, rows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve.errors import Fault, SpecError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROWS_MAX = 65536
"""As many as a scenario may write for a request."""
FAULTS_SHOWN = 20
ARRIVAL_MAX_S = 2.0**32
"""Later instants (136 years) are taken for timestamps in another unit and refused."""


def load(path: Path, scale: float = 1.0) -> tuple[Ints, Ints | None]:
    """Arrival instants in ns and rows (None: the file has no such column), ascending.

    `scale` multiplies the rate: instants are divided by it.

    Raises
    ------
    SpecError : every fault with file, line (CSV) or record (parquet), and what was found; after FAULTS_SHOWN of them
        only their number.
    """
    parquet = path.suffix in (".parquet", ".pq")
    columns = _read(path, parquet)
    # A CSV's first line is its header.
    place = _Place(path, "record {}" if parquet else "line {}", offset=1 if parquet else 2)
    arrival_s, faults = _numbers(place, "arrival_s", columns["arrival_s"])
    faults += _arrival_faults(place, arrival_s)
    rows = None
    if "rows" in columns:
        rows, more = _numbers(place, "rows", columns["rows"])
        unfit = ~((rows >= 1) & (rows <= ROWS_MAX) & (rows == np.floor(rows)))
        faults += more + place.faults("rows", unfit, rows, f"must be a whole number from 1 to {ROWS_MAX}")
    if faults:
        raise SpecError(_shown(path, faults))
    return _ns(arrival_s, scale), None if rows is None else rows.astype(np.int64)


def _shown(path: Path, faults: list[Fault]) -> list[Fault]:
    if len(faults) <= FAULTS_SHOWN:
        return faults
    return [*faults[:FAULTS_SHOWN], Fault(str(path), "", f"has {len(faults) - FAULTS_SHOWN} more faults like these")]


def _ns(arrival_s: Floats, scale: float) -> Ints:
    return np.rint(arrival_s * (1e9 / scale)).astype(np.int64)


def _read(path: Path, parquet: bool) -> dict[str, npt.NDArray[np.object_]]:
    """The two columns as Python objects; text where the file is text, None where nothing stands."""
    import pyarrow as pa  # heavy, and only scenarios with a trace need it

    try:
        table = _parquet_table(path) if parquet else _csv_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SpecError.of(path, "", f"cannot be read as a trace: {str(error).splitlines()[0]}") from None
    if "arrival_s" not in table.column_names:
        found = ", ".join(table.column_names) or "none"
        raise SpecError.of(path, "arrival_s", f"must be a column of a trace, got columns {found}")
    for name in ("arrival_s", "rows"):
        if table.column_names.count(name) > 1:
            raise SpecError.of(path, name, "is the name of several columns; keep one")
    if table.num_rows == 0:
        raise SpecError.of(path, "arrival_s", "holds no arrivals; a trace needs at least one")
    names = [name for name in ("arrival_s", "rows") if name in table.column_names]
    return {name: np.array(table[name].to_pylist(), dtype=object) for name in names}


def _parquet_table(path: Path):  # type: ignore[no-untyped-def]
    from pyarrow import parquet

    return parquet.read_table(path)


def _csv_table(path: Path):  # type: ignore[no-untyped-def]
    """Both columns as text, so that a value that is no number can be reported with its line."""
    import pyarrow as pa
    from pyarrow import csv

    text = csv.ConvertOptions(column_types={"arrival_s": pa.string(), "rows": pa.string()})
    return csv.read_csv(path, csv.ReadOptions(), csv.ParseOptions(ignore_empty_lines=False), text)


@dataclass(frozen=True, slots=True)
class _Place:
    """How a value of the file is named."""

    path: Path
    form: str
    offset: int

    def fault(self, index: int, field: str, what: str) -> Fault:
        return Fault(str(self.path), f"{self.form.format(index + self.offset)}, {field}", what)

    def faults(self, field: str, bad: npt.NDArray[np.bool_], values: Floats, what: str) -> list[Fault]:
        """One for each bad value that is a number; what is none has been told already."""
        told = np.flatnonzero(bad & ~np.isnan(values))
        return [self.fault(int(i), field, f"{what}, got {values[i]:g}") for i in told]


def _numbers(place: _Place, field: str, values: npt.NDArray[np.object_]) -> tuple[Floats, list[Fault]]:
    """The values, NaN where one is no number, which is a fault."""
    numbers, faults = np.full(len(values), np.nan), []
    for i, value in enumerate(values):
        with contextlib.suppress(TypeError, ValueError):
            numbers[i] = float(value)
        if np.isnan(numbers[i]):
            found = "nothing" if value is None or value == "" else repr(value)
            faults.append(place.fault(i, field, f"must be a number, got {found}"))
    return numbers, faults


def _arrival_faults(place: _Place, arrival_s: Floats) -> list[Fault]:
    outside = ~((arrival_s >= 0) & (arrival_s < ARRIVAL_MAX_S))
    faults = place.faults(
        "arrival_s", outside, arrival_s, f"must be seconds from the start, in [0, {ARRIVAL_MAX_S:.0f})"
    )
    back = np.concatenate([[False], np.diff(arrival_s) < 0]) & ~outside
    return faults + place.faults("arrival_s", back, arrival_s, "must not be before the arrival above it")
