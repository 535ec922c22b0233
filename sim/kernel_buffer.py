"""The kernel's buffer (rule 16): what waits at the router while there is no node, by (priority, arrival).

`g` is the router's own row, `h` that of the group whose buffer it is.
"""

from serve.policy.codes import NEVER_NS
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_queue import ring_at, row_of


@inlined
def pass_buffered(g, h):
    """Time has passed since the last change of what is buffered."""
    h[ly.BUFFERED_AREA_NS] += h[ly.BUFFERED] * (g[ly.NOW_NS] - h[ly.BUFFERED_NS])
    h[ly.BUFFERED_NS] = g[ly.NOW_NS]


@helper
def buffer_push(g, h, pool, q, slot):
    """An attempt waits for a node; 0 if there is no room for its rows."""
    at = row_of(slot)
    if h[ly.BUFFERED_ROWS] + pool[at + ly.ROWS] > h[ly.BUFFER_MAX]:
        return 0
    pass_buffered(g, h)
    if h[ly.BUFFERED] == 0 and h[ly.ROTATION] == 0:
        g[ly.WOKEN_ID], g[ly.WOKEN_GROUP] = pool[at + ly.ID], h[ly.GROUP]
    level = pool[at + ly.PRIORITY]
    block = ly.LEVEL + ly.LEVEL_WIDTH * level
    q[ring_at(h, level, h[block + ly.LEVEL_TAIL])] = slot
    h[block + ly.LEVEL_TAIL] += 1
    pool[at + ly.PLACE], pool[at + ly.SENT_TO] = ly.IN_BUFFER, ly.NOWHERE
    pool[at + ly.ARRIVAL_NS] = g[ly.NOW_NS]
    count(h, pool, slot, 1)
    return 1


@inlined
def count(h, pool, slot, sign):
    """Count an attempt into the buffer, or out of it."""
    h[ly.BUFFERED] += sign
    h[ly.BUFFERED_ROWS] += sign * pool[row_of(slot) + ly.ROWS]


@helper
def leave_buffer(g, h, pool, slot):
    """An attempt waits no longer for a node, because its client gave up; its place in the ring is found empty."""
    pass_buffered(g, h)
    count(h, pool, slot, -1)


@helper
def buffer_pop(g, h, pool, q):
    """The next attempt that waits for a node, or has given up; NOWHERE if none does. Its timeout has run meanwhile."""
    for level in range(h[ly.LEVELS]):
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        if h[block + ly.LEVEL_HEAD] < h[block + ly.LEVEL_TAIL]:
            slot = q[ring_at(h, level, h[block + ly.LEVEL_HEAD])]
            h[block + ly.LEVEL_HEAD] += 1
            at = row_of(slot)
            if pool[at + ly.SETTLED] == 0:
                leave_buffer(g, h, pool, slot)
                pool[at + ly.PLACE] = ly.WITH_ROUTER
                if pool[at + ly.DEADLINE_NS] < NEVER_NS:
                    waited_ns = g[ly.NOW_NS] - pool[at + ly.ARRIVAL_NS]
                    pool[at + ly.DEADLINE_NS] = max(0, pool[at + ly.DEADLINE_NS] - waited_ns)
            return slot
    return ly.NOWHERE
