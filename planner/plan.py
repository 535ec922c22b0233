"""The Plan: what the search found, why it is the best, and how far it reaches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serve.deployment import Deployment
from serve.spec import SchemaVersion, Spec
from sim.result import Result

Fate = Literal["chosen", "holds", "misses", "hopeless", "ruled out", "dearer"]
"""holds, misses: simulated in full. hopeless: dropped by a short simulation. ruled out: by a bound,
unsimulated. dearer: not simulated in full, since it cannot beat what was found."""

LimitName = Literal["rows", "cores", "capacity", "latency floor", "latency", "refusals", "other"]


class Considered(Spec):
    """One candidate and what became of it."""

    settings: dict[str, Any]
    fate: Fate
    reason: str
    replications: int = Field(0, description="of its last simulation; 0: none")
    usd_per_h: float | None = None
    latency_s: float | None = Field(None, description="the latency that plans are ordered by")


class Headroom(Spec):
    """The load at which the SLO breaks, all open classes scaled alike."""

    factor: float = Field(description="largest multiple of the scenario's load that still holds the SLO")
    rate_rps: float | None = Field(description="that load; none if the scenario states no rate")
    breaks: str = Field(description="what breaks just above it; empty if nothing did up to the largest load tried")


class RunnerUp(Spec):
    """The next best candidate, and why it lost."""

    settings: dict[str, Any]
    reason: str


class Limit(Spec):
    """Why nothing holds the SLO."""

    limit: LimitName
    reason: str
    best_settings: dict[str, Any] | None = Field(description="the candidate that comes nearest; none if none can run")
    best_latency_s: float | None = Field(description="the least p99 (or the SLO's latency) that any candidate reaches")
    holds_rate_rps: float | None = Field(description="the rate up to which that candidate does hold the SLO")


class Plan(Spec):
    """The outcome of a search; `deployment` and what belongs to it are none if nothing holds the SLO."""

    schema_version: SchemaVersion = 1
    bounds: list[str] = Field(description="what had to hold, implied bounds included")
    latency_metric: str
    settings: dict[str, Any] | None = None
    deployment: Deployment | None = None
    usd_per_h: float | None = Field(
        None, description="price x (replicas x threads + the front's busy cores) / cores; of a fleet its bill"
    )
    cores: float | None = Field(None, description="replicas x threads + the front's busy cores; none: nodes are paid")
    result: Result | None = None
    headroom: Headroom | None = None
    runner_up: RunnerUp | None = None
    limit: Limit | None = None
    candidates: int = 0
    simulations: int = 0
    considered: list[Considered] = []
    warnings: list[str] = []

    @property
    def feasible(self) -> bool:
        """Whether a deployment holds the SLO."""
        return self.deployment is not None
