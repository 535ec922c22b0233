"""What the reference writes down: a row per request, a line per batch, the front's spans, and who is present.

It decides nothing. Conservation of requests and Little's law are asserted from it.
"""

from __future__ import annotations

import numpy as np

from serve.policy.codes import CAUSE_FIRST
from serve.records import Rows, empty_rows
from serve.scheduler import Batch, Request
from sim.plane import Ints
from sim.tally import BATCH_WIDTH, Tally, tally_from_rows


class Ledger:
    """The record of one run; instants are ns of the simulated clock and never go back."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._client_ns: list[int] = []
        self._batches: dict[int, list[int]] = {}
        self._front_ns: list[tuple[int, int]] = []
        self._arrived = self._present = self._area_ns = self._area_at_ns = self._stayed_ns = 0

    def arrived(self, now_ns: int) -> None:
        """A request came in."""
        self._count_present(1, now_ns)
        self._arrived += 1

    def left(self, request: Request, outcome: int, reason: int, now_ns: int) -> None:
        """A request left, answered or not: its row."""
        self._count_present(-1, now_ns)
        trip, batch = request.payload, request.batch
        self._stayed_ns += now_ns - trip.arrival_ns
        replica, number, dispatch_ns, start_ns, done_ns = -1, -1, -1, -1, -1
        if batch is not None:
            replica, number, dispatch_ns = batch.replica, batch.id, batch.dispatch_ns
            start_ns, done_ns = batch.start_ns, batch.ended_ns
        asked = (request.id, 0, CAUSE_FIRST, request.deaths, trip.class_, request.rows, request.priority)
        met = (0, 0, replica, number, reason, outcome)
        instants = (trip.arrival_ns, request.enqueue_ns, dispatch_ns, start_ns, done_ns, now_ns)
        self._rows.append(asked + met + instants)
        self._client_ns.append(trip.client_ns)

    def front_worked(self, begin_ns: int, end_ns: int) -> None:
        """The front station is held from `begin_ns` to `end_ns`."""
        self._front_ns.append((begin_ns, end_ns))

    def batch_started(self, batch: Batch, now_ns: int) -> None:
        """A replica began a batch."""
        self._batches[batch.id] = [now_ns, -1, batch.rows, batch.reason]

    def batch_stopped(self, batch: Batch, now_ns: int) -> None:
        """A batch ended, or its replica died over it."""
        self._batches[batch.id][1] = now_ns

    def rows(self) -> Rows:
        """The rows of all requests that left, by request id."""
        rows = self._rows_as_left()
        return rows[np.argsort(rows[:, 0])]

    def batches(self) -> Ints:
        """The batch log (see `sim.tally`), in order of dispatch, of every batch that started."""
        log = [self._batches[i] for i in sorted(self._batches)]
        return np.array(log, np.int64).reshape(-1, BATCH_WIDTH)

    def tally(self, classes: int, time_bins: int, bin_ns: int, rows_max: int, slo_ns: Ints | None) -> Tally:
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
        )

    def check(self, present: int) -> None:
        """Conservation, and, exactly, Little's law whenever none of the requests is `present`."""
        assert self._arrived == len(self._rows) + present, "conservation: arrivals = left + present"
        if present == 0:
            assert self._stayed_ns == self._area_ns, "Little's law: the stays add up to the integral of those present"

    def _rows_as_left(self) -> Rows:
        return np.array(self._rows, np.int64) if self._rows else empty_rows(0)

    def _count_present(self, change: int, now_ns: int) -> None:
        """The integral of the number of requests present, exactly."""
        self._area_ns += self._present * (now_ns - self._area_at_ns)
        self._area_at_ns = now_ns
        self._present += change
