"""Replicas on machines: how they come, die and go (rules 8, 15 and 19)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from serve.policy import respawn
from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.roster import comers, step_of
from sim.agenda import Agenda, Order
from sim.history import History, Lease, Up
from sim.machines import Machines, Slot
from sim.plane import Plane

POLL_NS = SECOND_NS
"""How often it is looked whether a queue that drains is empty."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take that the plane knows nothing of, in ns.

    `start_up_ns` from wanting a replica to its being ready, `probe_ns` from there until it is sent anything,
    `propagation_ns` from wanting one less until nothing more is sent to it, `drain_limit_ns` until it is killed;
    `detect_ns` from a node's loss until it is known not to be ready, `replace_ns` from there until its replicas are
    wanted elsewhere.
    """

    start_up_ns: int
    probe_ns: int = 0
    propagation_ns: int = 0
    drain_limit_ns: int = 30 * SECOND_NS
    detect_ns: int = 40 * SECOND_NS
    replace_ns: int = 300 * SECOND_NS


@dataclass(slots=True)
class Replica:
    """A replica, and what is believed of it."""

    number: int
    slot: Slot
    started_ns: int
    ready_ns: int | None = None
    """Since when it is ready, as far as anybody knows; None: it starts, or starts again."""
    up: bool = False
    known: bool = False
    """Whether the plane knows of it: it was ready once."""
    in_rotation: bool = False
    leaving: bool = False
    drained: bool = False
    life: int = 0
    """What was begun in an earlier life of it comes to nothing."""
    deaths: int = 0
    """In a row."""
    lost_with: Lease | None = None
    """The machine that it was lost with, until it is given up or that is back."""


class Fleet:
    """One model's replicas on a plane; as many as are `wanted` come as soon as there is room.

    Parameters
    ----------
    slots : where replicas can run, in the order in which they are taken.
    per_replica : every slot is a queue of its own, which drains as a whole.
    routed : a router must be told who is in rotation.
    """

    def __init__(
        self,
        plane: Plane,
        agenda: Agenda,
        history: History,
        timing: Timing,
        slots: Sequence[Slot],
        machines: Machines,
        *,
        per_replica: bool,
        routed: bool,
    ) -> None:
        self.plane, self.agenda, self.history, self.timing = plane, agenda, history, timing
        self.slots, self.machines = slots, machines
        self.replicas: dict[int, Replica] = {}
        self.wanted = 0
        self.unreachable: set[int] = set()
        """Nodes that the router knows it cannot reach."""
        self._per_replica, self._routed = per_replica, routed
        self._nodes: dict[int, list[int]] = defaultdict(list)
        for slot in slots:
            if slot.node not in self._nodes[slot.machine]:
                self._nodes[slot.machine].append(slot.node)
        self.when_gone: Callable[[], None] = lambda: None
        machines.freed = self.fill

    @property
    def now_ns(self) -> int:
        """Instant of the plane's last stop."""
        return self.plane.now_ns

    def nodes_on(self, machine: int) -> list[int]:
        """The plane's nodes on a machine, in order."""
        return sorted(self._nodes[machine])

    def on(self, machine: int) -> list[Replica]:
        """The replicas on a machine, by number."""
        here = (replica for replica in self.replicas.values() if replica.slot.machine == machine)
        return sorted(here, key=lambda replica: replica.number)

    def at_place(self, node: int, replica: int) -> Replica:
        """The replica of a plane's node."""
        places = {(each.slot.node, each.slot.replica): each for each in self.replicas.values()}
        return places[node, replica]

    # -- replicas come -------------------------------------------------------------------------------

    def begin(self, count: int) -> None:
        """So many replicas are wanted, and up at once where there is room."""
        self.wanted = count
        for number, machine in enumerate(self.machines.all):
            if machine.fixed and self.machines.markets.get(machine.pool) is None:
                self.machines.rent(number, 0)
        for replica in self._placed(at_once=True):
            replica.in_rotation = True
            self._up(replica)
        self.rotate()
        self.note()

    def fill(self) -> None:
        """Replicas that are wanted begin, as far as there is room."""
        begun = False
        for replica in self._placed():
            begins_ns = max(self.now_ns, self.machines[replica.slot.machine].there_ns)
            self.start(replica, begins_ns + self.timing.start_up_ns)
            begun = True
        if begun:
            self.note()

    def _placed(self, *, at_once: bool = False) -> Iterator[Replica]:
        """Replicas that are wanted and not there, each where there is room."""
        step = step_of(self.now_ns, Decision(self.wanted, ""), self.replicas.values())
        if step.change <= 0:
            return
        taken = {replica.slot for replica in self.replicas.values()}
        free = [slot for slot in self.slots if slot not in taken]
        numbers = comers(step, self.replicas, len(self.slots))
        places = self.machines.places(free, self.now_ns, at_once=at_once)
        for number, slot in zip(numbers, places, strict=False):
            replica = self.replicas[number] = Replica(number, slot, self.now_ns)
            yield replica

    def start(self, replica: Replica, ready_ns: int) -> None:
        """A replica will be ready at an instant, unless it dies or goes before."""
        self.agenda.at(ready_ns, Order.READY, partial(self._ready, replica, replica.life))

    def _lives(self, replica: Replica, life: int) -> bool:
        return self.replicas.get(replica.number) is replica and replica.life == life

    def _ready(self, replica: Replica, life: int) -> None:
        if self._lives(replica, life):
            self._up(replica)
            self.note_short()
            self.agenda.at(
                self.now_ns + self.timing.probe_ns, Order.ROTATE, partial(self._come_in, replica, replica.life)
            )

    def _up(self, replica: Replica) -> None:
        now_ns, lease = self.now_ns, self.machines[replica.slot.machine]
        replica.ready_ns, replica.up, replica.known = now_ns, True, True
        lease.ready_ns = now_ns if lease.ready_ns is None else lease.ready_ns
        self.history.ups.setdefault(replica.number, []).append(Up(lease.machine, now_ns))
        self.plane.ready(replica.slot.replica, replica.slot.node)

    def _come_in(self, replica: Replica, life: int) -> None:
        if self._lives(replica, life) and not replica.leaving:
            replica.in_rotation = True
            self.rotate()

    # -- replicas die ----------------------------------------------------------------------------------

    def down(self, replica: Replica) -> None:
        """A replica is up no longer."""
        replica.life += 1
        if replica.up:
            replica.up = False
            ups = self.history.ups[replica.number]
            ups[-1] = replace(ups[-1], down_ns=self.now_ns)

    def died(self, replica: Replica) -> None:
        """A replica has died by itself, and is started again after a while."""
        assert replica.ready_ns is not None, f"{replica} was not up"
        self.history.deaths_ns.append(self.now_ns)
        deaths = respawn.in_a_row(replica.deaths, self.now_ns - replica.ready_ns)
        replica.deaths, replica.ready_ns = deaths + 1, None
        self.down(replica)
        if replica.leaving:
            self.gone(replica)
            return
        self.start(replica, self.now_ns + respawn.wait_ns(deaths) + self.timing.start_up_ns)
        self.note_short()
        leaves_ns = self.now_ns + self.timing.propagation_ns
        self.agenda.at(leaves_ns, Order.LEAVE, partial(self._leave_if_down, replica, replica.life))

    def _leave_if_down(self, replica: Replica, life: int) -> None:
        """The router knows by now that a replica is not ready."""
        if self._lives(replica, life) and not replica.up and replica.in_rotation:
            replica.in_rotation = False
            self.rotate()

    # -- replicas go -----------------------------------------------------------------------------------

    def stop(self, replica: Replica) -> None:
        """A replica is not wanted any more."""
        replica.leaving = True
        if replica.ready_ns is None or replica.lost_with is not None:
            self.gone(replica)
            return
        self.agenda.at(self.now_ns + self.timing.propagation_ns, Order.LEAVE, partial(self._drain, replica))
        self.agenda.at(self.now_ns + self.timing.drain_limit_ns, Order.LEAVE, partial(self._give_up, replica))

    def _drains(self, replica: Replica) -> bool:
        return self.replicas.get(replica.number) is replica and replica.lost_with is None

    def _drain(self, replica: Replica) -> None:
        """Nothing more is sent to it; it ends what it has."""
        if not self._drains(replica):
            return
        replica.in_rotation = False
        self.rotate()
        slot = replica.slot
        if self._per_replica:
            self.plane.drain(slot.node)
            self.agenda.at(self.now_ns + POLL_NS, Order.LEAVE, partial(self._poll, replica))
        else:
            self.plane.drain_replica(slot.replica, slot.node)

    def _poll(self, replica: Replica) -> None:
        if not self._drains(replica):
            return
        if self.plane.scrape(replica.slot.node).gauges.ongoing == 0:
            if replica.drained:  # and so it was a while ago: its last answers have left
                self.gone(replica)
                return
            replica.drained = True
        self.agenda.at(self.now_ns + POLL_NS, Order.LEAVE, partial(self._poll, replica))

    def _give_up(self, replica: Replica) -> None:
        """Its time to drain is over: it is killed."""
        if self._drains(replica):
            if not self._per_replica:
                self.plane.kill(replica.slot.replica, replica.slot.node)
            self.gone(replica)

    def gone(self, replica: Replica) -> None:
        """A replica is there no longer, and its machine perhaps empty."""
        del self.replicas[replica.number]
        self.down(replica)
        slot = replica.slot
        if replica.known and replica.lost_with is None:
            if self._per_replica:
                self.plane.lose(slot.node)
            else:
                self.plane.retire(slot.replica, slot.node)
        if replica.in_rotation:
            self.rotate()
        self.note()
        self.when_gone()
        self._perhaps_empty(slot.machine)

    def _perhaps_empty(self, number: int) -> None:
        machine = self.machines.all[number]
        if not machine.fixed and number in self.machines and not self.on(number):
            lease = self.machines[number]
            lease.emptied_ns = self.now_ns
            returned_ns = self.now_ns + machine.empty_after_ns
            self.agenda.at(returned_ns, Order.MACHINE, partial(self._return, lease, lease.emptied_ns))

    def _return(self, lease: Lease, emptied_ns: int) -> None:
        """A machine that has been empty since an instant goes."""
        if self.machines.holds(lease) and lease.emptied_ns == emptied_ns and not self.on(lease.machine):
            self.machines.end(lease, self.now_ns)

    # -- what is told --------------------------------------------------------------------------------

    def rotate(self) -> None:
        """The router is told which nodes to send to."""
        if self._routed:
            nodes = {replica.slot.node for replica in self.replicas.values() if replica.in_rotation}
            self.plane.rotate(sorted(nodes - self.unreachable))

    def note(self) -> None:
        """How many replicas there are, is written down."""
        self.history.present.append((self.now_ns, len(self.replicas)))

    def note_short(self) -> None:
        """How many replicas are missing is written down, if that has changed."""
        ready = sum(not r.leaving and r.ready_ns is not None for r in self.replicas.values())
        short, known = max(0, self.wanted - ready), self.history.short
        if short != (known[-1][1] if known else 0):
            known.append((self.now_ns, short))
