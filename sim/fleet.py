"""Replicas on machines: how they come, die and go (rules 8, 15 and 19)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from serve.policy import respawn
from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.policy.scaling.placement import Size
from serve.roster import Step, comers, goers, step_of
from sim.agenda import Agenda, Order
from sim.history import FleetCourse, History, Lease, Up
from sim.machines import Machines, Slot
from sim.plane import Plane

ONE_CORE = Size(1)
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


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What a fleet is made of.

    Parameters
    ----------
    slots : where replicas can run, in the order in which they are taken.
    size : what a replica takes of its machine.
    per_replica : every slot is a queue of its own, which drains as a whole.
    group : that its nodes are, to the plane.
    start_up_ns : draws how long the next start-up takes; None: as `timing` says.
    """

    timing: Timing
    slots: Sequence[Slot]
    size: Size = ONE_CORE
    per_replica: bool = False
    group: int = 0
    start_up_ns: Callable[[], int] | None = None


@dataclass(slots=True)
class Replica:
    """A replica, and what is believed of it."""

    fleet: Fleet
    number: int
    slot: Slot
    started_ns: int
    ready_ns: int | None = None
    """Since when it is ready, as far as anybody knows; None: it starts, or starts again."""
    up: bool = False
    known: bool = False
    """Whether the plane knows of it: it was ready once."""
    rotated_ns: int | None = None
    """Since when it is sent requests; None: it is not."""
    leaving: bool = False
    drained: bool = False
    life: int = 0
    """What was begun in an earlier life of it comes to nothing."""
    deaths: int = 0
    """In a row."""
    lost_with: Lease | None = None
    """The machine that it was lost with, until it is given up or that is back."""

    @property
    def spot(self) -> bool:
        """Whether its provider may take its machine back."""
        return self.fleet.machines.all[self.slot.machine].spot


class Fleet:
    """The replicas of one version of a model on a plane; as many as are `wanted` come as soon as there is room, where
    pools have it or, if it is said how many of them `on_demand`, on spot machines and on others apart.

    Parameters
    ----------
    routed : a router must be told who is in rotation.

    `changed` is called when a replica is ready, in rotation, or either no longer, `when_gone` when one has gone.
    """

    def __init__(
        self, plane: Plane, agenda: Agenda, history: History, machines: Machines, plan: FleetPlan, *, routed: bool
    ) -> None:
        self.plane, self.agenda, self.history, self.machines = plane, agenda, history, machines
        self.plan, self.timing = plan, plan.timing
        self.course = FleetCourse()
        history.fleets.append(self.course)
        self.replicas: dict[int, Replica] = {}
        self.wanted = 0
        self.on_demand: int | None = None
        self._routed = routed
        self.changed: Callable[[], None] = lambda: None
        self.when_gone: Callable[[], None] = lambda: None

    @property
    def now_ns(self) -> int:
        """Instant of the plane's last stop."""
        return self.plane.now_ns

    # -- replicas come -------------------------------------------------------------------------------

    def begin(self, count: int, on_demand: int | None = None) -> None:
        """So many replicas are wanted, and up at once where there is room."""
        self.wanted, self.on_demand = count, on_demand
        for replica in self._placed(at_once=True):
            replica.rotated_ns = 0
            self._up(replica)
        self.rotate()
        self.note()

    def resize(self, wanted: int, on_demand: int | None = None) -> None:
        """So many replicas are wanted from now on: some come as far as there is room, or some go."""
        self.wanted, self.on_demand = wanted, on_demand
        self.fill()
        for count, _, own in self._parts():
            for number in goers(self._step(count, own), own):
                self.stop(self.replicas[number])

    def fill(self) -> None:
        """Replicas that are wanted begin, as far as there is room."""
        begun = False
        for replica in self._placed():
            begins_ns = max(self.now_ns, self.machines[replica.slot.machine].there_ns)
            self.start(replica, begins_ns + self.start_up_ns())
            begun = True
        if begun:
            self.note()

    def _parts(self) -> Iterator[tuple[int, Sequence[Slot], list[Replica]]]:
        """How many replicas are wanted in which slots, and those that are there."""
        there = list(self.replicas.values())
        if self.on_demand is None:
            yield self.wanted, self.plan.slots, there
            return
        for spot, count in ((True, self.wanted - self.on_demand), (False, self.on_demand)):
            slots = [slot for slot in self.plan.slots if self.machines.all[slot.machine].spot == spot]
            yield count, slots, [replica for replica in there if replica.spot == spot]

    def _step(self, count: int, replicas: Iterable[Replica]) -> Step:
        return step_of(self.now_ns, Decision(count, ""), replicas)

    def _placed(self, *, at_once: bool = False) -> Iterator[Replica]:
        """Replicas that are wanted and not there, each where there is room."""
        for count, slots, own in self._parts():
            step = self._step(count, own)
            if step.change <= 0:
                continue
            taken = {replica.slot for replica in own}
            free = [slot for slot in slots if slot not in taken]
            numbers = comers(step, self.replicas, len(self.plan.slots))
            places = self.machines.places(free, self.plan.size, self.now_ns, at_once=at_once)
            for number, slot in zip(numbers, places, strict=False):
                replica = self.replicas[number] = Replica(self, number, slot, self.now_ns)
                self.machines.take(slot.machine, self.plan.size)
                yield replica

    def start_up_ns(self) -> int:
        """How long a replica that starts now takes to be ready."""
        return self.timing.start_up_ns if self.plan.start_up_ns is None else self.plan.start_up_ns()

    def start(self, replica: Replica, ready_ns: int) -> None:
        """A replica will be ready at an instant, unless it dies or goes before."""
        self.agenda.at(ready_ns, Order.READY, partial(self._ready, replica, replica.life))

    def _lives(self, replica: Replica, life: int) -> bool:
        return self.replicas.get(replica.number) is replica and replica.life == life

    def _ready(self, replica: Replica, life: int) -> None:
        if self._lives(replica, life):
            self._up(replica)
            self.changed()
            self.agenda.at(
                self.now_ns + self.timing.probe_ns, Order.ROTATE, partial(self._come_in, replica, replica.life)
            )

    def _up(self, replica: Replica) -> None:
        now_ns, lease = self.now_ns, self.machines[replica.slot.machine]
        replica.ready_ns, replica.up, replica.known = now_ns, True, True
        lease.ready_ns = now_ns if lease.ready_ns is None else lease.ready_ns
        self.course.ups.setdefault(replica.number, []).append(Up(lease.machine, now_ns))
        self.plane.ready(replica.slot.replica, replica.slot.node)

    def _come_in(self, replica: Replica, life: int) -> None:
        if self._lives(replica, life) and not replica.leaving:
            replica.rotated_ns = self.now_ns
            self.rotate()

    # -- replicas die ----------------------------------------------------------------------------------

    def down(self, replica: Replica) -> None:
        """A replica is up no longer."""
        replica.life += 1
        if replica.up:
            replica.up = False
            ups = self.course.ups[replica.number]
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
        self.start(replica, self.now_ns + respawn.wait_ns(deaths) + self.start_up_ns())
        self.changed()
        leaves_ns = self.now_ns + self.timing.propagation_ns
        self.agenda.at(leaves_ns, Order.LEAVE, partial(self._leave_if_down, replica, replica.life))

    def _leave_if_down(self, replica: Replica, life: int) -> None:
        """The router knows by now that a replica is not ready."""
        if self._lives(replica, life) and not replica.up and replica.rotated_ns is not None:
            replica.rotated_ns = None
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
        replica.rotated_ns = None
        self.rotate()
        slot = replica.slot
        if self.plan.per_replica:
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
            if not self.plan.per_replica:
                self.plane.kill(replica.slot.replica, replica.slot.node)
            self.gone(replica)

    def gone(self, replica: Replica) -> None:
        """A replica is there no longer, and its machine perhaps empty."""
        self.drop(replica)
        self.down(replica)
        slot = replica.slot
        if replica.known and replica.lost_with is None:
            if self.plan.per_replica:
                self.plane.lose(slot.node)
            else:
                self.plane.retire(slot.replica, slot.node)
        if replica.rotated_ns is not None:
            self.rotate()
        self.note()
        self._perhaps_empty(slot.machine)
        self.machines.freed()
        self.when_gone()
        self.changed()

    def drop(self, replica: Replica) -> None:
        """A replica counts no more, and leaves its place."""
        del self.replicas[replica.number]
        self.machines.give(replica.slot.machine, self.plan.size)

    def _perhaps_empty(self, number: int) -> None:
        machine = self.machines.all[number]
        if not machine.fixed and number in self.machines and self.machines.is_empty(number):
            lease = self.machines[number]
            lease.emptied_ns = self.now_ns
            returned_ns = self.now_ns + machine.empty_after_ns
            self.agenda.at(returned_ns, Order.MACHINE, partial(self._return, lease, lease.emptied_ns))

    def _return(self, lease: Lease, emptied_ns: int) -> None:
        """A machine that has been empty since an instant goes."""
        if self.machines.holds(lease) and lease.emptied_ns == emptied_ns and self.machines.is_empty(lease.machine):
            self.machines.end(lease, self.now_ns)

    # -- what is told --------------------------------------------------------------------------------

    @property
    def rotation(self) -> list[Replica]:
        """Replicas that are sent requests."""
        return [r for r in self.replicas.values() if r.rotated_ns is not None]

    @property
    def ready(self) -> int:
        """How many replicas that stay are ready."""
        return sum(not r.leaving and r.ready_ns is not None for r in self.replicas.values())

    def rotate(self) -> None:
        """The router is told which nodes to send to."""
        if self._routed:
            reached = {r.slot.node for r in self.rotation if r.slot.machine not in self.machines.unreachable}
            self.plane.rotate(sorted(reached), self.plan.group)
        self.changed()

    def note(self) -> None:
        """How many replicas there are, is written down."""
        self.course.present.append((self.now_ns, len(self.replicas)))
