"""The model under test is known by its tensors before anything is launched; what does not fit is named."""

import numpy as np
import pytest

from serve.backends import LoadError
from serve.calibration.subject import inspect
from serve.errors import SpecError
from serve.files import sha256
from tests.serve.test_benchmark import write_model


def look(path, max_batch=8, told=False, shapes=None, data=None):
    return inspect(path, max_batch, told, shapes, data, seed=0)


def test_a_dynamic_model_s_facts_and_bytes_of_a_row(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    subject = look(path)
    assert (subject.bytes_in, subject.bytes_out) == (16, 12)
    facts = subject.facts
    assert (facts.batch_axis, facts.max_batch, facts.data, facts.sha256) == (0, 8, "random", sha256(path))
    assert ([t.shape for t in facts.inputs], [t.shape for t in facts.outputs]) == ([[4]], [[3]])
    assert subject.warnings == ()


def test_given_data_is_used_and_recorded(tmp_path):
    data = np.arange(20, dtype=np.float32).reshape(5, 4)
    subject = look(write_model(tmp_path / "m.onnx"), data={"x": data})
    assert subject.facts.data == "given"
    assert np.array_equal(subject.inputs[0].data, data)


def test_a_fixed_batch_is_measured_as_rows_of_one_and_sent_whole(tmp_path):
    path = write_model(tmp_path / "m.onnx", rows=2)
    subject = look(path)
    assert (subject.facts.batch_axis, subject.facts.max_batch) == (None, 1)
    assert subject.facts.inputs[0].shape == [2, 4]
    assert subject.inputs[0].take(1).shape == (2, 4)
    assert subject.bytes_in == 32
    assert "one row only" in subject.warnings[0]
    with pytest.raises(LoadError, match="fixed"):
        look(path, told=True)


def test_a_size_that_varies_must_be_given_and_fit(tmp_path):
    path = write_model(tmp_path / "m.onnx", inputs=4, width="wide")
    with pytest.raises(SpecError, match="--shape x="):
        look(path)
    with pytest.raises(SpecError, match="must fit"):
        look(path, shapes={"x": [4, 4]})
    assert look(path, shapes={"x": [4]}).facts.inputs[0].shape == [4]


def test_data_of_the_wrong_kind_or_incomplete_is_named(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    with pytest.raises(SpecError, match="must be numbers for FP32"):
        look(path, data={"x": np.array([["a"] * 4])})
    with pytest.raises(SpecError, match="no such input") as caught:
        look(path, data={"y": np.zeros((1, 4))})
    assert [f.field for f in caught.value.faults] == ["inputs.y", "inputs.x"]


def test_no_such_model(tmp_path):
    with pytest.raises(LoadError, match="no such model file"):
        look(tmp_path / "none.onnx")
