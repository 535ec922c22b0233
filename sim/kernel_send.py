"""The kernel's router sends (rule 17): the choice of a node, and what is known of attempts on their way.

`g` is the router's own row, `h` that of a request's group, `known` what it knows of nodes (K_*).
"""

from serve.policy import routing
from serve.policy.codes import CAUSE_HEDGE, CAUSE_ROUTER_RETRY, NEVER_NS
from serve.policy.routing import ROUTE_LEAST_OUTSTANDING, ROUTE_LEAST_WORK, ROUTE_P2C, ROUTE_SHORTEST_QUEUE
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_eject import find_candidates
from sim.kernel_leave import report_of
from sim.kernel_queue import line_push, row_of

choose = inlined(routing.choose)


@inlined
def group_at(g, rows, pool, slot):
    """Which of the rows is that of the group that a request was given to."""
    return len(rows) - g[ly.GROUPS] + (pool[row_of(slot) + ly.STORY] >> ly.GROUP_AT)


@inlined
def candidates(g, h, known):
    """How many nodes may be sent to now."""
    if h[ly.CHANGE_NS] <= g[ly.NOW_NS]:
        find_candidates(g, h, known)
    return h[ly.CANDIDATES]


@inlined
def pick(g, h, rows, known, bits):
    """The node of an attempt that is sent now; NOBODY if there is no candidate."""
    if h[ly.TRUE_STATE] != 0:
        look(h, rows, known)
    count = candidates(g, h, known)
    nodes = known[ly.K_NODES, h[ly.FIRST_NODE] :]
    node = choose(h[ly.ROUTING], nodes, count, known[ly.K_SCORE], h[ly.TURN], bits, bits)
    h[ly.TURN] += 1
    return node


@helper
def pick_besides(g, h, rows, known, bits, besides):
    """The same among the other nodes: that one leaves the candidates meanwhile."""
    at = h[ly.FIRST_NODE]
    end = at + candidates(g, h, known)
    while at < end and known[ly.K_NODES, at] != besides:
        at += 1
    if at == end:
        return pick(g, h, rows, known, bits)
    for i in range(at, end - 1):
        known[ly.K_NODES, i] = known[ly.K_NODES, i + 1]
    h[ly.CANDIDATES] -= 1
    change_ns, h[ly.CHANGE_NS] = h[ly.CHANGE_NS], NEVER_NS
    node = pick(g, h, rows, known, bits)
    h[ly.CHANGE_NS] = change_ns
    for i in range(end - 1, at, -1):
        known[ly.K_NODES, i] = known[ly.K_NODES, i - 1]
    known[ly.K_NODES, at] = besides
    h[ly.CANDIDATES] += 1
    return node


@inlined
def carry(g, h, pool, q, known, slot, node):
    """An attempt is on its way to its node."""
    at = row_of(slot)
    pool[at + ly.SENT_TO] = node
    h[ly.OUTSTANDING] += 1
    if h[ly.CREDIT] != 0:
        known[ly.K_ROWS, node] += pool[at + ly.ROWS]
    if counts_outstanding(h) != 0:
        known[ly.K_SCORE, node] += 1
    line_push(g, q, ly.DELIVERIES, g[ly.NOW_NS] + g[ly.NETWORK_NS], pool[at + ly.ID], slot)


@inlined
def forget(h, pool, known, slot):
    """An attempt is outstanding no longer."""
    h[ly.OUTSTANDING] -= 1
    end_extra(h, pool, slot)
    if h[ly.CREDIT] != 0:
        known[ly.K_ROWS, pool[row_of(slot) + ly.SENT_TO]] -= pool[row_of(slot) + ly.ROWS]
    if counts_outstanding(h) != 0:
        known[ly.K_SCORE, pool[row_of(slot) + ly.SENT_TO]] -= 1


@inlined
def end_extra(h, pool, slot):
    """An attempt has come to its end, or will not be made."""
    if is_extra(pool, slot):
        h[ly.EXTRA] -= 1


@inlined
def is_extra(pool, slot):
    """Whether the router made the attempt beyond what its client asked for."""
    cause = pool[row_of(slot) + ly.STORY] & 3
    return cause in (CAUSE_ROUTER_RETRY, CAUSE_HEDGE)


@inlined
def counts_outstanding(h):
    """Whether the scores are what was sent and not answered."""
    return 1 if h[ly.ROUTING] in (ROUTE_LEAST_OUTSTANDING, ROUTE_P2C) else 0


@inlined
def is_told(h):
    """Whether the scores are what nodes tell."""
    return 1 if h[ly.ROUTING] in (ROUTE_SHORTEST_QUEUE, ROUTE_LEAST_WORK) else 0


@helper
def look(h, rows, known):
    """The scores are what nodes would tell now."""
    if is_told(h) != 0:
        for node in range(h[ly.FIRST_NODE], h[ly.FIRST_NODE] + h[ly.NODE_COUNT]):
            known[ly.K_SCORE, node] = report_of(rows[node])
