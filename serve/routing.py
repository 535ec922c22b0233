"""How requests are sent to nodes, as a deployment says it (rule 17); `serve.router` does it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from serve.costs import Region
from serve.policy.retries import ATTEMPTS_MAX
from serve.spec import Origin, Spec
from serve.units import DurationNs, Share


class Retry(Spec):
    """Rule 17: when the router sends a request again, whose node was lost, full or draining."""

    max: int = Field(1, ge=1, lt=ATTEMPTS_MAX, description="retries of one request")
    budget: Share = Field(
        0.2, ge=0, le=1, description="retries at a time, of what is outstanding; three are always allowed"
    )
    backoff: DurationNs = Field(
        25_000_000,
        ge=0,
        lt=2**41,
        description="the first waits a random time below this, each further one twice as long",
        validate_default=False,
    )
    backoff_max: DurationNs = Field(
        250_000_000, ge=0, lt=2**41, description="and none longer than this", validate_default=False
    )


class Eject(Spec):
    """Rule 17: when a node that fails again and again is left alone for a while."""

    failures: int = Field(5, ge=1, description="answers in a row that say so: lost, failed, expired, full or draining")
    base: DurationNs = Field(
        30_000_000_000,
        gt=0,
        lt=2**41,
        description="how long, the first time; the second time twice that, and so on",
        validate_default=False,
    )
    most: Share = Field(0.1, ge=0, le=1, description="of the nodes in rotation, at a time; one always may")


class Hedge(Spec):
    """Rule 17: when what is not answered yet is sent to a second node as well."""

    after: DurationNs | Literal["p95"] = Field(
        description="how long after the first attempt; p95: as long as 19 of 20 of the last 1,000 answers took"
    )

    @field_validator("after")
    @classmethod
    def _not_negative(cls, after: int | str) -> int | str:
        if isinstance(after, int) and after < 0:
            raise ValueError("must be a duration of at least 0s, or p95")
        return after


class Router(Spec):
    """Rule 17: what sends requests to the nodes."""

    policy: Literal["round_robin", "random", "least_outstanding", "shortest_queue", "p2c", "least_work", "affinity"] = (
        Field(
            "round_robin",
            description="which node gets a request; p2c: the better of two drawn at random; affinity: that of its key",
        )
    )
    network: DurationNs = Field(
        0, ge=0, description="from the router to a node, and the same back", validate_default=False
    )
    zone: Region | None = Field(None, description="where it stands; needed where traffic between zones costs")
    network_origin: Origin = Field("assumed", description="where that delay comes from")
    state_age: DurationNs | None = Field(
        None,
        description="0s: queues and work of the nodes are known as they are; none: as their last answers told them",
    )

    probe: DurationNs = Field(
        10_000_000_000,
        ge=0,
        description="from a replica's being ready until it is sent anything",
        validate_default=False,
    )
    propagation: DurationNs = Field(
        2_000_000_000, ge=0, description="from wanting one less until nothing is sent to it", validate_default=False
    )
    buffer: int | None = Field(
        None, ge=0, description="rows that may wait at the router while there is no node; none: as many as in a queue"
    )
    retry: Retry | None = Field(None, description="none: a request is sent once")
    timeout: DurationNs = Field(
        15_000_000_000,
        gt=0,
        description="an attempt of which nothing has come back over a cut network is lost after this (Envoy: 15s)",
        validate_default=False,
    )
    eject: Eject | None = Field(None, description="none: nodes that fail go on being used")
    hedge: Hedge | None = Field(None, description="none: no request is at two nodes at a time")

    @field_validator("state_age")
    @classmethod
    def _told(cls, state_age: int | None) -> int | None:
        if state_age:
            raise ValueError("must be 0s or left out: probes at intervals are not simulated")
        return state_age
