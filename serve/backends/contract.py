"""The contract of a backend: what it is given, what it says of its model, what it does with a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from serve.channel import RunHead
from serve.errors import EngineError
from serve.profile import Tensor
from serve.spec import Spec

Array = npt.NDArray[np.generic]


class LoadError(EngineError):
    """The model cannot be served as asked; the text says what was found and what would do."""


DEFAULT_SEED = 0
"""Of what a backend draws; no deployment says otherwise."""


class Settings(Spec):
    """What one replica is told to load."""

    backend: str
    file: str | None
    profile: str
    threads: int
    max_batch: int
    cores: list[int] = []  # that the replica may run on; none: any
    batch_axis: Literal["auto", "first", "none"] = "auto"
    profile_sha256: str | None = None
    seed: int = DEFAULT_SEED


class Facts(Spec):
    """What a loaded model is: shapes without the batch axis, or whole if `max_batch` is 0 (fixed batch)."""

    platform: str
    device: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    max_batch: int
    notes: list[str] = []


class Backend(Protocol):
    """A loaded model. Calls come one after the other from one thread."""

    facts: Facts

    def run(self, feeds: Mapping[str, Array], head: RunHead) -> list[Array]:
        """The outputs, in the order of `facts.outputs`, of inputs that are views of shared memory.

        BF16 tensors are uint16 bit patterns, BYTES tensors object arrays of `bytes`.
        """

    def settle(self, head: RunHead) -> None:
        """Called when the outputs are in place, just before the batch counts as ended."""

    def warm_up(self, rows: int) -> None:
        """Run once at `rows` rows so that no request pays for first-time work. Raises LoadError."""


def check_fixed_batch(name: str, found: str, max_batch: int) -> None:
    """Refuse batching on a model that cannot be batched."""
    if max_batch > 1:
        raise LoadError(
            f"{name}: {found}, so requests cannot be stacked into batches of {max_batch}; set batching.max_batch: 1, "
            f"or export the model with a dynamic first axis on every input and output"
        )
