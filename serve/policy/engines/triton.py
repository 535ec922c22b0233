"""Triton's dynamic batcher, for requests of one shape: replaces rule 3.

Source: triton-inference-server/core, `DynamicBatchScheduler::GetDynamicBatch` (src/dynamic_batch_scheduler.cc), and
docs/user_guide/batcher.md, "Dynamic Batcher". The delay counts from the oldest request of the *batch*, not of the
queue; until it has passed, the largest preferred size that the queue can give leaves at once; after it, whatever fits.

Left out: without priorities, timeouts and `max_queue_size` it fills a batch while its instance still works
(`PriorityQueue::SupportPrefetching`). That batch grows until it starts, so with `max_batch` as the only preferred size,
the default, it is the same as one formed late; a smaller preferred size it may overshoot. `timeout_action: DELAY`,
`preserve_ordering`, custom batching and inputs of unequal shapes are left out too.
"""

from serve.policy.codes import NEVER_NS, REASON_DRAIN, REASON_FULL, REASON_IDLE, REASON_NONE, REASON_WINDOW

# Parameter vector: max_batch, max_queue_delay, the largest preferred size, then the preferred sizes (0: none).
PARAM_MAX_BATCH = 0
PARAM_DELAY_NS = 1
PARAM_LARGEST = 2
PARAM_PREFERRED = 3
PREFERRED_MAX = 8


def walk(params, pending, best, rows):
    """Whether the batch takes the next request in order, of `rows`.

    `pending` are its rows so far, `best` the rows up to where it would best be cut (0: nowhere). Returns
    (pending, best, blocked): blocked is 1 if the request does not fit, which ends the walk.
    """
    if pending > 0:
        if pending + rows > params[2] and best == 0:
            best = pending
        if pending + rows > params[0]:
            return pending, best, 1
    pending += rows
    small = pending in (params[3], params[4], params[5], params[6])
    if small or pending in (params[7], params[8], params[9], params[10]):
        best = pending
    return pending, best, 0


def step(params, state, event, now_ns, view):
    """Whether a batch may leave, as in `batching.step`.

    view : (pending, best, blocked) of the walk along the queue, the enqueue instant of its oldest request, draining.
    """
    pending, best, blocked, oldest_ns, draining = view
    if pending == 0:
        return 0, REASON_NONE, NEVER_NS
    passed = params[1] != 0 and now_ns - oldest_ns >= params[1]
    if best != 0 and not passed:
        return best, REASON_FULL, NEVER_NS
    if blocked != 0 or pending >= params[2]:
        return pending, REASON_FULL, NEVER_NS
    if draining != 0:
        return pending, REASON_DRAIN, NEVER_NS
    if params[1] == 0:
        return pending, REASON_IDLE, NEVER_NS
    if passed:
        return pending, REASON_WINDOW, NEVER_NS
    return 0, REASON_NONE, oldest_ns + params[1]
