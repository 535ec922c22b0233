"""Batches that replicas gather themselves, as other engines' workers do (see `serve.policy.engines.workers`).

Requests that a replica has pulled stay in the scheduler's queue, marked with their replica, until their batch leaves:
deadlines, cancellations and the queue's bound see them as before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from serve.policy.codes import BATCHING_FIRST, BATCHING_FREE, EVENT_ARRIVAL, EVENT_WINDOW, NEVER_NS, REASON_NONE
from serve.policy.engines import workers

if TYPE_CHECKING:
    from serve.scheduler import Replica, Request, SchedulerSpec

NOBODY = -1


class Gathering:
    """What the replicas of one queue have pulled, for a policy of workers."""

    def __init__(self, spec: SchedulerSpec, replicas: list[Replica]) -> None:
        self._kind, self._params, self._replicas = spec.policy, spec.params, replicas
        self._rows = [0] * len(replicas)
        self._state = [[NEVER_NS, NEVER_NS] for _ in replicas]
        self._turns = [0] * len(replicas)
        self._turn = 0

    def next(self, queue: Iterable[Request], draining: bool, now_ns: int) -> tuple[int, int, int]:
        """Replicas pull from the queue until nobody may: replica and reason of a batch that leaves (REASON_NONE: none
        does), and when to ask again."""
        for request in queue:
            if request.gatherer != NOBODY:
                continue
            replica = self._puller()
            if replica == NOBODY:
                break
            blocked = self._rows[replica] + request.rows > self._params[0]
            event = EVENT_ARRIVAL
            if not blocked:
                event = EVENT_ARRIVAL if self._rows[replica] else BATCHING_FIRST
                request.gatherer = replica
                self._rows[replica] += request.rows
                self._take_turn(replica)
            reason, _ = self._step(replica, event, now_ns, blocked, draining)
            if reason != REASON_NONE:
                return replica, reason, NEVER_NS
        wake_ns = NEVER_NS
        for replica, rows in enumerate(self._rows):
            if rows:
                reason, due_ns = self._step(replica, EVENT_WINDOW, now_ns, False, draining)
                if reason != REASON_NONE:
                    return replica, reason, NEVER_NS
                wake_ns = min(wake_ns, due_ns)
        return NOBODY, REASON_NONE, wake_ns

    def may_leave(self, queue: Iterable[Request], draining: bool, now_ns: int) -> bool:
        """Whether `next` would change anything."""
        if self._puller() != NOBODY and any(request.gatherer == NOBODY for request in queue):
            return True
        gathered = [replica for replica, rows in enumerate(self._rows) if rows]
        return any(self._step(r, EVENT_WINDOW, now_ns, False, draining)[0] != REASON_NONE for r in gathered)

    def freed(self, replica: int, now_ns: int) -> None:
        """The replica is up, or a slot of it is free."""
        self._step(replica, BATCHING_FREE, now_ns, False, False)
        self._take_turn(replica)

    def left(self, request: Request) -> None:
        """A pulled request left the queue, with its batch or without."""
        if request.gatherer != NOBODY:
            self._rows[request.gatherer] -= request.rows
            request.gatherer = NOBODY

    def let_go(self, replica: int, queue: Iterable[Request]) -> None:
        """The replica is gone, or going: what it has pulled is anybody's again."""
        for request in queue:
            if request.gatherer == replica:
                self.left(request)

    def _puller(self) -> int:
        """Whose turn it is to pull, NOBODY if nobody may."""
        best, best_key = NOBODY, (0, 0)
        for replica in self._replicas:
            if not replica.up or replica.draining:
                continue
            rows = self._rows[replica.id] + sum(batch.rows for batch in replica.batches)
            if not workers.gathers(self._kind, self._params, len(replica.batches), rows):
                continue
            key = (workers.load(self._kind, rows), self._turns[replica.id])
            if best == NOBODY or key < best_key:
                best, best_key = replica.id, key
        return best

    def _take_turn(self, replica: int) -> None:
        self._turn += 1
        self._turns[replica] = self._turn

    def _step(self, replica: int, event: int, now_ns: int, blocked: bool, draining: bool) -> tuple[int, int]:
        view = (self._rows[replica], int(blocked), int(draining))
        _, reason, wake_ns = workers.step(self._kind, self._params, self._state[replica], event, now_ns, view)
        return reason, wake_ns
