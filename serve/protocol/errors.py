"""What goes wrong on the wire: the exception of a bad request, and which HTTP status an outcome gets.

It is not about files (`serve.files`) nor about bugs, which are assertions.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass

from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_CLIENT,
    REASON_DEADLINE,
    REASON_DEATH,
    REASON_DRAINING,
    REASON_FRONT,
    REASON_NO_NODE,
    REASON_NODE,
    REASON_NONE,
    REASON_QUEUE,
    REASON_ROWS,
)

STATUS_OF_OUTCOME = {
    OUTCOME_OK: 200,
    OUTCOME_INVALID: 400,
    OUTCOME_FULL: 503,
    OUTCOME_DRAINING: 503,
    OUTCOME_EXPIRED: 504,
    OUTCOME_CANCELLED: 499,
    OUTCOME_LOST: 502,
    OUTCOME_FAILED: 500,
}
"""Rule 1's codes. 499 is never seen by a client that hung up; it is the word for logs and tests."""

_WHY = {
    REASON_QUEUE: "the queue is full; retry later",
    REASON_FRONT: "the server could not read the request in time; retry later",
    REASON_DRAINING: "the server is shutting down",
    REASON_ROWS: "the request has more rows than max_batch_size",
    REASON_DEADLINE: "the request's timeout passed while it waited in the queue",
    REASON_CLIENT: "the client cancelled the request",
    REASON_DEATH: "the replicas that ran the request died",
    REASON_NO_NODE: "no node is ready; retry later",
    REASON_NODE: "the node that had the request went away",
}


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80
_BRIEF.maxlevel = 3


class RequestError(Exception):
    """A request that cannot be served as it is: `status` for the client, `str()` the text, `reason` for the count."""

    def __init__(self, status: int, message: str, reason: int = REASON_NONE) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without outputs: status, text, in how many ns to come back (0: no such advice), whether the server
    shuts down."""

    status: int
    message: str
    retry_after_ns: int = 0
    draining: bool = False


def invalid(message: str) -> RequestError:
    """A 400."""
    return RequestError(400, message)


def refusal(outcome: int, reason: int, retry_after_ns: int, message: str = "") -> Refusal:
    """What a request that ended in `outcome` for `reason` is told; `message`, if any, replaces our text."""
    status = STATUS_OF_OUTCOME[outcome]
    text = message or _WHY.get(reason, "the request failed")
    return Refusal(status, text, retry_after_ns if status == 503 else 0, outcome == OUTCOME_DRAINING)


def brief(value: object) -> str:
    """What was found, short enough for a line however large it is."""
    return _BRIEF.repr(value)


def error_body(message: str) -> bytes:
    """The JSON body of every reply that is not 200."""
    return json.dumps({"error": message}).encode()
