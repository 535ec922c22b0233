"""One node of the reference: the production scheduler and the front station before it, on a shared clock.

It owns the front station (rule 10) and the service times (rule 11); every other rule is
`serve.scheduler`'s own code. What leaves is told to whoever sent it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serve.policy import front as front_leaf
from serve.policy.codes import (
    EVENT_CANCEL,
    EVENT_DEADLINE,
    EVENT_ENDED,
    EVENT_FRONT,
    EVENT_WINDOW,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    OUTCOME_PENDING,
    REASON_CLIENT,
    REASON_FRONT,
    REASON_NODE,
    REASON_NONE,
)
from serve.policy.front import FRONT_BUDGET_NS, FRONT_TIMER_LATE_NS
from serve.policy.routing import ROUTE_ROUND_ROBIN, reported
from serve.policy.service import PER_MILLE, cold_ns, following_ns, service_ns, slowed_ns
from serve.scheduler import Batch, Drop, Request, Scheduler
from sim.clock import Clock
from sim.ledger import Ledger
from sim.plane import Node, Stop, StopCode

PARSE, FINISH, REFUSE, DISPATCH = range(4)

ATTEMPTS = 2**50
"""Attempts' indices at one node, for the index of their timers."""
REPLICAS_MAX = 2**20
"""Replicas of one node, for the index of their events."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request left its node, and what the node told of itself with it."""

    outcome: int
    reason: int
    told: int


@dataclass(slots=True)
class _Job:
    """One job of the front station: a parse or refusal of `requests[0]`, the finish of a batch, or the handing over of
    batches that left."""

    kind: int
    requests: deque[Request]
    batch: Batch | None = None
    outcome: int = OUTCOME_PENDING
    reason: int = REASON_NONE
    told: int = 0
    cancels_ns: deque[int] = field(default_factory=deque)  # of a finish that began: what was then known of each request


@dataclass(slots=True)
class _Stops:
    """What control has yet to be told, in the order in which it is told."""

    drained: set[int] = field(default_factory=set)
    told: set[int] = field(default_factory=set)  # drained replicas that control knows of
    failed: int = -1
    homeless: int = -1
    died: set[int] = field(default_factory=set)  # replicas that hung and were killed


class Station:
    """A node under simulated time; its replicas are down until `ready`.

    Parameters
    ----------
    number : its number in the estate.
    policy : of the router that it tells of itself.
    left : is called with each request that leaves, and how.
    beside : replicas of other nodes that run on its machine now.
    """

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        node: Node,
        number: int,
        left: Callable[[Request, Answer], None],
        policy: int = ROUTE_ROUND_ROBIN,
        first_batch: int = 0,
        beside: Callable[[], int] = lambda: 0,
    ) -> None:
        self.node, self.number = node, number
        self.scheduler = Scheduler(node.scheduler, node.replicas, first_batch)
        self._policy, self._left, self._beside = policy, left, beside
        self._front = [int(v) for v in node.front]
        self._table = [int(v) for v in node.service.table]
        self._levels = [float(v) for v in node.service.levels]
        self._cold = [int(v) for v in node.service.cold_ns]
        self._rested_ns = [0] * node.replicas  # since when each replica has been idle, where it is
        self._clock, self._ledger, self.lost = clock, ledger, False
        self._job: _Job | None = None
        self._jobs: deque[_Job] = deque()
        self._window_armed_ns = self._window_fired_ns = -1
        self._stops = _Stops()
        self._worked = -1  # number of the front's last span
        self._slow_per_mille = PER_MILLE
        self._hanging: set[int] = set()

    @property
    def now_ns(self) -> int:
        """Instant of the clock."""
        return self._clock.now_ns

    def _at(self, at_ns: int, class_: int, index: int, call: Callable[..., None], *args: Any) -> None:
        """Schedule an event of this node, of which nothing comes if the node is lost before."""
        self._clock.at(at_ns, class_, index, self._unless_lost, call, *args)

    def timer_index(self, request: Request) -> int:
        """Index of a request's events at this node: nodes come one after another."""
        return self.number * ATTEMPTS + int(request.payload.index)

    def _unless_lost(self, call: Callable[..., None], *args: Any) -> None:
        if not self.lost:
            call(*args)

    def stop(self) -> Stop | None:
        """What control is told next of this node; None if nothing."""
        stops, now_ns = self._stops, self.now_ns
        if stops.drained:
            which = min(stops.drained)
            stops.drained.remove(which)
            stops.told.add(which)
            return Stop(StopCode.DRAINED, now_ns, which, self.number)
        if stops.died:
            which = min(stops.died)
            stops.died.remove(which)
            return Stop(StopCode.DIED, now_ns, which, self.number)
        if stops.failed >= 0:
            which, stops.failed = stops.failed, -1
            return Stop(StopCode.FAILED, now_ns, which, self.number)
        if stops.homeless >= 0:
            which, stops.homeless = stops.homeless, -1
            return Stop(StopCode.NO_REPLICA, now_ns, which, self.number)
        return None

    @property
    def told(self) -> int:
        """What the node tells a router of itself now."""
        scheduler = self.scheduler
        available = sum(replica.up and not replica.draining for replica in scheduler.replicas)
        ongoing = (scheduler.ongoing_requests, scheduler.ongoing_rows)
        return int(reported(self._policy, *ongoing, self.node.row_ns, available))

    @property
    def present(self) -> int:
        """Requests that arrived here and have not left."""
        work = [*self._jobs, *([self._job] if self._job is not None else [])]
        in_front = sum(len(job.requests) for job in work)
        batches = [b for r in self.scheduler.replicas for b in r.batches if b.ended_ns < 0]
        return in_front + self.scheduler.waiting_requests + sum(len(b.requests) for b in batches)

    # -- control -----------------------------------------------------------------------------------

    def ready(self, replica: int) -> None:
        """The replica is up."""
        if not self.scheduler.replicas[replica].up:
            self._rested_ns[replica] = self.now_ns
        self.scheduler.up(replica, self.now_ns)
        self._settle()

    def drain_replica(self, replica: int) -> None:
        """The replica takes no more batches (rule 12)."""
        self.scheduler.drain_replica(replica)
        self._note_drained(replica)
        self._settle()

    def drain(self) -> None:
        """The node drains (rule 12)."""
        self.scheduler.drain()
        self._settle()

    def retire(self, replica_id: int) -> None:
        """A replica without a batch goes; a new one may take its place."""
        if not self.scheduler.replicas[replica_id].batches:
            self._hanging.discard(replica_id)
            self.scheduler.died(replica_id, self.now_ns)
            self.scheduler.retire(replica_id)
            self._stops.drained.discard(replica_id)
            self._stops.told.discard(replica_id)
        self._settle()

    def kill(self, replica_id: int) -> None:
        """The replica dies (rule 8)."""
        running = self.scheduler.replicas[replica_id].running
        self._hanging.discard(replica_id)
        if running is not None:
            self._ledger.batch_stopped(running, self.number, self.now_ns)
        if replica_id in self._stops.drained:
            self._stops.drained.remove(replica_id)
            self._stops.told.add(replica_id)
        undone = [r for b in self.scheduler.replicas[replica_id].batches if b.ended_ns < 0 for r in b.requests]
        for drop in self.scheduler.died(replica_id, self.now_ns):
            drop.request.batch = None
            if drop.outcome == OUTCOME_FAILED and self._stops.failed < 0:
                self._stops.failed = drop.request.id
            self._drop(drop)
        for request in undone:
            if request.waiting:
                self._arm_deadline(request)
        self._settle()

    def slow(self, per_mille: int) -> None:
        """Batches that start from now on take so many thousandths of their time."""
        self._slow_per_mille = per_mille
        self._settle()

    def hang(self, replica_id: int) -> None:
        """The batch that runs on a replica that is up, else the next to start there, never ends."""
        replica = self.scheduler.replicas[replica_id]
        if replica.up and replica_id not in self._hanging:
            self._hanging.add(replica_id)
            if replica.running is not None:
                self._die(replica.running)
        self._settle()

    def _die(self, batch: Batch) -> None:
        """The replica of a batch that hangs will be killed, at the place of the batch's end."""
        at_ns = max(self.now_ns, min(batch.start_ns + self.node.batch_deadline_ns, NEVER_NS))
        self._at(at_ns, EVENT_ENDED, self.number * REPLICAS_MAX + batch.replica, self._killed, batch)

    def _killed(self, batch: Batch) -> None:
        if self.scheduler.replicas[batch.replica].incarnation == batch.incarnation:
            self._stops.died.add(batch.replica)
            self.kill(batch.replica)

    def lose(self) -> None:
        """The node goes, and all that it holds is lost (rule 14)."""
        self.lost = True
        held = [r for job in (*self._jobs, *([self._job] if self._job else [])) for r in job.requests]
        held += [r for level in self.scheduler.levels for r in level]
        for replica in self.scheduler.replicas:
            if replica.running is not None:
                self._ledger.batch_stopped(replica.running, self.number, self.now_ns)
            held += [r for batch in replica.batches if batch.ended_ns < 0 for r in batch.requests]
        self._ledger.front_stopped(self._worked, self.now_ns)
        self._jobs.clear()
        self._job = None
        self._stops = _Stops()
        self.scheduler = Scheduler(self.node.scheduler, self.node.replicas, self.scheduler.next_batch)
        for request in sorted(held, key=lambda request: request.payload.index):
            self._lose(request)

    def _lose(self, request: Request) -> None:
        request.batch, request.waiting = None, False
        self._ledger.left(request, self.now_ns)
        self._left(request, Answer(OUTCOME_LOST, REASON_NODE, 0))

    def _note_drained(self, replica_id: int) -> None:
        replica = self.scheduler.replicas[replica_id]
        if replica.draining and not replica.batches and replica_id not in self._stops.told:
            self._stops.drained.add(replica_id)

    # -- the front station (rule 10) ------------------------------------------------------------------

    def arrive(self, request: Request) -> None:
        """A request arrives at the node, now."""
        trip = request.payload
        self._ledger.arrived(self.now_ns)
        if self.lost:
            self._lose(request)
            return
        if trip.patience_ns < NEVER_NS:
            trip.cancel_ns = min(trip.cancel_ns, trip.arrival_ns + trip.patience_ns)
            self._at(trip.arrival_ns + trip.patience_ns, EVENT_CANCEL, self.timer_index(request), self.cancel, request)
        if self.scheduler.draining:
            self._drop(self.scheduler.refuse_draining(request))
        else:
            self._jobs.append(_Job(PARSE, deque([request])))
            if not any(r.up and not r.draining for r in self.scheduler.replicas):
                self._stops.homeless = request.id
        self._settle()

    def _settle(self) -> None:
        """End of every event: the free station takes its next jobs; if it stays free, rule 3 runs."""
        while True:
            while self._job is None and self._jobs:
                self._begin(self._jobs.popleft())
            if self._job is not None:
                break
            self._job_ended()
            if not self._jobs:
                assert not self.scheduler.may_dispatch(self.now_ns), "rule 5: a batch that may leave met a free slot"
                break
        self._arm_window()

    def _begin(self, job: _Job) -> None:
        request = job.requests[0]
        if job.kind == PARSE and front_leaf.over_budget(
            request.payload.arrival_ns, self.now_ns, self._front[FRONT_BUDGET_NS]
        ):
            job = _Job(REFUSE, job.requests, outcome=OUTCOME_FULL, reason=REASON_FRONT)
        if job.kind == PARSE:
            self._hold(job, front_leaf.parse_ns(self._front, request.rows), self._parsed)
        elif job.kind == REFUSE:
            self._hold(job, front_leaf.refuse_ns(self._front), self._refused)
        else:
            self._hold(job, front_leaf.finish_batch_ns(self._front), self._finished)

    def _hold(self, job: _Job, cost_ns: int, then: Callable[[_Job], None]) -> None:
        """The station works on `job` for `cost_ns`; work that costs nothing ends within this event."""
        self._job = job
        if cost_ns == 0:
            then(job)
            return
        self._worked = self._ledger.front_worked(self.now_ns, self.now_ns + cost_ns)
        self._at(self.now_ns + cost_ns, EVENT_FRONT, self.number, self._work_ended, job, then)

    def _work_ended(self, job: _Job, then: Callable[[_Job], None]) -> None:
        then(job)
        self._settle()

    def _job_ended(self, _: _Job | None = None) -> None:
        """Rule 3; the station is free again once it has handed over what left."""
        cost_ns = self._run()
        self._job = None
        if cost_ns:
            self._hold(_Job(DISPATCH, deque()), cost_ns, self._job_ended)

    def _parsed(self, job: _Job) -> None:
        request = job.requests[0]
        if request.cancelled_ns < self.now_ns:
            self._leave(request, OUTCOME_CANCELLED, REASON_CLIENT)
        else:
            drop = self.scheduler.offer(request, self.now_ns)
            if drop is not None:
                self._drop(drop)
            else:
                self._arm_deadline(request)
        self._job_ended()

    def _refused(self, job: _Job) -> None:
        self._leave(job.requests[0], job.outcome, job.reason)
        self._job_ended()

    def _finished(self, job: _Job) -> None:
        assert job.batch is not None
        self.scheduler.finished(job.batch, self.now_ns)
        job.told = self.told
        job.cancels_ns.extend(request.payload.cancel_ns for request in job.requests)
        if self.scheduler.replicas[job.batch.replica].incarnation == job.batch.incarnation:
            self._note_drained(job.batch.replica)
        self._hold(job, self._run(), self._answer)

    def _answer(self, job: _Job) -> None:
        """Second part of a finish job: answers leave one by one; a cancelled one costs nothing."""
        while job.requests and job.cancels_ns[0] < self.now_ns:
            job.cancels_ns.popleft()
            self._leave(job.requests.popleft(), OUTCOME_CANCELLED, REASON_CLIENT, job.told)
        if job.requests:
            self._hold(job, front_leaf.answer_ns(self._front, job.requests[0].rows), self._answered)
        else:
            self._job_ended()

    def _answered(self, job: _Job) -> None:
        assert job.batch is not None
        job.cancels_ns.popleft()
        self._leave(job.requests.popleft(), OUTCOME_OK, job.batch.reason, job.told)
        self._answer(job)

    # -- the scheduler ---------------------------------------------------------------------------------

    def _run(self) -> int:
        """Rule 3, repeated; drops become refuse jobs, batches start. How long handing them over takes the front."""
        running = self.scheduler.running
        decision = self.scheduler.run(self.now_ns)
        for drop in decision.drops:
            self._drop(drop)
        for batch in decision.batches:
            if batch.start_ns >= 0:
                self._start(batch, running)
                running += 1
        return sum(front_leaf.dispatch_ns(self._front, batch.rows, len(batch.requests)) for batch in decision.batches)

    def _start(self, batch: Batch, busy: int) -> None:
        """Rules 5 and 11: the batch starts beside `busy` other running replicas of its node; its end is now known."""
        service, first = self.node.service, batch.requests[0]
        level = self._levels[min(self.now_ns // service.level_bin_ns, len(self._levels) - 1)]
        draw = first.payload.draws[min(first.deaths, len(first.payload.draws) - 1)]
        pressure = min(busy + self._beside(), service.pressure_max)
        span_ns = service_ns(self._table, service.bits, service.rows_max, batch.rows, pressure, draw, level)
        span_ns += cold_ns(self._cold, 0, self.now_ns - self._rested_ns[batch.replica])
        if batch.dispatch_ns < self.now_ns:
            span_ns = following_ns(span_ns, service.handover_ns)
        self._ledger.batch_started(batch, self.number, self.now_ns)
        if batch.replica in self._hanging:
            self._die(batch)
            return
        span_ns = slowed_ns(span_ns, self._slow_per_mille)
        self._at(self.now_ns + span_ns, EVENT_ENDED, self.number * REPLICAS_MAX + batch.replica, self._ended, batch)

    def _ended(self, batch: Batch) -> None:
        if self.scheduler.replicas[batch.replica].incarnation != batch.incarnation:
            return  # its replica died meanwhile
        if batch.replica in self._hanging:
            return  # it never ends
        self._ledger.batch_stopped(batch, self.number, self.now_ns)
        self._rested_ns[batch.replica] = self.now_ns
        following = self.scheduler.ended(batch.replica, self.now_ns)
        if following is not None:
            self._start(following, self.scheduler.running - 1)
        self._jobs.append(_Job(FINISH, deque(batch.requests), batch=batch))
        self._settle()

    def cancel(self, request: Request) -> None:
        """The node learns that nobody waits for a request any more."""
        drop = self.scheduler.cancel(request, self.now_ns)
        if drop is not None:
            self._drop(drop)
            self._settle()

    def _arm_window(self) -> None:
        """The window's timer: once at each instant at which the then oldest request's window ends."""
        due_ns = self.scheduler.window_due_ns
        at_ns = due_ns + self._front[FRONT_TIMER_LATE_NS]
        if due_ns < NEVER_NS and at_ns >= self.now_ns and at_ns not in (self._window_armed_ns, self._window_fired_ns):
            self._window_armed_ns = at_ns
            self._at(at_ns, EVENT_WINDOW, self.number, self._window)

    def _window(self) -> None:
        late_ns = self._front[FRONT_TIMER_LATE_NS]
        if self._job is None and self.now_ns == self.scheduler.window_due_ns + late_ns != self._window_fired_ns:
            self._window_fired_ns = self.now_ns
            self._settle()

    def _arm_deadline(self, request: Request) -> None:
        if request.deadline_ns < NEVER_NS:
            at_ns = request.deadline_ns + self._front[FRONT_TIMER_LATE_NS]
            self._at(at_ns, EVENT_DEADLINE, self.timer_index(request), self._deadline, request)

    def _deadline(self, request: Request) -> None:
        if self._job is not None:
            return  # the job's end does the timer's work
        drop = self.scheduler.deadline(request, self.now_ns)
        if drop is not None:
            self._drop(drop)
            self._settle()

    # -- what leaves -------------------------------------------------------------------------------------

    def _drop(self, drop: Drop) -> None:
        """A cancelled request is gone at once; any other dropped one gets an answer, by a refuse job."""
        if drop.outcome == OUTCOME_CANCELLED:
            self._leave(drop.request, drop.outcome, drop.reason)
        else:
            self._jobs.append(_Job(REFUSE, deque([drop.request]), outcome=drop.outcome, reason=drop.reason))

    def _leave(self, request: Request, outcome: int, reason: int, told: int | None = None) -> None:
        self._ledger.left(request, self.now_ns)
        self._left(request, Answer(outcome, reason, self.told if told is None else told))
