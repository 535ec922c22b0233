"""A week's schedule: which entry is in force, and what it makes of a count or of another policy's decision."""

from __future__ import annotations

import pytest

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import MINUTE_NS
from serve.policy.scaling.scheduled import (
    DAY_NS,
    WEEK_NS,
    Entry,
    Scheduled,
    ScheduledSample,
    ScheduledSettings,
    clock_time,
    entry_at,
    fixed,
    time_of_week_ns,
)

HOUR_NS = 60 * MINUTE_NS
MONDAY_NS = 20_514 * DAY_NS
"""2026-03-02, 00:00 UTC."""
DAYTIME, NIGHT, WEEKEND = fixed(8 * HOUR_NS, 4), fixed(20 * HOUR_NS, 1), Entry(5 * DAY_NS, 0, 2)
WEEK = (DAYTIME, NIGHT, WEEKEND)


def _settings(utc_offset_ns: int = 0) -> ScheduledSettings:
    return ScheduledSettings(WEEK, utc_offset_ns, MONDAY_NS)


@pytest.mark.parametrize(
    ("now_ns", "entry"),
    [
        (0, WEEKEND),
        (8 * HOUR_NS - 1, WEEKEND),
        (8 * HOUR_NS, DAYTIME),
        (20 * HOUR_NS - 1, DAYTIME),
        (20 * HOUR_NS, NIGHT),
        (2 * DAY_NS, NIGHT),
        (5 * DAY_NS - 1, NIGHT),
        (5 * DAY_NS, WEEKEND),
        (WEEK_NS - 1, WEEKEND),
    ],
)
def test_the_entry_in_force_is_the_last_that_has_begun(now_ns: int, entry: Entry) -> None:
    assert entry_at(_settings(), now_ns) == entry
    assert entry_at(_settings(), now_ns + 3 * WEEK_NS) == entry, "the same every week"


@pytest.mark.parametrize(("offset_hours", "begins_at_utc_hour"), [(0, 8), (1, 7), (-5, 13), (8, 0)])
def test_entries_are_local_time(offset_hours: int, begins_at_utc_hour: int) -> None:
    settings = _settings(offset_hours * HOUR_NS)
    assert entry_at(settings, begins_at_utc_hour * HOUR_NS - 1) == WEEKEND
    assert entry_at(settings, begins_at_utc_hour * HOUR_NS) == DAYTIME


def test_unix_time_begins_on_a_thursday() -> None:
    assert time_of_week_ns(ScheduledSettings(WEEK), 0) == 3 * DAY_NS
    assert time_of_week_ns(ScheduledSettings(WEEK), 4 * DAY_NS) == 0
    assert time_of_week_ns(_settings(), 0) == 0


def test_one_entry_holds_for_the_whole_week() -> None:
    settings = ScheduledSettings((fixed(DAY_NS, 3),))
    assert {entry_at(settings, hour * HOUR_NS) for hour in range(0, 169, 12)} == {fixed(DAY_NS, 3)}


@pytest.mark.parametrize(
    ("now_ns", "replicas", "decision"),
    [
        (8 * HOUR_NS, 1, Decision(4, "scheduled from Mon 08:00: 4")),
        (8 * HOUR_NS, 9, Decision(4, "scheduled from Mon 08:00: 4")),
        (5 * DAY_NS, 4, Decision(2, "scheduled from Sat 00:00: at most 2")),
        (5 * DAY_NS, 2, Decision(2, "within its schedule")),
        (5 * DAY_NS, 0, Decision(0, "within its schedule")),
    ],
)
def test_alone_it_brings_the_count_within_bounds(now_ns: int, replicas: int, decision: Decision) -> None:
    assert Scheduled(_settings()).decide(ScheduledSample(now_ns, replicas)) == decision


@pytest.mark.parametrize(
    ("wanted", "bounded"),
    [
        (2, Decision(3, "scheduled from Mon 00:00: at least 3")),
        (3, Decision(3, "load")),
        (5, Decision(5, "load")),
        (6, Decision(5, "scheduled from Mon 00:00: at most 5")),
    ],
)
def test_around_another_policy_it_changes_only_what_is_out_of_bounds(wanted: int, bounded: Decision) -> None:
    schedule = Scheduled(ScheduledSettings((Entry(0, 3, 5),)))
    assert schedule.within(0, Decision(wanted, "load")) == bounded


@pytest.mark.parametrize(
    ("from_ns", "text"),
    [(0, "Mon 00:00"), (DAY_NS - 1, "Mon 23:59"), (3 * DAY_NS + 9 * HOUR_NS + 5 * MINUTE_NS, "Thu 09:05")],
)
def test_times_of_the_week_are_written_to_the_minute(from_ns: int, text: str) -> None:
    assert clock_time(from_ns) == text


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param((), id="none"),
        pytest.param((NIGHT, DAYTIME), id="unsorted"),
        pytest.param((DAYTIME, DAYTIME), id="twice"),
        pytest.param((fixed(-1, 1),), id="before the week"),
        pytest.param((fixed(WEEK_NS, 1),), id="after the week"),
        pytest.param((Entry(0, 3, 2),), id="least above most"),
        pytest.param((Entry(0, -1, 2),), id="negative"),
    ],
)
def test_a_schedule_that_the_border_should_have_refused_is_a_bug(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(AssertionError):
        Scheduled(ScheduledSettings(entries))
