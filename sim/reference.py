"""The reference simulator: the production scheduler under SimPy's clock, one lean event flow per request.

It is slow and beyond doubt. It owns the clock, the front station (rule 10), the service times
(rule 11) and the clients; every other rule is `serve.scheduler`'s own code. Every event goes
through `sim.clock`, which turns the written order of simultaneous events into SimPy's priority;
what happened is written down in `sim.ledger`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.policy import front as front_leaf
from serve.policy.codes import (
    EVENT_CANCEL,
    EVENT_CONTROL,
    EVENT_DEADLINE,
    EVENT_ENDED,
    EVENT_FRONT,
    EVENT_WINDOW,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_OK,
    OUTCOME_PENDING,
    REASON_CLIENT,
    REASON_FRONT,
    REASON_NONE,
)
from serve.policy.front import FRONT_BUDGET_NS, FRONT_TIMER_LATE_NS
from serve.policy.service import cold_ns, following_ns, service_ns
from serve.records import Rows
from serve.scheduler import Batch, Drop, Request, Scheduler
from sim.arrivals import Arrivals
from sim.clock import Clock
from sim.ledger import Ledger
from sim.plane import (
    Closed,
    Ints,
    Node,
    Requests,
    Stop,
    StopCode,
    check_bins,
    check_node,
)
from sim.tally import Tally

PARSE, FINISH, REFUSE, DISPATCH = range(4)


@dataclass(slots=True)
class _Job:
    """One job of the front station: a parse or refusal of `requests[0]`, the finish of a batch, or the handing over of
    batches that left."""

    kind: int
    requests: deque[Request]
    batch: Batch | None = None
    outcome: int = OUTCOME_PENDING
    reason: int = REASON_NONE


@dataclass(slots=True)
class _Stops:
    """What control has yet to be told, in the order in which it is told."""

    drained: set[int] = field(default_factory=set)
    told: set[int] = field(default_factory=set)  # drained replicas that control knows of
    failed: int = -1
    homeless: int = -1
    reached: bool = False


class Reference:
    """A `Plane` over `serve.scheduler.Scheduler`; always keeps rows, and tallies from them."""

    def __init__(
        self,
        node: Node,
        classes: int,
        closed: Closed | None = None,
        *,
        time_bins: int = 1,
        bin_ns: int = 2**62,
        slo_ns: Ints | None = None,
    ) -> None:
        check_node(node, closed)
        check_bins(time_bins, bin_ns)
        self.node = node
        self.scheduler = Scheduler(node.scheduler, node.replicas)
        self._classes = classes
        self._time_bins, self._bin_ns, self._slo_ns = time_bins, bin_ns, slo_ns
        self._front = [int(v) for v in node.front]
        self._table = [int(v) for v in node.service.table]
        self._levels = [float(v) for v in node.service.levels]
        self._cold = [int(v) for v in node.service.cold_ns]
        self._rested_ns = [0] * node.replicas  # since when each replica has been idle, where it is
        self._clock = Clock()
        self._at = self._clock.at
        self._arrivals = Arrivals(self._clock, node, classes, closed, self._arrive)
        self._job: _Job | None = None
        self._jobs: deque[_Job] = deque()
        self._window_armed_ns = self._window_fired_ns = -1
        self._stops = _Stops()
        self._ledger = Ledger()

    # -- what comes in ---------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Instant of the last stop."""
        return self._clock.now_ns

    def feed(self, requests: Requests) -> None:
        """Hand over the next open arrivals."""
        self._arrivals.feed(requests)

    def feed_closed(self, requests: Requests) -> None:
        """Hand over the next requests of the closed-loop clients, client by client."""
        self._arrivals.feed_closed(requests)

    def end_feed(self) -> None:
        """No more open arrivals will come."""
        self._arrivals.end_feed()

    # -- the clock ---------------------------------------------------------------------------------

    def advance(self, until_ns: int) -> Stop:
        """Handle every event before `until_ns`, and classes 0 and 1 at it; return early where control must react."""
        assert until_ns >= self.now_ns, f"{until_ns=} lies before {self.now_ns=}"
        stops = self._stops
        self._at(until_ns, EVENT_CONTROL, -1, self._reach, stops)
        self._arrivals.resume()
        while (stop := self._stop()) is None:
            self._clock.step()
        # A marker of an advance that stopped early must not end a later one.
        self._stops = _Stops(stops.drained, stops.told, stops.failed, stops.homeless)
        self._check()
        return stop

    def _reach(self, stops: _Stops) -> None:
        stops.reached = True

    def _stop(self) -> Stop | None:
        stops, now_ns = self._stops, self.now_ns
        if stops.drained:
            which = min(stops.drained)
            stops.drained.remove(which)
            stops.told.add(which)
            return Stop(StopCode.DRAINED, now_ns, which)
        if stops.failed >= 0:
            which, stops.failed = stops.failed, -1
            return Stop(StopCode.FAILED, now_ns, which)
        if stops.homeless >= 0:
            which, stops.homeless = stops.homeless, -1
            return Stop(StopCode.NO_REPLICA, now_ns, which)
        if self._arrivals.starved:
            return Stop(StopCode.STARVED, now_ns)
        return Stop(StopCode.UNTIL, now_ns) if stops.reached else None

    # -- control -----------------------------------------------------------------------------------

    def ready(self, replica: int) -> None:
        """Control: the replica is up."""
        self._control(lambda: self._ready(replica))

    def _ready(self, replica: int) -> None:
        if not self.scheduler.replicas[replica].up:
            self._rested_ns[replica] = self.now_ns
        self.scheduler.up(replica)

    def kill(self, replica: int) -> None:
        """Control: the replica dies (rule 8)."""
        self._control(lambda: self._kill(replica))

    def drain_replica(self, replica: int) -> None:
        """Control: the replica takes no more batches (rule 12)."""
        self._control(lambda: self._drain_replica(replica))

    def drain(self) -> None:
        """Control: the node drains (rule 12)."""
        self._control(self.scheduler.drain)

    def _control(self, call: Callable[[], None]) -> None:
        """Control is an event too: what classes 0 and 1 hold at this instant comes before it."""
        done: list[bool] = []

        def act() -> None:
            call()
            self._settle()
            done.append(True)

        self._at(self.now_ns, EVENT_CONTROL, 0, act)
        while not done:
            self._clock.step()

    def _drain_replica(self, replica: int) -> None:
        self.scheduler.drain_replica(replica)
        self._note_drained(replica)

    def _note_drained(self, replica_id: int) -> None:
        replica = self.scheduler.replicas[replica_id]
        if replica.draining and not replica.batches and replica_id not in self._stops.told:
            self._stops.drained.add(replica_id)

    def _kill(self, replica_id: int) -> None:
        running = self.scheduler.replicas[replica_id].running
        if running is not None:
            self._ledger.batch_stopped(running, self.now_ns)
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

    # -- the front station (rule 10) ------------------------------------------------------------------

    def _arrive(self, request: Request) -> None:
        trip = request.payload
        self._ledger.arrived(self.now_ns)
        if trip.patience_ns < NEVER_NS:
            self._at(trip.arrival_ns + trip.patience_ns, EVENT_CANCEL, request.id, self._cancel, request)
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
        self._ledger.front_worked(self.now_ns, self.now_ns + cost_ns)
        self._at(self.now_ns + cost_ns, EVENT_FRONT, 0, self._work_ended, job, then)

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
        self.scheduler.finished(job.batch)
        if self.scheduler.replicas[job.batch.replica].incarnation == job.batch.incarnation:
            self._note_drained(job.batch.replica)
        self._hold(job, self._run(), self._answer)

    def _answer(self, job: _Job) -> None:
        """Second part of a finish job: answers leave one by one; a cancelled one costs nothing."""
        while job.requests and job.requests[0].cancelled_ns < self.now_ns:
            self._leave(job.requests.popleft(), OUTCOME_CANCELLED, REASON_CLIENT)
        if job.requests:
            self._hold(job, front_leaf.answer_ns(self._front, job.requests[0].rows), self._answered)
        else:
            self._job_ended()

    def _answered(self, job: _Job) -> None:
        assert job.batch is not None
        self._leave(job.requests.popleft(), OUTCOME_OK, job.batch.reason)
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
        """Rules 5 and 11: the batch starts beside `busy` other running replicas; its end is now known."""
        service, first = self.node.service, batch.requests[0]
        level = self._levels[min(self.now_ns // service.level_bin_ns, len(self._levels) - 1)]
        draw = first.payload.draws[min(first.deaths, len(first.payload.draws) - 1)]
        pressure = min(busy, service.pressure_max)
        span_ns = service_ns(self._table, service.bits, service.rows_max, batch.rows, pressure, draw, level)
        span_ns += cold_ns(self._cold, 0, self.now_ns - self._rested_ns[batch.replica])
        if batch.dispatch_ns < self.now_ns:
            span_ns = following_ns(span_ns, service.handover_ns)
        self._ledger.batch_started(batch, self.now_ns)
        self._at(self.now_ns + span_ns, EVENT_ENDED, batch.replica, self._ended, batch)

    def _ended(self, batch: Batch) -> None:
        if self.scheduler.replicas[batch.replica].incarnation != batch.incarnation:
            return  # its replica died meanwhile
        self._ledger.batch_stopped(batch, self.now_ns)
        self._rested_ns[batch.replica] = self.now_ns
        following = self.scheduler.ended(batch.replica, self.now_ns)
        if following is not None:
            self._start(following, self.scheduler.running - 1)
        self._jobs.append(_Job(FINISH, deque(batch.requests), batch=batch))
        self._settle()

    def _cancel(self, request: Request) -> None:
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
            self._at(at_ns, EVENT_WINDOW, 0, self._window)

    def _window(self) -> None:
        late_ns = self._front[FRONT_TIMER_LATE_NS]
        if self._job is None and self.now_ns == self.scheduler.window_due_ns + late_ns != self._window_fired_ns:
            self._window_fired_ns = self.now_ns
            self._settle()

    def _arm_deadline(self, request: Request) -> None:
        if request.deadline_ns < NEVER_NS:
            at_ns = request.deadline_ns + self._front[FRONT_TIMER_LATE_NS]
            self._at(at_ns, EVENT_DEADLINE, request.id, self._deadline, request)

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

    def _leave(self, request: Request, outcome: int, reason: int) -> None:
        self._ledger.left(request, outcome, reason, self.now_ns)
        self._arrivals.left(request, outcome)

    # -- the record --------------------------------------------------------------------------------

    def rows(self) -> Rows:
        """The rows of all requests that left, by request id."""
        return self._ledger.rows()

    def batches(self) -> Ints:
        """The batch log (see `sim.tally`), in order of dispatch, of every batch that started."""
        return self._ledger.batches()

    def tally(self) -> Tally:
        """Histograms and sums so far, computed from the rows."""
        rows_max = self.node.scheduler.max_batch
        return self._ledger.tally(self._classes, self._time_bins, self._bin_ns, rows_max, self._slo_ns)

    def _check(self) -> None:
        """Conservation of requests at every stop, and Little's law exactly whenever nothing is present."""
        work = [*self._jobs, *([self._job] if self._job is not None else [])]
        in_front = sum(len(job.requests) for job in work)
        batches = [b for r in self.scheduler.replicas for b in r.batches if b.ended_ns < 0]
        in_batches = sum(len(b.requests) for b in batches)
        self._ledger.check(in_front + self.scheduler.waiting_requests + in_batches)
