"""The data plane's kernel: the rulebook's leaves, compiled, over the flat arrays of `sim.layout`.

`advance` handles one event after another, each to its end, in the written order. `settle` ends
every event: the free station takes its next jobs, and rule 3 runs. What `serve.scheduler` and
`sim.reference` do with objects, this does with offsets; `tests/twin` holds the two together.
"""

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
    POLICY_WORKERS,
    REASON_CLIENT,
    REASON_DRAINING,
)
from sim import layout as ly
from sim.compiled import entry, helper, inlined
from sim.kernel_batch import drop_expired, kill, note_drained, replica_at
from sim.kernel_engines import freed
from sim.kernel_fault import end_or_die, hang, slow, tell_died
from sim.kernel_front import settle
from sim.kernel_leave import job_push, leave_unserved, refuse
from sim.kernel_next import timer_event
from sim.kernel_queue import (
    heap_field,
    heap_pop,
    heap_top_ns,
    leave_queue,
    let_all_go,
    meter,
    row_of,
    take_slot,
    top_slot,
)

# -- the next event ------------------------------------------------------------------------------


@inlined
def next_event(s, pool, q, open_arrival_ns):
    """(instant, class) of the next event of the only node; a lower class wins a tie."""
    at_ns, event = s[ly.NEXT_END_NS], EVENT_ENDED
    if s[ly.FRONT_END_NS] < at_ns:
        at_ns, event = s[ly.FRONT_END_NS], EVENT_FRONT
    arrival_ns = next_arrival_ns(s, q, open_arrival_ns)
    if arrival_ns < at_ns:
        at_ns, event = arrival_ns, EVENT_ARRIVAL
    return timer_event(s, pool, q, at_ns, event)


@inlined
def next_arrival_ns(s, q, open_arrival_ns):
    """When the next request arrives, of those fed."""
    arrival_ns = heap_top_ns(s, q, ly.CLIENTS)
    if s[ly.OPEN_AT] < s[ly.OPEN_COUNT]:
        arrival_ns = min(arrival_ns, open_arrival_ns[s[ly.OPEN_AT]])
    return arrival_ns


# -- arrivals ------------------------------------------------------------------------------------


@inlined
def admit(s, pool, q, slot):
    """A request arrives at a node, now."""
    at = row_of(slot)
    pool[at + ly.ARRIVAL_NS], pool[at + ly.ENQUEUE_NS] = s[ly.NOW_NS], -1
    pool[at + ly.DEATHS], pool[at + ly.POSITION], pool[at + ly.HEAPED] = 0, ly.NOWHERE, 0
    if s[ly.DRAINING] != 0:
        refuse(s, pool, q, slot, OUTCOME_DRAINING, REASON_DRAINING)
        return
    job_push(s, q, ly.JOB_PARSE, slot)
    if s[ly.AVAILABLE] == 0:
        s[ly.HOMELESS_ID] = pool[at + ly.ID]


@inlined
def ask(s, pool, at, id_, client, patience_ns):
    """Who asks, and until when, of a request that arrives now."""
    pool[at + ly.ID], pool[at + ly.CLIENT] = id_, client
    pool[at + ly.CANCEL_NS] = s[ly.NOW_NS] + patience_ns if patience_ns < NEVER_NS else NEVER_NS


@inlined
def take_open(s, pool, q, rows, class_, priority, timeout_ns, patience_ns, client_ns, route, draw):
    """Slot of the next open arrival."""
    i, slot = s[ly.OPEN_AT], take_slot(s, q)
    s[ly.OPEN_AT] = i + 1
    at = row_of(slot)
    pool[at + ly.ROWS], pool[at + ly.CLASS], pool[at + ly.PRIORITY] = rows[i], class_[i], priority[i]
    pool[at + ly.DEADLINE_NS], pool[at + ly.CLIENT_NS] = timeout_ns[i], client_ns[i]
    if s[ly.ROUTED] != 0:
        pool[at + ly.ROUTE], pool[at + ly.PATIENCE_NS] = route[i], patience_ns[i]
    first = (s[ly.AT_DRAWS] + slot * s[ly.DRAWS]) & ly.INDEX_MASK
    for d in range(s[ly.DRAWS]):
        q[first + d] = draw[d, i]
    ask(s, pool, at, s[ly.OPEN_FIRST_ID] + i, -1, patience_ns[i])
    return slot


@helper
def take_closed(s, pool, q, closed):
    """Slot of the next request of a closed-loop client; NOWHERE if it was not fed yet."""
    base = s[heap_field(ly.CLIENTS, ly.HEAP_BASE)]
    id_, client = q[base + 1], q[base + 2]
    i = id_ - s[ly.CLOSED_FIRST_ID] - s[ly.CLOSED_FIRST_INDEX]
    if i >= s[ly.CLOSED_COUNT]:
        return ly.NOWHERE
    heap_pop(s, q, ly.CLIENTS)
    q[s[ly.AT_TURNS] + client] += 1
    slot = take_slot(s, q)
    at = row_of(slot)
    pool[at + ly.ROWS], pool[at + ly.CLASS] = closed[i, ly.C_ROWS], closed[i, ly.C_CLASS]
    pool[at + ly.PRIORITY], pool[at + ly.DEADLINE_NS] = closed[i, ly.C_PRIORITY], closed[i, ly.C_TIMEOUT_NS]
    pool[at + ly.CLIENT_NS], pool[at + ly.ROUTE] = closed[i, ly.C_CLIENT_NS], closed[i, ly.C_ROUTE]
    pool[at + ly.PATIENCE_NS] = closed[i, ly.C_PATIENCE_NS]
    for d in range(s[ly.DRAWS]):
        q[s[ly.AT_DRAWS] + slot * s[ly.DRAWS] + d] = closed[i, ly.C_WIDTH + d]
    ask(s, pool, at, id_, client, closed[i, ly.C_PATIENCE_NS])
    return slot


# -- control and the loop ------------------------------------------------------------------------


@helper
def control(s, pool, q, t, x, out, op, replica):
    """What control asks for, as an event of its own class."""
    if op == ly.OP_DRAIN:
        s[ly.DRAINING] = 1
    elif op == ly.OP_KILL:
        kill(s, pool, q, t, x, out, replica)
    elif op == ly.OP_READY and s[replica_at(s, ly.R_UP, replica)] == 0:
        s[replica_at(s, ly.R_UP, replica)] = 1
        s[replica_at(s, ly.R_RESTED_NS, replica)] = s[ly.NOW_NS]
        if s[ly.POLICY] >= POLICY_WORKERS:
            freed(s, replica)
        if s[replica_at(s, ly.R_DRAINING, replica)] == 0:
            s[ly.AVAILABLE] += 1
            s[ly.FREE_SLOTS] += s[ly.SLOTS]
    elif op == ly.OP_RETIRE:
        if s[replica_at(s, ly.R_OCCUPIED, replica)] == 0:
            kill(s, pool, q, t, x, out, replica)
            s[replica_at(s, ly.R_DRAINING, replica)], s[replica_at(s, ly.R_DRAINED, replica)] = 0, 0
    elif op == ly.OP_SLOW:
        slow(s, replica)
    elif op == ly.OP_HANG:
        hang(s, q, replica)
    elif op == ly.OP_DRAIN_REPLICA:
        if s[replica_at(s, ly.R_UP, replica)] != 0 and s[replica_at(s, ly.R_DRAINING, replica)] == 0:
            s[ly.AVAILABLE] -= 1
            s[ly.FREE_SLOTS] -= s[ly.SLOTS] - s[replica_at(s, ly.R_OCCUPIED, replica)]
        s[replica_at(s, ly.R_DRAINING, replica)] = 1
        if s[ly.POLICY] >= POLICY_WORKERS:
            let_all_go(s, pool, q, replica)
        note_drained(s, replica)


@inlined
def pending_stop(s):
    """The code of what control has yet to be told of a node, NOWHERE if nothing (see `sim.plane.StopCode`)."""
    if s[ly.DRAINED_COUNT] > 0:
        return tell_drained(s)
    if s[ly.DIED_COUNT] > 0:
        return tell_died(s)
    if s[ly.FAILED_ID] >= 0:
        s[ly.WHICH], s[ly.FAILED_ID] = s[ly.FAILED_ID], -1
        return ly.STOP_FAILED
    if s[ly.HOMELESS_ID] >= 0:
        s[ly.WHICH], s[ly.HOMELESS_ID] = s[ly.HOMELESS_ID], -1
        return ly.STOP_NO_REPLICA
    return ly.NOWHERE


@inlined
def starved(s):
    """Whether the next open arrival may be one that was not fed."""
    return 1 if s[ly.OPEN_AT] == s[ly.OPEN_COUNT] and s[ly.OPEN_ENDED] == 0 else 0


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
    slot = top_slot(s, q, ly.CANCELS)
    leave_queue(s, pool, q, slot)
    leave_unserved(s, pool, q, t, x, out, slot, OUTCOME_CANCELLED, REASON_CLIENT)


@inlined
def happen(s, pool, q, t, x, out, table, levels, event):
    """An event of the node's own comes about, but for what its front does next; 1 if it ends the front's job."""
    if event == EVENT_ENDED:
        end_or_die(s, pool, q, t, x, out, table, levels)
    elif event == EVENT_WINDOW:
        s[ly.WINDOW_FIRED_NS] = s[ly.NOW_NS]
    elif event == EVENT_DEADLINE:
        drop_expired(s, pool, q)
    elif event == EVENT_CANCEL:
        withdraw(s, pool, q, t, x, out)
    return 1 if event == EVENT_FRONT else 0


@entry
def advance(
    s, pool, q, t, x, out, table, levels,
    arrival_ns, rows, class_, priority, timeout_ns, patience_ns, client_ns, route, draw, closed,
    until_ns, op, replica,
):  # fmt: skip
    """One node: handle events up to `until_ns`, then, unless OP_NONE, control's `op`; a StopCode, or GROW."""
    while True:
        if s[ly.FREE] == 0 or out[0] + s[ly.POOL_SIZE] - s[ly.FREE] >= s[ly.ROWS_OUT_MAX]:
            return ly.GROW
        if op == ly.OP_NONE:
            code = pending_stop(s)
            if code != ly.NOWHERE:
                return code
            if starved(s) != 0:
                return ly.STOP_STARVED
        at_ns, event = next_event(s, pool, q, arrival_ns)
        if at_ns > until_ns or (at_ns == until_ns and event >= EVENT_CONTROL):
            at_ns, event = until_ns, EVENT_CONTROL
        s[ly.NOW_NS] = at_ns
        if s[ly.METERED] != 0:
            meter(s)
        ended = 0
        if event == EVENT_ARRIVAL:
            i = s[ly.OPEN_AT]
            if i < s[ly.OPEN_COUNT] and arrival_ns[i] == at_ns:
                slot = take_open(s, pool, q, rows, class_, priority, timeout_ns, patience_ns, client_ns, route, draw)
            else:
                slot = take_closed(s, pool, q, closed)
                if slot == ly.NOWHERE:
                    return ly.STOP_STARVED
            admit(s, pool, q, slot)
        elif event != EVENT_CONTROL:
            ended = happen(s, pool, q, t, x, out, table, levels, event)
        elif op == ly.OP_NONE:
            return ly.STOP_UNTIL
        else:
            control(s, pool, q, t, x, out, op, replica)
        settle(s, pool, q, t, x, out, table, levels, ended)
        if event == EVENT_CONTROL:
            return ly.STOP_UNTIL
