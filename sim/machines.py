"""Machines that replicas run on: which are there, and which of the others could be had (rules 14 and 15)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from serve.policy.scaling.placement import Size
from sim.agenda import Agenda, Order
from sim.history import History, Lease
from sim.plane import Estate
from sim.spot import Market


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a replica can run: of a plane's node, the replica of this number; on which machine."""

    node: int
    replica: int = 0
    machine: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that can hold replicas: always there if `fixed`, else asked for when a replica needs it; `spot` if its
    provider may take it back."""

    fixed: bool = True
    provision_ns: int = 0
    empty_after_ns: int = 0
    pool: str = ""
    size: Size | None = None
    """None: there is room for all that has a slot there."""
    spot: bool = False


def slots_of(estate: Estate) -> tuple[Slot, ...]:
    """Every replica of every node, in order."""
    return tuple(
        Slot(number, replica, number) for number, node in enumerate(estate.nodes) for replica in range(node.replicas)
    )


class Machines:
    """All machines of a deployment that can hold replicas, by number.

    Parameters
    ----------
    markets : by pool, of those whose machines may not be there to be had, or be taken back.
    freed : is called when machines can be had that could not be before.
    """

    def __init__(
        self, machines: Sequence[Machine], markets: Mapping[str, Market], agenda: Agenda, history: History
    ) -> None:
        self.all, self.markets = machines, markets
        self._agenda, self._history = agenda, history
        self._leases: dict[int, Lease] = {}
        self._down: dict[int, object] = {}
        self._held: dict[int, list[Size]] = defaultdict(list)
        """What replicas take, by machine."""
        self.unreachable: set[int] = set()
        """Machines that the router knows it cannot reach."""
        self.freed: Callable[[], None] = lambda: None
        self.rented: Callable[[Lease], None] = lambda lease: None

    def __contains__(self, machine: int) -> bool:
        return machine in self._leases

    def __getitem__(self, machine: int) -> Lease:
        return self._leases[machine]

    def holds(self, lease: Lease) -> bool:
        """Whether a machine that was handed over is still there."""
        return self._leases.get(lease.machine) is lease

    def of_pool(self, pool: str) -> list[Lease]:
        """The machines of a pool that are there, or on their way, by number."""
        return [self._leases[number] for number in sorted(self._leases) if self.all[number].pool == pool]

    # -- what is on them -----------------------------------------------------------------------------------

    def take(self, machine: int, size: Size) -> None:
        """A replica has its place there."""
        self._held[machine].append(size)

    def give(self, machine: int, size: Size) -> None:
        """It has none any more."""
        self._held[machine].remove(size)

    def is_empty(self, machine: int) -> bool:
        """Whether no replica has its place there."""
        return not self._held[machine]

    def _has_room(self, machine: int, size: Size) -> bool:
        left = self.all[machine].size
        if left is None:
            return True
        for held in self._held[machine]:
            left = left.without(held)
        return left.holds(size)

    # -- which can be had ----------------------------------------------------------------------------------

    def withhold(self, machine: int, why: object) -> None:
        """A machine cannot be had until it is given free for the same reason."""
        self._down[machine] = why

    def release(self, machine: int, why: object) -> bool:
        """It can be had again, if it is withheld for this reason still."""
        if self._down.get(machine) is not why:
            return False
        del self._down[machine]
        return True

    def places(self, free: Sequence[Slot], size: Size, now_ns: int, *, at_once: bool = False) -> Iterator[Slot]:
        """Of the slots that are free those that a replica of a size can have, which it takes before the next is
        asked for: first where machines are, then where they can be had, which are asked for as they are taken, and
        there `at_once` or when they are provisioned."""
        usable = [slot for slot in free if slot.machine not in self._down]
        for slot in sorted(usable, key=lambda slot: slot.machine not in self._leases):  # stable: else as preferred
            if not self._has_room(slot.machine, size):
                continue
            if slot.machine not in self._leases:
                answer = self._ask(slot.machine, now_ns, at_once)
                if answer is None:
                    return
                if not answer:
                    continue
            yield slot

    def _ask(self, machine: int, now_ns: int, at_once: bool) -> bool | None:
        """Whether a machine is had; None: it may yet be, and nothing else is asked for meanwhile."""
        market = self.markets.get(self.all[machine].pool)
        if market is not None and not market.has(len(self.of_pool(self.all[machine].pool)), now_ns):
            asked_ns, waits = market.refuse(now_ns)
            if asked_ns is not None:
                self._agenda.at(asked_ns, Order.MACHINE, lambda: self.freed())
            return None if waits else False
        self.rent(machine, now_ns + (0 if at_once else self.all[machine].provision_ns))
        return True

    # -- which are there -----------------------------------------------------------------------------------

    def rent(self, machine: int, there_ns: int) -> None:
        """A machine is there from an instant on; it is paid from then."""
        lease = self._leases[machine] = Lease(machine, there_ns)
        self._history.leases.append(lease)
        self.rented(lease)

    def end(self, lease: Lease, now_ns: int, *, reclaimed: bool = False) -> None:
        """A machine is not there any more."""
        del self._leases[lease.machine]
        lease.gone_ns, lease.reclaimed = now_ns, reclaimed
