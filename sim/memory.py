"""The kernel's memory: the arrays of `sim.layout`, laid out for an estate, and how they grow.

Every node has regions of its own in `q`, which are moved to the end, twice as large, when more requests are present
there than they hold; the pool of requests is shared. What a move leaves behind is never more than what is in use.
"""

from __future__ import annotations

import numpy as np

from serve.policy.codes import NEVER_NS, POLICY_FOREBAY
from sim import layout as ly
from sim.plane import Closed, Estate, Ints, Node


class Memory:
    """The arrays `rows`, `pool` and `q` of an estate at rest at instant 0, all its replicas down.

    `plane` is the row of what is shared: the router's, which is that of the last group as well, or the only node's.
    """

    def __init__(self, estate: Estate, closed: Closed | None, room: int) -> None:
        nodes = estate.nodes
        self.levels = nodes[0].scheduler.priority_levels
        self.routed = estate.router is not None
        self.clients = 0 if closed is None else len(closed.class_)
        self.nodes = range(len(nodes))
        width = ly.REPLICA + (ly.R_WIDTH + ly.REPLICA_STATE) * max(node.replicas for node in nodes)
        self.rows = np.zeros((len(nodes) + (estate.group_count if self.routed else 0), width), np.int64)
        for number, node in enumerate(nodes):
            _write_node(self.rows[number], number, node)
        self.plane, self.groups = self.rows[-1], self.rows[len(nodes) :]
        for number, row in enumerate(self.groups):
            _write_common(row)
            members = estate.nodes_of(number)
            row[[ly.GROUP, ly.FIRST_NODE, ly.NODE_COUNT]] = number, members.start, len(members)
        self.machine_of = np.array(estate.machines or self.nodes, np.int64)
        self.machines = int(self.machine_of.max()) + 1
        self.rows[: len(nodes), ly.SHARED] = np.bincount(self.machine_of)[self.machine_of] > 1
        self.rows[:, ly.ROUTED] = self.routed
        self.pool, self.q, self._end = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
        for number in self.nodes:
            self._place_node(number, room)
        self._place_plane(room if not self.routed else room * len(nodes), 1)
        if closed is not None:
            self.plane[ly.CLOSED_FIRST_ID], self.plane[ly.CLIENT_COUNT] = closed.first_id, self.clients
            self.part(self.plane, ly.AT_THINK, self.clients)[:] = closed.think_ns

    @property
    def capacity(self) -> int:
        """Requests present at once that there is room for."""
        return int(self.plane[ly.POOL_SIZE])

    @property
    def draws(self) -> int:
        """Draws kept of each request."""
        return int(self.plane[ly.DRAWS])

    def part(self, row: Ints, field: int, size: int) -> Ints:
        """The part of q whose offset is kept in `field` of a row."""
        at = int(row[field])
        part: Ints = self.q[at : at + size]
        return part

    def heap(self, row: Ints, heap: int) -> Ints:
        """The entries of a heap, one a line."""
        field = ly.HEAPS + ly.HEAP_WIDTH * heap
        size = int(row[field + ly.HEAP_SIZE])
        return self.part(row, field + ly.HEAP_BASE, ly.HEAP_ENTRY * size).reshape(size, ly.HEAP_ENTRY)

    def buffer(self, row: Ints, heap: int) -> Ints:
        """The timers that are not yet sorted into a heap."""
        field = ly.HEAPS + ly.HEAP_WIDTH * heap
        return self.part(row, field + ly.BUFFER_BASE, ly.BUFFER_ENTRY * int(row[field + ly.BUFFER_SIZE]))

    # -- growth ------------------------------------------------------------------------------------

    def grow(self, node: int) -> None:
        """Twice the room of whatever was full: a node, or, NOWHERE, the pool."""
        if node != ly.NOWHERE:
            self._place_node(node, 2 * int(self.rows[node, ly.ROOM]))
        elif self.routed:
            self._place_plane(2 * self.capacity, self.draws)
        else:
            self._place_node(0, 2 * self.capacity)
            self._place_plane(2 * self.capacity, self.draws)

    def fit_draws(self, draws: int) -> None:
        """Keep so many draws of each request, the last of the old ones repeated."""
        self._place_plane(self.capacity, draws)

    def _claim(self, row: Ints, sizes: dict[int, int]) -> None:
        """Give the regions named by fields of a row new places at the end of q."""
        needed = self._end + sum(sizes.values())
        if needed > len(self.q):
            q = np.zeros(max(needed, 2 * self._end), np.int64)
            q[: self._end] = self.q[: self._end]
            self.q = q
        for field, size in sizes.items():
            row[field] = self._end
            self.q[self._end : self._end + size] = 0
            self._end += size

    def _place_node(self, number: int, room: int) -> None:
        """Room for so many requests at a node, keeping what is there."""
        row = self.rows[number]
        held = _HeldNode(self, row)
        ring = 1 << max(2 * room - 1, 1).bit_length()
        timers, buffer = ly.HEAP_ENTRY * (3 * room + 66), ly.BUFFER_ENTRY * (2 * room + 66)
        deadlines, cancels = (ly.HEAPS + ly.HEAP_WIDTH * heap for heap in (ly.DEADLINES, ly.CANCELS))
        self._claim(
            row,
            {
                ly.AT_BATCHES_FREE: room,
                ly.AT_BATCHES: room << ly.BATCH_SHIFT,
                ly.AT_JOBS: ring,
                ly.AT_RING: self.levels * ring,
                deadlines + ly.HEAP_BASE: timers,
                deadlines + ly.BUFFER_BASE: buffer,
                cancels + ly.HEAP_BASE: timers,
                cancels + ly.BUFFER_BASE: buffer,
                ly.AT_OUTBOX: 2 * room if self.routed else 0,
            },
        )
        row[ly.RING_MASK] = row[ly.JOBS_MASK] = ring - 1
        row[ly.RING_SHIFT] = ring.bit_length() - 1
        row[ly.ROOM] = room
        held.restore(self, row)

    def _place_plane(self, capacity: int, draws: int) -> None:
        """Room for so many requests with so many draws each, keeping what is there."""
        row = self.plane
        held = _HeldPlane(self, row)
        bases = {heap: ly.HEAPS + ly.HEAP_WIDTH * heap + ly.HEAP_BASE for heap in range(ly.CLIENTS, ly.HEAP_COUNT)}
        attempts = capacity if self.routed else 0
        ring = 1 << max(2 * capacity - 1, 1).bit_length()
        self._claim(
            row,
            {
                ly.AT_FREE: capacity,
                ly.AT_DRAWS: capacity * draws,
                ly.AT_THINK: self.clients,
                ly.AT_TURNS: self.clients,
                bases[ly.CLIENTS]: ly.HEAP_ENTRY * (self.clients + 1),
                bases[ly.ANSWERS]: ly.HEAP_ENTRY * 2 * (2 * attempts + 1),
                bases[ly.DELIVERIES]: ly.HEAP_ENTRY * 2 * (attempts + 1),
                ly.AT_MACHINES: self.machines,
                bases[ly.RETRIES]: ly.HEAP_ENTRY * (4 * attempts + 66),
                bases[ly.GIVE_UPS]: ly.HEAP_ENTRY * (3 * attempts + 66),
            },
        )
        for heap, entries in ((ly.ANSWERS, 2 * attempts + 1), (ly.DELIVERIES, attempts + 1)):
            block = ly.HEAPS + ly.HEAP_WIDTH * heap
            row[block + ly.LINE_BASE] = row[block + ly.HEAP_BASE]
            row[block + ly.LINE_END] = row[block + ly.HEAP_BASE] + 2 * ly.HEAP_ENTRY * entries
        for group in self.groups:
            self._claim(group, {ly.AT_RING: self.levels * ring})
            group[[ly.RING_MASK, ly.RING_SHIFT]] = ring - 1, ring.bit_length() - 1
        self.rows[: len(self.nodes), ly.MACHINE_AT] = row[ly.AT_MACHINES] + self.machine_of
        pool = np.zeros(capacity << ly.POOL_SHIFT, np.int64)
        pool[: len(self.pool)] = self.pool
        self.pool, row[ly.POOL_SIZE] = pool, capacity
        self.rows[:, ly.AT_DRAWS], self.rows[:, ly.DRAWS] = row[ly.AT_DRAWS], draws
        held.restore(self, row)


class _HeldNode:
    """What the regions of a node hold, while they are placed anew."""

    def __init__(self, memory: Memory, row: Ints) -> None:
        q = memory.q
        self.room = int(row[ly.ROOM])
        self.batches_free = memory.part(row, ly.AT_BATCHES_FREE, int(row[ly.BATCHES_FREE])).copy()
        self.batches = memory.part(row, ly.AT_BATCHES, self.room << ly.BATCH_SHIFT).copy()
        self.jobs = q[_jobs(row)] if self.room else q[:0]
        self.rings = [q[_ring(row, level)] for level in range(memory.levels)] if self.room else []
        self.heaps = {heap: memory.heap(row, heap).copy() for heap in (ly.DEADLINES, ly.CANCELS)}
        self.buffers = {heap: memory.buffer(row, heap).copy() for heap in (ly.DEADLINES, ly.CANCELS)}

    def restore(self, memory: Memory, row: Ints) -> None:
        """Write it back; the batches that are new are free."""
        fresh = np.arange(int(row[ly.ROOM]) - 1, self.room - 1, -1)
        free = np.concatenate([fresh, self.batches_free])
        row[ly.BATCHES_FREE] = len(free)
        memory.part(row, ly.AT_BATCHES_FREE, len(free))[:] = free
        memory.part(row, ly.AT_BATCHES, len(self.batches))[:] = self.batches
        if self.room == 0:
            return
        memory.q[_jobs(row)] = self.jobs
        for level, ring in enumerate(self.rings):
            memory.q[_ring(row, level)] = ring
        for heap, entries in self.heaps.items():
            memory.heap(row, heap)[:] = entries
            memory.buffer(row, heap)[:] = self.buffers[heap]


class _HeldPlane:
    """What the regions of the plane hold, while they are placed anew."""

    def __init__(self, memory: Memory, row: Ints) -> None:
        self.capacity, self.draws_kept = int(row[ly.POOL_SIZE]), int(row[ly.DRAWS])
        self.free = memory.part(row, ly.AT_FREE, int(row[ly.FREE])).copy()
        draws = memory.part(row, ly.AT_DRAWS, self.capacity * self.draws_kept).copy()
        self.draws = draws.reshape(self.capacity, self.draws_kept)
        clients = memory.clients if self.capacity else 0
        self.think = memory.part(row, ly.AT_THINK, clients).copy()
        self.turns = memory.part(row, ly.AT_TURNS, clients).copy()
        self.heaps = {heap: memory.heap(row, heap).copy() for heap in range(ly.CLIENTS, ly.HEAP_COUNT)}
        self.running = memory.part(row, ly.AT_MACHINES, memory.machines if self.capacity else 0).copy()
        buffers = memory.groups if self.capacity else ()
        self.rings = [[memory.q[_ring(group, level)] for level in range(memory.levels)] for group in buffers]

    def restore(self, memory: Memory, row: Ints) -> None:
        """Write it back; the slots that are new are free."""
        fresh = np.arange(memory.capacity - 1, self.capacity - 1, -1)
        free = np.concatenate([fresh, self.free])
        row[ly.FREE] = len(free)
        memory.part(row, ly.AT_FREE, len(free))[:] = free
        memory.part(row, ly.AT_THINK, len(self.think))[:] = self.think
        memory.part(row, ly.AT_TURNS, len(self.turns))[:] = self.turns
        for heap, entries in self.heaps.items():
            memory.heap(row, heap)[:] = entries
        memory.part(row, ly.AT_MACHINES, len(self.running))[:] = self.running
        for group, rings in zip(memory.groups, self.rings, strict=False):
            for level, ring in enumerate(rings):
                memory.q[_ring(group, level)] = ring
        if self.capacity:
            draws = memory.part(row, ly.AT_DRAWS, memory.capacity * memory.draws).reshape(memory.capacity, -1)
            draws[: self.capacity] = padded(self.draws.T, memory.draws).T


def _jobs(row: Ints) -> Ints:
    """Where in q the front's jobs lie, in their order."""
    at: Ints = row[ly.AT_JOBS] + (np.arange(row[ly.JOBS_HEAD], row[ly.JOBS_TAIL]) & row[ly.JOBS_MASK])
    return at


def _ring(row: Ints, level: int) -> Ints:
    """Where in q those waiting at a level lie, in their order."""
    block = ly.LEVEL + ly.LEVEL_WIDTH * level
    span = np.arange(row[block + ly.LEVEL_HEAD], row[block + ly.LEVEL_TAIL])
    at: Ints = row[ly.AT_RING] + (level << row[ly.RING_SHIFT]) + (span & row[ly.RING_MASK])
    return at


def padded(draw: Ints, rows: int) -> Ints:
    """`draw` (deaths + 1, n) with its last row repeated up to `rows` rows."""
    if len(draw) == rows:
        return np.ascontiguousarray(draw, np.int64)
    return np.concatenate([draw, *[draw[-1:]] * (rows - len(draw))]).astype(np.int64)


def _write_common(row: Ints) -> None:
    """What a row of any kind holds at rest."""
    row[[ly.NEXT_END_NS, ly.FRONT_END_NS]] = NEVER_NS
    row[[ly.OLDEST, ly.NEWCOMER]] = ly.NOWHERE
    row[[ly.WINDOW_FIRED_NS, ly.OPEN_FIRST_ID, ly.FAILED_ID, ly.HOMELESS_ID, ly.WOKEN_ID]] = -1
    blocks = row[ly.LEVEL : ly.REPLICA].reshape(-1, ly.LEVEL_WIDTH)
    blocks[:, [ly.LEVEL_HEAD, ly.LEVEL_TAIL]] = ly.POSITION_ZERO
    row[ly.HEAPS + ly.TIMER_DUE_NS : ly.HEAPS + ly.HEAP_WIDTH * ly.HEAP_COUNT : ly.HEAP_WIDTH] = NEVER_NS


def _write_node(row: Ints, number: int, node: Node) -> None:
    """A node's limits, costs and replicas."""
    spec, service = node.scheduler, node.service
    if spec.priority_levels > ly.LEVELS_MAX:
        raise ValueError(f"priority_levels must be at most {ly.LEVELS_MAX}, got {spec.priority_levels}")
    _write_common(row)
    for field, value in {
        ly.NODE: number,
        ly.REPLICAS: node.replicas,
        ly.SLOTS: spec.slots,
        ly.LEVELS: spec.priority_levels,
        ly.MAX_BATCH: spec.max_batch,
        ly.WINDOW_NS: spec.window_ns if spec.policy == POLICY_FOREBAY else ly.WAKES,
        ly.MAX_QUEUE: spec.max_queue,
        ly.MAX_DEATHS: spec.max_deaths,
        ly.RETRY_AFTER_NS: node.retry_after_ns,
        ly.ROW_NS: node.row_ns,
        ly.BATCH_DEADLINE_NS: node.batch_deadline_ns,
        ly.TABLE_BITS: service.bits,
        ly.TABLE_ROWS_MAX: service.rows_max,
        ly.PRESSURE_MAX: service.pressure_max,
        ly.LEVEL_BIN_NS: service.level_bin_ns,
        ly.LEVEL_COUNT: len(service.levels),
        ly.HANDOVER_NS: service.handover_ns,
        ly.POLICY: spec.policy,
        ly.WAKE_NS: NEVER_NS,
        ly.BATCHING_STATE: NEVER_NS,
    }.items():
        row[field] = value
    row[ly.BATCHING : ly.BATCHING + len(spec.params)] = spec.params
    row[ly.FRONT : ly.FRONT + len(node.front)] = node.front
    row[ly.COLD : ly.COLD + len(service.cold_ns)] = service.cold_ns
    replicas = row[ly.REPLICA : ly.REPLICA + ly.R_WIDTH * node.replicas].reshape(ly.R_WIDTH, node.replicas)
    replicas[[ly.R_RUNNING, ly.R_SECOND]] = ly.NOWHERE
    replicas[ly.R_END_NS] = NEVER_NS
