"""The kernel's other batching policies (`serve.policy.engines`), driven as by the scheduler and `serve.gathering`."""

from serve.policy.codes import (
    BATCHING_FIRST,
    BATCHING_FREE,
    EVENT_ARRIVAL,
    EVENT_WINDOW,
    NEVER_NS,
    OUTCOME_FULL,
    POLICY_FOREBAY,
    POLICY_TF_SERVING,
    POLICY_TORCHSERVE,
    POLICY_TRITON,
    POLICY_WORKERS,
    REASON_NONE,
    REASON_QUEUE,
)
from serve.policy.engines import tf_serving, torchserve, triton, workers
from sim import layout as ly
from sim.compiled import helper, inlined
from sim.kernel_batch import batch_of, choose, dispatch, oldest_view, replica_at, send, step, take_batch
from sim.kernel_leave import refuse
from sim.kernel_queue import gatherer, leave_queue, ring_at, row_of, unhook

triton_walk = inlined(triton.walk)
triton_step = inlined(triton.step)
torchserve_step = inlined(torchserve.step)
starts_batch = inlined(tf_serving.starts_batch)
batches_overflow = inlined(tf_serving.overflows)
gathers = inlined(workers.gathers)
load = inlined(workers.load)
worker_step = inlined(workers.step)


@helper
def engine_batches(s, pool, q, t, table, levels):
    """Rule 3 under another engine's policy, repeated until nothing more may leave."""
    s[ly.WAKE_NS] = NEVER_NS
    while True:
        if s[ly.POLICY] >= POLICY_WORKERS:
            replica, reason = next_gathered(s, pool, q)
            if reason == REASON_NONE:
                break
            send_gathered(s, pool, q, t, table, levels, replica, reason)
        else:
            rows_max, reason = release(s, pool, q)
            if reason == REASON_NONE:
                break
            replica = choose(s, reason)
            if replica == ly.NOWHERE:
                break
            dispatch(s, pool, q, t, table, levels, rows_max, reason, replica)
    newcomer = s[ly.NEWCOMER]
    if s[ly.POLICY] == POLICY_TF_SERVING and newcomer != ly.NOWHERE and pool[row_of(newcomer) + ly.POSITION] >= 0:
        judge_batches(s, pool, q, newcomer)


# -- policies of a queue ---------------------------------------------------------------------------


@inlined
def release(s, pool, q):
    """The most rows that a batch leaving now may have, and why it may; when to ask again is noted."""
    params, now_ns = s[ly.BATCHING :], s[ly.NOW_NS]
    if s[ly.POLICY] == POLICY_TRITON:
        rows, reason, s[ly.WAKE_NS] = triton_step(params, s, EVENT_ARRIVAL, now_ns, walk(s, pool, q))
    elif s[ly.POLICY] == POLICY_TORCHSERVE:
        idle = 1 if choose(s, REASON_NONE) != ly.NOWHERE else 0
        view = (s[ly.WAITING_ROWS], idle, s[ly.DRAINING])
        rows, reason, s[ly.WAKE_NS] = torchserve_step(params, s[ly.BATCHING_STATE :], EVENT_ARRIVAL, now_ns, view)
    elif s[ly.WAITING] == 0:
        rows, reason, s[ly.WAKE_NS] = 0, REASON_NONE, NEVER_NS
    else:
        view = oldest_view(s, pool, q)
        rows, reason, s[ly.WAKE_NS] = step(POLICY_FOREBAY, (params[0], params[1]), 0, EVENT_ARRIVAL, now_ns, view)
    return rows, reason


@inlined
def walk(s, pool, q):
    """Triton's view of the queue."""
    params = s[ly.BATCHING :]
    pending, best, blocked, oldest_ns = 0, 0, 0, NEVER_NS
    for level in range(s[ly.LEVELS]):
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        for position in range(s[block + ly.LEVEL_HEAD], s[block + ly.LEVEL_TAIL]):
            slot = q[ring_at(s, level, position)]
            if slot == ly.NOWHERE:
                continue
            at = row_of(slot)
            pending, best, blocked = triton_walk(params, pending, best, pool[at + ly.ROWS])
            if blocked != 0:
                break
            oldest_ns = min(oldest_ns, pool[at + ly.ENQUEUE_NS])
        if blocked != 0:
            break
    return pending, best, blocked, oldest_ns, s[ly.DRAINING]


@inlined
def judge_batches(s, pool, q, newcomer):
    """TensorFlow Serving's rule 1: the newcomer is refused if it makes the queue too many batches."""
    batches, open_rows = 0, 0
    for position in range(s[ly.LEVEL + ly.LEVEL_HEAD], s[ly.LEVEL + ly.LEVEL_TAIL]):
        slot = q[ring_at(s, 0, position)]
        if slot == ly.NOWHERE:
            continue
        rows = pool[row_of(slot) + ly.ROWS]
        if starts_batch(open_rows, rows, s[ly.MAX_BATCH]) != 0:
            batches, open_rows = batches + 1, 0
        open_rows += rows
    if batches_overflow(batches, s[ly.BATCHING + tf_serving.PARAM_MAX_BATCHES]) != 0:
        leave_queue(s, pool, q, newcomer)
        refuse(s, pool, q, newcomer, OUTCOME_FULL, REASON_QUEUE)


# -- policies of workers ---------------------------------------------------------------------------


@inlined
def next_gathered(s, pool, q):
    """Replicas pull until nobody may: (replica, reason) of a batch that leaves, REASON_NONE if none does."""
    position = s[ly.LEVEL + ly.LEVEL_HEAD]
    while position < s[ly.LEVEL + ly.LEVEL_TAIL]:
        slot = q[ring_at(s, 0, position)]
        position += 1
        if slot == ly.NOWHERE or gatherer(pool, slot) != ly.NOWHERE:
            continue
        replica = puller(s)
        if replica == ly.NOWHERE:
            break
        at = replica_at(s, ly.R_GATHERED, replica)
        blocked, event = 0, EVENT_ARRIVAL
        if s[at] + pool[row_of(slot) + ly.ROWS] > s[ly.MAX_BATCH]:
            blocked = 1
        else:
            if s[at] == 0:
                event = BATCHING_FIRST
            pool[row_of(slot) + ly.HEAPED] |= (replica + 1) << ly.GATHERER_AT
            s[at] += pool[row_of(slot) + ly.ROWS]
            take_turn(s, replica)
        reason, _ = ask(s, replica, event, blocked)
        if reason != REASON_NONE:
            return replica, reason
    s[ly.WAKE_NS] = NEVER_NS
    for replica in range(s[ly.REPLICAS]):
        if s[replica_at(s, ly.R_GATHERED, replica)] > 0:
            reason, due_ns = ask(s, replica, EVENT_WINDOW, 0)
            if reason != REASON_NONE:
                return replica, reason
            s[ly.WAKE_NS] = min(s[ly.WAKE_NS], due_ns)
    return ly.NOWHERE, REASON_NONE


@helper
def ask(s, replica, event, blocked):
    """(reason, when to ask again) of what a replica gathers."""
    state = s[ly.REPLICA + s[ly.REPLICAS] * ly.R_WIDTH + 2 * replica :]
    view = (s[replica_at(s, ly.R_GATHERED, replica)], blocked, s[ly.DRAINING])
    _, reason, due_ns = worker_step(s[ly.POLICY], s[ly.BATCHING :], state, event, s[ly.NOW_NS], view)
    return reason, due_ns


@inlined
def puller(s):
    """Whose turn it is to pull, NOWHERE if nobody may."""
    best, best_load, best_turn = ly.NOWHERE, 0, 0
    for replica in range(s[ly.REPLICAS]):
        if s[replica_at(s, ly.R_UP, replica)] == 0 or s[replica_at(s, ly.R_DRAINING, replica)] != 0:
            continue
        rows = s[replica_at(s, ly.R_GATHERED, replica)] + s[replica_at(s, ly.R_HELD, replica)]
        if gathers(s[ly.POLICY], s[ly.BATCHING :], s[replica_at(s, ly.R_OCCUPIED, replica)], rows) == 0:
            continue
        weight, turn = load(s[ly.POLICY], rows), s[replica_at(s, ly.R_TURN, replica)]
        if best == ly.NOWHERE or weight < best_load or (weight == best_load and turn < best_turn):
            best, best_load, best_turn = replica, weight, turn
    return best


@inlined
def take_turn(s, replica):
    """Others pull before this replica does again."""
    s[ly.TURNS] += 1
    s[replica_at(s, ly.R_TURN, replica)] = s[ly.TURNS]


@helper
def freed(s, replica):
    """The replica is up, or a slot of it is free."""
    ask(s, replica, BATCHING_FREE, 0)
    take_turn(s, replica)


@inlined
def send_gathered(s, pool, q, t, table, levels, replica, reason):
    """What a replica gathered leaves the queue, in its order, and takes a slot."""
    b, batch = take_batch(s, q)
    rows, requests, last = 0, 0, ly.NOWHERE
    for position in range(s[ly.LEVEL + ly.LEVEL_HEAD], s[ly.LEVEL + ly.LEVEL_TAIL]):
        slot = q[ring_at(s, 0, position)]
        if slot == ly.NOWHERE or gatherer(pool, slot) != replica:
            continue
        at = row_of(slot)
        unhook(s, pool, q, slot)
        pool[at + ly.NEXT] = ly.NOWHERE
        s[ly.WAITED_NS] += s[ly.NOW_NS] - pool[at + ly.ENQUEUE_NS]
        if last == ly.NOWHERE:
            q[batch + ly.B_FIRST] = slot
        else:
            pool[row_of(last) + ly.NEXT] = slot
        rows, requests, last = rows + pool[at + ly.ROWS], requests + 1, slot
    q[batch + ly.B_ROWS] = rows
    first, last = s[replica_at(s, ly.R_SECOND, replica)], s[replica_at(s, ly.R_LAST, replica)]
    send(s, pool, q, t, table, levels, b, requests, reason, replica)
    if first != ly.NOWHERE:
        s[replica_at(s, ly.R_SECOND, replica)], q[batch_of(s, last) + ly.B_NEXT] = first, b
    q[batch + ly.B_NEXT], s[replica_at(s, ly.R_LAST, replica)] = ly.NOWHERE, b
    s[replica_at(s, ly.R_HELD, replica)] += rows
