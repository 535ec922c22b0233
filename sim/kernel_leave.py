"""The kernel's ways out: a request leaves, or is refused by a job of the front."""

from serve.policy import routing
from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_FULL,
    OUTCOME_OK,
)
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_queue import (
    free_slot,
    heap_push,
    row_of,
)
from sim.kernel_tally import keep

reported = inlined(routing.reported)


@inlined
def leave(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns):
    """A request leaves at `at_ns`: it is counted, its client thinks, its slot is free; or the router will hear."""
    if s[ly.ROUTED] != 0:
        ride(pool, q, slot, batch)
        post(s, pool, q, slot, report_of(s) if batch == ly.NOWHERE else q[batch + ly.B_REPORT], outcome, reason, at_ns)
        return
    keep(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns)
    if pool[row_of(slot) + ly.CLIENT] >= 0:
        think(s, pool, q, slot, outcome, at_ns)
    free_slot(s, q, slot)


@helper
def ride(pool, q, slot, batch):
    """What an attempt that leaves its node rode in."""
    at = row_of(slot)
    if batch == ly.NOWHERE:
        pool[at + ly.BY_REPLICA], pool[at + ly.BY_BATCH] = -1, -1
        pool[at + ly.DISPATCHED_NS], pool[at + ly.STARTED_NS], pool[at + ly.ENDED_NS] = -1, -1, -1
        return
    pool[at + ly.BY_REPLICA], pool[at + ly.BY_BATCH] = q[batch + ly.B_REPLICA], q[batch + ly.B_ID]
    pool[at + ly.DISPATCHED_NS], pool[at + ly.STARTED_NS] = q[batch + ly.B_DISPATCH_NS], q[batch + ly.B_START_NS]
    pool[at + ly.ENDED_NS] = q[batch + ly.B_DONE_NS]


@helper
def post(s, pool, q, slot, report, outcome, reason, at_ns):
    """What the router is to be told goes into the outbox."""
    at = row_of(slot)
    pool[at + ly.LEFT_NS], pool[at + ly.LEFT_BY] = at_ns, outcome * 16 + reason
    pool[at + ly.REPORT], pool[at + ly.PLACE] = report, ly.LEFT
    q[s[ly.AT_OUTBOX] + s[ly.OUTBOX]] = slot
    s[ly.OUTBOX] += 1
    s[ly.PRESENT] -= 1


@inlined
def report_of(s):
    """What a node tells of itself: the requests that it holds, or the work that they are."""
    return reported(s[ly.ROUTING], s[ly.ONGOING], s[ly.ONGOING_ROWS], s[ly.ROW_NS], s[ly.AVAILABLE])


@helper
def leave_unserved(s, pool, q, t, x, out, slot, outcome, reason):
    """The same for a request that rides no batch, now."""
    leave(s, pool, q, t, x, out, slot, ly.NOWHERE, outcome, reason, s[ly.NOW_NS])


@helper
def think(s, pool, q, slot, outcome, at_ns):
    """A closed-loop client got its answer, or gave up: when it sends its next request."""
    at = row_of(slot)
    client = pool[at + ly.CLIENT]
    pause_ns = q[s[ly.AT_THINK] + client]
    if outcome in (OUTCOME_FULL, OUTCOME_DRAINING):
        pause_ns = max(pause_ns, s[ly.RETRY_AFTER_NS])
    if outcome != OUTCOME_CANCELLED:
        pause_ns += pool[at + ly.CLIENT_NS]
    if outcome != OUTCOME_OK:
        pause_ns = max(pause_ns, 1)
    id_ = s[ly.CLOSED_FIRST_ID] + q[s[ly.AT_TURNS] + client] * s[ly.CLIENT_COUNT] + client
    heap_push(s, q, ly.CLIENTS, at_ns + pause_ns, id_, client)


@inlined
def job_push(s, q, kind, of):
    """A job joins the front's queue; the pool's bound on those present bounds it."""
    tail = s[ly.JOBS_TAIL]
    q[(s[ly.AT_JOBS] + (tail & s[ly.JOBS_MASK])) & ly.INDEX_MASK] = of * 4 + kind
    s[ly.JOBS_TAIL] = tail + 1


@inlined
def refuse(s, pool, q, slot, outcome, reason):
    """A request is dropped with an answer: a refuse job."""
    pool[row_of(slot) + ly.LEFT_BY] = outcome * 16 + reason
    job_push(s, q, ly.JOB_REFUSE, slot)
