"""The request row: one record per attempt, the same from the live engine and from both simulators.

A set of rows is an int64 array of shape (n, ROW_WIDTH) whose columns are the constants below;
instants are ns, -1 where the thing never happened; `answered_ns` of a request that gets no answer
(cancelled) is when it was dropped. What is computed from live rows is in `sim.measured`.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from serve.policy import codes

Rows = npt.NDArray[np.int64]

REQUEST = 0
ATTEMPT = 1
CAUSE = 2
DEATHS = 3
CLASS = 4
ROWS = 5
PRIORITY = 6
NODE = 7
QUEUE = 8
REPLICA = 9
BATCH = 10
REASON = 11
OUTCOME = 12
ARRIVAL_NS = 13
ENQUEUE_NS = 14
DISPATCH_NS = 15
START_NS = 16
DONE_NS = 17
ANSWERED_NS = 18
ROW_WIDTH = 19

COLUMNS = (
    "request",
    "attempt",
    "cause",
    "deaths",
    "class",
    "rows",
    "priority",
    "node",
    "queue",
    "replica",
    "batch",
    "reason",
    "outcome",
    "arrival_ns",
    "enqueue_ns",
    "dispatch_ns",
    "start_ns",
    "done_ns",
    "answered_ns",
)
"""Names of the columns, in order; what a request log's file has as its header."""

CLIENT_COLUMNS = ("request", "intended_ns", "sent_ns", "received_ns", "status")
"""What the load generator adds, joined by request id."""


class Reason(IntEnum):
    """Why a batch left, or why a request was refused or dropped."""

    NONE = codes.REASON_NONE
    FULL = codes.REASON_FULL
    WINDOW = codes.REASON_WINDOW
    IDLE = codes.REASON_IDLE
    DRAIN = codes.REASON_DRAIN
    QUEUE = codes.REASON_QUEUE
    FRONT = codes.REASON_FRONT
    DRAINING = codes.REASON_DRAINING
    ROWS = codes.REASON_ROWS
    DEADLINE = codes.REASON_DEADLINE
    CLIENT = codes.REASON_CLIENT
    DEATH = codes.REASON_DEATH
    NO_NODE = codes.REASON_NO_NODE
    NODE = codes.REASON_NODE
    PARTITION = codes.REASON_PARTITION


class Outcome(IntEnum):
    """What became of an attempt."""

    PENDING = codes.OUTCOME_PENDING
    OK = codes.OUTCOME_OK
    INVALID = codes.OUTCOME_INVALID
    FULL = codes.OUTCOME_FULL
    DRAINING = codes.OUTCOME_DRAINING
    EXPIRED = codes.OUTCOME_EXPIRED
    CANCELLED = codes.OUTCOME_CANCELLED
    LOST = codes.OUTCOME_LOST
    FAILED = codes.OUTCOME_FAILED


def empty_rows(count: int) -> Rows:
    """`count` rows with every field -1 (nothing happened yet), attempt, cause and deaths 0."""
    rows = np.full((count, ROW_WIDTH), -1, dtype=np.int64)
    rows[:, [ATTEMPT, CAUSE, DEATHS, CLASS, NODE, QUEUE, PRIORITY, REASON]] = 0
    return rows
