"""The last times in order: against sorting them anew."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from serve.policy.codes import NEVER_NS
from serve.policy.recent import SHARE_MIN, length, note, percentile_ns


@given(
    size=st.integers(1, 12),
    times=st.lists(st.integers(0, 9) | st.integers(0, 2**60), max_size=60),
    percent=st.integers(1, 100),
)
def test_the_last_times_are_in_order_and_a_percentile_is_one_of_them(size: int, times: list[int], percent: int) -> None:
    recent = [0] * length(size)
    for i, time_ns in enumerate(times):
        note(recent, size, time_ns)
        last = sorted(times[max(0, i + 1 - size) : i + 1])
        assert recent[1 + size : 1 + size + len(last)] == last
        known = last[math.ceil(percent * len(last) / 100) - 1] if len(last) * SHARE_MIN >= size else NEVER_NS
        assert percentile_ns(recent, size, percent) == known


def test_a_percentile_takes_a_tenth_of_the_times() -> None:
    recent = [0] * length(1000)
    for i in range(99):
        note(recent, 1000, i)
        assert percentile_ns(recent, 1000, 95) == NEVER_NS
    note(recent, 1000, 99)
    assert percentile_ns(recent, 1000, 95) == 94
