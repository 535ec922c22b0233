"""The world that a scenario's deployment is in: what fails, what spot machines there are, and what happens when."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema, model_validator

from serve.costs import Region
from serve.draws import Lognormal
from serve.spec import Name, Spec
from serve.units import DurationNs, Share

Member = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*/[0-9]+$")]
"""One of several alike, counted from 0: `pool/3`, `model/0`."""


def parse_instant(text: Any) -> datetime:
    """`2026-03-02T08:00` -> that time of the clock; no other way to write an instant is taken."""
    if isinstance(text, datetime) and text.tzinfo is None:
        return text
    if isinstance(text, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", text):
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    raise ValueError("must be an instant such as 2026-03-02T08:00")


Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    PlainSerializer(datetime.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["2026-03-02T08:00"]}),
]


# -- what fails by itself -------------------------------------------------------------------------------------


class NodeFailures(Spec):
    """How nodes are lost, and what then becomes of them."""

    mtbf: DurationNs | None = Field(
        None, gt=0, description="mean time between failures of a node, exponential; none: only events fail"
    )
    detect: DurationNs = Field(
        40_000_000_000,
        ge=0,
        description="from a node's loss, or its being cut off, until it is known not to be ready (Kubernetes: 40s)",
        validate_default=False,
    )
    replace: DurationNs = Field(
        300_000_000_000,
        ge=0,
        description="from there until what was on it is wanted elsewhere (Kubernetes: 300s)",
        validate_default=False,
    )


class ReplicaFailures(Spec):
    """How replicas die."""

    mtbf: DurationNs = Field(gt=0, description="mean time between crashes of a replica, exponential")


class Failures(Spec):
    """What fails by itself."""

    node: NodeFailures = NodeFailures()
    replica: ReplicaFailures | None = None


# -- spot ------------------------------------------------------------------------------------------------------


class Weibull(Spec):
    """Lifetimes whose hazard falls (shape below 1) or grows."""

    mean: DurationNs = Field(gt=0)
    shape: float = Field(gt=0.1, le=10, description="below 1: heavy-tailed; 1: exponential")


class Fitted(Spec):
    """Each machine is taken back after a time of its own, from when it was handed over."""

    weibull: Weibull | None = None
    lognormal: Lognormal | None = None
    available: int | None = Field(None, ge=0, description="machines that a pool can have; none: as many as it may")

    @model_validator(mode="after")
    def _one(self) -> Fitted:
        if (self.weibull is None) == (self.lognormal is None):
            raise ValueError("takes either weibull or lognormal")
        return self


class Spot(Spec):
    """Spot machines of one zone."""

    trace: str | None = Field(
        None, description="file of how many can be had over time: CSV (start_s,end_s,available) or a published JSON"
    )
    from_: DurationNs | None = Field(
        None, ge=0, alias="from", description="where the trace begins; none: drawn for each replication"
    )
    fitted: Fitted | None = Field(None, description="in place of a trace")
    notice: DurationNs = Field(
        120_000_000_000,
        ge=0,
        description="how long before it is taken back that is told (AWS 120s; GCP and Azure 30s)",
        validate_default=False,
    )
    no_notice: Share = Field(0.0, ge=0, le=1, description="share that is taken back untold", validate_default=False)

    @model_validator(mode="after")
    def _one(self) -> Spot:
        if (self.trace is None) == (self.fitted is None):
            raise ValueError("takes either trace or fitted")
        if self.from_ is not None and self.trace is None:
            raise ValueError("from: needs a trace")
        return self


class World(Spec):
    """What a deployment and its clients cannot choose."""

    starts: Instant = Field(
        datetime(2024, 1, 1),
        description="when the run begins, by the clock: what is counted by the hour or the week looks at it; none: a "
        "Monday, 0:00",
        validate_default=False,
    )
    failures: Failures = Failures()
    spot: dict[Region, Spot] = Field({}, description="by zone, for pools that buy spot there")

    @property
    def takes_machines(self) -> bool:
        """Whether machines go by themselves."""
        return bool(self.spot) or self.failures.node.mtbf is not None


NO_WORLD = World()
"""Where nothing fails, and all machines can be had."""


# -- events ----------------------------------------------------------------------------------------------------


class NodeTarget(Spec):
    """Machines: all of a zone, or one of a pool."""

    zone: Region | None = None
    node: Member | None = Field(None, description="as pool/0")

    @model_validator(mode="after")
    def _one(self) -> NodeTarget:
        if (self.zone is None) == (self.node is None):
            raise ValueError("takes either zone or node")
        return self


class ReplicaTarget(Spec):
    """A replica."""

    replica: Member = Field(description="as model/0")


class Slowed(NodeTarget):
    """Machines that are slow."""

    factor: float = Field(gt=0.001, le=1000, description="what service takes, in times of what it should")


KINDS = ("fail", "slow", "hang", "partition", "rollout")
"""Of events."""


class CanaryStep(Spec):
    """A share of the traffic that the new version has for a while."""

    traffic: Share = Field(gt=0, lt=1)
    hold: DurationNs = Field(ge=0, alias="for", description="from when it has the replicas for it")


Bound = Annotated[int, Field(ge=0, strict=True)] | Share
"""A count, or a share of the replicas wanted."""


class RolloutEvent(Spec):
    """A model's replicas become another version's (rule 18)."""

    model: Name
    to: Name = Field(description="the version that all requests go to in the end")
    kind: Literal["rolling", "blue_green", "canary"] = Field(
        "rolling",
        description="replica by replica; all traffic at once when as many new ones are there; or by `steps` of it",
    )
    surge: Bound = Field(0.25, description="rolling: replicas beyond those wanted, rounded up", validate_default=False)
    unavailable: Bound = Field(
        0.25, description="rolling: replicas of those wanted that may be missing, rounded down", validate_default=False
    )
    steps: list[CanaryStep] = Field([], description="canary: shares of the traffic, before all of it")
    keep: DurationNs = Field(
        30_000_000_000,
        ge=0,
        description="blue_green, canary: how long old replicas stay when they have no traffic any more (Argo: 30s)",
        validate_default=False,
    )
    min_ready: DurationNs = Field(
        0, ge=0, description="how long a replica must have been in rotation before it counts", validate_default=False
    )
    progress: DurationNs = Field(
        600_000_000_000,
        gt=0,
        description="rolled back if for so long none came to count while some were waited for (Kubernetes: 10min)",
        validate_default=False,
    )
    abort: Share | None = Field(
        None, ge=0, lt=1, description="rolled back if more of the new version's requests fail; none: never"
    )
    check: DurationNs = Field(10_000_000_000, gt=0, description="how often those are looked at", validate_default=False)

    @model_validator(mode="after")
    def _of_its_kind(self) -> RolloutEvent:
        if (self.kind == "canary") != bool(self.steps):
            raise ValueError("steps: are those of kind canary, which needs some, such as [{traffic: 5%, for: 10min}]")
        return self


class Event(Spec):
    """Something that happens: exactly one of fail, slow, hang, partition and rollout."""

    at: DurationNs = Field(ge=0, description="from the start of the workload")
    fail: NodeTarget | ReplicaTarget | None = Field(
        None, description="machines are lost with all that they hold; a replica dies"
    )
    slow: Slowed | None = Field(None, description="batches that start there take longer (grey failure)")
    hang: ReplicaTarget | None = Field(None, description="the batch that it runs, or the next, never ends")
    partition: NodeTarget | None = Field(None, description="nothing passes between router and machines")
    rollout: RolloutEvent | None = Field(None, description="a model's replicas become another version's")
    for_: DurationNs | None = Field(
        None,
        gt=0,
        alias="for",
        description="how long; none: to the end, or, of machines that fail, until they are replaced",
    )

    @model_validator(mode="after")
    def _one(self) -> Event:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"takes one of {', '.join(KINDS)}, got {', '.join(kinds) or 'none'}")
        if self.for_ is not None and self.rollout is not None:
            raise ValueError("for: a rollout takes as long as it takes; leave it out")
        if self.for_ is not None and (self.hang is not None or isinstance(self.fail, ReplicaTarget)):
            raise ValueError("for: a replica is back when it has started again; leave it out")
        return self
