"""Scheduled scaling: counts or bounds by the time of the week, alone or around another policy.

Ours; the same idea as AWS scheduled actions (they set minimum and maximum at an instant) and KEDA's cron scaler.
The offset to UTC is fixed: a change to summer time is a change of settings.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import MINUTE_NS

DAY_NS = 24 * 60 * MINUTE_NS
WEEK_NS = 7 * DAY_NS
EPOCH_NS = 3 * DAY_NS
"""Time of the week at Unix time 0, a Thursday, 00:00 UTC; the week begins on Monday, 00:00."""
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Entry(NamedTuple):
    """From `from_ns` after Monday, 00:00 local time, on: at least `least` and at most `most` replicas."""

    from_ns: int
    least: int
    most: int


def fixed(from_ns: int, count: int) -> Entry:
    """An entry that leaves no choice."""
    return Entry(from_ns, count, count)


@dataclass(frozen=True, slots=True)
class ScheduledSettings:
    """The week's entries, by `from_ns` strictly ascending; the last one also holds until the first of the next week.

    `utc_offset_ns`: local time less UTC. `starts_ns`: Unix time (UTC) at `now_ns` 0.
    """

    entries: tuple[Entry, ...]
    utc_offset_ns: int = 0
    starts_ns: int = 0


class ScheduledSample(NamedTuple):
    """The instant and the count set now."""

    now_ns: int
    replicas: int


def time_of_week_ns(settings: ScheduledSettings, now_ns: int) -> int:
    """Local time since Monday, 00:00."""
    return (now_ns + settings.starts_ns + settings.utc_offset_ns + EPOCH_NS) % WEEK_NS


def entry_at(settings: ScheduledSettings, now_ns: int) -> Entry:
    """The entry in force at `now_ns`: the last one that has begun, else the week's last."""
    begun = bisect_right([entry.from_ns for entry in settings.entries], time_of_week_ns(settings, now_ns))
    return settings.entries[begun - 1]


def clock_time(from_ns: int) -> str:
    """A time of the week to the minute: `Mon 08:00`."""
    day, within_ns = divmod(from_ns, DAY_NS)
    return f"{DAYS[day]} {within_ns // (60 * MINUTE_NS):02d}:{within_ns // MINUTE_NS % 60:02d}"


class Scheduled:
    """A schedule, alone (`decide`) or around another policy's decision (`within`); it has no state."""

    def __init__(self, settings: ScheduledSettings) -> None:
        starts = [entry.from_ns for entry in settings.entries]
        assert starts and starts == sorted(set(starts)) and starts[0] >= 0 and starts[-1] < WEEK_NS
        assert all(0 <= entry.least <= entry.most for entry in settings.entries)
        self.settings = settings

    def decide(self, sample: ScheduledSample) -> Decision:
        """The count set now, brought within the bounds in force."""
        return self.within(sample.now_ns, Decision(sample.replicas, "within its schedule"))

    def within(self, now_ns: int, decision: Decision) -> Decision:
        """Another policy's decision within the bounds in force."""
        entry = entry_at(self.settings, now_ns)
        since = f"scheduled from {clock_time(entry.from_ns)}"
        if entry.least == entry.most:
            return Decision(entry.least, f"{since}: {entry.least}")
        if decision.wanted < entry.least:
            return Decision(entry.least, f"{since}: at least {entry.least}")
        if decision.wanted > entry.most:
            return Decision(entry.most, f"{since}: at most {entry.most}")
        return decision
