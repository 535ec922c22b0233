"""Tiny ONNX models for tests, made with onnx.helper: each answers what can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> Path:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _value(name: str, dims: Dims, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(dims))


def affine(path: Path, width: int = 4, batch: int | str = "n") -> Path:
    """y = 2 x + 1 over FP32 rows of `width`; `batch` is the first axis, dynamic by default."""
    two = numpy_helper.from_array(np.array([2], np.float32), "two")
    one = numpy_helper.from_array(np.array([1], np.float32), "one")
    nodes = [helper.make_node("Mul", ["x", "two"], ["t"]), helper.make_node("Add", ["t", "one"], ["y"])]
    return _save(path, nodes, [_value("x", [batch, width])], [_value("y", [batch, width])], [two, one])


def two_in_two_out(path: Path) -> Path:
    """Inputs a: FP32 [n, 3], k: INT64 [n, 2]; outputs doubled = a + a and total: INT64 [n, 1] = the sum of k's row."""
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [helper.make_node("Add", ["a", "a"], ["doubled"]), helper.make_node("ReduceSum", ["k", "axes"], ["total"])]
    inputs = [_value("a", ["n", 3]), _value("k", ["n", 2], TensorProto.INT64)]
    outputs = [_value("doubled", ["n", 3]), _value("total", ["n", 1], TensorProto.INT64)]
    return _save(path, nodes, inputs, outputs, [axes])


def mlp(path: Path, width: int = 64, hidden: int = 256, outputs: int = 10, layers: int = 2, seed: int = 0) -> Path:
    """A multilayer perceptron whose every answer depends on every element of its row."""
    random = np.random.default_rng(np.random.SeedSequence(seed))
    sizes = [width, *[hidden] * layers, outputs]
    nodes, constants, at = [], [], "x"
    for i, (m, n) in enumerate(pairwise(sizes)):
        weight = random.standard_normal((m, n)).astype(np.float32) / np.float32(np.sqrt(m))
        constants.append(numpy_helper.from_array(weight, f"w{i}"))
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [at, f"w{i}"], ["y" if last else f"m{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"]))
        at = f"r{i}"
    return _save(path, nodes, [_value("x", ["n", width])], [_value("y", ["n", outputs])], constants)


def any_width(path: Path) -> Path:
    """y = x + x over FP32 rows of any width: requests of unlike widths cannot be stacked."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return _save(path, nodes, [_value("x", ["n", "w"])], [_value("y", ["n", "w"])])


def text(path: Path) -> Path:
    """y = x over BYTES rows of 2."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    kind = TensorProto.STRING
    return _save(path, nodes, [_value("x", ["n", 2], kind)], [_value("y", ["n", 2], kind)])


def gather(path: Path) -> Path:
    """y[n] = (10, 20, 30)[x[n]]: INT64 rows beyond 2 make the model fail."""
    table = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    return _save(path, nodes, [_value("x", ["n", 1], TensorProto.INT64)], [_value("y", ["n", 1])], [table])


def batch_lost(path: Path) -> Path:
    """Answers [2 n, 2] to [n, 4]: a dynamic first axis that is not the batch, which only a run can tell."""
    shape = numpy_helper.from_array(np.array([-1, 2], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return _save(path, nodes, [_value("x", ["n", 4])], [_value("y", ["m", 2])], [shape])


def mixing(path: Path, width: int = 3) -> Path:
    """y = x less its mean over the batch: what is answered to a row depends on the others."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return _save(path, nodes, [_value("x", ["n", width])], [_value("y", ["n", width])])


def two_names(path: Path) -> Path:
    """y = a + b, whose inputs call their first axes n and m."""
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    return _save(path, nodes, [_value("a", ["n", 2]), _value("b", ["m", 2])], [_value("y", ["n", 2])])


def sequence_out(path: Path) -> Path:
    """Answers a sequence of tensors, which no protocol of ours can carry."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 2]))
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["y"])]
    return _save(path, nodes, [_value("x", ["n", 2])], [helper.make_value_info("y", kind)])


def rows_of_width_below_4(path: Path) -> Path:
    """y[n, 1] = (x summed over a row of any width w) / w for w < 4; wider rows make the model fail."""
    # Gather from a table of 4 by the width fails beyond its end.
    table = numpy_helper.from_array(np.array([1, 1, 2, 3], np.float32), "table")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("Shape", ["x"], ["width"], start=1, end=2),
        helper.make_node("Gather", ["table", "width"], ["divisor"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"]),
        helper.make_node("Div", ["sum", "divisor"], ["y"]),
    ]
    return _save(path, nodes, [_value("x", ["n", "w"])], [_value("y", ["n", 1])], [table, axes])


def batch_lost_for_wide_rows(path: Path) -> Path:
    """y[n w, 1] = x[n, w] flattened: its first axis is the batch only where w is 1, as it is at the warm-up."""
    shape = numpy_helper.from_array(np.array([-1, 1], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return _save(path, nodes, [_value("x", ["n", "w"])], [_value("y", ["m", 1])], [shape])
