"""Whether a model answers each row by itself: what batching takes for granted.

A model may accept any number of rows and yet mix them (a mean over the first axis, batch normalisation left in
training mode). Stacked with strangers' requests, its answers would be wrong without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serve.backends.contract import Array
from serve.datatypes import NUMPY_OF_DATATYPE
from serve.profile import Tensor

ROWS = 2
MIXING_MIN = 0.1
"""Share of an output's largest value by which rows differ, together and alone, if they are mixed; rounding stays far
below it, and so does quantisation whose scale is taken over the whole batch."""


def mixed_output(
    run: Callable[[Mapping[str, Array]], list[Array]], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> str | None:
    """Name of an output whose rows depend on each other; None if there is none, or if it cannot be told.

    `run` answers feeds with a first axis of rows; shapes are without it. It cannot be told of outputs that are no
    floating point numbers, nor of a model that fails on made-up inputs.
    """
    feeds = {tensor.name: distinct_rows(tensor) for tensor in inputs}
    try:
        together = run(feeds)
        alone = [run({name: rows[i : i + 1] for name, rows in feeds.items()}) for i in range(ROWS)]
    except Exception:  # as in `Onnx.warm_up`: the library's errors have no common base
        return None
    for index, tensor in enumerate(outputs):
        if differ(together[index], [answers[index] for answers in alone]):
            return tensor.name
    return None


def distinct_rows(tensor: Tensor) -> Array:
    """ROWS rows that differ; sizes that vary are 1, integers 0 and 1, which most models can take for an index."""
    shape = [ROWS, *(max(1, size) for size in tensor.shape)]
    dtype = NUMPY_OF_DATATYPE[tensor.datatype]
    if dtype.kind == "f":
        return np.random.Generator(np.random.PCG64(0)).standard_normal(shape).astype(dtype)
    numbers = np.broadcast_to(np.arange(ROWS).reshape(-1, *([1] * len(tensor.shape))), shape)
    if dtype.hasobject:
        return np.where(numbers == 0, b"0", b"1").astype(object)
    return np.ascontiguousarray(numbers, dtype)


def differ(together: Array, alone: Sequence[Array]) -> bool:
    """Whether rows answered together are others than the same rows answered alone."""
    if together.dtype.kind != "f" or any(one.shape[1:] != together.shape[1:] for one in alone):
        return False
    apart = np.concatenate(alone)
    if apart.shape != together.shape or not np.isfinite(apart).all():
        return False
    largest = float(np.abs(apart).max(initial=0.0))
    return not np.allclose(together, apart, rtol=0.0, atol=MIXING_MIN * largest)
