"""What a server tells of itself and its models: metadata, configuration, statistics and index, as plain values.

perf_analyzer indexes the fields of configuration and statistics without looking whether they are
there, so every field of Triton's replies that it reads is present.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from serve.policy.codes import OUTCOME_OK
from serve.protocol.signature import ModelSignature, TensorSignature
from serve.served import BatchStatistics, Served

SERVER_NAME = "forebay"
EXTENSIONS = [
    "model_repository",
    "model_configuration",
    "schedule_policy",
    "statistics",
    "binary_tensor_data",
    "parameters",
]


def server_metadata(version: str) -> dict[str, Any]:
    """GET /v2."""
    return {"name": SERVER_NAME, "version": version, "extensions": EXTENSIONS}


def model_metadata(served: Served, signature: ModelSignature) -> dict[str, Any]:
    """GET /v2/models/M: -1 where a size varies, the batch dimension included."""
    return {
        "name": served.name,
        "versions": served.versions,
        "platform": served.platform,
        "inputs": [_tensor_metadata(signature, t) for t in signature.inputs],
        "outputs": [_tensor_metadata(signature, t) for t in signature.outputs],
    }


def _tensor_metadata(signature: ModelSignature, tensor: TensorSignature) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype.name, "shape": signature.shape(tensor)}


def model_config(served: Served, signature: ModelSignature) -> dict[str, Any]:
    """GET /v2/models/M/config: Triton's ModelConfig; dims without the batch dimension."""
    batching, replicas = served.config.batching, served.config.replicas
    config: dict[str, Any] = {
        "name": served.name,
        "platform": served.platform,
        "backend": served.backend,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": served.max_batch,
        "input": [_input_config(t) for t in signature.inputs],
        "output": [_output_config(t) for t in signature.outputs],
        "instance_group": [
            {
                "name": f"{served.name}_0",
                "kind": "KIND_CPU" if served.device == "cpu" else "KIND_GPU",
                "count": replicas.count,
                "gpus": [] if served.device == "cpu" else [0],
                "passive": False,
                "host_policy": "",
            }
        ],
        "parameters": {
            "threads": {"string_value": str(replicas.threads)},
            "slots": {"string_value": str(replicas.slots)},
        },
        "model_warmup": [],
        "response_cache": {"enable": False},
        "model_transaction_policy": {"decoupled": False},
    }
    if served.max_batch:
        config["dynamic_batching"] = _batching_config(served, batching.window)
    return config


def _input_config(tensor: TensorSignature) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": tensor.datatype.config,
        "format": "FORMAT_NONE",
        "dims": list(tensor.dims),
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
    }


def _output_config(tensor: TensorSignature) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": tensor.datatype.config,
        "dims": list(tensor.dims),
        "label_filename": "",
        "is_shape_tensor": False,
    }


def _batching_config(served: Served, window_ns: int) -> dict[str, Any]:
    """Triton counts priorities from 1 and timeouts in us; max_queue_size 0 means unbounded there."""
    queue = served.config.queue
    timeout_ns = queue.default_timeout or 0
    return {
        "preferred_batch_size": [served.max_batch],
        "max_queue_delay_microseconds": window_ns // 1000,
        "preserve_ordering": False,
        "priority_levels": queue.priority_levels,
        "default_priority_level": queue.default_priority + 1,
        "default_queue_policy": {
            "timeout_action": "REJECT",
            "default_timeout_microseconds": timeout_ns // 1000,
            "allow_timeout_override": True,
            "max_queue_size": queue.max_queue if isinstance(queue.max_queue, int) else 0,
        },
        "priority_queue_policy": {},
    }


def statistics(models: Iterable[Served], now_ns: int, memory_bytes: Mapping[str, int]) -> dict[str, Any]:
    """GET /v2/models/stats: cumulative since load; `now_ns` is the engine's clock, memory that of all replicas."""
    return {"model_stats": [_model_statistics(s, now_ns, memory_bytes.get(s.name, 0)) for s in models]}


def _model_statistics(served: Served, now_ns: int, memory_bytes: int) -> dict[str, Any]:
    counts = served.statistics
    answered = counts.requests
    failed = sum(counts.outcomes) - counts.outcomes[OUTCOME_OK]
    return {
        "name": served.name,
        "version": served.versions[-1],
        "last_inference": _wall_ms(counts.last_ns, now_ns),
        "inference_count": counts.rows,
        "execution_count": counts.batches,
        "inference_stats": {
            "success": _duration(answered, counts.success_ns),
            "fail": _duration(failed, counts.fail_ns),
            "queue": _duration(answered, counts.queue_ns),
            "compute_input": _duration(answered, counts.input_ns),
            "compute_infer": _duration(answered, counts.infer_ns),
            "compute_output": _duration(answered, counts.output_ns),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "response_stats": {},
        "batch_stats": [_batch_statistics(rows, counts.by_rows[rows]) for rows in sorted(counts.by_rows)],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": memory_bytes}],
    }


def _batch_statistics(rows: int, batch: BatchStatistics) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _duration(batch.count, batch.input_ns),
        "compute_infer": _duration(batch.count, batch.infer_ns),
        "compute_output": _duration(batch.count, batch.output_ns),
    }


def _duration(count: int, total_ns: int) -> dict[str, int]:
    return {"count": count, "ns": total_ns}


def _wall_ms(instant_ns: int, now_ns: int) -> int:
    """An instant of the monotonic clock as ms since the epoch; 0 if it never came."""
    if instant_ns < 0:
        return 0
    return (time.time_ns() - (now_ns - instant_ns)) // 1_000_000


def index(models: Iterable[Served], ready_only: bool) -> list[dict[str, str]]:
    """POST /v2/repository/index."""
    entries = []
    for served in models:
        if served.ready:
            entries.append({"name": served.name, "version": served.versions[-1], "state": "READY"})
        elif not ready_only:
            entries.append(
                {
                    "name": served.name,
                    "version": served.versions[-1],
                    "state": "UNAVAILABLE",
                    "reason": "no replica is up",
                }
            )
    return entries
