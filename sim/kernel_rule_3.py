"""The kernel's rule 3: before it rule 6's expiry, after it rule 1's verdict."""

from serve.policy import admission
from serve.policy.codes import (
    EVENT_ARRIVAL,
    OUTCOME_FULL,
    POLICY_FOREBAY,
    REASON_NONE,
    REASON_QUEUE,
)
from sim import layout as ly
from sim.compiled import inlined
from sim.kernel_batch import choose, dispatch, drop_expired, oldest_view, step
from sim.kernel_engines import engine_batches
from sim.kernel_leave import refuse
from sim.kernel_queue import leave_queue, row_of, timer_due_ns

overflows = inlined(admission.overflows)
expired = inlined(admission.expired)


@inlined
def rule_3(s, pool, q, t, table, levels):
    """Rule 3, repeated until nothing more may leave."""
    now_ns = s[ly.NOW_NS]
    while expired(timer_due_ns(s, pool, q, ly.DEADLINES, now_ns), now_ns) != 0:
        drop_expired(s, pool, q)
    if s[ly.POLICY] != POLICY_FOREBAY:
        engine_batches(s, pool, q, t, table, levels)
    else:
        our_batches(s, pool, q, t, table, levels)
    newcomer = s[ly.NEWCOMER]
    if newcomer != ly.NOWHERE:
        s[ly.NEWCOMER] = ly.NOWHERE
        if pool[row_of(newcomer) + ly.POSITION] != ly.NOWHERE and s[ly.MAX_QUEUE] >= 0:
            judge(s, pool, q, newcomer)


@inlined
def our_batches(s, pool, q, t, table, levels):
    """Under our own policy."""
    while s[ly.WAITING] > 0:
        params, view = (s[ly.MAX_BATCH], s[ly.WINDOW_NS]), oldest_view(s, pool, q)
        rows_max, reason, _ = step(POLICY_FOREBAY, params, 0, EVENT_ARRIVAL, s[ly.NOW_NS], view)
        if reason == REASON_NONE:
            break
        replica = choose(s, reason)
        if replica == ly.NOWHERE:
            break
        dispatch(s, pool, q, t, table, levels, rows_max, reason, replica)


@inlined
def judge(s, pool, q, slot):
    """Rule 1: a newcomer that still waits is refused if the queue is over its bound."""
    waiting_rows = 0
    for level in range(pool[row_of(slot) + ly.PRIORITY] + 1):
        waiting_rows += s[ly.LEVEL + ly.LEVEL_WIDTH * level + ly.LEVEL_ROWS]
    if overflows(waiting_rows, s[ly.MAX_QUEUE]) != 0:
        leave_queue(s, pool, q, slot)
        refuse(s, pool, q, slot, OUTCOME_FULL, REASON_QUEUE)
