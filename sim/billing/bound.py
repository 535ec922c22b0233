"""The perfect-system bound: what the same answers would cost a fleet without loss.

Every ok request's rows at the cheapest of all pools and batch sizes, fractional machines, no idle time, no
cold start: price x tau(b, 0) x threads / (b x cores) a row, with tau(b, 0) the mean service time of a batch
of b rows on an otherwise idle machine. No bill of nodes on which replicas have no more threads than cores
is below it, except by machine time that a provider gave for free (`refund_first_hour`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.billing.hours import HOUR_NS
from sim.billing.prices import PriceBook


@dataclass(frozen=True, slots=True)
class Choice:
    """One pool that a model may run on.

    Raises
    ------
    ValueError : no batch size, or a batch of no rows.
    """

    usd_per_h: float
    """Cheapest price of a node of it (`cheapest_usd_per_h`)."""
    cores: int
    threads: int
    service_ns: Mapping[int, float]
    """tau(b, 0) by batch rows b."""

    def __post_init__(self) -> None:
        if min(self.service_ns, default=0) < 1:
            raise ValueError(f"service_ns must have batches of >= 1 row, got {sorted(self.service_ns)}")

    @property
    def usd_per_row(self) -> float:
        """At the batch size that is cheapest."""
        core_ns = min(tau_ns * self.threads / rows for rows, tau_ns in self.service_ns.items())
        return self.usd_per_h / HOUR_NS * core_ns / self.cores


def cheapest_usd_per_h(type_: str, book: PriceBook, from_ns: int, until_ns: int) -> float:
    """Cheapest listed purchase of one node between two instants: on-demand, spot, reserved or under a plan.

    Raises
    ------
    ValueError : the type has no price.
    """
    price = book.price(type_)
    listed = [price.on_demand_usd_per_h]
    if price.spot is not None:
        listed += [usd_per_h for _, _, usd_per_h in price.spot.pieces(from_ns, until_ns)]
    listed += [reservation.node_usd_per_h for reservation in book.reservations if reservation.type == type_]
    listed += [price.on_demand_usd_per_h * (1 - plan.discounts.get(type_, 0.0)) for plan in book.savings_plans]
    return min(listed)


def perfect_usd(ok_rows: Mapping[str, float], choices: Mapping[str, Sequence[Choice]]) -> float:
    """Least that the rows of ok requests, by model, could have cost; `choices`: the pools of each model.

    Raises
    ------
    ValueError : a model with rows has no choice.
    """
    for model in ok_rows:
        if not choices.get(model):
            raise ValueError(f"no pool to run {model!r} on")
    return sum(rows * min(choice.usd_per_row for choice in choices[model]) for model, rows in ok_rows.items())
