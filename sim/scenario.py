"""The Scenario: a workload on a deployment, with what is expected of it."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from serve.deployment import Deployment
from serve.policy.retries import ATTEMPTS_MAX
from serve.spec import Name, SchemaVersion, Spec
from serve.units import DurationNs
from sim.claims import without_reason
from sim.law_parts import beyond, parts
from sim.laws import RATE_RPS_MAX as RATE_RPS_MAX
from sim.laws import RATE_RPS_MIN as RATE_RPS_MIN
from sim.laws import Arrivals as Arrivals
from sim.laws import Closed as Closed
from sim.laws import Gamma as Gamma
from sim.laws import Trace as Trace
from sim.rate_laws import PositiveRate as PositiveRate
from sim.world import Event, World

RowCount = Annotated[int, Field(ge=1, le=65536)]


class Client(Spec):
    """How clients of a class behave when an answer is late."""

    timeout: DurationNs = Field(gt=0, description="how long it waits each time that it asks")
    retries: int = Field(0, ge=0, lt=ATTEMPTS_MAX, description="how often it asks again")
    cancels: bool = Field(True, description="its node learns that it gave up (rule 7); false: and works on for nobody")


class Affinity(Spec):
    """Which requests of a class belong together, such as those of one session, tenant or adapter."""

    keys: int = Field(ge=1, le=1_000_000, description="different keys")
    zipf: float = Field(
        0.0, ge=0, le=10, description="the k-th key is asked for in proportion to k**-zipf; 0: all alike"
    )


class RequestClass(Spec):
    """Requests of one kind."""

    model: Name | None = Field(None, description="model they ask for; may be left out when there is one")
    arrivals: Arrivals | None = Field(None, description="of this class alone; none: a share of the workload's")
    weight: float | None = Field(
        None, ge=1e-6, le=1e6, description="share of the workload's arrivals, in proportion to those of others; none: 1"
    )
    rows: RowCount | dict[RowCount, Annotated[float, Field(ge=0)]] = Field(
        1, description="rows of a request, or {rows: weight}"
    )
    priority: int = Field(0, ge=0, description="0 is the highest")
    timeout: DurationNs | None = Field(None, description="deadline in the queue, from the enqueue")
    patience: DurationNs | None = Field(
        None, description="mean of an exponential patience after which the client cancels"
    )
    client: Client | None = Field(None, description="a timeout of the client, in place of patience; needs a router")
    affinity: Affinity | None = Field(
        None, description="keys by which a router of policy affinity keeps requests together; others do not look"
    )
    tags: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_way_to_arrive(self) -> RequestClass:
        if self.arrivals is not None and self.weight is not None:
            raise ValueError("takes either arrivals, which are its own, or weight, its share of workload.arrivals")
        return self

    @model_validator(mode="after")
    def _one_patience(self) -> RequestClass:
        if self.client is not None and self.patience is not None:
            raise ValueError("takes either patience or client, which has a timeout")
        return self

    @field_validator("rows")
    @classmethod
    def _weights(cls, rows: int | dict[int, float]) -> int | dict[int, float]:
        if isinstance(rows, dict) and not sum(rows.values()) > 0:
            raise ValueError("needs a weight above 0, as in {1: 0.8, 4: 0.2}")
        if isinstance(rows, dict) and not isfinite(sum(rows.values())):
            raise ValueError("has weights whose sum is too large for a number; only their ratios count")
        return rows


class Workload(Spec):
    """What arrives, and for how long."""

    duration: DurationNs = Field(gt=0)
    arrivals: Arrivals | None = Field(
        None, description="of the classes that have none of their own: each request is of one of them, by weight"
    )
    classes: dict[Name, RequestClass] = Field(min_length=1)

    @property
    def laws(self) -> list[tuple[str, Arrivals]]:
        """The laws by which requests arrive, each with its path."""
        own = [(f"classes.{name}.arrivals", class_.arrivals) for name, class_ in self.classes.items()]
        return [(path, law) for path, law in (("arrivals", self.arrivals), *own) if law is not None]

    @field_validator("arrivals")
    @classmethod
    def _open(cls, arrivals: Arrivals | None) -> Arrivals | None:
        if arrivals is not None and arrivals.closed is not None:
            raise ValueError("must not be closed: its clients are of one class; give it arrivals of its own")
        return arrivals

    @model_validator(mode="after")
    def _of_somebody(self) -> Workload:
        sharing = [name for name, class_ in self.classes.items() if class_.arrivals is None]
        if self.arrivals is not None and not sharing:
            raise ValueError("arrivals: are of no class, since each has arrivals of its own; leave them out")
        if self.arrivals is None and sharing:
            raise ValueError(
                f"classes.{sharing[0]}.arrivals: is missing; or give workload.arrivals, which classes share"
            )
        return self

    @model_validator(mode="after")
    def _possible(self) -> Workload:
        for whole, law in self.laws:
            for path, arrivals in parts(law, whole):
                if why := beyond(arrivals, self.duration):
                    raise ValueError(f"{path}.{why}")
        return self


Slo = dict[str, str | float]
"""Bounds by metric name: upper for latencies, shares and costs, lower for rates."""


class Contrast(Spec):
    """A change under which an expectation must fail: what the scenario teaches depends on it."""

    set: dict[str, Any] = Field(min_length=1, description="path -> value, as in a variant")
    fails: str = Field(description="the expectation, word for word")


class Scenario(Spec):
    """A question about a deployment under a workload."""

    schema_version: SchemaVersion = 1
    seed: int = Field(0, ge=0)
    replications: int = Field(20, ge=2, le=1000, description="independent runs; intervals come from them")
    workload: Workload
    deployment: Deployment | str = Field(description="the deployment, or a path to its file")
    slo: Slo = {}
    world: World = Field(World(), description="what the deployment cannot choose: failures, spot machines")
    events: list[Event] = Field([], description="what happens when, in the order of one instant")
    expect: list[str] = Field([], description="claims such as 'interactive.p99 < 50ms' or 'busy in [0.5, 0.7]'")
    variants: dict[Name, dict[str, Any]] = Field(
        {}, description="name -> {path: value}: ways to go, compared under the same arrivals"
    )
    contrast: Contrast | None = Field(None, description="a change under which an expectation must fail")
    choices: dict[str, list[Any] | str] = Field(
        {}, description="path into the deployment -> list or range (1..4) that `plan` searches"
    )

    @model_validator(mode="after")
    def _contrasted(self) -> Scenario:
        claims = [without_reason(claim) for claim in self.expect]
        if self.contrast is not None and without_reason(self.contrast.fails) not in claims:
            known = "; ".join(self.expect) or "none"
            raise ValueError(f"contrast.fails: must be one of expect ({known}), got {self.contrast.fails!r}")
        return self


def claimable(workload: Workload, deployment: Deployment | None) -> list[str]:
    """What claims may name in front of a metric: classes, and model.version of models that have several."""
    models = {} if deployment is None else deployment.models
    versions = [f"{name}.{version}" for name, model in models.items() for version in model.versions or ()]
    return [*workload.classes, *versions]


class PlannedFor(Spec):
    """What a deployment was planned for: the part of the scenario that `verify` replays."""

    workload: Workload
    slo: Slo = {}
    seed: int = 0
    replications: int = 20


class PlannedDeployment(Deployment):
    """A deployment as `plan` writes it."""

    planned_for: PlannedFor  # type: ignore[assignment]


Engine = Literal["fast", "reference"]
