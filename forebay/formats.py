"""The five file formats by name, and which one a file is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from planner.report import Report
from serve.deployment import Deployment
from serve.faults import near_miss
from serve.profile import Profile
from serve.units import Bytes, DurationNs, KgPerKwh, PriceUsdPerGib, PriceUsdPerH, RateRps, Share, Watts
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
    _defaults_as_text(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _text_by_pattern(*units: Any) -> dict[str, Callable[[Any], str]]:
    """The writer of each annotated unit, by the pattern in its schema (see `serve.units`)."""
    parts = [get_args(unit)[1:] for unit in units]
    return {schema.json_schema["pattern"]: serializer.func for _, serializer, schema in parts}


_TEXT_OF = _text_by_pattern(DurationNs, RateRps, Bytes, PriceUsdPerH, PriceUsdPerGib, Watts, KgPerKwh, Share)
"""How a value is written, by the pattern that the schema gives its unit."""


def _defaults_as_text(node: Any) -> None:
    """Write defaults of values with a unit as files do: pydantic gives their inside numbers."""
    if isinstance(node, dict):
        pattern, default = node.get("pattern"), node.get("default")
        if isinstance(pattern, str) and pattern in _TEXT_OF and isinstance(default, (int, float)):
            node["default"] = _TEXT_OF[pattern](default)
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _defaults_as_text(inner)
