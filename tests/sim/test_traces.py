"""Trace files: read to the nanosecond, refused with file, line and what was found."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from serve.errors import SpecError
from sim import traces


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_csv_with_rows(tmp_path: Path) -> None:
    arrival_ns, rows = traces.load(write(tmp_path, "arrival_s,rows,comment\n0,1,x\n0.25,3,y\n0.25,2,\n"))
    assert arrival_ns.tolist() == [0, 250_000_000, 250_000_000]
    assert rows is not None
    assert rows.tolist() == [1, 3, 2]


def test_csv_without_rows(tmp_path: Path) -> None:
    arrival_ns, rows = traces.load(write(tmp_path, "arrival_s\n1.5\n"))
    assert arrival_ns.tolist() == [1_500_000_000]
    assert rows is None


def test_gzipped_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    zipped = tmp_path / "t.csv.gz"
    zipped.write_bytes(gzip.compress(b"arrival_s,rows\n0.5,1\n2,4\n"))
    table = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"arrival_s": [0.5, 2.0], "rows": [1, 4]}), table)
    for path in (zipped, table):
        arrival_ns, rows = traces.load(path)
        assert arrival_ns.tolist() == [500_000_000, 2_000_000_000]
        assert rows is not None
        assert rows.tolist() == [1, 4]


def test_a_part_begins_at_0_and_ends_before_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, "arrival_s,rows\n1,1\n3,2\n4,3\n9,4\n")
    arrival_ns, rows = traces.load(path, 2.0, from_ns=3 * 10**9, to_ns=9 * 10**9)
    assert rows is not None
    assert (arrival_ns.tolist(), rows.tolist()) == ([0, 500_000_000], [2, 3])
    with pytest.raises(SpecError, match="holds no arrivals from 10 s on"):
        traces.load(path, from_ns=10 * 10**9)


def test_scale_multiplies_the_rate(tmp_path: Path) -> None:
    arrival_ns, _ = traces.load(write(tmp_path, "arrival_s\n1\n3\n"), scale=2.0)
    assert arrival_ns.tolist() == [500_000_000, 1_500_000_000]


def test_instants_that_a_scale_moves_beyond_int64_still_ascend(tmp_path: Path) -> None:
    arrival_ns, _ = traces.load(write(tmp_path, "arrival_s\n0\n1\n10000\n4e9\n"), scale=1e-6)
    assert arrival_ns.tolist() == [0, 10**15, 2**61, 2**61]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when\n1\n", "arrival_s: must be a column of a trace, got columns when"),
        ("arrival_s\n", "arrival_s: holds no arrivals; a trace needs at least one"),
        ("arrival_s\n1\nsoon\n", "line 3, arrival_s: must be a number, got 'soon'"),
        ("arrival_s,rows\n1,1\n2,\n", "line 3, rows: must be a number, got nothing"),
        ("arrival_s\n1\n-2\n", "line 3, arrival_s: must be seconds from the start, in [0, 4294967296), got -2"),
        ("arrival_s\nnan\n", "line 2, arrival_s: must be a number, got 'nan'"),
        (
            "arrival_s\n1700000000000\n",
            "line 2, arrival_s: must be seconds from the start, in [0, 4294967296), got 1.7e+12",
        ),
        ("arrival_s\n2\n3\n1\n", "line 4, arrival_s: must not be before the arrival above it, got 1"),
        ("arrival_s,rows\n1,0\n", "line 2, rows: must be a whole number from 1 to 65536, got 0"),
        ("arrival_s,rows\n1,1.5\n", "line 2, rows: must be a whole number from 1 to 65536, got 1.5"),
        ("arrival_s,rows\n1,1e300\n", "line 2, rows: must be a whole number from 1 to 65536, got 1e+300"),
        ("arrival_s,arrival_s\n1,2\n", "arrival_s: is the name of several columns; keep one"),
    ],
)
def test_faults_name_file_line_and_finding(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        traces.load(path)
    assert str(caught.value) == f"{path}: {said}"


def test_every_fault_is_told_and_beyond_twenty_their_number(tmp_path: Path) -> None:
    path = write(tmp_path, "arrival_s,rows\nsoon,1\n-1,0\n3,2\n2,x\n")
    with pytest.raises(SpecError) as caught:
        traces.load(path)
    assert [(fault.field, fault.message.split(",")[0]) for fault in caught.value.faults] == [
        ("line 2, arrival_s", "must be a number"),
        ("line 3, arrival_s", "must be seconds from the start"),
        ("line 3, rows", "must be a whole number from 1 to 65536"),
        ("line 5, arrival_s", "must not be before the arrival above it"),
        ("line 5, rows", "must be a number"),
    ]
    with pytest.raises(SpecError, match="has 80 more faults like these") as caught:
        traces.load(write(tmp_path, "arrival_s\n" + "soon\n" * 100))
    assert len(caught.value.faults) == 21


def test_a_row_with_too_many_fields_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"t\.csv: cannot be read as a trace: .*columns"):
        traces.load(write(tmp_path, "arrival_s,rows\n1,1\n2,2,2\n"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no\.csv: cannot be read as a trace"):
        traces.load(tmp_path / "no.csv")


def test_parquet_faults_name_the_record(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"arrival_s": [1.0, None]}), path)
    with pytest.raises(SpecError, match=r"record 2, arrival_s: must be a number, got nothing"):
        traces.load(path)


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read as a trace"):
        traces.load(write(tmp_path, "arrival_s\n1\n", "t.parquet"))
