"""The contract that every backend keeps, and what is particular to each."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve import backends
from serve.backends import Backend, LoadError, Settings, emulated, onnx
from serve.backends.emulated import STEP_NS, draw, due_ns, followed
from serve.channel import warm_head
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.files import sha256
from serve.profile_samples import ServiceTimes, load_samples
from tests.profiles import Synthetic, write_profile
from tests.serve import models

MS = 1_000_000


def of(folder: Path, **told: Any) -> Settings:
    plain = {"backend": "onnx", "file": str(folder / "model.onnx"), "profile": str(folder / "toy.yaml")}
    return Settings(**(plain | {"threads": 1, "max_batch": 4} | told))


def load_onnx(folder: Path) -> Backend:
    models.two_in_two_out(folder / "model.onnx")
    return backends.load(of(folder))


def load_emulated(folder: Path) -> Backend:
    write_profile(folder, Synthetic(base_ms=0.01, row_ms=0.01))
    return backends.load(of(folder, backend="emulated"))


@pytest.mark.parametrize("load", [pytest.param(load_onnx, id="onnx"), pytest.param(load_emulated, id="emulated")])
class TestContract:
    """A new backend is accepted when it passes these."""

    def test_its_facts_name_tensors_without_the_batch(self, load: Callable[[Path], Backend], tmp_path: Path) -> None:
        facts = load(tmp_path).facts
        assert facts.max_batch == 4
        assert facts.platform
        assert facts.inputs and facts.outputs
        assert all(t.datatype in NUMPY_OF_DATATYPE for t in facts.inputs + facts.outputs)

    @pytest.mark.parametrize("rows", [1, 3, 4])
    def test_outputs_come_in_order_with_the_rows_first(
        self, load: Callable[[Path], Backend], tmp_path: Path, rows: int
    ) -> None:
        backend = load(tmp_path)
        backend.warm_up(rows)
        feeds = {t.name: np.ones([rows, *t.shape], NUMPY_OF_DATATYPE[t.datatype]) for t in backend.facts.inputs}
        outputs = backend.run(feeds, warm_head(rows))
        backend.settle(warm_head(rows))
        for tensor, output in zip(backend.facts.outputs, outputs, strict=True):
            assert output.shape == (rows, *tensor.shape)
            assert output.dtype == NUMPY_OF_DATATYPE[tensor.datatype]

    def test_it_is_registered(self, load: Callable[[Path], Backend], tmp_path: Path) -> None:
        assert type(load(tmp_path)).__module__ in backends.LOADERS.values()


# -- onnx ------------------------------------------------------------------------------------------------


def test_only_the_gpu_build_of_onnxruntime_is_installed() -> None:
    # Both unpack into the same folder; whichever came last would decide what runs.
    names = {(d.metadata["Name"] or "").lower() for d in distributions()}
    assert "onnxruntime-gpu" in names
    assert "onnxruntime" not in names


def test_without_a_device_it_runs_on_the_cpu_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "cuda_devices", lambda: 0)
    facts = load_onnx(tmp_path).facts
    assert facts.device == "cpu"
    assert facts.notes == ["no usable CUDA device: runs on the CPU"]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_are_really_set(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = onnxruntime.InferenceSession

    def spy(path: Path, options: onnxruntime.SessionOptions, providers: list[str]) -> onnxruntime.InferenceSession:
        made.append(options)
        return real(path, options, providers=providers)

    before = native_threads()
    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    models.mlp(tmp_path / "model.onnx")
    backend = backends.load(of(tmp_path, threads=threads))
    backend.warm_up(4)
    assert native_threads() - before == threads - 1  # the caller's own thread is one of them
    (options,) = made
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize(
    ("make", "axis", "batched"),
    [
        pytest.param(models.affine, "auto", True, id="dynamic"),
        pytest.param(lambda p: models.affine(p, batch=1), "auto", False, id="fixed at one"),
        pytest.param(models.affine, "none", False, id="told that there is none"),
        pytest.param(models.two_names, "auto", False, id="inputs that name it differently"),
        pytest.param(models.two_names, "first", True, id="told that it is the first"),
    ],
)
def test_the_batch_axis_is_found_or_told(
    tmp_path: Path, make: Callable[[Path], Path], axis: str, batched: bool
) -> None:
    make(tmp_path / "model.onnx")
    facts = backends.load(of(tmp_path, batch_axis=axis, max_batch=1)).facts
    assert facts.max_batch == (1 if batched else 0)
    assert len(facts.inputs[0].shape) == (1 if batched else 2)
    if not batched:
        with pytest.raises(LoadError, match="requests cannot be stacked into batches of 4"):
            backends.load(of(tmp_path, batch_axis=axis))


def test_what_is_not_a_tensor_is_refused_by_name(tmp_path: Path) -> None:
    models.sequence_out(tmp_path / "model.onnx")
    with pytest.raises(LoadError, match=r"'y' is a seq\(tensor\(float\)\)"):
        backends.load(of(tmp_path, max_batch=1))


# -- emulated ----------------------------------------------------------------------------------------------


@given(st.integers(0, 2**62 - 1), st.integers(0, 1), st.integers(0, 2**32 - 1))
def test_a_draw_is_kept_by_its_key(request_id: int, deaths: int, seed: int) -> None:
    share = draw(seed, request_id, deaths)
    assert 0 <= share < 1
    assert draw(seed, request_id, deaths) == share
    assert draw(seed, request_id, deaths + 1) != share
    assert draw(seed, request_id + 1, deaths) != share


def test_draws_are_uniform() -> None:
    shares = np.sort([draw(1, i, 0) for i in range(4000)])
    # Kolmogorov-Smirnov distance; 1.95 / sqrt(n) is exceeded once in a thousand seeds, and this is one seed.
    assert np.max(np.abs(shares - np.arange(4000) / 4000)) < 1.95 / np.sqrt(4000)


def test_a_batch_behind_another_starts_when_that_one_ends() -> None:
    alone = warm_head(1)._replace(dispatch_ns=100 * MS)
    assert due_ns(alone, 50 * MS, 7 * MS, 1 * MS) == (107 * MS, 106 * MS)
    behind = warm_head(1)._replace(dispatch_ns=102 * MS)
    assert due_ns(behind, 107 * MS, 7 * MS, 1 * MS) == (114 * MS, 113 * MS)


def test_the_known_lateness_follows_what_is_usual_and_not_what_is_rare() -> None:
    random = np.random.default_rng(np.random.SeedSequence(3))
    late_ns, seen = 0, []
    for i in range(4000):
        really_ns = 80_000 + int(random.normal(0, 5_000)) + (3 * MS if i % 40 == 0 else 0)
        seen.append(late_ns)
        late_ns = followed(late_ns, really_ns - late_ns)
    assert abs(np.mean(seen[1000:]) - 80_000) < STEP_NS
    assert followed(0, -MS) == 0


def test_it_sleeps_until_the_service_time_is_over_less_the_known_lateness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(tmp_path, Synthetic(base_ms=2, row_ms=0.5, busy=(0, 1), slowdown=0.5))
    woken: list[int] = []
    monkeypatch.setattr(emulated, "sleep_until_ns", woken.append)
    backend = emulated.load(of(tmp_path, backend="emulated"))
    backend.late_ns = 50_000
    head = warm_head(2)._replace(dispatch_ns=10 * MS, busy=1)
    backend.settle(head)  # (2 + 2 * 0.5) ms, half as much again beside a neighbour
    assert woken == [10 * MS + 4_500_000 - 50_000]
    backend.settle(head._replace(dispatch_ns=11 * MS, heard_ns=14_500_000 + 4_000))
    assert backend.late_ns == 51_000
    assert woken[1] == 14_500_000 + 4_500_000 - 51_000


def test_it_burns_no_processor_time(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=100))
    backend = emulated.load(of(tmp_path, backend="emulated"))
    before_ns = time.thread_time_ns()
    begin_ns = time.monotonic_ns()
    backend.settle(warm_head(1)._replace(dispatch_ns=begin_ns))
    assert time.monotonic_ns() - begin_ns >= 100 * MS
    assert time.thread_time_ns() - before_ns < 50 * MS


def test_a_profile_that_does_not_cover_the_deployment_is_refused(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(rows=(1, 2)))
    with pytest.raises(LoadError, match="measured up to 2 rows, max_batch is 4"):
        backends.load(of(tmp_path, backend="emulated"))
    with pytest.raises(LoadError, match=r"no samples at threads 3; measured were \[1\]"):
        backends.load(of(tmp_path, backend="emulated", max_batch=2, threads=3))
    write_profile(tmp_path, Synthetic(samples=0), name="empty")
    with pytest.raises(LoadError, match="has no samples"):
        backends.load(of(tmp_path, backend="emulated", profile=str(tmp_path / "empty.yaml")))


def test_samples_of_another_profile_are_refused(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic())
    write_profile(tmp_path, Synthetic(seed=1, noise_cv=0.1), name="other")
    (tmp_path / "toy.parquet").write_bytes((tmp_path / "other.parquet").read_bytes())
    with pytest.raises(LoadError, match=r"samples\.sha256: toy\.parquet is not the file that was measured"):
        backends.load(of(tmp_path, backend="emulated"))


def test_another_profile_than_the_planned_one_is_noted(tmp_path: Path) -> None:
    path = write_profile(tmp_path, Synthetic())
    assert backends.load(of(tmp_path, backend="emulated", profile_sha256=sha256(path))).facts.notes == []
    (note,) = backends.load(of(tmp_path, backend="emulated", profile_sha256="0" * 64)).facts.notes
    assert "profile_sha256 differs" in note


def test_service_times_between_what_was_measured_are_interpolated(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=2, row_ms=1, rows=(1, 4, 8), busy=(0, 2), slowdown=0.5))
    times = ServiceTimes(load_samples(tmp_path / "toy.parquet"), 1)
    assert times.rows_max == 8
    for rows, busy, ms in ((1, 0, 3), (3, 0, 5), (8, 0, 10), (4, 2, 12), (4, 1, 9), (4, 7, 12), (6, 1, 12)):
        assert times.service_ns(rows, busy, 0.3) == ms * MS
    with pytest.raises(ValueError, match="9 rows are beyond the measured 8"):
        times.service_ns(9, 0, 0.5)


def test_rows_never_measured_beside_neighbours_are_slowed_like_the_largest_that_were() -> None:
    columns = [(0, 1, 10), (0, 2, 20), (1, 1, 15)]  # busy, rows, service
    busy, rows, service_ns = (np.array(c) for c in zip(*columns, strict=True))
    times = ServiceTimes({"threads": np.ones(3), "busy": busy, "rows": rows, "service_ns": service_ns}, 1)
    assert times.service_ns(2, 1, 0.5) == 30


def test_a_model_that_mixes_rows_is_not_batched(tmp_path: Path) -> None:
    models.mixing(tmp_path / "model.onnx")
    with pytest.raises(LoadError, match="in output 'y' the answer to a row depends on the other rows") as refused:
        backends.load(of(tmp_path))
    assert "batching.max_batch: 1" in str(refused.value)
    assert backends.load(of(tmp_path, max_batch=1)).facts.max_batch == 1
    assert backends.load(of(tmp_path, batch_axis="first")).facts.max_batch == 4, "who says that it is meant may"


@pytest.mark.parametrize("make", [models.mlp, models.two_in_two_out, models.text, models.gather, models.any_width])
def test_models_that_answer_row_by_row_are_batched(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path / "model.onnx")
    assert backends.load(of(tmp_path)).facts.max_batch == 4
