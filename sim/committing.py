"""Commitments of a deployment's file as the bill takes them: what is reserved or covered, and at which price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve.costs import Commitment
from serve.deployment import Pool
from serve.errors import Fault
from sim.billing.commitments import YEAR_H, Reservation, SavingsPlan
from sim.billing.prices import TypePrice
from sim.catalogue.offers import Catalogue, Offer, Quote

TERM_H = {"1y": YEAR_H, "3y": 3 * YEAR_H}
UPFRONT = {"no_upfront": 0.0, "partial_upfront": 0.5, "all_upfront": 1.0}
"""Share of a commitment that is paid at its begin."""

WEAK = ("assumed", "projected")
"""Origins of a price that a Result says it rests on."""


@dataclass(frozen=True, slots=True)
class Bought:
    """A pool with cores and price, its nodes' type in the price book, and its offer if the price list has one."""

    pool: Pool
    type: str
    offer: Offer | None

    @property
    def provider(self) -> str | None:
        """Who sells it, if that is known."""
        return self.pool.provider if self.offer is None else self.offer.provider


@dataclass(frozen=True, slots=True)
class Notes:
    """What is wrong with the prices that were looked up, and what is odd."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, path: str, what: str) -> None:
        """A field of the deployment that will not do."""
        self.faults.append(Fault("deployment", path, what))

    def rests_on(self, path: str, quote: Quote) -> None:
        """A price that is no list price is told."""
        if quote.origin in WEAK:
            source = f"{quote.source.document}, {quote.source.date}"
            self.warnings.append(f"{path}: {quote.usd_per_h:.4g} USD/h is {quote.origin}, not listed ({source})")


def commitments_of(
    commitments: Mapping[str, Commitment],
    bought: Mapping[str, Bought],
    prices: dict[str, TypePrice],
    catalogue: Catalogue,
    notes: Notes,
) -> tuple[tuple[Reservation, ...], tuple[SavingsPlan, ...]]:
    """Reservations and savings plans of a file, those without a known price noted; types that only they name are
    added to `prices`."""
    reservations, plans = [], []
    on_demand = [one for one in bought.values() if one.pool.buy == "on_demand"]
    for name, one in commitments.items():
        if one.savings_plan is not None:
            plans.append(_plan(name, one, one.savings_plan, on_demand, notes))
        else:
            reservations.append(_reservation(name, one, on_demand, prices, catalogue, notes))
    return tuple(r for r in reservations if r is not None), tuple(p for p in plans if p is not None)


def _reservation(
    name: str,
    one: Commitment,
    on_demand: list[Bought],
    prices: dict[str, TypePrice],
    catalogue: Catalogue,
    notes: Notes,
) -> Reservation | None:
    assert one.reserved is not None and one.count is not None
    where = f"commitments.{name}"
    covered = {each.type: each for each in on_demand if each.pool.type == one.reserved}
    covered = {type_: each for type_, each in covered.items() if one.region in (None, type_.partition("@")[2])}
    if len(covered) > 1:
        notes.fault(f"{where}.region", f"is missing: pools buy {', '.join(covered)}")
        return None
    if covered:
        type_, offer = next((type_, each.offer) for type_, each in covered.items())
    else:
        try:
            offer = catalogue.only_offer(one.reserved, one.provider, one.region)
        except LookupError as error:
            notes.fault(f"{where}.reserved", f"is the type of no on-demand pool, and {error.args[0]}")
            return None
        type_ = f"{one.reserved}@{offer.region}"
        prices.setdefault(type_, TypePrice(offer.on_demand.usd_per_h))
        notes.warnings.append(f"{where}.reserved: no on-demand pool buys {one.reserved}: it is paid and never used")
    usd_per_h = _reserved_usd_per_h(where, one, offer, notes)
    if usd_per_h is None:
        return None
    upfront, term_h = UPFRONT[one.payment], TERM_H[one.term]
    return Reservation(name, type_, one.count, term_h, usd_per_h * upfront * term_h, usd_per_h * (1 - upfront))


def _reserved_usd_per_h(where: str, one: Commitment, offer: Offer | None, notes: Notes) -> float | None:
    """Price of one reserved node, upfront sums spread over the term."""
    if one.price is not None:
        return one.price
    quote = None if offer is None else offer.committed("reserved", one.term, one.payment)
    if quote is None:
        what = f"no price of {one.reserved}, reserved for {one.term} with {one.payment}, is known"
        notes.fault(f"{where}.price", f"is missing: {what}")
        return None
    notes.rests_on(f"{where}.price", quote)
    return quote.usd_per_h


def _plan(name: str, one: Commitment, usd_per_h: float, on_demand: list[Bought], notes: Notes) -> SavingsPlan | None:
    discounts: dict[str, float] = {}
    for each in on_demand:
        if one.provider in (None, each.provider):
            discount = _discount(f"commitments.{name}.discount", one, each.offer, notes)
            discounts |= {} if discount is None else {each.type: discount}
    if not discounts:
        what = f"no discount for {one.term} with {one.payment} is known for any on-demand pool"
        notes.fault(f"commitments.{name}.discount", f"is missing: {what}")
        return None
    term_h = TERM_H[one.term]
    return SavingsPlan(name, usd_per_h, discounts, term_h, usd_per_h * UPFRONT[one.payment] * term_h)


def _discount(where: str, one: Commitment, offer: Offer | None, notes: Notes) -> float | None:
    """Off the list price of an offer under a plan; none: it does not hold for it."""
    if one.discount is not None or offer is None:
        return one.discount
    quote = offer.committed("savings_plan", one.term, one.payment)
    if quote is None:
        return None
    notes.rests_on(where, quote)
    return 1 - quote.usd_per_h / offer.on_demand.usd_per_h
