"""What the reference writes down: a row per request, a line per batch, the front's spans, and who is present.

It decides nothing. Conservation of requests and Little's law are asserted from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serve.policy.codes import OUTCOME_COUNT
from serve.records import ATTEMPT, REQUEST, Rows, empty_rows
from serve.scheduler import Batch, Request
from sim.plane import Ints
from sim.tally import BATCH_WIDTH, REQUEST_COLUMNS, Routed, Tally, tally_from_rows


class Ledger:
    """The record of one run; instants are ns of the simulated clock and never go back."""

    def __init__(self, routed: bool = False) -> None:
        self._routed = routed
        self._requests: list[tuple[int, ...]] = []
        self._rows: list[tuple[int, ...]] = []
        self._client_ns: list[int] = []
        self._first_ns: list[int] = []
        self._wanted: list[bool] = []
        self._batches: dict[tuple[int, int], list[int]] = {}
        self._front_ns: list[tuple[int, int]] = []
        self._arrived = self._left = self._present = self._area_ns = self._area_at_ns = self._stayed_ns = 0

    def arrived(self, now_ns: int) -> None:
        """A request came in."""
        self._count_present(1, now_ns)
        self._arrived += 1

    def left(self, request: Request, now_ns: int) -> None:
        """A request left its node, answered or not."""
        self._count_present(-1, now_ns)
        self._left += 1
        self._stayed_ns += now_ns - request.payload.arrival_ns

    def row(self, request: Request, node: int, outcome: int, reason: int, left_ns: int, wanted: bool = True) -> None:
        """What is known of a request that left its node, or of an attempt that the router has heard of: `wanted`, if
        its client still waited."""
        trip, batch = request.payload, request.batch
        replica, number, dispatch_ns, start_ns, done_ns = -1, -1, -1, -1, -1
        if batch is not None:
            replica, number, dispatch_ns = batch.replica, batch.id, batch.dispatch_ns
            start_ns, done_ns = batch.start_ns, batch.ended_ns
        attempt = trip.attempt if self._routed else 0
        asked = (request.id, attempt, trip.cause, request.deaths, trip.class_, request.rows, request.priority)
        met = (node, 0, replica, number, reason, outcome)
        instants = (trip.arrival_ns, request.enqueue_ns, dispatch_ns, start_ns, done_ns, left_ns)
        self._rows.append(asked + met + instants)
        self._client_ns.append(trip.client_ns)
        self._first_ns.append(trip.first_ns)
        self._wanted.append(wanted)

    def settled(self, attempt: Request, outcome: int, reason: int, stay_ns: int, now_ns: int) -> None:
        """A request that a router sent has come to its end for its client, by an attempt that stayed so long."""
        trip = attempt.payload
        instants = (trip.first_ns, now_ns, trip.client_ns, stay_ns)
        self._requests.append((trip.class_, outcome, reason, *instants, attempt.rows))

    def front_worked(self, begin_ns: int, end_ns: int) -> int:
        """A front station is held from `begin_ns` to `end_ns`; the span's number."""
        self._front_ns.append((begin_ns, end_ns))
        return len(self._front_ns) - 1

    def front_stopped(self, number: int, now_ns: int) -> None:
        """What is left of a span does not come about (-1: of none)."""
        if number >= 0:
            begin_ns, end_ns = self._front_ns[number]
            self._front_ns[number] = (begin_ns, min(end_ns, now_ns))

    def batch_started(self, batch: Batch, node: int, now_ns: int) -> None:
        """A replica of a node began a batch."""
        self._batches[node, batch.id] = [now_ns, -1, batch.rows, batch.reason, node]

    def batch_stopped(self, batch: Batch, node: int, now_ns: int) -> None:
        """A batch ended, or its replica died over it."""
        self._batches[node, batch.id][1] = now_ns

    def rows(self) -> Rows:
        """The rows of all attempts that left their node, by (request, attempt)."""
        rows = self._rows_as_left()
        return rows[np.lexsort((rows[:, ATTEMPT], rows[:, REQUEST]))]

    def batches(self) -> Ints:
        """The batch log (see `sim.tally`), by node in order of dispatch, of every batch that started."""
        log = [self._batches[i] for i in sorted(self._batches)]
        return np.array(log, np.int64).reshape(-1, BATCH_WIDTH)

    def outcomes(self, classes: int) -> Ints:
        """(classes, OUTCOME_COUNT): requests that a router has seen the end of."""
        counts = np.zeros((classes, OUTCOME_COUNT), np.int64)
        ended = np.array([request[:2] for request in self._requests], np.int64).reshape(-1, 2)
        np.add.at(counts, (ended[:, 0], ended[:, 1]), 1)
        return counts

    def tally(
        self,
        classes: int,
        time_bins: int,
        bin_ns: int,
        rows_max: int,
        slo_ns: Ints | None,
        groups: Sequence[int],
        fine: tuple[int, int],
    ) -> Tally:
        """Histograms and sums so far, computed from the rows."""
        return tally_from_rows(
            self._rows_as_left(),
            np.array(self._client_ns, np.int64),
            classes,
            time_bins,
            bin_ns,
            rows_max=rows_max,
            slo_ns=slo_ns,
            batches=self.batches(),
            front_ns=np.array(self._front_ns, np.int64).reshape(-1, 2),
            routed=self._as_settled() if self._routed else None,
            groups=groups,
            fine=fine,
        )

    def _as_settled(self) -> Routed:
        requests = np.array(self._requests, np.int64).reshape(-1, len(REQUEST_COLUMNS))
        return Routed(requests, np.array(self._first_ns, np.int64), np.array(self._wanted, bool))

    def check(self, present: int) -> None:
        """Conservation, and, exactly, Little's law whenever none of the requests is `present`."""
        assert self._arrived == self._left + present, "conservation: arrivals = left + present"
        if present == 0:
            assert self._stayed_ns == self._area_ns, "Little's law: the stays add up to the integral of those present"

    def _rows_as_left(self) -> Rows:
        return np.array(self._rows, np.int64) if self._rows else empty_rows(0)

    def _count_present(self, change: int, now_ns: int) -> None:
        """The integral of the number of requests present, exactly."""
        self._area_ns += self._present * (now_ns - self._area_at_ns)
        self._area_at_ns = now_ns
        self._present += change
