"""Requests counted in successive intervals: read from a file, and put at instants within them.

As a Poisson process or evenly spaced they are a rate over time (`sim.curves.of_counts`); exactly so many
at random instants are `Scattered` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import SpecError
from sim.columns import Floats, Place, check, numbers, objects, read_table
from sim.point_process import Draws, Ints

COUNT_MAX = 1e12
"""Larger counts of one interval are taken for something else and refused."""
SCATTERED_MAX = 5e7
"""Requests of one interval at random instants, which are drawn and sorted together: about 4 GB."""


def load(path: Path, column: str = "count", first: int = 0, end: int | None = None) -> Floats:
    """The counts of a file's successive intervals, from the first asked for to before the end.

    Raises
    ------
    SpecError : no such column, nothing counted, or values that are no counts, each with its line.
    """
    table = read_table(path, (column,), "counts")
    if column not in table.column_names:
        found = ", ".join(table.column_names) or "none"
        raise SpecError.of(path, column, f"must be a column of the counts, got columns {found}")
    place = Place.of(path)
    counts, faults = numbers(place, column, objects(table, column))
    unfit = ~((counts >= 0) & (counts <= COUNT_MAX))
    check(path, faults + place.faults(column, unfit, counts, f"must be a count from 0 to {COUNT_MAX:g}"))
    counts = counts[first:end]
    if first and not len(counts):
        raise SpecError.of(path, column, f"has no intervals from number {first} on, counted from 0")
    if not counts.any():
        raise SpecError.of(path, column, "counts no requests in any interval")
    return counts


def whole(counts: Floats) -> Ints:
    """Whole counts whose sums are at every interval those of `counts`, rounded: nothing is lost by scaling."""
    return np.diff(np.rint(np.cumsum(counts)), prepend=0.0).astype(np.int64)


def scattered(path: Path, column: str, counts: Floats, interval_ns: int) -> Scattered:
    """So many requests, rounded, in each interval; SpecError, by the file that they are of, where one has too many."""
    most = float(counts.max())
    if most > SCATTERED_MAX:
        message = f"must, once scaled, be at most {SCATTERED_MAX:g} in an interval for `within: uniform`, got {most:g}"
        raise SpecError.of(path, column, f"{message}; take poisson, or shorter intervals")
    return Scattered(whole(counts), interval_ns)


@dataclass(frozen=True, slots=True)
class Scattered:
    """So many requests in each interval, at random instants: a Poisson process, given its counts."""

    counts: Ints  # by interval
    interval_ns: int

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Arrival instants, whole intervals at a time: about `chunk` of them, more where one interval has more."""
        places = draws("places")
        until = np.cumsum(self.counts)
        first = 0
        while first < len(until) and first * self.interval_ns < duration_ns:
            done = int(until[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(until, done + chunk, side="right")))
            own = self.counts[first:last]
            start_ns = np.repeat(np.arange(first, last) * self.interval_ns, own)
            into_ns = np.floor(places.random(len(start_ns)) * self.interval_ns).astype(np.int64)
            if len(start_ns):
                yield np.sort(start_ns + np.minimum(into_ns, self.interval_ns - 1))
            first = last

    def requests(self, duration_ns: int) -> float:
        """Requests counted in a run so long; of an interval that it cuts, the part."""
        until = np.concatenate([[0], np.cumsum(self.counts)])
        return float(np.interp(duration_ns / self.interval_ns, np.arange(len(until)), until))
