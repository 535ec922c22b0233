"""What a tick sees: scrapes of a certain age, and differences over a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.scaling.metering import Change, Counters, Gauges, Scrape, Scrapes, concurrency, utilisation_percent

S = 10**9


def scraped(count: int, keep_s: int = 60, every_s: int = 5) -> Scrapes:
    """One request in flight and a half-busy replica, read each `every_s`."""
    scrapes = Scrapes(keep_s * S)
    for k in range(1, count + 1):
        at_ns = k * every_s * S
        scrapes.add(Scrape(at_ns, Counters(at_ns // 2, at_ns, 0, k, k, k, 0), Gauges(0, k, 1)))
    return scrapes


@pytest.mark.parametrize(
    ("now_s", "age_s", "at_s"), [(4, 0, None), (5, 0, 5), (14, 0, 10), (15, 1, 10), (16, 1, 15), (999, 0, 50)]
)
def test_a_tick_sees_the_newest_scrape_that_is_old_enough(now_s: int, age_s: int, at_s: int | None) -> None:
    seen = scraped(10).seen(now_s * S, age_s * S)
    assert (None if seen is None else seen.at_ns // S) == at_s


@pytest.mark.parametrize(("window_s", "span_s"), [(5, 5), (6, 10), (10, 10), (14, 15), (45, 45), (500, 45)])
def test_a_window_begins_at_a_scrape_or_at_the_first(window_s: int, span_s: int) -> None:
    change = scraped(10).over(50 * S, 0, window_s * S)
    assert change is not None
    assert change.span_ns == span_s * S
    assert change.counters.arrivals == span_s // 5


def test_one_scrape_is_no_window() -> None:
    assert scraped(1).over(9 * S, 0, S) is None
    assert scraped(2).over(9 * S, 0, S) is None, "the second has not been seen yet"
    assert scraped(2).over(10 * S, 0, S) is not None


def test_what_is_older_than_the_windows_is_forgotten_and_nothing_that_is_needed() -> None:
    scrapes = scraped(1000, keep_s=60)
    assert len(scrapes._scrapes) <= 60 // 5 + 2
    change = scrapes.over(5000 * S, 0, 60 * S)
    assert change is not None and change.span_ns == 60 * S


@given(busy=st.integers(0, 10 * S), threads=st.integers(1, 8))
def test_cpu_is_busy_time_by_threads_over_the_request(busy: int, threads: int) -> None:
    change = Change(Counters(busy_ns=busy), 10 * S)
    percent = utilisation_percent(change, threads, 2000)
    assert percent <= busy / (10 * S) * threads / 2 * 100 < percent + 1


def test_concurrency_is_a_mean_over_time() -> None:
    assert concurrency(Change(Counters(ongoing_ns=25 * S), 10 * S)) == 2.5
