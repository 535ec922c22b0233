"""The data plane's kernel: the rulebook's leaves, compiled, over the flat arrays of `sim.layout`.

`advance` handles one event after another, each to its end, in the written order. `settle` ends
every event: the free station takes its next jobs, and rule 3 runs. What `serve.scheduler` and
`sim.reference` do with objects, this does with offsets; `tests/twin` holds the two together.
"""

from serve.policy import admission, batching, front, service
from serve.policy.codes import (
    EVENT_ARRIVAL,
    EVENT_CANCEL,
    EVENT_CONTROL,
    EVENT_DEADLINE,
    EVENT_ENDED,
    EVENT_FRONT,
    EVENT_WINDOW,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_OK,
    OUTCOME_PENDING,
    POLICY_FOREBAY,
    REASON_CLIENT,
    REASON_DEADLINE,
    REASON_DEATH,
    REASON_DRAINING,
    REASON_FRONT,
    REASON_NONE,
    REASON_QUEUE,
    REASON_ROWS,
)
from serve.policy.front import FRONT_BUDGET_NS, FRONT_TIMER_LATE_NS
from sim import layout as ly
from sim.compiled import entry, helper, inlined
from sim.kernel_queue import (
    count_out,
    enqueue,
    free_slot,
    heap_pop,
    heap_push,
    heap_top_ns,
    leave_queue,
    oldest,
    put_back,
    ring_at,
    skip_holes,
    take_slot,
    timer_due_ns,
)
from sim.kernel_tally import keep, spread, tally_batch

step = inlined(batching.step)
slot_takes = inlined(batching.slot_takes)
fits = inlined(batching.fits)
overflows = inlined(admission.overflows)
expired = inlined(admission.expired)
put_back_outcome = inlined(admission.put_back_outcome)
parse_ns = inlined(front.parse_ns)
finish_batch_ns = inlined(front.finish_batch_ns)
answer_ns = inlined(front.answer_ns)
refuse_ns = inlined(front.refuse_ns)
over_budget = inlined(front.over_budget)
service_ns = inlined(service.service_ns)


@inlined
def front_of(s):
    """The front's vector of costs, as its leaves take it."""
    f = ly.FRONT
    return s[f], s[f + 1], s[f + 2], s[f + 3], s[f + 4], s[f + 5], s[f + 6], s[f + 7], s[f + 8], s[f + 9]


@inlined
def replica_at(s, column, replica):
    """Index in s of a column of a replica."""
    return ly.REPLICA + column * s[ly.REPLICAS] + replica


# -- the next event ------------------------------------------------------------------------------------


@inlined
def next_event(s, pool, q, open_arrival_ns):
    """(instant, class) of the next event; a lower class wins a tie, and so does an open arrival's lower id."""
    at_ns, event = s[ly.NEXT_END_NS], EVENT_ENDED
    if s[ly.FRONT_END_NS] < at_ns:
        at_ns, event = s[ly.FRONT_END_NS], EVENT_FRONT
    arrival_ns = heap_top_ns(s, q, ly.CLIENTS)
    if s[ly.OPEN_AT] < s[ly.OPEN_COUNT]:
        arrival_ns = min(arrival_ns, open_arrival_ns[s[ly.OPEN_AT]])
    if arrival_ns < at_ns:
        at_ns, event = arrival_ns, EVENT_ARRIVAL
    cancel_ns = timer_due_ns(s, pool, q, ly.CANCELS, at_ns)
    if cancel_ns < at_ns:
        at_ns, event = cancel_ns, EVENT_CANCEL
    if s[ly.FRONT_END_NS] == NEVER_NS:  # a timer that falls into a job is dropped: the job's end does its work
        window_ns = window_due_ns(s, pool, q)
        if window_ns < at_ns:
            at_ns, event = window_ns, EVENT_WINDOW
        late_ns = s[ly.FRONT + FRONT_TIMER_LATE_NS]
        deadline_ns = timer_due_ns(s, pool, q, ly.DEADLINES, at_ns - late_ns) + late_ns
        if deadline_ns < at_ns:
            at_ns, event = deadline_ns, EVENT_DEADLINE
    return at_ns, event


@inlined
def window_due_ns(s, pool, q):
    """When the oldest waiting request's window timer fires; once at each such instant."""
    if s[ly.WINDOW_NS] == 0 or s[ly.WAITING] == 0:
        return NEVER_NS
    enqueue_ns = pool[(oldest(s, pool, q) << ly.POOL_SHIFT) + ly.ENQUEUE_NS]
    due_ns = enqueue_ns + s[ly.WINDOW_NS] + s[ly.FRONT + FRONT_TIMER_LATE_NS]
    if due_ns < s[ly.NOW_NS] or due_ns == s[ly.WINDOW_FIRED_NS]:
        return NEVER_NS
    return due_ns


@inlined
def find_next_end(s):
    """The replica whose batch ends first; ties go to the lowest id."""
    end_ns, replica = NEVER_NS, 0
    base = ly.REPLICA + ly.R_END_NS * s[ly.REPLICAS]
    for i in range(s[ly.REPLICAS]):
        if s[base + i] < end_ns:
            end_ns, replica = s[base + i], i
    s[ly.NEXT_END_NS], s[ly.NEXT_END_REPLICA] = end_ns, replica


# -- what leaves ------------------------------------------------------------------------------------------


@inlined
def leave(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns):
    """A request leaves at `at_ns`: it is counted, its client thinks, its slot is free."""
    keep(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns)
    if pool[(slot << ly.POOL_SHIFT) + ly.CLIENT] >= 0:
        think(s, pool, q, slot, outcome, at_ns)
    free_slot(s, q, slot)


@helper
def leave_unserved(s, pool, q, t, x, out, slot, outcome, reason):
    """The same for a request that rides no batch, now."""
    leave(s, pool, q, t, x, out, slot, ly.NOWHERE, outcome, reason, s[ly.NOW_NS])


@helper
def think(s, pool, q, slot, outcome, at_ns):
    """A closed-loop client got its answer, or gave up: when it sends its next request."""
    at = slot << ly.POOL_SHIFT
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
    q[s[ly.AT_JOBS] + (s[ly.JOBS_TAIL] & s[ly.JOBS_MASK])] = of * 4 + kind
    s[ly.JOBS_TAIL] += 1


@inlined
def refuse(s, pool, q, slot, outcome, reason):
    """A request is dropped with an answer: a refuse job."""
    pool[(slot << ly.POOL_SHIFT) + ly.VERDICT] = outcome * 16 + reason
    job_push(s, q, ly.JOB_REFUSE, slot)


# -- arrivals -----------------------------------------------------------------------------------------------


@inlined
def admit(s, pool, q, slot, id_, client, patience_ns):
    """What every arrival has in common, now; its other columns are written by the caller."""
    at, now_ns = slot << ly.POOL_SHIFT, s[ly.NOW_NS]
    pool[at + ly.ID], pool[at + ly.CLIENT] = id_, client
    pool[at + ly.ARRIVAL_NS], pool[at + ly.ENQUEUE_NS] = now_ns, -1
    pool[at + ly.CANCEL_NS] = now_ns + patience_ns if patience_ns < NEVER_NS else NEVER_NS
    pool[at + ly.DEATHS], pool[at + ly.POSITION], pool[at + ly.HEAPED] = 0, ly.NOWHERE, 0
    if s[ly.DRAINING] != 0:
        refuse(s, pool, q, slot, OUTCOME_DRAINING, REASON_DRAINING)
        return
    job_push(s, q, ly.JOB_PARSE, slot)
    if s[ly.AVAILABLE] == 0:
        s[ly.HOMELESS_ID] = id_


@inlined
def arrive_open(s, pool, q, rows, class_, priority, timeout_ns, patience_ns, client_ns, draw):
    """The next open arrival."""
    i, slot = s[ly.OPEN_AT], take_slot(s, q)
    s[ly.OPEN_AT] = i + 1
    at = slot << ly.POOL_SHIFT
    pool[at + ly.ROWS], pool[at + ly.CLASS], pool[at + ly.PRIORITY] = rows[i], class_[i], priority[i]
    pool[at + ly.DEADLINE_NS], pool[at + ly.CLIENT_NS] = timeout_ns[i], client_ns[i]
    for d in range(s[ly.DRAWS]):
        q[s[ly.AT_DRAWS] + slot * s[ly.DRAWS] + d] = draw[d, i]
    admit(s, pool, q, slot, s[ly.OPEN_FIRST_ID] + i, -1, patience_ns[i])


@helper
def arrive_closed(s, pool, q, closed):
    """The next arrival of a closed-loop client; 0 if its request was not fed yet."""
    base = s[ly.HEAPS + ly.HEAP_WIDTH * ly.CLIENTS + ly.HEAP_BASE]
    id_, client = q[base + 1], q[base + 2]
    i = id_ - s[ly.CLOSED_FIRST_ID] - s[ly.CLOSED_FIRST_INDEX]
    if i >= s[ly.CLOSED_COUNT]:
        return 0
    heap_pop(s, q, ly.CLIENTS)
    q[s[ly.AT_TURNS] + client] += 1
    slot = take_slot(s, q)
    at = slot << ly.POOL_SHIFT
    pool[at + ly.ROWS], pool[at + ly.CLASS] = closed[i, ly.C_ROWS], closed[i, ly.C_CLASS]
    pool[at + ly.PRIORITY], pool[at + ly.DEADLINE_NS] = closed[i, ly.C_PRIORITY], closed[i, ly.C_TIMEOUT_NS]
    pool[at + ly.CLIENT_NS] = closed[i, ly.C_CLIENT_NS]
    for d in range(s[ly.DRAWS]):
        q[s[ly.AT_DRAWS] + slot * s[ly.DRAWS] + d] = closed[i, ly.C_WIDTH + d]
    admit(s, pool, q, slot, id_, client, closed[i, ly.C_PATIENCE_NS])
    return 1


# -- rules 2 to 5: batches leave and start --------------------------------------------------------------------


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
    """Rule 2: the longest prefix of (priority, enqueue number) whose rows fit joins the batch."""
    rows, last = 0, ly.NOWHERE
    for level in range(s[ly.LEVELS]):
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        while s[block + ly.LEVEL_HEAD] < s[block + ly.LEVEL_TAIL]:
            slot = q[ring_at(s, level, s[block + ly.LEVEL_HEAD])]
            more = pool[(slot << ly.POOL_SHIFT) + ly.ROWS]
            if fits(rows, more, rows_max) == 0:
                q[batch + ly.B_ROWS] = rows
                return
            rows += more
            s[block + ly.LEVEL_HEAD] += 1
            skip_holes(s, q, level)
            count_out(s, pool, slot)
            pool[(slot << ly.POOL_SHIFT) + ly.NEXT] = ly.NOWHERE
            if last == ly.NOWHERE:
                q[batch + ly.B_FIRST] = slot
            else:
                pool[(last << ly.POOL_SHIFT) + ly.NEXT] = slot
            last = slot
    q[batch + ly.B_ROWS] = rows


@inlined
def dispatch(s, pool, q, t, table, levels, rows_max, reason, replica):
    """A batch takes a slot of the replica; it starts at once if nothing runs there."""
    s[ly.BATCHES_FREE] -= 1
    b = q[s[ly.AT_BATCHES_FREE] + s[ly.BATCHES_FREE]]
    batch = s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT)
    take_prefix(s, pool, q, batch, rows_max)
    q[batch + ly.B_ID], q[batch + ly.B_REASON], q[batch + ly.B_REPLICA] = s[ly.BATCH_IDS], reason, replica
    s[ly.BATCH_IDS] += 1
    q[batch + ly.B_INCARNATION] = s[replica_at(s, ly.R_INCARNATION, replica)]
    q[batch + ly.B_DISPATCH_NS] = s[ly.NOW_NS]
    q[batch + ly.B_START_NS], q[batch + ly.B_DONE_NS] = -1, -1
    s[replica_at(s, ly.R_OCCUPIED, replica)] += 1
    s[ly.FREE_SLOTS] -= 1
    if s[replica_at(s, ly.R_RUNNING, replica)] == ly.NOWHERE:
        start(s, pool, q, t, table, levels, b, replica)
    else:
        s[replica_at(s, ly.R_SECOND, replica)] = b


@inlined
def start(s, pool, q, t, table, levels, b, replica):
    """Rules 5 and 11: the batch starts beside the other running replicas; its end is now known."""
    batch, now_ns = s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT), s[ly.NOW_NS]
    level = levels[0]
    if s[ly.LEVEL_COUNT] > 1:
        level = levels[min(now_ns // s[ly.LEVEL_BIN_NS], s[ly.LEVEL_COUNT] - 1)]
    first, rows = q[batch + ly.B_FIRST], q[batch + ly.B_ROWS]
    death = min(pool[(first << ly.POOL_SHIFT) + ly.DEATHS], s[ly.DRAWS] - 1)
    draw = q[s[ly.AT_DRAWS] + first * s[ly.DRAWS] + death]
    pressure = min(s[ly.RUNNING], s[ly.PRESSURE_MAX])
    end_ns = now_ns + service_ns(table, s[ly.TABLE_BITS], s[ly.TABLE_ROWS_MAX], rows, pressure, draw, level)
    q[batch + ly.B_START_NS] = now_ns
    s[replica_at(s, ly.R_RUNNING, replica)] = b
    s[replica_at(s, ly.R_END_NS, replica)] = end_ns
    s[ly.RUNNING] += 1
    if end_ns < s[ly.NEXT_END_NS] or (end_ns == s[ly.NEXT_END_NS] and replica < s[ly.NEXT_END_REPLICA]):
        s[ly.NEXT_END_NS], s[ly.NEXT_END_REPLICA] = end_ns, replica
    tally_batch(s, t, rows, q[batch + ly.B_REASON], now_ns)


@inlined
def rule_3(s, pool, q, t, table, levels):
    """Rule 3, repeated until nothing more may leave; before it rule 6's expiry, after it rule 1's verdict."""
    now_ns = s[ly.NOW_NS]
    while expired(timer_due_ns(s, pool, q, ly.DEADLINES, now_ns), now_ns) != 0:
        drop_expired(s, pool, q)
    while s[ly.WAITING] > 0:
        oldest_ns = pool[(oldest(s, pool, q) << ly.POOL_SHIFT) + ly.ENQUEUE_NS]
        view = (s[ly.WAITING_ROWS], oldest_ns, s[ly.DRAINING])
        params = (s[ly.MAX_BATCH], s[ly.WINDOW_NS])
        rows_max, reason, _ = step(POLICY_FOREBAY, params, 0, EVENT_ARRIVAL, now_ns, view)
        if reason == REASON_NONE:
            break
        replica = choose(s, reason)
        if replica == ly.NOWHERE:
            break
        dispatch(s, pool, q, t, table, levels, rows_max, reason, replica)
    newcomer = s[ly.NEWCOMER]
    if newcomer != ly.NOWHERE:
        s[ly.NEWCOMER] = ly.NOWHERE
        if pool[(newcomer << ly.POOL_SHIFT) + ly.POSITION] != ly.NOWHERE and s[ly.MAX_QUEUE] >= 0:
            judge(s, pool, q, newcomer)


@helper
def drop_expired(s, pool, q):
    """Rule 6: the waiting request with the earliest deadline is dropped."""
    slot = q[s[ly.HEAPS + ly.HEAP_WIDTH * ly.DEADLINES + ly.HEAP_BASE] + 2]
    leave_queue(s, pool, q, slot)
    refuse(s, pool, q, slot, OUTCOME_EXPIRED, REASON_DEADLINE)


@inlined
def judge(s, pool, q, slot):
    """Rule 1: a newcomer that still waits is refused if the queue is over its bound."""
    waiting_rows = 0
    for level in range(pool[(slot << ly.POOL_SHIFT) + ly.PRIORITY] + 1):
        waiting_rows += s[ly.LEVEL + ly.LEVEL_WIDTH * level + ly.LEVEL_ROWS]
    if overflows(waiting_rows, s[ly.MAX_QUEUE]) != 0:
        leave_queue(s, pool, q, slot)
        refuse(s, pool, q, slot, OUTCOME_FULL, REASON_QUEUE)


# -- the front station (rule 10) ---------------------------------------------------------------------------


@inlined
def settle(s, pool, q, t, x, out, table, levels, ended):
    """End of every event: the free station takes its next jobs; if it stays free, rule 3 runs.

    `ended` is 1 when the event is the end of the job in progress.
    """
    ran = 0
    while True:
        if ended == 0:
            if s[ly.FRONT_END_NS] != NEVER_NS:
                break
            if s[ly.JOBS_HEAD] < s[ly.JOBS_TAIL]:
                cost_ns = begin(s, pool, q)
                if cost_ns > 0:
                    hold(s, x, s[ly.NOW_NS] + cost_ns)
                    break
                ended = 1
            elif ran != 0:
                break
        kind = s[ly.JOB_KIND]
        if ended != 0:
            end_job(s, pool, q, t, x, out, kind)
        rule_3(s, pool, q, t, table, levels)
        ran = 1
        if ended != 0:
            ended = 0
            s[ly.FRONT_END_NS] = NEVER_NS
            if kind == ly.JOB_FINISH:
                end_ns = answer(s, pool, q, t, x, out, s[ly.JOB_OF])
                if end_ns > s[ly.NOW_NS]:
                    s[ly.JOB_KIND] = ly.JOB_ANSWERS
                    hold(s, x, end_ns)


@inlined
def hold(s, x, end_ns):
    """The station works until `end_ns`."""
    s[ly.FRONT_END_NS] = end_ns
    spread(s, x, s[ly.X_FRONT], s[ly.NOW_NS], end_ns)


@inlined
def begin(s, pool, q):
    """The free station takes its next job: its cost in ns. A parse over the front's budget becomes a refusal."""
    code = q[s[ly.AT_JOBS] + (s[ly.JOBS_HEAD] & s[ly.JOBS_MASK])]
    s[ly.JOBS_HEAD] += 1
    kind, of, costs = code & 3, code >> 2, front_of(s)
    at = of << ly.POOL_SHIFT
    late = over_budget(pool[at + ly.ARRIVAL_NS], s[ly.NOW_NS], costs[FRONT_BUDGET_NS])
    if kind == ly.JOB_PARSE and late != 0:
        pool[at + ly.VERDICT] = OUTCOME_FULL * 16 + REASON_FRONT
        kind = ly.JOB_REFUSE
    s[ly.JOB_KIND], s[ly.JOB_OF] = kind, of
    if kind == ly.JOB_PARSE:
        return parse_ns(costs, pool[at + ly.ROWS])
    if kind == ly.JOB_REFUSE:
        return refuse_ns(costs)
    return finish_batch_ns(costs)


@inlined
def end_job(s, pool, q, t, x, out, kind):
    """What the end of a job (of a finish job: of its first part) does, before rule 3 runs."""
    if kind == ly.JOB_PARSE:
        parsed(s, pool, q, t, x, out, s[ly.JOB_OF])
    elif kind == ly.JOB_FINISH:
        finished(s, q, s[ly.JOB_OF])
    elif kind == ly.JOB_REFUSE:
        verdict = pool[(s[ly.JOB_OF] << ly.POOL_SHIFT) + ly.VERDICT]
        leave_unserved(s, pool, q, t, x, out, s[ly.JOB_OF], verdict >> 4, verdict & 15)


@inlined
def parsed(s, pool, q, t, x, out, slot):
    """A parsed request is enqueued, unless it was cancelled meanwhile or is invalid."""
    at = slot << ly.POOL_SHIFT
    rows = pool[at + ly.ROWS]
    if pool[at + ly.CANCEL_NS] < s[ly.NOW_NS]:
        leave_unserved(s, pool, q, t, x, out, slot, OUTCOME_CANCELLED, REASON_CLIENT)
    elif rows > s[ly.MAX_BATCH] or rows < 1:
        refuse(s, pool, q, slot, OUTCOME_INVALID, REASON_ROWS)
    else:
        enqueue(s, pool, q, slot)
        s[ly.NEWCOMER] = slot


@inlined
def finished(s, q, b):
    """First part of a finish job: the slot is free, unless its replica died meanwhile."""
    batch = s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT)
    replica = q[batch + ly.B_REPLICA]
    if s[replica_at(s, ly.R_INCARNATION, replica)] != q[batch + ly.B_INCARNATION]:
        return
    s[replica_at(s, ly.R_OCCUPIED, replica)] -= 1
    if s[replica_at(s, ly.R_DRAINING, replica)] == 0:
        s[ly.FREE_SLOTS] += 1
    else:
        note_drained(s, replica)


@inlined
def note_drained(s, replica):
    """A draining replica without a batch is told to control, once."""
    if s[replica_at(s, ly.R_OCCUPIED, replica)] == 0 and s[replica_at(s, ly.R_DRAINED, replica)] == 0:
        s[replica_at(s, ly.R_DRAINED, replica)] = 1
        s[ly.DRAINED_COUNT] += 1


@inlined
def answer(s, pool, q, t, x, out, b):
    """Second part of a finish job, all at once, since nothing can change it: when its last answer has left."""
    batch, at_ns, costs = s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT), s[ly.NOW_NS], front_of(s)
    slot = q[batch + ly.B_FIRST]
    while slot != ly.NOWHERE:
        at = slot << ly.POOL_SHIFT
        outcome, reason = OUTCOME_OK, q[batch + ly.B_REASON]
        if pool[at + ly.CANCEL_NS] < at_ns:
            outcome, reason = OUTCOME_CANCELLED, REASON_CLIENT
        else:
            at_ns += answer_ns(costs, pool[at + ly.ROWS])
        following = pool[at + ly.NEXT]
        leave(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns)
        slot = following
    free_batch(s, q, b)
    return at_ns


@inlined
def free_batch(s, q, b):
    """Give a batch's place back."""
    q[s[ly.AT_BATCHES_FREE] + s[ly.BATCHES_FREE]] = b
    s[ly.BATCHES_FREE] += 1


# -- replicas ----------------------------------------------------------------------------------------------------


@inlined
def end_batch(s, pool, q, t, x, table, levels):
    """The batch that ends first has ended; the replica's other slot starts; the front gets a finish job."""
    replica = s[ly.NEXT_END_REPLICA]
    b = s[replica_at(s, ly.R_RUNNING, replica)]
    stop_running(s, q, x, replica)
    q[s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT) + ly.B_DONE_NS] = s[ly.NOW_NS]
    second = s[replica_at(s, ly.R_SECOND, replica)]
    if second != ly.NOWHERE:
        s[replica_at(s, ly.R_SECOND, replica)] = ly.NOWHERE
        start(s, pool, q, t, table, levels, second, replica)
    find_next_end(s)
    job_push(s, q, ly.JOB_FINISH, b)


@inlined
def stop_running(s, q, x, replica):
    """A replica computes no longer: its batch ended, or it died."""
    batch = s[ly.AT_BATCHES] + (s[replica_at(s, ly.R_RUNNING, replica)] << ly.BATCH_SHIFT)
    spread(s, x, s[ly.X_BUSY], q[batch + ly.B_START_NS], s[ly.NOW_NS])
    s[replica_at(s, ly.R_RUNNING, replica)] = ly.NOWHERE
    s[replica_at(s, ly.R_END_NS, replica)] = NEVER_NS
    s[ly.RUNNING] -= 1


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
    s[replica_at(s, ly.R_INCARNATION, replica)] += 1
    s[replica_at(s, ly.R_OCCUPIED, replica)] = 0
    running, second = s[replica_at(s, ly.R_RUNNING, replica)], s[replica_at(s, ly.R_SECOND, replica)]
    if running != ly.NOWHERE:
        stop_running(s, q, x, replica)
        find_next_end(s)
        undo(s, pool, q, t, x, out, running, 1)
    if second != ly.NOWHERE:
        s[replica_at(s, ly.R_SECOND, replica)] = ly.NOWHERE
        undo(s, pool, q, t, x, out, second, 0)


@helper
def undo(s, pool, q, t, x, out, b, started):
    """Put a dead replica's batch back, request by request in row order; a death counts if it had started."""
    now_ns = s[ly.NOW_NS]
    slot = q[s[ly.AT_BATCHES] + (b << ly.BATCH_SHIFT) + ly.B_FIRST]
    while slot != ly.NOWHERE:
        at = slot << ly.POOL_SHIFT
        following = pool[at + ly.NEXT]
        pool[at + ly.DEATHS] += started
        outcome = put_back_outcome(
            pool[at + ly.CANCEL_NS], pool[at + ly.DEATHS], s[ly.MAX_DEATHS], pool[at + ly.DEADLINE_NS], now_ns
        )
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


@helper
def control(s, pool, q, t, x, out, op, replica):
    """What control asks for, as an event of its own class."""
    if op == ly.OP_DRAIN:
        s[ly.DRAINING] = 1
    elif op == ly.OP_KILL:
        kill(s, pool, q, t, x, out, replica)
    elif op == ly.OP_READY and s[replica_at(s, ly.R_UP, replica)] == 0:
        s[replica_at(s, ly.R_UP, replica)] = 1
        if s[replica_at(s, ly.R_DRAINING, replica)] == 0:
            s[ly.AVAILABLE] += 1
            s[ly.FREE_SLOTS] += s[ly.SLOTS]
    elif op == ly.OP_DRAIN_REPLICA:
        if s[replica_at(s, ly.R_UP, replica)] != 0 and s[replica_at(s, ly.R_DRAINING, replica)] == 0:
            s[ly.AVAILABLE] -= 1
            s[ly.FREE_SLOTS] -= s[ly.SLOTS] - s[replica_at(s, ly.R_OCCUPIED, replica)]
        s[replica_at(s, ly.R_DRAINING, replica)] = 1
        note_drained(s, replica)


# -- the loop -------------------------------------------------------------------------------------------------------


@inlined
def pending_stop(s):
    """The code of what control has yet to be told, NOWHERE if nothing (see `sim.plane.StopCode`)."""
    if s[ly.DRAINED_COUNT] > 0:
        return tell_drained(s)
    if s[ly.FAILED_ID] >= 0:
        s[ly.WHICH], s[ly.FAILED_ID] = s[ly.FAILED_ID], -1
        return ly.STOP_FAILED
    if s[ly.HOMELESS_ID] >= 0:
        s[ly.WHICH], s[ly.HOMELESS_ID] = s[ly.HOMELESS_ID], -1
        return ly.STOP_NO_REPLICA
    if s[ly.OPEN_AT] == s[ly.OPEN_COUNT] and s[ly.OPEN_ENDED] == 0:
        return ly.STOP_STARVED
    return ly.NOWHERE


@helper
def tell_drained(s):
    """The lowest drained replica that control was not told of."""
    replica = 0
    while s[replica_at(s, ly.R_DRAINED, replica)] != 1:
        replica += 1
    s[replica_at(s, ly.R_DRAINED, replica)] = 2
    s[ly.DRAINED_COUNT] -= 1
    s[ly.WHICH] = replica
    return ly.STOP_DRAINED


@helper
def withdraw(s, pool, q, t, x, out):
    """A client's patience ends while its request waits (rule 7)."""
    slot = q[s[ly.HEAPS + ly.HEAP_WIDTH * ly.CANCELS + ly.HEAP_BASE] + 2]
    leave_queue(s, pool, q, slot)
    leave_unserved(s, pool, q, t, x, out, slot, OUTCOME_CANCELLED, REASON_CLIENT)


@entry
def advance(
    s, pool, q, t, x, out, table, levels,
    arrival_ns, rows, class_, priority, timeout_ns, patience_ns, client_ns, draw, closed,
    until_ns, op, replica,
):  # fmt: skip
    """Handle events up to `until_ns`, then, unless OP_NONE, control's `op`; a StopCode, or GROW."""
    while True:
        if s[ly.FREE] == 0 or s[ly.ROWS_OUT] + s[ly.POOL_SIZE] - s[ly.FREE] >= s[ly.ROWS_OUT_MAX]:
            return ly.GROW
        if op == ly.OP_NONE:
            code = pending_stop(s)
            if code != ly.NOWHERE:
                return code
        at_ns, event = next_event(s, pool, q, arrival_ns)
        if at_ns > until_ns or (at_ns == until_ns and event >= EVENT_CONTROL):
            at_ns, event = until_ns, EVENT_CONTROL
        s[ly.NOW_NS] = at_ns
        ended = 0
        if event == EVENT_ARRIVAL:
            i = s[ly.OPEN_AT]
            if i < s[ly.OPEN_COUNT] and arrival_ns[i] == at_ns:
                arrive_open(s, pool, q, rows, class_, priority, timeout_ns, patience_ns, client_ns, draw)
            elif arrive_closed(s, pool, q, closed) == 0:
                return ly.STOP_STARVED
        elif event == EVENT_ENDED:
            end_batch(s, pool, q, t, x, table, levels)
        elif event == EVENT_FRONT:
            ended = 1
        elif event == EVENT_WINDOW:
            s[ly.WINDOW_FIRED_NS] = at_ns
        elif event == EVENT_DEADLINE:
            drop_expired(s, pool, q)
        elif event == EVENT_CANCEL:
            withdraw(s, pool, q, t, x, out)
        elif op == ly.OP_NONE:
            return ly.STOP_UNTIL
        else:
            control(s, pool, q, t, x, out, op, replica)
        settle(s, pool, q, t, x, out, table, levels, ended)
        if event == EVENT_CONTROL:
            return ly.STOP_UNTIL
