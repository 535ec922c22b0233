"""The kernel's waiting room: rings by priority, heaps of timers, in the arrays of `sim.layout`.

Each helper does what `serve.scheduler` does with deques and heapq; the twin tests hold them to it.
"""

from serve.policy.codes import NEVER_NS, POLICY_WORKERS
from sim.compiled import helper, inlined
from sim.layout import (
    ARRIVALS,
    AT_FREE,
    AT_RING,
    BATCHING_STATE,
    BUFFER_BASE,
    BUFFER_ENTRY,
    BUFFER_SIZE,
    BUSY_AREA_NS,
    CANCEL_NS,
    CANCELS,
    DEADLINE_NS,
    DEADLINES,
    ENQUEUE_NS,
    FREE,
    GATHERER_AT,
    HEAP_BASE,
    HEAP_ENTRY,
    HEAP_SIZE,
    HEAP_WIDTH,
    HEAPED,
    HEAPS,
    ID,
    INDEX_MASK,
    LEVEL,
    LEVEL_HEAD,
    LEVEL_ROWS,
    LEVEL_TAIL,
    LEVEL_WIDTH,
    LEVELS,
    LINE_BASE,
    LINE_END,
    METERED_NS,
    NOW_NS,
    NOWHERE,
    NUMBER,
    NUMBERS,
    OLDEST,
    ONGOING,
    ONGOING_AREA_NS,
    ONGOING_ROWS,
    POLICY,
    POOL_SHIFT,
    POSITION,
    PRIORITY,
    R_GATHERED,
    REPLICA,
    REPLICAS,
    RING_MASK,
    RING_SHIFT,
    ROWS,
    ROWS_IN,
    RUNNING,
    TIMER_DUE_NS,
    UNKNOWN,
    UNSORTED,
    WAITING,
    WAITING_AREA_NS,
    WAITING_ROWS,
)


@inlined
def row_of(slot):
    """Index in the pool of a slot's first column."""
    return (slot & INDEX_MASK) << POOL_SHIFT


# -- heaps of (instant, request id, slot), the smallest on top ---------------------------------------


@inlined
def heap_field(heap, field):
    """Index in a row of a heap's base, size, ..."""
    return HEAPS + HEAP_WIDTH * heap + field


@inlined
def top_slot(s, q, heap):
    """Slot of a heap's top entry."""
    return q[s[heap_field(heap, HEAP_BASE)] + 2]


@helper
def heap_push(s, q, heap, at_ns, id_, slot):
    """Add an entry; what validates it later is the heap's user's own affair."""
    base, hole = s[heap_field(heap, HEAP_BASE)], s[heap_field(heap, HEAP_SIZE)]
    s[heap_field(heap, HEAP_SIZE)] = hole + 1
    sift_up(q, base, hole, at_ns, id_, slot)


@inlined
def is_before(q, base, index, at_ns, id_):
    """Whether a heap's entry is not after (instant, id)."""
    entry = base + HEAP_ENTRY * index
    return 1 if q[entry] < at_ns or (q[entry] == at_ns and q[entry + 1] <= id_) else 0


@inlined
def sift_up(q, base, hole, at_ns, id_, slot):
    """Put an entry at `hole` or as far above as the heap's order asks."""
    while hole > 0:
        above = (hole - 1) >> 1
        if is_before(q, base, above, at_ns, id_) != 0:
            break
        heap_move(q, base, above, hole)
        hole = above
    heap_write(q, base, hole, at_ns, id_, slot)


@helper
def heap_pop(s, q, heap):
    """Remove the top entry."""
    base, size = s[heap_field(heap, HEAP_BASE)], s[heap_field(heap, HEAP_SIZE)] - 1
    s[heap_field(heap, HEAP_SIZE)] = size
    last = base + HEAP_ENTRY * size
    sift_down(q, base, size, 0, q[last], q[last + 1], q[last + 2])


# -- lines: heaps whose entries come almost in order ---------------------------------------------------------


LINE_WALK = 64
"""So many entries may a new one pass until its line becomes a heap that is not sorted."""


@helper
def line_push(s, q, heap, at_ns, id_, slot):
    """Add an entry, as a rule the last one: while a heap is sorted, its top goes without anything being moved."""
    base, size = s[heap_field(heap, HEAP_BASE)], s[heap_field(heap, HEAP_SIZE)]
    if base + HEAP_ENTRY * (size + 1) > s[heap_field(heap, LINE_END)]:
        base = line_rewind(s, q, heap)
    s[heap_field(heap, HEAP_SIZE)] = size + 1
    hole = size
    if s[heap_field(heap, UNSORTED)] == 0:
        while hole > 0 and is_before(q, base, hole - 1, at_ns, id_) == 0:
            if size - hole == LINE_WALK:
                s[heap_field(heap, UNSORTED)] = 1
                break
            heap_move(q, base, hole - 1, hole)
            hole -= 1
    if s[heap_field(heap, UNSORTED)] == 0:
        heap_write(q, base, hole, at_ns, id_, slot)
    else:
        sift_up(q, base, hole, at_ns, id_, slot)


@helper
def line_rewind(s, q, heap):
    """A line has come to the end of its region: it begins again at the start, which is returned."""
    base, first = s[heap_field(heap, HEAP_BASE)], s[heap_field(heap, LINE_BASE)]
    for i in range(HEAP_ENTRY * s[heap_field(heap, HEAP_SIZE)]):
        q[first + i] = q[base + i]
    s[heap_field(heap, HEAP_BASE)] = first
    return first


@helper
def line_pop(s, q, heap):
    """Remove the top entry."""
    if s[heap_field(heap, UNSORTED)] != 0:
        heap_pop(s, q, heap)
    else:
        s[heap_field(heap, HEAP_BASE)] += HEAP_ENTRY
        s[heap_field(heap, HEAP_SIZE)] -= 1
    if s[heap_field(heap, HEAP_SIZE)] == 0:
        s[heap_field(heap, HEAP_BASE)], s[heap_field(heap, UNSORTED)] = s[heap_field(heap, LINE_BASE)], 0


@helper
def sift_down(q, base, size, hole, at_ns, id_, slot):
    """Put an entry at `hole` or as far below as the heap's order asks."""
    while True:
        below = 2 * hole + 1
        if below >= size:
            break
        a, b = base + HEAP_ENTRY * below, base + HEAP_ENTRY * (below + 1)
        if below + 1 < size and (q[b] < q[a] or (q[b] == q[a] and q[b + 1] < q[a + 1])):
            below, a = below + 1, b
        if at_ns < q[a] or (at_ns == q[a] and id_ <= q[a + 1]):
            break
        heap_move(q, base, below, hole)
        hole = below
    if hole < size:
        heap_write(q, base, hole, at_ns, id_, slot)


@helper
def heapify(q, base, size):
    """Entries in any order become a heap."""
    for i in range((size >> 1) - 1, -1, -1):
        entry = base + HEAP_ENTRY * i
        sift_down(q, base, size, i, q[entry], q[entry + 1], q[entry + 2])


@inlined
def heap_move(q, base, source, target):
    """Copy one entry over another."""
    a, b = base + HEAP_ENTRY * source, base + HEAP_ENTRY * target
    q[b], q[b + 1], q[b + 2] = q[a], q[a + 1], q[a + 2]


@inlined
def heap_write(q, base, index, at_ns, id_, slot):
    """Write one entry."""
    entry = base + HEAP_ENTRY * index
    q[entry], q[entry + 1], q[entry + 2] = at_ns, id_, slot


@inlined
def heap_top_ns(s, q, heap):
    """Instant of the top entry, NEVER_NS of an empty heap."""
    if s[heap_field(heap, HEAP_SIZE)] == 0:
        return NEVER_NS
    return q[s[heap_field(heap, HEAP_BASE)]]


# -- timers of waiting requests: sorted late, deleted lazily ------------------------------------------------


@inlined
def timer_due_ns(s, pool, q, heap, before_ns):
    """Earliest instant among the timers of waiting requests, exact if it is below `before_ns`."""
    due_ns = s[heap_field(heap, TIMER_DUE_NS)]
    if due_ns < before_ns:
        return timer_resolve(s, pool, q, heap)
    return due_ns


@inlined
def timer_push(s, pool, q, heap, slot):
    """Set a waiting request's timer, unless it is still set from before a put-back."""
    at, block = row_of(slot), HEAPS + HEAP_WIDTH * heap
    s[block + TIMER_DUE_NS] = min(s[block + TIMER_DUE_NS], pool[at + DEADLINE_NS + heap])
    if pool[at + HEAPED] & (1 << heap) != 0:
        return
    pool[at + HEAPED] |= 1 << heap
    size = s[block + BUFFER_SIZE]
    entry = s[block + BUFFER_BASE] + BUFFER_ENTRY * size
    q[entry], q[entry + 1] = pool[at + ID], slot
    s[block + BUFFER_SIZE] = size + 1
    if size >= 2 * s[WAITING] + 64:
        buffer_compact(s, pool, q, heap)


@inlined
def timer_alive(pool, heap, id_, slot):
    """Whether a timer's request still waits; a timer that is not is about to be forgotten."""
    at = row_of(slot)
    if pool[at + ID] != id_:
        return False
    if pool[at + POSITION] == NOWHERE:
        pool[at + HEAPED] &= ~(1 << heap)
        return False
    return True


@helper
def buffer_compact(s, pool, q, heap):
    """Forget the buffered timers of requests that no longer wait."""
    block = heap_field(heap, 0)
    base, kept = s[block + BUFFER_BASE], 0
    for i in range(s[block + BUFFER_SIZE]):
        entry, target = base + BUFFER_ENTRY * i, base + BUFFER_ENTRY * kept
        if timer_alive(pool, heap, q[entry], q[entry + 1]):
            q[target], q[target + 1] = q[entry], q[entry + 1]
            kept += 1
    s[block + BUFFER_SIZE] = kept


@helper
def timer_resolve(s, pool, q, heap):
    """Sort the buffered timers into the heap; the earliest instant of all that are alive."""
    block = heap_field(heap, 0)
    if s[block + HEAP_SIZE] > 2 * s[WAITING] + 64:
        heap_compact(s, pool, q, heap)
    for i in range(s[block + BUFFER_SIZE]):
        entry = s[block + BUFFER_BASE] + BUFFER_ENTRY * i
        id_, slot = q[entry], q[entry + 1]
        if timer_alive(pool, heap, id_, slot):
            heap_push(s, q, heap, pool[row_of(slot) + DEADLINE_NS + heap], id_, slot)
    s[block + BUFFER_SIZE] = 0
    base = s[block + HEAP_BASE]
    while s[block + HEAP_SIZE] > 0 and not timer_alive(pool, heap, q[base + 1], q[base + 2]):
        heap_pop(s, q, heap)
    s[block + TIMER_DUE_NS] = heap_top_ns(s, q, heap)
    return s[block + TIMER_DUE_NS]


@helper
def heap_compact(s, pool, q, heap):
    """Forget the sorted timers of requests that no longer wait, so that the heap stays bounded."""
    block = heap_field(heap, 0)
    base, kept = s[block + HEAP_BASE], 0
    for i in range(s[block + HEAP_SIZE]):
        entry = base + HEAP_ENTRY * i
        if timer_alive(pool, heap, q[entry + 1], q[entry + 2]):
            heap_move(q, base, i, kept)
            kept += 1
    s[block + HEAP_SIZE] = kept
    heapify(q, base, kept)


# -- rings: those waiting at each priority, by enqueue number --------------------------------------------


@inlined
def ring_at(s, level, position):
    """Index in q of a position of a level's ring."""
    return (s[AT_RING] + (level << s[RING_SHIFT]) + (position & s[RING_MASK])) & INDEX_MASK


@inlined
def enqueue(s, pool, q, slot):
    """A newcomer waits, last of its level, under the next enqueue number; its timers are set."""
    at = row_of(slot)
    pool[at + NUMBER] = s[NUMBERS]
    s[NUMBERS] += 1
    pool[at + ENQUEUE_NS] = s[NOW_NS]
    level = pool[at + PRIORITY]
    block = LEVEL + LEVEL_WIDTH * level
    if s[block + LEVEL_TAIL] - s[block + LEVEL_HEAD] > s[RING_MASK]:
        ring_compact(s, pool, q, level)
    tail = s[block + LEVEL_TAIL]
    q[ring_at(s, level, tail)] = slot
    s[block + LEVEL_TAIL] = tail + 1
    pool[at + POSITION] = tail
    s[ARRIVALS] += 1
    s[ROWS_IN] += pool[at + ROWS]
    s[ONGOING] += 1
    s[ONGOING_ROWS] += pool[at + ROWS]
    count_in(s, pool, slot)
    if s[OLDEST] == NOWHERE:
        s[OLDEST] = slot
    if pool[at + DEADLINE_NS] != NEVER_NS:
        pool[at + DEADLINE_NS] += s[NOW_NS]
        timer_push(s, pool, q, DEADLINES, slot)
    if pool[at + CANCEL_NS] < NEVER_NS:
        timer_push(s, pool, q, CANCELS, slot)


@inlined
def count_in(s, pool, slot):
    """Count a request among those that wait."""
    at = row_of(slot)
    s[WAITING] += 1
    s[WAITING_ROWS] += pool[at + ROWS]
    s[LEVEL + LEVEL_WIDTH * pool[at + PRIORITY] + LEVEL_ROWS] += pool[at + ROWS]


@inlined
def count_out(s, pool, slot):
    """Count a request out; who is the oldest may change."""
    at = row_of(slot)
    pool[at + POSITION] = NOWHERE
    s[WAITING] -= 1
    s[WAITING_ROWS] -= pool[at + ROWS]
    s[LEVEL + LEVEL_WIDTH * pool[at + PRIORITY] + LEVEL_ROWS] -= pool[at + ROWS]
    if s[OLDEST] == slot:
        s[OLDEST] = UNKNOWN if s[WAITING] > 0 else NOWHERE


@inlined
def meter(s):
    """Time has passed since the last event of this node: before anything changes, its integrals grow (rule 13)."""
    span_ns = s[NOW_NS] - s[METERED_NS]
    s[METERED_NS] = s[NOW_NS]
    s[BUSY_AREA_NS] += s[RUNNING] * span_ns
    s[ONGOING_AREA_NS] += s[ONGOING] * span_ns
    s[WAITING_AREA_NS] += s[WAITING] * span_ns


@inlined
def end_ongoing(s, requests, rows):
    """Requests that the scheduler is done with: their batch is finished, or they were dropped."""
    s[ONGOING] -= requests
    s[ONGOING_ROWS] -= rows


@helper
def leave_queue(s, pool, q, slot):
    """A waiting request is dropped."""
    unhook(s, pool, q, slot)
    end_ongoing(s, 1, pool[row_of(slot) + ROWS])


@inlined
def unhook(s, pool, q, slot):
    """Take a request out of the middle of its ring: a hole stays, but never at the head or the tail."""
    level, position = pool[row_of(slot) + PRIORITY], pool[row_of(slot) + POSITION]
    block = LEVEL + LEVEL_WIDTH * level
    q[ring_at(s, level, position)] = NOWHERE
    if position == s[block + LEVEL_HEAD]:
        skip_holes(s, q, level)
    while s[block + LEVEL_TAIL] > s[block + LEVEL_HEAD] and q[ring_at(s, level, s[block + LEVEL_TAIL] - 1)] == NOWHERE:
        s[block + LEVEL_TAIL] -= 1
    count_out(s, pool, slot)
    if s[WAITING] == 0:
        s[BATCHING_STATE] = NEVER_NS
    if s[POLICY] >= POLICY_WORKERS:
        let_go(s, pool, slot)


@inlined
def let_go(s, pool, slot):
    """Who has pulled a request has it no longer."""
    at, replica = row_of(slot), gatherer(pool, slot)
    if replica != NOWHERE:
        s[(REPLICA + R_GATHERED * s[REPLICAS] + replica) & INDEX_MASK] -= pool[at + ROWS]
        pool[at + HEAPED] &= (1 << GATHERER_AT) - 1


@inlined
def gatherer(pool, slot):
    """Who has pulled a waiting request, NOWHERE if nobody."""
    return (pool[row_of(slot) + HEAPED] >> GATHERER_AT) - 1


@helper
def let_all_go(s, pool, q, replica):
    """A replica is gone, or going: what it has pulled is anybody's again."""
    for position in range(s[LEVEL + LEVEL_HEAD], s[LEVEL + LEVEL_TAIL]):
        slot = q[ring_at(s, 0, position)]
        if slot != NOWHERE and gatherer(pool, slot) == replica:
            let_go(s, pool, slot)


@inlined
def skip_holes(s, q, level):
    """Move a level's head to the first request that still waits."""
    block = LEVEL + LEVEL_WIDTH * level
    head, tail = s[block + LEVEL_HEAD], s[block + LEVEL_TAIL]
    while head < tail and q[ring_at(s, level, head)] == NOWHERE:
        head += 1
    s[block + LEVEL_HEAD] = head


@helper
def ring_compact(s, pool, q, level):
    """Close the holes of a level's ring; the pool's bound on those present leaves half of it free."""
    block = LEVEL + LEVEL_WIDTH * level
    end = s[block + LEVEL_HEAD]
    for position in range(s[block + LEVEL_HEAD], s[block + LEVEL_TAIL]):
        slot = q[ring_at(s, level, position)]
        if slot != NOWHERE:
            q[ring_at(s, level, end)] = slot
            pool[row_of(slot) + POSITION] = end
            end += 1
    s[block + LEVEL_TAIL] = end


@helper
def put_back(s, pool, q, slot):
    """A request waits again under its old number: before all younger ones of its level (rule 8)."""
    at = row_of(slot)
    level, number = pool[at + PRIORITY], pool[at + NUMBER]
    block = LEVEL + LEVEL_WIDTH * level
    if s[block + LEVEL_TAIL] - s[block + LEVEL_HEAD] > s[RING_MASK]:
        ring_compact(s, pool, q, level)
    place = s[block + LEVEL_HEAD] - 1
    s[block + LEVEL_HEAD] = place
    while place + 1 < s[block + LEVEL_TAIL]:
        other = q[ring_at(s, level, place + 1)]
        if other != NOWHERE and pool[row_of(other) + NUMBER] > number:
            break
        q[ring_at(s, level, place)] = other
        if other != NOWHERE:
            pool[row_of(other) + POSITION] = place
        place += 1
    q[ring_at(s, level, place)] = slot
    pool[at + POSITION] = place
    count_in(s, pool, slot)
    s[OLDEST] = UNKNOWN
    if pool[at + DEADLINE_NS] < NEVER_NS:
        timer_push(s, pool, q, DEADLINES, slot)
    if pool[at + CANCEL_NS] < NEVER_NS:
        timer_push(s, pool, q, CANCELS, slot)


@inlined
def oldest(s, pool, q):
    """Slot of the waiting request with the lowest enqueue number at any priority; something must wait."""
    if s[OLDEST] < 0:
        find_oldest(s, pool, q)
    return s[OLDEST]


@helper
def find_oldest(s, pool, q):
    """Look among the heads of all levels."""
    best, best_number = NOWHERE, NEVER_NS
    for level in range(s[LEVELS]):
        block = LEVEL + LEVEL_WIDTH * level
        if s[block + LEVEL_HEAD] < s[block + LEVEL_TAIL]:
            slot = q[ring_at(s, level, s[block + LEVEL_HEAD])]
            if pool[row_of(slot) + NUMBER] < best_number:
                best, best_number = slot, pool[row_of(slot) + NUMBER]
    s[OLDEST] = best


@inlined
def take_slot(s, q):
    """A free slot of the pool; there must be one."""
    free = s[FREE] - 1
    s[FREE] = free
    return q[(s[AT_FREE] + free) & INDEX_MASK]


@inlined
def free_slot(s, q, slot):
    """Give a slot back."""
    free = s[FREE]
    q[(s[AT_FREE] + free) & INDEX_MASK] = slot
    s[FREE] = free + 1
