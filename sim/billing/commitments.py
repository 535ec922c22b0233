"""Commitments: reservations (so many nodes) and savings plans (so much spending), paid used or not.

A commitment is a bill over on-demand usage, not a kind of machine. Its upfront sum is amortised over its
term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

YEAR_H = 8760.0
"""Hours of a term of one year, as AWS counts them (EC2 user guide, list value of a reservation)."""


def require_not_negative(what: str, **values: float) -> None:
    """ValueError, naming it, unless each value is finite and >= 0."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{what}: {name} must be finite and >= 0, got {value}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """`count` reserved nodes of one type, in any zone; prices are those of one of them.

    Raises
    ------
    ValueError : no node, no term, or a price below 0.
    """

    category: ClassVar[Literal["Usage"]] = "Usage"
    """FOCUS CommitmentDiscountCategory: so much usage is committed."""

    name: str
    type: str
    count: int
    term_h: float = YEAR_H
    upfront_usd: float = 0.0
    usd_per_h: float = 0.0
    """Recurring, beside the upfront sum."""

    def __post_init__(self) -> None:
        require_not_negative(f"reservation {self.name}", upfront_usd=self.upfront_usd, usd_per_h=self.usd_per_h)
        if self.count < 1 or not self.term_h > 0:
            raise ValueError(f"reservation {self.name}: count must be >= 1 and term_h > 0")

    @property
    def node_usd_per_h(self) -> float:
        """Amortised price of one reserved node."""
        return self.usd_per_h + self.upfront_usd / self.term_h

    @property
    def committed_usd_per_h(self) -> float:
        """Amortised price of all of it."""
        return self.count * self.node_usd_per_h

    @property
    def recurring_usd_per_h(self) -> float:
        """What is invoiced hour by hour."""
        return self.count * self.usd_per_h

    @property
    def quantity_per_h(self) -> float:
        """Node-hours committed per hour."""
        return self.count


@dataclass(frozen=True, slots=True)
class SavingsPlan:
    """`usd_per_h` committed to be spent on on-demand usage at discounted rates.

    An upfront sum is a part of the commitment paid early, not a fee on top of it: what is invoiced hour by hour is
    the less for it (AWS: all, partial or no upfront payment of one hourly commitment).

    Raises
    ------
    ValueError : no term, a sum below 0, a discount outside [0, 1), or more upfront than is committed.
    """

    category: ClassVar[Literal["Spend"]] = "Spend"
    """FOCUS CommitmentDiscountCategory: so much spending is committed."""

    name: str
    usd_per_h: float
    discounts: Mapping[str, float]
    """Share off the list price, by type; a type that is not named is not covered."""
    term_h: float = YEAR_H
    upfront_usd: float = 0.0

    def __post_init__(self) -> None:
        require_not_negative(f"savings plan {self.name}", upfront_usd=self.upfront_usd, usd_per_h=self.usd_per_h)
        for type_, discount in self.discounts.items():
            if not 0 <= discount < 1:
                raise ValueError(f"savings plan {self.name}: discount of {type_} must be in [0, 1), got {discount}")
        if not self.term_h > 0 or self.upfront_usd > self.usd_per_h * self.term_h * (1 + 1e-9):
            raise ValueError(f"savings plan {self.name}: term_h must be > 0 and upfront_usd within usd_per_h x term_h")

    @property
    def committed_usd_per_h(self) -> float:
        """Amortised price of all of it."""
        return self.usd_per_h

    @property
    def recurring_usd_per_h(self) -> float:
        """What is invoiced hour by hour."""
        return max(0.0, self.usd_per_h - self.upfront_usd / self.term_h)

    @property
    def quantity_per_h(self) -> float:
        """USD committed per hour."""
        return self.usd_per_h


Commitment = Reservation | SavingsPlan
