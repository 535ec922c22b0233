"""A scheduler under a fake clock, and a slow independent model of it: what the scheduler's tests share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serve.policy.codes import NEVER_NS
from serve.records import Outcome, Reason
from serve.scheduler import Batch, Decision, Drop, Request, Scheduler, SchedulerSpec


class Desk:
    """Drives a scheduler the way a front that costs nothing does: each event is followed by rule 3.

    `log` tells what the scheduler decided, a line each: `7 full r0: 1 2` (a batch of requests 1 and
    2 left for replica 0 at 7 ns and starts), `7 full r0 second slot: 3 4`, `9 start r0: 3 4`,
    `9 drop 5: full (queue)`.
    """

    def __init__(self, replicas: int = 1, **limits: Any) -> None:
        self.scheduler = Scheduler(SchedulerSpec(**limits), replicas)
        self.requests: dict[int, Request] = {}
        self.batches: list[Batch] = []
        self.log: list[str] = []
        self.now_ns = 0
        for replica in range(replicas):
            self.scheduler.up(replica)

    def at(self, now_ns: int) -> Desk:
        """Move the clock to `now_ns`; it never goes back."""
        assert now_ns >= self.now_ns, f"the clock stands at {self.now_ns}, cannot go to {now_ns}"
        self.now_ns = now_ns
        return self

    def arrives(
        self, request_id: int, rows: int = 1, priority: int = 0, timeout_ns: int = NEVER_NS, run: bool = True
    ) -> Desk:
        """The front has parsed a request: it is enqueued now. `run=False`: the front is busy with more."""
        request = Request(request_id, rows, priority, timeout_ns)
        self.requests[request_id] = request
        return self._noted(self.scheduler.offer(request, self.now_ns), run)

    def ends(self, replica: int, finish: bool = True, run: bool = True) -> Batch:
        """A replica ends its batch; with `finish` the front has also freed the slot."""
        batch = self.scheduler.replicas[replica].running
        assert batch is not None, f"replica {replica} runs nothing"
        started = self.scheduler.ended(replica, self.now_ns)
        if started is not None:
            self.log.append(f"{self.now_ns} start r{replica}: {ids_of(started)}")
        if finish:
            self.finishes(batch, run=run)
        return batch

    def finishes(self, batch: Batch, run: bool = True) -> Desk:
        """First part of a finish job is done: the slot is free."""
        self.scheduler.finished(batch, self.now_ns)
        return self.runs() if run else self

    def dies(self, replica: int, run: bool = True) -> Desk:
        """A replica's process is gone."""
        for drop in self.scheduler.died(replica, self.now_ns):
            self._noted(drop, run=False)
        return self.runs() if run else self

    def comes_up(self, replica: int) -> Desk:
        """A replica has loaded and warmed up."""
        self.scheduler.up(replica)
        return self.runs()

    def cancels(self, request_id: int, run: bool = True) -> Desk:
        """A client gives up."""
        return self._noted(self.scheduler.cancel(self.requests[request_id], self.now_ns), run)

    def deadline(self, request_id: int) -> Desk:
        """The deadline timer of a request fires."""
        return self._noted(self.scheduler.deadline(self.requests[request_id], self.now_ns))

    def drains(self) -> Desk:
        """The node drains."""
        self.scheduler.drain()
        return self.runs()

    def drains_replica(self, replica: int) -> Desk:
        """A replica is to be retired."""
        self.scheduler.drain_replica(replica)
        return self.runs()

    def runs(self) -> Desk:
        """Rule 3 now: what a window timer, or the end of a front job, brings about."""
        decision = self.scheduler.run(self.now_ns)
        for drop in decision.drops:
            self._noted(drop, run=False)
        for batch in decision.batches:
            self.batches.append(batch)
            slot = "" if batch.start_ns == self.now_ns else " second slot"
            reason = Reason(batch.reason).name.lower()
            self.log.append(f"{self.now_ns} {reason} r{batch.replica}{slot}: {ids_of(batch)}")
        return self

    def _noted(self, drop: Drop | None, run: bool = True) -> Desk:
        if drop is not None:
            outcome, reason = Outcome(drop.outcome).name.lower(), Reason(drop.reason).name.lower()
            self.log.append(f"{self.now_ns} drop {drop.request.id}: {outcome} ({reason})")
        return self.runs() if run else self


def ids_of(batch: Batch) -> str:
    """Request ids of a batch in row order, for a log line."""
    return " ".join(str(request.id) for request in batch.requests)


@dataclass(eq=False)
class ModelRequest:
    """A request as the slow model sees it."""

    id: int
    rows: int
    priority: int
    deadline_ns: int | None
    enqueue_ns: int
    number: int
    cancelled_ns: int | None = None
    deaths: int = 0


@dataclass(eq=False)
class ModelBatch:
    """A batch as the slow model sees it."""

    requests: list[ModelRequest]
    reason: str
    started: bool = False
    ended: bool = False


@dataclass(eq=False)
class ModelReplica:
    """A replica as the slow model sees it."""

    up: bool = True
    draining: bool = False
    slots: list[ModelBatch] = field(default_factory=list)


class SlowModel:
    """Rules 1-9 and 12 over one plain list that is sorted anew for each question.

    It shares no code with the scheduler nor with the leaves: words for codes, None for never. Each
    method returns what it decided as a list of lines that `decided` writes for the scheduler too.
    """

    def __init__(self, spec: SchedulerSpec, replicas: int) -> None:
        self.spec = spec
        self.replicas = [ModelReplica() for _ in range(replicas)]
        self.waiting: list[ModelRequest] = []
        self.known: dict[int, ModelRequest] = {}
        self.draining = False

    def offer(self, request: Request, now_ns: int) -> list[str]:
        """Rule 1, up to the verdict on the newcomer."""
        if not 1 <= request.rows <= self.spec.max_batch:
            return [f"drop {request.id}: invalid (rows)"]
        deadline_ns = None if request.timeout_ns == NEVER_NS else now_ns + request.timeout_ns
        mine = ModelRequest(request.id, request.rows, request.priority, deadline_ns, now_ns, len(self.known))
        self.known[request.id] = mine
        self.waiting.append(mine)
        return []

    def run(self, now_ns: int, newcomer: int | None) -> list[str]:
        """Rules 2-6 until nothing may leave, then the newcomer's verdict."""
        late = [r for r in self.waiting if r.deadline_ns is not None and r.deadline_ns < now_ns]
        lines = []
        for request in sorted(late, key=lambda r: (r.deadline_ns, r.id)):
            self.waiting.remove(request)
            lines.append(f"drop {request.id}: expired (deadline)")
        batches = []
        while (found := self.may_leave(now_ns)) is not None:
            batches.append(self._leave(*found))
        return lines + self._refused(newcomer) + batches

    def may_leave(self, now_ns: int) -> tuple[str, int] | None:
        """Reason and replica of the batch that may leave now (rules 3, 4, 5)."""
        reason = self._reason(now_ns)
        if reason is None:
            return None
        allowed = [
            (len(replica.slots), index)
            for index, replica in enumerate(self.replicas)
            if replica.up
            and not replica.draining
            and (not replica.slots or (len(replica.slots) < self.spec.slots and reason == "full"))
        ]
        return (reason, min(allowed)[1]) if allowed else None

    def deadline(self, request_id: int, now_ns: int) -> list[str]:
        """Rule 6's timer."""
        request = self.known[request_id]
        if request not in self.waiting or request.deadline_ns is None or request.deadline_ns > now_ns:
            return []
        self.waiting.remove(request)
        return [f"drop {request_id}: expired (deadline)"]

    def cancel(self, request_id: int, now_ns: int) -> list[str]:
        """Rule 7."""
        request = self.known[request_id]
        if request.cancelled_ns is None:
            request.cancelled_ns = now_ns
        if request not in self.waiting:
            return []
        self.waiting.remove(request)
        return [f"drop {request_id}: cancelled (client)"]

    def ended(self, index: int) -> list[str]:
        """The batch that runs ends; one in the second slot starts."""
        unended = [batch for batch in self.replicas[index].slots if not batch.ended]
        unended[0].ended = True
        if len(unended) == 1:
            return []
        unended[1].started = True
        return [f"start r{index}: {self._ids(unended[1])}"]

    def finished(self, index: int) -> None:
        """The first batch of the replica, which has ended, frees its slot."""
        assert self.replicas[index].slots.pop(0).ended

    def died(self, index: int, now_ns: int) -> list[str]:
        """Rule 8."""
        replica = self.replicas[index]
        batches, replica.slots, replica.up = replica.slots, [], False
        lines = []
        for batch in batches:
            if not batch.ended:
                for request in batch.requests:
                    request.deaths += batch.started
                    lines += self._put_back(request, now_ns)
        return lines

    def _put_back(self, request: ModelRequest, now_ns: int) -> list[str]:
        if request.cancelled_ns is not None and request.cancelled_ns < now_ns:
            return [f"drop {request.id}: cancelled (client)"]
        if 0 <= self.spec.max_deaths <= request.deaths:
            return [f"drop {request.id}: failed (death)"]
        if request.deadline_ns is not None and request.deadline_ns < now_ns:
            return [f"drop {request.id}: expired (deadline)"]
        self.waiting.append(request)
        return []

    def _reason(self, now_ns: int) -> str | None:
        if not self.waiting:
            return None
        if sum(r.rows for r in self.waiting) >= self.spec.max_batch:
            return "full"
        if self.draining:
            return "drain"
        oldest = min(self.waiting, key=lambda r: r.number)
        if now_ns - oldest.enqueue_ns >= self.spec.window_ns:
            return "window" if self.spec.window_ns else "idle"
        return None

    def _leave(self, reason: str, index: int) -> str:
        batch = ModelBatch([], reason)
        for request in sorted(self.waiting, key=lambda r: (r.priority, r.number)):
            if sum(r.rows for r in batch.requests) + request.rows > self.spec.max_batch:
                break
            batch.requests.append(request)
        self.waiting = [r for r in self.waiting if r not in batch.requests]
        slots = self.replicas[index].slots
        batch.started = all(other.ended for other in slots)
        slots.append(batch)
        return f"{reason} r{index}{'' if batch.started else ' second slot'}: {self._ids(batch)}"

    def _refused(self, newcomer: int | None) -> list[str]:
        request = None if newcomer is None else self.known.get(newcomer)
        if request is None or request not in self.waiting or self.spec.max_queue < 0:
            return []
        if sum(r.rows for r in self.waiting if r.priority <= request.priority) <= self.spec.max_queue:
            return []
        self.waiting.remove(request)
        return [f"drop {request.id}: full (queue)"]

    @staticmethod
    def _ids(batch: ModelBatch) -> str:
        return " ".join(str(r.id) for r in batch.requests)


def decided(decision: Decision | Drop | list[Drop] | None, now_ns: int) -> list[str]:
    """The scheduler's decision in the slow model's words."""
    if decision is None:
        return []
    if isinstance(decision, Drop):
        outcome, reason = Outcome(decision.outcome).name.lower(), Reason(decision.reason).name.lower()
        return [f"drop {decision.request.id}: {outcome} ({reason})"]
    if isinstance(decision, list):
        return [line for drop in decision for line in decided(drop, now_ns)]
    lines = decided(decision.drops, now_ns)
    for batch in decision.batches:
        slot = "" if batch.start_ns == now_ns else " second slot"
        lines.append(f"{Reason(batch.reason).name.lower()} r{batch.replica}{slot}: {ids_of(batch)}")
    return lines
