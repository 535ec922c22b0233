"""Rules 1 and 3 under another engine's policy of a queue (see `serve.policy.engines`)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from serve.policy import batching
from serve.policy.codes import EVENT_ARRIVAL, NEVER_NS, POLICY_FOREBAY, POLICY_TORCHSERVE, POLICY_TRITON, REASON_NONE
from serve.policy.engines import tf_serving, torchserve, triton

if TYPE_CHECKING:
    from serve.scheduler import Scheduler


def release(scheduler: Scheduler, state: list[int], idle: bool, now_ns: int) -> tuple[int, int, int]:
    """Most rows that a batch leaving now may have, why (REASON_NONE: none may), and when to ask again.

    `state` is the queue's row, which is written; `idle` tells whether a replica is.
    """
    spec, draining = scheduler.spec, int(scheduler.draining)
    if spec.policy == POLICY_TRITON:
        return triton.step(spec.params, state, EVENT_ARRIVAL, now_ns, (*_walk(scheduler), draining))  # type: ignore[no-any-return]
    if spec.policy == POLICY_TORCHSERVE:
        view = (scheduler.waiting_rows, int(idle), draining)
        return torchserve.step(spec.params, state, EVENT_ARRIVAL, now_ns, view)  # type: ignore[no-any-return]
    if not scheduler.waiting_requests:
        return 0, REASON_NONE, NEVER_NS
    view = (scheduler.waiting_rows, scheduler.oldest.enqueue_ns, draining)
    return batching.step(POLICY_FOREBAY, spec.params, state, EVENT_ARRIVAL, now_ns, view)  # type: ignore[no-any-return]


def _walk(scheduler: Scheduler) -> tuple[int, int, int, int]:
    """Triton's walk along the queue, and the enqueue instant of the oldest request that it passes."""
    pending, best, blocked, oldest_ns = 0, 0, 0, NEVER_NS
    for request in chain.from_iterable(scheduler.levels):
        pending, best, blocked = triton.walk(scheduler.spec.params, pending, best, request.rows)
        if blocked:
            break
        oldest_ns = min(oldest_ns, request.enqueue_ns)
    return pending, best, blocked, oldest_ns


def too_many_batches(scheduler: Scheduler) -> bool:
    """TensorFlow Serving's rule 1: whether what waits makes more batches than may wait."""
    batches = open_rows = 0
    for request in scheduler.levels[0]:
        if tf_serving.starts_batch(open_rows, request.rows, scheduler.spec.max_batch):
            batches, open_rows = batches + 1, 0
        open_rows += request.rows
    return bool(tf_serving.overflows(batches, scheduler.spec.params[tf_serving.PARAM_MAX_BATCHES]))
