"""One model's autoscaler on the slow clock (rules 13 and 15): scrapes, ticks, and what comes between them."""

from __future__ import annotations

from functools import partial

from serve.scaler import ReplicaView, Scaler
from sim.agenda import Agenda, Order
from sim.plane import BUFFER, Plane
from sim.release import Release


class Scaling:
    """Sets how many replicas a release has.

    Parameters
    ----------
    routed : what waits at the router counts too.
    """

    def __init__(self, scaler: Scaler, release: Release, plane: Plane, agenda: Agenda, *, routed: bool) -> None:
        self._scaler, self._release, self._plane, self._agenda = scaler, release, plane, agenda
        self._buffers = [BUFFER - fleet.plan.group for fleet in release.fleets] if routed else []
        self._emptied_ns = -1
        agenda.at(scaler.scrape_ns, Order.SCRAPE, self._scrape)
        agenda.at(scaler.tick_ns, Order.TICK, self._tick)
        if scaler.idle_after_ns is not None:
            release.when_gone = self._gone

    def _scrape(self) -> None:
        now_ns = self._plane.now_ns
        nodes = sorted({replica.slot.node for replica in self._release.replicas})
        self._scaler.scrape(now_ns, {node: self._plane.scrape(node) for node in [*self._buffers, *nodes]})
        self._agenda.at(now_ns + self._scaler.scrape_ns, Order.SCRAPE, self._scrape)

    def _tick(self) -> None:
        now_ns = self._plane.now_ns
        self._release.apply(self._scaler.decide(now_ns, self._views()))
        self._agenda.at(now_ns + self._scaler.tick_ns, Order.TICK, self._tick)

    def wake(self) -> None:
        """A request has found no replica in rotation."""
        waiting = sum(self._plane.scrape(buffer).gauges.waiting for buffer in self._buffers)
        decision = self._scaler.wake(self._plane.now_ns, self._views(), waiting)
        if decision is not None:
            self._release.apply(decision)

    def empty(self) -> None:
        """The last request has left."""
        assert self._scaler.idle_after_ns is not None, "nobody asked to be told"
        now_ns = self._emptied_ns = self._plane.now_ns
        self._agenda.at(now_ns + self._scaler.idle_after_ns, Order.TICK, partial(self._idle, now_ns))

    def _idle(self, emptied_ns: int) -> None:
        """If nothing has come since, the replica may go."""
        if emptied_ns == self._emptied_ns and self._plane.unsettled == 0:
            self._release.apply(self._scaler.idle(self._plane.now_ns))

    def _gone(self) -> None:
        """A replica has gone; what came while it was leaving, and there is no tick to find, asks for another."""
        if self._plane.unsettled > 0:
            self.wake()

    def _views(self) -> list[ReplicaView]:
        return [ReplicaView(r.slot.node, r.started_ns, r.ready_ns, r.leaving, r.spot) for r in self._release.replicas]
