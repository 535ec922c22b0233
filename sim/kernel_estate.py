"""The kernel of an estate: nodes behind a router, on one clock.

Every node is handled by the very helpers that `sim.kernel` runs on its only one, each on its own row; here are the
order of their events and the router's, and what passes between them.
"""

from serve.policy.codes import (
    ATTEMPT_BITS,
    EVENT_ANSWERED,
    EVENT_ARRIVAL,
    EVENT_CONTROL,
    EVENT_DELIVERED,
    EVENT_GIVEN_UP,
    EVENT_RETRY,
)
from sim import layout as ly
from sim.compiled import entry, helper, inlined
from sim.kernel import admit, control, happen, next_arrival_ns, pending_stop, starved, take_closed, take_open
from sim.kernel_fault import never_arrive
from sim.kernel_front import settle
from sim.kernel_loss import lose, lose_attempt, renew
from sim.kernel_next import node_event, refresh, root_event, root_node
from sim.kernel_queue import line_pop, meter, row_of, top_slot
from sim.kernel_router import collect, empty_buffer, give_up, hear, retry, route, router_event


@helper
def node_with_stop(rows):
    """The lowest node of which control has yet to be told something; NOWHERE if there is none."""
    for node in range(len(rows)):
        if has_stop(rows[node]) != 0:
            return node
    return ly.NOWHERE


@inlined
def has_stop(s):
    """Whether control has yet to be told something of a node."""
    return 1 if s[ly.DRAINED_COUNT] + s[ly.DIED_COUNT] > 0 or s[ly.FAILED_ID] >= 0 or s[ly.HOMELESS_ID] >= 0 else 0


@helper
def tell_stop(g, s, node):
    """What control is told of a node next."""
    code = pending_stop(s)
    g[ly.WHERE], g[ly.WHICH] = node, s[ly.WHICH]
    if code not in (ly.STOP_DRAINED, ly.STOP_DIED):
        g[ly.WHICH] >>= ATTEMPT_BITS
    return code


@inlined
def deliver(g, s, pool, q):
    """The next attempt reaches its node."""
    slot = top_slot(g, q, ly.DELIVERIES)
    line_pop(g, q, ly.DELIVERIES)
    s[ly.PRESENT] += 1
    pool[row_of(slot) + ly.PLACE] = ly.AT_NODE
    if s[ly.LOST] == 0:
        admit(s, pool, q, slot)
        return
    at = row_of(slot)
    pool[at + ly.ARRIVAL_NS], pool[at + ly.ENQUEUE_NS], pool[at + ly.DEATHS] = s[ly.NOW_NS], -1, 0
    lose_attempt(s, pool, q, slot)


@inlined
def control_node(g, s, pool, q, t, x, out, op, replica):
    """What control asks for of a node, which may be gone, or come back by it."""
    if op == ly.OP_LOSE:
        lose(g, s, pool, q, x)
        return
    if op == ly.OP_READY and s[ly.LOST] != 0:
        renew(s, q)
        s[ly.LOST] = 0
    control(s, pool, q, t, x, out, op, replica)


@inlined
def control_router(g, rows, pool, q, t, x, known, recent, op, node, replica):
    """What control asks for of the router or its network, if this is that: 1, else 0."""
    if op == ly.OP_ROTATE:
        empty_buffer(g, rows[len(rows) - g[ly.GROUPS] + node], rows, pool, q, t, x, known, recent)
    elif op == ly.OP_CUT:
        rows[node, ly.CUT] = replica
    else:
        return 0
    return 1


@inlined
def router_stop(g):
    """The code of what control has yet to be told of the router, NOWHERE if nothing."""
    if g[ly.WOKEN_ID] >= 0:
        g[ly.WHERE] = ly.NOWHERE - g[ly.WOKEN_GROUP]
        g[ly.WHICH], g[ly.WOKEN_ID] = g[ly.WOKEN_ID] >> ATTEMPT_BITS, -1
        return ly.STOP_NO_REPLICA
    if g[ly.EMPTIED] > 0:
        g[ly.WHERE], g[ly.WHICH], g[ly.EMPTIED] = ly.NOWHERE, -1, 0
        return ly.STOP_EMPTY
    return ly.NOWHERE


@inlined
def at_router(g, rows, pool, q, t, x, out, order, known, recent, asks, event):
    """An event of the router's own comes about, if this is one: 1, else 0."""
    if event == EVENT_ANSWERED:
        hear(g, rows, pool, q, t, x, out, order, known, recent)
    elif event == EVENT_RETRY:
        retry(g, rows, pool, q, t, x, known, recent)
    elif event == EVENT_GIVEN_UP:
        give_up(g, rows, pool, q, t, x, known, recent, asks)
    else:
        return 0
    return 1


@entry
def advance_estate(
    rows, pool, q, t, x, out, table, levels, order, known, recent, asks,
    arrival_ns, request_rows, class_, priority, timeout_ns, patience_ns, client_ns, route_bits, draw, closed,
    until_ns, op, node, replica,
):  # fmt: skip
    """Many nodes: handle events up to `until_ns`, then, unless OP_NONE, control's `op` on a node or group; a StopCode,
    or GROW, of the node WHERE or, NOWHERE, of the plane."""
    g = rows[len(rows) - 1]
    stopped = node_with_stop(rows) if op == ly.OP_NONE else ly.NOWHERE
    while True:
        if g[ly.FREE] == 0 or out[0] + g[ly.POOL_SIZE] - g[ly.FREE] >= g[ly.ROWS_OUT_MAX]:
            g[ly.WHERE] = ly.NOWHERE
            return ly.GROW
        if op == ly.OP_NONE:
            code = router_stop(g)
            if code != ly.NOWHERE:
                return code
            if stopped != ly.NOWHERE:
                return tell_stop(g, rows[stopped], stopped)
            if starved(g) != 0:
                return ly.STOP_STARVED
        n = root_node(order, g[ly.LEAVES])
        due_ns, due_event = root_event(order)
        at_ns, event = router_event(g, pool, q, next_arrival_ns(g, q, arrival_ns), due_ns, due_event)
        if at_ns > until_ns or (at_ns == until_ns and event >= EVENT_CONTROL):
            at_ns, event = until_ns, EVENT_CONTROL
        g[ly.NOW_NS] = at_ns
        if at_router(g, rows, pool, q, t, x, out, order, known, recent, asks, event) != 0:
            continue
        if event == EVENT_ARRIVAL:
            i = g[ly.OPEN_AT]
            if i < g[ly.OPEN_COUNT] and arrival_ns[i] == at_ns:
                slot = take_open(
                    g, pool, q, request_rows, class_, priority, timeout_ns, patience_ns, client_ns, route_bits, draw
                )
            else:
                slot = take_closed(g, pool, q, closed)
                if slot == ly.NOWHERE:
                    return ly.STOP_STARVED
            route(g, rows, pool, q, t, x, known, recent, asks, slot)
            continue
        if event == EVENT_DELIVERED:
            n = pool[(top_slot(g, q, ly.DELIVERIES) << ly.POOL_SHIFT) + ly.SENT_TO]
            if rows[n, ly.CUT] != 0:
                never_arrive(g, pool, q)
                continue
            if rows[n, ly.PRESENT] == rows[n, ly.ROOM]:
                g[ly.WHERE] = n
                return ly.GROW
        elif event == EVENT_CONTROL:
            if op == ly.OP_NONE or control_router(g, rows, pool, q, t, x, known, recent, op, node, replica) != 0:
                return ly.STOP_UNTIL
            n = node
        s = rows[n]
        s[ly.NOW_NS] = at_ns
        if s[ly.METERED] != 0:
            meter(s)
        ended = 0
        if event == EVENT_DELIVERED:
            deliver(g, s, pool, q)
        elif event != EVENT_CONTROL:
            ended = happen(s, pool, q, t, x, out, table, levels, event)
        else:
            control_node(g, s, pool, q, t, x, out, op, replica)
        settle(s, pool, q, t, x, out, table, levels, ended)
        collect(g, s, pool, q)
        due_ns, due_event = node_event(s, pool, q)
        refresh(order, g[ly.LEAVES], n, due_ns, due_event)
        if event == EVENT_CONTROL:
            return ly.STOP_UNTIL
        if has_stop(s) != 0:
            stopped = n
