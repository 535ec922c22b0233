"""Arrival traces: CSV (also gzipped) or parquet with a column arrival_s and, optionally, rows; or the engine's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serve.errors import Fault, SpecError
from sim.columns import Floats, Place, check, is_parquet, numbers, objects, read_table
from sim.point_process import Ints, whole_ns

ROWS_MAX = 65536
"""As many as a scenario may write for a request."""
ARRIVAL_MAX_S = 2.0**32
"""Later instants (136 years) are taken for timestamps in another unit and refused."""
LOG_COLUMNS = frozenset(("request", "attempt", "rows", "arrival_ns"))
"""Columns by which a log of requests (`serve.records.COLUMNS`) is known, and that are read of it."""


def load(path: Path, scale: float = 1.0, from_ns: int = 0, to_ns: int | None = None) -> tuple[Ints, Ints | None]:
    """Arrival instants in ns and rows (None: the file has no such column), ascending.

    Only arrivals from `from_ns`, which is 0 then, to before `to_ns` are kept; `scale` multiplies their rate: instants
    are divided by it, as far as int64 goes. Of the engine's own log of requests the first attempts count, from the
    first of them on; its instants are those of a clock that began some other time.

    Raises
    ------
    SpecError : every fault with file, line (CSV) or record (parquet), and what was found; after FAULTS_SHOWN of them
        only their number.
    """
    table = read_table(path, ("arrival_s", "rows"), "a trace")
    names = table.column_names
    if is_parquet(path) and "arrival_s" not in names and set(names) >= LOG_COLUMNS:
        return _cut(path, *_of_log(path, table), scale, from_ns, to_ns)
    if "arrival_s" not in names:
        what = f"must be a column of a trace, got columns {', '.join(names) or 'none'}"
        hint = "; requests counted by interval are `counts`, and for a fit need --interval" if "count" in names else ""
        raise SpecError.of(path, "arrival_s", what + hint)
    if table.num_rows == 0:
        raise _empty(path, "arrival_s")
    place = Place.of(path)
    arrival_s, faults = numbers(place, "arrival_s", objects(table, "arrival_s"))
    faults += _arrival_faults(place, arrival_s)
    rows = None
    if "rows" in names:
        rows, more = numbers(place, "rows", objects(table, "rows"))
        unfit = ~((rows >= 1) & (rows <= ROWS_MAX) & (rows == np.floor(rows)))
        faults += more + place.faults("rows", unfit, rows, f"must be a whole number from 1 to {ROWS_MAX}")
    check(path, faults)
    return _cut(path, arrival_s * 1e9, None if rows is None else rows.astype(np.int64), scale, from_ns, to_ns)


def _cut(
    path: Path, arrival_ns: Floats | Ints, rows: Ints | None, scale: float, from_ns: int, to_ns: int | None
) -> tuple[Ints, Ints | None]:
    """The part of a trace that is asked for, from its begin on, at another rate."""
    kept = slice(*np.searchsorted(arrival_ns, [from_ns, 2.0**63 if to_ns is None else to_ns]))
    if kept.start == kept.stop:
        raise SpecError.of(path, "arrival_s", f"holds no arrivals from {from_ns / 1e9:g} s on, in the part asked for")
    return whole_ns((arrival_ns[kept] - from_ns) / scale), None if rows is None else rows[kept]


def _empty(path: Path, field: str) -> SpecError:
    return SpecError.of(path, field, "holds no arrivals; a trace needs at least one")


def _arrival_faults(place: Place, arrival_s: Floats) -> list[Fault]:
    outside = ~((arrival_s >= 0) & (arrival_s < ARRIVAL_MAX_S))
    faults = place.faults(
        "arrival_s", outside, arrival_s, f"must be seconds from the start, in [0, {ARRIVAL_MAX_S:.0f})"
    )
    back = np.concatenate([[False], np.diff(arrival_s) < 0]) & ~outside
    return faults + place.faults("arrival_s", back, arrival_s, "must not be before the arrival above it")


# -- the engine's own log ------------------------------------------------------------------------------


def _of_log(path: Path, table: Any) -> tuple[Ints, Ints]:
    """First attempts in the order of their arrival; the log has them in the order in which they left.

    Rows that the engine never learnt, since it refused the request from its header, count as one.
    """
    arrival_ns, attempt, rows = (_whole(path, table, name) for name in ("arrival_ns", "attempt", "rows"))
    met = (attempt == 0) & (arrival_ns >= 0)
    if not met.any():
        raise _empty(path, "arrival_ns")
    arrival_ns, rows = arrival_ns[met], np.clip(rows[met], 1, ROWS_MAX)
    order = np.argsort(arrival_ns, kind="stable")
    since_ns = arrival_ns[order] - arrival_ns.min()
    return since_ns, rows[order]


def _whole(path: Path, table: Any, name: str) -> Ints:
    column = np.asarray(table[name].to_numpy())
    if column.dtype.kind not in "iu":
        raise SpecError.of(path, name, f"must hold whole numbers in a log of requests, got {column.dtype}")
    return column.astype(np.int64)
