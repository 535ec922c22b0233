"""The format of a price file: what machines have and cost, each figure with the document that it was read in.

The shipped catalogue and a user's own file have this one format. Prices are USD per hour of one machine; a figure's
date, address and licence are those of the source that it names. How two files are laid over each other is in `load`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from serve.spec import Name, Origin, SchemaVersion, Spec
from serve.units import Bytes, PriceUsdPerH, Share, format_price

Kind = Literal["reserved", "savings_plan"]
"""reserved: hours of one machine type; savings_plan: so many USD spent per hour, on whatever it holds for."""

Term = Literal["1y", "3y"]
Payment = Literal["no_upfront", "partial_upfront", "all_upfront"]

Band = Literal["<5%", "5-10%", "10-15%", "15-20%", ">20%"]
"""Share of spot machines of a type that were reclaimed within the last month, as the EC2 Spot Advisor sorts it."""

MachineType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def parse_date(text: Any) -> date:
    """`2026-01-31` -> that day; no other way to write a date is taken."""
    if isinstance(text, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise ValueError("must be a day such as 2026-01-31")


Day = Annotated[date, BeforeValidator(parse_date)]


class Source(Spec):
    """A document that figures were read in."""

    document: str = Field(min_length=1, description="its title, or the file and package that hold it")
    url: str | None = Field(None, description="its address; a quote or an invoice has none")
    date: Day = Field(description="day of its figures, else of its snapshot")
    licence: str = Field(min_length=1, description="under which its figures may be passed on; your own: private")


class Price(Spec):
    """What one machine costs per hour."""

    price: PriceUsdPerH = Field(ge=0, description="upfront sums are spread over the hours of the term")
    source: Name = Field(description="one of this file's sources")
    origin: Origin = Field("imported", description="projected: from figures of other days; assumed: an average")


class SpotPrice(Price):
    """The price of a machine that the provider may take back."""

    interruptions: Band | None = Field(None, description="share of such machines that were reclaimed within a month")


class Accelerator(Spec):
    """GPUs or the like of one machine."""

    name: str = Field(min_length=1)
    count: float = Field(gt=0, description="below 1: a part of one")
    memory: Bytes = Field(gt=0, description="of each, or of the part")


class Machine(Spec):
    """One machine type in one region."""

    vcpus: int = Field(ge=1)
    memory: Bytes = Field(gt=0)
    accelerator: Accelerator | None = None
    on_demand: Price = Field(description="price without a commitment, or what a machine of your own costs per hour")
    spot: SpotPrice | None = None
    reserved: dict[Term, dict[Payment, Price]] = Field({}, description="list prices; they go before commitments")
    exception: str | None = Field(None, description="why a price here is above on_demand")

    @model_validator(mode="after")
    def _none_above_on_demand(self) -> Machine:
        prices: dict[str, Price | None] = {
            "spot": self.spot,
            **{
                f"reserved.{term}.{payment}": price
                for term, by_payment in self.reserved.items()
                for payment, price in by_payment.items()
            },
        }
        limit = self.on_demand.price
        above = [name for name, price in prices.items() if price is not None and price.price > limit]
        if above and self.exception is None:
            raise ValueError(
                f"{', '.join(above)}: must be <= on_demand ({format_price(limit)}), else say why under exception"
            )
        return self


class Rate(Spec):
    """A discount on on_demand for a commitment."""

    provider: Name
    kind: Kind
    types: list[str] = Field([], description="beginnings of the machine types that it holds for; empty: all")
    term: Term
    payment: Payment
    discount: Share = Field(ge=0, lt=1)
    source: Name = Field(description="one of this file's sources")
    origin: Origin = Field("imported", description="projected: from figures of other types; assumed: an average")

    def closeness(self, provider: str, machine_type: str) -> int | None:
        """How closely it is meant for a machine type: letters of the longest beginning; None if it does not hold."""
        if provider != self.provider:
            return None
        if not self.types:
            return 0
        return max((len(start) for start in self.types if machine_type.startswith(start)), default=None)


class PriceFile(Spec):
    """Machines by provider, region and type, and commitments by a name of their own."""

    schema_version: SchemaVersion = 1
    sources: dict[Name, Source] = {}
    machines: dict[Name, dict[Name, dict[MachineType, Machine]]] = {}
    commitments: dict[Name, Rate] = {}
