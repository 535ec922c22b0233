"""The kernel's loss of a node (rule 14): all that it holds is lost, and it is as new."""

from serve.policy.codes import NEVER_NS, OUTCOME_LOST, REASON_NODE
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_batch import replica_at, stop_running
from sim.kernel_fault import heal_node
from sim.kernel_leave import post, ride
from sim.kernel_queue import heap_field, row_of
from sim.kernel_tally import take_back


@helper
def lose(g, s, pool, q, x):
    """The node goes, now; the router is told of each attempt as if its connection had been reset."""
    now_ns = s[ly.NOW_NS]
    if s[ly.FRONT_END_NS] != NEVER_NS:
        take_back(s, x, s[ly.X_FRONT], now_ns, s[ly.FRONT_END_NS])
    for replica in range(s[ly.REPLICAS]):
        if s[replica_at(s, ly.R_RUNNING, replica)] != ly.NOWHERE:
            stop_running(s, q, x, replica)
    for slot in range(g[ly.POOL_SIZE]):
        at = row_of(slot)
        if pool[at + ly.SENT_TO] != s[ly.NODE]:
            continue
        unsent = pool[at + ly.PLACE] == ly.LEFT and pool[at + ly.LEFT_NS] > now_ns
        if unsent:
            s[ly.PRESENT] += 1
        if unsent or pool[at + ly.PLACE] == ly.AT_NODE:
            lose_attempt(s, pool, q, slot)
    renew(s, q)


@inlined
def lose_attempt(s, pool, q, slot):
    """An attempt is lost with its node."""
    ride(pool, q, slot, ly.NOWHERE)
    post(s, pool, q, slot, 0, OUTCOME_LOST, REASON_NODE, s[ly.NOW_NS])


@helper
def renew(s, q):
    """The node's row is that of one at rest without a replica."""
    s[ly.LOST], s[ly.DRAINING] = 1, 0
    heal_node(s)
    s[ly.NEXT_END_NS], s[ly.FRONT_END_NS] = NEVER_NS, NEVER_NS
    s[ly.RUNNING], s[ly.FREE_SLOTS], s[ly.AVAILABLE] = 0, 0, 0
    s[ly.JOBS_HEAD], s[ly.JOBS_TAIL] = 0, 0
    s[ly.WAITING], s[ly.WAITING_ROWS], s[ly.ONGOING], s[ly.ONGOING_ROWS] = 0, 0, 0, 0
    for field in range(ly.BUSY_AREA_NS, ly.WAITED_NS + 1):
        s[field] = 0
    s[ly.OLDEST], s[ly.NEWCOMER], s[ly.WINDOW_FIRED_NS] = ly.NOWHERE, ly.NOWHERE, -1
    s[ly.DRAINED_COUNT], s[ly.FAILED_ID], s[ly.HOMELESS_ID] = 0, -1, -1
    s[ly.WAKE_NS], s[ly.TURNS], s[ly.BATCHING_STATE] = NEVER_NS, 0, NEVER_NS
    s[ly.BATCHES_FREE] = s[ly.ROOM]
    for b in range(s[ly.ROOM]):
        q[s[ly.AT_BATCHES_FREE] + b] = s[ly.ROOM] - 1 - b
    for heap in (ly.DEADLINES, ly.CANCELS):
        block = heap_field(heap, 0)
        s[block + ly.HEAP_SIZE], s[block + ly.BUFFER_SIZE], s[block + ly.TIMER_DUE_NS] = 0, 0, NEVER_NS
    for level in range(s[ly.LEVELS]):
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        s[block + ly.LEVEL_HEAD], s[block + ly.LEVEL_TAIL] = ly.POSITION_ZERO, ly.POSITION_ZERO
        s[block + ly.LEVEL_ROWS] = 0
    for replica in range(s[ly.REPLICAS]):
        s[replica_at(s, ly.R_UP, replica)], s[replica_at(s, ly.R_DRAINING, replica)] = 0, 0
        s[replica_at(s, ly.R_OCCUPIED, replica)], s[replica_at(s, ly.R_DRAINED, replica)] = 0, 0
        s[replica_at(s, ly.R_RUNNING, replica)], s[replica_at(s, ly.R_SECOND, replica)] = ly.NOWHERE, ly.NOWHERE
        s[replica_at(s, ly.R_END_NS, replica)] = NEVER_NS
        s[replica_at(s, ly.R_HELD, replica)], s[replica_at(s, ly.R_GATHERED, replica)] = 0, 0
        s[replica_at(s, ly.R_TURN, replica)] = 0
