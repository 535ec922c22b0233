"""What befalls machines: they go and are replaced, are slow or cut off, or their provider takes them (rule 14)."""

from __future__ import annotations

from functools import partial

from serve.policy.service import PER_MILLE
from sim.agenda import Order
from sim.fleets import Fleets
from sim.history import Lease


class Outages:
    """Of the machines of all fleets."""

    def __init__(self, fleets: Fleets) -> None:
        self._fleets, self._machines, self._agenda = fleets, fleets.machines, fleets.agenda
        self._cuts: dict[int, object] = {}

    # -- a machine is lost -----------------------------------------------------------------------------

    def lose(self, machine: int, back_ns: int | None = None) -> None:
        """A machine goes, now, with all that it holds. It is back at an instant; or never, and once that is known
        another one is asked for in its place."""
        fleets, now_ns = self._fleets, self._fleets.now_ns
        asked = machine in self._machines
        here = asked and (back_ns is not None or self._machines[machine].there_ns <= now_ns)
        lease = self._machines[machine] if here else Lease(machine, now_ns)
        if here:
            fleets.history.losses_ns.append(now_ns)
            for node in fleets.nodes_on(machine):
                fleets.plane.lose(node)
            for replica in fleets.on(machine):
                replica.fleet.down(replica)
                replica.lost_with = lease
            self._machines.end(lease, now_ns)
            self._agenda.at(now_ns + fleets.timing.detect_ns, Order.MACHINE, partial(self._notice, lease, back_ns))
        if back_ns is not None:
            self._agenda.at(back_ns, Order.HEAL, partial(self._back, lease))
        if here or back_ns is not None:
            self._machines.withhold(machine, lease)

    def _notice(self, lease: Lease, back_ns: int | None) -> None:
        """A lost machine is known not to be ready."""
        fleets = self._fleets
        for replica in fleets.on(lease.machine):
            if replica.lost_with is lease:
                replica.ready_ns, replica.rotated_ns = None, None
        fleets.rotate()
        evicted_ns = fleets.now_ns + fleets.timing.replace_ns
        self._agenda.at(evicted_ns, Order.MACHINE, partial(self._evict, lease, back_ns))

    def _evict(self, lease: Lease, back_ns: int | None) -> None:
        """What was on a lost machine is wanted elsewhere, or on the machine that comes in its place."""
        fleets = self._fleets
        evicted = [replica for replica in fleets.on(lease.machine) if replica.lost_with is lease]
        for replica in evicted:
            replica.fleet.drop(replica)
        if evicted:
            fleets.note()
        machine = self._machines.all[lease.machine]
        free = back_ns is None and self._machines.release(lease.machine, lease)
        if free and machine.fixed and machine.pool not in self._machines.markets:
            self._machines.rent(lease.machine, fleets.now_ns + machine.provision_ns)
        fleets.fill()

    def _back(self, lease: Lease) -> None:
        """A machine is there again, and what was on it and is not wanted elsewhere starts there."""
        fleets = self._fleets
        if not self._machines.release(lease.machine, lease):
            return
        waiting = [replica for replica in fleets.on(lease.machine) if replica.lost_with is lease]
        if waiting or self._machines.all[lease.machine].fixed:
            self._machines.rent(lease.machine, fleets.now_ns)
        for replica in waiting:
            replica.lost_with, replica.known, replica.ready_ns, replica.started_ns = None, False, None, fleets.now_ns
            replica.fleet.start(replica, fleets.now_ns + replica.fleet.start_up_ns())
        fleets.fill()

    # -- it is slow, or cut off -----------------------------------------------------------------------

    def slow(self, machine: int, per_mille: int, heal_ns: int | None) -> None:
        """A machine takes so many thousandths of its time, until an instant, if one is given."""
        for node in self._fleets.nodes_on(machine):
            self._fleets.plane.slow(node, per_mille)
        if heal_ns is not None:
            self._agenda.at(heal_ns, Order.HEAL, partial(self.slow, machine, PER_MILLE, None))

    def cut(self, machine: int, heal_ns: int | None) -> None:
        """The network between the router and a machine is cut, until an instant, if one is given; the router knows it
        after a while, and that it is whole again after a probe."""
        fleets = self._fleets
        cut = self._cuts[machine] = object()
        for node in fleets.nodes_on(machine):
            fleets.plane.cut(node, True)
        self._agenda.at(fleets.now_ns + fleets.timing.detect_ns, Order.ROTATE, partial(self._cut_off, machine, cut))
        if heal_ns is not None:
            self._agenda.at(heal_ns, Order.HEAL, partial(self._heal, machine, cut))

    def _cut_off(self, machine: int, cut: object) -> None:
        if self._cuts.get(machine) is cut:
            self._machines.unreachable.add(machine)
            self._fleets.rotate()

    def _heal(self, machine: int, cut: object) -> None:
        if self._cuts.get(machine) is not cut:
            return
        del self._cuts[machine]
        for node in self._fleets.nodes_on(machine):
            self._fleets.plane.cut(node, False)
        probed_ns = self._fleets.now_ns + self._fleets.timing.probe_ns
        self._agenda.at(probed_ns, Order.ROTATE, partial(self._reached, machine))

    def _reached(self, machine: int) -> None:
        if machine not in self._cuts and machine in self._machines.unreachable:
            self._machines.unreachable.discard(machine)
            self._fleets.rotate()

    # -- its provider takes it back ---------------------------------------------------------------------

    def retreat(self, lease: Lease) -> None:
        """A machine will be taken back: its replicas leave it, and others are wanted at once."""
        fleets = self._fleets
        if not self._machines.holds(lease):
            return
        self._machines.withhold(lease.machine, lease)
        for replica in fleets.on(lease.machine):
            replica.leaving = True
            if replica.ready_ns is None:
                replica.fleet.gone(replica)
        left_ns = fleets.now_ns + fleets.timing.propagation_ns
        self._agenda.at(left_ns, Order.LEAVE, partial(self._left, lease))
        fleets.fill()
        for replica in fleets.on(lease.machine):
            replica.fleet.changed()

    def _left(self, lease: Lease) -> None:
        """Nothing more is sent to a machine that will be taken back; it ends what it has."""
        fleets = self._fleets
        if not self._machines.holds(lease):
            return
        for replica in fleets.on(lease.machine):
            replica.rotated_ns = None
        fleets.rotate()
        for node in fleets.nodes_on(lease.machine):
            fleets.plane.drain(node)

    def reclaim(self, lease: Lease, *, noticed: bool) -> None:
        """A machine is taken back, now; without a notice that is like its loss."""
        fleets, machine = self._fleets, lease.machine
        if not self._machines.holds(lease):
            self._machines.release(machine, lease)
            return
        fleets.history.reclaims_ns.append(fleets.now_ns)
        if not noticed:
            self.lose(machine)
            fleets.history.losses_ns.pop()
            lease.reclaimed = True
            return
        for node in fleets.nodes_on(machine):
            fleets.plane.lose(node)
        for replica in fleets.on(machine):
            replica.fleet.down(replica)
            replica.fleet.drop(replica)
        self._machines.end(lease, fleets.now_ns, reclaimed=True)
        self._machines.release(machine, lease)
        fleets.rotate()
        fleets.note()
        fleets.fill()
