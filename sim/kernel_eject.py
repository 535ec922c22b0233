"""The kernel's ejection of nodes that fail again and again (rule 17)."""

from serve.policy import retries
from serve.policy.codes import NEVER_NS
from sim import layout as ly
from sim.compiled import helper, inlined

judged = inlined(retries.judged)
ejections_max = inlined(retries.ejections_max)
ejected_ns = inlined(retries.ejected_ns)


@helper
def find_candidates(g, known):
    """Candidates are the nodes in rotation that are not ejected, or all of them; until the next one returns."""
    g[ly.CANDIDATES], g[ly.CHANGE_NS] = 0, NEVER_NS
    for i in range(g[ly.ROTATION]):
        node = known[ly.K_ROTATION, i]
        if known[ly.K_UNTIL_NS, node] > g[ly.NOW_NS]:
            g[ly.CHANGE_NS] = min(g[ly.CHANGE_NS], known[ly.K_UNTIL_NS, node])
        else:
            known[ly.K_NODES, g[ly.CANDIDATES]] = node
            g[ly.CANDIDATES] += 1
    if g[ly.CANDIDATES] == 0:
        for i in range(g[ly.ROTATION]):
            known[ly.K_NODES, i] = known[ly.K_ROTATION, i]
        g[ly.CANDIDATES] = g[ly.ROTATION]


@helper
def judge(g, known, node, outcome):
    """A node's answer to an attempt that was still waited for, now."""
    verdict = judged(outcome)
    if verdict == 0 or known[ly.K_UNTIL_NS, node] > g[ly.NOW_NS]:
        return
    known[ly.K_FAILURES, node] = known[ly.K_FAILURES, node] + 1 if verdict > 0 else 0
    if known[ly.K_FAILURES, node] < g[ly.EJECT_FAILURES]:
        return
    known[ly.K_FAILURES, node] = 0
    out = 0
    for i in range(g[ly.ROTATION]):
        if known[ly.K_UNTIL_NS, known[ly.K_ROTATION, i]] > g[ly.NOW_NS]:
            out += 1
    if out >= ejections_max(g[ly.ROTATION], g[ly.EJECT_PERCENT]):
        return
    known[ly.K_EJECTIONS, node] += 1
    known[ly.K_UNTIL_NS, node] = g[ly.NOW_NS] + ejected_ns(g[ly.EJECT_BASE_NS], known[ly.K_EJECTIONS, node])
    g[ly.CHANGE_NS] = g[ly.NOW_NS]
