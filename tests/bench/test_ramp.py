"""What the ramp's figures are made of: the load, steps over time, and the share of ticks within a band."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench import ramp
from serve.deployment import Deployment
from serve.files import parse, plain
from serve.policy.scaling.decision import Decision
from serve.scaling_log import Logged, Tick
from tests.profiles import Synthetic, write_profile


def logged(counts: list[int], tick_ns: int = 10**9) -> Logged:
    """A log of ticks at which so many counted, all replayed but the first."""
    yes, no = Decision(1, "yes"), Decision(2, "no")
    ticks = [Tick((k + 1) * tick_ns, 0, 0, n, n, yes, no if k == 0 else yes) for k, n in enumerate(counts)]
    return Logged(0, ticks)


def test_a_run_is_within_the_band_where_its_replicas_are() -> None:
    counts = np.array([[1, 1, 2, 4], [1, 2, 3, 4], [1, 2, 2, 4]])
    found = ramp.compared(logged([1, 1, 4, 4]), counts)
    assert (found["within"], found["replayed"], found["missed"]) == (0.75, 0.75, 0)
    assert (found["width"], found["off"]) == (0.5, (0 + 1 + 2 + 0) / 4)
    assert found["live"] == [[0, 1], [2, 4]] and found["low"] == [[0, 1], [2, 2], [3, 4]]


def test_a_tick_that_is_not_logged_is_missed_and_counts_neither_way() -> None:
    one = logged([1, 1, 9, 4])
    del one.ticks[2]
    found = ramp.compared(one, np.array([[1, 1, 2, 4]]))
    assert (found["within"], found["missed"], found["ticks"]) == (1.0, 1, 3)


def test_runs_are_laid_over_each_other_from_the_ramps_start_on() -> None:
    found = {"live": [[0, 1], [2, 5]], "tick_s": 2.0, "offset_s": 1.0}
    over = ramp.over_time(found)
    assert over[:50].tolist() == [1] * 50 and set(over[50:].tolist()) == {5}, "the third tick, at 6 s, is 5 s after"
    assert ramp.distance([over, over + 2]) == 2.0


def test_the_load_follows_its_knots_and_is_the_same_each_time() -> None:
    at_s = ramp.arrivals_ns() / 1e9
    assert np.array_equal(at_s, ramp.arrivals_ns() / 1e9)
    for start_s, end_s, level in ((0, 10, 0.2), (50, 80, 6.0), (120, 160, 0.2), (10, 50, 3.1)):
        expected = level * ramp.CAPACITY_RPS * (end_s - start_s)
        assert abs(np.count_nonzero((at_s >= start_s) & (at_s < end_s)) - expected) < 4 * expected**0.5


def test_each_policy_is_served_and_simulated_by_one_deployment(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, Synthetic(base_ms=ramp.SERVICE_MS, row_ms=0.0, rows=(1,), busy=range(ramp.MOST)))
    for policy in ("hpa", "kpa", "ray_serve"):
        deployment = ramp.deployment_of(policy, profile)
        assert parse(plain(deployment), Deployment, "d.yaml") == deployment
    at_ns = np.arange(0, 2 * 10**9, 10**7, dtype=np.int64)
    counts = ramp.predicted(ramp.deployment_of("kpa", profile), tmp_path, at_ns, [10**8], 2 * 10**9)
    assert counts.shape == (ramp.REPLICATIONS, 20), "a tick each 100 ms"
    assert counts[:, 0].tolist() == [1] * ramp.REPLICATIONS and counts.max() > 1
