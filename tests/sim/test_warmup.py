"""Warm-up: what starts empty is cut, what starts as it goes on is kept, and never more than half."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sim.warmup import bins_cut


def test_a_start_from_empty_is_cut() -> None:
    course = 1 - np.exp(-np.arange(40) / 2.5)
    rng = np.random.default_rng(0)
    counts = np.full((20, 40), 100.0)
    latency = counts * (course + rng.normal(0, 0.02, (20, 40)))
    assert 5 <= bins_cut(latency, counts) <= 20


def test_a_flat_course_loses_little() -> None:
    rng = np.random.default_rng(1)
    cuts = []
    for _ in range(200):
        counts = np.full((20, 40), 100.0)
        cuts.append(bins_cut(counts * (1 + rng.normal(0, 0.05, (20, 40))), counts))
    assert np.median(cuts) <= 4


@given(
    latency=arrays.arrays(float, (3, 40), elements=st.floats(0, 1e6)),
    counts=arrays.arrays(float, (3, 40), elements=st.integers(0, 1000).map(float)),
)
def test_never_more_than_half_is_cut(latency: np.ndarray, counts: np.ndarray) -> None:
    assert 0 <= bins_cut(latency, counts) <= 20
