"""The Result: what a simulation says, each number with its two intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from serve.spec import Name, Origin, SchemaVersion, Spec

Verdict = Literal["stable", "unstable", "overloaded", "recovered", "not recovered", "unresolved"]
Interval = tuple[float, float]


class Estimate(Spec):
    """A metric (units of `serve.vocabulary`): mean over replications and two 95 % intervals."""

    value: float | None = Field(description="none: undefined here, such as a percentile of an unstable queue")
    ci: Interval | None = Field(description="confidence interval of the expected value")
    pi: Interval | None = Field(description="prediction interval of one run of this length")
    typical: float | None = Field(
        None,
        description="what one run typically shows: the median of the replications. Where runs are skewed, as near "
        "saturation, the expected value lies above it",
    )


class ClassResult(Spec):
    """The metrics of one request class, or of all."""

    metrics: dict[str, Estimate]


class Charge(Spec):
    """What one owner pays of one kind of charge, USD; columns of FOCUS 1.2 by its names, ours as it asks (`x_`)."""

    billed_usd: float = Field(alias="BilledCost", description="invoiced")
    effective_usd: float = Field(alias="EffectiveCost", description="with commitments spread over what they cover")
    list_usd: float = Field(alias="ListCost", description="the same use at on-demand list price")
    charge_category: str = Field(alias="ChargeCategory")
    pricing_category: str = Field(alias="PricingCategory")
    commitment: str | None = Field(None, alias="CommitmentDiscountId")
    commitment_category: str | None = Field(None, alias="CommitmentDiscountCategory")
    commitment_status: str | None = Field(None, alias="CommitmentDiscountStatus")
    tags: dict[str, str] = Field({}, alias="Tags")
    kind: str = Field(alias="x_Kind", description="on_demand, committed, spot, unused, purchase, disk, ...")
    pool: str | None = Field(None, alias="x_Pool")
    model: str | None = Field(None, alias="x_Model", description="none: no model's")
    request_class: str | None = Field(None, alias="x_Class", description="none: no request's, such as idle time")
    useful_usd: float = Field(0.0, alias="x_UsefulCost")
    cold_usd: float = Field(0.0, alias="x_ColdCost")
    wasted_usd: float = Field(0.0, alias="x_WastedCost")
    idle_usd: float = Field(0.0, alias="x_IdleCost")


class Showback(Spec):
    """Who pays what of the bill of the run after its warm-up, on average over replications."""

    charge_period_start: str = Field(description="instant, UTC")
    hours: float = Field(description="length of the charge period")
    charges: list[Charge]


class Result(Spec):
    """What one scenario's simulation found."""

    schema_version: SchemaVersion = 1
    scenario_sha256: str
    seed: int
    engine: Literal["fast", "reference"]
    replications: int
    requests: int = Field(description="requests simulated in all")
    verdict: Verdict
    verdict_reason: str
    capacity_rps: float | None = Field(
        description="throughput of the same row mix with the queue never empty; none for closed loops"
    )
    warmup_s: float = Field(description="cut from the start of each replication")
    origin: Origin = Field(description="the weakest origin among the numbers that it rests on")
    warnings: list[str] = []
    total: ClassResult
    classes: dict[Name, ClassResult]
    versions: dict[str, ClassResult] = Field({}, description="by model.version, of models that have several")
    batch_rows: dict[int, float] = Field(description="share of batches by their rows")
    reasons: dict[str, float] = Field(description="share of batches by why they left")
    refusals: dict[str, float] = Field(description="share of requests by why they were refused, dropped or failed")
    latency_cdf_s: list[float] = Field(
        description="latency quantiles at 0, 0.5, ..., 100 %, of all replications together"
    )
    showback: Showback | None = Field(None, description="the bill by who pays it; none: not billed")

    def part(self, name: str | None) -> ClassResult | None:
        """The metrics of a class or version; of all requests without a name, none of one that there is not."""
        if name is None:
            return self.total
        return self.classes.get(name) or self.versions.get(name)


@dataclass(frozen=True, slots=True)
class Simulated:
    """A Result with what it sums up: each metric in each replication, by class (None: of all requests) and name."""

    result: Result
    samples: Mapping[tuple[str | None, str], npt.NDArray[np.float64]]
