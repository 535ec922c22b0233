"""Clock-hours: what a commitment covers is counted anew in each, from the full hour on.

AWS: "Each clock-hour starts on the hour (zero minutes and zero seconds past the hour)" (EC2 user guide,
How you are billed, Usage billing).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

HOUR_NS = 3600 * 10**9


def clock_hours(starts: datetime, from_ns: int, until_ns: int) -> Iterator[tuple[int, int]]:
    """(start, end) in ns of each clock-hour between two instants of a run that begins at `starts`.

    The first and the last may be parts of an hour. Hours are those of the clock that `starts` is read from.

    >>> list(clock_hours(datetime(2026, 3, 2, 8, 59, 59), 0, 2 * 10**9))
    [(0, 1000000000), (1000000000, 2000000000)]
    """
    past_ns = ((starts.minute * 60 + starts.second) * 10**6 + starts.microsecond) * 1000
    for hour in range((from_ns + past_ns) // HOUR_NS, -(-(until_ns + past_ns) // HOUR_NS)):
        yield max(from_ns, hour * HOUR_NS - past_ns), min(until_ns, (hour + 1) * HOUR_NS - past_ns)
