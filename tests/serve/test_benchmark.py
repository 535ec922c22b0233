"""A model is calibrated through the live engine into a profile that its readers accept, or not at all."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serve.benchmark import affordable, between, calibrate, disturbances, extrapolated, profile_name, thin, worthwhile
from serve.calibration.fit import Level
from serve.calibration.samples import SAMPLE_COLUMNS
from serve.errors import SpecError
from serve.files import load, sha256
from serve.profile import Profile, ServiceCell
from serve.profile_samples import load_samples


def write_model(path: Path, rows: str | int = "rows", inputs: int = 4, width: str | None = None) -> Path:
    """y = x @ w: the smallest real model; `width` names the size of a row instead of telling it."""
    weights = np.arange(inputs * 3, dtype=np.float32).reshape(inputs, 3)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, width or inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def cell(rows: int, busy: int = 0, threads: int = 1) -> ServiceCell:
    return ServiceCell(
        threads=threads, busy=busy, rows=rows, samples=30, mean_ms=1, p50_ms=1, p99_ms=2, p99_pooled=True
    )


@pytest.mark.live
def test_a_model_becomes_a_profile_with_its_samples(tmp_path):
    told = []
    out = tmp_path / "tiny.yaml"
    profile = calibrate(
        write_model(tmp_path / "tiny.onnx"), out=out, budget_s=1, max_batch=4, progress=lambda *step: told.append(step)
    )
    assert load(out, Profile) == profile
    assert (profile.model.max_batch, profile.model.data, profile.model.batch_axis) == (4, "random", 0)
    assert profile.model.sha256 == sha256(tmp_path / "tiny.onnx")
    assert {(c.busy, c.rows) for c in profile.service} >= {(0, 1), (0, 4)}
    assert all(c.samples >= 30 and 0 < c.p50_ms <= c.p99_ms for c in profile.service)

    samples = load_samples(tmp_path / "tiny.parquet")
    assert sha256(tmp_path / "tiny.parquet") == profile.samples.sha256
    assert tuple(samples) == SAMPLE_COLUMNS
    assert len(samples["rows"]) == profile.samples.rows >= sum(c.samples for c in profile.service)
    assert np.all(samples["service_ns"] > samples["compute_ns"])
    assert np.all(samples["compute_ns"] > 0)
    assert samples["at_s"].min() >= 0

    assert (profile.front.bytes_in_per_row, profile.front.bytes_out_per_row) == (16, 12)
    assert min(profile.front.parse_us, profile.front.finish_batch_us, profile.front.finish_request_us) > 0
    assert profile.front.refuse_us > 0, "refusals were provoked"
    assert len(profile.client.send_us) == len(profile.client.receive_us) == 101
    assert profile.startup.load_s > 0 and profile.startup.memory_mib > 1
    assert any("random" in str(value) for value in profile.model_dump().values())
    assert told == sorted(told, key=lambda step: step[0]) and told[-1][0] == 1.0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.onnx", "tiny.parquet", "tiny.yaml"]


def test_inputs_that_do_not_fit_the_model_are_all_named_before_anything_is_launched(tmp_path):
    model = write_model(tmp_path / "tiny.onnx")
    with pytest.raises(SpecError) as caught:
        calibrate(model, out=tmp_path / "p.yaml", data={"x": np.zeros((3, 5)), "z": np.zeros(1)})
    assert [fault.field for fault in caught.value.faults] == ["inputs.z", "inputs.x"]
    assert "[3, 5]" in str(caught.value)
    assert not (tmp_path / "p.yaml").exists()


def test_a_request_that_cannot_succeed_is_refused_before_anything_is_measured(tmp_path):
    model = write_model(tmp_path / "tiny.onnx")
    with pytest.raises(SpecError) as caught:
        calibrate(model, out=tmp_path / "p.txt", budget_s=0, threads=(1, 4096), max_batch=0)
    assert [fault.file for fault in caught.value.faults] == [
        "--budget",
        "--threads",
        "--max-batch",
        str(tmp_path / "p.txt"),
    ]


def test_batches_are_measured_as_far_as_they_raise_throughput():
    grid = [1, 2, 3, 4, 6, 8]
    flat = {r: float(max(r, 3)) for r in grid}
    assert worthwhile(grid, flat, told=False) == [1, 2, 3]
    assert worthwhile(grid, flat, told=True) == grid
    assert worthwhile(grid, dict.fromkeys(grid, 1.0), told=False) == grid


def test_sizes_that_the_first_look_did_not_reach_are_taken_to_cost_as_much_per_row():
    rows, spans_s = np.array([1, 2, 4, 1]), np.array([1.0, 1.5, 2.0, 3.0])
    assert extrapolated([1, 2, 4, 8], rows, spans_s) == {1: 2.0, 2: 1.5, 4: 2.0, 8: 4.0}


def test_the_grid_thins_out_where_time_is_short():
    grid = [1, 2, 3, 4, 6]
    slow = dict.fromkeys(grid, 0.1)
    assert affordable(grid, between(slow, grid), [0, 1], left_s=1000) == [1, 2, 3, 4, 5, 6]
    assert affordable(grid, between(slow, grid), [0, 1], left_s=100) == grid
    assert affordable(grid, between(slow, grid), [0, 1], left_s=10) == [1, 2, 4, 6]


def test_strangers_and_steps_disturb_a_run_and_steady_noise_does_not():
    steady = [1.0, 1.01, 0.99, 1.02, 0.98] * 4
    assert disturbances(Level(steady, 1.0, 0.01), 0, strangers=0.01) == []
    (step,) = disturbances(Level([*steady, 1.6], 1.0, 0.1), 0, strangers=0.01)
    assert "1 of 21 windows" in step
    (strangers,) = disturbances(Level(steady, 1.0, 0.01), 0, strangers=0.8)
    assert "0.80 cores" in strangers
    (stall,) = disturbances(Level(steady, 1.0, 0.01), 3, strangers=0.01)
    assert "stall of the whole machine: 3" in stall


def test_cells_without_enough_samples_are_named():
    (warning,) = thin([cell(1), cell(2), cell(1, busy=1)], [1, 2])
    assert "busy 1: fewer than 30 samples of [2] rows" in warning


def test_a_profile_is_named_after_its_file():
    assert [profile_name(Path(p)) for p in ("a/Big Net.yaml", "3.yaml", "ok_1.json")] == [
        "big-net",
        "profile-3",
        "ok_1",
    ]
