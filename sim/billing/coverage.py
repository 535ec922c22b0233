"""Who pays for an hour's on-demand usage: reservations, then savings plans, then the list price.

Nodes of one type are alike to a bill: what a commitment covers is shared by all of them in proportion to
their time in the hour, and several reservations of one type are used alike. AWS: if several instances
run, the benefit "is applied to all the instances at the same time up to a maximum of 3600 seconds in a
clock-hour" (EC2 user guide, Usage billing); savings plans "apply to your usage after the Amazon EC2
Reserved Instances", "to your highest savings percentage first", among equal ones to "the lowest Savings
Plans rate" (Savings Plans user guide, Calculating bills).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sim.billing.commitments import Commitment, Reservation, SavingsPlan
from sim.billing.hours import HOUR_NS
from sim.billing.prices import PriceBook

ROUNDING = 1e-12
"""Relative differences up to here are float rounding: no line is written of what they would leave."""


@dataclass(frozen=True, slots=True)
class Cover:
    """A part of one type's on-demand usage, and what is paid for it; `commitment` none: list price."""

    type: str
    commitment: Commitment | None
    node_h: float
    usd: float


@dataclass(frozen=True, slots=True)
class Unused:
    """What nobody used of a commitment; `quantity`: node-hours of a reservation, USD of a savings plan."""

    commitment: Commitment
    quantity: float
    usd: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How the on-demand usage of a clock-hour is paid; the covers of a type add up to its usage."""

    covers: tuple[Cover, ...]
    unused: tuple[Unused, ...]


def cover(usage_ns: Mapping[str, int], committed_ns: int, book: PriceBook) -> Coverage:
    """Pay for the on-demand usage of a clock-hour (node-ns by type, each > 0).

    `committed_ns` is the length of the hour, or of the part of it that lies within the run: commitments
    cover and cost as much of their hour.
    """
    reserved, unreserved_h = _reserve(usage_ns, committed_ns, book.reservations)
    saved, listed_h = _save(unreserved_h, committed_ns / HOUR_NS, book)
    listed = [
        Cover(type_, None, node_h, node_h * book.price(type_).on_demand_usd_per_h) for type_, node_h in listed_h.items()
    ]
    covers = tuple(part for part in (*reserved, *saved, *listed) if part.node_h > 0)
    left = (_unused(commitment, covers, committed_ns / HOUR_NS) for commitment in book.commitments)
    return Coverage(covers, tuple(unused for unused in left if unused is not None))


def _reserve(
    usage_ns: Mapping[str, int], committed_ns: int, reservations: tuple[Reservation, ...]
) -> tuple[list[Cover], dict[str, float]]:
    """Covers by reservations, and node-hours of each type that they leave."""
    counts: Counter[str] = Counter()
    for reservation in reservations:
        counts[reservation.type] += reservation.count
    covers = []
    for reservation in reservations:
        together = counts[reservation.type]
        covered_ns = min(usage_ns.get(reservation.type, 0), together * committed_ns) * reservation.count / together
        node_h = covered_ns / HOUR_NS
        covers.append(Cover(reservation.type, reservation, node_h, node_h * reservation.node_usd_per_h))
    left = {type_: max(0, ns - counts[type_] * committed_ns) / HOUR_NS for type_, ns in usage_ns.items()}
    return covers, left


def _save(left_h: Mapping[str, float], hours: float, book: PriceBook) -> tuple[list[Cover], dict[str, float]]:
    """Covers by savings plans, and node-hours of each type that they leave."""
    left = dict(left_h)
    funds_usd = {plan.name: plan.usd_per_h * hours for plan in book.savings_plans}
    covers = []
    for plan, type_, rate_usd_per_h in _offers(left, book):
        cost_usd, funds = left[type_] * rate_usd_per_h, funds_usd[plan.name]
        share = 1.0 if cost_usd <= funds * (1 + ROUNDING) else funds / cost_usd
        covers.append(Cover(type_, plan, left[type_] * share, cost_usd * share))
        funds_usd[plan.name] = funds - cost_usd if funds - cost_usd > ROUNDING * funds else 0.0
        left[type_] *= 1 - share
    return covers, left


def _offers(types: Iterable[str], book: PriceBook) -> list[tuple[SavingsPlan, str, float]]:
    """(plan, type, USD per node-hour under it): highest discount first, then lowest rate."""
    wanted = set(types)
    ranked = sorted(
        (-discount, book.price(type_).on_demand_usd_per_h * (1 - discount), type_, index)
        for index, plan in enumerate(book.savings_plans)
        for type_, discount in plan.discounts.items()
        if type_ in wanted
    )
    return [(book.savings_plans[index], type_, rate_usd_per_h) for _, rate_usd_per_h, type_, index in ranked]


def _unused(commitment: Commitment, covers: Iterable[Cover], hours: float) -> Unused | None:
    committed_usd = commitment.committed_usd_per_h * hours
    used = [part.usd for part in covers if part.commitment is not None and part.commitment.name == commitment.name]
    left_usd = committed_usd - math.fsum(used)
    if left_usd <= ROUNDING * committed_usd:
        return None
    return Unused(commitment, commitment.quantity_per_h * hours * left_usd / committed_usd, left_usd)
