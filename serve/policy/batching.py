"""Dynamic batching: may a batch leave now, why, and to which replica (rules 2-5).

Age runs from the *oldest* waiting request's enqueue, at any priority, not from when a replica
became free. A policy is an integer `kind` and an int64 parameter vector, so that one kernel and
one signature serve every engine's rules; ours needs no `state`.
"""

from serve.policy.codes import (
    NEVER_NS,
    REASON_DRAIN,
    REASON_FULL,
    REASON_IDLE,
    REASON_NONE,
    REASON_WINDOW,
)

# Parameter vector of POLICY_FOREBAY.
PARAM_MAX_BATCH = 0
PARAM_WINDOW_NS = 1
PARAM_COUNT = 2

# The view of a queue that a policy is shown: a tuple of int64.
VIEW_WAITING_ROWS = 0
VIEW_OLDEST_ENQUEUE_NS = 1
VIEW_DRAINING = 2


def step(kind, params, state, event, now_ns, view):
    """Whether a batch may leave at `now_ns` (rule 3).

    Parameters
    ----------
    kind : int, POLICY_FOREBAY.
    params : sequence of int64: max_batch in rows, window in ns.
    state : int64 row of the queue that the policy may write; unused by ours.
    event : EVENT_* code of what happened; unused by ours.
    now_ns : instant.
    view : (waiting rows, enqueue instant of the oldest waiting request, draining 0/1).

    Returns
    -------
    (rows, reason, wake_ns): the most rows that the batch may have (0: keep waiting), why, and when
    to ask again if nothing else happens (NEVER_NS if no timer is needed).
    """
    waiting_rows, oldest_enqueue_ns, draining = view
    if waiting_rows == 0:
        return 0, REASON_NONE, NEVER_NS
    if waiting_rows >= params[0]:
        return params[0], REASON_FULL, NEVER_NS
    if draining != 0:
        return params[0], REASON_DRAIN, NEVER_NS
    if params[1] == 0:
        return params[0], REASON_IDLE, NEVER_NS
    due_ns = oldest_enqueue_ns + params[1]
    if now_ns >= due_ns:
        return params[0], REASON_WINDOW, NEVER_NS
    return 0, REASON_NONE, due_ns


def slot_takes(occupied, slots, reason):
    """Whether a replica with `occupied` of `slots` slots takes a batch released for `reason` (rule 5).

    An idle replica takes whatever rule 3 releases; the second slot of a running one takes only a
    batch that left because it was full.
    """
    if occupied == 0:
        return 1
    if occupied < slots and reason == REASON_FULL:
        return 1
    return 0


def fits(rows_taken, rows, max_batch):
    """Whether a request of `rows` joins a batch that holds `rows_taken` (rule 2)."""
    if rows_taken + rows <= max_batch:
        return 1
    return 0
