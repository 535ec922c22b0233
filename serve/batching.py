"""How a deployment says whose batching rules it runs under, and with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from serve.policy import codes
from serve.policy.engines.triton import PREFERRED_MAX
from serve.spec import Spec
from serve.units import DurationNs

POLICIES = {
    "forebay": codes.POLICY_FOREBAY,
    "triton": codes.POLICY_TRITON,
    "tf_serving": codes.POLICY_TF_SERVING,
    "torchserve": codes.POLICY_TORCHSERVE,
    "mosec": codes.POLICY_MOSEC,
    "litserve": codes.POLICY_LITSERVE,
    "ray_serve": codes.POLICY_RAY_SERVE,
}

UNCHECKED = {
    "tf_serving": "TensorFlow Serving's batching is restated from its source and was not held against its server",
    "torchserve": "TorchServe's batching is restated from its source and was not held against its server",
}
"""Policies that no measurement of the real engine stands behind, and what a result says of that."""

NOT_SERVED = {"ray_serve": "the live engine's replicas hold two batches at most"}
"""Policies that only the simulators run, and why."""

SLOTS_UNBOUNDED = 2**30
"""Slots of a replica whose closed batches wait for one another."""

_OWNERS = {"preferred": "triton", "max_enqueued_batches": "tf_serving", "max_ongoing": "ray_serve"}


class Batching(Spec):
    """Rules 2 and 3: how requests are put together."""

    policy: Literal["forebay", "triton", "tf_serving", "torchserve", "mosec", "litserve", "ray_serve"] = Field(
        "forebay", description="whose batching rules"
    )
    max_batch: int = Field(1, ge=1, le=65536, description="most rows in one batch; 1 switches batching off")
    window: DurationNs = Field(
        0,
        ge=0,
        description="longest time that requests are held back for company; from when it counts is the policy's",
        validate_default=False,
    )
    preferred: Annotated[list[int], Field(min_length=1, max_length=PREFERRED_MAX)] | None = Field(
        None, description="triton: sizes that a batch leaves at before its window ends; none: max_batch"
    )
    max_enqueued_batches: int | None = Field(
        None, ge=1, description="tf_serving: batches that may wait, in place of max_queue; none: 10"
    )
    max_ongoing: int | None = Field(
        None, ge=1, description="ray_serve: requests that a replica holds at a time, in rows; none: 5"
    )

    @model_validator(mode="after")
    def _settings(self) -> Batching:
        faults = [
            f"{field}: belongs to policy {owner}, not to {self.policy}"
            for field, owner in _OWNERS.items()
            if getattr(self, field) is not None and self.policy != owner
        ]
        if self.preferred and not all(1 <= size <= self.max_batch for size in self.preferred):
            faults.append(f"preferred: sizes must be from 1 to max_batch ({self.max_batch}), got {self.preferred}")
        if self.policy == "torchserve" and self.max_batch > 1 and self.window < 1_000_000:
            faults.append("window: torchserve's maxBatchDelay is at least 1ms; without it no batch has more than two")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def settings(self) -> tuple[int, ...]:
        """The policy's parameters after `max_batch` and `window`."""
        if self.policy == "triton":
            return triton_settings(self.preferred or [self.max_batch])
        if self.policy == "tf_serving":
            return (self.max_enqueued_batches or 10,)
        if self.policy == "ray_serve":
            return (self.max_ongoing or 5,)
        return ()


def triton_settings(preferred: Sequence[int]) -> tuple[int, ...]:
    """Triton's parameters of these preferred sizes."""
    return (max(preferred), *preferred, *[0] * (PREFERRED_MAX - len(preferred)))
