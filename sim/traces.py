"""Arrival traces: CSV (also gzipped) or parquet with a column arrival_s and, optionally, rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve.errors import SpecError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROWS_MAX = 65536
"""As many as a scenario may write for a request."""
ARRIVAL_MAX_S = 2.0**32
"""Later instants (136 years) are taken for timestamps in another unit and refused."""


def load(path: Path, scale: float = 1.0) -> tuple[Ints, Ints | None]:
    """Arrival instants in ns and rows (None: the file has no such column), ascending.

    `scale` multiplies the rate: instants are divided by it.

    Raises
    ------
    SpecError : naming file, line (CSV) or record (parquet), and what was found.
    """
    parquet = path.suffix in (".parquet", ".pq")
    columns = _read(path, parquet)
    place = "record {}" if parquet else "line {}"
    offset = 1 if parquet else 2  # a CSV's first line is its header
    arrival_s = _numbers(path, "arrival_s", columns["arrival_s"], place, offset)
    _check_arrivals(path, arrival_s, place, offset)
    if "rows" not in columns:
        return _ns(arrival_s, scale), None
    rows = _numbers(path, "rows", columns["rows"], place, offset)
    unfit = ~((rows >= 1) & (rows <= ROWS_MAX) & (rows == np.floor(rows)))
    _refuse(path, "rows", unfit, rows, place, offset, f"must be a whole number from 1 to {ROWS_MAX}")
    return _ns(arrival_s, scale), rows.astype(np.int64)


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


def _numbers(path: Path, field: str, values: npt.NDArray[np.object_], place: str, offset: int) -> Floats:
    numbers = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            numbers[i] = float(value)
        except (TypeError, ValueError):
            found = "nothing" if value is None or value == "" else repr(value)
            raise SpecError.of(path, f"{place.format(i + offset)}, {field}", f"must be a number, got {found}") from None
    return numbers


def _check_arrivals(path: Path, arrival_s: Floats, place: str, offset: int) -> None:
    outside = ~((arrival_s >= 0) & (arrival_s < ARRIVAL_MAX_S))
    allowed = f"must be seconds from the start, in [0, {ARRIVAL_MAX_S:.0f})"
    _refuse(path, "arrival_s", outside, arrival_s, place, offset, allowed)
    back = np.concatenate([[False], np.diff(arrival_s) < 0])
    _refuse(path, "arrival_s", back, arrival_s, place, offset, "must not be before the arrival above it")


def _refuse(
    path: Path, field: str, bad: npt.NDArray[np.bool_], values: Floats, place: str, offset: int, what: str
) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise SpecError.of(path, f"{place.format(first + offset)}, {field}", f"{what}, got {values[first]:g}")
