"""The tour's model: an echo state network that reads handwritten digits, trained here in seconds.

A fixed random recurrent layer reads each 8x8 image in 32 orders (four paths in the eight symmetries of
the square), a pixel a step; only the linear read-out is trained, on scikit-learn's digits (real scans,
shipped in its wheel). One row takes about 2 ms and sixteen about 4, so batching pays: its steps are
many and small, and most of a step is the same for one row and for many. Weights and graph stay in a core's
nearest caches, so its speed depends little on who else uses the machine.

Source: H. Jaeger, "The 'echo state' approach to analysing and training recurrent neural networks",
GMD report 148, 2001. Data: UCI Optical Recognition of Handwritten Digits, via scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Floats = npt.NDArray[np.float32]

HIDDEN = 64
SIDE = 8
SEED = 11
RADIUS = 1.0
INPUT_SCALE = 1.0


@dataclass(frozen=True, slots=True)
class Reservoir:
    """The fixed part: h' = tanh(u @ inputs + h @ recurrent + bias)."""

    inputs: Floats  # (1, HIDDEN)
    recurrent: Floats  # (HIDDEN, HIDDEN)
    bias: Floats  # (HIDDEN,)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained classifier and how it did on digits it had not seen."""

    reservoir: Reservoir
    weights: Floats  # (orders * HIDDEN, 10)
    intercept: Floats  # (10,)
    accuracy: float


def paths() -> list[npt.NDArray[np.int64]]:
    """Four ways through the pixels, each of shape (64,): line by line, to and fro, along diagonals, spiralling in."""
    grid = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    rows, columns = np.indices(grid.shape)
    to_and_fro = np.where(rows % 2, grid[:, ::-1], grid)
    diagonals = np.lexsort((rows.reshape(-1), (rows + columns).reshape(-1)))
    spiral, rest = np.zeros(0, np.int64), grid
    while rest.size:
        spiral, rest = np.append(spiral, rest[0]), np.rot90(rest[1:])
    return [grid.reshape(-1), to_and_fro.reshape(-1), diagonals, spiral]


def scan_orders() -> npt.NDArray[np.int64]:
    """The orders in which the pixels are read, shape (32, 64): each path through the square, turned and mirrored."""
    grid = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    turned = [np.rot90(grid, k) for k in range(4)]
    return np.array([view.reshape(-1)[path] for path in paths() for turn in turned for view in (turn, turn.T)])


def make_reservoir(seed: int = SEED) -> Reservoir:
    """Draw the fixed recurrent layer; RADIUS is the spectral radius that a large such matrix has."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    scale = RADIUS / np.sqrt(HIDDEN)
    return Reservoir(
        inputs=rng.uniform(-INPUT_SCALE, INPUT_SCALE, (1, HIDDEN)).astype(np.float32),
        recurrent=(rng.standard_normal((HIDDEN, HIDDEN)) * scale).astype(np.float32),
        bias=rng.uniform(-0.2, 0.2, HIDDEN).astype(np.float32),
    )


def features(images: Floats, reservoir: Reservoir) -> Floats:
    """State after each reading, shape (n, orders * HIDDEN), of images of shape (n, 64) in [0, 1]."""
    state = np.zeros((len(images), HIDDEN), np.float32)
    after = []
    for order in scan_orders():
        for pixel in order:
            state = np.tanh(images[:, [pixel]] @ reservoir.inputs + state @ reservoir.recurrent + reservoir.bias)
        after.append(state)
    return np.hstack(after)


def train(seed: int = SEED) -> Trained:
    """Fit the read-out on 70 % of the digits and score it on the rest."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    reservoir = make_reservoir(seed)
    known, unseen, known_labels, unseen_labels = train_test_split(
        features((images / 16).astype(np.float32), reservoir), labels, test_size=0.3, random_state=seed, stratify=labels
    )
    fitted = RidgeClassifier(alpha=1.0).fit(known, known_labels)
    return Trained(
        reservoir=reservoir,
        weights=fitted.coef_.T.astype(np.float32),
        intercept=fitted.intercept_.astype(np.float32),
        accuracy=float(fitted.score(unseen, unseen_labels)),
    )


def export_onnx(trained: Trained, path: Path) -> None:
    """Write the classifier as ONNX: input `pixels` (rows, 64) in [0, 1], output `scores` (rows, 10)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        _nodes(trained.reservoir),
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", SIDE * SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 10])],
        [numpy_helper.from_array(value, name) for name, value in _constants(trained).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _constants(trained: Trained) -> dict[str, npt.NDArray[np.generic]]:
    constants: dict[str, npt.NDArray[np.generic]] = {
        "rest": np.zeros((SIDE * SIDE, HIDDEN), np.float32),
        "last": np.array([2], np.int64),
        "weights": trained.weights,
        "intercept": trained.intercept,
    }
    return constants | {f"order{k}": order for k, order in enumerate(scan_orders())}


def _nodes(reservoir: Reservoir) -> list[NodeProto]:
    """A Scan for each order: its body is one step, repeated over the pixels.

    Unrolled, the graph would have 6,000 nodes, and the runtime's walk over them would miss the caches whenever a
    replica had waited: a batch after 8 ms of idleness took twice as long.
    """
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["pixels", "rest"], ["start"]),  # zeros, a row an image
        helper.make_node("Transpose", ["pixels"], ["columns"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["columns", "last"], ["readings"]),  # (pixels, rows, 1)
    ]
    orders = range(len(scan_orders()))
    step = _step(reservoir)
    for k in orders:
        nodes.append(helper.make_node("Gather", ["readings", f"order{k}"], [f"view{k}"], axis=0))
        inputs, outputs = ["start", f"view{k}"], [f"state{k}"]
        nodes.append(helper.make_node("Scan", inputs, outputs, body=step, num_scan_inputs=1, name=f"scan{k}"))
    nodes.append(helper.make_node("Concat", [f"state{k}" for k in orders], ["features"], axis=1))
    nodes.append(helper.make_node("Gemm", ["features", "weights", "intercept"], ["scores"]))
    return nodes


def _step(reservoir: Reservoir) -> GraphProto:
    """The body of a Scan: the state after one more pixel."""
    from onnx import TensorProto, helper, numpy_helper

    state, reading, after = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name, width in (("state", HIDDEN), ("reading", 1), ("after", HIDDEN))
    )
    return helper.make_graph(
        [
            helper.make_node("Gemm", ["reading", "inputs", "bias"], ["drive"]),
            helper.make_node("Gemm", ["state", "recurrent", "drive"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["after"]),
        ],
        "step",
        [state, reading],
        [after],
        [numpy_helper.from_array(getattr(reservoir, name), name) for name in ("inputs", "recurrent", "bias")],
    )
