"""Files of counts: so many requests in each interval as the file and `within` say, and faults told by line."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from serve.errors import SpecError
from sim import counts, processes
from sim.laws import Arrivals
from tests.sim.point_processes import S, instants

FILE = [40, 0, 3, 100, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts of five intervals, in three files."""
    made = tmp_path_factory.mktemp("counts")
    text = "t_s,count\n" + "".join(f"{number},{count}\n" for number, count in enumerate(FILE))
    (made / "c.csv").write_text(text)
    (made / "n.csv.gz").write_bytes(gzip.compress(text.replace("count", "n").encode()))
    (made / "long.csv").write_text("count\n" + "30\n" * 2000)
    return made


def law(within: str, **more: Any) -> dict[str, Any]:
    return {"counts": {"file": "c.csv", "interval": "1min", "within": within, **more}}


def counted(at_ns: np.ndarray, intervals: int) -> list[int]:
    """Requests by minute."""
    return np.bincount(at_ns // (60 * S), minlength=intervals).tolist()


@pytest.mark.parametrize("within", ["uniform", "even"])
def test_exactly_so_many_come_in_each_interval_and_none_after_the_last(folder: Path, within: str) -> None:
    assert counted(instants(law(within), 600, base=folder), 5) == FILE
    assert counted(instants(law(within), 180, base=folder), 3) == FILE[:3], "a run may end before the file"


def test_even_ones_are_evenly_spaced_in_their_interval(folder: Path) -> None:
    at_s = instants(law("even"), 600, base=folder) / S
    assert at_s[:40] == pytest.approx((np.arange(40) + 0.5) * 1.5)
    assert at_s[40:43] == pytest.approx([130, 150, 170])
    assert at_s[-1] == pytest.approx(270)


def test_uniform_ones_are_uniform_and_differ_by_replication(folder: Path) -> None:
    at_s = instants(law("uniform", file="long.csv"), 2000 * 60, base=folder) / S
    assert len(at_s) == 60_000
    assert stats.kstest(at_s % 60, "uniform", args=(0, 60)).pvalue > 1e-4
    other = instants(law("uniform"), 600, 1, base=folder)
    assert not np.array_equal(instants(law("uniform"), 600, 0, base=folder), other)


def test_poisson_ones_have_their_mean_and_its_variance(folder: Path) -> None:
    found = np.bincount(instants(law("poisson", file="long.csv"), 2000 * 60, base=folder) // (60 * S), minlength=2000)
    assert abs(found.mean() - 30) < 4.5 * np.sqrt(30 / 2000), "a mean 3 % off would be found"
    # The variance of the index of dispersion of n Poisson counts is 2 / (n - 1).
    assert abs(found.var(ddof=1) / found.mean() - 1) < 4.5 * np.sqrt(2 / 1999), "22 % too regular would be found"


@pytest.mark.parametrize("within", ["poisson", "uniform", "even"])
@given(chunk=st.integers(1, 80))
def test_the_size_of_a_chunk_changes_no_instant(folder: Path, within: str, chunk: int) -> None:
    whole = instants(law(within), 600, base=folder)
    assert np.array_equal(instants(law(within), 600, chunk=chunk, base=folder), whole)


def test_a_scale_multiplies_counts_and_loses_none(folder: Path) -> None:
    for within in ("uniform", "even"):
        assert counted(instants(law(within, scale=2), 600, base=folder), 5) == [80, 0, 6, 200, 2]
    assert len(instants(law("uniform", scale=0.25, file="long.csv"), 2000 * 60, base=folder)) == 15_000
    assert abs(len(instants(law("even", scale=0.25, file="long.csv"), 2000 * 60, base=folder)) - 15_000) <= 1


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1e6)))
def test_whole_counts_keep_every_sum(read: np.ndarray) -> None:
    whole = counts.whole(read)
    assert (whole >= 0).all()
    assert np.abs(np.cumsum(whole) - np.cumsum(read)).max() <= 0.5 + 1e-6


def test_another_column_of_a_gzipped_file(folder: Path) -> None:
    assert counts.load(folder / "n.csv.gz", "n").tolist() == FILE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("requests\n1\n", "count: must be a column of the counts, got columns requests"),
        ("count\n1\n-2\n", "line 3, count: must be a count from 0 to 1e+12, got -2"),
        ("count\n1\nmany\n", "line 3, count: must be a number, got 'many'"),
        ("count\n0\n0\n", "count: counts no requests in any interval"),
        ("count\n", "count: counts no requests in any interval"),
        ("count,count\n1,2\n", "count: is the name of several columns; keep one"),
    ],
)
def test_faults_name_file_line_and_finding(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        counts.load(path)
    assert str(caught.value) == f"{path}: {said}"


def test_more_at_random_instants_than_memory_holds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("count\n3\n1e9\n")
    said = "count: must, once scaled, be at most 5e+07 in an interval for `within: uniform`, got 1e+08"
    with pytest.raises(SpecError, match=re.escape(said)):
        instants(law("uniform", scale=0.1), 600, base=tmp_path)
    assert len(instants(law("uniform"), 60, base=tmp_path)) == 3, "a run that ends before it may"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no\.csv: cannot be read as counts"):
        counts.load(tmp_path / "no.csv")


def test_a_part_is_cut_out_in_whole_intervals(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("count\n5\n0\n7\n9\n")
    law = {"file": str(path), "interval": "10s", "within": "uniform", "from": "20s", "to": "30s"}
    process = processes.process_of(Arrivals.model_validate({"counts": law}), tmp_path, 60 * 10**9)
    assert process.requests(60 * 10**9) == 7
    assert counts.load(path, "count", 1, 3).tolist() == [0, 7]
    with pytest.raises(SpecError, match="has no intervals from number 4 on"):
        counts.load(path, "count", 4)
    for wrong, said in (({"from": "25s"}, "whole intervals of 10s"), ({"to": "20s"}, "later than `from`, 20s")):
        with pytest.raises(ValueError, match=said):
            Arrivals.model_validate({"counts": law | wrong})
