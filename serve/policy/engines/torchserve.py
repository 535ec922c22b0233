"""TorchServe's batch aggregation: replaces rule 3.

Source: pytorch/serve, `Model.pollBatch` (frontend/server/src/main/java/org/pytorch/serve/wlm/Model.java) and
docs/batch_inference_with_ts.md. One idle worker at a time holds the model's lock: it polls a first job, however long
that takes, then more until it has `batchSize` or `maxBatchDelay` has passed since *its poll of the first one*, however
long that had waited before. What it has polled counts towards `max_queue` here, there it does not (`job_queue_size`).
"""

from serve.policy.codes import NEVER_NS, REASON_DRAIN, REASON_FULL, REASON_NONE, REASON_WINDOW

# Parameter vector: max_batch, maxBatchDelay in ns.
PARAM_MAX_BATCH = 0
PARAM_DELAY_NS = 1


def step(params, state, event, now_ns, view):
    """Whether a batch may leave, as in `batching.step`; view: (waiting rows, 1 if a worker is idle, draining 0/1).

    `state[0]` is when the worker that holds the lock polled its first job, NEVER_NS if it has none.
    """
    rows, idle, draining = view
    if rows == 0 or idle == 0:
        state[0] = NEVER_NS
        return 0, REASON_NONE, NEVER_NS
    if state[0] == NEVER_NS:
        state[0] = now_ns
    due_ns = state[0] + params[1]
    reason = REASON_NONE
    if rows >= params[0]:
        reason = REASON_FULL
    elif draining != 0:
        reason = REASON_DRAIN
    elif now_ns >= due_ns:
        reason = REASON_WINDOW
    if reason == REASON_NONE:
        return 0, reason, due_ns
    state[0] = NEVER_NS
    return params[0], reason, NEVER_NS
