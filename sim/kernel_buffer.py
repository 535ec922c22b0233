"""The kernel's buffer (rule 16): what waits at the router while there is no node, by (priority, arrival)."""

from serve.policy.codes import NEVER_NS
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_queue import ring_at, row_of


@inlined
def pass_buffered(g):
    """Time has passed since the last change of what is buffered."""
    g[ly.BUFFERED_AREA_NS] += g[ly.BUFFERED] * (g[ly.NOW_NS] - g[ly.BUFFERED_NS])
    g[ly.BUFFERED_NS] = g[ly.NOW_NS]


@helper
def buffer_push(g, pool, q, slot):
    """An attempt waits for a node; 0 if there is no room for its rows."""
    at = row_of(slot)
    if g[ly.BUFFERED_ROWS] + pool[at + ly.ROWS] > g[ly.BUFFER_MAX]:
        return 0
    pass_buffered(g)
    if g[ly.BUFFERED] == 0:
        g[ly.WOKEN_ID] = pool[at + ly.ID]
    level = pool[at + ly.PRIORITY]
    block = ly.LEVEL + ly.LEVEL_WIDTH * level
    q[ring_at(g, level, g[block + ly.LEVEL_TAIL])] = slot
    g[block + ly.LEVEL_TAIL] += 1
    pool[at + ly.PLACE], pool[at + ly.SENT_TO] = ly.IN_BUFFER, ly.NOWHERE
    pool[at + ly.ARRIVAL_NS] = g[ly.NOW_NS]
    count(g, pool, slot, 1)
    return 1


@inlined
def count(g, pool, slot, sign):
    """Count an attempt into the buffer, or out of it."""
    g[ly.BUFFERED] += sign
    g[ly.BUFFERED_ROWS] += sign * pool[row_of(slot) + ly.ROWS]


@helper
def leave_buffer(g, pool, slot):
    """An attempt waits no longer for a node, because its client gave up; its place in the ring is found empty."""
    pass_buffered(g)
    count(g, pool, slot, -1)


@helper
def buffer_pop(g, pool, q):
    """The next attempt that waits for a node, or has given up; NOWHERE if none does. Its timeout has run meanwhile."""
    for level in range(g[ly.LEVELS]):
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        if g[block + ly.LEVEL_HEAD] < g[block + ly.LEVEL_TAIL]:
            slot = q[ring_at(g, level, g[block + ly.LEVEL_HEAD])]
            g[block + ly.LEVEL_HEAD] += 1
            at = row_of(slot)
            if pool[at + ly.SETTLED] == 0:
                leave_buffer(g, pool, slot)
                pool[at + ly.PLACE] = ly.WITH_ROUTER
                if pool[at + ly.DEADLINE_NS] < NEVER_NS:
                    waited_ns = g[ly.NOW_NS] - pool[at + ly.ARRIVAL_NS]
                    pool[at + ly.DEADLINE_NS] = max(0, pool[at + ly.DEADLINE_NS] - waited_ns)
            return slot
    return ly.NOWHERE
