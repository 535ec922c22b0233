"""One factor for every time constant of control, and for nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from serve.autoscaler import Bounds
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.files import parse, plain
from serve.policy.scaling import ray_serve
from serve.scaler import Scaler
from serve.time_scale import faster

S = 10**9
BOUNDS = Bounds(least=1, most=8)
KINDS: dict[str, dict[str, Any]] = {
    "hpa": {"cpu": 60, "age": "5s"},
    "hpa with a direction": {"kind": "hpa", "cpu": 60, "scale_up": {"limits": [{"pods": 1, "period": "60s"}]}},
    "keda": {"triggers": [{"target": 5}], "initial_cooldown": "40s", "scale_down": {"window": "100s"}},
    "kpa": {"target": 4, "scale_down_delay": "20s", "pod_retention": "20s"},
    "ray_serve": {"downscale_to_zero_delay": "20s"},
    "skyserve": {"target": "5/s"},
    "target_tracking": {"scale_in_cooldown": "100s"},
    "idle": {"after": "40s"},
    "predictive": {"capacity": {1: "100/s"}, "season": "20min"},
}


def deployment(autoscaler: dict[str, Any]) -> Deployment:
    replicas = {"max": 8, "start_up": "40s", "drain_limit": "60s", "autoscaler": autoscaler}
    model = {"file": "m.onnx", "profile": "p.yaml", "batching": {"window": "2ms"}, "replicas": replicas}
    content = {
        "models": {"m": model},
        "pools": {"here": {"cores": 8, "price": "0 USD/h", "provision": "80s", "empty_after": "20s"}},
        "router": {"probe": "10s", "propagation": "2s", "network": "1ms", "retry": {"backoff": "20ms"}},
    }
    return parse(content, Deployment, "d.yaml")


def spans(value: Any, path: str = "") -> dict[str, int]:
    """Every span of time that a policy is built with, by its place."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: value} if path.endswith("_ns") and isinstance(value, int) else {}
    return {k: v for name, each in value.items() for k, v in spans(each, f"{path}.{name}").items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_span_that_a_policy_is_built_with_is_divided(kind: str) -> None:
    before = deployment({"kind": kind, **KINDS[kind]})
    after = faster(before, 20)
    one, other = (d.models["m"].replicas.autoscaler for d in (before, after))
    known = spans(one.settings(BOUNDS))  # type: ignore[union-attr]
    assert known and spans(other.settings(BOUNDS)) == {k: v // 20 for k, v in known.items()}  # type: ignore[union-attr]
    if kind != "idle":
        slow, fast = (Scaler(a, BOUNDS, 1) for a in (one, other))  # type: ignore[arg-type]
        assert (20 * fast.scrape_ns, 20 * fast.tick_ns) == (slow.scrape_ns, slow.tick_ns)


def test_what_is_no_span_of_control_stays() -> None:
    before = deployment({"kind": "kpa", "target": 4})
    after = plain(faster(before, 20))
    expected = plain(before)
    expected["models"]["m"]["replicas"] |= {"start_up": "2s", "drain_limit": "3s"}
    expected["pools"]["here"] |= {"provision": "4s", "empty_after": "1s"}
    expected["router"] |= {"probe": "500ms", "propagation": "100ms"}
    for each in (after, expected):
        del each["models"]["m"]["replicas"]["autoscaler"]
    assert after == expected
    assert plain(faster(before, 1)) == plain(before)


def test_ray_counts_as_many_loops_as_before() -> None:
    before = deployment({"kind": "ray_serve"})
    one, other = (d.models["m"].replicas.autoscaler for d in (before, faster(before, 20)))
    slow, fast = (each.settings(BOUNDS) for each in (one, other))  # type: ignore[union-attr]
    for delay in ("upscale_delay_ns", "downscale_delay_ns"):
        assert ray_serve.loops(getattr(slow, delay), slow.loop_ns) == ray_serve.loops(
            getattr(fast, delay), fast.loop_ns
        )


def test_what_it_makes_can_be_written_and_read() -> None:
    made = faster(deployment({"kind": "hpa", "cpu": 60, "scale_up": {"limits": [{"pods": 1}]}}), 20)
    assert parse(plain(made), Deployment, "d.yaml") == made


def test_a_schedule_and_a_file_that_was_not_read_are_refused() -> None:
    with pytest.raises(SpecError, match=r"read it first"):
        faster(deployment({"from": "hpa.yaml"}), 20)
    with pytest.raises(SpecError, match=r"models.m.replicas.autoscaler: kind scheduled goes by the time of the week"):
        faster(deployment({"kind": "scheduled", "entries": {"Mon 08:00": 2}}), 20)
