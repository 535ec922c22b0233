"""The kernel's failures that leave a node standing (rule 14): it is slow, a replica hangs, the network to it is cut."""

from serve.policy.codes import NEVER_NS, OUTCOME_LOST, REASON_PARTITION
from serve.policy.service import PER_MILLE
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_batch import batch_of, end_batch, find_next_end, kill, replica_at
from sim.kernel_leave import ride
from sim.kernel_queue import line_pop, line_push, row_of, top_slot

# -- slow nodes, replicas that hang ----------------------------------------------------------------------


@helper
def slow(s, per_mille):
    """Batches that start from now on take so many thousandths of their time."""
    s[ly.FAULTS] -= 1 if s[ly.SLOW_PER_MILLE] != 0 else 0
    s[ly.SLOW_PER_MILLE] = per_mille if per_mille != PER_MILLE else 0
    s[ly.FAULTS] += 1 if s[ly.SLOW_PER_MILLE] != 0 else 0


@helper
def hang(s, q, replica):
    """The batch that runs on a replica that is up, else the next to start there, never ends."""
    if s[replica_at(s, ly.R_UP, replica)] == 0 or s[replica_at(s, ly.R_HANGS, replica)] & ly.HANGS != 0:
        return
    s[replica_at(s, ly.R_HANGS, replica)] |= ly.HANGS
    s[ly.FAULTS] += 1
    running = s[replica_at(s, ly.R_RUNNING, replica)]
    if running != ly.NOWHERE:
        killed_ns = q[batch_of(s, running) + ly.B_START_NS] + s[ly.BATCH_DEADLINE_NS]
        s[replica_at(s, ly.R_END_NS, replica)] = max(s[ly.NOW_NS], min(killed_ns, NEVER_NS))
        find_next_end(s)


@inlined
def end_or_die(s, pool, q, t, x, out, table, levels):
    """The batch that ends first has ended; or its replica hangs, and is killed."""
    replica = s[ly.NEXT_END_REPLICA]
    if s[replica_at(s, ly.R_HANGS, replica)] & ly.HANGS == 0:
        end_batch(s, pool, q, t, x, table, levels)
        return
    kill(s, pool, q, t, x, out, replica)
    s[replica_at(s, ly.R_HANGS, replica)] |= ly.DIED
    s[ly.DIED_COUNT] += 1


@helper
def tell_died(s):
    """The lowest replica that died of hanging of which control was not told."""
    replica = 0
    while s[replica_at(s, ly.R_HANGS, replica)] & ly.DIED == 0:
        replica += 1
    s[replica_at(s, ly.R_HANGS, replica)] &= ~ly.DIED
    s[ly.DIED_COUNT] -= 1
    s[ly.WHICH] = replica
    return ly.STOP_DIED


@helper
def heal_node(s):
    """A new node is not slow, and none of its replicas hangs."""
    s[ly.FAULTS], s[ly.SLOW_PER_MILLE], s[ly.DIED_COUNT] = 0, 0, 0
    for replica in range(s[ly.REPLICAS]):
        s[replica_at(s, ly.R_HANGS, replica)] = 0


# -- a cut network ---------------------------------------------------------------------------------------


@helper
def never_arrive(g, pool, q):
    """The next attempt to reach a node is dropped on its way there."""
    slot = top_slot(g, q, ly.DELIVERIES)
    line_pop(g, q, ly.DELIVERIES)
    at, now_ns = row_of(slot), g[ly.NOW_NS]
    pool[at + ly.ARRIVAL_NS], pool[at + ly.LEFT_NS], pool[at + ly.ENQUEUE_NS] = now_ns, now_ns, -1
    pool[at + ly.DEATHS] = 0
    ride(pool, q, slot, ly.NOWHERE)
    drop(g, pool, q, slot, now_ns - g[ly.NETWORK_NS])


@inlined
def drop(g, pool, q, slot, sent_ns):
    """An attempt, or its answer, does not arrive: the router gives it up when nothing has come back for so long."""
    at = row_of(slot)
    pool[at + ly.PLACE], pool[at + ly.LEFT_BY] = ly.DROPPED, OUTCOME_LOST * 16 + REASON_PARTITION
    heard_ns = max(g[ly.NOW_NS], min(sent_ns + g[ly.ANSWER_TIMEOUT_NS], NEVER_NS))
    pool[at + ly.HEARD_NS] = heard_ns
    line_push(g, q, ly.ANSWERS, heard_ns, pool[at + ly.ID], slot)
