"""The engine's own log of requests as a trace: first attempts, from the first on, in the order of their arrival."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from serve.errors import SpecError
from serve.records import ARRIVAL_NS, ATTEMPT, COLUMNS, REQUEST, ROWS, empty_rows
from serve.request_log import REQUESTS_FILE, RequestLog
from sim import traces

BEGAN_NS = 1_700_000_000_000_000_001


def logged(folder: Path, requests: list[tuple[int, int, int]]) -> Path:
    """A log of requests (attempt, rows, arrival in ns since it began), in this order."""
    log = RequestLog(folder)
    rows = empty_rows(len(requests))
    for number, (attempt, count, arrival_ns) in enumerate(requests):
        rows[number, [REQUEST, ATTEMPT, ROWS, ARRIVAL_NS]] = number, attempt, count, arrival_ns
    for row in rows.tolist():
        log.request(row)
    log.close()
    return folder / REQUESTS_FILE


def test_instants_count_from_the_first_to_the_nanosecond(tmp_path: Path) -> None:
    path = logged(tmp_path, [(0, 2, BEGAN_NS + 9), (0, 4, BEGAN_NS), (0, 3, BEGAN_NS + 9)])
    arrival_ns, rows = traces.load(path)
    assert arrival_ns.tolist() == [0, 9, 9]
    assert rows is not None
    assert rows.tolist() == [4, 2, 3]


def test_retries_are_no_arrivals_and_rows_never_learnt_are_one(tmp_path: Path) -> None:
    path = logged(tmp_path, [(0, -1, BEGAN_NS), (1, 5, BEGAN_NS + 5), (0, 8, BEGAN_NS + 7)])
    arrival_ns, rows = traces.load(path, scale=2)
    assert arrival_ns.tolist() == [0, 4], "halves are rounded to even"
    assert rows is not None
    assert rows.tolist() == [1, 8]


def test_a_log_without_arrivals_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="arrival_ns: holds no arrivals; a trace needs at least one"):
        traces.load(logged(tmp_path, []))


def test_a_log_whose_instants_are_no_whole_numbers_is_told(tmp_path: Path) -> None:
    columns = {name: np.zeros(1, np.int64) for name in COLUMNS} | {"arrival_ns": np.zeros(1)}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(SpecError, match="arrival_ns: must hold whole numbers in a log of requests, got float64"):
        traces.load(tmp_path / "t.parquet")


def test_a_trace_with_a_column_arrival_s_is_no_log(tmp_path: Path) -> None:
    columns = {name: np.zeros(1, np.int64) for name in COLUMNS} | {"arrival_s": np.array([2.0]), "rows": np.array([7])}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    arrival_ns, rows = traces.load(tmp_path / "t.parquet")
    assert arrival_ns.tolist() == [2_000_000_000]
    assert rows is not None
    assert rows.tolist() == [7]
