"""The data plane: the fast `Plane`, which hands flat arrays to the compiled kernel and grows them.

Python allocates, feeds and reads; every decision is taken in `sim.kernel`, by the same leaves that
the live engine runs. Memory is bounded by the requests present at once, not by how many there were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from serve.policy.codes import NEVER_NS, OUTCOME_COUNT, REASON_COUNT
from serve.policy.recent import length
from serve.policy.scaling.metering import Counters, Gauges, Scrape
from serve.records import ANSWERED_NS, ATTEMPT, REQUEST, ROW_WIDTH, Rows
from sim import layout as ly
from sim.compiled import tell_if_compiling
from sim.kernel import advance
from sim.kernel_estate import advance_estate
from sim.kernel_next import EVENT_BITS, HORIZON_NS
from sim.memory import Memory, padded
from sim.plane import (
    BUFFER,
    Closed,
    Estate,
    Ints,
    Node,
    Requests,
    Stop,
    StopCode,
    check_bins,
    check_estate,
    check_first_closed,
    check_open,
    check_requests,
    check_rotation,
    check_slow,
    check_split,
)
from sim.tally import HISTOGRAM_BINS, NO_FINE, SUM_COUNT, Tally, empty_tally

Keep = Literal["tally", "rows", "both"]

_NO_ROWS_LIMIT = 2**62

_ROOM_MIN = 16
"""Requests at one of many nodes that arrays are first made for."""


class DataPlane:
    """A compiled `Plane`: takes every decision as `sim.reference.Reference` does, to the nanosecond.

    Parameters
    ----------
    what, classes, closed : what is simulated (see `sim.plane`).
    keep : "tally" is flat in memory; "rows" and "both" keep a row of every attempt that left its node.
    time_bins, bin_ns, slo_ns : the tally's time bins and (classes,) latency bound of goodput.
    fine : number and width in ns of the error budget's bins.
    metered : whether nodes are counted, for `scrape`.
    pool : requests present, in all, that arrays are first made for; they double when that is not enough.

    A tally counts an answer when its batch's finish job begins to write answers, which may be some
    microseconds before it has left; `rows` shows only what has left.
    """

    def __init__(
        self,
        what: Node | Estate,
        classes: int,
        closed: Closed | None = None,
        *,
        keep: Keep = "tally",
        time_bins: int = 1,
        bin_ns: int = 2**62,
        slo_ns: Ints | None = None,
        fine: tuple[int, int] = NO_FINE,
        pool: int = 1024,
        metered: bool = False,
    ) -> None:
        self.estate = Estate.of(what)
        check_estate(self.estate, closed)
        check_bins(time_bins, bin_ns)
        self._classes, self._closed = classes, closed
        self._bins, self._fine = (time_bins, bin_ns), fine
        room = max(pool // len(self.estate.nodes), min(pool, _ROOM_MIN), 1)
        self._memory = Memory(self.estate, closed, room)
        self._s = self._memory.plane
        services = [node.service for node in self.estate.nodes]
        nodes = self._memory.rows[: len(services)]
        self._table, nodes[:, ly.TABLE_AT] = _joined([_contiguous(service.table) for service in services])
        levels, nodes[:, ly.LEVELS_AT] = _joined([service.levels for service in services])
        self._levels = np.asarray(levels, np.float64)
        self._memory.rows[:, ly.METERED] = metered
        self._prepare_router()
        self._out = np.zeros(ROW_WIDTH, np.int64)
        self._s[ly.ROWS_OUT_MAX] = _NO_ROWS_LIMIT
        self._prepare_tally(keep, slo_ns)
        self._closed_rows = np.zeros((0, ly.C_WIDTH + 1), np.int64)
        none = np.zeros(0, np.int64)
        self._open: list[Ints] = [none] * 8
        self._draw = np.zeros((1, 0), np.int64)

    # -- what comes in -----------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Instant of the last stop."""
        return int(self._s[ly.NOW_NS])

    @property
    def unsettled(self) -> int:
        """Requests that the router has not seen the end of."""
        return int(self._s[ly.PRESENT])

    @property
    def capacity(self) -> int:
        """Requests present at once that the arrays now have room for."""
        return self._memory.capacity

    def feed(self, requests: Requests) -> None:
        """Hand over the next open arrivals."""
        check_requests(requests, self.estate.nodes[0], self._classes)
        check_open(requests, self.now_ns)
        s, at = self._s, int(self._s[ly.OPEN_AT])
        if s[ly.OPEN_FIRST_ID] < 0:
            s[ly.OPEN_FIRST_ID] = requests.first_id
        draw = self._fit_draws(requests.draw)
        columns = _columns(requests)
        if at < s[ly.OPEN_COUNT]:
            self._open = [np.concatenate([old[at:], new]) for old, new in zip(self._open, columns, strict=True)]
            self._draw = np.concatenate([padded(self._draw[:, at:], len(draw)), draw], axis=1)
        else:
            self._open, self._draw = columns, draw
        s[ly.OPEN_FIRST_ID] += at
        s[ly.OPEN_AT], s[ly.OPEN_COUNT] = 0, len(self._open[0])

    def feed_closed(self, requests: Requests) -> None:
        """Hand over the next requests of the closed-loop clients."""
        check_requests(requests, self.estate.nodes[0], self._classes)
        if self._closed is None:
            raise ValueError("this plane was built without closed-loop clients")
        first = self._s[ly.CLOSED_FIRST_INDEX] + self._s[ly.CLOSED_COUNT] == 0
        if first:
            check_first_closed(requests, self._closed, self.now_ns)
        s, draw = self._s, self._fit_draws(requests.draw)
        held = self._closed_rows
        clients = self._memory.clients
        turns = self._memory.part(s, ly.AT_TURNS, clients)
        spent = min(int(turns.min()) * clients - int(s[ly.CLOSED_FIRST_INDEX]), len(held))
        fresh = np.column_stack([*_columns(requests), *draw])
        if held.shape[1] < fresh.shape[1]:
            held = np.column_stack([held, *[held[:, -1]] * (fresh.shape[1] - held.shape[1])])
        self._closed_rows = np.concatenate([held[spent:], fresh])
        s[ly.CLOSED_FIRST_INDEX] += spent
        s[ly.CLOSED_COUNT] = len(self._closed_rows)
        if first:
            self._start_clients(requests.arrival_ns[:clients])

    def _start_clients(self, at_ns: Ints) -> None:
        """Every client's first request enters the heap of clients: a sorted array is a heap."""
        clients = np.arange(self._memory.clients)
        entries = np.column_stack([at_ns, self._s[ly.CLOSED_FIRST_ID] + clients, clients])
        self._s[ly.HEAPS + ly.HEAP_WIDTH * ly.CLIENTS + ly.HEAP_SIZE] = len(clients)
        self._memory.heap(self._s, ly.CLIENTS)[:] = entries[np.lexsort((clients, at_ns))]

    def end_feed(self) -> None:
        """No more open arrivals will come."""
        self._s[ly.OPEN_ENDED] = 1

    # -- the clock and control -----------------------------------------------------------------------

    def advance(self, until_ns: int) -> Stop:
        """Handle every event before `until_ns`, and classes 0 and 1 at it; return early where control must react."""
        assert until_ns >= self.now_ns, f"{until_ns=} lies before {self.now_ns=}"
        self._s[[ly.WHICH, ly.WHERE]] = -1, 0
        code = StopCode(self._call(until_ns, ly.OP_NONE, 0, 0))
        node = 0 if code in (StopCode.UNTIL, StopCode.STARVED) else int(self._s[ly.WHERE])
        return Stop(code, self.now_ns, int(self._s[ly.WHICH]), node)

    def ready(self, replica: int, node: int = 0) -> None:
        """Control: the replica is up."""
        self._control(ly.OP_READY, node, replica)

    def kill(self, replica: int, node: int = 0) -> None:
        """Control: the replica dies (rule 8)."""
        self._control(ly.OP_KILL, node, replica)

    def drain_replica(self, replica: int, node: int = 0) -> None:
        """Control: the replica takes no more batches (rule 12)."""
        self._control(ly.OP_DRAIN_REPLICA, node, replica)

    def retire(self, replica: int, node: int = 0) -> None:
        """Control: a replica without a batch goes; a new one may be ready in its place."""
        self._control(ly.OP_RETIRE, node, replica)

    def drain(self, node: int = 0) -> None:
        """Control: the node drains (rule 12)."""
        self._control(ly.OP_DRAIN, node, 0)

    def lose(self, node: int) -> None:
        """Control: the node goes, and all that it holds (rule 14)."""
        self._control(ly.OP_LOSE, node, 0)

    def slow(self, node: int, per_mille: int) -> None:
        """Control: batches that start at the node from now on take so many thousandths of their time."""
        self._check_node(node)
        check_slow(per_mille)
        self._call(self.now_ns, ly.OP_SLOW, node, per_mille)

    def hang(self, replica: int, node: int = 0) -> None:
        """Control: the batch that runs on a replica, or the next to start there, never ends."""
        self._control(ly.OP_HANG, node, replica)

    def cut(self, node: int, off: bool) -> None:
        """Control: nothing passes between router and node any more, or again."""
        self._check_node(node)
        self._call(self.now_ns, ly.OP_CUT, node, int(off))

    def rotate(self, nodes: Sequence[int], group: int = 0) -> None:
        """Control: from now on the router sends to these nodes of a group only."""
        check_rotation(self.estate, nodes, group)
        row, known, first = self._memory.groups[group], self._known, self.estate.nodes_of(group).start
        fresh = sorted(set(nodes).difference(known[ly.K_ROTATION, first : first + row[ly.ROTATION]].tolist()))
        known[ly.K_FAILURES : ly.K_LINES, fresh] = 0  # other nodes than those that had their numbers before
        row[[ly.CANDIDATES, ly.ROTATION]] = len(nodes)
        known[[ly.K_NODES, ly.K_ROTATION], first : first + len(nodes)] = sorted(nodes)
        if row[ly.EJECT_FAILURES]:
            row[ly.CHANGE_NS] = self.now_ns
        self._call(self.now_ns, ly.OP_ROTATE, group, 0)

    def split(self, upto: Sequence[int]) -> None:
        """Control: from now on requests are given to the versions of their models by these parts."""
        check_split(self.estate, upto)
        self._memory.groups[:, ly.SHARE_UPTO] = upto

    def _check_node(self, node: int) -> None:
        if not 0 <= node < len(self.estate.nodes):
            raise ValueError(f"node must be in [0, {len(self.estate.nodes)}), got {node}")

    def _control(self, op: int, node: int, replica: int) -> None:
        self._check_node(node)
        if not 0 <= replica < self.estate.nodes[node].replicas:
            raise ValueError(f"replica must be in [0, {self.estate.nodes[node].replicas}), got {replica}")
        self._call(self.now_ns, op, node, replica)

    def _call(self, until_ns: int, op: int, node: int, replica: int) -> int:
        tell_if_compiling()
        memory = self._memory
        while True:
            held = (memory.pool, memory.q, self._t, self._x, self._out, self._table, self._levels)
            fed = (*self._open, self._draw, self._closed_rows, until_ns, op)
            if memory.routed:
                known = (self._order, self._known, self._recent, self._asks)
                code = advance_estate(memory.rows, *held, *known, *fed, node, replica)
            else:
                code = advance(self._s, *held, *fed, replica)
            if code != ly.GROW:
                return int(code)
            self._grow()

    def scrape(self, node: int = 0) -> Scrape:
        """What is counted of a node, now (rule 13)."""
        now_ns = self.now_ns
        if not self._s[ly.METERED]:
            raise ValueError("this plane counts nothing: build it with metered=True")
        s = self._memory.rows[node] if node >= 0 else self._memory.groups[BUFFER - node]
        if node < 0:
            count = int(s[ly.BUFFERED])
            area_ns = int(s[ly.BUFFERED_AREA_NS]) + count * (now_ns - int(s[ly.BUFFERED_NS]))
            return Scrape(now_ns, Counters(ongoing_ns=area_ns, waiting_ns=area_ns), Gauges(count, count))
        span_ns = now_ns - int(s[ly.METERED_NS])
        busy, ongoing, waiting = (int(s[field]) for field in (ly.RUNNING, ly.ONGOING, ly.WAITING))
        areas = s[[ly.BUSY_AREA_NS, ly.ONGOING_AREA_NS, ly.WAITING_AREA_NS]].tolist()
        spans = (area + now * span_ns for area, now in zip(areas, (busy, ongoing, waiting), strict=True))
        happened = s[[ly.ARRIVALS, ly.ROWS_IN, ly.ANSWERS_OUT, ly.WAITED_NS]].tolist()
        return Scrape(now_ns, Counters(*spans, *happened), Gauges(waiting, ongoing, int(s[ly.AVAILABLE])))

    def outcomes(self) -> Ints:
        """Requests that have come to their end by now, by class and outcome."""
        first, shape = self._s[ly.T_OUTCOMES], (self._classes, self._bins[0], OUTCOME_COUNT)
        counts: Ints = self._t[first : first + math.prod(shape)].reshape(shape).sum(axis=1)
        return counts

    # -- what comes out --------------------------------------------------------------------------------

    def rows(self) -> Rows:
        """The rows of all requests that left by `now_ns`, or of all attempts that the router has heard of."""
        if not self._s[ly.KEEP_ROWS]:
            raise ValueError("this plane keeps no rows: build it with keep='rows' or 'both'")
        rows = self._out[ROW_WIDTH : (int(self._out[0]) + 1) * ROW_WIDTH].reshape(-1, ROW_WIDTH)
        rows = rows[rows[:, ANSWERED_NS] <= self.now_ns]
        return rows[np.lexsort((rows[:, ATTEMPT], rows[:, REQUEST]))]

    def tally(self) -> Tally:
        """Histograms and sums so far."""
        if not self._s[ly.KEEP_TALLY]:
            raise ValueError("this plane keeps no tally: build it with keep='tally' or 'both'")
        s, classes, bins = self._s, self._classes, self._bins[0]
        nodes = self._memory.rows[: len(self.estate.nodes)]
        tally = empty_tally(classes, *self._bins, self.estate.rows_max, self.estate.group_of, self._fine)
        for array, at in (
            (tally.latency, 0),
            (tally.good, s[ly.T_GOOD]),
            (tally.outcomes, s[ly.T_OUTCOMES]),
            (tally.drop_reasons, s[ly.T_DROPS]),
            (tally.group_batch_rows, s[ly.T_BATCH_ROWS]),
            (tally.batch_reasons, s[ly.T_BATCH_REASONS]),
            (tally.wasted_rows, s[ly.T_WASTED]),
            (tally.hedges, s[ly.T_HEDGES]),
            (tally.fine, s[ly.T_FINE]),
        ):
            array[...] = self._t[at : at + array.size].reshape(array.shape)
        tally.sums[...] = self._x[: tally.sums.size].reshape(classes, bins, SUM_COUNT)
        tally.node_busy_s[...] = self._x[nodes[:, [ly.X_BUSY]] + np.arange(bins)]
        for spans, field in ((tally.front_busy_s, ly.X_FRONT), (tally.in_system_s, ly.X_IN_SYSTEM)):
            for at in nodes[:, field]:
                spans += self._x[at : at + bins]
        return tally

    # -- memory ------------------------------------------------------------------------------------------

    def _prepare_router(self) -> None:
        """The router's settings, its candidates (all nodes), what it knows of them, and the tournament of nodes."""
        router, count = self.estate.router, len(self.estate.nodes)
        leaves = 1 << (count - 1).bit_length()
        self._known = np.zeros((ly.K_LINES, count), np.int64)
        self._known[[ly.K_NODES, ly.K_ROTATION]] = np.arange(count)
        self._order = np.full(4 * leaves, HORIZON_NS << EVENT_BITS, np.int64)
        self._order[3 * leaves :] = np.arange(leaves)
        for pair in range(leaves - 1, 0, -1):
            self._order[2 * leaves + pair] = self._order[2 * (leaves + pair)]
        self._asks = np.zeros((self._classes, ly.A_WIDTH), np.int64)
        self._asks[:, ly.A_GROUPS] = 1
        self._asks[:, ly.A_STEP] = router is not None and router.versioned
        self._recent = np.zeros((1, 1), np.int64)
        if router is None:
            return
        self._asks[: len(router.client_retries), ly.A_TRIES] = router.client_retries
        self._asks[: len(router.silent), ly.A_SILENT] = router.silent
        for class_, served in enumerate(router.served_by):
            self._asks[class_, [ly.A_GROUP, ly.A_GROUPS]] = served.start, len(served)
        self._memory.rows[:, ly.ROUTING] = router.policy
        self._memory.rows[:, ly.GROUPS] = self.estate.group_count
        s, groups = self._s, self._memory.groups
        s[ly.NETWORK_NS], s[ly.LEAVES], s[ly.ANSWER_TIMEOUT_NS] = router.network_ns, leaves, router.answer_timeout_ns
        s[ly.RETRY_AFTER_NS] = self.estate.nodes[0].retry_after_ns
        s[ly.EMPTIED] = 0 if router.tells_empty else -1
        s[ly.BACKOFF_NS], s[ly.BACKOFF_MOST_NS] = router.backoff_ns, router.backoff_most_ns
        groups[:, ly.TRUE_STATE], groups[:, ly.CHANGE_NS] = router.true_state, NEVER_NS
        groups[:, ly.CANDIDATES] = groups[:, ly.ROTATION] = groups[:, ly.NODE_COUNT]
        groups[:, ly.CREDIT] = router.credits or 0
        groups[groups[:, ly.CREDIT] > 0, ly.CHANGE_NS] = 0
        if router.ejection is not None:
            groups[:, [ly.EJECT_FAILURES, ly.EJECT_BASE_NS, ly.EJECT_PERCENT]] = router.ejection
        s[ly.HEDGE_AFTER_NS] = NEVER_NS
        if router.hedge is not None:
            s[[ly.HEDGE_AFTER_NS, ly.HEDGE_ANSWERS]] = router.hedge
            self._recent = np.zeros((len(groups), length(router.hedge.answers)), np.int64)
        groups[:, ly.BUFFER_MAX], groups[:, ly.LEVELS] = router.buffer_rows, self._memory.levels
        groups[:, ly.RETRIES_MAX], groups[:, ly.BUDGET_PERCENT] = router.retries, router.budget_percent
        if router.split:
            groups[:, ly.SHARE_UPTO] = router.split

    def _prepare_tally(self, keep: Keep, slo_ns: Ints | None) -> None:
        """Offsets and zeroes of the tally's arrays; each node has spans of its own, each group its batches."""
        rows, (bins, bin_ns) = self._memory.rows, self._bins
        rows[:, ly.KEEP_ROWS], rows[:, ly.KEEP_TALLY] = keep in ("rows", "both"), keep in ("tally", "both")
        rows[:, ly.TIME_BINS], rows[:, ly.BIN_NS] = bins, bin_ns
        rows[:, ly.FINE_BINS], rows[:, ly.FINE_NS] = self._fine
        cells, columns = self._classes * bins, self.estate.rows_max + 1
        rows[:, ly.BATCH_COLUMNS] = columns
        at = cells * HISTOGRAM_BINS
        for field, size in (
            (ly.T_GOOD, cells),
            (ly.T_OUTCOMES, cells * OUTCOME_COUNT),
            (ly.T_DROPS, cells * REASON_COUNT),
            (ly.T_BATCH_ROWS, self.estate.group_count * bins * columns),
            (ly.T_BATCH_REASONS, bins * REASON_COUNT),
            (ly.T_WASTED, cells),
            (ly.T_HEDGES, cells),
            (ly.T_FINE, self._classes * self._fine[0] * 2),
            (ly.T_SLO, self._classes),
        ):
            rows[:, field], at = at, at + size
        rows[: len(self.estate.nodes), ly.T_BATCH_ROWS] += np.array(self.estate.group_of) * (bins * columns)
        self._t = np.zeros(at if self._s[ly.KEEP_TALLY] else 0, np.int64)
        first = cells * SUM_COUNT + 3 * bins * np.arange(len(rows))
        for number, field in enumerate((ly.X_BUSY, ly.X_FRONT, ly.X_IN_SYSTEM)):
            rows[:, field] = first + number * bins
        self._x = np.zeros(cells * SUM_COUNT + 3 * bins * len(rows))
        if self._s[ly.KEEP_TALLY]:
            self._t[self._s[ly.T_SLO] :] = NEVER_NS if slo_ns is None else slo_ns
        if self._s[ly.KEEP_ROWS]:
            self._grow_rows()

    def _grow(self) -> None:
        """Double whatever was full."""
        memory, s = self._memory, self._s
        if memory.routed and s[ly.WHERE] != ly.NOWHERE:
            memory.grow(int(s[ly.WHERE]))
        elif s[ly.FREE] == 0:
            memory.grow(ly.NOWHERE)
        if s[ly.KEEP_ROWS] and self._out[0] + self.capacity >= s[ly.ROWS_OUT_MAX]:
            self._grow_rows()

    def _grow_rows(self) -> None:
        """Room for twice the rows, and for all that are present."""
        count = 2 * max(int(self._out[0]), self.capacity) + 2
        out = np.full((count + 1) * ROW_WIDTH, -1, np.int64)
        out[: len(self._out)] = self._out
        self._out, self._s[ly.ROWS_OUT_MAX] = out, count

    def _fit_draws(self, draw: Ints) -> Ints:
        """`draw` with as many rows as are kept of each request; what is kept grows to the most ever given."""
        if len(draw) > self._memory.draws:
            self._memory.fit_draws(len(draw))
            self._draw = padded(self._draw, len(draw))
            extra = len(draw) + ly.C_WIDTH - self._closed_rows.shape[1]
            last = self._closed_rows[:, -1:]
            self._closed_rows = np.concatenate([self._closed_rows, *[last] * extra], axis=1)
        return padded(draw, self._memory.draws)


def _joined(arrays: Sequence[Any]) -> tuple[Any, Ints]:
    """Arrays put together, each that occurs several times once, and where each begins."""
    different = {id(array): array for array in arrays}
    starts = np.cumsum([0, *(len(array) for array in different.values())])
    start_of = dict(zip(different, starts.tolist(), strict=False))
    return np.concatenate(list(different.values())), np.array([start_of[id(array)] for array in arrays], np.int64)


def _columns(requests: Requests) -> list[Ints]:
    """The columns of requests in the order of the kernel's arguments (and of `ly.C_*`)."""
    what = (requests.arrival_ns, requests.rows, requests.class_, requests.priority)
    how_long = (requests.timeout_ns, requests.patience_ns, requests.client_ns)
    return [_contiguous(column) for column in (*what, *how_long, requests.route)]


def _contiguous(column: Ints) -> Ints:
    return np.ascontiguousarray(column, np.int64)
