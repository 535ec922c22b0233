"""The kernel's replicas: batches leave the queue and start (rules 2 to 6), end, or die (rule 8)."""

from serve.policy import admission, batching, front, service
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_PENDING,
    POLICY_WORKERS,
    REASON_CLIENT,
    REASON_DEADLINE,
    REASON_DEATH,
)
from serve.policy.front import FRONT_DISPATCH_NS, FRONT_DISPATCH_NS_PER_KIB, FRONT_DISPATCH_NS_PER_REQUEST
from serve.policy.service import COLD_KNOTS
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_leave import job_push, leave_unserved, refuse
from sim.kernel_queue import (
    count_out,
    end_ongoing,
    leave_queue,
    let_all_go,
    oldest,
    put_back,
    ring_at,
    row_of,
    skip_holes,
    top_slot,
)
from sim.kernel_tally import spread, tally_batch

step = inlined(batching.step)
slot_takes = inlined(batching.slot_takes)
fits = inlined(batching.fits)
put_back_outcome = inlined(admission.put_back_outcome)
dispatch_ns = inlined(front.dispatch_ns)
service_ns = inlined(service.service_ns)
following_ns = inlined(service.following_ns)
cold_ns = inlined(service.cold_ns)
slowed_ns = inlined(service.slowed_ns)


@inlined
def replica_at(s, column, replica):
    """Index in s of a column of a replica."""
    return (ly.REPLICA + column * s[ly.REPLICAS] + replica) & ly.INDEX_MASK


@inlined
def batch_of(s, b):
    """Index in q of a batch's first column."""
    return (s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT)) & ly.INDEX_MASK


# -- batches leave and start ----------------------------------------------------------------------


@inlined
def choose(s, reason):
    """Rule 4 among the replicas that rule 5 allows: fewest occupied slots, then lowest id; NOWHERE if none."""
    best, best_occupied = ly.NOWHERE, s[ly.SLOTS]
    if s[ly.FREE_SLOTS] == 0:
        return best
    for replica in range(s[ly.REPLICAS]):
        if s[replica_at(s, ly.R_UP, replica)] == 0 or s[replica_at(s, ly.R_DRAINING, replica)] != 0:
            continue
        occupied = s[replica_at(s, ly.R_OCCUPIED, replica)]
        if occupied < best_occupied and slot_takes(occupied, s[ly.SLOTS], reason) != 0:
            best, best_occupied = replica, occupied
            if occupied == 0:
                break
    return best


@inlined
def take_prefix(s, pool, q, batch, rows_max):
    """Rule 2: the longest prefix of (priority, enqueue number) whose rows fit joins the batch; how many requests."""
    rows, requests, last = 0, 0, ly.NOWHERE
    for level in range(s[ly.LEVELS]):
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        while s[block + ly.LEVEL_HEAD] < s[block + ly.LEVEL_TAIL]:
            slot = q[ring_at(s, level, s[block + ly.LEVEL_HEAD])]
            more = pool[row_of(slot) + ly.ROWS]
            if fits(rows, more, rows_max) == 0:
                q[batch + ly.B_ROWS] = rows
                return requests
            rows += more
            requests += 1
            s[block + ly.LEVEL_HEAD] += 1
            skip_holes(s, q, level)
            count_out(s, pool, slot)
            pool[row_of(slot) + ly.NEXT] = ly.NOWHERE
            s[ly.WAITED_NS] += s[ly.NOW_NS] - pool[row_of(slot) + ly.ENQUEUE_NS]
            if last == ly.NOWHERE:
                q[batch + ly.B_FIRST] = slot
            else:
                pool[row_of(last) + ly.NEXT] = slot
            last = slot
    q[batch + ly.B_ROWS] = rows
    return requests


@inlined
def dispatch(s, pool, q, t, table, levels, rows_max, reason, replica):
    """The prefix of so many rows at most leaves as a batch."""
    b, batch = take_batch(s, q)
    requests = take_prefix(s, pool, q, batch, rows_max)
    send(s, pool, q, t, table, levels, b, requests, reason, replica)


@inlined
def take_batch(s, q):
    """A free place for a batch, and the index of its first column."""
    s[ly.BATCHES_FREE] -= 1
    b = q[s[ly.AT_BATCHES_FREE] + s[ly.BATCHES_FREE]]
    return b, batch_of(s, b)


@inlined
def send(s, pool, q, t, table, levels, b, requests, reason, replica):
    """A batch takes a slot of the replica; it starts at once if nothing runs there."""
    batch = batch_of(s, b)
    q[batch + ly.B_ID], q[batch + ly.B_REASON], q[batch + ly.B_REPLICA] = s[ly.BATCH_IDS], reason, replica
    s[ly.BATCH_IDS] += 1
    q[batch + ly.B_INCARNATION] = s[replica_at(s, ly.R_INCARNATION, replica)]
    q[batch + ly.B_DISPATCH_NS], q[batch + ly.B_REQUESTS] = s[ly.NOW_NS], requests
    q[batch + ly.B_START_NS], q[batch + ly.B_DONE_NS] = -1, -1
    s[replica_at(s, ly.R_OCCUPIED, replica)] += 1
    s[ly.FREE_SLOTS] -= 1
    f = ly.FRONT
    if s[f + FRONT_DISPATCH_NS] + s[f + FRONT_DISPATCH_NS_PER_KIB] + s[f + FRONT_DISPATCH_NS_PER_REQUEST] > 0:
        s[ly.HANDING_OVER_NS] += dispatch_ns(front_of(s), q[batch + ly.B_ROWS], requests)
    if s[replica_at(s, ly.R_RUNNING, replica)] == ly.NOWHERE:
        start(s, pool, q, t, table, levels, b, replica)
    else:
        s[replica_at(s, ly.R_SECOND, replica)] = b


@inlined
def front_of(s):
    """The front's vector of costs, as its leaves take it."""
    f = ly.FRONT
    first = (s[f], s[f + 1], s[f + 2], s[f + 3], s[f + 4], s[f + 5])
    return (*first, s[f + 6], s[f + 7], s[f + 8], s[f + 9], s[f + 10], s[f + 11], s[f + 12])


@inlined
def start(s, pool, q, t, table, levels, b, replica):
    """Rules 5 and 11: the batch starts beside the other running replicas; its end is now known."""
    batch, now_ns = batch_of(s, b), s[ly.NOW_NS]
    level = levels[s[ly.LEVELS_AT]]
    if s[ly.LEVEL_COUNT] > 1:
        level = levels[s[ly.LEVELS_AT] + min(now_ns // s[ly.LEVEL_BIN_NS], s[ly.LEVEL_COUNT] - 1)]
    first, rows = q[batch + ly.B_FIRST], q[batch + ly.B_ROWS]
    death = min(pool[row_of(first) + ly.DEATHS], s[ly.DRAWS] - 1)
    draw = q[s[ly.AT_DRAWS] + first * s[ly.DRAWS] + death]
    busy = s[ly.RUNNING] if s[ly.SHARED] == 0 else q[s[ly.MACHINE_AT]]
    pressure = min(busy, s[ly.PRESSURE_MAX])
    span_ns = service_ns(table[s[ly.TABLE_AT] :], s[ly.TABLE_BITS], s[ly.TABLE_ROWS_MAX], rows, pressure, draw, level)
    if s[ly.COLD + COLD_KNOTS - 1] > 0:
        span_ns += cold_ns(s, ly.COLD, now_ns - s[replica_at(s, ly.R_RESTED_NS, replica)])
    if q[batch + ly.B_DISPATCH_NS] < now_ns:
        span_ns = following_ns(span_ns, s[ly.HANDOVER_NS])
    if s[ly.FAULTS] != 0:
        span_ns = faulty_ns(s, replica, span_ns)
    end_ns = now_ns + span_ns
    q[batch + ly.B_START_NS] = now_ns
    s[replica_at(s, ly.R_RUNNING, replica)] = b
    s[replica_at(s, ly.R_END_NS, replica)] = end_ns
    count_running(s, q, 1)
    if end_ns < s[ly.NEXT_END_NS] or (end_ns == s[ly.NEXT_END_NS] and replica < s[ly.NEXT_END_REPLICA]):
        s[ly.NEXT_END_NS], s[ly.NEXT_END_REPLICA] = end_ns, replica
    tally_batch(s, t, rows, q[batch + ly.B_REASON], now_ns)


@helper
def faulty_ns(s, replica, span_ns):
    """When a batch that starts on a slow node ends, or the replica of one that hangs is killed (rule 14)."""
    if s[replica_at(s, ly.R_HANGS, replica)] & ly.HANGS != 0:
        return min(s[ly.BATCH_DEADLINE_NS], NEVER_NS - s[ly.NOW_NS])
    if s[ly.SLOW_PER_MILLE] != 0:
        return slowed_ns(span_ns, s[ly.SLOW_PER_MILLE])
    return span_ns


@inlined
def count_running(s, q, sign):
    """A replica begins to compute, or ends: on its node, and on the machine if that holds others."""
    s[ly.RUNNING] += sign
    if s[ly.SHARED] != 0:
        q[s[ly.MACHINE_AT]] += sign


@inlined
def oldest_view(s, pool, q):
    """What our policy is shown of a queue in which something waits."""
    return s[ly.WAITING_ROWS], pool[row_of(oldest(s, pool, q)) + ly.ENQUEUE_NS], s[ly.DRAINING]


@helper
def drop_expired(s, pool, q):
    """Rule 6: the waiting request with the earliest deadline is dropped."""
    slot = top_slot(s, q, ly.DEADLINES)
    leave_queue(s, pool, q, slot)
    refuse(s, pool, q, slot, OUTCOME_EXPIRED, REASON_DEADLINE)


# -- batches end or die --------------------------------------------------------------------------


@inlined
def find_next_end(s):
    """The replica whose batch ends first; ties go to the lowest id."""
    end_ns, replica = NEVER_NS, 0
    base = ly.REPLICA + ly.R_END_NS * s[ly.REPLICAS]
    for i in range(s[ly.REPLICAS]):
        if s[base + i] < end_ns:
            end_ns, replica = s[base + i], i
    s[ly.NEXT_END_NS], s[ly.NEXT_END_REPLICA] = end_ns, replica


@inlined
def free_batch(s, q, b):
    """Give a batch's place back."""
    q[s[ly.AT_BATCHES_FREE] + s[ly.BATCHES_FREE]] = b
    s[ly.BATCHES_FREE] += 1


@inlined
def note_drained(s, replica):
    """A draining replica without a batch is told to control, once."""
    if s[replica_at(s, ly.R_OCCUPIED, replica)] == 0 and s[replica_at(s, ly.R_DRAINED, replica)] == 0:
        s[replica_at(s, ly.R_DRAINED, replica)] = 1
        s[ly.DRAINED_COUNT] += 1


@inlined
def end_batch(s, pool, q, t, x, table, levels):
    """The batch that ends first has ended; the replica's other slot starts; the front gets a finish job."""
    replica = s[ly.NEXT_END_REPLICA]
    b = s[replica_at(s, ly.R_RUNNING, replica)]
    stop_running(s, q, x, replica)
    q[batch_of(s, b) + ly.B_DONE_NS] = s[ly.NOW_NS]
    second = s[replica_at(s, ly.R_SECOND, replica)]
    if second != ly.NOWHERE:
        s[replica_at(s, ly.R_SECOND, replica)] = behind(s, q, second)
        start(s, pool, q, t, table, levels, second, replica)
    find_next_end(s)
    job_push(s, q, ly.JOB_FINISH, b)


@inlined
def behind(s, q, b):
    """The batch that waits in the slots behind another; only a policy of workers fills more than two."""
    return q[batch_of(s, b) + ly.B_NEXT] if s[ly.POLICY] >= POLICY_WORKERS else ly.NOWHERE


@inlined
def stop_running(s, q, x, replica):
    """A replica computes no longer: its batch ended, or it died."""
    batch = batch_of(s, s[replica_at(s, ly.R_RUNNING, replica)])
    spread(s, x, s[ly.X_BUSY], q[batch + ly.B_START_NS], s[ly.NOW_NS])
    s[replica_at(s, ly.R_RUNNING, replica)] = ly.NOWHERE
    s[replica_at(s, ly.R_END_NS, replica)] = NEVER_NS
    s[replica_at(s, ly.R_RESTED_NS, replica)] = s[ly.NOW_NS]
    count_running(s, q, -1)


@helper
def kill(s, pool, q, t, x, out, replica):
    """Rule 8: a replica dies; what had not ended waits again, or is dropped."""
    if s[replica_at(s, ly.R_DRAINED, replica)] == 1:
        s[ly.DRAINED_COUNT] -= 1
        s[replica_at(s, ly.R_DRAINED, replica)] = 2
    if s[replica_at(s, ly.R_UP, replica)] != 0 and s[replica_at(s, ly.R_DRAINING, replica)] == 0:
        s[ly.AVAILABLE] -= 1
        s[ly.FREE_SLOTS] -= s[ly.SLOTS] - s[replica_at(s, ly.R_OCCUPIED, replica)]
    s[replica_at(s, ly.R_UP, replica)] = 0
    if s[replica_at(s, ly.R_HANGS, replica)] & ly.HANGS != 0:
        s[replica_at(s, ly.R_HANGS, replica)] &= ~ly.HANGS
        s[ly.FAULTS] -= 1
    s[replica_at(s, ly.R_INCARNATION, replica)] += 1
    s[replica_at(s, ly.R_OCCUPIED, replica)] = 0
    if s[ly.POLICY] >= POLICY_WORKERS:
        s[replica_at(s, ly.R_HELD, replica)] = 0
        let_all_go(s, pool, q, replica)
    running, second = s[replica_at(s, ly.R_RUNNING, replica)], s[replica_at(s, ly.R_SECOND, replica)]
    if running != ly.NOWHERE:
        stop_running(s, q, x, replica)
        find_next_end(s)
        undo(s, pool, q, t, x, out, running, 1)
    s[replica_at(s, ly.R_SECOND, replica)] = ly.NOWHERE
    while second != ly.NOWHERE:
        following = behind(s, q, second)
        undo(s, pool, q, t, x, out, second, 0)
        second = following


@helper
def undo(s, pool, q, t, x, out, b, started):
    """Put a dead replica's batch back, request by request in row order; a death counts if it had started."""
    now_ns = s[ly.NOW_NS]
    slot = q[batch_of(s, b) + ly.B_FIRST]
    while slot != ly.NOWHERE:
        at = row_of(slot)
        following = pool[at + ly.NEXT]
        pool[at + ly.DEATHS] += started
        outcome = put_back_outcome(
            pool[at + ly.CANCEL_NS], pool[at + ly.DEATHS], s[ly.MAX_DEATHS], pool[at + ly.DEADLINE_NS], now_ns
        )
        if outcome != OUTCOME_PENDING:
            end_ongoing(s, 1, pool[at + ly.ROWS])
        if outcome == OUTCOME_PENDING:
            put_back(s, pool, q, slot)
        elif outcome == OUTCOME_CANCELLED:
            leave_unserved(s, pool, q, t, x, out, slot, outcome, REASON_CLIENT)
        elif outcome == OUTCOME_FAILED:
            if s[ly.FAILED_ID] < 0:
                s[ly.FAILED_ID] = pool[at + ly.ID]
            refuse(s, pool, q, slot, outcome, REASON_DEATH)
        else:
            refuse(s, pool, q, slot, outcome, REASON_DEADLINE)
        slot = following
    free_batch(s, q, b)
