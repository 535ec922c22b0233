"""What a deployment is billed by: prices that its file leaves out are looked up, and its price book is made.

The price list is the catalogue that ships with this package, with the deployment's own price file over it. What a file
says itself goes before the list. Commitments are priced in `sim.committing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.costs import Costs
from serve.deployment import Deployment, Pool
from serve.errors import SpecError
from serve.files import resolve
from sim.billing.prices import EnergyRates, Extras, PriceBook, SpotPrice, TypePrice
from sim.catalogue.load import load_catalogue
from sim.catalogue.offers import Catalogue, Offer
from sim.committing import Bought, Notes, commitments_of

REFUNDS = frozenset({"aws"})
"""Providers that charge nothing for spot which they take back within its first hour."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A deployment whose pools have their hardware and prices, and what it is billed by."""

    deployment: Deployment
    book: PriceBook
    types: Mapping[str, str]
    """By pool: its nodes' type in the book. On-demand nodes of one machine type and region are one."""
    warnings: tuple[str, ...] = ()
    """Prices that are no list prices, with what they rest on."""


def priced(deployment: Deployment, base: Path) -> Priced:
    """Look up what the deployment's file leaves out; `base` is the folder that its price file is relative to.

    Raises
    ------
    SpecError : every type, region and price that is not known.
    """
    catalogue, notes = _catalogue(deployment, base), Notes()
    bought = {name: _bought(name, pool, catalogue, notes) for name, pool in deployment.pools.items()}
    if notes.faults:
        raise SpecError(notes.faults)
    prices = _type_prices(bought, notes)
    reservations, plans = commitments_of(deployment.commitments, bought, prices, catalogue, notes)
    if notes.faults:
        raise SpecError(notes.faults)
    book = PriceBook(prices, reservations, plans, _extras(deployment.costs), _energy(deployment.costs))
    pools = {name: one.pool for name, one in bought.items()}
    types = {name: one.type for name, one in bought.items()}
    return Priced(deployment.model_copy(update={"pools": pools}), book, types, tuple(notes.warnings))


def _catalogue(deployment: Deployment, base: Path) -> Catalogue:
    types = any(pool.type is not None for pool in deployment.pools.values())
    if not (types or deployment.prices or deployment.commitments):
        return Catalogue({})  # nobody looks at it, and reading it takes a while
    return load_catalogue(None if deployment.prices is None else resolve(base / "deployment.yaml", deployment.prices))


def _bought(name: str, pool: Pool, catalogue: Catalogue, notes: Notes) -> Bought:
    """The pool with its hardware, price and origin."""
    offer = _offer(name, pool, catalogue, notes)
    filled: dict[str, object] = {"price_origin": pool.price_origin or "assumed"}
    if offer is not None:
        quote = offer.on_demand if pool.buy == "on_demand" else offer.spot
        filled |= {field: value for field, value in _hardware(offer).items() if getattr(pool, field) is None}
        if pool.price is None and quote is None:
            notes.fault(f"pools.{name}.price", f"is missing: no spot price of {pool.type} is known")
        elif pool.price is None and quote is not None:
            filled |= {"price": quote.usd_per_h, "price_origin": quote.origin}
            notes.rests_on(f"pools.{name}.price", quote)
    region = pool.region or "" if offer is None else offer.region
    # A commitment covers what is bought on demand and of one type; whatever else a pool buys is a type of its own.
    type_ = name if pool.type is None or pool.buy == "spot" else f"{pool.type}@{region}"
    return Bought(pool.model_copy(update=filled), type_, offer)


def _hardware(offer: Offer) -> dict[str, int | None]:
    """What a machine of an offer has, by the fields of a pool."""
    accelerator = offer.accelerator
    return {
        "cores": offer.vcpus,
        "memory": offer.memory_bytes,
        "accelerators": 0 if accelerator is None else math.ceil(accelerator.count),
        "accelerator_memory": None if accelerator is None else accelerator.memory,
    }


def _offer(name: str, pool: Pool, catalogue: Catalogue, notes: Notes) -> Offer | None:
    """The offer of a pool's type; none where it names none, or one of which its own file says all."""
    if pool.type is None:
        return None
    try:
        return catalogue.only_offer(pool.type, pool.provider, pool.region)
    except LookupError as error:
        if pool.cores is None or pool.price is None:
            notes.fault(f"pools.{name}.type", f"{error.args[0]}; or write cores and price")
        return None


def _type_prices(bought: Mapping[str, Bought], notes: Notes) -> dict[str, TypePrice]:
    """The price of each type of the book."""
    prices: dict[str, TypePrice] = {}
    for name, one in bought.items():
        price = _type_price(one)
        if prices.setdefault(one.type, price).on_demand_usd_per_h != price.on_demand_usd_per_h:
            other = next(n for n, each in bought.items() if each.type == one.type)
            notes.fault(f"pools.{name}.price", f"must be that of pools.{other}, which buys the same machines")
    return prices


def _type_price(one: Bought) -> TypePrice:
    pool, offer = one.pool, one.offer
    assert pool.price is not None
    if pool.buy == "on_demand":
        spot = None if offer is None or offer.spot is None else SpotPrice.constant(offer.spot.usd_per_h)
        return TypePrice(pool.price, spot)
    refunds = one.provider in REFUNDS if pool.refund_first_hour is None else pool.refund_first_hour
    listed = pool.price if offer is None else max(pool.price, offer.on_demand.usd_per_h)
    return TypePrice(listed, SpotPrice.constant(pool.price), refund_first_hour=refunds)


def _extras(costs: Costs) -> Extras:
    return Extras(costs.load_balancer, costs.disk, costs.cross_zone)


def _energy(costs: Costs) -> EnergyRates | None:
    return None if costs.power is None else EnergyRates(costs.power.busy, costs.power.idle, costs.emissions)
