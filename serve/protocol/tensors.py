"""Tensors on the wire: the datatypes of the Open Inference Protocol and their binary and JSON forms.

Both become numpy arrays as `serve.served` wants them (BF16 as bit patterns, BYTES as `bytes` objects)
and back. Binary is little-endian and row-major. Requests are in `serve.protocol.oip`, HTTP elsewhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from serve.datatypes import NUMPY_OF_DATATYPE
from serve.protocol.errors import brief, invalid
from serve.served import Array

Buffer = bytes | bytearray | memoryview

ELEMENTS_MAX = 2**31
"""More elements than any request can carry: keeps the product of a hostile shape small."""
RANK_MAX = 32
"""As many dimensions as any model has."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype: `width` in bytes (0: variable), its numpy dtype, its name in a model configuration.

    `json_types` are the Python types that its JSON elements may have; empty: it has no JSON form.
    """

    name: str
    width: int
    dtype: np.dtype[np.generic]
    config: str
    json_types: frozenset[type]


class NonFinite(float):
    """`NaN` or `Infinity` written as a word, which a number that is too large (1e400) must not pass for."""


_INT = frozenset({int})
_FLOAT = frozenset({int, float, NonFinite})
_JSON_TYPES: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "FP16": frozenset(),
    "BF16": frozenset(),
    "FP32": _FLOAT,
    "FP64": _FLOAT,
    "BYTES": frozenset({str}),
}


def _datatype(name: str) -> Datatype:
    dtype = NUMPY_OF_DATATYPE[name]
    width = 0 if name == "BYTES" else dtype.itemsize
    config = "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"
    return Datatype(name, width, dtype, config, _JSON_TYPES.get(name, _INT))


DATATYPES = {name: _datatype(name) for name in NUMPY_OF_DATATYPE}
"""By name, as the protocol spells them."""


def datatype_of(name: Any, where: str) -> Datatype:
    """The datatype called `name`; 400 if there is none."""
    found = DATATYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise invalid(f"{where}: datatype must be one of {', '.join(DATATYPES)}, got {name!r}")
    return found


def element_count(shape: Sequence[int]) -> int:
    """Number of elements of a shape whose dimensions are all >= 0."""
    return math.prod(shape)


def check_shape(shape: Any, where: str) -> tuple[int, ...]:
    """`shape` as a tuple, if it is a list of integers >= 0 whose product is sane; else 400."""
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise invalid(f"{where}: shape must be a list of integers >= 0, got {brief(shape)}")
    if len(shape) > RANK_MAX:
        raise invalid(f"{where}: shape has {len(shape)} dimensions, more than {RANK_MAX}")
    if max(shape, default=0) > ELEMENTS_MAX or math.prod(max(n, 1) for n in shape) > ELEMENTS_MAX:
        raise invalid(f"{where}: shape {brief(shape)} has more than {ELEMENTS_MAX} elements")
    return tuple(shape)


def from_binary(datatype: Datatype, shape: Sequence[int], data: Buffer, where: str) -> Array:
    """The array whose binary form is exactly `data`, read-only and sharing its memory; else 400."""
    if datatype.width == 0:
        return _objects(split_strings(data, where), shape, where)
    count = element_count(shape)
    if len(data) != count * datatype.width:
        raise invalid(
            f"{where}: shape {list(shape)} of {datatype.name} needs {count * datatype.width} bytes, got {len(data)}"
        )
    if datatype.name == "BOOL" and count and int(np.frombuffer(data, np.uint8).max()) > 1:
        raise invalid(f"{where}: BOOL elements must be bytes 0 or 1")
    return np.frombuffer(data, datatype.dtype).reshape(shape)


def to_binary(datatype: Datatype, array: Array) -> Buffer:
    """The binary form of `array`, sharing its memory where it can."""
    if datatype.width == 0:
        return join_strings(array.ravel().tolist())
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""


def _objects(strings: list[Any], shape: Sequence[int], where: str) -> Array:
    if len(strings) != element_count(shape):
        raise invalid(f"{where}: shape {list(shape)} needs {element_count(shape)} BYTES elements, got {len(strings)}")
    array = np.empty(len(strings), dtype=np.object_)
    array[:] = strings
    return array.reshape(shape)


def split_strings(data: Buffer, where: str) -> list[bytes]:
    """The elements of a BYTES tensor in binary form: each a little-endian uint32 length and its bytes."""
    view = memoryview(data)
    strings: list[bytes] = []
    offset, end = 0, len(view)
    while offset < end:
        if end - offset < 4:
            raise invalid(f"{where}: BYTES element {len(strings)} has only {end - offset} of the 4 bytes of its length")
        (length,) = struct.unpack_from("<I", view, offset)
        offset += 4
        if length > end - offset:
            raise invalid(
                f"{where}: BYTES element {len(strings)} claims {length} bytes, but only {end - offset} follow"
            )
        strings.append(bytes(view[offset : offset + length]))
        offset += length
    return strings


def join_strings(strings: Sequence[bytes]) -> bytes:
    """Inverse of `split_strings`."""
    return b"".join(chain.from_iterable((struct.pack("<I", len(s)), s) for s in strings))


def from_json(datatype: Datatype, shape: Sequence[int], data: Any, where: str) -> Array:
    """The array of the JSON elements `data`, flat or nested as `shape` says, row-major; else 400."""
    if not datatype.json_types:
        raise invalid(f"{where}: {datatype.name} has no JSON form; send it as binary data")
    flat = _flatten(data, shape, where)
    found = set(map(type, flat))
    if datatype.name == "BOOL" and found <= {bool, int} and all(v in (0, 1) for v in flat):
        return np.array(flat, dtype=np.bool_).reshape(shape)
    if not found <= datatype.json_types:
        wrong = next(v for v in flat if type(v) not in datatype.json_types)
        raise invalid(f"{where}: {brief(wrong)} is not a {datatype.name}")
    if datatype.width == 0:
        return _objects([_utf8(text, where) for text in flat], shape, where)
    return _numbers(datatype, flat, where).reshape(shape)


def to_json(datatype: Datatype, array: Array, where: str) -> list[Any]:
    """The flat JSON elements of `array`; 400 if the datatype, a string or a number has no JSON form."""
    if not datatype.json_types:
        raise invalid(f"{where}: {datatype.name} has no JSON form; ask for it as binary data")
    elements: list[Any] = array.ravel().tolist()
    if datatype.json_types is _FLOAT and not np.isfinite(array).all():
        raise invalid(f"{where}: an element is NaN or infinite, which JSON cannot say; ask for it as binary data")
    if datatype.width:
        return elements
    try:
        return [s.decode() for s in elements]
    except UnicodeDecodeError as error:
        raise invalid(f"{where}: an element is not UTF-8; ask for it as binary data") from error


def _flatten(data: Any, shape: Sequence[int], where: str) -> list[Any]:
    """Elements of `data`, which is flat, or nested exactly as `shape` says."""
    if not isinstance(data, list):
        raise invalid(f"{where}: data must be an array, got {brief(data)}")
    flat: list[Any] = data
    depth = 1
    while flat and isinstance(flat[0], list):
        if depth >= len(shape) or len(flat) != element_count(shape[:depth]):
            raise invalid(f"{where}: data is not nested as shape {list(shape)} says")
        if not all(isinstance(item, list) and len(item) == shape[depth] for item in flat):
            raise invalid(f"{where}: data is not nested as shape {list(shape)} says")
        flat = list(chain.from_iterable(flat))
        depth += 1
    count = element_count(shape)
    if not flat and count == 0:
        return flat
    if len(flat) != count or depth not in (1, len(shape)):
        raise invalid(f"{where}: shape {list(shape)} needs {count} elements, got {len(flat)}")
    return flat


def _numbers(datatype: Datatype, flat: list[Any], where: str) -> Array:
    try:
        if datatype.json_types is _INT:
            return np.array(flat, dtype=datatype.dtype)
        numbers = np.array(flat, dtype=np.float64)
        if any(type(flat[i]) is not NonFinite for i in np.flatnonzero(~np.isfinite(numbers))):
            raise OverflowError
        with np.errstate(over="raise"):
            return numbers.astype(datatype.dtype)
    except (OverflowError, FloatingPointError) as error:
        raise invalid(f"{where}: an element is out of the range of {datatype.name}") from error


def _utf8(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{where}: an element holds a lone surrogate, which is not UTF-8") from error
