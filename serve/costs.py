"""What a deployment pays beside the list price of its nodes: commitments, balancers, disks, traffic, power.

Part of the Deployment's format; prices that a file leaves out are looked up by `sim.pricing`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from serve.spec import Name, Spec
from serve.units import KgPerKwh, PriceUsdPerGib, PriceUsdPerH, Share, Watts

MachineType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Region = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]

Buy = Literal["on_demand", "spot"]
Term = Literal["1y", "3y"]
Payment = Literal["no_upfront", "partial_upfront", "all_upfront"]


class Commitment(Spec):
    """Nodes of a type, or spending, paid for a term, used or not: a bill over on-demand nodes, not nodes of its own."""

    reserved: MachineType | None = Field(None, description="machine type of which `count` nodes are reserved")
    count: int | None = Field(None, ge=1, description="of a reservation: nodes")
    savings_plan: PriceUsdPerH | None = Field(
        None, gt=0, description="in place of reserved: what is spent on discounted on-demand nodes at least"
    )
    discount: Share | None = Field(
        None, ge=0, lt=1, description="of a savings plan, off on-demand; none: by the price list, for each type"
    )
    term: Term = "1y"
    payment: Payment = Field("no_upfront", description="partial_upfront: half of it")
    price: PriceUsdPerH | None = Field(
        None, ge=0, description="of one reserved node, upfront sums spread over the term; none: by the price list"
    )
    provider: Name | None = Field(None, description="none: the one that the type, or the pools, leave")
    region: Region | None = Field(None, description="of a reservation; none: that of the pools of its type")

    @model_validator(mode="after")
    def _one_kind(self) -> Commitment:
        if (self.reserved is None) == (self.savings_plan is None):
            raise ValueError("takes either reserved, with a count, or savings_plan")
        of_other = ("discount",) if self.reserved is not None else ("count", "price", "region")
        kind = "a reservation" if self.reserved is not None else "a savings plan"
        if given := [name for name in of_other if getattr(self, name) is not None]:
            raise ValueError(f"{', '.join(given)}: is not a setting of {kind}")
        if self.reserved is not None and self.count is None:
            raise ValueError("count: is missing: how many nodes are reserved")
        return self


class Power(Spec):
    """What a core draws."""

    busy: Watts = Field(ge=0, description="while it computes")
    idle: Watts = Field(ge=0, description="while its node is held and it does not")

    @model_validator(mode="after")
    def _ordered(self) -> Power:
        if self.idle > self.busy:
            raise ValueError(f"idle must not be above busy, got {self.idle:g} and {self.busy:g} W")
        return self


class Costs(Spec):
    """What is paid beside nodes, and what they draw; what is left out is not counted."""

    load_balancer: PriceUsdPerH = Field(0.0, ge=0, description="of the router", validate_default=False)
    disk: PriceUsdPerH = Field(0.0, ge=0, description="of each node while it is there", validate_default=False)
    cross_zone: PriceUsdPerGib = Field(
        0.0, ge=0, description="of requests and answers of nodes outside the router's zone", validate_default=False
    )
    power: Power | None = Field(None, description="of a core; gives energy_kwh")
    emissions: KgPerKwh | None = Field(None, ge=0, description="CO2e of the energy; needs power, gives co2e_kg")

    @model_validator(mode="after")
    def _powered(self) -> Costs:
        if self.emissions is not None and self.power is None:
            raise ValueError("power: is missing: emissions are of the energy that cores draw")
        return self
