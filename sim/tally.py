"""The Tally: histograms and sums of a run, flat in memory, and the same numbers computed from rows.

The compiled plane fills a tally as it runs; `tally_from_rows` computes it from the rows of the
reference (or of the live engine), which is how the two are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve.policy.codes import CAUSE_HEDGE, OUTCOME_CANCELLED, OUTCOME_COUNT, OUTCOME_OK, REASON_COUNT
from serve.records import (
    ANSWERED_NS,
    ARRIVAL_NS,
    BATCH,
    CAUSE,
    CLASS,
    DISPATCH_NS,
    DONE_NS,
    ENQUEUE_NS,
    NODE,
    OUTCOME,
    REASON,
    START_NS,
    Rows,
)
from serve.records import ROWS as ROWS_COLUMN

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Columns of Tally.sums.
SUM_LATENCY_S = 0
SUM_LATENCY_SQUARED_S2 = 1
SUM_FRONT_S = 2
SUM_QUEUE_S = 3
SUM_SLOT_S = 4
SUM_COMPUTE_S = 5
SUM_ANSWER_S = 6
SUM_CLIENT_S = 7
SUM_ROWS = 8
SUM_COUNT = 9

HISTOGRAM_SUB_BITS = 8
"""Bins per octave are 2**8: a bin is 0.39 % wide."""
HISTOGRAM_BINS = 40 << HISTOGRAM_SUB_BITS
"""Latencies below 2**40 ns (18 minutes); longer ones fall into the last bin."""

# Columns of a batch log, one row a batch: what `Reference.batches` keeps.
BATCH_START_NS = 0
BATCH_END_NS = 1  # end or death; -1 while it runs
BATCH_ROWS = 2
BATCH_REASON = 3
BATCH_NODE = 4
BATCH_WIDTH = 5


@dataclass(frozen=True, slots=True)
class Tally:
    """Histograms and sums of a run, flat in memory: by class, by time bin of the *arrival*.

    Only outcome ok enters `latency`, `sums` and `good`. Spans of the node (busy_s, front_busy_s,
    in_system_s) lie in the bins in which they pass, batches in the bin of their start. A batch is
    busy time once it ended or its replica died; a request is counted once it left.
    """

    bin_ns: int  # width of a time bin; the last one takes all that is later
    latency: Ints  # (classes, time bins, HISTOGRAM_BINS), client latency
    sums: Floats  # (classes, time bins, SUM_COUNT), over ok requests
    good: Ints  # (classes, time bins): ok within the class's SLO latency bound
    outcomes: Ints  # (classes, time bins, OUTCOME_COUNT)
    drop_reasons: Ints  # (classes, time bins, REASON_COUNT), of what was not ok
    wasted_rows: Ints  # (classes, time bins): rows of batches, of requests for which nobody waited in the end
    hedges: Ints  # (classes, time bins): attempts beside another, as far as they were heard of
    group_batch_rows: Ints  # (groups of nodes, time bins, rows_max + 1)
    batch_reasons: Ints  # (time bins, REASON_COUNT)
    node_busy_s: Floats  # (nodes, time bins), summed over the replicas of each
    front_busy_s: Floats  # (time bins,)
    in_system_s: Floats  # (time bins,), integral of the number of requests present (arrival to answer)
    fine_ns: int  # width of a bin of the error budget
    fine: Ints  # (classes, fine bins, 2): requests good, and all; the last bin takes all that is later

    @property
    def batch_rows(self) -> Ints:
        """(time bins, rows_max + 1), of all groups of nodes."""
        counts: Ints = self.group_batch_rows.sum(axis=0)
        return counts

    @property
    def busy_s(self) -> Floats:
        """(time bins,), summed over all replicas."""
        spans: Floats = self.node_busy_s.sum(axis=0)
        return spans


NO_FINE = (0, 1)
"""Number and width in ns of the error budget's bins where nobody asks for them."""
ONE_NODE = (0,)
"""By node, the group that it is of, where there is one."""


def empty_tally(
    classes: int,
    time_bins: int,
    bin_ns: int,
    rows_max: int,
    groups: Sequence[int] = ONE_NODE,
    fine: tuple[int, int] = NO_FINE,
) -> Tally:
    """A tally of nothing; `groups`: by node, in order, the group that it is of."""
    return Tally(
        bin_ns=bin_ns,
        latency=np.zeros((classes, time_bins, HISTOGRAM_BINS), np.int64),
        sums=np.zeros((classes, time_bins, SUM_COUNT)),
        good=np.zeros((classes, time_bins), np.int64),
        outcomes=np.zeros((classes, time_bins, OUTCOME_COUNT), np.int64),
        drop_reasons=np.zeros((classes, time_bins, REASON_COUNT), np.int64),
        wasted_rows=np.zeros((classes, time_bins), np.int64),
        hedges=np.zeros((classes, time_bins), np.int64),
        group_batch_rows=np.zeros((groups[-1] + 1, time_bins, rows_max + 1), np.int64),
        batch_reasons=np.zeros((time_bins, REASON_COUNT), np.int64),
        node_busy_s=np.zeros((len(groups), time_bins)),
        front_busy_s=np.zeros(time_bins),
        in_system_s=np.zeros(time_bins),
        fine_ns=fine[1],
        fine=np.zeros((classes, fine[0], 2), np.int64),
    )


def histogram_bin(value_ns: Ints) -> Ints:
    """Bin of each non-negative latency: its octave and the next 8 bits, read off the float64's exponent.

    >>> histogram_bin(np.array([0, 1, 2, 3])).tolist()
    [0, 0, 256, 384]
    """
    bits = value_ns.astype(np.float64).view(np.int64) >> (52 - HISTOGRAM_SUB_BITS)
    bins: Ints = np.clip(bits - (1023 << HISTOGRAM_SUB_BITS), 0, HISTOGRAM_BINS - 1)
    return bins


def histogram_edges_ns() -> Floats:
    """Lower edges of the histogram's bins and the upper edge of the last, in ns."""
    index = np.arange(HISTOGRAM_BINS + 1)
    sub = index & ((1 << HISTOGRAM_SUB_BITS) - 1)
    edges: Floats = np.ldexp(1.0 + sub / (1 << HISTOGRAM_SUB_BITS), index >> HISTOGRAM_SUB_BITS)
    return edges


def batches_of(rows: Rows) -> Ints:
    """The batch log that rows imply: every batch that was run to its end and is still named by a row."""
    ridden = rows[(rows[:, BATCH] >= 0) & (rows[:, DONE_NS] >= 0)]
    reasons = np.where(ridden[:, OUTCOME] == OUTCOME_OK, ridden[:, REASON], 0)
    ids, first, of = np.unique(ridden[:, BATCH], return_index=True, return_inverse=True)
    log = np.zeros((len(ids), BATCH_WIDTH), np.int64)
    log[:, BATCH_START_NS] = ridden[first, START_NS]
    log[:, BATCH_END_NS] = ridden[first, DONE_NS]
    log[:, BATCH_NODE] = np.maximum(ridden[first, NODE], 0)
    np.add.at(log[:, BATCH_ROWS], of, ridden[:, ROWS_COLUMN])
    np.maximum.at(log[:, BATCH_REASON], of, reasons)
    return log


def spread(spans_ns: Ints, time_bins: int, bin_ns: int) -> Floats:
    """Seconds that spans (n, 2) of start and end pass in each time bin; the last bin has no end."""
    out = np.zeros(time_bins)
    for i in range(time_bins):
        low = np.maximum(spans_ns[:, 0], i * bin_ns)
        high = spans_ns[:, 1] if i == time_bins - 1 else np.minimum(spans_ns[:, 1], (i + 1) * bin_ns)
        out[i] = np.maximum(high - low, 0).sum() * 1e-9
    return out


REQUEST_COLUMNS = ("class", "outcome", "reason", "arrival_ns", "settled_ns", "client_ns", "stay_ns", "rows")
"""`stay_ns`: at the node whose answer settled it."""


@dataclass(frozen=True, slots=True)
class Routed:
    """What a router knows beside its attempts' rows."""

    requests: Ints  # (n, len(REQUEST_COLUMNS)): requests that have come to their end for their clients
    first_ns: Ints  # by row: arrival of its request at the router
    wanted: npt.NDArray[np.bool_]  # by row: its client still waited when the router heard of it


def tally_from_rows(
    rows: Rows,
    client_ns: Ints,
    classes: int,
    time_bins: int = 1,
    bin_ns: int = 2**62,
    rows_max: int | None = None,
    slo_ns: Ints | None = None,
    batches: Ints | None = None,
    front_ns: Ints | None = None,
    routed: Routed | None = None,
    groups: Sequence[int] = ONE_NODE,
    fine: tuple[int, int] = NO_FINE,
) -> Tally:
    """The tally of finished rows.

    Parameters
    ----------
    rows : (n, ROW_WIDTH), every row with an outcome.
    client_ns : (n,), what client and network add to each row's latency.
    rows_max : largest batch; default: the largest among the rows' batches.
    slo_ns : (classes,) client-latency bound of goodput; default: every ok request is good.
    batches : batch log (m, BATCH_WIDTH); default: `batches_of(rows)`, which lacks what a death ended.
    front_ns : (k, 2) spans in which the front worked; default: none known.
    routed : what the router knows, if rows are attempts that it sent; outcomes and latencies are then requests'.
    groups : by node that batches can be of, in order, its group.
    fine : number and width in ns of the error budget's bins.
    """
    batches = batches_of(rows) if batches is None else batches
    if rows_max is None:
        rows_max = int(batches[:, BATCH_ROWS].max(initial=1))
    tally = empty_tally(classes, time_bins, bin_ns, rows_max, groups, fine)
    first_ns = rows[:, ARRIVAL_NS] if routed is None else routed.first_ns
    bin_ = np.minimum(first_ns // bin_ns, time_bins - 1)
    _tally_parts(tally, rows, bin_)
    _tally_attempts(tally, rows, bin_, rows[:, OUTCOME] != OUTCOME_CANCELLED if routed is None else routed.wanted)
    if routed is None:
        columns = (CLASS, OUTCOME, REASON, ARRIVAL_NS, ANSWERED_NS)
        stay_ns = rows[:, ANSWERED_NS] - rows[:, ARRIVAL_NS]
        _tally_requests(tally, np.column_stack([rows[:, columns], client_ns, stay_ns, rows[:, ROWS_COLUMN]]), slo_ns)
    else:
        _tally_requests(tally, routed.requests, slo_ns)
    _tally_node(tally, rows, batches, front_ns, np.array(groups))
    return tally


def _tally_parts(tally: Tally, rows: Rows, bin_: Ints) -> None:
    """What latencies are made of, of ok rows."""
    ok = rows[:, OUTCOME] == OUTCOME_OK
    instants = rows[np.ix_(ok, [ARRIVAL_NS, ENQUEUE_NS, DISPATCH_NS, START_NS, DONE_NS, ANSWERED_NS])]
    parts = tally.sums[:, :, SUM_FRONT_S : SUM_ANSWER_S + 1]
    np.add.at(parts, (rows[ok, CLASS], bin_[ok]), np.diff(instants, axis=1) * 1e-9)


def _tally_attempts(tally: Tally, rows: Rows, bin_: Ints, wanted: npt.NDArray[np.bool_]) -> None:
    """What batches computed for nobody, and hedges."""
    wasted, hedges = ~wanted & (rows[:, BATCH] >= 0), rows[:, CAUSE] == CAUSE_HEDGE
    np.add.at(tally.wasted_rows, (rows[wasted, CLASS], bin_[wasted]), rows[wasted, ROWS_COLUMN])
    np.add.at(tally.hedges, (rows[hedges, CLASS], bin_[hedges]), 1)


def _tally_requests(tally: Tally, requests: Ints, slo_ns: Ints | None) -> None:
    """Outcomes and latencies, of lines as REQUEST_COLUMNS."""
    class_, outcome, reason, arrival_ns, answered_ns, client_ns, stay_ns, request_rows = requests.T
    bin_ = np.minimum(arrival_ns // tally.bin_ns, len(tally.in_system_s) - 1)
    np.add.at(tally.outcomes, (class_, bin_, outcome), 1)
    ok = outcome == OUTCOME_OK
    fine = np.minimum(arrival_ns // tally.fine_ns, tally.fine.shape[1] - 1)
    if tally.fine.size:
        np.add.at(tally.fine[:, :, 1], (class_, fine), 1)
    np.add.at(tally.drop_reasons, (class_[~ok], bin_[~ok], reason[~ok]), 1)
    class_, bin_, fine = class_[ok], bin_[ok], fine[ok]
    latency_ns = (answered_ns - arrival_ns + client_ns)[ok]
    np.add.at(tally.latency, (class_, bin_, histogram_bin(latency_ns)), 1)
    good = latency_ns <= slo_ns[class_] if slo_ns is not None else np.ones(len(latency_ns), bool)
    np.add.at(tally.good, (class_[good], bin_[good]), 1)
    if tally.fine.size:
        np.add.at(tally.fine[:, :, 0], (class_[good], fine[good]), 1)
    latency_s = latency_ns * 1e-9
    for column, values in (
        (SUM_LATENCY_S, latency_s),
        (SUM_LATENCY_SQUARED_S2, latency_s * latency_s),
        (SUM_CLIENT_S, (latency_ns - stay_ns[ok]) * 1e-9),
        (SUM_ROWS, request_rows[ok]),
    ):
        np.add.at(tally.sums, (class_, bin_, column), values)


def _tally_node(tally: Tally, rows: Rows, batches: Ints, front_ns: Ints | None, group_of: Ints) -> None:
    """Batches, and the spans of replicas, front and requests."""
    time_bins, bin_ns = len(tally.in_system_s), tally.bin_ns
    bin_ = np.minimum(batches[:, BATCH_START_NS] // bin_ns, time_bins - 1)
    np.add.at(tally.group_batch_rows, (group_of[batches[:, BATCH_NODE]], bin_, batches[:, BATCH_ROWS]), 1)
    np.add.at(tally.batch_reasons, (bin_, batches[:, BATCH_REASON]), 1)
    ended = batches[batches[:, BATCH_END_NS] >= 0]
    for node in np.unique(ended[:, BATCH_NODE]):
        spans = ended[ended[:, BATCH_NODE] == node][:, [BATCH_START_NS, BATCH_END_NS]]
        tally.node_busy_s[node] = spread(spans, time_bins, bin_ns)
    if front_ns is not None:
        tally.front_busy_s[:] = spread(front_ns, time_bins, bin_ns)
    left = rows[rows[:, ANSWERED_NS] >= 0]
    tally.in_system_s[:] = spread(left[:, [ARRIVAL_NS, ANSWERED_NS]], time_bins, bin_ns)
