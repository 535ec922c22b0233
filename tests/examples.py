"""One complete example of each file format, for round trips and for breaking on purpose."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel

from planner.report import Report
from serve.files import load, parse
from serve.profile import Profile
from sim.result import ClassResult, Estimate, Result
from sim.scenario import Scenario
from tests.profiles import write_profile

FORMATS = ("profile", "scenario", "deployment", "result", "report")

SCENARIO_TEXT = """\
seed: 7
replications: 20
workload:
  duration: 60s
  classes:
    interactive: {model: digits, arrivals: {poisson: 400/s}, rows: {1: 0.8, 4: 0.2}, timeout: 200ms}
    nightly: {model: digits, arrivals: {closed: {clients: 4, think: 0s}}, rows: 16, priority: 1}
deployment:
  models:
    digits:
      file: model.onnx
      profile: profile.yaml
      backend: emulated
      batching: {max_batch: 16, window: 2ms}
      queue: {max_queue: 256, priority_levels: 2}
      replicas: {count: 2, threads: 1, slots: 1}
  pools:
    here: {nodes: 1, cores: 2, price: 0.35 USD/h}
slo: {p99: 50ms, refused: 0%}
expect:
  - interactive.p99 < 50ms
choices:
  models.digits.batching.window: [0ms, 2ms, 5ms]
  models.digits.replicas.count: 1..4
"""
"""A scenario without faults."""


@cache
def example(name: str) -> Any:
    """The example of a format."""
    return {
        "profile": _profile,
        "scenario": _scenario,
        "deployment": lambda: _scenario().deployment,
        "result": _result,
        "report": _report,
    }[name]()


def _profile() -> Profile:
    with tempfile.TemporaryDirectory() as folder:
        return load(write_profile(Path(folder)), Profile)


def _scenario() -> Scenario:
    return parse(yaml.safe_load(SCENARIO_TEXT), Scenario, "example")


def _result() -> Result:
    metrics = {
        "p99": Estimate(value=0.0123456789, ci=(0.012, 0.013), pi=(0.01, 0.015)),
        "p99.9": Estimate(value=None, ci=None, pi=None),
    }
    return Result(
        scenario_sha256="0" * 64,
        seed=7,
        engine="fast",
        replications=20,
        requests=123456,
        verdict="stable",
        verdict_reason="the rate is 60 % of the capacity",
        capacity_rps=None,
        warmup_s=1.5,
        origin="measured",
        total=ClassResult(metrics=metrics),
        classes={"interactive": ClassResult(metrics=metrics)},
        batch_rows={1: 0.5, 16: 0.5},
        reasons={"full": 0.5, "window": 0.5},
        refusals={},
        latency_cdf_s=[0.001, 0.01],
    )


def _report() -> Report:
    return cast(Report, _filled(Report))


def _filled(kind: Any) -> Any:
    """A value of a type, every part of it filled in: an example that follows the format as it grows."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Result:
        return _result()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind(**{name: _filled(field.annotation) for name, field in kind.model_fields.items()})
    if origin is Literal:
        return args[0]
    if origin is Annotated or origin in (Union, UnionType):
        return _filled(args[0])
    if origin is list:
        return [_filled(args[0])]
    if origin is tuple:
        return tuple(_filled(arg) for arg in args)
    if origin is dict:
        return {_filled(args[0]): _filled(args[1])}
    return {str: "text", int: 3, float: 0.25, bool: True}[kind]
