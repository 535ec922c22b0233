"""Inference requests of the Open Inference Protocol v2, from bytes to arrays, as pure functions.

`read` turns a body into an `Inference`. Its `Plan` holds everything that the JSON header says, so
that a header seen before costs a look-up (`PlanCache`) and a view per input. Answers are written by
`serve.protocol.answer`; sockets and the engine are `serve.protocol.http`'s.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serve.policy.codes import NEVER_NS, REASON_ROWS
from serve.protocol.errors import RequestError, brief, invalid
from serve.protocol.signature import ModelSignature, TensorSignature
from serve.protocol.tensors import NonFinite, check_shape, datatype_of, element_count, from_binary, from_json
from serve.served import Array

Shape = tuple[int, ...]
RESERVED_PREFIX = "triton_"
PLAN_CACHE_ENTRIES = 1024
PLAN_CACHE_HEADER_BYTES = 4096
_LEADING_ID = re.compile(rb'\{"id": ?"([\w.-]*)", ?', re.ASCII)
"""An id where clients put it, first in the header, and free of escapes."""


@dataclass(frozen=True, slots=True)
class InputPlan:
    """Where one input comes from: `array` from the JSON, or `size` bytes at `offset` of the body's binary part.

    With `dtype` those bytes need no look: their number is right and any bits will do (not so of
    BYTES and BOOL).
    """

    name: str
    shape: Shape
    offset: int = 0
    size: int = 0
    array: Array | None = None
    dtype: np.dtype[np.generic] | None = None


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """One output to answer with: its position among the model's outputs, and in which form."""

    index: int
    binary: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked JSON header. `priority` and `timeout_ns` are the inside ones; inputs in the model's order.

    `heads` is for `serve.protocol.answer`: the JSON of answers already given, by their shapes.
    """

    id: str
    rows: int
    priority: int
    timeout_ns: int
    inputs: tuple[InputPlan, ...]
    binary_bytes: int
    outputs: tuple[OutputPlan, ...]
    heads: dict[Any, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Inference:
    """A request ready to be queued; `id` as the client gave it, empty if it gave none."""

    plan: Plan
    id: str
    arrays: dict[str, Array]


class PlanCache:
    """The plans of headers lately seen, by their bytes apart from a leading id; small headers without data only."""

    def __init__(self, signature: ModelSignature, entries: int = PLAN_CACHE_ENTRIES) -> None:
        self.signature = signature
        self._entries = entries
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()

    def get(self, header: bytes) -> tuple[Plan, str]:
        """The plan of `header`, read now if it is new, and the request's id."""
        matched = _LEADING_ID.match(header)
        key = header if matched is None else header[matched.end() :]
        plan = self._plans.get(key)
        if plan is not None:
            return plan, "" if matched is None else matched[1].decode("ascii")
        plan = read_header(self.signature, header)
        # A second "id" further back would have won: such a header is not what its key says.
        if _cacheable(plan, header) and plan.id == ("" if matched is None else matched[1].decode("ascii")):
            self._plans[key] = plan
            if len(self._plans) > self._entries:
                self._plans.popitem(last=False)
        return plan, plan.id

    def __len__(self) -> int:
        return len(self._plans)


def _cacheable(plan: Plan, header: bytes) -> bool:
    """Headers with data rarely come twice, and would hold much memory."""
    return len(header) <= PLAN_CACHE_HEADER_BYTES and all(i.array is None for i in plan.inputs)


def read(cache: PlanCache, body: bytes, header_length: int | None) -> Inference:
    """The inference that `body` asks for.

    Parameters
    ----------
    header_length : value of Inference-Header-Content-Length in bytes; None: there was none and the
        whole body is JSON; 0: the body is the raw bytes of the only input.

    Raises
    ------
    RequestError : 400, with the reason.
    """
    if header_length == 0:
        return _read_raw(cache.signature, body)
    if header_length is None:
        header_length = len(body)
    elif header_length > len(body):
        raise invalid(f"Inference-Header-Content-Length is {header_length}, but the body has only {len(body)} bytes")
    plan, request_id = cache.get(body[:header_length])
    if len(body) - header_length != plan.binary_bytes:
        raise invalid(
            f"the inputs' binary_data_size add up to {plan.binary_bytes} bytes, but "
            f"{len(body) - header_length} follow the JSON header"
        )
    return Inference(plan, request_id, _arrays(cache.signature, plan, body, header_length))


def _arrays(signature: ModelSignature, plan: Plan, body: bytes, start: int) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for i, piece in enumerate(plan.inputs):
        begin = start + piece.offset
        if piece.dtype is not None:
            count = piece.size // piece.dtype.itemsize
            arrays[piece.name] = np.frombuffer(body, piece.dtype, count, begin).reshape(piece.shape)
        elif piece.array is not None:
            arrays[piece.name] = piece.array
        else:
            data = memoryview(body)[begin : begin + piece.size]
            arrays[piece.name] = from_binary(signature.inputs[i].datatype, piece.shape, data, f"input {piece.name!r}")
    return arrays


def read_header(signature: ModelSignature, header: bytes) -> Plan:
    """The plan that a JSON header asks for; 400 if it is wrong in any way."""
    request = parse_object(header, "the request")
    parameters = _parameters(request.get("parameters"), "parameters")
    _refuse_reserved(parameters)
    request_id = request.get("id", "")
    if not isinstance(request_id, str):
        raise invalid(f"id must be a string, got {brief(request_id)}")
    inputs, rows, binary_bytes = _read_inputs(signature, request.get("inputs"))
    return Plan(
        id=request_id,
        rows=rows,
        priority=_priority(signature, parameters.get("priority", 0)),
        timeout_ns=_timeout_ns(signature, parameters),
        inputs=inputs,
        binary_bytes=binary_bytes,
        outputs=_read_outputs(signature, request.get("outputs"), _flag(parameters, "binary_data_output", False)),
    )


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """`text` as a JSON object, in UTF-8; else 400."""
    try:
        value = json.loads(text.decode(), parse_constant=NonFinite)
    except UnicodeDecodeError as error:
        raise invalid(f"{what} is not UTF-8: byte {error.start}") from error
    except RecursionError as error:
        raise invalid(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise invalid(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise invalid(f"{what} must be a JSON object, got {type(value).__name__}")
    return value


def _parameters(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"{where} must be an object, got {brief(value)}")
    for key, item in value.items():
        if not isinstance(item, (str, int, float)):
            raise invalid(f"{where}.{key:.40} must be a string, number or boolean, got {brief(item)}")
    return value


def _refuse_reserved(parameters: dict[str, Any]) -> None:
    for key in parameters:
        if key.startswith(RESERVED_PREFIX):
            raise invalid(f"parameter {brief(key)} is reserved: clients may not set {RESERVED_PREFIX}*")


def _flag(parameters: dict[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise invalid(f"parameter {key!r} must be true or false, got {brief(value)}")
    return value


def _priority(signature: ModelSignature, value: Any) -> int:
    """Rule 1: 0 is the deployment's default, p >= 1 is the inside p - 1."""
    if type(value) is not int or value < 0:
        raise invalid(f"parameter 'priority' must be an integer >= 0, got {brief(value)}")
    if value > signature.priority_levels:
        raise invalid(f"parameter 'priority' must be at most {signature.priority_levels}, got {value}")
    return value - 1 if value else signature.default_priority


def _timeout_ns(signature: ModelSignature, parameters: dict[str, Any]) -> int:
    """Rule 1: microseconds on the wire, and never zero or less."""
    if "timeout" not in parameters:
        return signature.default_timeout_ns
    value = parameters["timeout"]
    if type(value) is not int or value <= 0:
        raise invalid(f"parameter 'timeout' must be an integer > 0 in microseconds, got {brief(value)}")
    return min(value * 1000, NEVER_NS)


def _entries(value: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(f"{key} must be an array of objects")
    return value


def _lookup(item: dict[str, Any], known: dict[str, int], seen: set[int], kind: str) -> int:
    """Position of the tensor that `item` names; 400 if unknown or named before."""
    name = item.get("name")
    index = known.get(name) if isinstance(name, str) else None
    if index is None:
        raise invalid(f"unknown {kind} {brief(name)}; the model has {', '.join(map(repr, known))}")
    if index in seen:
        raise invalid(f"{kind} {name!r} is given twice")
    seen.add(index)
    return index


def _read_inputs(signature: ModelSignature, value: Any) -> tuple[tuple[InputPlan, ...], int, int]:
    plans: dict[int, InputPlan] = {}
    seen: set[int] = set()
    offset = 0
    for item in _entries(value, "inputs"):
        index = _lookup(item, signature.input_index, seen, "input")
        plans[index] = _read_input(signature, signature.inputs[index], item, offset)
        offset += plans[index].size
    missing = [t.name for i, t in enumerate(signature.inputs) if i not in plans]
    if missing:
        raise invalid(f"missing input {', '.join(map(repr, missing))}")
    ordered = tuple(plans[i] for i in range(len(plans)))
    return ordered, _rows(signature, ordered), offset


def _read_input(signature: ModelSignature, tensor: TensorSignature, item: dict[str, Any], offset: int) -> InputPlan:
    where = f"input {tensor.name!r}"
    datatype = datatype_of(item.get("datatype"), where)
    if datatype is not tensor.datatype:
        raise invalid(f"{where}: the model takes {tensor.datatype.name}, got {datatype.name}")
    shape = check_shape(item.get("shape"), where)
    check_dims(signature, tensor, shape)
    size = _parameters(item.get("parameters"), f"{where}: parameters").get("binary_data_size")
    if size is None:
        if "data" not in item:
            raise invalid(f"{where}: has neither data nor parameters.binary_data_size")
        return InputPlan(tensor.name, shape, array=from_json(datatype, shape, item["data"], where))
    if "data" in item:
        raise invalid(f"{where}: has both data and parameters.binary_data_size")
    if type(size) is not int or size < 0:
        raise invalid(f"{where}: binary_data_size must be an integer >= 0, got {brief(size)}")
    wanted = element_count(shape) * datatype.width
    if datatype.width and size != wanted:
        raise invalid(f"{where}: shape {list(shape)} of {datatype.name} needs {wanted} bytes, got {size}")
    plain = datatype.width and datatype.name != "BOOL" and size
    return InputPlan(tensor.name, shape, offset, size, dtype=datatype.dtype if plain else None)


def check_dims(signature: ModelSignature, tensor: TensorSignature, shape: Shape) -> None:
    """400 unless `shape` fits the model's: same rank, same fixed dimensions."""
    expected = signature.shape(tensor)
    if len(shape) != len(expected) or any(e not in (-1, n) for e, n in zip(expected, shape, strict=True)):
        raise invalid(f"input {tensor.name!r}: shape must be {expected} (-1: any), got {list(shape)}")


def _rows(signature: ModelSignature, inputs: Sequence[InputPlan]) -> int:
    """Rows of the request (rule 1), which all inputs must share."""
    if not signature.max_batch:
        return 1
    rows = {i.shape[0] for i in inputs}
    if len(rows) != 1:
        raise invalid(f"the inputs have different numbers of rows: {sorted(rows)}")
    (count,) = rows
    if not 1 <= count <= signature.max_batch:
        what = f"a request must have 1 to {signature.max_batch} rows (max_batch_size), got {count}"
        raise RequestError(400, what, REASON_ROWS)
    return count


def _read_outputs(signature: ModelSignature, value: Any, binary: bool) -> tuple[OutputPlan, ...]:
    """The outputs wanted, in the order asked; all of them, in the model's order, if none is named."""
    if value is None or value == []:
        return tuple(_output(signature, i, binary) for i in range(len(signature.outputs)))
    seen: set[int] = set()
    plans = []
    for item in _entries(value, "outputs"):
        index = _lookup(item, signature.output_index, seen, "output")
        parameters = _parameters(item.get("parameters"), f"output {item['name']!r}: parameters")
        if parameters.get("classification"):
            raise invalid(f"output {item['name']!r}: the classification extension is not supported")
        plans.append(_output(signature, index, _flag(parameters, "binary_data", binary)))
    return tuple(plans)


def _output(signature: ModelSignature, index: int, binary: bool) -> OutputPlan:
    tensor = signature.outputs[index]
    if not binary and not tensor.datatype.json_types:
        raise invalid(f"output {tensor.name!r}: {tensor.datatype.name} has no JSON form; ask for it as binary data")
    return OutputPlan(index, binary)


def _read_raw(signature: ModelSignature, body: bytes) -> Inference:
    """The raw form: one row of the only input, all outputs binary."""
    if len(signature.inputs) != 1:
        raise invalid(f"a raw binary request needs a model with one input, this one has {len(signature.inputs)}")
    tensor = signature.inputs[0]
    if tensor.datatype.width == 0:
        body = len(body).to_bytes(4, "little") + body
        dims = [1] * len(tensor.dims)
    else:
        dims = _deduce_dims(tensor, len(body))
    shape = (1, *dims) if signature.max_batch else tuple(dims)
    check_dims(signature, tensor, shape)
    array = from_binary(tensor.datatype, shape, body, f"input {tensor.name!r}")
    plan = Plan(
        id="",
        rows=1,
        priority=signature.default_priority,
        timeout_ns=signature.default_timeout_ns,
        inputs=(InputPlan(tensor.name, shape, array=array),),
        binary_bytes=len(body),
        outputs=tuple(OutputPlan(i, True) for i in range(len(signature.outputs))),
    )
    return Inference(plan, "", {tensor.name: array})


def _deduce_dims(tensor: TensorSignature, size: int) -> list[int]:
    """Dimensions of a raw input of `size` bytes: the one variable one, if any, takes what is left."""
    variable = [i for i, n in enumerate(tensor.dims) if n < 0]
    if len(variable) > 1:
        raise invalid(f"input {tensor.name!r}: a raw binary request allows one variable dimension, {tensor.dims}")
    dims = list(tensor.dims)
    fixed = element_count([n for n in dims if n >= 0]) * tensor.datatype.width
    if variable:
        dims[variable[0]] = size // fixed if fixed else 0
    if element_count(dims) * tensor.datatype.width != size:
        raise invalid(f"input {tensor.name!r}: {size} bytes do not fill a shape of {list(tensor.dims)}")
    return dims
