"""The Plane: what both simulators are given, do and return, so that the same code drives either.

A plane simulates one node (front, queue, replicas) and is advanced in time by its caller, which
adds control (replica up, dead, drain) between two advances. `sim.reference` is the SimPy plane
over the production scheduler, `sim.dataplane` the compiled one; from the same inputs they take the
same decision on every request, to the nanosecond.

Instants and spans are int64 ns. Chance enters only as the arrays of `Requests`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serve.policy.codes import OUTCOME_COUNT, REASON_COUNT
from serve.policy.front import FRONT_PARAM_COUNT
from serve.records import Rows
from serve.scheduler import SchedulerSpec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Service:
    """Service times as a table (see `serve.policy.service`) and the machine's level over time."""

    table: Ints  # ((pressure_max + 1) * (rows_max + 1)) << bits entries, flat
    bits: int
    rows_max: int
    pressure_max: int  # more busy neighbours than this count as this many
    levels: Floats = field(default_factory=lambda: np.ones(1))  # by start_ns // level_bin_ns; the last one lasts
    level_bin_ns: int = 2**62


@dataclass(frozen=True, slots=True)
class Node:
    """One node: the limits of its queue, its replicas, its front and its service times."""

    scheduler: SchedulerSpec
    replicas: int
    service: Service
    front: Ints = field(default_factory=lambda: free_front())  # vector of `serve.policy.front`
    retry_after_ns: int = 10_000_000  # what a refused closed-loop client waits at least


@dataclass(frozen=True, slots=True)
class Requests:
    """Arrays by request id, ids counting up from `first_id`; `draw` has one row per death survived.

    Open arrivals are ordered by `arrival_ns`. Closed-loop requests are indexed by
    k * clients + client for the k-th request of a client, and their `arrival_ns` is unused but for
    k = 0, where it is the instant of the client's first request.
    """

    arrival_ns: Ints
    rows: Ints
    class_: Ints
    priority: Ints
    timeout_ns: Ints  # NEVER_NS: none
    patience_ns: Ints  # the client cancels at arrival + patience; NEVER_NS: never
    client_ns: Ints  # what client and network add to the server's latency
    draw: Ints  # (deaths + 1, n), non-negative, uniform over int64: service of a batch led by this request
    first_id: int = 0

    def __len__(self) -> int:
        return len(self.arrival_ns)


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed-loop clients: after an answer a client thinks, then sends its next request."""

    class_: Ints  # by client
    think_ns: Ints  # by client; one think time for all its requests
    first_id: int = 2**40  # ids of closed-loop requests start here


class StopCode(IntEnum):
    """Why `advance` returned."""

    UNTIL = 0  # everything before `until`, and classes 0 and 1 at it, is handled
    STARVED = 1  # the open arrivals or closed-loop arrays that were fed ran out before `until`
    NO_REPLICA = 2  # an arrival met no replica that is up
    DRAINED = 3  # a draining replica finished its last batch
    FAILED = 4  # a request failed by its last death


@dataclass(frozen=True, slots=True)
class Stop:
    """Where an advance ended."""

    code: StopCode
    at_ns: int


# Columns of Tally.sums.
SUM_LATENCY_S = 0
SUM_LATENCY_SQUARED_S2 = 1
SUM_FRONT_S = 2
SUM_QUEUE_S = 3
SUM_SLOT_S = 4
SUM_COMPUTE_S = 5
SUM_ANSWER_S = 6
SUM_CLIENT_S = 7
SUM_COUNT = 8

HISTOGRAM_SUB_BITS = 8
"""Bins per octave are 2**8: a bin is 0.39 % wide."""
HISTOGRAM_BINS = 40 << HISTOGRAM_SUB_BITS
"""Latencies below 2**40 ns (18 minutes); longer ones fall into the last bin."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Histograms and sums of a run, flat in memory: by class, by time bin of the *arrival*.

    Only outcome ok enters `latency`, `sums` and `good`. Spans of the node (busy_s, front_busy_s,
    in_system_s) lie in the bins in which they pass, batches in the bin of their start.
    """

    bin_ns: int  # width of a time bin; the last one takes all that is later
    latency: Ints  # (classes, time bins, HISTOGRAM_BINS), client latency
    sums: Floats  # (classes, time bins, SUM_COUNT), over ok requests
    good: Ints  # (classes, time bins): ok within the class's SLO latency bound
    outcomes: Ints  # (classes, time bins, OUTCOME_COUNT)
    drop_reasons: Ints  # (classes, time bins, REASON_COUNT), of what was not ok
    batch_rows: Ints  # (time bins, rows_max + 1)
    batch_reasons: Ints  # (time bins, REASON_COUNT)
    busy_s: Floats  # (time bins,), summed over replicas
    front_busy_s: Floats  # (time bins,)
    in_system_s: Floats  # (time bins,), integral of the number of requests present (arrival to answer)


def empty_tally(classes: int, time_bins: int, bin_ns: int, rows_max: int) -> Tally:
    """A tally of nothing."""
    return Tally(
        bin_ns=bin_ns,
        latency=np.zeros((classes, time_bins, HISTOGRAM_BINS), np.int64),
        sums=np.zeros((classes, time_bins, SUM_COUNT)),
        good=np.zeros((classes, time_bins), np.int64),
        outcomes=np.zeros((classes, time_bins, OUTCOME_COUNT), np.int64),
        drop_reasons=np.zeros((classes, time_bins, REASON_COUNT), np.int64),
        batch_rows=np.zeros((time_bins, rows_max + 1), np.int64),
        batch_reasons=np.zeros((time_bins, REASON_COUNT), np.int64),
        busy_s=np.zeros(time_bins),
        front_busy_s=np.zeros(time_bins),
        in_system_s=np.zeros(time_bins),
    )


def free_front() -> Ints:
    """A front whose jobs take no time and which refuses nobody."""
    front = np.zeros(FRONT_PARAM_COUNT, np.int64)
    front[6] = -1
    return front


class Plane(Protocol):
    """One node under simulated time. Replicas are down until `ready`."""

    def feed(self, requests: Requests) -> None:
        """Hand over the next open arrivals (ids go on where the last chunk ended)."""

    def feed_closed(self, requests: Requests) -> None:
        """Hand over the next requests of the closed-loop clients."""

    def end_feed(self) -> None:
        """No more open arrivals will come: `advance` no longer stops STARVED."""

    def advance(self, until_ns: int) -> Stop:
        """Handle every event before `until_ns`, and classes 0 and 1 at it; return early where control must react."""

    def ready(self, replica: int) -> None:
        """Control, at the instant of the last stop: the replica is up."""

    def kill(self, replica: int) -> None:
        """Control: the replica dies (rule 8)."""

    def drain_replica(self, replica: int) -> None:
        """Control: the replica takes no more batches."""

    def drain(self) -> None:
        """Control: the node drains (rule 12)."""

    def rows(self) -> Rows:
        """The rows of all finished requests, by request id (planes built to keep rows)."""

    def tally(self) -> Tally:
        """Histograms and sums so far (planes built to tally)."""
