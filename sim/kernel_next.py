"""The kernel's next event: that of one node, and the earliest of many nodes', held in a tournament."""

from serve.policy.codes import (
    EVENT_CANCEL,
    EVENT_DEADLINE,
    EVENT_ENDED,
    EVENT_FRONT,
    EVENT_WINDOW,
    NEVER_NS,
)
from serve.policy.front import FRONT_TIMER_LATE_NS
from sim import layout as ly
from sim.compiled import inlined
from sim.kernel_queue import oldest, row_of, timer_due_ns


@inlined
def node_event(s, pool, q):
    """(instant, class) of a node's own next event."""
    at_ns, event = s[ly.NEXT_END_NS], EVENT_ENDED
    if s[ly.FRONT_END_NS] < at_ns:
        at_ns, event = s[ly.FRONT_END_NS], EVENT_FRONT
    return timer_event(s, pool, q, at_ns, event)


@inlined
def timer_event(s, pool, q, at_ns, event):
    """The earlier of an event, of a class below theirs, and the node's timers."""
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
    """When the timer of a window fires, the oldest waiting request's or another engine's; once at each such instant."""
    if s[ly.WAITING] == 0 or s[ly.WINDOW_NS] == 0:
        return NEVER_NS
    if s[ly.WINDOW_NS] > 0:
        due_ns = pool[row_of(oldest(s, pool, q)) + ly.ENQUEUE_NS] + s[ly.WINDOW_NS]
    else:
        due_ns = s[ly.WAKE_NS]
    due_ns += s[ly.FRONT + FRONT_TIMER_LATE_NS]
    if due_ns < s[ly.NOW_NS] or due_ns == s[ly.WINDOW_FIRED_NS]:
        return NEVER_NS
    return due_ns


# -- many nodes: the winner of each pair, up to the root ----------------------------------------------------

EVENT_BITS = 4
"""A key is an instant and a class: events are compared by one number."""
HORIZON_NS = 2**58
"""Nine years: what is later never happens."""


@inlined
def root_node(order, leaves):
    """The node that is due first, the lowest of those that tie."""
    return order[2 * leaves + 1]


@inlined
def root_event(order):
    """(instant, class) of the event that is due first among all nodes'."""
    at_ns = order[1] >> EVENT_BITS
    if at_ns == HORIZON_NS:
        at_ns = NEVER_NS
    return at_ns, order[1] & ((1 << EVENT_BITS) - 1)


@inlined
def refresh(order, leaves, node, at_ns, event):
    """A node's next event has changed: it plays its matches again, as far up as that changes who wins."""
    key, i = (min(at_ns, HORIZON_NS) << EVENT_BITS) | event, leaves + node
    order[i] = key
    while i > 1:
        other = i ^ 1
        if order[other] < key or (order[other] == key and other < i):
            key, node = order[other], order[2 * leaves + other]
        i >>= 1
        if order[i] == key and order[2 * leaves + i] == node:
            break
        order[i], order[2 * leaves + i] = key, node
