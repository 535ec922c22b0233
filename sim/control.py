"""The slow clock: what happens to a plane between two advances (rules 13 to 15).

An autoscaler's scrapes and ticks, replicas that come and go with their machines, and what fails: each an event at its
instant, in the written order. The plane is stopped there, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from serve.policy.scaling.decision import Decision
from serve.roster import goers, step_of
from serve.scaler import ReplicaView, Scaler
from sim.agenda import Agenda, Order
from sim.failing import Failing, Failures
from sim.fleet import Fleet, Timing
from sim.history import History
from sim.machines import Machine, Machines, Slot
from sim.outages import Outages
from sim.plane import BUFFER, Plane, Stop, StopCode
from sim.spot import Market, Reclaims


class Control:
    """One model's replicas on a plane: as many as a scaler sets, or, without one, always as many.

    Parameters
    ----------
    plane, advance : the plane, and what advances it to an instant, feeding it; it may return early with a stop.
    slots : where replicas can run, in the order in which they are taken.
    machines : that the slots are on, by number.
    count : replicas that are up at instant 0.
    per_replica : every slot is a queue of its own, which drains as a whole.
    routed : a router must be told who is in rotation.
    failing : what fails.
    markets : by pool, where machines come from that may not be there, or are taken back.
    """

    def __init__(
        self,
        plane: Plane,
        advance: Callable[[int], Stop],
        scaler: Scaler | None,
        timing: Timing,
        slots: Sequence[Slot],
        machines: Sequence[Machine],
        count: int,
        *,
        per_replica: bool,
        routed: bool,
        failing: Failing | None = None,
        markets: Mapping[str, Market] | None = None,
    ) -> None:
        self.history, self._agenda = History(), Agenda()
        self._plane, self._advance, self._scaler, self._routed = plane, advance, scaler, routed
        held = Machines(machines, markets or {}, self._agenda, self.history)
        self._fleet = Fleet(
            plane, self._agenda, self.history, timing, slots, held, per_replica=per_replica, routed=routed
        )
        self._emptied_ns = -1
        outages = Outages(self._fleet)
        Reclaims(held, outages, self._agenda)
        Failures(failing or Failing(), self._fleet, outages, self._agenda)
        self._fleet.when_gone = self._gone
        self._fleet.begin(count)
        if scaler is not None:
            self._agenda.at(scaler.scrape_ns, Order.SCRAPE, self._scrape)
            self._agenda.at(scaler.tick_ns, Order.TICK, self._tick)

    def run(self, until_ns: int) -> None:
        """Let time pass up to an instant, the slow clock's events at it included."""
        while True:
            at_ns = min(self._agenda.next_ns, until_ns)
            stop = self._advance(at_ns)
            if stop.code == StopCode.NO_REPLICA and stop.node == BUFFER:
                self._wake()
            elif stop.code == StopCode.EMPTY:
                self._empty()
            elif stop.code == StopCode.DRAINED:
                self._fleet.gone(self._fleet.at_place(stop.node, stop.which))
            elif stop.code == StopCode.DIED:
                self._fleet.died(self._fleet.at_place(stop.node, stop.which))
            elif stop.code == StopCode.UNTIL:
                self._agenda.act(at_ns)
                if at_ns == until_ns:
                    return

    # -- ticks ---------------------------------------------------------------------------------------

    def _scrape(self) -> None:
        assert self._scaler is not None
        now_ns = self._plane.now_ns
        nodes = sorted({replica.slot.node for replica in self._fleet.replicas.values()})
        queues = [BUFFER, *nodes] if self._routed else nodes
        self._scaler.scrape(now_ns, {node: self._plane.scrape(node) for node in queues})
        self._agenda.at(now_ns + self._scaler.scrape_ns, Order.SCRAPE, self._scrape)

    def _tick(self) -> None:
        assert self._scaler is not None
        now_ns = self._plane.now_ns
        self._apply(self._scaler.decide(now_ns, self._views()))
        self._agenda.at(now_ns + self._scaler.tick_ns, Order.TICK, self._tick)

    def _wake(self) -> None:
        """A request has found no replica in rotation."""
        if self._scaler is None:
            return
        waiting = self._plane.scrape(BUFFER).gauges.waiting
        decision = self._scaler.wake(self._plane.now_ns, self._views(), waiting)
        if decision is not None:
            self._apply(decision)

    def _empty(self) -> None:
        """The last request has left."""
        assert self._scaler is not None and self._scaler.idle_after_ns is not None, "nobody asked to be told"
        now_ns = self._emptied_ns = self._plane.now_ns
        self._agenda.at(now_ns + self._scaler.idle_after_ns, Order.TICK, partial(self._idle, now_ns))

    def _idle(self, emptied_ns: int) -> None:
        """If nothing has come since, the replica may go."""
        if self._scaler is not None and emptied_ns == self._emptied_ns and self._plane.unsettled == 0:
            self._apply(self._scaler.idle(self._plane.now_ns))

    def _gone(self) -> None:
        """A replica has gone; what came while it was leaving, and there is no tick to find, asks for another."""
        if self._scaler is not None and self._scaler.idle_after_ns is not None and self._plane.unsettled > 0:
            self._wake()

    def _views(self) -> list[ReplicaView]:
        replicas = self._fleet.replicas.values()
        return [ReplicaView(r.slot.node, r.started_ns, r.ready_ns, r.leaving) for r in replicas]

    def _apply(self, decision: Decision) -> None:
        replicas = self._fleet.replicas
        step = step_of(self._plane.now_ns, decision, replicas.values())
        self.history.steps.append(step)
        self._fleet.wanted = decision.wanted
        self._fleet.fill()
        for number in goers(step, replicas.values()):
            self._fleet.stop(replicas[number])
        self._fleet.note_short()
