"""The scheduler: one queue and its replicas, sans-IO (rules 1-9 and 12).

It is told what happened and when, and says which batches leave and which requests are dropped.
It owns no clock, socket, process or random number: the live engine drives it with the wall clock,
`sim.reference` with SimPy's. The front (rule 10) belongs to the driver, which therefore decides
when `run` (rule 3, repeated) is called: at the end of every front job and of a finish job's first
part, and after any other event that leaves the front idle.

Life of a request:  offer -> waiting -> dispatched -> (done)        or dropped with an outcome
Life of a slot:     take_batch -> start -> ended -> finished          (a death empties all slots)
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

from serve import release
from serve.gathering import NOBODY, Gathering
from serve.policy import admission, batching
from serve.policy.codes import (
    EVENT_ARRIVAL,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_PENDING,
    POLICY_FOREBAY,
    POLICY_TF_SERVING,
    POLICY_WORKERS,
    REASON_CLIENT,
    REASON_DEADLINE,
    REASON_DEATH,
    REASON_DRAINING,
    REASON_NONE,
    REASON_QUEUE,
    REASON_ROWS,
)
from serve.policy.scaling.metering import Gauges, Meter, Scrape


@dataclass(frozen=True, slots=True)
class SchedulerSpec:
    """Limits of one queue, already checked: rows, ns; negative `max_queue` or `max_deaths` is unbounded."""

    max_batch: int
    window_ns: int = 0
    max_queue: int = -1
    priority_levels: int = 1
    slots: int = 1
    max_deaths: int = 2
    policy: int = POLICY_FOREBAY
    settings: tuple[int, ...] = ()  # of another engine's policy: its parameters after these two

    @property
    def params(self) -> tuple[int, ...]:
        """Parameter vector of the batching policy."""
        return (self.max_batch, self.window_ns, *self.settings)


@dataclass(slots=True, eq=False)
class Request:
    """One attempt as the scheduler sees it; `payload` is the driver's own."""

    id: int
    rows: int
    priority: int = 0
    timeout_ns: int = NEVER_NS
    payload: Any = None
    number: int = -1  # enqueue number, kept over put-backs
    enqueue_ns: int = -1
    deadline_ns: int = NEVER_NS
    cancelled_ns: int = NEVER_NS
    deaths: int = 0
    waiting: bool = False
    batch: Batch | None = None
    gatherer: int = NOBODY  # replica that has pulled it, while it waits


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that left together; `start_ns` and `ended_ns` are -1 until they happen."""

    id: int
    requests: list[Request]
    rows: int
    reason: int
    replica: int
    incarnation: int
    dispatch_ns: int
    start_ns: int = -1
    ended_ns: int = -1


@dataclass(slots=True, eq=False)
class Replica:
    """Slots of one replica: `batches` are those dispatched to it whose finish is not yet done."""

    id: int
    up: bool = False
    draining: bool = False
    incarnation: int = 0
    batches: list[Batch] = field(default_factory=list)
    running: Batch | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """A request that leaves the scheduler unserved, with its outcome and reason."""

    request: Request
    outcome: int
    reason: int


@dataclass(slots=True)
class Decision:
    """What a run of rule 3 decided: drops first to last, then batches first to last."""

    drops: list[Drop] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


class Scheduler:
    """One queue feeding `replicas` replicas, ids 0 and up; they are down until `up` is called.

    Batches are numbered from `first_batch` on.
    """

    def __init__(self, spec: SchedulerSpec, replicas: int, first_batch: int = 0) -> None:
        self.spec = spec
        self.replicas = [Replica(id=i) for i in range(replicas)]
        self.draining = False
        self.waiting_rows = 0
        self.waiting_requests = 0
        self.ongoing_rows = 0
        self.ongoing_requests = 0
        self.running = 0
        """Replicas computing a batch now (rule 11 counts these)."""
        self._meter = Meter()
        self.levels: list[deque[Request]] = [deque() for _ in range(spec.priority_levels)]
        self._level_rows = [0] * spec.priority_levels
        self._deadlines: list[tuple[int, int, int, Request]] = []
        self._numbers = 0
        self.next_batch = first_batch
        self._params = spec.params
        self._state = [NEVER_NS]
        self._wake_ns = NEVER_NS
        """When another engine's policy asked to be asked again."""
        self._gathering = Gathering(spec, self.replicas) if spec.policy >= POLICY_WORKERS else None
        self._newcomer: Request | None = None

    # -- events in -----------------------------------------------------------------------------

    def offer(self, request: Request, now_ns: int) -> Drop | None:
        """Rule 1: queue the newcomer (the caller runs rule 3 next), or say why it is invalid."""
        if request.rows > self.spec.max_batch or request.rows < 1:
            return Drop(request, OUTCOME_INVALID, REASON_ROWS)
        self._pass(now_ns)
        request.number = self._numbers
        self._numbers += 1
        request.enqueue_ns = now_ns
        if request.timeout_ns != NEVER_NS:
            request.deadline_ns = now_ns + request.timeout_ns
        self.levels[request.priority].append(request)
        self._count_waiting(request, 1)
        self._count_ongoing(request, 1)
        self._meter.arrivals += 1
        self._meter.rows += request.rows
        self._newcomer = request
        return None

    def run(self, now_ns: int) -> Decision:
        """Rule 3, repeated until nothing more may leave; then rule 1's verdict on the newcomer."""
        self._pass(now_ns)
        decision = Decision(drops=self._expire(now_ns))
        while (batch := self._next_batch(now_ns)) is not None:
            decision.batches.append(batch)
        newcomer, self._newcomer = self._newcomer, None
        if newcomer is not None and newcomer.waiting and self._overflows(newcomer):
            self._remove(newcomer)
            decision.drops.append(Drop(newcomer, OUTCOME_FULL, REASON_QUEUE))
        return decision

    def deadline(self, request: Request, now_ns: int) -> Drop | None:
        """Rule 6's timer, last event of the instant `deadline_ns`: what still waits has had its chance."""
        if not request.waiting or now_ns < request.deadline_ns:
            return None
        self._pass(now_ns)
        self._remove(request)
        return Drop(request, OUTCOME_EXPIRED, REASON_DEADLINE)

    def cancel(self, request: Request, now_ns: int) -> Drop | None:
        """Rule 7: a waiting request is removed; a dispatched one only remembers when."""
        request.cancelled_ns = min(request.cancelled_ns, now_ns)
        if not request.waiting:
            return None
        self._pass(now_ns)
        self._remove(request)
        return Drop(request, OUTCOME_CANCELLED, REASON_CLIENT)

    def ended(self, replica_id: int, now_ns: int) -> Batch | None:
        """The running batch ended (its slot is freed by `finished`); the next in the slots, if any, starts."""
        replica = self.replicas[replica_id]
        assert replica.running is not None, f"{replica_id=} ended nothing"
        self._pass(now_ns)
        replica.running.ended_ns = now_ns
        replica.running = next((b for b in replica.batches if b.start_ns < 0), None)
        if replica.running is not None:
            replica.running.start_ns = now_ns
        else:
            self.running -= 1
        return replica.running

    def finished(self, batch: Batch, now_ns: int) -> None:
        """First part of a finish job is done: the slot is free, unless its replica died meanwhile."""
        self._pass(now_ns)
        self._meter.answers += len(batch.requests)
        for request in batch.requests:
            self._count_ongoing(request, -1)
        replica = self.replicas[batch.replica]
        if replica.incarnation == batch.incarnation:
            replica.batches.remove(batch)
            if self._gathering is not None:
                self._gathering.freed(replica.id, now_ns)

    def died(self, replica_id: int, now_ns: int) -> list[Drop]:
        """Rule 8: what had not ended is put back, request by request, or dropped."""
        replica = self.replicas[replica_id]
        self._pass(now_ns)
        self.running -= replica.running is not None
        unfinished = [b for b in replica.batches if b.ended_ns < 0]
        replica.up = False
        replica.incarnation += 1
        replica.batches = []
        replica.running = None
        if self._gathering is not None:
            self._gathering.let_go(replica_id, self.levels[0])
        drops = []
        for batch in unfinished:
            for request in batch.requests:
                request.deaths += 1 if batch.start_ns >= 0 else 0
                drop = self._put_back(request, now_ns)
                if drop is not None:
                    self._count_ongoing(request, -1)
                    drops.append(drop)
        return drops

    def up(self, replica_id: int, now_ns: int = 0) -> None:
        """A replica (new, or the successor of a dead one) is ready; a draining one is never revived."""
        if self._gathering is not None and not self.replicas[replica_id].up:
            self._gathering.freed(replica_id, now_ns)
        self.replicas[replica_id].up = True

    def drain_replica(self, replica_id: int) -> None:
        """Rule 12 for one replica: it takes no more batches."""
        self.replicas[replica_id].draining = True
        if self._gathering is not None:
            self._gathering.let_go(replica_id, self.levels[0])

    def retire(self, replica_id: int) -> None:
        """A replica that is down has gone for good: who comes up in its place is another one."""
        self.replicas[replica_id].draining = False

    def drain(self) -> None:
        """Rule 12: from now on partial batches leave at once; the driver refuses new arrivals."""
        self.draining = True

    # -- what the driver may ask -----------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Number of dispatched batches whose finish is not yet done."""
        return sum(len(r.batches) for r in self.replicas)

    @property
    def oldest(self) -> Request:
        """Who has waited longest, at any priority; somebody must."""
        return min((level[0] for level in self.levels if level), key=lambda r: r.number)

    @property
    def window_due_ns(self) -> int:
        """When the oldest waiting request's window ends (NEVER_NS if nothing waits or no window is set); of another
        engine's policy, what the last run of rule 3 asked for."""
        if self.spec.policy != POLICY_FOREBAY:
            return self._wake_ns
        if not self.waiting_requests or not self.spec.window_ns:
            return NEVER_NS
        return self.oldest.enqueue_ns + self.spec.window_ns

    @property
    def next_deadline_ns(self) -> int:
        """Earliest deadline among those waiting, NEVER_NS if none."""
        while self._deadlines and not self._deadlines[0][3].waiting:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else NEVER_NS

    def wake_ns(self, now_ns: int) -> int:
        """When `run` must next be called if nothing happens: a window or deadline still ahead."""
        due = self.window_due_ns
        return min(due if due > now_ns else NEVER_NS, self.next_deadline_ns)

    def scrape(self, now_ns: int) -> Scrape:
        """Rule 13: what is counted of this queue and its replicas, as of now."""
        self._pass(now_ns)
        up = sum(replica.up and not replica.draining for replica in self.replicas)
        gauges = Gauges(self.waiting_requests, self.ongoing_requests, up)
        return Scrape(now_ns, self._meter.counters, gauges)

    def may_dispatch(self, now_ns: int) -> bool:
        """Whether a batch that may leave meets a slot that may take it: rule 5's invariant denies it after `run`."""
        if self._gathering is not None:
            return self._gathering.may_leave(self.levels[0], self.draining, now_ns)
        _, reason, _ = self._release(now_ns, self._state.copy())
        return reason != REASON_NONE and self._choose(reason) is not None

    def refuse_draining(self, request: Request) -> Drop:
        """The drop of an arrival after the drain (rule 12)."""
        return Drop(request, OUTCOME_DRAINING, REASON_DRAINING)

    # -- the rules ---------------------------------------------------------------------------------

    def _release(self, now_ns: int, state: list[int]) -> tuple[int, int, int]:
        """Rule 3: the most rows that a batch leaving now may have, why (REASON_NONE: none may), when to ask again."""
        if self.spec.policy != POLICY_FOREBAY:
            return release.release(self, state, self._choose(REASON_NONE) is not None, now_ns)
        if not self.waiting_requests:
            return 0, REASON_NONE, NEVER_NS
        view = (self.waiting_rows, self.oldest.enqueue_ns, int(self.draining))
        return batching.step(POLICY_FOREBAY, self._params, state, EVENT_ARRIVAL, now_ns, view)  # type: ignore[no-any-return]

    def _overflows(self, newcomer: Request) -> bool:
        """Rule 1: whether the newcomer, which still waits, is refused."""
        if self.spec.policy == POLICY_TF_SERVING:
            return release.too_many_batches(self)
        ahead = sum(self._level_rows[: newcomer.priority + 1])
        return bool(admission.overflows(ahead, self.spec.max_queue))

    def _next_batch(self, now_ns: int) -> Batch | None:
        if self._gathering is not None:
            return self._next_gathered(self._gathering, now_ns)
        rows, reason, self._wake_ns = self._release(now_ns, self._state)
        if reason == REASON_NONE:
            return None
        replica = self._choose(reason)
        if replica is None:
            return None
        return self._dispatch(replica, self._take_prefix(rows), reason, now_ns)

    def _next_gathered(self, gathering: Gathering, now_ns: int) -> Batch | None:
        """The next batch that a replica gathered and that leaves now."""
        which, reason, self._wake_ns = gathering.next(self.levels[0], self.draining, now_ns)
        if reason == REASON_NONE:
            return None
        requests = [request for request in self.levels[0] if request.gatherer == which]
        for request in requests:
            self.levels[0].remove(request)
            self._count_waiting(request, -1)
        return self._dispatch(self.replicas[which], requests, reason, now_ns)

    def _choose(self, reason: int) -> Replica | None:
        """Rule 4 among the replicas that rule 5 allows: fewest occupied slots, then lowest id."""
        best = None
        for replica in self.replicas:
            if not replica.up or replica.draining:
                continue
            if not batching.slot_takes(len(replica.batches), self.spec.slots, reason):
                continue
            if best is None or len(replica.batches) < len(best.batches):
                best = replica
        return best

    def _take_prefix(self, rows_max: int) -> list[Request]:
        """Rule 2: the longest prefix of (priority, enqueue number) whose rows fit."""
        taken: list[Request] = []
        rows = 0
        for level in self.levels:
            while level:
                if not batching.fits(rows, level[0].rows, rows_max):
                    return taken
                request = level.popleft()
                rows += request.rows
                self._count_waiting(request, -1)
                taken.append(request)
        return taken

    def _dispatch(self, replica: Replica, requests: list[Request], reason: int, now_ns: int) -> Batch:
        rows = sum(r.rows for r in requests)
        batch = Batch(self.next_batch, requests, rows, reason, replica.id, replica.incarnation, now_ns)
        self.next_batch += 1
        for request in requests:
            request.batch = batch
            self._meter.wait_ns += now_ns - request.enqueue_ns
        replica.batches.append(batch)
        if replica.running is None:
            self.running += 1
            replica.running = batch
            batch.start_ns = now_ns
        return batch

    def _expire(self, now_ns: int) -> list[Drop]:
        """Rule 6: everything waiting with deadline < now, by (deadline, id)."""
        drops = []
        while admission.expired(self.next_deadline_ns, now_ns):
            request = heappop(self._deadlines)[3]
            self._remove(request)
            drops.append(Drop(request, OUTCOME_EXPIRED, REASON_DEADLINE))
        return drops

    def _put_back(self, request: Request, now_ns: int) -> Drop | None:
        outcome = admission.put_back_outcome(
            request.cancelled_ns, request.deaths, self.spec.max_deaths, request.deadline_ns, now_ns
        )
        if outcome != OUTCOME_PENDING:
            reason = {
                OUTCOME_CANCELLED: REASON_CLIENT,
                OUTCOME_FAILED: REASON_DEATH,
                OUTCOME_EXPIRED: REASON_DEADLINE,
            }[outcome]
            return Drop(request, outcome, reason)
        level = self.levels[request.priority]
        level.insert(bisect_left(level, request.number, key=lambda r: r.number), request)
        request.batch = None
        self._count_waiting(request, 1)
        return None

    # -- bookkeeping -------------------------------------------------------------------------------

    def _remove(self, request: Request) -> None:
        self.levels[request.priority].remove(request)
        self._count_waiting(request, -1)
        self._count_ongoing(request, -1)
        if not self.waiting_requests:
            self._state = [NEVER_NS]

    def _pass(self, now_ns: int) -> None:
        """Time has passed since the last change of what is counted."""
        self._meter.pass_until(now_ns, self.running, self.ongoing_requests, self.waiting_requests)

    def _count_ongoing(self, request: Request, sign: int) -> None:
        """Enqueued, and neither dropped nor of a batch that is finished."""
        self.ongoing_requests += sign
        self.ongoing_rows += sign * request.rows

    def _count_waiting(self, request: Request, sign: int) -> None:
        request.waiting = sign > 0
        if self._gathering is not None and sign < 0:
            self._gathering.left(request)
        self.waiting_requests += sign
        self.waiting_rows += sign * request.rows
        self._level_rows[request.priority] += sign * request.rows
        if request.waiting and request.deadline_ns != NEVER_NS:
            heappush(self._deadlines, (request.deadline_ns, request.id, id(request), request))
            if len(self._deadlines) > 2 * self.waiting_requests + 64:
                self._compact_deadlines()

    def _compact_deadlines(self) -> None:
        """Forget heap entries of requests that no longer wait, and duplicates that put-backs made."""
        alive = {key: (due, i, key, r) for due, i, key, r in self._deadlines if r.waiting}
        self._deadlines = list(alive.values())
        heapify(self._deadlines)
