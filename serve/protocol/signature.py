"""What the protocol needs to know of one served model: names, datatypes, shapes and limits.

Built once per model from the engine's own facts; the rest of `serve.protocol` reads only this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serve.policy.codes import NEVER_NS
from serve.profile import Tensor
from serve.protocol.tensors import DATATYPES, Datatype
from serve.served import Served


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """One input or output: `dims` without the batch axis, -1 where a dimension varies."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """One model as clients see it.

    `max_batch` 0: the batch is fixed, shapes are whole and a request is one row; else every tensor
    has its rows along the first axis. Priorities and timeouts are the inside ones of rule 1:
    0 is the highest, ns, NEVER_NS for none.
    """

    name: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    max_batch: int
    version: str = "1"
    priority_levels: int = 1
    default_priority: int = 0
    default_timeout_ns: int = NEVER_NS
    input_index: dict[str, int] = field(init=False)
    output_index: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_index", {t.name: i for i, t in enumerate(self.inputs)})
        object.__setattr__(self, "output_index", {t.name: i for i, t in enumerate(self.outputs)})

    @classmethod
    def of(cls, served: Served) -> ModelSignature:
        """The signature of a model of the engine."""
        queue = served.config.queue
        return cls(
            name=served.name,
            inputs=_tensors(served.inputs),
            outputs=_tensors(served.outputs),
            max_batch=served.max_batch,
            version=served.versions[-1],
            priority_levels=queue.priority_levels,
            default_priority=queue.default_priority,
            default_timeout_ns=served.timeout_ns,
        )

    def shape(self, tensor: TensorSignature) -> list[int]:
        """The tensor's shape as metadata shows it: the batch dimension, where there is one, as -1."""
        return [-1, *tensor.dims] if self.max_batch else list(tensor.dims)


def _tensors(tensors: Sequence[Tensor]) -> tuple[TensorSignature, ...]:
    return tuple(TensorSignature(t.name, DATATYPES[t.datatype], tuple(t.shape)) for t in tensors)
