"""An engine without processes for the front's own tests: it answers at once, or when the test says so.

The real engine is judged in `tests/serve/test_http_live.py`; here the order of events is the test's.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np

from serve.batching import Batching
from serve.deployment import Model, Queue, Replicas
from serve.handle import Started
from serve.policy.codes import NEVER_NS, OUTCOME_OK, REASON_NONE
from serve.profile import Tensor
from serve.scheduler import Scheduler
from serve.served import Answer, LiveRequest, Served, Statistics

Compute = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def served_model(
    name: str = "twice",
    inputs: list[Tensor] | None = None,
    outputs: list[Tensor] | None = None,
    max_batch: int = 8,
    **queue: object,
) -> Served:
    """A model's facts; x (FP32 [-1, 4]) to y (the same) unless told otherwise."""
    config = Model(
        file="model.onnx",
        profile="profile.yaml",
        batching=Batching(max_batch=max(max_batch, 1)),
        queue=Queue(**queue),
        replicas=Replicas(count=1),
    )
    scheduler = Scheduler(config.scheduler_spec(), 1)
    scheduler.up(0)
    return Served(
        name=name,
        versions=["1"],
        platform="onnxruntime_onnx",
        backend="onnx",
        inputs=inputs or [Tensor(name="x", datatype="FP32", shape=[4])],
        outputs=outputs or [Tensor(name="y", datatype="FP32", shape=[4])],
        max_batch=max_batch,
        config=config,
        scheduler=scheduler,
        statistics=Statistics(),
    )


def twice(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """y = 2 x."""
    return {"y": inputs["x"] * 2}


class StubEngine:
    """What the front sees of `serve.engine.Engine`; `hold` keeps requests until `answer` is called."""

    def __init__(self, served: Served, compute: Compute = twice) -> None:
        self.models = {served.name: served}
        self.compute = compute
        self.retry_after_ns = 10_000_000
        self.draining = False
        self.drain_ns = NEVER_NS
        self.hold = False
        self.budget_passed = False
        self.submitted: list[LiveRequest] = []
        self.cancelled: list[LiveRequest] = []
        self.refused: list[tuple[int, int, str]] = []

    @property
    def started(self) -> dict[str, list[Started]]:
        return {name: [Started(pid=1, spawn_s=0, load_s=0, warmup_s=0, memory_mib=64)] for name in self.models}

    @property
    def ready(self) -> bool:
        return not self.draining

    @staticmethod
    def now_ns() -> int:
        return time.monotonic_ns()

    def iteration_ns(self) -> int:
        return time.monotonic_ns()

    def over_budget(self, arrival_ns: int) -> bool:
        return self.budget_passed

    def submit(self, served, inputs, rows, *, priority, timeout_ns, request_id, arrival_ns, reply) -> LiveRequest:
        request = LiveRequest(
            id=len(self.submitted),
            rows=rows,
            priority=priority,
            timeout_ns=timeout_ns,
            payload=request_id,
            inputs=inputs,
            reply=reply,
            arrival_ns=arrival_ns,
        )
        self.submitted.append(request)
        if not self.hold:
            self.answer(request)
        return request

    def answer(
        self, request: LiveRequest, outcome: int = OUTCOME_OK, reason: int = REASON_NONE, error: str = ""
    ) -> None:
        """Answer a request: with the computed outputs, or as `outcome` and `reason` say."""
        outputs = self.compute(request.inputs) if outcome == OUTCOME_OK else {}
        request.reply(Answer(request, outcome, reason, outputs, error))

    def cancel(self, served: Served, request: LiveRequest) -> None:
        self.cancelled.append(request)

    def refuse(self, served, *, reason, arrival_ns, reply, outcome, error="", rows=1, request_id=None) -> None:
        self.refused.append((outcome, reason, error))
        reply(Answer(None, outcome, reason, error=error))
