"""The kernel's tally: histograms and sums by class and time bin, and rows where they are kept."""

import numpy as np

from serve import records
from serve.policy.codes import (
    ATTEMPT_BITS,
    CAUSE_FIRST,
    CAUSE_HEDGE,
    OUTCOME_CANCELLED,
    OUTCOME_COUNT,
    OUTCOME_OK,
    REASON_COUNT,
)
from sim.compiled import helper, inlined
from sim.kernel_queue import row_of
from sim.layout import (
    ARRIVAL_NS,
    B_DISPATCH_NS,
    B_DONE_NS,
    B_ID,
    B_REPLICA,
    B_START_NS,
    BATCH_COLUMNS,
    BIN,
    BIN_LOW_NS,
    BIN_NS,
    BY_BATCH,
    BY_REPLICA,
    CLASS,
    CLIENT_NS,
    DEATHS,
    DISPATCHED_NS,
    ENDED_NS,
    ENQUEUE_NS,
    FINE,
    FINE_BINS,
    FINE_LOW_NS,
    FINE_NS,
    FIRST_NS,
    ID,
    INDEX_MASK,
    KEEP_ROWS,
    KEEP_TALLY,
    LEFT_BY,
    LEFT_NS,
    NOWHERE,
    PRIORITY,
    ROWS,
    SENT_TO,
    SETTLED,
    STARTED_NS,
    STORY,
    T_BATCH_REASONS,
    T_BATCH_ROWS,
    T_DROPS,
    T_FINE,
    T_GOOD,
    T_HEDGES,
    T_OUTCOMES,
    T_SLO,
    T_WASTED,
    TIME_BINS,
    X_IN_SYSTEM,
)
from sim.tally import HISTOGRAM_BINS, HISTOGRAM_SUB_BITS, SUM_COUNT

_SHIFT = 52 - HISTOGRAM_SUB_BITS
_ZERO_OCTAVE = 1023 << HISTOGRAM_SUB_BITS


@inlined
def bin_of(s, at_ns):
    """Time bin of an instant; instants come nearly in order, so the last bin is tried first."""
    if s[TIME_BINS] == 1:
        return 0
    if at_ns < s[BIN_LOW_NS] or at_ns - s[BIN_LOW_NS] >= s[BIN_NS]:
        s[BIN] = at_ns // s[BIN_NS]
        s[BIN_LOW_NS] = s[BIN] * s[BIN_NS]
    return min(s[BIN], s[TIME_BINS] - 1)


@inlined
def tally_fine(s, t, class_, at_ns, good):
    """A request that arrived then met the SLO (1) or not (0), if anybody asks for its error budget."""
    if s[FINE_BINS] != 0:
        if at_ns < s[FINE_LOW_NS] or at_ns - s[FINE_LOW_NS] >= s[FINE_NS]:
            s[FINE] = at_ns // s[FINE_NS]
            s[FINE_LOW_NS] = s[FINE] * s[FINE_NS]
        cell = s[T_FINE] + 2 * (class_ * s[FINE_BINS] + min(s[FINE], s[FINE_BINS] - 1))
        t[cell & INDEX_MASK] += good
        t[(cell + 1) & INDEX_MASK] += 1


@inlined
def spread(s, x, base, start_ns, end_ns):
    """Add the seconds of a span to the time bins in which they pass."""
    if s[KEEP_TALLY] == 0:
        return
    bin_ = bin_of(s, start_ns)
    if bin_ == s[TIME_BINS] - 1 or end_ns <= (bin_ + 1) * s[BIN_NS]:
        x[(base + bin_) & INDEX_MASK] += (end_ns - start_ns) * 1e-9
    else:
        spread_far(s, x, base, bin_, start_ns, end_ns)


@helper
def spread_far(s, x, base, bin_, start_ns, end_ns):
    """The same for a span that leaves its first bin."""
    while bin_ < s[TIME_BINS] - 1 and end_ns > (bin_ + 1) * s[BIN_NS]:
        edge_ns = (bin_ + 1) * s[BIN_NS]
        x[base + bin_] += (edge_ns - start_ns) * 1e-9
        start_ns, bin_ = edge_ns, bin_ + 1
    x[base + bin_] += (end_ns - start_ns) * 1e-9


@helper
def take_back(s, x, base, start_ns, end_ns):
    """Of a span that was added, what lies behind `start_ns` did not come about."""
    while s[KEEP_TALLY] != 0 and start_ns < end_ns:
        bin_ = bin_of(s, start_ns)
        edge_ns = end_ns if bin_ == s[TIME_BINS] - 1 else min(end_ns, (bin_ + 1) * s[BIN_NS])
        x[base + bin_] -= (edge_ns - start_ns) * 1e-9
        start_ns = edge_ns


@inlined
def tally_batch(s, t, rows, reason, at_ns):
    """A batch starts."""
    if s[KEEP_TALLY] != 0:
        bin_ = bin_of(s, at_ns)
        t[s[T_BATCH_ROWS] + bin_ * s[BATCH_COLUMNS] + rows] += 1
        t[s[T_BATCH_REASONS] + bin_ * REASON_COUNT + reason] += 1


@inlined
def tally_ok(s, pool, t, slot, arrival_ns, latency_ns):
    """A request that arrived then was answered ok: histogram, outcome, goodput; its cell."""
    class_ = pool[row_of(slot) + CLASS]
    cell = (class_ * s[TIME_BINS] + bin_of(s, arrival_ns)) & INDEX_MASK
    index = (np.float64(latency_ns).view(np.int64) >> _SHIFT) - _ZERO_OCTAVE
    t[(cell * HISTOGRAM_BINS + min(max(index, 0), HISTOGRAM_BINS - 1)) & INDEX_MASK] += 1
    t[(s[T_OUTCOMES] + cell * OUTCOME_COUNT + OUTCOME_OK) & INDEX_MASK] += 1
    good = np.int64(latency_ns <= t[(s[T_SLO] + class_) & INDEX_MASK])
    t[(s[T_GOOD] + cell) & INDEX_MASK] += good
    tally_fine(s, t, class_, arrival_ns, good)
    return cell


@inlined
def tally_answer(s, pool, q, t, x, slot, batch, at_ns):
    """An ok answer has left at `at_ns`: latency, its parts, goodput."""
    at = row_of(slot)
    arrival_ns, client_ns = pool[at + ARRIVAL_NS], pool[at + CLIENT_NS]
    latency_ns = at_ns - arrival_ns + client_ns
    latency_s, sums = latency_ns * 1e-9, tally_ok(s, pool, t, slot, arrival_ns, latency_ns) * SUM_COUNT
    x[sums] += latency_s
    x[sums + 1] += latency_s * latency_s
    x[sums + 2] += (pool[at + ENQUEUE_NS] - arrival_ns) * 1e-9
    x[sums + 3] += (q[batch + B_DISPATCH_NS] - pool[at + ENQUEUE_NS]) * 1e-9
    x[sums + 4] += (q[batch + B_START_NS] - q[batch + B_DISPATCH_NS]) * 1e-9
    x[sums + 5] += (q[batch + B_DONE_NS] - q[batch + B_START_NS]) * 1e-9
    x[sums + 6] += (at_ns - q[batch + B_DONE_NS]) * 1e-9
    x[sums + 7] += client_ns * 1e-9
    x[sums + 8] += pool[at + ROWS]


@helper
def keep_attempt(s, pool, x, out, slot):
    """The router knows what became of an attempt at this node: count it, write its row."""
    at = row_of(slot)
    if s[KEEP_TALLY] != 0:
        if pool[at + LEFT_BY] >> 4 == OUTCOME_OK:
            sums = (pool[at + CLASS] * s[TIME_BINS] + bin_of(s, pool[at + FIRST_NS])) * SUM_COUNT
            x[sums + 2] += (pool[at + ENQUEUE_NS] - pool[at + ARRIVAL_NS]) * 1e-9
            x[sums + 3] += (pool[at + DISPATCHED_NS] - pool[at + ENQUEUE_NS]) * 1e-9
            x[sums + 4] += (pool[at + STARTED_NS] - pool[at + DISPATCHED_NS]) * 1e-9
            x[sums + 5] += (pool[at + ENDED_NS] - pool[at + STARTED_NS]) * 1e-9
            x[sums + 6] += (pool[at + LEFT_NS] - pool[at + ENDED_NS]) * 1e-9
        spread(s, x, s[X_IN_SYSTEM], pool[at + ARRIVAL_NS], pool[at + LEFT_NS])
    if s[KEEP_ROWS] != 0:
        row = write_request(pool, out, slot, pool[at + LEFT_BY] >> 4, pool[at + LEFT_BY] & 15, pool[at + LEFT_NS])
        out[row + records.REQUEST] = pool[at + ID] >> ATTEMPT_BITS
        out[row + records.ATTEMPT] = pool[at + ID] & ((1 << ATTEMPT_BITS) - 1)
        out[row + records.CAUSE] = pool[at + STORY] & 3
        out[row + records.NODE] = pool[at + SENT_TO]
        out[row + records.REPLICA] = pool[at + BY_REPLICA]
        out[row + records.BATCH] = pool[at + BY_BATCH]
        out[row + records.DISPATCH_NS] = pool[at + DISPATCHED_NS]
        out[row + records.START_NS] = pool[at + STARTED_NS]
        out[row + records.DONE_NS] = pool[at + ENDED_NS]


@helper
def tally_attempt(s, pool, t, slot):
    """The router has heard of an attempt: whether it was a hedge, and whether batches computed it for nobody."""
    at = row_of(slot)
    if s[KEEP_TALLY] == 0 or (pool[at + SETTLED] == 0 and pool[at + STORY] & 3 != CAUSE_HEDGE):
        return
    cell = pool[at + CLASS] * s[TIME_BINS] + bin_of(s, pool[at + FIRST_NS])
    if pool[at + STORY] & 3 == CAUSE_HEDGE:
        t[s[T_HEDGES] + cell] += 1
    if pool[at + SETTLED] != 0 and pool[at + BY_BATCH] >= 0:
        t[s[T_WASTED] + cell] += pool[at + ROWS]


@helper
def tally_request(s, pool, t, x, slot, at_ns):
    """An ok answer has reached the router at `at_ns`: the request's latency, goodput."""
    at = row_of(slot)
    first_ns, client_ns = pool[at + FIRST_NS], pool[at + CLIENT_NS]
    latency_ns = at_ns - first_ns + client_ns
    latency_s, sums = latency_ns * 1e-9, tally_ok(s, pool, t, slot, first_ns, latency_ns) * SUM_COUNT
    x[sums] += latency_s
    x[sums + 1] += latency_s * latency_s
    stay_ns = pool[at + LEFT_NS] - pool[at + ARRIVAL_NS]
    x[sums + 7] += (latency_ns - stay_ns) * 1e-9
    x[sums + 8] += pool[at + ROWS]


@inlined
def tally_drop(s, pool, t, slot, arrival_ns, outcome, reason):
    """A request that arrived then left without an ok answer."""
    at = row_of(slot)
    cell = pool[at + CLASS] * s[TIME_BINS] + bin_of(s, arrival_ns)
    t[s[T_OUTCOMES] + cell * OUTCOME_COUNT + outcome] += 1
    t[s[T_DROPS] + cell * REASON_COUNT + reason] += 1
    tally_fine(s, t, pool[at + CLASS], arrival_ns, 0)


@inlined
def keep(s, pool, q, t, x, out, slot, batch, outcome, reason, at_ns):
    """A request has left at `at_ns`, riding `batch` (offset in q, or NOWHERE): count it, write its row."""
    if s[KEEP_TALLY] != 0:
        if outcome == OUTCOME_OK:
            tally_answer(s, pool, q, t, x, slot, batch, at_ns)
        else:
            tally_drop(s, pool, t, slot, pool[row_of(slot) + ARRIVAL_NS], outcome, reason)
            if outcome == OUTCOME_CANCELLED and batch != NOWHERE:
                cell = pool[row_of(slot) + CLASS] * s[TIME_BINS] + bin_of(s, pool[row_of(slot) + ARRIVAL_NS])
                t[s[T_WASTED] + cell] += pool[row_of(slot) + ROWS]
        spread(s, x, s[X_IN_SYSTEM], pool[row_of(slot) + ARRIVAL_NS], at_ns)
    if s[KEEP_ROWS] != 0:
        write_row(pool, q, out, slot, batch, outcome, reason, at_ns)


@helper
def write_row(pool, q, out, slot, batch, outcome, reason, at_ns):
    """A row of a request that no router sent."""
    at, row = row_of(slot), write_request(pool, out, slot, outcome, reason, at_ns)
    out[row + records.REQUEST] = pool[at + ID]
    if batch != NOWHERE:
        out[row + records.REPLICA] = q[batch + B_REPLICA]
        out[row + records.BATCH] = q[batch + B_ID]
        out[row + records.DISPATCH_NS] = q[batch + B_DISPATCH_NS]
        out[row + records.START_NS] = q[batch + B_START_NS]
        out[row + records.DONE_NS] = q[batch + B_DONE_NS]


@helper
def write_request(pool, out, slot, outcome, reason, at_ns):
    """Append a row to `out`, which was filled with -1 and whose first row holds their number; where it begins."""
    out[0] += 1
    at, row = row_of(slot), out[0] * records.ROW_WIDTH
    out[row + records.ATTEMPT], out[row + records.CAUSE] = 0, CAUSE_FIRST
    out[row + records.NODE], out[row + records.QUEUE] = 0, 0
    out[row + records.DEATHS] = pool[at + DEATHS]
    out[row + records.CLASS] = pool[at + CLASS]
    out[row + records.ROWS] = pool[at + ROWS]
    out[row + records.PRIORITY] = pool[at + PRIORITY]
    out[row + records.REASON], out[row + records.OUTCOME] = reason, outcome
    out[row + records.ARRIVAL_NS] = pool[at + ARRIVAL_NS]
    out[row + records.ENQUEUE_NS] = pool[at + ENQUEUE_NS]
    out[row + records.ANSWERED_NS] = at_ns
    return row
