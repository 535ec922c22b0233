"""A live engine for the protocol's tests: tiny ONNX models served by real processes on a free port."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from serve.launch import Live, launch

WIDTH = 64


Builder = Callable[[Path], Path]
Settings = Mapping[str, Any]


def write_deployment(
    folder: Path, models: Mapping[str, Builder], own: Mapping[str, Settings] | None = None, **settings: Settings
) -> Path:
    """A deployment of `models` (name to builder) in `folder`: `settings` for every model, `own` for each by name."""
    entries = {}
    for name, build in models.items():
        build(folder / f"{name}.onnx")
        entries[name] = {
            "file": f"{name}.onnx",
            "profile": "not-needed.yaml",
            "batching": {"max_batch": 8, "window": "2ms"},
            "queue": {"max_queue": 4096, "priority_levels": 3, "default_priority": 1},
            **settings,
            **(own or {}).get(name, {}),
        }
    path = folder / "deployment.yaml"
    pools = {"here": {"nodes": 1, "cores": 2, "price": "0.35 USD/h"}}
    path.write_text(json.dumps({"schema_version": 1, "models": entries, "pools": pools}))
    return path


@contextlib.contextmanager
def serving(
    folder: Path, models: Mapping[str, Builder], own: Mapping[str, Settings] | None = None, **settings: Settings
) -> Iterator[Live]:
    """Serve `models` while the block runs."""
    with launch(write_deployment(folder, models, own, **settings)) as live:
        yield live


def port_of(live: Live) -> int:
    """The port of a live engine."""
    return int(live.url.rsplit(":", 1)[1])


def address_of(live: Live) -> str:
    """host:port, as tritonclient wants it."""
    return live.url.removeprefix("http://")


TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""Every datatype that ONNX Runtime can be fed with from Python, which leaves out BF16."""


def every_type(path: Path) -> Path:
    """For each datatype an input in_T and an output out_T: [n, 3], the same values."""
    nodes = [helper.make_node("Identity", [f"in_{t}"], [f"out_{t}"]) for t in TYPES]
    inputs = [helper.make_tensor_value_info(f"in_{t}", kind, ["n", 3]) for t, kind in TYPES.items()]
    outputs = [helper.make_tensor_value_info(f"out_{t}", kind, ["n", 3]) for t, kind in TYPES.items()]
    graph = helper.make_graph(nodes, "every_type", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Direct:
    """The same model called directly, which is what every answer is checked against."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, inputs)


def distinct_rows(seed: int, request: int, rows: int, width: int = WIDTH) -> np.ndarray:
    """The input of one request: no two requests of a test share a row."""
    random = np.random.default_rng(np.random.SeedSequence([seed, request]))
    return random.standard_normal((rows, width)).astype(np.float32)
