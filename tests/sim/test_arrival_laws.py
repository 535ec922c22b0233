"""Every stationary law has its rate *and* its variability; no value depends on the chunk; each draw is its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.law_moments import dispersion, rate_rps
from sim.laws import Arrivals
from sim.point_process import merged, within
from sim.processes import process_of
from tests.sim.point_processes import S, assert_mean, draws_of, idcs, instants, rates

SLOW, FAST = {"rate": "30/s", "dwell": "2s"}, {"rate": "150/s", "dwell": "500ms"}
TWO_STATES: dict[str, Any] = {"mmpp": {"states": [SLOW, FAST]}}
THREE_STATES: dict[str, Any] = {
    "mmpp": {
        "states": [
            {"rate": "10/s", "dwell": "1s"},
            {"rate": "40/s", "dwell": "2s"},
            {"rate": "100/s", "dwell": "500ms"},
        ],
        "next": [[0, 0.5, 0.5], [0.9, 0, 0.1], [0.3, 0.7, 0]],
    }
}
SESSIONS: dict[str, Any] = {"begin": {"poisson": "5/s"}, "requests": 8, "think": "10ms"}
RARE: dict[str, Any] = {"begin": {"constant": "0.01/s"}}
"""A session every 100 s: none begins before the one before it has ended."""


# -- rate and variability ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "finds"), [(0.5, 0.2), (1.0, 0.05), (3.0, 0.02)])
def test_weibull_gaps_have_their_first_two_moments(shape: float, finds: float) -> None:
    gaps = np.diff(instants({"weibull": {"rate": "100/s", "shape": shape}}, 2000)) / S
    law = stats.weibull_min(shape, scale=0.01 / math.gamma(1 + 1 / shape))
    assert len(gaps) > 150_000
    for order in (1, 2):
        # The moment's own standard error, from the law's moments; gaps are independent.
        error = math.sqrt((law.moment(2 * order) - law.moment(order) ** 2) / len(gaps))
        assert abs(float((gaps**order).mean()) - law.moment(order)) < 4.5 * error
        assert (4.5 + 2.33) * error < finds * law.moment(order), "an error of this share would be found"


def two_state_idc(scale_s: float) -> float:
    """IDC of TWO_STATES (Fischer and Meier-Hellstern 1993); its autocovariance decays at 1/2 + 1/0.5 a second."""
    change, mean, variance = 2.5, 54.0, 0.8 * 0.2 * 120.0**2
    return 1 + 2 * variance / (mean * change) * (1 + math.expm1(-change * scale_s) / (change * scale_s))


def test_an_mmpp_has_its_rate() -> None:
    assert rate_rps(Arrivals.model_validate(TWO_STATES)) == pytest.approx(54)
    assert_mean(rates(TWO_STATES, 400, 60), 54, finds=0.06)


@pytest.mark.parametrize(("scale_s", "finds"), [(0.1, 0.1), (1.0, 0.15), (10.0, 0.35)])
def test_an_mmpp_has_its_idc_at_every_scale(scale_s: float, finds: float) -> None:
    assert_mean(idcs(TWO_STATES, 400, scale_s, 60), two_state_idc(scale_s), finds)


def test_the_dispersion_of_an_mmpp_is_the_limit_of_its_idc() -> None:
    assert dispersion(Arrivals.model_validate(TWO_STATES)) == pytest.approx(two_state_idc(1e6), rel=1e-5)


def test_an_mmpp_follows_its_transitions() -> None:
    following = np.array(THREE_STATES["mmpp"]["next"])
    visits = np.full(3, 1 / 3)
    for _ in range(500):
        visits = visits @ (following + np.eye(3)) / 2  # the same law, and never periodic
    times = visits * [1, 2, 0.5]
    mean = float(times @ [10, 40, 100] / times.sum())
    arrivals = Arrivals.model_validate(THREE_STATES)
    assert rate_rps(arrivals) == pytest.approx(mean)
    assert_mean(rates(THREE_STATES, 1000, 60), mean, finds=0.05)
    limit = dispersion(arrivals)
    assert limit is not None
    assert_mean(idcs(THREE_STATES, 3000, 60, 40), limit, finds=0.35)


@pytest.mark.parametrize(("lengths", "expected"), [("geometric", 15.0), ("fixed", 8.0)])
def test_sessions_have_their_rate_and_dispersion(lengths: str, expected: float) -> None:
    """Var N / E N + E N of the requests N of a session, since sessions are short beside a bin."""
    law = {"sessions": {**SESSIONS, "lengths": lengths}}
    assert dispersion(Arrivals.model_validate(law)) == pytest.approx(expected)
    assert_mean(rates(law, 1000, 40), 40, finds=0.03)
    assert_mean(idcs(law, 2000, 10, 40), expected, finds=0.2)


def test_think_times_have_their_law() -> None:
    law = {**RARE, "requests": 40, "lengths": "fixed", "think": "500ms"}
    at_s = instants({"sessions": law}, 100_090) / S
    thinks = np.diff(at_s.reshape(-1, 40), axis=1).reshape(-1)
    assert len(thinks) == 1000 * 39
    assert stats.kstest(thinks, "expon", args=(0, 0.5)).pvalue > 1e-4
    constant = instants({"sessions": {**law, "thinks": "constant"}}, 1000)
    assert set(np.diff(constant.reshape(-1, 40), axis=1).reshape(-1).tolist()) == {S // 2}


def test_lengths_are_geometric_from_one_on() -> None:
    law = {**RARE, "requests": 3, "think": "1ms", "thinks": "constant"}
    lengths = np.bincount(instants({"sessions": law}, 1_000_050) // (100 * S))[1:]
    counts = np.bincount(lengths, minlength=12)
    chances = stats.geom.pmf(np.arange(1, 11), 1 / 3)
    observed = [*counts[1:11], counts[11:].sum()]
    assert stats.chisquare(observed, np.array([*chances, 1 - chances.sum()]) * len(lengths)).pvalue > 1e-4


def test_a_sum_has_the_rates_and_the_variances_of_its_members() -> None:
    law = {"sum": [{"poisson": "100/s"}, {"gamma": {"rate": "100/s", "cv": 3}}]}
    assert dispersion(Arrivals.model_validate(law)) == pytest.approx(5)
    assert_mean(rates(law, 500, 40), 200, finds=0.02)
    assert_mean(idcs(law, 1000, 10, 40), 5, finds=0.2)


# -- the same law at another rate ------------------------------------------------------------------------


def test_a_scaled_law_is_the_same_one_at_another_rate() -> None:
    assert np.array_equal(
        instants({"scaled": {"of": {"poisson": "50/s"}, "by": "x2"}}, 100), instants({"poisson": "100/s"}, 100)
    )
    states = [{**SLOW, "rate": "60/s"}, {**FAST, "rate": "300/s"}]
    doubled = {"scaled": {"of": {"scaled": {"of": TWO_STATES, "by": "x4"}}, "by": "x0.5"}}
    assert np.array_equal(instants(doubled, 100), instants({"mmpp": {"states": states}}, 100))


def test_scaled_sessions_keep_their_think_times() -> None:
    pairs = {"begin": {"constant": "1/s"}, "requests": 2, "lengths": "fixed", "think": "7ms", "thinks": "constant"}
    at_ns = instants({"scaled": {"of": {"sessions": pairs}, "by": "x2"}}, 10)
    assert at_ns[:4].tolist() == [S // 2, S // 2 + 7_000_000, S, S + 7_000_000]


# -- chunks and streams ------------------------------------------------------------------------------------

LAWS: dict[str, tuple[dict[str, Any], float]] = {
    "weibull": ({"weibull": {"rate": "50/s", "shape": 0.6}}, 8),
    "mmpp": (TWO_STATES, 8),
    "mmpp by a matrix": (THREE_STATES, 10),
    "diurnal": ({"diurnal": {"mean": "300/d", "hours": [1, 5, 2], "days": [1, 2, 3, 4, 5, 6, 0]}}, 2 * 86_400),
    "diurnal in steps": ({"diurnal": {"mean": "300/d", "hours": [0, 1], "between": "step", "offset": "7h"}}, 86_400),
    "sinusoid": ({"sinusoid": {"mean": "50/s", "amplitude": "50/s", "period": "3s", "cv": 2}}, 8),
    "ramp": ({"ramp": {"from": "0/s", "to": "100/s", "over": "5s"}}, 8),
    "ramp to nothing": ({"ramp": {"from": "100/s", "to": "0/s", "over": "5s", "cv": 0.3}}, 8),
    "spike": ({"spike": {"base": "10/s", "peak": "200/s", "at": "2s", "for": "1s", "up": "1s"}}, 8),
    "trend": ({"trend": {"rate": "20/s", "growth": "x2", "per": "3s"}}, 8),
    "decline": ({"trend": {"rate": "2000/s", "growth": "x0.001", "per": "1s"}}, 60),
    "sessions": ({"sessions": {**SESSIONS, "think": "1s"}}, 8),
    "sum": ({"sum": [{"poisson": "20/s"}, {"constant": "10/s"}, TWO_STATES]}, 8),
    "thinned": ({"thinned": {"of": {"sum": [{"poisson": "20/s"}, TWO_STATES]}, "keep": 0.5}}, 8),
    "all in one": (
        {
            "scaled": {
                "of": {"sum": [{"sessions": {**SESSIONS, "begin": TWO_STATES}}, {"poisson": "1/s"}]},
                "by": "x0.3",
            }
        },
        5,
    ),
}


@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(1, 300))
def test_the_size_of_a_chunk_changes_no_instant(name: str, chunk: int) -> None:
    arrivals, seconds = LAWS[name]
    whole = instants(arrivals, seconds)
    assert len(whole) > 20
    assert (np.diff(whole) >= 0).all()
    assert np.array_equal(instants(arrivals, seconds, chunk=chunk), whole)


@pytest.mark.parametrize("name", LAWS)
def test_replications_differ(name: str) -> None:
    arrivals, seconds = LAWS[name]
    assert not np.array_equal(instants(arrivals, seconds, 0), instants(arrivals, seconds, 1))


def test_members_of_a_sum_keep_their_draws() -> None:
    first: dict[str, Any] = {"poisson": "20/s"}
    law = Arrivals.model_validate(first)
    alone = next(process_of(law, Path(), 10 * S).instants(within(draws_of(), "0"), 10 * S, 150))
    for other in ({"poisson": "30/s"}, TWO_STATES):
        together = instants({"sum": [first, other]}, 10)
        assert np.isin(alone[alone < 10 * S], together).all(), "another member moved this one's requests"


def test_a_rare_member_of_a_busy_sum_does_not_leave_int64() -> None:
    rare = {"scaled": {"of": {"constant": "1e-6/s"}, "by": "x1e-6"}}
    at_ns = instants({"sum": [{"poisson": "500/s"}, rare]}, 20)
    assert np.array_equal(at_ns, np.sort(at_ns))
    assert abs(len(at_ns) - 10_000) < 450


def test_what_sessions_hold_does_not_move_their_beginnings() -> None:
    begins = instants({"sessions": {**SESSIONS, "requests": 1}}, 20)
    assert len(begins) > 50
    for change in ({"requests": 20}, {"think": "3s"}, {"lengths": "fixed"}):
        assert np.isin(begins, instants({"sessions": {**SESSIONS, **change}}, 20)).all()


@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4), min_size=1, max_size=4))
def test_merged_feeds_are_one_ascending_feed(pieces: list[list[list[int]]]) -> None:
    feeds, everything = [], []
    for of_feed in pieces:
        flat = sorted(value for piece in of_feed for value in piece)
        cuts = np.cumsum([len(piece) for piece in of_feed])[:-1] if of_feed else []
        feeds.append(iter(np.split(np.array(flat, np.int64), cuts)))
        everything += flat
    assert [int(at) for chunk in merged(feeds) for at in chunk] == sorted(everything)
