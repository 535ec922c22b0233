"""The kernel's router (rule 17): it sends attempts to nodes over the network, and hears what became of them.

`g` is the router's own row, `h` that of the group of nodes that a request was given to. An attempt holds its slot of
the pool from the router until the router knows its end.
"""

from serve.policy import retries, routing
from serve.policy.codes import (
    ATTEMPT_BITS,
    CAUSE_CLIENT_RETRY,
    CAUSE_FIRST,
    CAUSE_ROUTER_RETRY,
    EVENT_ANSWERED,
    EVENT_ARRIVAL,
    EVENT_DELIVERED,
    EVENT_GIVEN_UP,
    EVENT_RETRY,
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_CLIENT,
    REASON_NO_NODE,
)
from serve.policy.routing import DRAW_MASK, NOBODY
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_buffer import buffer_pop, buffer_push, leave_buffer
from sim.kernel_eject import judge
from sim.kernel_fault import drop
from sim.kernel_hedge import hedge, is_due, leave_pair, note, part, plan_hedge, within_budget
from sim.kernel_leave import think
from sim.kernel_queue import (
    free_slot,
    heap_field,
    heap_move,
    heap_pop,
    heap_push,
    heap_top_ns,
    heapify,
    line_pop,
    line_push,
    row_of,
    take_slot,
    top_slot,
)
from sim.kernel_send import candidates, carry, end_extra, forget, group_at, is_told, pick
from sim.kernel_tally import keep_attempt, tally_attempt, tally_drop, tally_request

retryable = inlined(retries.retryable)
backoff_ns = inlined(retries.backoff_ns)
another_draw = inlined(routing.another_draw)
version = inlined(routing.version)


# -- the next event --------------------------------------------------------------------------------


@inlined
def router_event(g, pool, q, arrival_ns, at_ns, event):
    """The earlier of a node's event and the router's own, by (instant, class)."""
    heard_ns = heap_top_ns(g, q, ly.ANSWERS)
    if heard_ns < at_ns or (heard_ns == at_ns and event > EVENT_ANSWERED):
        at_ns, event = heard_ns, EVENT_ANSWERED
    retry_ns = heap_top_ns(g, q, ly.RETRIES)
    if retry_ns < at_ns or (retry_ns == at_ns and event > EVENT_RETRY):
        at_ns, event = retry_ns, EVENT_RETRY
    if arrival_ns < at_ns or (arrival_ns == at_ns and event > EVENT_ARRIVAL):
        at_ns, event = arrival_ns, EVENT_ARRIVAL
    delivery_ns = heap_top_ns(g, q, ly.DELIVERIES)
    if delivery_ns < at_ns or (delivery_ns == at_ns and event > EVENT_DELIVERED):
        at_ns, event = delivery_ns, EVENT_DELIVERED
    give_up_ns = heap_top_ns(g, q, ly.GIVE_UPS)
    if give_up_ns < at_ns or (give_up_ns == at_ns and event > EVENT_GIVEN_UP):
        give_up_ns = give_up_due_ns(g, pool, q)
        if give_up_ns < at_ns or (give_up_ns == at_ns and event > EVENT_GIVEN_UP):
            at_ns, event = give_up_ns, EVENT_GIVEN_UP
    return at_ns, event


# -- sending ---------------------------------------------------------------------------------------


@helper
def route(g, rows, pool, q, t, x, known, recent, asks, slot):
    """A request arrives at the router."""
    at, now_ns = row_of(slot), g[ly.NOW_NS]
    g[ly.PRESENT] += 1
    pool[at + ly.ID] <<= ATTEMPT_BITS
    pool[at + ly.FIRST_NS], pool[at + ly.SETTLED] = now_ns, 0
    pool[at + ly.HEDGE], pool[at + ly.MADE] = ly.NOWHERE, 1
    pool[at + ly.TIMEOUT_NS] = pool[at + ly.DEADLINE_NS]
    pool[at + ly.STORY] = CAUSE_FIRST + (group_for(g, rows, pool, asks, slot) << ly.GROUP_AT)
    begin(g, rows, pool, q, t, x, known, recent, asks, slot)


@inlined
def group_for(g, rows, pool, asks, slot):
    """The group that serves a request: of the versions of its model, the one whose part of the draws holds its own; by
    which it may be counted."""
    class_ = pool[row_of(slot) + ly.CLASS]
    first, count = asks[class_, ly.A_GROUP], asks[class_, ly.A_GROUPS]
    if count == 1:
        return first
    upto = rows[len(rows) - g[ly.GROUPS] :, ly.SHARE_UPTO]
    group = version(another_draw(pool[row_of(slot) + ly.ROUTE]) & DRAW_MASK, upto, first, count)
    pool[row_of(slot) + ly.CLASS] += (group - first) * asks[class_, ly.A_STEP]
    return group


@helper
def begin(g, rows, pool, q, t, x, known, recent, asks, slot):
    """A client asks, for the first time or again; that it gave up its node learns a network delay later, or never."""
    at = row_of(slot)
    pool[at + ly.PLACE] = ly.WITH_ROUTER
    if pool[at + ly.CANCEL_NS] < NEVER_NS:
        give_up_push(g, pool, q, slot)
        silent = asks[pool[at + ly.CLASS], ly.A_SILENT]
        pool[at + ly.CANCEL_NS] = NEVER_NS if silent != 0 else pool[at + ly.CANCEL_NS] + g[ly.NETWORK_NS]
    send_in_turn(g, rows, pool, q, t, x, known, recent, slot)


@helper
def send_in_turn(g, rows, pool, q, t, x, known, recent, slot):
    """An attempt is sent after those that wait already until a node has room for them."""
    h = rows[group_at(g, rows, pool, slot)]
    if h[ly.CREDIT] != 0:
        empty_buffer(g, h, rows, pool, q, t, x, known, recent)
    send(g, rows, pool, q, t, x, known, recent, slot)


@helper
def send(g, rows, pool, q, t, x, known, recent, slot):
    """An attempt is sent to a node; or there is none, which is the request's end."""
    h = rows[group_at(g, rows, pool, slot)]
    node = pick(g, h, rows, known, pool[row_of(slot) + ly.ROUTE])
    if node == NOBODY:
        if buffer_push(g, h, pool, q, slot) != 0:
            return
        end_extra(h, pool, slot)
        settle_request(g, pool, q, t, x, slot, OUTCOME_FULL, REASON_NO_NODE)
        free_slot(g, q, slot)
        return
    carry(g, h, pool, q, known, slot, node)
    if g[ly.HEDGE_AFTER_NS] < NEVER_NS:
        plan_hedge(g, h, pool, q, recent, slot)


@helper
def empty_buffer(g, h, rows, pool, q, t, x, known, recent):
    """What waited for a node is sent, in its order, as long as there is a candidate."""
    while candidates(g, h, known) > 0:
        slot = buffer_pop(g, h, pool, q)
        if slot == ly.NOWHERE:
            break
        if pool[row_of(slot) + ly.SETTLED] != 0:
            free_slot(g, q, slot)
        else:
            send(g, rows, pool, q, t, x, known, recent, slot)


# -- hearing ---------------------------------------------------------------------------------------


@inlined
def collect(g, s, pool, q):
    """What left a node in the event that was handled is on its way to the router."""
    for i in range(s[ly.OUTBOX]):
        slot = q[s[ly.AT_OUTBOX] + i]
        at = row_of(slot)
        line_push(g, q, ly.ANSWERS, pool[at + ly.LEFT_NS] + g[ly.NETWORK_NS], pool[at + ly.ID], slot)
    s[ly.OUTBOX] = 0


@helper
def hear(g, rows, pool, q, t, x, out, order, known, recent):
    """The next answer reaches the router, and its node may have room for another."""
    group = hear_of(g, rows, pool, q, t, x, out, order, known, recent)
    if group != ly.NOWHERE and rows[group, ly.CREDIT] != 0:
        empty_buffer(g, rows[group], rows, pool, q, t, x, known, recent)


@helper
def hear_of(g, rows, pool, q, t, x, out, order, known, recent):
    """The row of the group of the next answer; NOWHERE of one that nobody waits for any more: it only frees its
    place."""
    top = g[heap_field(ly.ANSWERS, ly.HEAP_BASE)]
    at_ns, id_, slot = q[top], q[top + 1], q[top + 2]
    line_pop(g, q, ly.ANSWERS)
    at = row_of(slot)
    if pool[at + ly.ID] != id_ or expected_ns(g, pool, slot) != at_ns:
        return ly.NOWHERE  # its node was lost before this answer had left
    if pool[at + ly.PLACE] == ly.LEFT and rows[pool[at + ly.SENT_TO], ly.CUT] != 0:
        drop(g, pool, q, slot, pool[at + ly.ARRIVAL_NS] - g[ly.NETWORK_NS])
        return ly.NOWHERE
    pool[at + ly.PLACE] = ly.WITH_ROUTER
    keep_attempt(rows[pool[at + ly.SENT_TO]], pool, x, out, slot)
    tally_attempt(g, pool, t, slot)
    group = ly.NOWHERE
    if pool[at + ly.SETTLED] == 0:
        outcome, reason = pool[at + ly.LEFT_BY] >> 4, pool[at + ly.LEFT_BY] & 15
        group = group_at(g, rows, pool, slot)
        h = rows[group]
        learn(g, h, pool, known, recent, slot, outcome)
        if outcome != OUTCOME_OK:
            home = leave_pair(g, pool, q, slot)
            if home == ly.NOWHERE:
                return group
            if may_retry(h, pool, home, outcome) != 0:
                if home != slot:
                    pool[row_of(home) + ly.HEDGE] = ly.NOWHERE
                    free_slot(g, q, slot)
                wait(g, h, pool, q, home)
                return group
        settle_request(g, pool, q, t, x, slot, outcome, reason)
        part(g, rows, pool, q, order, known, slot)
    free_slot(g, q, slot)
    return group


@inlined
def learn(g, h, pool, known, recent, slot, outcome):
    """What an answer that was waited for tells of its node."""
    at = row_of(slot)
    forget(h, pool, known, slot)
    if is_told(h) != 0 and outcome != OUTCOME_LOST:
        known[ly.K_SCORE, pool[at + ly.SENT_TO]] = pool[at + ly.REPORT]
    if h[ly.EJECT_FAILURES] != 0:
        judge(g, h, known, pool[at + ly.SENT_TO], outcome)
    if g[ly.HEDGE_AFTER_NS] < 0 and outcome == OUTCOME_OK:
        took_ns = g[ly.NOW_NS] - pool[at + ly.ARRIVAL_NS] + g[ly.NETWORK_NS]
        note(recent[h[ly.GROUP]], g[ly.HEDGE_ANSWERS], took_ns)


@inlined
def expected_ns(g, pool, slot):
    """When the router hears of an attempt that has left its node, or was dropped."""
    at = row_of(slot)
    if pool[at + ly.PLACE] == ly.LEFT:
        return pool[at + ly.LEFT_NS] + g[ly.NETWORK_NS]
    return pool[at + ly.HEARD_NS] if pool[at + ly.PLACE] == ly.DROPPED else NEVER_NS


@inlined
def settle_request(g, pool, q, t, x, slot, outcome, reason):
    """A request has come to its end, now: it is counted, its client thinks."""
    at = row_of(slot)
    pool[at + ly.SETTLED] = 1
    g[ly.PRESENT] -= 1
    if g[ly.PRESENT] == 0 and g[ly.EMPTIED] == 0:
        g[ly.EMPTIED] = 1
    if g[ly.KEEP_TALLY] != 0:
        if outcome == OUTCOME_OK:
            tally_request(g, pool, t, x, slot, g[ly.NOW_NS])
        else:
            tally_drop(g, pool, t, slot, pool[at + ly.FIRST_NS], outcome, reason)
    if pool[at + ly.CLIENT] >= 0:
        think(g, pool, q, slot, outcome, g[ly.NOW_NS])


# -- retries ---------------------------------------------------------------------------------------


@inlined
def retries_of(pool, slot):
    """Which of the router's retries an attempt is, since its client asked last; 0: none."""
    return (pool[row_of(slot) + ly.STORY] >> ly.RETRIES_AT) & ((1 << ATTEMPT_BITS) - 1)


@inlined
def may_retry(h, pool, slot, outcome):
    """Whether to retry after an attempt that has come back."""
    if retries_of(pool, slot) >= h[ly.RETRIES_MAX] or retryable(outcome) == 0:
        return 0
    return within_budget(h[ly.EXTRA], h[ly.OUTSTANDING], h[ly.BUDGET_PERCENT])


@helper
def wait(g, h, pool, q, slot):
    """The next attempt is under way: it is sent after a while."""
    at, retries = row_of(slot), retries_of(pool, slot)
    wait_ns = backoff_ns(g[ly.BACKOFF_NS], g[ly.BACKOFF_MOST_NS], retries, pool[at + ly.ROUTE] & DRAW_MASK)
    h[ly.EXTRA] += 1
    number(pool, slot)
    pool[at + ly.STORY] = (pool[at + ly.STORY] & ~3) + CAUSE_ROUTER_RETRY + (1 << ly.RETRIES_AT)
    pool[at + ly.SENT_TO] = NOBODY
    heap_push(g, q, ly.RETRIES, g[ly.NOW_NS] + wait_ns, pool[at + ly.ID], 2 * slot)


@inlined
def number(pool, slot):
    """What is in a slot is now the next attempt at its request."""
    at = row_of(slot)
    pool[at + ly.ID] = ((pool[at + ly.ID] >> ATTEMPT_BITS) << ATTEMPT_BITS) + pool[at + ly.MADE]
    pool[at + ly.MADE] += 1


@helper
def retry(g, rows, pool, q, t, x, known, recent):
    """The next retry's wait is over; if its client gave up meanwhile, its place is free. Or a hedge is due."""
    top = g[heap_field(ly.RETRIES, ly.HEAP_BASE)]
    id_, slot, is_hedge = q[top + 1], q[top + 2] >> 1, q[top + 2] & 1
    heap_pop(g, q, ly.RETRIES)
    if is_hedge != 0:
        if is_due(pool, id_, slot):
            hedge(g, rows, pool, q, known, slot)
        return
    if pool[row_of(slot) + ly.SETTLED] != 0:
        free_slot(g, q, slot)
        return
    draw_again(g, pool, q, slot, slot)
    send_in_turn(g, rows, pool, q, t, x, known, recent, slot)


@inlined
def draw_again(g, pool, q, slot, new):
    """The attempt after one, in `new`, has draws of its own, and its whole timeout before it."""
    at = row_of(new)
    pool[at + ly.ROUTE] = another_draw(pool[at + ly.ROUTE])
    pool[at + ly.DEADLINE_NS] = pool[at + ly.TIMEOUT_NS]
    first, following = g[ly.AT_DRAWS] + slot * g[ly.DRAWS], g[ly.AT_DRAWS] + new * g[ly.DRAWS]
    for d in range(g[ly.DRAWS]):
        q[following + d] = another_draw(q[first + d])


# -- clients that give up, or ask again ----------------------------------------------------------------


@helper
def give_up(g, rows, pool, q, t, x, known, recent, asks):
    """A client's patience ends before its answer has come; the nodes of its attempts learn of it by themselves
    (rule 7)."""
    slot = top_slot(g, q, ly.GIVE_UPS)
    heap_pop(g, q, ly.GIVE_UPS)
    h = rows[group_at(g, rows, pool, slot)]
    ended = abandon(g, h, pool, known, slot)
    if tries_of(pool, slot) < asks[pool[row_of(slot) + ly.CLASS], ly.A_TRIES]:
        begin(g, rows, pool, q, t, x, known, recent, asks, ask_again(g, pool, q, slot))
    else:
        settle_request(g, pool, q, t, x, slot, OUTCOME_CANCELLED, REASON_CLIENT)
    if ended != 0:
        free_slot(g, q, slot)
    if h[ly.CREDIT] != 0:
        empty_buffer(g, h, rows, pool, q, t, x, known, recent)


@inlined
def abandon(g, h, pool, known, slot):
    """Nobody waits any more for what is under way of a request; whether its first attempt had ended."""
    at = row_of(slot)
    beside = pool[at + ly.HEDGE]
    if beside != ly.NOWHERE:
        pool[row_of(beside) + ly.SETTLED] = 1
        forget(h, pool, known, beside)
    if pool[at + ly.PLACE] == ly.IN_BUFFER:
        leave_buffer(g, h, pool, slot)
        end_extra(h, pool, slot)
    elif pool[at + ly.SENT_TO] != NOBODY:
        forget(h, pool, known, slot)
    elif beside == ly.NOWHERE:
        end_extra(h, pool, slot)
    else:
        return 1
    return 0


@inlined
def tries_of(pool, slot):
    """How often a request's client has asked before."""
    return (pool[row_of(slot) + ly.STORY] >> ly.TRIES_AT) & ((1 << ATTEMPT_BITS) - 1)


@helper
def ask_again(g, pool, q, slot):
    """Slot of the client's next try, now; of the one before nobody wants to hear any more."""
    new = take_slot(g, q)
    at, old = row_of(new), row_of(slot)
    for column in range(1 << ly.POOL_SHIFT):
        pool[at + column] = pool[old + column]
    pool[old + ly.SETTLED], pool[at + ly.HEDGE] = 1, ly.NOWHERE
    number(pool, new)
    group = pool[old + ly.STORY] >> ly.GROUP_AT
    pool[at + ly.STORY] = CAUSE_CLIENT_RETRY + ((tries_of(pool, slot) + 1) << ly.TRIES_AT) + (group << ly.GROUP_AT)
    pool[at + ly.CANCEL_NS] = g[ly.NOW_NS] + pool[at + ly.PATIENCE_NS]
    draw_again(g, pool, q, slot, new)
    return new


@inlined
def waits(pool, id_, slot):
    """Whether the client of this request still waits for its answer."""
    return pool[row_of(slot) + ly.ID] >> ATTEMPT_BITS == id_ and pool[row_of(slot) + ly.SETTLED] == 0


@helper
def give_up_due_ns(g, pool, q):
    """Earliest instant at which a client that waits gives up."""
    base = g[heap_field(ly.GIVE_UPS, ly.HEAP_BASE)]
    while g[heap_field(ly.GIVE_UPS, ly.HEAP_SIZE)] > 0 and not waits(pool, q[base + 1], q[base + 2]):
        heap_pop(g, q, ly.GIVE_UPS)
    return heap_top_ns(g, q, ly.GIVE_UPS)


@helper
def give_up_push(g, pool, q, slot):
    """A client's patience is noted; entries of those that were answered are forgotten now and then."""
    if g[heap_field(ly.GIVE_UPS, ly.HEAP_SIZE)] > 2 * (g[ly.POOL_SIZE] - g[ly.FREE]) + 64:
        give_ups_compact(g, pool, q)
    at = row_of(slot)
    heap_push(g, q, ly.GIVE_UPS, pool[at + ly.CANCEL_NS], pool[at + ly.ID] >> ATTEMPT_BITS, slot)


@helper
def give_ups_compact(g, pool, q):
    """Forget clients that wait no longer, so that the heap stays bounded."""
    base, kept = g[heap_field(ly.GIVE_UPS, ly.HEAP_BASE)], 0
    for i in range(g[heap_field(ly.GIVE_UPS, ly.HEAP_SIZE)]):
        entry = base + ly.HEAP_ENTRY * i
        if waits(pool, q[entry + 1], q[entry + 2]):
            heap_move(q, base, i, kept)
            kept += 1
    g[heap_field(ly.GIVE_UPS, ly.HEAP_SIZE)] = kept
    heapify(q, base, kept)
