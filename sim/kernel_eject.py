"""The kernel's ejection of nodes that fail again and again (rule 17)."""

from serve.policy import retries
from serve.policy.codes import NEVER_NS
from sim import layout as ly
from sim.compiled import helper, inlined

judged = inlined(retries.judged)
ejections_max = inlined(retries.ejections_max)
ejected_ns = inlined(retries.ejected_ns)


@helper
def find_candidates(g, h, known):
    """Candidates are the nodes in rotation that are not ejected, or all of them; until the next one returns."""
    h[ly.CANDIDATES], h[ly.CHANGE_NS], first = 0, NEVER_NS, h[ly.FIRST_NODE]
    for i in range(h[ly.ROTATION]):
        node = known[ly.K_ROTATION, first + i]
        if known[ly.K_UNTIL_NS, node] > g[ly.NOW_NS]:
            h[ly.CHANGE_NS] = min(h[ly.CHANGE_NS], known[ly.K_UNTIL_NS, node])
        else:
            known[ly.K_NODES, first + h[ly.CANDIDATES]] = node
            h[ly.CANDIDATES] += 1
    if h[ly.CANDIDATES] == 0:
        for i in range(h[ly.ROTATION]):
            known[ly.K_NODES, first + i] = known[ly.K_ROTATION, first + i]
        h[ly.CANDIDATES] = h[ly.ROTATION]
    if h[ly.CREDIT] != 0:
        leave_out_full(h, known)


@inlined
def leave_out_full(h, known):
    """Candidates have credit left, which may be others the next time."""
    first, count = h[ly.FIRST_NODE], 0
    for i in range(h[ly.CANDIDATES]):
        node = known[ly.K_NODES, first + i]
        if known[ly.K_ROWS, node] < h[ly.CREDIT]:
            known[ly.K_NODES, first + count] = node
            count += 1
    h[ly.CANDIDATES], h[ly.CHANGE_NS] = count, 0


@helper
def judge(g, h, known, node, outcome):
    """A node's answer to an attempt that was still waited for, now."""
    verdict = judged(outcome)
    if verdict == 0 or known[ly.K_UNTIL_NS, node] > g[ly.NOW_NS]:
        return
    known[ly.K_FAILURES, node] = known[ly.K_FAILURES, node] + 1 if verdict > 0 else 0
    if known[ly.K_FAILURES, node] < h[ly.EJECT_FAILURES]:
        return
    known[ly.K_FAILURES, node] = 0
    out = 0
    for i in range(h[ly.ROTATION]):
        if known[ly.K_UNTIL_NS, known[ly.K_ROTATION, h[ly.FIRST_NODE] + i]] > g[ly.NOW_NS]:
            out += 1
    if out >= ejections_max(h[ly.ROTATION], h[ly.EJECT_PERCENT]):
        return
    known[ly.K_EJECTIONS, node] += 1
    known[ly.K_UNTIL_NS, node] = g[ly.NOW_NS] + ejected_ns(h[ly.EJECT_BASE_NS], known[ly.K_EJECTIONS, node])
    h[ly.CHANGE_NS] = g[ly.NOW_NS]
