"""The lines of a bill, and their columns in FOCUS, the FinOps Open Cost and Usage Specification (1.2).

BilledCost is what is invoiced of a line; EffectiveCost spreads what commitments cost over the usage that
they cover; ListCost is the usage at list price. A commitment is a purchase of effective cost 0, and its
cost stands in the lines of usage that it covers (Used, billed 0) and in one of what is left (Unused).
A bill's sum is that of its effective costs. It is above the billed ones by the amortised upfront sums,
since those were invoiced before the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sim.billing.commitments import Commitment
from sim.billing.usage import NOBODY, Owner

Kind = Literal["on_demand", "committed", "spot", "unused", "purchase", "disk", "load_balancer", "cross_zone"]

MACHINES: frozenset[Kind] = frozenset({"on_demand", "committed", "spot"})
"""Kinds of line that are time of machines."""

_PRICING: dict[Kind, str] = {"spot": "Dynamic", "committed": "Committed", "unused": "Committed"}
_STATUS: dict[Kind, str] = {"committed": "Used", "unused": "Unused"}


@dataclass(frozen=True, slots=True)
class Line:
    """One charge within a clock-hour; USD."""

    kind: Kind
    start_ns: int
    end_ns: int
    quantity: float
    """Hours (of a node, or as they pass), GiB across zones, or USD of a savings plan bought or left."""
    billed_usd: float
    effective_usd: float
    list_usd: float
    node_id: int | None = None
    pool: str = ""
    type: str = ""
    zone: str = ""
    commitment: Commitment | None = None
    owner: Owner = NOBODY


def focus_columns(line: Line, starts: datetime) -> dict[str, str | float | None]:
    """The line in FOCUS columns; `starts`: instant of the run's start, taken as UTC if it names no zone."""
    commitment = line.commitment
    return {
        "BilledCost": line.billed_usd,
        "EffectiveCost": line.effective_usd,
        "ListCost": line.list_usd,
        "BillingCurrency": "USD",
        "ChargeCategory": "Purchase" if line.kind == "purchase" else "Usage",
        "ChargePeriodStart": _utc(starts, line.start_ns),
        "ChargePeriodEnd": _utc(starts, line.end_ns),
        "PricingCategory": _PRICING.get(line.kind, "Standard"),
        "PricingQuantity": line.quantity,
        "PricingUnit": _unit(line),
        "CommitmentDiscountId": None if commitment is None else commitment.name,
        "CommitmentDiscountCategory": None if commitment is None else commitment.category,
        "CommitmentDiscountStatus": _STATUS.get(line.kind),
        "ResourceId": None if line.node_id is None else str(line.node_id),
        "AvailabilityZone": line.zone or None,
    }


def _unit(line: Line) -> str:
    if line.kind == "cross_zone":
        return "GiB"
    spend = line.commitment is not None and line.commitment.category == "Spend"
    return "USD" if spend and line.kind in ("unused", "purchase") else "Hours"


def _utc(starts: datetime, after_ns: int) -> str:
    start = starts.replace(tzinfo=UTC) if starts.tzinfo is None else starts.astimezone(UTC)
    return (start + timedelta(microseconds=after_ns // 1000)).isoformat().replace("+00:00", "Z")
