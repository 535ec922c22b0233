"""The five file formats by name, and which one a file is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from planner.report import Report
from serve.deployment import Deployment
from serve.faults import near_miss
from serve.profile import Profile
from sim.result import Result
from sim.scenario import Scenario

FORMATS: dict[str, type[BaseModel]] = {
    "profile": Profile,
    "scenario": Scenario,
    "deployment": Deployment,
    "result": Result,
    "report": Report,
}

_SIGNS = {
    "scenario": {"workload", "expect", "choices"},
    "deployment": {"models", "pools", "planned_for"},
    "profile": {"machine", "service", "samples"},
    "result": {"scenario_sha256", "verdict_reason", "latency_cdf_s"},
    "report": {"deployment_sha256", "predicted", "comparisons"},
}
"""Keys at the root that only this format has."""


def format_of(data: Mapping[str, Any]) -> str | None:
    """Name of the format whose signs the data's root has most of; None if it has none of any."""
    counts = {name: len(signs & data.keys()) for name, signs in _SIGNS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a format; ValueError for an unknown name."""
    if name not in FORMATS:
        raise ValueError(f"is not a format; {near_miss(name, FORMATS)}")
    schema = FORMATS[name].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
