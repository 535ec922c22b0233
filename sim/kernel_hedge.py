"""The kernel's hedges (rule 17): a second attempt beside one that takes long, and what becomes of the slower one."""

from serve.policy import recent as recent_leaf
from serve.policy import retries, routing
from serve.policy.codes import ATTEMPT_BITS, CAUSE_HEDGE, NEVER_NS
from serve.policy.routing import NOBODY
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_next import node_event, refresh
from sim.kernel_queue import free_slot, heap_field, heap_move, heap_push, heapify, row_of, take_slot, timer_push
from sim.kernel_send import carry, forget, group_at, is_extra, pick_besides

note = inlined(recent_leaf.note)
percentile_ns = inlined(recent_leaf.percentile_ns)
hedge_ns = inlined(retries.hedge_ns)
hedge_draw = inlined(retries.hedge_draw)
within_budget = inlined(retries.within_budget)
another_draw = inlined(routing.another_draw)

PERCENT = 95


@helper
def plan_hedge(g, h, pool, q, recent, slot):
    """What its client asked for, no retry, is hedged if it is not heard of in time."""
    if is_extra(pool, slot):
        return
    after_ns = hedge_ns(g[ly.HEDGE_AFTER_NS], percentile_ns(recent[h[ly.GROUP]], g[ly.HEDGE_ANSWERS], PERCENT))
    if after_ns < NEVER_NS:
        if g[heap_field(ly.RETRIES, ly.HEAP_SIZE)] > 2 * (g[ly.POOL_SIZE] - g[ly.FREE]) + 64:
            retries_compact(g, pool, q)
        heap_push(g, q, ly.RETRIES, g[ly.NOW_NS] + after_ns, pool[row_of(slot) + ly.ID], 2 * slot + 1)


@inlined
def is_due(pool, id_, slot):
    """Whether an attempt that was to be hedged is still under way; a request that was settled needs none."""
    return pool[row_of(slot) + ly.ID] == id_ and pool[row_of(slot) + ly.SETTLED] == 0


@helper
def retries_compact(g, pool, q):
    """Forget hedges of attempts that were heard of, so that the heap stays bounded."""
    base, kept = g[heap_field(ly.RETRIES, ly.HEAP_BASE)], 0
    for i in range(g[heap_field(ly.RETRIES, ly.HEAP_SIZE)]):
        entry = base + ly.HEAP_ENTRY * i
        if q[entry + 2] & 1 == 0 or is_due(pool, q[entry + 1], q[entry + 2] >> 1):
            heap_move(q, base, i, kept)
            kept += 1
    g[heap_field(ly.RETRIES, ly.HEAP_SIZE)] = kept
    heapify(q, base, kept)


@helper
def hedge(g, rows, pool, q, known, slot):
    """A second attempt is sent to another node, within the retries' budget."""
    at, h = row_of(slot), rows[group_at(g, rows, pool, slot)]
    if within_budget(h[ly.EXTRA], h[ly.OUTSTANDING], h[ly.BUDGET_PERCENT]) == 0:
        return
    bits = another_draw(hedge_draw(pool[at + ly.ROUTE]))
    node = pick_besides(g, h, rows, known, bits, pool[at + ly.SENT_TO])
    if node == NOBODY:
        return
    new = take_slot(g, q)
    beside = row_of(new)
    for column in range(1 << ly.POOL_SHIFT):
        pool[beside + column] = pool[at + column]
    pool[at + ly.HEDGE], pool[beside + ly.HEDGE] = new, slot
    pool[beside + ly.ID] = ((pool[at + ly.ID] >> ATTEMPT_BITS) << ATTEMPT_BITS) + pool[at + ly.MADE]
    pool[at + ly.MADE] += 1
    pool[beside + ly.STORY] = (pool[at + ly.STORY] & ~3) + CAUSE_HEDGE
    pool[beside + ly.PLACE], pool[beside + ly.ROUTE] = ly.WITH_ROUTER, bits
    pool[beside + ly.DEADLINE_NS] = pool[at + ly.TIMEOUT_NS]
    first, following = g[ly.AT_DRAWS] + slot * g[ly.DRAWS], g[ly.AT_DRAWS] + new * g[ly.DRAWS]
    for d in range(g[ly.DRAWS]):
        q[following + d] = another_draw(hedge_draw(q[first + d]))
    h[ly.EXTRA] += 1
    carry(g, h, pool, q, known, new, node)


@helper
def leave_pair(g, pool, q, slot):
    """An attempt ended without an ok answer: the slot from which its request goes on, NOWHERE if the other one beside
    it may still be answered."""
    at = row_of(slot)
    other = pool[at + ly.HEDGE]
    if other == ly.NOWHERE:
        return slot
    if pool[at + ly.STORY] & 3 != CAUSE_HEDGE:
        pool[at + ly.SENT_TO] = NOBODY  # its place is kept: the client's patience is noted by it
        return ly.NOWHERE
    if pool[row_of(other) + ly.SENT_TO] == NOBODY:
        return other
    pool[row_of(other) + ly.HEDGE] = ly.NOWHERE
    free_slot(g, q, slot)
    return ly.NOWHERE


@helper
def part(g, rows, pool, q, order, known, slot):
    """A request is settled: nobody waits for the attempt beside the one that settled it."""
    other = pool[row_of(slot) + ly.HEDGE]
    if other == ly.NOWHERE:
        return
    pool[row_of(other) + ly.SETTLED] = 1
    if pool[row_of(other) + ly.SENT_TO] == NOBODY:
        free_slot(g, q, other)
    else:
        forget(rows[group_at(g, rows, pool, other)], pool, known, other)
        withdraw(g, rows, pool, q, order, other)


@inlined
def withdraw(g, rows, pool, q, order, slot):
    """The node of an attempt learns, when the network has carried it, that nobody waits for it, unless it is cut off.
    An answer of a batch whose finish has begun is decided already."""
    at, due_ns = row_of(slot), g[ly.NOW_NS] + g[ly.NETWORK_NS]
    if pool[at + ly.CANCEL_NS] <= due_ns or rows[pool[at + ly.SENT_TO], ly.CUT] != 0:
        return
    pool[at + ly.CANCEL_NS] = due_ns
    pool[at + ly.HEAPED] &= ~(1 << ly.CANCELS)  # what is noted of it is of a later instant
    if pool[at + ly.PLACE] == ly.AT_NODE and pool[at + ly.POSITION] != ly.NOWHERE:
        node = pool[at + ly.SENT_TO]
        s = rows[node]
        timer_push(s, pool, q, ly.CANCELS, slot)
        node_ns, event = node_event(s, pool, q)
        refresh(order, g[ly.LEAVES], node, node_ns, event)
