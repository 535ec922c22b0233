"""The metrics of a live run: its request rows joined with what the load generator saw.

Latency is the client's, from the *intended* instant; a request of the load generator that the engine
has no row of (a connection that broke) counts as lost. Rows that only the engine saw are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_COUNT,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_COUNT,
    REASON_FRONT,
)
from serve.records import (
    ANSWERED_NS,
    ARRIVAL_NS,
    BATCH,
    CLASS,
    CLIENT_COLUMNS,
    DISPATCH_NS,
    DONE_NS,
    ENQUEUE_NS,
    OUTCOME,
    REASON,
    REQUEST,
    ROWS,
    START_NS,
    Rows,
    empty_rows,
)
from sim.measures import (
    NodeTotals,
    Run,
    Totals,
    batch_shares,
    latency_cdf_s,
    metrics,
    reason_shares,
    together,
)
from sim.tally import BATCH_END_NS, BATCH_REASON, BATCH_ROWS, BATCH_START_NS, SUM_COUNT, Floats, Ints, batches_of

INTENDED_NS = CLIENT_COLUMNS.index("intended_ns")
RECEIVED_NS = CLIENT_COLUMNS.index("received_ns")
STATUS = CLIENT_COLUMNS.index("status")
STATUS_REFUSED = 503


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a live run showed, in the shape of a Result's parts: values by metric, without intervals."""

    requests: int
    total: dict[str, float]
    classes: dict[str, dict[str, float]]
    batch_rows: dict[int, float]
    reasons: dict[str, float]
    refusals: dict[str, float]
    latency_cdf_s: list[float]


def measure_live(
    rows: Rows,
    client_rows: Ints,
    *,
    classes: Sequence[str],
    replicas: float,
    start_ns: int,
    end_ns: int,
    slo_ns: Sequence[int] | None = None,
    front_busy_s: float | None = None,
) -> Measurement:
    """The metrics of the requests intended in [start_ns, end_ns).

    Parameters
    ----------
    rows : (n, ROW_WIDTH) of the engine, on the same clock as `client_rows`.
    client_rows : (m, len(CLIENT_COLUMNS)) of the load generator; received_ns -1: no answer came.
    classes : names; a row's class is an index into them.
    start_ns, end_ns : window, on that clock: the load less its warm-up.
    slo_ns : by class, latency that goodput allows.
    front_busy_s : CPU time of the front in the window; none: not known.
    """
    run = run_of_rows(rows, client_rows, len(classes), replicas, (start_ns, end_ns), slo_ns, front_busy_s)
    total, parts = metrics(run)
    batches = int(run.node.batch_rows.sum())
    arrived = int(run.total.outcomes.sum())
    return Measurement(
        requests=arrived,
        total=total,
        classes=dict(zip(classes, parts, strict=True)),
        batch_rows=batch_shares(run.node.batch_rows),
        reasons=reason_shares(run.node.batch_reasons, batches),
        refusals=reason_shares(run.total.drop_reasons, arrived),
        latency_cdf_s=latency_cdf_s(run.total),
    )


def run_of_rows(
    rows: Rows,
    client_rows: Ints,
    classes: int,
    replicas: float,
    window_ns: tuple[int, int],
    slo_ns: Sequence[int] | None = None,
    front_busy_s: float | None = None,
) -> Run:
    """The run that rows tell of, within a window; see `measure_live`."""
    sent = client_rows[np.argsort(client_rows[:, 0], kind="stable")]
    mine = _joined(rows, sent)
    intended = sent[:, INTENDED_NS]
    within = (intended >= window_ns[0]) & (intended < window_ns[1])
    limits = np.full(classes, np.iinfo(np.int64).max) if slo_ns is None else np.asarray(slo_ns, np.int64)
    parts = []
    for c in range(classes):
        chosen = within & (mine[:, CLASS] == c)
        parts.append(_totals(mine[chosen], sent[chosen], int(limits[c])))
    node = _node(rows, replicas, window_ns, front_busy_s)
    return Run(tuple(parts), together(parts), node)


def _joined(rows: Rows, sent: Ints) -> Rows:
    """The engine's row of each request sent, in the order of `sent`; one with outcome lost where there is none. Of
    several attempts, at the engines of a fleet, one that was answered ok if there is one.

    What the front refuses from its header alone has no id that the engine could log: of those the
    client's status tells.
    """
    ordered = rows[np.lexsort((rows[:, OUTCOME] != OUTCOME_OK, rows[:, REQUEST]))]
    at = np.searchsorted(ordered[:, REQUEST], sent[:, 0])
    known = at < len(ordered)
    known[known] = ordered[at[known], REQUEST] == sent[known, 0]
    mine = empty_rows(len(sent))
    mine[known] = ordered[at[known]]
    mine[~known, OUTCOME] = OUTCOME_LOST
    unread = ~known & (sent[:, STATUS] == STATUS_REFUSED)
    mine[unread, OUTCOME] = OUTCOME_FULL
    mine[unread, REASON] = REASON_FRONT
    # An answer that never reached the client is no answer to it.
    unheard = (mine[:, OUTCOME] == OUTCOME_OK) & (sent[:, RECEIVED_NS] < 0)
    mine[unheard, OUTCOME] = OUTCOME_LOST
    mine[unheard, REASON] = 0
    return mine


def _totals(mine: Rows, sent: Ints, limit_ns: int) -> Totals:
    ok = mine[:, OUTCOME] == OUTCOME_OK
    latency_ns = sent[ok, RECEIVED_NS] - sent[ok, INTENDED_NS]
    latency_s = latency_ns * 1e-9
    return Totals(
        latency=np.sort(latency_s),
        exact=True,
        sums=_sums(mine[ok], latency_s),
        good=int((latency_ns <= limit_ns).sum()),
        outcomes=np.bincount(mine[:, OUTCOME], minlength=OUTCOME_COUNT).astype(np.int64),
        drop_reasons=np.bincount(mine[~ok, REASON], minlength=REASON_COUNT).astype(np.int64),
        wasted_rows=int(mine[(mine[:, OUTCOME] == OUTCOME_CANCELLED) & (mine[:, BATCH] >= 0), ROWS].sum()),
    )


def _sums(answered: Rows, latency_s: Floats) -> Floats:
    """The columns of `Tally.sums`; what the client adds is its latency less the server's."""
    parts = np.diff(answered[:, [ARRIVAL_NS, ENQUEUE_NS, DISPATCH_NS, START_NS, DONE_NS, ANSWERED_NS]], axis=1) * 1e-9
    client_s = latency_s - parts.sum(axis=1)
    sums: Floats = np.column_stack([latency_s, latency_s**2, parts, client_s, answered[:, ROWS]]).sum(axis=0)
    assert len(sums) == SUM_COUNT
    return sums


def _node(rows: Rows, replicas: float, window_ns: tuple[int, int], front_busy_s: float | None) -> NodeTotals:
    batches = batches_of(rows)
    starts = batches[:, BATCH_START_NS]
    started = batches[(starts >= window_ns[0]) & (starts < window_ns[1])]
    left = rows[rows[:, ANSWERED_NS] >= 0]
    return NodeTotals(
        span_s=(window_ns[1] - window_ns[0]) * 1e-9,
        replicas=replicas,
        nodes=1,
        batch_rows=np.bincount(started[:, BATCH_ROWS], minlength=2).astype(np.int64),
        batch_reasons=np.bincount(started[:, BATCH_REASON], minlength=REASON_COUNT).astype(np.int64),
        busy_s=_overlap_s(starts, batches[:, BATCH_END_NS], window_ns),
        front_busy_s=math.nan if front_busy_s is None else front_busy_s,
        in_system_s=_overlap_s(left[:, ARRIVAL_NS], left[:, ANSWERED_NS], window_ns),
    )


def _overlap_s(start_ns: Ints, end_ns: Ints, window_ns: tuple[int, int]) -> float:
    """Seconds that spans pass within a window."""
    return float((np.clip(end_ns, *window_ns) - np.clip(start_ns, *window_ns)).sum()) * 1e-9
