"""What a front sees of a served model: its facts, its counters, and the answer to a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from serve.datatypes import NUMPY_OF_DATATYPE
from serve.deployment import Model
from serve.policy.codes import NEVER_NS, OUTCOME_COUNT, REASON_COUNT, REASON_NONE
from serve.profile import Tensor
from serve.scheduler import Request, Scheduler

if TYPE_CHECKING:
    from serve.scaling import Scaling

__all__ = [
    "NUMPY_OF_DATATYPE",
    "Answer",
    "Array",
    "Arrays",
    "BatchStatistics",
    "LiveRequest",
    "Reply",
    "Served",
    "Statistics",
]

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]


@dataclass(slots=True)
class Answer:
    """What became of a request; handed to its `reply` exactly once.

    `outputs` (outcome ok only) has one array a model output, the request's rows along the first
    axis. They are views of memory shared with the replica, valid only until `reply` returns: copy
    what you keep.
    """

    request: Request | None
    outcome: int
    reason: int = REASON_NONE
    outputs: Arrays = field(default_factory=dict)
    error: str = ""


Reply = Callable[[Answer], None]


@dataclass(slots=True, eq=False)
class LiveRequest(Request):
    """A request of the live engine: the scheduler's part, and what the engine needs to run and answer it.

    `payload` is the front's own to use.
    """

    inputs: Arrays = field(default_factory=dict)
    reply: Reply | None = None
    arrival_ns: int = -1


@dataclass(slots=True)
class BatchStatistics:
    """Batches of one number of rows: how many, and the ns spent in them."""

    count: int = 0
    input_ns: int = 0  # dispatch to begin in the replica
    infer_ns: int = 0  # begin to end in the replica
    output_ns: int = 0  # end to finished in the front


@dataclass(slots=True)
class Statistics:
    """Cumulative counters of one model since it was loaded. Histograms: bin k counts 2**(k-1) <= ns < 2**k."""

    requests: int = 0  # answered ok
    rows: int = 0  # rows answered ok
    batches: int = 0
    success_ns: int = 0  # arrival to answered, summed over ok
    queue_ns: int = 0  # enqueue to dispatch (the vocabulary's queue_delay), summed over ok
    input_ns: int = 0  # the parts of BatchStatistics, summed over ok requests
    infer_ns: int = 0
    output_ns: int = 0
    fail_ns: int = 0  # arrival to answered, summed over not ok
    busy_ns: int = 0  # start to end, summed over batches
    last_ns: int = -1  # instant of the last ok answer, CLOCK_MONOTONIC
    deaths: int = 0  # of replicas
    outcomes: list[int] = field(default_factory=lambda: [0] * OUTCOME_COUNT)
    drop_reasons: list[int] = field(default_factory=lambda: [0] * REASON_COUNT)
    dispatch_reasons: list[int] = field(default_factory=lambda: [0] * REASON_COUNT)
    latency_log2: list[int] = field(default_factory=lambda: [0] * 64)
    queue_log2: list[int] = field(default_factory=lambda: [0] * 64)
    service_log2: list[int] = field(default_factory=lambda: [0] * 64)
    by_rows: dict[int, BatchStatistics] = field(default_factory=dict)


@dataclass(slots=True)
class Served:
    """One model that is served: facts for metadata, config and validation, and its live state.

    `inputs` and `outputs` have shapes without the batch axis, -1 where a size varies; if
    `max_batch` is 0 the model's batch is fixed: the shapes are whole and a request counts as one row.
    """

    name: str
    versions: list[str]
    platform: str  # "onnxruntime_onnx", "emulated"
    backend: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    max_batch: int
    config: Model
    scheduler: Scheduler
    statistics: Statistics
    scaling: Scaling | None = None  # what sets the number of its replicas
    device: str = "cpu"

    @property
    def ready(self) -> bool:
        """Whether some replica can take a batch."""
        return any(r.up and not r.draining for r in self.scheduler.replicas)

    @property
    def timeout_ns(self) -> int:
        """Timeout of a request that names none; NEVER_NS: none."""
        return self.config.timeout_ns if self.config.queue.default_timeout is not None else NEVER_NS
