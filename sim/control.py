"""The slow clock: what happens to a plane between two advances when an autoscaler sets its replicas (rules 13 and 15).

Scrapes, ticks, replicas that are ready and come into rotation, leave it, drain and go: each an event at its instant, in
the written order. The plane is stopped there, and told.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.roster import Step, comers, goers, step_of
from serve.scaler import ReplicaView, Scaler
from sim.plane import BUFFER, Plane, Stop, StopCode

MACHINE, READY, SCRAPE, TICK, ROTATE, LEAVE = range(6)
"""Order of the slow clock's events at one instant."""

FLAP_NS = 600 * SECOND_NS
"""A change of mind within so long is a flap."""

POLL_NS = SECOND_NS
"""How often it is looked whether a queue that drains is empty."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a replica can run: of a plane's node, the replica of this number; on which machine."""

    node: int
    replica: int = 0
    machine: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that can hold replicas: always there if `fixed`, else asked for when a replica needs it."""

    fixed: bool = True
    provision_ns: int = 0
    empty_after_ns: int = 0


@dataclass(slots=True)
class Lease:
    """A machine from its hand-over until it goes, which is what is paid."""

    machine: int
    there_ns: int
    ready_ns: int | None = None
    """When its first replica was ready; none: never."""
    gone_ns: int | None = None
    """None: it is still there."""
    reclaimed: bool = False
    """Whether its provider took it back."""
    emptied_ns: int = -1


@dataclass(frozen=True, slots=True)
class Up:
    """A replica that was up: on which machine, from when to when; `down_ns` none: it still is."""

    machine: int
    ready_ns: int
    down_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take that the plane knows nothing of, in ns.

    `start_up_ns` from wanting a replica to its being ready, `probe_ns` from there until it is sent anything,
    `propagation_ns` from wanting one less until nothing more is sent to it, `drain_limit_ns` until it is killed.
    """

    start_up_ns: int
    probe_ns: int = 0
    propagation_ns: int = 0
    drain_limit_ns: int = 30 * SECOND_NS


@dataclass(slots=True)
class _Replica:
    number: int
    slot: Slot
    started_ns: int
    ready_ns: int | None = None
    in_rotation: bool = False
    leaving: bool = False
    drained: bool = False


@dataclass(slots=True)
class History:
    """What the autoscaler did: every tick, and from when on how many replicas were there, starting and draining too."""

    steps: list[Step] = field(default_factory=list)
    present: list[tuple[int, int]] = field(default_factory=list)
    short: list[tuple[int, int]] = field(default_factory=list)
    """From when on how many fewer were ready than were wanted."""
    leases: list[Lease] = field(default_factory=list)
    """Of all machines, those that are there included, in the order in which they were asked for."""
    ups: dict[int, list[Up]] = field(default_factory=dict)
    """Of every replica, by its number: when it was up."""

    def replicas_mean(self, start_ns: int, end_ns: int) -> float:
        """Replicas that were there, on average over a span."""
        return _mean(self.present, start_ns, end_ns)

    def moves(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Ticks that set more replicas within a span, and those that set fewer."""
        within = [step for step in self.steps if start_ns <= step.at_ns < end_ns]
        return sum(s.change > 0 for s in within), sum(s.change < 0 for s in within)

    def flaps(self, start_ns: int, end_ns: int) -> int:
        """Moves of a span that go the other way than the one before them, less than FLAP_NS ago."""
        moves = [step for step in self.steps if step.change != 0]
        return sum(
            start_ns <= after.at_ns < end_ns
            and (after.change > 0) != (before.change > 0)
            and after.at_ns - before.at_ns < FLAP_NS
            for before, after in pairwise(moves)
        )

    def under_target(self, start_ns: int, end_ns: int) -> float:
        """Share of a span in which fewer replicas were ready than were wanted."""
        return _mean([(at_ns, short > 0) for at_ns, short in self.short], start_ns, end_ns)

    def scaling(self, start_ns: int, end_ns: int) -> dict[str, Any]:
        """What a span's metrics tell of it, by the fields of `sim.measures.NodeTotals`."""
        ups, downs = self.moves(start_ns, end_ns)
        flaps, under_target = self.flaps(start_ns, end_ns), self.under_target(start_ns, end_ns)
        return {"scale_ups": ups, "scale_downs": downs, "flaps": flaps, "under_target": under_target}


def _mean(levels: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> float:
    """Mean over a span of what has each level from its instant until the next."""
    area = 0
    for i, (at_ns, level) in enumerate(levels):
        until_ns = levels[i + 1][0] if i + 1 < len(levels) else end_ns
        area += level * max(0, min(until_ns, end_ns) - max(at_ns, start_ns))
    return area / (end_ns - start_ns)


class Control:
    """One model's replicas on a plane, set by a scaler.

    Parameters
    ----------
    plane, advance : the plane, and what advances it to an instant, feeding it; it may return early with a stop.
    slots : where replicas can run, in the order in which they are taken.
    machines : that the slots are on, by number.
    count : replicas that are up at instant 0.
    per_replica : every slot is a queue of its own, which drains as a whole.
    routed : a router must be told who is in rotation.
    """

    def __init__(
        self,
        plane: Plane,
        advance: Callable[[int], Stop],
        scaler: Scaler,
        timing: Timing,
        slots: Sequence[Slot],
        machines: Sequence[Machine],
        count: int,
        *,
        per_replica: bool,
        routed: bool,
    ) -> None:
        self.history = History()
        self._plane, self._advance, self._scaler, self._timing = plane, advance, scaler, timing
        self._slots, self._per_replica, self._routed = slots, per_replica, routed
        self._machines = machines
        self._rented: dict[int, Lease] = {}
        self._replicas: dict[int, _Replica] = {}
        self._events: list[tuple[int, int, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._emptied_ns = -1
        self._wanted = count
        for number, machine in enumerate(machines):
            if machine.fixed:
                self._rent(number, 0)
        for number in range(count):
            if slots[number].machine not in self._rented:
                self._rent(slots[number].machine, 0)
            replica = self._replicas[number] = _Replica(number, slots[number], 0, in_rotation=True)
            self._up(replica)
        self._rotate()
        self._note()
        self._at(scaler.scrape_ns, SCRAPE, self._scrape)
        self._at(scaler.tick_ns, TICK, self._tick)

    # -- the clock -----------------------------------------------------------------------------------

    def run(self, until_ns: int) -> None:
        """Let time pass up to an instant, the slow clock's events at it included."""
        while True:
            at_ns = min(self._events[0][0], until_ns)
            stop = self._advance(at_ns)
            if stop.code == StopCode.NO_REPLICA and stop.node == BUFFER:
                self._wake()
            elif stop.code == StopCode.EMPTY:
                self._empty()
            elif stop.code == StopCode.DRAINED:
                self._gone(self._at_place(stop.node, stop.which))
            elif stop.code == StopCode.UNTIL:
                while self._events[0][0] == at_ns:
                    heapq.heappop(self._events)[3]()
                if at_ns == until_ns:
                    return

    def _at(self, at_ns: int, order: int, act: Callable[[], None]) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (at_ns, order, self._scheduled, act))

    # -- ticks ---------------------------------------------------------------------------------------

    def _scrape(self) -> None:
        now_ns = self._plane.now_ns
        nodes = sorted({replica.slot.node for replica in self._replicas.values()})
        queues = [BUFFER, *nodes] if self._routed else nodes
        self._scaler.scrape(now_ns, {node: self._plane.scrape(node) for node in queues})
        self._at(now_ns + self._scaler.scrape_ns, SCRAPE, self._scrape)

    def _tick(self) -> None:
        now_ns = self._plane.now_ns
        self._apply(self._scaler.decide(now_ns, self._views()))
        self._at(now_ns + self._scaler.tick_ns, TICK, self._tick)

    def _wake(self) -> None:
        """A request has found no replica in rotation."""
        waiting = self._plane.scrape(BUFFER).gauges.waiting
        decision = self._scaler.wake(self._plane.now_ns, self._views(), waiting)
        if decision is not None:
            self._apply(decision)

    def _empty(self) -> None:
        """The last request has left."""
        after_ns = self._scaler.idle_after_ns
        assert after_ns is not None, "nobody asked to be told"
        now_ns = self._emptied_ns = self._plane.now_ns
        self._at(now_ns + after_ns, TICK, partial(self._idle, now_ns))

    def _idle(self, emptied_ns: int) -> None:
        """If nothing has come since, the replica may go."""
        if emptied_ns == self._emptied_ns and self._plane.unsettled == 0:
            self._apply(self._scaler.idle(self._plane.now_ns))

    def _views(self) -> list[ReplicaView]:
        return [ReplicaView(r.slot.node, r.started_ns, r.ready_ns, r.leaving) for r in self._replicas.values()]

    def _apply(self, decision: Decision) -> None:
        step = step_of(self._plane.now_ns, decision, self._replicas.values())
        self.history.steps.append(step)
        self._wanted = step.wanted
        if step.change > 0:
            self._start(comers(step, self._replicas, len(self._slots)))
        for number in goers(step, self._replicas.values()):
            self._stop(self._replicas[number])
        self._note_short()

    # -- replicas come -------------------------------------------------------------------------------

    def _start(self, numbers: Sequence[int]) -> None:
        """These come too, first where there are machines, then on such as are asked for; those that there is no room
        for are wanted again at the next tick."""
        taken = {replica.slot for replica in self._replicas.values()}
        free = [slot for slot in self._slots if slot not in taken]
        free.sort(key=lambda slot: slot.machine not in self._rented)  # stable: else in the order of preference
        now_ns = self._plane.now_ns
        for slot, number in zip(free, numbers, strict=False):
            if slot.machine not in self._rented:
                self._rent(slot.machine, now_ns + self._machines[slot.machine].provision_ns)
            replica = self._replicas[number] = _Replica(number, slot, now_ns)
            begins_ns = max(now_ns, self._rented[slot.machine].there_ns)
            self._at(begins_ns + self._timing.start_up_ns, READY, partial(self._ready, replica))
        self._note()

    def _at_place(self, node: int, replica: int) -> _Replica:
        places = {(each.slot.node, each.slot.replica): each for each in self._replicas.values()}
        return places[node, replica]

    def _ready(self, replica: _Replica) -> None:
        if self._replicas.get(replica.number) is not replica:
            return  # it was not wanted any more before it was ready
        self._up(replica)
        self._note_short()
        self._at(self._plane.now_ns + self._timing.probe_ns, ROTATE, lambda: self._come_in(replica))

    def _up(self, replica: _Replica) -> None:
        now_ns, lease = self._plane.now_ns, self._rented[replica.slot.machine]
        replica.ready_ns = now_ns
        lease.ready_ns = now_ns if lease.ready_ns is None else lease.ready_ns
        self.history.ups.setdefault(replica.number, []).append(Up(lease.machine, now_ns))
        self._plane.ready(replica.slot.replica, replica.slot.node)

    def _come_in(self, replica: _Replica) -> None:
        replica.in_rotation = not replica.leaving
        self._rotate()

    # -- replicas go -----------------------------------------------------------------------------------

    def _stop(self, replica: _Replica) -> None:
        now_ns = self._plane.now_ns
        replica.leaving = True
        if replica.ready_ns is None:
            self._gone(replica)
            return
        self._at(now_ns + self._timing.propagation_ns, LEAVE, lambda: self._drain(replica))
        self._at(now_ns + self._timing.drain_limit_ns, LEAVE, lambda: self._give_up(replica))

    def _drain(self, replica: _Replica) -> None:
        """Nothing more is sent to it; it ends what it has."""
        if self._replicas.get(replica.number) is not replica:
            return
        replica.in_rotation = False
        self._rotate()
        slot = replica.slot
        if self._per_replica:
            self._plane.drain(slot.node)
            self._at(self._plane.now_ns + POLL_NS, LEAVE, lambda: self._poll(replica))
        else:
            self._plane.drain_replica(slot.replica, slot.node)

    def _poll(self, replica: _Replica) -> None:
        if self._replicas.get(replica.number) is not replica:
            return
        if self._plane.scrape(replica.slot.node).gauges.ongoing == 0:
            if replica.drained:  # and so it was a while ago: its last answers have left
                self._gone(replica)
                return
            replica.drained = True
        self._at(self._plane.now_ns + POLL_NS, LEAVE, lambda: self._poll(replica))

    def _give_up(self, replica: _Replica) -> None:
        """Its time to drain is over: it is killed."""
        if self._replicas.get(replica.number) is replica:
            if not self._per_replica:
                self._plane.kill(replica.slot.replica, replica.slot.node)
            self._gone(replica)

    def _gone(self, replica: _Replica) -> None:
        del self._replicas[replica.number]
        slot = replica.slot
        if replica.ready_ns is not None:
            ups = self.history.ups[replica.number]
            ups[-1] = replace(ups[-1], down_ns=self._plane.now_ns)
        if replica.ready_ns is not None and self._per_replica:
            self._plane.lose(slot.node)
        elif replica.ready_ns is not None:
            self._plane.retire(slot.replica, slot.node)
        self._note()
        if self._scaler.idle_after_ns is not None and self._plane.unsettled > 0:
            self._wake()  # it came while this one was leaving, and there is no tick to find it
        machine = slot.machine
        if not self._machines[machine].fixed and not any(r.slot.machine == machine for r in self._replicas.values()):
            now_ns = self._plane.now_ns
            self._rented[machine].emptied_ns = now_ns
            self._at(now_ns + self._machines[machine].empty_after_ns, MACHINE, partial(self._return, machine, now_ns))

    # -- machines ------------------------------------------------------------------------------------

    def _rent(self, machine: int, there_ns: int) -> None:
        """A machine is there from an instant on; it is paid from then."""
        lease = self._rented[machine] = Lease(machine, there_ns)
        self.history.leases.append(lease)

    def _return(self, machine: int, emptied_ns: int) -> None:
        """A machine that has been empty since an instant goes."""
        rented = self._rented.get(machine)
        empty = not any(replica.slot.machine == machine for replica in self._replicas.values())
        if rented is None or rented.emptied_ns != emptied_ns or not empty:
            return
        del self._rented[machine]
        rented.gone_ns = self._plane.now_ns

    # -- what is told --------------------------------------------------------------------------------

    def _rotate(self) -> None:
        if self._routed:
            self._plane.rotate(sorted({r.slot.node for r in self._replicas.values() if r.in_rotation}))

    def _note(self) -> None:
        self.history.present.append((self._plane.now_ns, len(self._replicas)))

    def _note_short(self) -> None:
        """How many replicas are missing, if that has changed."""
        ready = sum(not r.leaving and r.ready_ns is not None for r in self._replicas.values())
        short, known = max(0, self._wanted - ready), self.history.short
        if short != (known[-1][1] if known else 0):
            known.append((self._plane.now_ns, short))
