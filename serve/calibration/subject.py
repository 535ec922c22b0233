"""The model under test: what it is, and the inputs it is fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve import backends
from serve.backends import Facts, LoadError, Settings
from serve.channel import RunHead
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.errors import Fault, SpecError
from serve.files import sha256
from serve.load_plan import InputData, binary_tensor, random_inputs
from serve.profile import ModelFacts, Tensor

EXAMPLE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """A model ready to be driven; bytes are of one row on the wire."""

    facts: ModelFacts
    inputs: tuple[InputData, ...]
    bytes_in: int
    bytes_out: int
    warnings: tuple[str, ...] = ()


def inspect(
    path: Path,
    max_batch: int,
    told: bool,
    shapes: Mapping[str, Sequence[int]] | None,
    data: Mapping[str, npt.NDArray[Any]] | None,
    seed: int,
) -> Subject:
    """Load the model once, here, to learn its tensors; `told`: the user asked for this very `max_batch`.

    Raises
    ------
    SpecError : shapes or data do not fit its inputs. LoadError : it cannot be loaded.
    """
    backend, warnings = _load(path, max_batch, told)
    facts = backend.facts
    fixed = facts.max_batch == 0
    if faults := _faults(path, facts, shapes or {}, data):
        raise SpecError(faults)
    inputs = _inputs(facts, shapes or {}, data, seed)
    rows = 1 if fixed else min(2, facts.max_batch)
    feeds = {i.name: _feed(i, rows) for i in inputs}
    outputs = _tried(path, backend, feeds, rows, data is not None)
    model = ModelFacts(
        file=str(path),
        sha256=sha256(path),
        inputs=[_told(t, i, fixed) for t, i in zip(facts.inputs, inputs, strict=True)],
        outputs=[
            Tensor(name=t.name, datatype=t.datatype, shape=list(o.shape) if fixed else list(o.shape[1:]))
            for t, o in zip(facts.outputs, outputs, strict=True)
        ],
        batch_axis=None if fixed else 0,
        max_batch=max(1, facts.max_batch),
        data="random" if data is None else "given",
    )
    bytes_in = sum(len(binary_tensor(i, 1)[1]) for i in inputs)
    bytes_out = sum(_bytes(o) for o in outputs) // rows
    return Subject(model, inputs, max(1, bytes_in), max(1, bytes_out), tuple(warnings))


def _tried(
    path: Path, backend: backends.Backend, feeds: Mapping[str, npt.NDArray[Any]], rows: int, given: bool
) -> list[npt.NDArray[Any]]:
    """The outputs of a first run; SpecError if the model fails on these inputs."""
    head = RunHead._make([0] * len(RunHead._fields))._replace(rows=rows, groups=1)
    try:
        return backend.run(feeds, head)
    except Exception as error:  # the libraries behind backends have no common base of errors
        inputs = "the inputs given" if given else "random inputs; give it real ones with --data inputs.npz"
        raise SpecError.of(path, "inputs", f"the model fails on {inputs}: {error}") from None


def _load(path: Path, max_batch: int, told: bool) -> tuple[backends.Backend, list[str]]:
    """The loaded model; a fixed batch is accepted unless a batch size was asked for."""

    def settings(rows: int) -> Settings:
        return Settings(backend="onnx", file=str(path), profile="unused", threads=1, max_batch=rows)

    try:
        return backends.load(settings(max_batch)), []
    except LoadError as error:
        if told or max_batch == 1 or not path.is_file():
            raise
        backend = backends.load(settings(1))
        return backend, [f"batches of one row only: {error}"]


def _faults(
    path: Path, facts: Facts, shapes: Mapping[str, Sequence[int]], data: Mapping[str, npt.NDArray[Any]] | None
) -> list[Fault]:
    names, given = {t.name for t in facts.inputs}, data or {}
    found = [
        Fault(str(path), f"inputs.{name}", f"the model has no such input; it has {', '.join(sorted(names))}")
        for name in sorted((shapes.keys() | given.keys()) - names)
    ]
    for tensor in facts.inputs:
        if tensor.name in given:
            found += _data_faults(path, tensor, given[tensor.name], facts.max_batch == 0)
        elif data is not None:
            found.append(Fault(str(path), f"inputs.{tensor.name}", "is missing in the data; give every input or none"))
        else:
            found += _shape_faults(path, tensor, shapes.get(tensor.name))
    return found


def _shape_faults(path: Path, tensor: Tensor, told: Sequence[int] | None) -> list[Fault]:
    where = f"inputs.{tensor.name}"
    if told is None:
        if any(n < 0 for n in tensor.shape):
            wanted = f"its size varies ({tensor.shape}, -1 where); say which to measure with --shape {tensor.name}=..."
            return [Fault(str(path), where, wanted)]
        return []
    fits = len(told) == len(tensor.shape) and all(
        n > 0 and m in (-1, n) for n, m in zip(told, tensor.shape, strict=True)
    )
    return [] if fits else [Fault(str(path), where, f"shape must fit {tensor.shape} (-1: any), got {list(told)}")]


def _data_faults(path: Path, tensor: Tensor, data: npt.NDArray[Any], fixed: bool) -> list[Fault]:
    where = f"inputs.{tensor.name}"
    shape = data.shape if fixed else data.shape[1:]
    if (
        not data.size
        or len(shape) != len(tensor.shape)
        or any(m not in (-1, n) for n, m in zip(shape, tensor.shape, strict=True))
    ):
        lead = [] if fixed else ["rows"]
        return [
            Fault(str(path), where, f"data must have shape {[*lead, *tensor.shape]} (-1: any), got {list(data.shape)}")
        ]
    if tensor.datatype != "BYTES" and data.dtype.kind not in "biuf":
        return [Fault(str(path), where, f"data must be numbers for {tensor.datatype}, got {data.dtype}")]
    return []


def _inputs(
    facts: Facts, shapes: Mapping[str, Sequence[int]], data: Mapping[str, npt.NDArray[Any]] | None, seed: int
) -> tuple[InputData, ...]:
    fixed = facts.max_batch == 0
    if data is not None:
        return tuple(InputData(t.name, t.datatype, np.asarray(data[t.name]), whole=fixed) for t in facts.inputs)
    asked = [(t.name, t.datatype, list(shapes.get(t.name, t.shape))) for t in facts.inputs]
    made = random_inputs(asked, 1 if fixed else EXAMPLE_ROWS, seed)
    return tuple(InputData(i.name, i.datatype, i.data[0] if fixed else i.data, whole=fixed) for i in made)


def _feed(given: InputData, rows: int) -> npt.NDArray[Any]:
    taken = given.take(rows)
    dtype = NUMPY_OF_DATATYPE[given.datatype]
    if dtype.hasobject:
        out = np.empty(taken.shape, object)
        out.reshape(-1)[:] = [e if isinstance(e, bytes) else str(e).encode() for e in taken.reshape(-1).tolist()]
        return out
    return np.ascontiguousarray(taken, dtype)


def _told(tensor: Tensor, given: InputData, fixed: bool) -> Tensor:
    """The input with the sizes that were measured in place of those that vary."""
    return tensor.model_copy(update={"shape": list(given.data.shape if fixed else given.data.shape[1:])})


def _bytes(output: npt.NDArray[Any]) -> int:
    if output.dtype.hasobject:
        return sum(4 + len(e if isinstance(e, bytes) else str(e).encode()) for e in output.reshape(-1).tolist())
    return output.nbytes
