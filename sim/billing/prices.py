"""The price book: what machines, commitments and everything beside them cost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from sim.billing.commitments import Commitment, Reservation, SavingsPlan, require_not_negative


@dataclass(frozen=True, slots=True)
class SpotPrice:
    """Spot price of one node over time: `usd_per_h[i]` from `from_ns[i]` on, until the next.

    Raises
    ------
    ValueError : the instants do not ascend from 0, not as many prices as instants, or a price below 0.
    """

    from_ns: tuple[int, ...]
    usd_per_h: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.from_ns[:1] != (0,) or any(a >= b for a, b in pairwise(self.from_ns)):
            raise ValueError(f"spot price: from_ns must ascend from 0, got {self.from_ns}")
        if len(self.usd_per_h) != len(self.from_ns):
            raise ValueError(f"spot price: must have {len(self.from_ns)} prices, got {len(self.usd_per_h)}")
        for price in self.usd_per_h:
            require_not_negative("spot price", usd_per_h=price)

    @classmethod
    def constant(cls, usd_per_h: float) -> SpotPrice:
        """One price throughout."""
        return cls((0,), (usd_per_h,))

    def pieces(self, start_ns: int, end_ns: int) -> Iterator[tuple[int, int, float]]:
        """(start in ns, end in ns, USD/h) of each stretch of one price between two instants >= 0.

        >>> list(SpotPrice((0, 5), (0.1, 0.3)).pieces(2, 9))
        [(2, 5, 0.1), (5, 9, 0.3)]
        """
        index = bisect_right(self.from_ns, start_ns) - 1
        while start_ns < end_ns:
            last = index + 1 == len(self.from_ns)
            until_ns = end_ns if last else min(end_ns, self.from_ns[index + 1])
            yield start_ns, until_ns, self.usd_per_h[index]
            start_ns, index = until_ns, index + 1


@dataclass(frozen=True, slots=True)
class TypePrice:
    """What one node of a hardware type costs.

    Raises
    ------
    ValueError : a price or the minimum below 0.
    """

    on_demand_usd_per_h: float
    """Its list price."""
    spot: SpotPrice | None = None
    """None: not sold as spot."""
    minimum_s: int = 60
    """Least time that is billed of a node that was released."""
    refund_first_hour: bool = False
    """Whether spot is free if the provider reclaims it within its first hour (AWS: true)."""

    def __post_init__(self) -> None:
        require_not_negative("type", on_demand_usd_per_h=self.on_demand_usd_per_h, minimum_s=self.minimum_s)


@dataclass(frozen=True, slots=True)
class Extras:
    """What is paid beside machines.

    Raises
    ------
    ValueError : a price below 0.
    """

    load_balancer_usd_per_h: float = 0.0
    disk_usd_per_node_h: float = 0.0
    cross_zone_usd_per_gib: float = 0.0

    def __post_init__(self) -> None:
        require_not_negative(
            "extras",
            load_balancer_usd_per_h=self.load_balancer_usd_per_h,
            disk_usd_per_node_h=self.disk_usd_per_node_h,
            cross_zone_usd_per_gib=self.cross_zone_usd_per_gib,
        )


NO_EXTRAS = Extras()


@dataclass(frozen=True, slots=True)
class EnergyRates:
    """Power of a core that works and of one that is held idle, and what a kWh emits (none: not known).

    Raises
    ------
    ValueError : a rate below 0.
    """

    busy_w_per_core: float
    idle_w_per_core: float
    co2e_kg_per_kwh: float | None = None

    def __post_init__(self) -> None:
        require_not_negative(
            "energy",
            busy_w_per_core=self.busy_w_per_core,
            idle_w_per_core=self.idle_w_per_core,
            co2e_kg_per_kwh=self.co2e_kg_per_kwh or 0.0,
        )


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All that a bill is written from.

    Raises
    ------
    ValueError : two commitments of one name, or a reservation of a type without a price.
    """

    types: Mapping[str, TypePrice]
    reservations: tuple[Reservation, ...] = ()
    savings_plans: tuple[SavingsPlan, ...] = ()
    extras: Extras = NO_EXTRAS
    energy: EnergyRates | None = None

    def __post_init__(self) -> None:
        names = [commitment.name for commitment in self.commitments]
        if len(set(names)) != len(names):
            raise ValueError(f"names of commitments must differ, got {names}")
        for reservation in self.reservations:
            self.price(reservation.type)

    @property
    def commitments(self) -> tuple[Commitment, ...]:
        """Reservations, then savings plans."""
        return (*self.reservations, *self.savings_plans)

    def price(self, type_: str) -> TypePrice:
        """Price of a type; ValueError if it has none."""
        if type_ not in self.types:
            raise ValueError(f"no price of type {type_!r}; there are {', '.join(sorted(self.types)) or 'none'}")
        return self.types[type_]

    def spot_price(self, type_: str) -> SpotPrice:
        """Spot price of a type; ValueError if it is not sold as spot."""
        spot = self.price(type_).spot
        if spot is None:
            raise ValueError(f"no spot price of type {type_!r}")
        return spot
