"""The data plane: the fast `Plane`, which hands flat arrays to the compiled kernel and grows them.

Python allocates, feeds and reads; every decision is taken in `sim.kernel`, by the same leaves that
the live engine runs. Memory is bounded by the requests present at once, not by how many there were.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from serve.policy.codes import NEVER_NS, OUTCOME_COUNT, REASON_COUNT
from serve.records import ANSWERED_NS, REQUEST, ROW_WIDTH, Rows
from sim import layout as ly
from sim.compiled import tell_if_compiling
from sim.kernel import advance
from sim.plane import (
    Closed,
    Ints,
    Node,
    Requests,
    Stop,
    StopCode,
    check_bins,
    check_first_closed,
    check_node,
    check_open,
    check_requests,
)
from sim.tally import HISTOGRAM_BINS, SUM_COUNT, Tally, empty_tally

Keep = Literal["tally", "rows", "both"]

_NO_ROWS_LIMIT = 2**62


class DataPlane:
    """A compiled `Plane`: takes every decision as `sim.reference.Reference` does, to the nanosecond.

    Parameters
    ----------
    node, classes, closed : what is simulated (see `sim.plane`).
    keep : "tally" is flat in memory; "rows" and "both" keep a row of every request that left.
    time_bins, bin_ns, slo_ns : the tally's time bins and (classes,) latency bound of goodput.
    pool : requests present that arrays are first made for; they double when that is not enough.

    A tally counts an answer when its batch's finish job begins to write answers, which may be some
    microseconds before it has left; `rows` shows only what has left.
    """

    def __init__(
        self,
        node: Node,
        classes: int,
        closed: Closed | None = None,
        *,
        keep: Keep = "tally",
        time_bins: int = 1,
        bin_ns: int = 2**62,
        slo_ns: Ints | None = None,
        pool: int = 1024,
    ) -> None:
        check_node(node, closed)
        check_bins(time_bins, bin_ns)
        self.node, self._classes, self._closed = node, classes, closed
        self._bins = (time_bins, bin_ns)
        self._s = _scalars(node)
        self._clients = 0 if closed is None else len(closed.class_)
        self._pool, self._q = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._lay_out(max(pool, 1), 1)
        if closed is not None:
            self._s[ly.CLOSED_FIRST_ID], self._s[ly.CLIENT_COUNT] = closed.first_id, self._clients
            self._part(ly.AT_THINK, self._clients)[:] = closed.think_ns
        self._table = _contiguous(node.service.table)
        self._levels = np.ascontiguousarray(node.service.levels, np.float64)
        self._out = np.zeros(0, np.int64)
        self._s[ly.ROWS_OUT_MAX] = _NO_ROWS_LIMIT
        self._prepare_tally(keep, slo_ns)
        self._closed_rows = np.zeros((0, ly.C_WIDTH + 1), np.int64)
        none = np.zeros(0, np.int64)
        self._open: list[Ints] = [none] * 7
        self._draw = np.zeros((1, 0), np.int64)

    # -- what comes in -----------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Instant of the last stop."""
        return int(self._s[ly.NOW_NS])

    @property
    def capacity(self) -> int:
        """Requests present at once that the arrays now have room for."""
        return int(self._s[ly.POOL_SIZE])

    def feed(self, requests: Requests) -> None:
        """Hand over the next open arrivals."""
        check_requests(requests, self.node, self._classes)
        check_open(requests, self.now_ns)
        s, at = self._s, int(self._s[ly.OPEN_AT])
        if s[ly.OPEN_FIRST_ID] < 0:
            s[ly.OPEN_FIRST_ID] = requests.first_id
        draw = self._fit_draws(requests.draw)
        columns = _columns(requests)
        if at < s[ly.OPEN_COUNT]:
            self._open = [np.concatenate([old[at:], new]) for old, new in zip(self._open, columns, strict=True)]
            self._draw = np.concatenate([_padded(self._draw[:, at:], len(draw)), draw], axis=1)
        else:
            self._open, self._draw = columns, draw
        s[ly.OPEN_FIRST_ID] += at
        s[ly.OPEN_AT], s[ly.OPEN_COUNT] = 0, len(self._open[0])

    def feed_closed(self, requests: Requests) -> None:
        """Hand over the next requests of the closed-loop clients."""
        check_requests(requests, self.node, self._classes)
        if self._closed is None:
            raise ValueError("this plane was built without closed-loop clients")
        first = self._s[ly.CLOSED_FIRST_INDEX] + self._s[ly.CLOSED_COUNT] == 0
        if first:
            check_first_closed(requests, self._closed, self.now_ns)
        s, draw = self._s, self._fit_draws(requests.draw)
        held = self._closed_rows
        turns = self._part(ly.AT_TURNS, self._clients)
        spent = min(int(turns.min()) * self._clients - int(s[ly.CLOSED_FIRST_INDEX]), len(held))
        fresh = np.column_stack([*_columns(requests), *draw])
        if held.shape[1] < fresh.shape[1]:
            held = np.column_stack([held, *[held[:, -1]] * (fresh.shape[1] - held.shape[1])])
        self._closed_rows = np.concatenate([held[spent:], fresh])
        s[ly.CLOSED_FIRST_INDEX] += spent
        s[ly.CLOSED_COUNT] = len(self._closed_rows)
        if first:
            self._start_clients(requests.arrival_ns[: self._clients])

    def _start_clients(self, at_ns: Ints) -> None:
        """Every client's first request enters the heap of clients: a sorted array is a heap."""
        clients = np.arange(self._clients)
        entries = np.column_stack([at_ns, self._s[ly.CLOSED_FIRST_ID] + clients, clients])
        self._s[ly.HEAPS + ly.HEAP_WIDTH * ly.CLIENTS + ly.HEAP_SIZE] = self._clients
        self._heap(ly.CLIENTS)[:] = entries[np.lexsort((clients, at_ns))]

    def end_feed(self) -> None:
        """No more open arrivals will come."""
        self._s[ly.OPEN_ENDED] = 1

    # -- the clock and control -----------------------------------------------------------------------

    def advance(self, until_ns: int) -> Stop:
        """Handle every event before `until_ns`, and classes 0 and 1 at it; return early where control must react."""
        assert until_ns >= self.now_ns, f"{until_ns=} lies before {self.now_ns=}"
        self._s[ly.WHICH] = -1
        code = self._call(until_ns, ly.OP_NONE, 0)
        return Stop(StopCode(code), self.now_ns, int(self._s[ly.WHICH]))

    def ready(self, replica: int) -> None:
        """Control: the replica is up."""
        self._call(self.now_ns, ly.OP_READY, replica)

    def kill(self, replica: int) -> None:
        """Control: the replica dies (rule 8)."""
        self._call(self.now_ns, ly.OP_KILL, replica)

    def drain_replica(self, replica: int) -> None:
        """Control: the replica takes no more batches (rule 12)."""
        self._call(self.now_ns, ly.OP_DRAIN_REPLICA, replica)

    def drain(self) -> None:
        """Control: the node drains (rule 12)."""
        self._call(self.now_ns, ly.OP_DRAIN, 0)

    def _call(self, until_ns: int, op: int, replica: int) -> int:
        if not 0 <= replica < self.node.replicas:
            raise ValueError(f"replica must be in [0, {self.node.replicas}), got {replica}")
        tell_if_compiling()
        arrays = (self._t, self._x)
        while True:
            code = advance(
                self._s, self._pool, self._q, *arrays, self._out, self._table, self._levels,
                *self._open, self._draw, self._closed_rows, until_ns, op, replica,
            )  # fmt: skip
            if code != ly.GROW:
                return int(code)
            self._grow()

    # -- what comes out --------------------------------------------------------------------------------

    def rows(self) -> Rows:
        """The rows of all requests that left by `now_ns`, by request id."""
        if not self._s[ly.KEEP_ROWS]:
            raise ValueError("this plane keeps no rows: build it with keep='rows' or 'both'")
        rows = self._out[: int(self._s[ly.ROWS_OUT]) * ROW_WIDTH].reshape(-1, ROW_WIDTH)
        rows = rows[rows[:, ANSWERED_NS] <= self.now_ns]
        return rows[np.argsort(rows[:, REQUEST])]

    def tally(self) -> Tally:
        """Histograms and sums so far."""
        if not self._s[ly.KEEP_TALLY]:
            raise ValueError("this plane keeps no tally: build it with keep='tally' or 'both'")
        s, classes, bins = self._s, self._classes, self._bins[0]
        tally = empty_tally(classes, *self._bins, self.node.scheduler.max_batch)
        for array, at in (
            (tally.latency, 0),
            (tally.good, s[ly.T_GOOD]),
            (tally.outcomes, s[ly.T_OUTCOMES]),
            (tally.drop_reasons, s[ly.T_DROPS]),
            (tally.batch_rows, s[ly.T_BATCH_ROWS]),
            (tally.batch_reasons, s[ly.T_BATCH_REASONS]),
        ):
            array[...] = self._t[at : at + array.size].reshape(array.shape)
        tally.sums[...] = self._x[: tally.sums.size].reshape(classes, bins, SUM_COUNT)
        for spans, at in (
            (tally.busy_s, s[ly.X_BUSY]),
            (tally.front_busy_s, s[ly.X_FRONT]),
            (tally.in_system_s, s[ly.X_IN_SYSTEM]),
        ):
            spans[:] = self._x[at : at + bins]
        return tally

    # -- memory ------------------------------------------------------------------------------------------

    def _prepare_tally(self, keep: Keep, slo_ns: Ints | None) -> None:
        """Offsets and zeroes of the tally's arrays."""
        s, (bins, bin_ns) = self._s, self._bins
        s[ly.KEEP_ROWS], s[ly.KEEP_TALLY] = keep in ("rows", "both"), keep in ("tally", "both")
        s[ly.TIME_BINS], s[ly.BIN_NS] = bins, bin_ns
        cells, columns = self._classes * bins, self.node.scheduler.max_batch + 1
        at = cells * HISTOGRAM_BINS
        for field, size in (
            (ly.T_GOOD, cells),
            (ly.T_OUTCOMES, cells * OUTCOME_COUNT),
            (ly.T_DROPS, cells * REASON_COUNT),
            (ly.T_BATCH_ROWS, bins * columns),
            (ly.T_BATCH_REASONS, bins * REASON_COUNT),
            (ly.T_SLO, self._classes),
        ):
            s[field], at = at, at + size
        self._t = np.zeros(at if s[ly.KEEP_TALLY] else 0, np.int64)
        s[ly.X_BUSY : ly.X_IN_SYSTEM + 1] = cells * SUM_COUNT + bins * np.arange(3)
        self._x = np.zeros(cells * SUM_COUNT + 3 * bins)
        if s[ly.KEEP_TALLY]:
            self._t[s[ly.T_SLO] :] = NEVER_NS if slo_ns is None else slo_ns
        if s[ly.KEEP_ROWS]:
            self._grow_rows()

    def _grow(self) -> None:
        """Double whatever was full."""
        s = self._s
        if s[ly.FREE] == 0:
            self._lay_out(2 * self.capacity, int(s[ly.DRAWS]))
        if s[ly.KEEP_ROWS] and s[ly.ROWS_OUT] + self.capacity >= s[ly.ROWS_OUT_MAX]:
            self._grow_rows()

    def _grow_rows(self) -> None:
        """Room for twice the rows, and for all that are present."""
        count = 2 * max(int(self._s[ly.ROWS_OUT]), self.capacity) + 2
        out = np.full(count * ROW_WIDTH, -1, np.int64)
        out[: len(self._out)] = self._out
        self._out, self._s[ly.ROWS_OUT_MAX] = out, count

    def _fit_draws(self, draw: Ints) -> Ints:
        """`draw` with as many rows as are kept of each request; what is kept grows to the most ever given."""
        if len(draw) > self._s[ly.DRAWS]:
            self._lay_out(self.capacity, len(draw))
            self._draw = _padded(self._draw, len(draw))
            extra = len(draw) + ly.C_WIDTH - self._closed_rows.shape[1]
            last = self._closed_rows[:, -1:]
            self._closed_rows = np.concatenate([self._closed_rows, *[last] * extra], axis=1)
        return _padded(draw, int(self._s[ly.DRAWS]))

    def _part(self, field: int, size: int) -> Ints:
        """The part of q whose offset is kept in `field` of s."""
        at = int(self._s[field])
        part: Ints = self._q[at : at + size]
        return part

    def _heap(self, heap: int) -> Ints:
        """The entries of a heap, one a row."""
        field = ly.HEAPS + ly.HEAP_WIDTH * heap
        size = int(self._s[field + ly.HEAP_SIZE])
        return self._part(field + ly.HEAP_BASE, ly.HEAP_ENTRY * size).reshape(size, ly.HEAP_ENTRY)

    def _buffer(self, heap: int) -> Ints:
        """The timers that are not yet sorted into a heap."""
        field = ly.HEAPS + ly.HEAP_WIDTH * heap
        return self._part(field + ly.BUFFER_BASE, ly.BUFFER_ENTRY * int(self._s[field + ly.BUFFER_SIZE]))

    def _lay_out(self, capacity: int, draws: int) -> None:
        """Make room for `capacity` requests present with `draws` draws each, keeping what is there."""
        old = _Held(self)
        s, levels = self._s, self.node.scheduler.priority_levels
        ring = 1 << max(2 * capacity - 1, 1).bit_length()
        timers, buffer = ly.HEAP_ENTRY * (3 * capacity + 66), ly.BUFFER_ENTRY * (2 * capacity + 66)
        deadlines, cancels, clients = (ly.HEAPS + ly.HEAP_WIDTH * heap for heap in range(ly.HEAP_COUNT))
        sizes = {
            ly.AT_FREE: capacity,
            ly.AT_BATCHES_FREE: capacity,
            ly.AT_BATCHES: capacity << ly.BATCH_SHIFT,
            ly.AT_JOBS: ring,
            ly.AT_RING: levels * ring,
            deadlines + ly.HEAP_BASE: timers,
            deadlines + ly.BUFFER_BASE: buffer,
            cancels + ly.HEAP_BASE: timers,
            cancels + ly.BUFFER_BASE: buffer,
            clients + ly.HEAP_BASE: ly.HEAP_ENTRY * (self._clients + 1),
            ly.AT_DRAWS: capacity * draws,
            ly.AT_THINK: self._clients,
            ly.AT_TURNS: self._clients,
        }
        for field, offset in zip(sizes, np.cumsum([0, *sizes.values()])[:-1], strict=True):
            s[field] = offset
        self._q = np.zeros(sum(sizes.values()), np.int64)
        s[ly.RING_MASK] = s[ly.JOBS_MASK] = ring - 1
        s[ly.RING_SHIFT] = ring.bit_length() - 1
        pool = np.zeros(capacity << ly.POOL_SHIFT, np.int64)
        pool[: len(self._pool)] = self._pool
        self._pool, s[ly.POOL_SIZE], s[ly.DRAWS] = pool, capacity, draws
        old.restore(self)


class _Held:
    """What a plane's arrays hold, in plain lists, while they are laid out anew."""

    def __init__(self, plane: DataPlane) -> None:
        s, q = plane._s, plane._q
        self.capacity, self.draws_kept = int(s[ly.POOL_SIZE]), int(s[ly.DRAWS])
        if self.capacity == 0:
            return
        part = plane._part
        self.free = part(ly.AT_FREE, int(s[ly.FREE]))
        self.batches_free = part(ly.AT_BATCHES_FREE, int(s[ly.BATCHES_FREE]))
        self.batches = part(ly.AT_BATCHES, self.capacity << ly.BATCH_SHIFT)
        self.jobs = q[s[ly.AT_JOBS] + (np.arange(s[ly.JOBS_HEAD], s[ly.JOBS_TAIL]) & s[ly.JOBS_MASK])]
        self.rings = [
            q[s[ly.AT_RING] + (level << s[ly.RING_SHIFT]) + (self._span(s, level) & s[ly.RING_MASK])]
            for level in range(plane.node.scheduler.priority_levels)
        ]
        self.heaps = [plane._heap(heap) for heap in range(ly.HEAP_COUNT)]
        self.buffers = [plane._buffer(heap) for heap in range(ly.HEAP_COUNT)]
        self.draws = part(ly.AT_DRAWS, self.capacity * self.draws_kept).reshape(self.capacity, self.draws_kept)
        self.think, self.turns = part(ly.AT_THINK, plane._clients), part(ly.AT_TURNS, plane._clients)

    @staticmethod
    def _span(s: Ints, level: int) -> Ints:
        block = ly.LEVEL + ly.LEVEL_WIDTH * level
        return np.arange(s[block + ly.LEVEL_HEAD], s[block + ly.LEVEL_TAIL])

    def restore(self, plane: DataPlane) -> None:
        """Write it back into the plane's new arrays; what is new is free."""
        s, q, part = plane._s, plane._q, plane._part
        fresh = np.arange(plane.capacity - 1, self.capacity - 1, -1)
        if self.capacity == 0:
            self.free = self.batches_free = np.zeros(0, np.int64)
        free, batches_free = np.concatenate([fresh, self.free]), np.concatenate([fresh, self.batches_free])
        s[ly.FREE], s[ly.BATCHES_FREE] = len(free), len(batches_free)
        part(ly.AT_FREE, len(free))[:] = free
        part(ly.AT_BATCHES_FREE, len(batches_free))[:] = batches_free
        if self.capacity == 0:
            return
        part(ly.AT_BATCHES, len(self.batches))[:] = self.batches
        q[s[ly.AT_JOBS] + (np.arange(s[ly.JOBS_HEAD], s[ly.JOBS_TAIL]) & s[ly.JOBS_MASK])] = self.jobs
        for level, ring in enumerate(self.rings):
            q[s[ly.AT_RING] + (level << s[ly.RING_SHIFT]) + (self._span(s, level) & s[ly.RING_MASK])] = ring
        for heap, entries in enumerate(self.heaps):
            plane._heap(heap)[:] = entries
            plane._buffer(heap)[:] = self.buffers[heap]
        draws = part(ly.AT_DRAWS, plane.capacity * int(s[ly.DRAWS])).reshape(plane.capacity, -1)
        draws[: self.capacity] = _padded(self.draws.T, draws.shape[1]).T
        part(ly.AT_THINK, plane._clients)[:] = self.think
        part(ly.AT_TURNS, plane._clients)[:] = self.turns


def _scalars(node: Node) -> Ints:
    """The array `s` of a node at rest at instant 0, all its replicas down."""
    spec, service = node.scheduler, node.service
    if spec.priority_levels > ly.LEVELS_MAX:
        raise ValueError(f"priority_levels must be at most {ly.LEVELS_MAX}, got {spec.priority_levels}")
    s = np.zeros(ly.REPLICA + ly.R_WIDTH * node.replicas, np.int64)
    for field, value in {
        ly.REPLICAS: node.replicas,
        ly.SLOTS: spec.slots,
        ly.LEVELS: spec.priority_levels,
        ly.MAX_BATCH: spec.max_batch,
        ly.WINDOW_NS: spec.window_ns,
        ly.MAX_QUEUE: spec.max_queue,
        ly.MAX_DEATHS: spec.max_deaths,
        ly.RETRY_AFTER_NS: node.retry_after_ns,
        ly.TABLE_BITS: service.bits,
        ly.TABLE_ROWS_MAX: service.rows_max,
        ly.PRESSURE_MAX: service.pressure_max,
        ly.LEVEL_BIN_NS: service.level_bin_ns,
        ly.LEVEL_COUNT: len(service.levels),
        ly.HANDOVER_NS: service.handover_ns,
        ly.NEXT_END_NS: NEVER_NS,
        ly.FRONT_END_NS: NEVER_NS,
        ly.OLDEST: ly.NOWHERE,
        ly.NEWCOMER: ly.NOWHERE,
        ly.WINDOW_FIRED_NS: -1,
        ly.OPEN_FIRST_ID: -1,
        ly.FAILED_ID: -1,
        ly.HOMELESS_ID: -1,
    }.items():
        s[field] = value
    s[ly.HEAPS + ly.TIMER_DUE_NS : ly.LEVEL : ly.HEAP_WIDTH] = NEVER_NS
    s[ly.FRONT : ly.FRONT + len(node.front)] = node.front
    s[ly.COLD : ly.COLD + len(service.cold_ns)] = service.cold_ns
    blocks = s[ly.LEVEL : ly.REPLICA].reshape(-1, ly.LEVEL_WIDTH)
    blocks[:, [ly.LEVEL_HEAD, ly.LEVEL_TAIL]] = ly.POSITION_ZERO
    replicas = s[ly.REPLICA :].reshape(ly.R_WIDTH, node.replicas)
    replicas[[ly.R_RUNNING, ly.R_SECOND]] = ly.NOWHERE
    replicas[ly.R_END_NS] = NEVER_NS
    return s


def _columns(requests: Requests) -> list[Ints]:
    """The columns of requests in the order of the kernel's arguments (and of `ly.C_*`)."""
    what = (requests.arrival_ns, requests.rows, requests.class_, requests.priority)
    how_long = (requests.timeout_ns, requests.patience_ns, requests.client_ns)
    return [_contiguous(column) for column in what + how_long]


def _contiguous(column: Ints) -> Ints:
    return np.ascontiguousarray(column, np.int64)


def _padded(draw: Ints, rows: int) -> Ints:
    """`draw` (deaths + 1, n) with its last row repeated up to `rows` rows."""
    if len(draw) == rows:
        return np.ascontiguousarray(draw, np.int64)
    return np.concatenate([draw, *[draw[-1:]] * (rows - len(draw))]).astype(np.int64)
