"""Made-up profiles, scenarios and simulators for the planner's tests: closed forms in place of sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from serve import files
from serve.profile import Profile
from sim.result import Result
from sim.scenario import Scenario
from sim.workload import rate_rps

THREADS = (1, 2)
ROWS = (1, 2, 4, 8, 16)


def tau_ms(rows: int, threads: int) -> float:
    """Service time of a batch: a fixed part and a part per row, which more threads shorten."""
    return 2.0 + 0.5 * rows / float(threads**0.7)


def profile_data() -> dict[str, Any]:
    """A whole profile whose service times are `tau_ms`."""
    cells = [
        {
            "threads": threads,
            "busy": 0,
            "rows": rows,
            "samples": 500,
            "mean_ms": tau_ms(rows, threads),
            "p50_ms": tau_ms(rows, threads),
            "p99_ms": 1.2 * tau_ms(rows, threads),
            "p99_pooled": False,
        }
        for threads in THREADS
        for rows in ROWS
    ]
    tensor = {"name": "x", "datatype": "FP32", "shape": [64]}
    return {
        "name": "made-up",
        "date": "2026-01-01",
        "settings": {},
        "machine": {"cpu": "none", "cores": 8, "memory_gib": 1, "kernel": "none", "versions": {}},
        "model": {
            "file": "m.onnx",
            "sha256": "0" * 64,
            "inputs": [tensor],
            "outputs": [tensor],
            "batch_axis": 0,
            "max_batch": max(ROWS),
            "data": "random",
        },
        "service": cells,
        "fit": {"base_ms": 2.0, "row_ms": 0.5},
        "front": {
            "parse_us": 40,
            "parse_us_per_kib": 0,
            "finish_batch_us": 30,
            "finish_request_us": 30,
            "finish_us_per_kib": 0,
            "refuse_us": 20,
            "bytes_in_per_row": 256,
            "bytes_out_per_row": 256,
        },
        "client": {"send_us": [0.0, 0.0], "receive_us": [0.0, 0.0], "cpu_us_per_request": 10},
        "startup": {"spawn_s": 1, "load_s": 1, "warmup_s": 1, "memory_mib": 100},
        "noise": {
            "timer_late_us": [0, 0],
            "wake_idle_us": [0, 0],
            "wake_busy_us": [0, 0],
            "loop_jitter_us": [0, 0],
            "repeat_cv": 0.0,
            "level_series": [1.0],
            "level_bin_s": 1.0,
            "disturbed": False,
        },
        "samples": {"file": "samples.parquet", "sha256": "0" * 64, "rows": 5000},
    }


def write_profile(folder: Path) -> None:
    """`profile.yaml` in a folder, with a model file beside it."""
    files.save(folder / "profile.yaml", Profile.model_validate(profile_data()))
    (folder / "m.onnx").write_bytes(b"not really a model")


def scenario(
    rate: float = 400.0,
    slo: Mapping[str, Any] | None = None,
    choices: Mapping[str, Any] | None = None,
    cores: int = 8,
    **workload: Any,
) -> Scenario:
    """A scenario of one Poisson class over 20 s (or `classes`, `duration` as given)."""
    return Scenario.model_validate(
        {
            "seed": 3,
            "workload": {"duration": "20s", "classes": {"all": {"arrivals": {"poisson": f"{rate}/s"}}}, **workload},
            "deployment": {
                "models": {"m": {"file": "m.onnx", "profile": "profile.yaml", "batching": {"max_batch": 16}}},
                "pools": {"here": {"cores": cores, "price": "0.8 USD/h"}},
            },
            "slo": {"p99": "50ms"} if slo is None else dict(slo),
            "choices": dict(choices or {}),
        }
    )


def estimate(value: float | None, width: float = 0.0) -> dict[str, Any]:
    """An estimate whose intervals are `width` wide to either side, as a share; `ci` a third of `pi`."""
    if value is None:
        return {"value": None, "ci": None, "pi": None}
    return {
        "value": value,
        "ci": (value * (1 - width / 3), value * (1 + width / 3)),
        "pi": (value * (1 - width), value * (1 + width)),
        "typical": value,
    }


def result(scenario: Scenario, metrics: Mapping[str, Any], verdict: str = "stable", capacity: float = 1e3) -> Result:
    """A Result with these estimates for all requests together."""
    return Result.model_validate(
        {
            "scenario_sha256": "0" * 64,
            "seed": scenario.seed,
            "engine": "fast",
            "replications": scenario.replications,
            "requests": 1000,
            "verdict": verdict,
            "verdict_reason": "made up",
            "capacity_rps": capacity,
            "warmup_s": 0.0,
            "origin": "assumed",
            "total": {"metrics": dict(metrics)},
            "classes": {},
            "batch_rows": {1: 1.0},
            "reasons": {"idle": 1.0},
            "refusals": {},
            "latency_cdf_s": [0.0, 1.0],
        }
    )


@dataclass
class World:
    """A simulator by formula: batching raises capacity and latency, replicas share the load.

    Short simulations are noisy, within the interval that they state; full ones are not.
    """

    luck: int = 0
    noise: float = 0.3
    width: float = 0.05
    calls: list[Scenario] = field(default_factory=list)

    def __call__(self, scenario: Scenario) -> Result:
        """The Result of a scenario of this world."""
        self.calls.append(scenario)
        deployment = scenario.deployment
        assert not isinstance(deployment, str)
        model = deployment.models["m"]
        rate = sum(rate_rps(c.arrivals) or 0.0 for c in scenario.workload.classes.values())
        p99, front = self._truth(model, rate)
        short = scenario.workload.duration < 20 * 10**9
        width = self.noise if short else self.width
        shown = None if p99 is None else p99 * (1 + (self._dice(model) * width / 3 if short else 0.0))
        metrics = {
            "p99": estimate(shown, width),
            "front_busy": estimate(front, 0.01),
            "refused": estimate(0.0 if p99 is not None else 0.5),
            "expired": estimate(0.0),
            "failed": estimate(0.0),
            "throughput": estimate(rate * (0.9 if short else 1.0) if p99 is not None else rate / 2, 0.01),
        }
        return result(scenario, metrics, "stable" if p99 is not None else "overloaded")

    def _truth(self, model: Any, rate: float) -> tuple[float | None, float]:
        batching, replicas = model.batching, model.replicas
        window_s = batching.window / 1e9
        size = max(1.0, min(batching.max_batch, 1 + rate * (window_s + 0.004) / replicas.count))
        service_s = tau_ms(1, replicas.threads) / 1e3 + (tau_ms(2, replicas.threads) - tau_ms(1, 1)) / 1e3 * (size - 1)
        load = rate * service_s / size / replicas.count
        front = rate * (70e-6 + 30e-6 / size)
        if load >= 1:
            return None, front
        wait_s = service_s * load / (1 - load) * (1.0 if replicas.slots == 1 else 0.9)
        return 1.2 * service_s + window_s + 2 * wait_s, front

    def _dice(self, model: Any) -> float:
        """A fixed number in [-1, 1] for each deployment."""
        return crc32(f"{self.luck} {model!r}".encode()) / 2**31 - 1


def erlang_c_p99(servers: int, load: float) -> float | None:
    """p99 of the sojourn time in M/M/c with mean service 1, by bisection of its closed form; None if unstable."""
    if load >= servers:
        return None
    blocking = 1.0
    for n in range(1, servers + 1):
        blocking = load * blocking / (n + load * blocking)
    waits = blocking / (1 - load / servers * (1 - blocking))
    spare = servers - load

    def beyond(t: float) -> float:
        if abs(spare - 1) < 1e-9:
            return math.exp(-t) * (1 + waits * t)
        return math.exp(-t) + waits / (1 - spare) * (math.exp(-spare * t) - math.exp(-t))

    low, high = 0.0, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > 0.01 else (low, middle)
    return high
