"""Metrics for control (rule 13): counters that only grow, scraped at fixed instants, and what a tick sees of them.

A queue or replica counts; a scrape reads all its counters at once. A tick sees the newest scrape that is old enough to
have reached it. What it calls a value over a window is a difference of two scrapes over the time between them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class Counters(NamedTuple):
    """Of one queue or replica since it came up; each never falls.

    `busy_ns`: computing. `ongoing_ns`, `waiting_ns`: integrals over time of the requests enqueued and not answered,
    and of those not dispatched. `wait_ns`: what dispatched requests had waited, together.
    """

    busy_ns: int = 0
    ongoing_ns: int = 0
    waiting_ns: int = 0
    arrivals: int = 0
    rows: int = 0
    answers: int = 0
    wait_ns: int = 0


class Meter:
    """Counters that are kept: integrals up to the last change of what they are over, and what happened."""

    def __init__(self) -> None:
        self.busy_ns = self.ongoing_ns = self.waiting_ns = 0
        self.arrivals = self.rows = self.answers = self.wait_ns = 0
        self._until_ns = 0

    def pass_until(self, now_ns: int, running: int, ongoing: int, waiting: int) -> None:
        """So many replicas have computed, and so many requests been there, since the last time; a live engine's
        instants are not quite in order."""
        span_ns = max(0, now_ns - self._until_ns)
        self._until_ns += span_ns
        self.busy_ns += running * span_ns
        self.ongoing_ns += ongoing * span_ns
        self.waiting_ns += waiting * span_ns

    @property
    def counters(self) -> Counters:
        """As they are."""
        spans = (self.busy_ns, self.ongoing_ns, self.waiting_ns)
        return Counters(*spans, self.arrivals, self.rows, self.answers, self.wait_ns)


class Gauges(NamedTuple):
    """As of the scrape: requests waiting, requests enqueued and not answered, and replicas that take batches."""

    waiting: int = 0
    ongoing: int = 0
    ready: int = 0


class Scrape(NamedTuple):
    """One reading."""

    at_ns: int
    counters: Counters
    gauges: Gauges


class Change(NamedTuple):
    """What was counted between two scrapes, and the time between them (above 0)."""

    counters: Counters
    span_ns: int


class Scrapes:
    """The readings of one queue or replica, as long as a window of `keep_ns` needs them."""

    def __init__(self, keep_ns: int) -> None:
        self._keep_ns = keep_ns
        self._at_ns: list[int] = []
        self._scrapes: list[Scrape] = []

    def add(self, scrape: Scrape) -> None:
        """The next reading, later than all before it."""
        assert not self._at_ns or scrape.at_ns > self._at_ns[-1], "scrapes come in order"
        self._at_ns.append(scrape.at_ns)
        self._scrapes.append(scrape)
        spare = bisect_right(self._at_ns, scrape.at_ns - self._keep_ns) - 1
        if spare > 0:
            del self._at_ns[:spare], self._scrapes[:spare]

    def seen(self, now_ns: int, age_ns: int) -> Scrape | None:
        """The newest one of which a tick at `now_ns` knows: `age_ns` old or older; None if there is none."""
        index = bisect_right(self._at_ns, now_ns - age_ns) - 1
        return self._scrapes[index] if index >= 0 else None

    def over(self, now_ns: int, age_ns: int, window_ns: int) -> Change | None:
        """From the newest scrape at least `window_ns` before the one seen, else the first of all; None of fewer than
        two scrapes.

        `keep_ns` must reach back over age and window.
        """
        last = bisect_right(self._at_ns, now_ns - age_ns) - 1
        if last < 1:
            return None
        first = max(0, bisect_right(self._at_ns, self._at_ns[last] - window_ns, hi=last) - 1)
        before, after = self._scrapes[first], self._scrapes[last]
        grown = (b - a for a, b in zip(before.counters, after.counters, strict=True))
        return Change(Counters(*grown), after.at_ns - before.at_ns)


def utilisation_percent(change: Change, threads: int, cores_milli: int) -> int:
    """CPU in whole per cent of the cores requested, truncated: time computing x threads, never the system's figure.

    `cores_milli` is the request in thousandths of a core, as Kubernetes writes it.
    """
    return change.counters.busy_ns * threads * 100_000 // (change.span_ns * cores_milli)


def concurrency(change: Change) -> float:
    """Requests in flight, time-weighted mean."""
    return change.counters.ongoing_ns / change.span_ns
