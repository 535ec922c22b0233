"""What fails, and when: what a scenario's events say, and what is drawn from mean times between failures (rule 14)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from sim.agenda import Agenda, Order
from sim.fleets import Fleets
from sim.outages import Outages

Kind = Literal["lose", "slow", "cut", "crash", "hang"]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that befalls machines, all at once, or a replica.

    `heal_ns` is when it is over; None: never, or, of a loss, when the machines have been replaced. `per_mille` is what
    service takes on a slow machine, in thousandths of what it should.
    """

    at_ns: int
    kind: Kind
    machines: tuple[int, ...] = ()
    group: int = 0
    replica: int = -1
    heal_ns: int | None = None
    per_mille: int = 1000


def instants(rng: np.random.Generator, mean_ns: float) -> Iterator[int]:
    """Instants of failures with exponential gaps."""
    at_ns = 0.0
    while True:
        at_ns += rng.exponential(mean_ns)
        yield round(at_ns)


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails in one replication: acts in the order of their file, instants by machine, and by group and replica."""

    acts: Sequence[Act] = ()
    losses: Callable[[int], Iterator[int]] | None = None
    crashes: Callable[[int, int], Iterator[int]] | None = None


class Failures:
    """Has them come about."""

    def __init__(self, failing: Failing, fleets: Fleets, outages: Outages, agenda: Agenda) -> None:
        self._fleets, self._outages, self._agenda = fleets, outages, agenda
        for act in failing.acts:
            agenda.at(act.at_ns, Order.FAILURE, partial(self._befall, act))
        if failing.losses is not None:
            for machine in range(len(fleets.machines.all)):
                self._next(failing.losses(machine), outages.lose, machine)
        if failing.crashes is not None:
            for fleet in fleets.all:
                for number in range(len(fleet.plan.slots)):
                    crash = partial(self._crash, fleet.plan.group)
                    self._next(failing.crashes(fleet.plan.group, number), crash, number)

    def _next(self, at_ns: Iterator[int], fail: Callable[[int], None], which: int) -> None:
        def event() -> None:
            fail(which)
            self._next(at_ns, fail, which)

        self._agenda.at(next(at_ns), Order.FAILURE, event)

    def _befall(self, act: Act) -> None:
        for machine in act.machines:
            if act.kind == "lose":
                self._outages.lose(machine, act.heal_ns)
            elif act.kind == "slow":
                self._outages.slow(machine, act.per_mille, act.heal_ns)
            else:
                self._outages.cut(machine, act.heal_ns)
        if act.kind == "crash":
            self._crash(act.group, act.replica)
        elif act.kind == "hang":
            self._hang(act.group, act.replica)

    def _crash(self, group: int, number: int) -> None:
        """A replica's process dies, if it is up."""
        replica = self._fleets.all[group].replicas.get(number)
        if replica is not None and replica.up:
            self._fleets.plane.kill(replica.slot.replica, replica.slot.node)
            replica.fleet.died(replica)

    def _hang(self, group: int, number: int) -> None:
        """What a replica computes never ends, if it is up."""
        replica = self._fleets.all[group].replicas.get(number)
        if replica is not None and replica.up:
            self._fleets.plane.hang(replica.slot.replica, replica.slot.node)
