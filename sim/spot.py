"""Spot machines: which can be had, and which their provider takes back, with a notice or without (rules 14 and 15)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sim.agenda import Agenda, Order
from sim.history import Lease

if TYPE_CHECKING:
    from sim.machines import Machines
    from sim.outages import Outages


@dataclass(frozen=True, slots=True)
class Supply:
    """How many machines of a pool can be had at all: `available[i]` from `starts_ns[i]` on, ascending from 0."""

    starts_ns: tuple[int, ...]
    available: tuple[int, ...]

    def at(self, now_ns: int) -> int:
        """Machines that can be had at an instant."""
        return self.available[bisect_right(self.starts_ns, now_ns) - 1]


@dataclass(slots=True)
class Market:
    """Where a pool's machines come from.

    Parameters
    ----------
    patience_ns : how long one that cannot be had is waited for, before others are asked for instead.
    retry_ns : how long the pool is then passed over.
    supply : how many there are; None: as many as the pool may have.
    notice_ns, no_notice : how long before it is taken back that is known, but for a share that is not told at all.
    lifetime_ns : draws how long a machine is left, by its number; None: until the supply falls.
    """

    rng: np.random.Generator
    patience_ns: int = 0
    retry_ns: int = 0
    supply: Supply | None = None
    notice_ns: int = 0
    no_notice: float = 0.0
    lifetime_ns: Callable[[int], int] | None = None
    _asked_ns: int | None = field(default=None, init=False)
    _passed_until_ns: int = field(default=0, init=False)

    def has(self, held: int, now_ns: int) -> bool:
        """Whether another machine can be had beside those held."""
        if now_ns < self._passed_until_ns:
            return False
        if self.supply is not None and held >= self.supply.at(now_ns):
            return False
        self._asked_ns = None
        return True

    def refuse(self, now_ns: int) -> tuple[int | None, bool]:
        """Of a machine that cannot be had: when to ask again (None: somebody will), and whether to wait until then."""
        if now_ns < self._passed_until_ns:
            return None, False
        if self._asked_ns is None and self.patience_ns > 0:
            self._asked_ns = now_ns
            return now_ns + self.patience_ns, True
        if self._asked_ns is not None and now_ns < self._asked_ns + self.patience_ns:
            return None, True
        self._asked_ns, self._passed_until_ns = None, now_ns + self.retry_ns
        return self._passed_until_ns, False

    def is_told(self) -> bool:
        """Whether the next machine that is taken back is told before; drawn."""
        return bool(self.rng.random() >= self.no_notice)


class Reclaims:
    """Takes machines back: when their time is up, or when fewer can be had than are held."""

    def __init__(self, machines: Machines, outages: Outages, agenda: Agenda) -> None:
        self._machines, self._outages, self._agenda = machines, outages, agenda
        self._doomed: set[int] = set()
        """Machines that will be taken back at the next fall of the supply, by number."""
        machines.rented = self._rented
        for pool, market in machines.markets.items():
            if market.supply is not None:
                self._await(pool, market, 1)

    def _rented(self, lease: Lease) -> None:
        """A machine was handed over: if its time is drawn, it is known."""
        market = self._machines.markets.get(self._machines.all[lease.machine].pool)
        if market is None or market.lifetime_ns is None:
            return
        at_ns, told = lease.there_ns + market.lifetime_ns(lease.machine), market.is_told()
        if told:
            warned_ns = max(lease.there_ns, at_ns - market.notice_ns)
            self._agenda.at(warned_ns, Order.NOTICE, partial(self._outages.retreat, lease))
        self._agenda.at(at_ns, Order.FAILURE, partial(self._outages.reclaim, lease, noticed=told))

    # -- by the supply -------------------------------------------------------------------------------------

    def _await(self, pool: str, market: Market, change: int) -> None:
        """The next change of a pool's supply."""
        assert market.supply is not None
        if change == len(market.supply.starts_ns):
            return
        at_ns = market.supply.starts_ns[change]
        warned_ns = max(0 if change == 1 else market.supply.starts_ns[change - 1], at_ns - market.notice_ns)
        self._agenda.at(warned_ns, Order.NOTICE, partial(self._warn, pool, market, change))

    def _warn(self, pool: str, market: Market, change: int) -> None:
        """Those that will be too many are chosen, and told."""
        assert market.supply is not None
        chosen = [(lease, market.is_told()) for lease in self._victims(pool, market, market.supply.available[change])]
        at_ns = market.supply.starts_ns[change]
        self._agenda.at(at_ns, Order.FAILURE, partial(self._change, pool, market, change, chosen))
        for lease, told in chosen:
            self._doomed.add(lease.machine)
            if told:
                self._outages.retreat(lease)

    def _victims(self, pool: str, market: Market, available: int) -> list[Lease]:
        """Those that are too many, drawn among those held in the order of their numbers."""
        held = [lease for lease in self._machines.of_pool(pool) if lease.machine not in self._doomed]
        count = max(0, len(held) - available)
        chosen = sorted(market.rng.permutation(len(held))[:count].tolist()) if count else []
        return [held[i] for i in chosen]

    def _change(self, pool: str, market: Market, change: int, chosen: list[tuple[Lease, bool]]) -> None:
        """The supply is another: those chosen are taken back, and any that came meanwhile and are too many."""
        assert market.supply is not None
        for lease, told in chosen:
            self._doomed.discard(lease.machine)
            self._outages.reclaim(lease, noticed=told)
        for lease in self._victims(pool, market, market.supply.available[change]):
            self._outages.reclaim(lease, noticed=False)
        self._await(pool, market, change + 1)
        self._machines.freed()
