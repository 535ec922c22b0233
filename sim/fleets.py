"""All fleets of a deployment on one plane, which share its machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sim.agenda import Agenda
from sim.fleet import Fleet, FleetPlan, Replica, Timing
from sim.history import History
from sim.machines import Machines
from sim.plane import Plane


class Fleets:
    """What befalls a machine befalls the replicas of each of them; what becomes free there goes to the first that wants
    it.

    Parameters
    ----------
    plans : by group of the plane.
    routed : a router must be told who is in rotation.
    """

    def __init__(
        self,
        plane: Plane,
        agenda: Agenda,
        history: History,
        machines: Machines,
        plans: Sequence[FleetPlan],
        *,
        routed: bool,
    ) -> None:
        self.plane, self.agenda, self.history, self.machines = plane, agenda, history, machines
        self.all = [Fleet(plane, agenda, history, machines, plan, routed=routed) for plan in plans]
        self._nodes: dict[int, set[int]] = defaultdict(set)
        self._fleet_of: dict[int, Fleet] = {}
        for fleet in self.all:
            for slot in fleet.plan.slots:
                self._nodes[slot.machine].add(slot.node)
                self._fleet_of[slot.node] = fleet
        machines.freed = self.fill
        for number, machine in enumerate(machines.all):
            if machine.fixed and machines.markets.get(machine.pool) is None:
                machines.rent(number, 0)

    @property
    def now_ns(self) -> int:
        """Instant of the plane's last stop."""
        return self.plane.now_ns

    @property
    def timing(self) -> Timing:
        """How soon failures are noticed, which is the same for all."""
        return self.all[0].timing

    def nodes_on(self, machine: int) -> list[int]:
        """The plane's nodes on a machine, in order."""
        return sorted(self._nodes[machine])

    def on(self, machine: int) -> list[Replica]:
        """The replicas on a machine, fleet by fleet, by number."""
        here = [r for fleet in self.all for r in fleet.replicas.values() if r.slot.machine == machine]
        return sorted(here, key=lambda replica: (replica.fleet.plan.group, replica.number))

    def at_place(self, node: int, number: int) -> Replica:
        """The replica of a plane's node."""
        replicas = self._fleet_of[node].replicas.values()
        return next(r for r in replicas if r.slot.node == node and r.slot.replica == number)

    def fill(self) -> None:
        """Replicas that are wanted begin, as far as there is room."""
        for fleet in self.all:
            fleet.fill()

    def rotate(self) -> None:
        """The router is told which nodes to send to."""
        for fleet in self.all:
            fleet.rotate()

    def note(self) -> None:
        """How many replicas there are, is written down."""
        for fleet in self.all:
            fleet.note()
