"""Engines whose workers gather their batches themselves: replace rules 3, 4 and 9, Ray Serve's 5 too.

A replica that `gathers` pulls the first request in order that nobody has pulled; of several the one with the least
`load`, then the one whose last turn is longest ago (a turn: it pulled, or became free).

MOSEC (mosecorg/mosec, src/tasks.rs and src/protocol.rs): each idle worker awaits a task on one channel, whose receivers
are served in turn; from its first task on it waits for `max_wait_time` or `max_batch_size`.

LitServe (Lightning-AI/LitServe, src/litserve/loops/base.py, `collate_requests`): each idle worker goes through rounds
of `batch_timeout`, the first from when it became free, whether anything comes or not; what came leaves at the round's
end. Workers compete for the queue's lock, in no written order: in turn, here.

Ray Serve (ray-project/ray, python/ray/serve/batching.py, `_BatchQueue`): a replica takes requests up to
`max_ongoing_requests`, those it runs included, and gathers from the first one on for `batch_wait_timeout_s` or up to
`max_batch_size`; then the batch is closed, though it may have to wait for the one before it (`max_concurrent_batches`
1). That holds of an asynchronous batch function; one that blocks the replica's event loop gathers nothing meanwhile.
Its router sends to the better of two replicas drawn at random: to the least loaded, here.
"""

from serve.policy.codes import (
    BATCHING_FIRST,
    BATCHING_FREE,
    NEVER_NS,
    POLICY_LITSERVE,
    POLICY_RAY_SERVE,
    REASON_DRAIN,
    REASON_FULL,
    REASON_IDLE,
    REASON_NONE,
    REASON_WINDOW,
)

# Parameter vector: max_batch, longest wait in ns, max_ongoing_requests of Ray.
PARAM_MAX_BATCH = 0
PARAM_WAIT_NS = 1
PARAM_MAX_ONGOING = 2


def gathers(kind, params, occupied, rows):
    """Whether a replica with `occupied` slots pulls requests; `rows`: those it has pulled and not yet answered."""
    if kind == POLICY_RAY_SERVE:
        if rows < params[2]:
            return 1
        return 0
    if occupied == 0:
        return 1
    return 0


def load(kind, rows):
    """By what the next replica to pull is chosen, before turns are."""
    if kind == POLICY_RAY_SERVE:
        return rows
    return 0


def step(kind, params, state, event, now_ns, view):
    """Whether a replica's batch may leave, as in `batching.step`.

    event : BATCHING_FREE (it became free), BATCHING_FIRST (it pulled its batch's first request), or any other.
    state : of the replica: [0] since when it is free, [1] when what it gathers must leave.
    view : (rows of its batch, 1 if the next request in order does not fit, draining 0/1).
    """
    rows, blocked, draining = view
    if event == BATCHING_FREE:
        state[0] = now_ns
        return 0, REASON_NONE, NEVER_NS
    if event == BATCHING_FIRST:
        begins_ns = now_ns
        if kind == POLICY_LITSERVE and params[1] > 0:
            begins_ns -= (now_ns - state[0]) % params[1]
        state[1] = begins_ns + params[1]
    if rows >= params[0] or blocked != 0:
        return rows, REASON_FULL, NEVER_NS
    if draining != 0:
        return rows, REASON_DRAIN, NEVER_NS
    if params[1] == 0:
        return rows, REASON_IDLE, NEVER_NS
    if now_ns >= state[1]:
        return rows, REASON_WINDOW, NEVER_NS
    return 0, REASON_NONE, state[1]
