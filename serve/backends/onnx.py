"""ONNX Runtime: runs a .onnx file, on a GPU where CUDA works, else on the CPU.

Threads. `intra_op_num_threads` is really set and operators run one after the other (inter-op 1), so
a replica uses as many cores as the deployment says. Worker threads do not spin while they wait: a
spinning thread burns a core that the front or a neighbour needs, between batches too, and would
make what a replica costs its neighbours depend on how long it has been idle. With one thread
there is nothing to wait for, so nothing is lost.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from serve.backends.contract import Array, Facts, LoadError, Settings, check_fixed_batch
from serve.backends.rows import mixed_output
from serve.channel import RunHead, warm_head
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.profile import Tensor

_DATATYPE_OF_ONNX = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

_FATAL_ONLY = 4  # what fails is raised, and told to whoever sent it


class Onnx:
    """One session."""

    def __init__(self, session: onnxruntime.InferenceSession, facts: Facts) -> None:
        self.facts = facts
        self._session = session
        self._names = [t.name for t in facts.outputs]
        self._texts = {t.name for t in facts.inputs if t.datatype == "BYTES"}
        self._texts_out = [t.datatype == "BYTES" for t in facts.outputs]

    def run(self, feeds: Mapping[str, Array], head: RunHead) -> list[Array]:
        """Run the session; the tensors are read where they lie."""
        if self._texts:
            feeds = {name: _as_text(a) if name in self._texts else a for name, a in feeds.items()}
        outputs: list[Array] = self._session.run(self._names, feeds)
        if any(self._texts_out):
            return [_as_bytes(a) if text else a for a, text in zip(outputs, self._texts_out, strict=True)]
        return outputs

    def settle(self, head: RunHead) -> None:
        """Nothing is pending: `run` has returned the outputs."""

    def warm_up(self, rows: int) -> None:
        """Run on zeros; sizes that vary are 1, and if the model cannot do with that it is left cold there."""
        lead = [rows] if self.facts.max_batch else []
        feeds = {t.name: _filled(t, lead) for t in self.facts.inputs}
        try:
            outputs = self.run(feeds, warm_head(rows))
        except Exception as error:  # onnxruntime's errors have no common public base class
            if any(d < 0 for t in self.facts.inputs for d in t.shape):
                return
            raise LoadError(f"the model fails on zeros at {rows} rows: {error}") from error
        for tensor, output in zip(self.facts.outputs, outputs, strict=True):
            if lead and (output.ndim == 0 or output.shape[0] != rows):
                raise LoadError(
                    f"output {tensor.name!r} has shape {list(output.shape)} for a batch of {rows}: its first axis does "
                    f"not follow the batch; set batch_axis: none and batching.max_batch: 1"
                )


def load(settings: Settings) -> Onnx:
    """Load `settings.file`."""
    assert settings.file is not None  # checked by the deployment
    path = Path(settings.file)
    if not path.is_file():
        raise LoadError(f"{path}: no such model file")
    session, notes = _session(path, settings.threads)
    inputs = [_tensor(path, node) for node in session.get_inputs()]
    outputs = [_tensor(path, node) for node in session.get_outputs()]
    fixed = _why_fixed(inputs, outputs, session.get_inputs(), settings.batch_axis)
    if fixed:
        check_fixed_batch(str(path), fixed, settings.max_batch)
    else:
        inputs = [t.model_copy(update={"shape": t.shape[1:]}) for t in inputs]
        outputs = [t.model_copy(update={"shape": t.shape[1:]}) for t in outputs]
    device = "gpu" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    facts = Facts(
        platform="onnxruntime_onnx",
        device=device,
        inputs=inputs,
        outputs=outputs,
        max_batch=0 if fixed else settings.max_batch,
        notes=notes,
    )
    model = Onnx(session, facts)
    if facts.max_batch > 1 and settings.batch_axis == "auto":
        _check_rows_apart(path, model)
    return model


def _check_rows_apart(path: Path, model: Onnx) -> None:
    """Refuse to batch requests whose answers would depend on each other's rows."""
    head = warm_head(1)
    mixed = mixed_output(lambda feeds: model.run(feeds, head), model.facts.inputs, model.facts.outputs)
    if mixed is not None:
        raise LoadError(
            f"{path}: in output {mixed!r} the answer to a row depends on the other rows of its batch, so requests "
            f"cannot be stacked into batches of {model.facts.max_batch}; set batching.max_batch: 1 (batch_axis: first, "
            f"if this is meant)"
        )


def _session(path: Path, threads: int) -> tuple[onnxruntime.InferenceSession, list[str]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY
    providers = ["CPUExecutionProvider"]
    if cuda_devices() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # as above
        raise LoadError(f"{path}: onnxruntime cannot load it: {error}") from error
    if session.get_providers()[0] == "CUDAExecutionProvider":
        return session, ["runs on CUDA"]
    return session, ["no usable CUDA device: runs on the CPU"]


def cuda_devices() -> int:
    """Number of CUDA devices that the driver offers, 0 without a driver; asked before onnxruntime, which shouts."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _tensor(path: Path, node: Any) -> Tensor:
    datatype = _DATATYPE_OF_ONNX.get(node.type)
    if datatype is None:
        raise LoadError(
            f"{path}: {node.name!r} is a {node.type}; only tensors of {sorted(set(_DATATYPE_OF_ONNX.values()))} can be "
            f"served (an exporter's option such as zipmap=False turns sequences of maps into tensors)"
        )
    return Tensor(name=node.name, datatype=datatype, shape=[d if isinstance(d, int) else -1 for d in node.shape])


def _why_fixed(inputs: list[Tensor], outputs: list[Tensor], nodes: list[Any], told: str) -> str:
    """Why requests cannot be stacked along the first axis; empty if they can."""
    if told == "none":
        return "batch_axis is none"
    for tensor in inputs + outputs:
        if not tensor.shape:
            return f"{tensor.name!r} is a scalar"
        if tensor.shape[0] >= 0:
            return f"the first axis of {tensor.name!r} is fixed at {tensor.shape[0]}"
    # An output's name for its first axis is often made up by an exporter; inputs' names are meant.
    names = {node.shape[0] for node in nodes if isinstance(node.shape[0], str)}
    if told == "auto" and len(names) > 1:
        return f"the inputs name their first axes differently: {sorted(names)} (batch_axis: first says it is the batch)"
    return ""


def _filled(tensor: Tensor, lead: list[int]) -> Array:
    shape = lead + [max(1, d) for d in tensor.shape]
    dtype = NUMPY_OF_DATATYPE[tensor.datatype]
    return np.full(shape, b"", dtype) if dtype.hasobject else np.zeros(shape, dtype)


def _as_text(tensor: Array) -> Array:
    """Bytes to str, which is what onnxruntime takes; raises UnicodeDecodeError for what is not UTF-8."""
    texts = np.empty(tensor.size, np.object_)
    texts[:] = [e.decode() if isinstance(e, bytes) else str(e) for e in tensor.ravel()]
    return texts.reshape(tensor.shape)


def _as_bytes(tensor: Array) -> Array:
    data = np.empty(tensor.size, np.object_)
    data[:] = [str(e).encode() for e in tensor.ravel()]
    return data.reshape(tensor.shape)
