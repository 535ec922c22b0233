"""Columns of numbers out of CSV (also gzipped) and parquet files, every fault told with its line or record."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.errors import Fault, SpecError

Floats = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]

FAULTS_SHOWN = 20


def is_parquet(path: Path) -> bool:
    """Whether a file is read as parquet, by its name."""
    return path.suffix in (".parquet", ".pq")


def read_table(path: Path, names: Sequence[str], what: str) -> Any:
    """The file as a pyarrow table, the columns `names` of a CSV as text, so that what is no number can be shown.

    Raises
    ------
    SpecError : it cannot be read as `what` it should be, or has one of the columns more than once.
    """
    import pyarrow as pa  # heavy, and only scenarios with such a file need it

    try:
        table = _parquet_table(path) if is_parquet(path) else _csv_table(path, names)
    except (OSError, pa.ArrowInvalid) as error:
        raise SpecError.of(path, "", f"cannot be read as {what}: {str(error).splitlines()[0]}") from None
    for name in names:
        if table.column_names.count(name) > 1:
            raise SpecError.of(path, name, "is the name of several columns; keep one")
    return table


def _parquet_table(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _csv_table(path: Path, names: Sequence[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    text = csv.ConvertOptions(column_types={name: pa.string() for name in names})
    return csv.read_csv(path, csv.ReadOptions(), csv.ParseOptions(ignore_empty_lines=False), text)


def objects(table: Any, name: str) -> Objects:
    """A column as Python objects; text where the file is text, None where nothing stands."""
    return np.array(table[name].to_pylist(), dtype=object)


@dataclass(frozen=True, slots=True)
class Place:
    """How a value of the file is named."""

    path: Path
    form: str
    offset: int

    @classmethod
    def of(cls, path: Path) -> Place:
        """Records of parquet, lines of a CSV, the first of which is its header."""
        return cls(path, "record {}", 1) if is_parquet(path) else cls(path, "line {}", 2)

    def fault(self, index: int, field: str, what: str) -> Fault:
        """The fault of one value."""
        return Fault(str(self.path), f"{self.form.format(index + self.offset)}, {field}", what)

    def faults(self, field: str, bad: npt.NDArray[np.bool_], values: Floats, what: str) -> list[Fault]:
        """One for each bad value that is a number; what is none has been told already."""
        told = np.flatnonzero(bad & ~np.isnan(values))
        return [self.fault(int(i), field, f"{what}, got {values[i]:g}") for i in told]


def numbers(place: Place, field: str, values: Objects) -> tuple[Floats, list[Fault]]:
    """The values, NaN where one is no number, which is a fault."""
    found, faults = np.full(len(values), np.nan), []
    for i, value in enumerate(values):
        with contextlib.suppress(TypeError, ValueError):
            found[i] = float(value)
        if np.isnan(found[i]):
            shown = "nothing" if value is None or value == "" else repr(value)
            faults.append(place.fault(i, field, f"must be a number, got {shown}"))
    return found, faults


def check(path: Path, faults: list[Fault]) -> None:
    """SpecError with the faults, if there are any, in the file's order; after FAULTS_SHOWN only their number."""
    faults = sorted(faults, key=_place_of)
    if len(faults) > FAULTS_SHOWN:
        more = Fault(str(path), "", f"has {len(faults) - FAULTS_SHOWN} more faults like these")
        raise SpecError([*faults[:FAULTS_SHOWN], more])
    if faults:
        raise SpecError(faults)


def _place_of(fault: Fault) -> int:
    """The line or record that a fault is of (see `Place.fault`)."""
    return int(re.findall(r"\d+", fault.field)[0])
