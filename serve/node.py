"""What happens to the requests of one model, sans-IO: the driver around the scheduler (rules 1-12).

The engine calls it when a request was parsed, a batch came back, a replica came or went, or a timer
fired; it runs the scheduler's rule 3 where rule 10 says so, hands batches to its `Port`, answers
requests and writes their rows. The clock is a parameter, so the very same code runs under a fake
one (`tests/serve/test_node.py` holds it to the reference simulator's log).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serve.policy.codes import (
    CAUSE_FIRST,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_OK,
    REASON_CLIENT,
    REASON_FRONT,
    REASON_NONE,
)
from serve.scheduler import Batch, Drop, Request, Scheduler
from serve.served import Answer, Arrays, BatchStatistics, LiveRequest, Statistics

if TYPE_CHECKING:  # it imports pyarrow, which an engine without a log has no need of
    from serve.request_log import RequestLog

_logger = logging.getLogger(__name__)

_NOTHING: Arrays = {}


class Port(Protocol):
    """Where a node's batches go."""

    def send(self, batch: Batch, busy: int) -> None:
        """Give the batch to its replica, beside `busy` other running replicas of the machine."""

    def busy(self) -> int:
        """Replicas of the machine, of any model, that compute now."""


@dataclass(slots=True)
class Completion:
    """What a replica says of a batch that it has ended."""

    replica: int
    batch: int
    begin_ns: int  # stamps of the replica
    end_ns: int
    seen_ns: int  # when the front began to look at it
    outputs: Iterable[Arrays | str]  # of each request, in row order; or what the model raised on it


class Node:
    """One model's queue, as the engine drives it. `queue` is its number in rows, by the deployment's order."""

    def __init__(
        self,
        scheduler: Scheduler,
        statistics: Statistics,
        port: Port,
        clock: Callable[[], int],
        log: RequestLog | None = None,
        queue: int = 0,
        threads: int = 1,
    ) -> None:
        self.scheduler = scheduler
        self.statistics = statistics
        self._port = port
        self._clock = clock
        self._log = log
        self._queue = queue
        self._threads = threads
        self._ran_ns = 0  # instant of the last run of rule 3
        self._last_seen_ns = [-1] * len(scheduler.replicas)
        self._busy_at_start = [0] * len(scheduler.replicas)

    # -- front jobs (rule 10) ------------------------------------------------------------------------

    def submit(self, request: LiveRequest) -> None:
        """End of a parse: enqueue, then rule 3."""
        now_ns = self._clock()
        drop = self.scheduler.offer(request, now_ns)
        if drop is not None:
            self._drop(drop)
        else:
            self.run(now_ns)

    def completed(self, done: Completion) -> None:
        """A finish job: free the slot, dispatch the next, and only then answer this batch's requests in row order."""
        seen_ns = done.seen_ns
        batch = self.scheduler.replicas[done.replica].running
        assert batch is not None and batch.id == done.batch, f"{done.replica=} does not run {done.batch=}"
        following = self.scheduler.ended(done.replica, seen_ns)
        start_ns = max(batch.dispatch_ns, self._last_seen_ns[done.replica])
        self._last_seen_ns[done.replica] = seen_ns
        busy = self._busy_at_start[done.replica]
        if following is not None:
            self._busy_at_start[done.replica] = self._port.busy() - 1
        self.scheduler.finished(batch, seen_ns)
        finished_ns = self._clock()
        self.run(finished_ns)
        self._count_batch(batch, start_ns, done, finished_ns)
        if self._log is not None:
            self._log.batch(
                (
                    batch.id,
                    self._queue,
                    batch.replica,
                    self._threads,
                    batch.rows,
                    busy,
                    batch.reason,
                    batch.dispatch_ns,
                    start_ns,
                    done.begin_ns,
                    done.end_ns,
                    seen_ns,
                    finished_ns,
                )
            )
        self._answer(batch, start_ns, done)

    def refuse(self, request: LiveRequest, outcome: int, reason: int, error: str = "") -> None:
        """A refuse job for a request that never was enqueued."""
        self._drop(Drop(request, outcome, reason), error)

    # -- other events ----------------------------------------------------------------------------------

    def run(self, now_ns: int) -> None:
        """Rule 3, repeated until nothing more may leave."""
        if not self.scheduler.waiting_requests:
            return
        self._ran_ns = now_ns
        decision = self.scheduler.run(now_ns)
        if decision.batches:
            self._send(decision.batches)
        for drop in decision.drops:
            self._drop(drop)

    def wake(self) -> None:
        """A timer fired: a window or a deadline may have ended."""
        self.run(self._clock())

    def cancel(self, request: LiveRequest) -> None:
        """Rule 7; like every event of an idle front it ends with rule 3, since a window may just have ended."""
        now_ns = self._clock()
        drop = self.scheduler.cancel(request, now_ns)
        if drop is not None:
            self._drop(drop)
            self.run(now_ns)

    def up(self, replica: int) -> None:
        """A replica is ready."""
        self._last_seen_ns[replica] = -1
        now_ns = self._clock()
        self.scheduler.up(replica, now_ns)
        self.run(now_ns)

    def died(self, replica: int) -> None:
        """Rule 8: a replica is gone."""
        now_ns = self._clock()
        self.statistics.deaths += 1
        for drop in self.scheduler.died(replica, now_ns):
            drop.request.batch = None
            self._drop(drop)
        self.run(now_ns)

    def retire(self, replica: int) -> None:
        """A replica that drains and has nothing left goes for good."""
        self.scheduler.died(replica, self._clock())
        self.scheduler.retire(replica)

    def drain(self) -> None:
        """Rule 12."""
        self.scheduler.drain()
        self.run(self._clock())

    @property
    def idle(self) -> bool:
        """Whether everything admitted has been answered."""
        return not self.scheduler.waiting_requests and not self.scheduler.in_flight

    @property
    def wake_ns(self) -> int:
        """When `wake` must be called if nothing happens before; it may have passed already.

        What lies ahead is what lay ahead of the last run of rule 3: a window that has ended since then, while
        the clock went on, still has to be acted upon.
        """
        if not self.scheduler.waiting_requests:
            return NEVER_NS
        return self.scheduler.wake_ns(self._ran_ns)

    # -- what leaves -------------------------------------------------------------------------------------

    def _send(self, batches: list[Batch]) -> None:
        """Batches of one run of rule 3 start one after the other: each counts those before it as neighbours."""
        busy = self._port.busy() - sum(1 for batch in batches if batch.start_ns >= 0)
        for batch in batches:
            self.statistics.dispatch_reasons[batch.reason] += 1
            if batch.start_ns >= 0:
                self._busy_at_start[batch.replica] = busy
                self._port.send(batch, busy)
                busy += 1
            else:  # behind a running batch of the same replica, which is no neighbour
                self._port.send(batch, busy - 1)

    def _answer(self, batch: Batch, start_ns: int, done: Completion) -> None:
        statistics = self.statistics
        now_ns = self._clock()
        for request, outputs in zip(batch.requests, done.outputs, strict=True):
            assert isinstance(request, LiveRequest)
            if request.cancelled_ns < now_ns:
                self._leave(request, OUTCOME_CANCELLED, REASON_CLIENT, now_ns, start_ns, done.seen_ns)
                continue
            if isinstance(outputs, str):
                _reply(request, Answer(request, OUTCOME_FAILED, REASON_NONE, error=outputs))
                now_ns = self._clock()
                self._leave(request, OUTCOME_FAILED, REASON_NONE, now_ns, start_ns, done.seen_ns)
                continue
            _reply(request, Answer(request, OUTCOME_OK, batch.reason, outputs))
            now_ns = self._clock()
            latency_ns = now_ns - request.arrival_ns
            statistics.requests += 1
            statistics.rows += request.rows
            statistics.success_ns += latency_ns
            statistics.latency_log2[latency_ns.bit_length()] += 1
            queue_ns = batch.dispatch_ns - request.enqueue_ns
            statistics.queue_ns += queue_ns
            statistics.queue_log2[queue_ns.bit_length()] += 1
            self._leave(request, OUTCOME_OK, batch.reason, now_ns, start_ns, done.seen_ns)
            statistics.last_ns = now_ns

    def _drop(self, drop: Drop, error: str = "") -> None:
        request = drop.request
        assert isinstance(request, LiveRequest)
        if drop.outcome != OUTCOME_CANCELLED:
            _reply(request, Answer(request, drop.outcome, drop.reason, error=error or self._why(drop)))
        now_ns = self._clock()
        self.statistics.fail_ns += now_ns - request.arrival_ns
        self.statistics.drop_reasons[drop.reason] += 1
        self._leave(request, drop.outcome, drop.reason, now_ns, -1, -1)

    def _why(self, drop: Drop) -> str:
        request, spec = drop.request, self.scheduler.spec
        if drop.outcome == OUTCOME_INVALID:
            return f"a request of {request.rows} rows; between 1 and max_batch {spec.max_batch} are accepted"
        if drop.outcome == OUTCOME_FULL and drop.reason == REASON_FRONT:
            return "the server is over its capacity: the request waited too long to be read"
        if drop.outcome == OUTCOME_FULL:
            return f"the queue is full: more than {spec.max_queue} rows wait"
        if drop.outcome == OUTCOME_DRAINING:
            return "the server is shutting down"
        if drop.outcome == OUTCOME_EXPIRED:
            return f"timed out after {request.timeout_ns // 1000} us in the queue"
        return f"the model's process died {request.deaths} times while it ran this request"

    def _leave(self, request: LiveRequest, outcome: int, reason: int, now_ns: int, start_ns: int, done_ns: int) -> None:
        """The end of a request: count it, write its row, and let go of what it held."""
        self.statistics.outcomes[outcome] += 1
        batch = request.batch
        if self._log is not None:
            replica, number, dispatch_ns = (
                (-1, -1, -1) if batch is None else (batch.replica, batch.id, batch.dispatch_ns)
            )
            self._log.request(
                (
                    request.id,
                    0,
                    CAUSE_FIRST,
                    request.deaths,
                    0,
                    request.rows,
                    request.priority,
                    0,
                    self._queue,
                    replica,
                    number,
                    reason,
                    outcome,
                    request.arrival_ns,
                    request.enqueue_ns,
                    dispatch_ns,
                    start_ns,
                    done_ns,
                    now_ns,
                )
            )
        request.batch = None  # a cycle that only the garbage collector could undo
        request.inputs = _NOTHING
        request.reply = None

    def _count_batch(self, batch: Batch, start_ns: int, done: Completion, finished_ns: int) -> None:
        statistics = self.statistics
        input_ns, infer_ns = done.begin_ns - batch.dispatch_ns, done.end_ns - done.begin_ns
        output_ns = finished_ns - done.end_ns
        cell = statistics.by_rows.setdefault(batch.rows, BatchStatistics())
        cell.count += 1
        cell.input_ns += input_ns
        cell.infer_ns += infer_ns
        cell.output_ns += output_ns
        statistics.batches += 1
        statistics.busy_ns += done.seen_ns - start_ns
        statistics.service_log2[infer_ns.bit_length()] += 1
        count = len(batch.requests)
        statistics.input_ns += count * input_ns
        statistics.infer_ns += count * infer_ns
        statistics.output_ns += count * output_ns


def _reply(request: Request, answer: Answer) -> None:
    """Hand over an answer; a front that fails on it must not take the engine, or others' answers, with it."""
    assert isinstance(request, LiveRequest)
    if request.reply is None:
        return
    try:
        request.reply(answer)
    except Exception:
        _logger.exception("the answer to request %d could not be written", request.id)
