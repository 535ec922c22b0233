"""The answer to an inference, from arrays to the bytes of a whole HTTP response.

The arrays are copied exactly once, into the response: the engine takes its memory back at once. The
JSON of an answer depends only on what was asked and on the outputs' sizes, so it is kept beside the
plan and written anew only for JSON outputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serve.protocol.errors import Refusal, error_body
from serve.protocol.oip import Plan
from serve.protocol.signature import ModelSignature
from serve.protocol.tensors import Buffer, to_binary, to_json
from serve.served import Arrays

HEADS_KEPT = 32
"""Answers of different sizes whose JSON is kept with one plan."""

JSON_TYPE = b"Content-Type: application/json\r\n"
_STATUS_TEXT = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_STATUS_LINES = {code: f"HTTP/1.1 {code} {text}\r\n".encode() for code, text in _STATUS_TEXT.items()}
DRAINING = b"Forebay-Draining"
"""Field of a refusal by a server that shuts down: another one may be asked."""


def inference(signature: ModelSignature, plan: Plan, request_id: str, outputs: Arrays) -> tuple[bytes, list[Buffer]]:
    """Header fields and body, in parts, of a 200; the parts share the memory of `outputs`.

    Raises
    ------
    RequestError : 400 if an output asked for as JSON has no JSON form: BYTES that are not UTF-8, NaN, infinity.
    """
    blobs: list[Buffer] = []
    for wanted in plan.outputs:
        if wanted.binary:
            tensor = signature.outputs[wanted.index]
            blobs.append(to_binary(tensor.datatype, outputs[tensor.name]))
    before, after = _json(signature, plan, outputs, blobs)
    middle = _id(request_id) if request_id else b""
    if not blobs:
        return JSON_TYPE, [before, middle, after]
    length = len(before) + len(middle) + len(after)
    fields = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n" % length
    return fields, [before, middle, after, *blobs]


def _id(request_id: str) -> bytes:
    """The id's member of the answer; letters and digits need no escapes, and are what most ids are made of."""
    if request_id.isascii() and request_id.isalnum():
        return b'"id":"%s",' % request_id.encode()
    return f'"id":{json.dumps(request_id)},'.encode()


def _json(signature: ModelSignature, plan: Plan, outputs: Arrays, blobs: list[Buffer]) -> tuple[bytes, bytes]:
    """The answer's JSON, in two parts between which the id goes."""
    if len(blobs) < len(plan.outputs):
        return _write_json(signature, plan, outputs, blobs)
    key = tuple(outputs[signature.outputs[w.index].name].shape for w in plan.outputs)
    sizes = tuple(map(len, blobs))
    found: tuple[bytes, bytes] | None = plan.heads.get((key, sizes))
    if found is None:
        found = _write_json(signature, plan, outputs, blobs)
        if len(plan.heads) < HEADS_KEPT:
            plan.heads[key, sizes] = found
    return found


def _write_json(signature: ModelSignature, plan: Plan, outputs: Arrays, blobs: list[Buffer]) -> tuple[bytes, bytes]:
    entries: list[dict[str, Any]] = []
    sizes = iter(map(len, blobs))
    for wanted in plan.outputs:
        tensor = signature.outputs[wanted.index]
        array = outputs[tensor.name]
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype.name, "shape": list(array.shape)}
        if wanted.binary:
            entry["parameters"] = {"binary_data_size": next(sizes)}
        else:
            entry["data"] = to_json(tensor.datatype, array, f"output {tensor.name!r}")
        entries.append(entry)
    before = _compact({"model_name": signature.name, "model_version": signature.version})
    return before[:-1] + b",", _compact({"outputs": entries})[1:]


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def response(
    status: int, fields: bytes, body: Sequence[Buffer], *, keep_alive: bool = True, head_only: bool = False
) -> bytes:
    """A whole HTTP/1.1 response; `fields` are header lines, each with its line end, `body` its parts in order."""
    return b"".join(
        (
            _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status,
            fields,
            b"Content-Length: %d\r\n" % sum(map(len, body)),
            b"\r\n" if keep_alive else b"Connection: close\r\n\r\n",
            *(() if head_only else body),
        )
    )


def refused(what: Refusal) -> tuple[bytes, list[Buffer]]:
    """Header fields and body of an answer that is not 200.

    Retry-After is in whole seconds, as HTTP wants it, to the nearest; Retry-After-Ms is what we mean.
    """
    fields = JSON_TYPE
    if what.retry_after_ns:
        fields += b"Retry-After: %d\r\n" % round(what.retry_after_ns / 1e9)
        fields += b"Retry-After-Ms: %d\r\n" % -(-what.retry_after_ns // 1_000_000)
    if what.draining:
        fields += DRAINING + b": 1\r\n"
    return fields, [error_body(what.message)]
