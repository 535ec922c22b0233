"""An engine that sets the number of its own replicas: a scaler under the wall's clock (rules 13 and 15).

`sim.control` drives the same scaler under its own clock. Scrapes and ticks lie on the grid k x interval from the
start on, and are known by these instants, however late the loop comes to them: a window that is a whole number of
intervals then always holds as many scrapes. Of late scrapes only the last is read; late ticks are done one by one.

Sans-IO: processes belong to the `Port`, the timer to whoever calls `wake`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serve.policy.codes import NEVER_NS
from serve.policy.scaling.metering import Scrape
from serve.roster import Step, comers, goers, step_of
from serve.scaler import ReplicaView, Scaler
from serve.scaling_log import ModelLog

_logger = logging.getLogger(__name__)

CATCH_UP = 20
"""Late ticks that are still done, at once: policies that count ticks then wait as long as they say. More are stale."""

QUEUE = 0
"""All replicas of a model are fed by one queue here."""


class Port(Protocol):
    """Whose replicas are set."""

    def scrape(self) -> Scrape:
        """What the queue counts, now."""

    def start_replica(self, replica: int) -> None:
        """Have a process of this number, which is free."""

    def drain_replica(self, replica: int) -> None:
        """Give it nothing more; `Scaling.left` is called when it has nothing left."""

    def stop_replica(self, replica: int) -> None:
        """End it at once: it has nothing to do yet."""

    def kill_replica(self, replica: int) -> None:
        """End it at once: what it has is put back (rule 8)."""


@dataclass(slots=True)
class Replica:
    """A replica that is wanted, or was and ends what it has; instants from the scaling's start on."""

    number: int
    started_ns: int
    ready_ns: int | None = None
    leaving: bool = False
    limit_ns: int = NEVER_NS  # when it is killed


class Scaling:
    """One model's replicas, `count` of which are up. It begins when it is made: that is instant 0.

    Parameters
    ----------
    name : of the model, for the log's lines.
    most : replicas that there is room for.
    drain_limit_ns : how long one that goes may take over what it has.
    clock : CLOCK_MONOTONIC, in ns.
    log : what every tick saw and decided, if it is kept.
    """

    def __init__(
        self,
        name: str,
        scaler: Scaler,
        port: Port,
        clock: Callable[[], int],
        *,
        count: int,
        most: int,
        drain_limit_ns: int,
        log: ModelLog | None = None,
    ) -> None:
        self.wanted = count
        """Replicas, by the last tick."""
        self.wake_ns = NEVER_NS
        """When `wake` must be called, by the clock."""
        self._name, self._scaler, self._port, self._clock = name, scaler, port, clock
        self._most, self._drain_limit_ns, self._log = most, drain_limit_ns, log
        self._replicas = {number: Replica(number, 0, ready_ns=0) for number in range(count)}
        self._began_ns = clock()
        self._scrapes = self._ticks = 0  # done, or missed
        self._ups = self._downs = self._missed = 0
        self._frozen = False
        if log is not None:
            log.begin(self._began_ns)
        self._set_wake()

    # -- the clock -----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Set no other number any more; what leaves still has its limit."""
        self._frozen = True
        self._set_wake()

    def wake(self) -> None:
        """Do what is due, if anything is."""
        if self._clock() < self.wake_ns:
            return
        now_ns = self._now_ns()
        for replica in [each for each in self._replicas.values() if each.limit_ns <= now_ns]:
            self._give_up(replica)
        if not self._frozen:
            self._catch_up(now_ns)
        self._set_wake()

    def _catch_up(self, now_ns: int) -> None:
        """The last scrape and the ticks that are due, in the order of their instants, the scrape first at one."""
        scrape, tick = now_ns // self._scaler.scrape_ns, now_ns // self._scaler.tick_ns
        due = []
        if scrape > self._scrapes:
            self._scrapes = scrape
            due.append((scrape * self._scaler.scrape_ns, 0, self._scrape))
        if tick > self._ticks:
            first = max(self._ticks + 1, tick + 1 - CATCH_UP)
            self._missed += first - self._ticks - 1
            self._ticks = tick
            due += [(number * self._scaler.tick_ns, 1, self._tick) for number in range(first, tick + 1)]
        for at_ns, _, act in sorted(due, key=lambda each: each[:2]):
            act(at_ns)

    def _set_wake(self) -> None:
        due_ns = min((replica.limit_ns for replica in self._replicas.values()), default=NEVER_NS)
        if not self._frozen:
            scrape_ns, tick_ns = self._scaler.scrape_ns, self._scaler.tick_ns
            due_ns = min(due_ns, (self._scrapes + 1) * scrape_ns, (self._ticks + 1) * tick_ns)
        self.wake_ns = NEVER_NS if due_ns == NEVER_NS else self._began_ns + due_ns

    def _now_ns(self) -> int:
        """From the start on."""
        return self._clock() - self._began_ns

    # -- ticks ---------------------------------------------------------------------------------------

    def _scrape(self, at_ns: int) -> None:
        self._scaler.scrape(at_ns, {QUEUE: self._port.scrape()._replace(at_ns=at_ns)})

    def _tick(self, at_ns: int) -> None:
        late_ns = self._now_ns() - at_ns
        views = [ReplicaView(QUEUE, r.started_ns, r.ready_ns, r.leaving) for r in self._replicas.values()]
        sample = self._scaler.sample(at_ns, views)
        step = step_of(at_ns, self._scaler.answer(sample), self._replicas.values())
        applied = self._apply(step)
        if self._log is not None:
            self._log.tick(step, sample, self._scaler.age_ns(at_ns), late_ns, applied)

    def _apply(self, step: Step) -> int:
        """Have replicas come or go; how many count then."""
        come, go = comers(step, self._replicas, self._most), goers(step, self._replicas.values())
        self.wanted = step.wanted
        self._ups += bool(come)
        self._downs += bool(go)
        applied = step.counted + len(come) - len(go)
        if come or go:
            what = f"{step.counted} replicas, {step.ready} ready"
            _logger.info("%s: %s -> %d, %d wanted: %s", self._name, what, applied, step.wanted, step.reason)
        for number in come:
            self._note("started", number)
            self._replicas[number] = Replica(number, step.at_ns)
            self._port.start_replica(number)
        for number in go:
            self._let_go(self._replicas[number], step.at_ns)
        return applied

    # -- replicas ------------------------------------------------------------------------------------

    def _let_go(self, replica: Replica, at_ns: int) -> None:
        replica.leaving = True
        self._note("leaving", replica.number)
        if replica.ready_ns is None:
            self._remove(replica.number)
            self._port.stop_replica(replica.number)
        else:
            replica.limit_ns = at_ns + self._drain_limit_ns
            self._port.drain_replica(replica.number)

    def _give_up(self, replica: Replica) -> None:
        """Its time to drain is over."""
        limit_s = self._drain_limit_ns / 1e9
        _logger.warning("%s: replica %d has not drained in %g s and is killed", self._name, replica.number, limit_s)
        self._remove(replica.number)
        self._port.kill_replica(replica.number)

    def ready(self, number: int) -> None:
        """A replica has loaded and warmed up."""
        replica = self._replicas[number]
        if replica.ready_ns is None:
            replica.ready_ns = self._now_ns()
            self._note("ready", number)

    def died(self, number: int) -> bool:
        """A replica's process is dead; whether it is to have a successor, which then starts."""
        replica = self._replicas.get(number)
        if replica is None or replica.leaving:
            return False
        replica.started_ns, replica.ready_ns = self._now_ns(), None
        self._note("died", number)
        return True

    def wants(self, number: int) -> bool:
        """Whether a replica is to have a process."""
        return number in self._replicas and not self._replicas[number].leaving

    def left(self, number: int) -> None:
        """One that was to go has gone."""
        self._remove(number)
        self._set_wake()

    def _remove(self, number: int) -> None:
        if self._replicas.pop(number, None) is not None:
            self._note("gone", number)

    def _note(self, event: str, number: int) -> None:
        if self._log is not None:
            self._log.replica(event, number, self._now_ns())

    # -- what is shown ---------------------------------------------------------------------------------

    @property
    def counted(self) -> int:
        """Replicas that are set: up or starting."""
        return sum(not replica.leaving for replica in self._replicas.values())

    @property
    def moves(self) -> tuple[int, int, int]:
        """Ticks that set more, ticks that set fewer, and ticks that were missed."""
        return self._ups, self._downs, self._missed
