"""Every generator in one table: its rate *and* its variability, by itself, at x1.5 and beside another law.

The measure is one for all of them, stationary or not: counts N of successive times of one length, m of which are to
be expected by the law's integral, written here by hand. The mean of N / m over a run is 1, and that of (N - m)^2 / m
is the index of dispersion. `assert_mean` holds both, and itself to the error that it would find: 2 % of the rate
(6 % of MMPP and sessions, whose counts scatter most) and 35 % of the dispersion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sim.dispersion import counts_of
from sim.laws import Arrivals
from tests.sim.point_processes import Floats, S, assert_mean, instants

REPLICATIONS = 40
FACTOR = 1.5
DAY_S = 86_400.0
COUNTED = [900, 1100, 1500, 500] * 10
"""Requests in each 10 s of the file of counts."""


@dataclass(frozen=True)
class Known:
    """A law, and what theory says of it."""

    arrivals: dict[str, Any]
    bin_s: float
    bins: int
    expected: Callable[[Floats], Floats]  # requests until so many seconds
    idc: float  # of a bin; 0: as many as expected, but for one that lies on an edge
    at_factor: float | None = None  # idc of the law at x1.5, where it is another one
    finds: float = 0.02  # error of the rate that would be found

    @property
    def seconds(self) -> float:
        """Length of a run."""
        return self.bin_s * self.bins

    @property
    def edges_s(self) -> Floats:
        """Where bins begin and end."""
        return np.arange(self.bins + 1) * self.bin_s


def steady(arrivals: dict[str, Any], rate_rps: float, idc: float, bin_s: float, **more: Any) -> Known:
    """A law of a constant mean rate."""
    return Known(arrivals, bin_s, 40, lambda t: rate_rps * t, idc, **more)


def two_state_idc(scale_s: float, factor: float = 1.0) -> float:
    """Of the MMPP below (Fischer and Meier-Hellstern 1993): its autocovariance decays at 1/2 + 1/0.5 a second."""
    change, mean, variance = 2.5, 54.0 * factor, 0.8 * 0.2 * (120.0 * factor) ** 2
    return 1 + 2 * variance / (mean * change) * (1 + math.expm1(-change * scale_s) / (change * scale_s))


def in_steps(rates: list[float], step_s: float) -> Callable[[Floats], Floats]:
    """Requests by rates of successive steps."""
    until = np.concatenate([[0], np.cumsum(rates) * step_s])
    return lambda t: np.interp(t, np.arange(len(until)) * step_s, until)


STATES = [{"rate": "30/s", "dwell": "2s"}, {"rate": "150/s", "dwell": "500ms"}]
SESSIONS: dict[str, Any] = {"begin": {"poisson": "25/s"}, "requests": 8, "think": "10ms"}
BURSTS: dict[str, Any] = {"gamma": {"rate": "100/s", "cv": 3}}
WEIBULL = stats.weibull_min(0.6)
COUNTS = {"file": "counts.csv", "interval": "10s"}

TABLE = {
    "poisson": steady({"poisson": "100/s"}, 100, 1, 10),
    "constant": steady({"constant": "100/s"}, 100, 0, 10),
    "gamma": steady(BURSTS, 100, 9, 10),
    "regular gamma": steady({"gamma": {"rate": "100/s", "cv": 0.5}}, 100, 0.25, 10),
    "weibull": steady({"weibull": {"rate": "100/s", "shape": 0.6}}, 100, WEIBULL.var() / WEIBULL.mean() ** 2, 10),
    "mmpp": steady(
        {"mmpp": {"states": STATES}}, 54, two_state_idc(20), 20, at_factor=two_state_idc(20, FACTOR), finds=0.06
    ),
    "diurnal": Known(
        {"diurnal": {"mean": "1/s", "hours": [1, 3], "between": "step"}},
        DAY_S / 48,
        48,
        in_steps([0.5, 1.5], DAY_S / 2),
        1,
    ),
    "weekly": Known(
        {"diurnal": {"mean": "0.1/s", "hours": [1], "days": [1, 1, 1, 1, 1, 0.5, 0.5], "between": "step", "cv": 2}},
        DAY_S / 4,
        28,
        in_steps([0.7 / 6] * 5 + [0.35 / 6] * 2, DAY_S),
        4,
    ),
    "sinusoid": Known(
        {"sinusoid": {"mean": "100/s", "amplitude": "50/s", "period": "100s", "cv": 2}},
        10,
        40,
        lambda t: 100 * t + 50 * 100 / (2 * np.pi) * (1 - np.cos(2 * np.pi * t / 100)),
        4,
    ),
    "ramp": Known({"ramp": {"from": "0/s", "to": "200/s", "over": "200s"}}, 5, 40, lambda t: t**2 / 2, 1),
    "spike": Known(
        {"spike": {"base": "50/s", "peak": "500/s", "at": "100s", "for": "100s"}},
        10,
        40,
        in_steps([50, 500, 50, 50], 100),
        1,
    ),
    "trend": Known(
        {"trend": {"rate": "50/s", "growth": "x2", "per": "100s", "cv": 0.5}},
        5,
        40,
        lambda t: 50 * 100 / math.log(2) * (2 ** (t / 100) - 1),
        0.25,
    ),
    "trace": Known({"trace": {"file": "trace.csv"}}, 10, 40, in_steps([n / 10 for n in COUNTED], 10), 0),
    "counts": Known({"counts": {**COUNTS, "within": "poisson"}}, 10, 40, in_steps([n / 10 for n in COUNTED], 10), 1),
    "counts, uniform": Known(
        {"counts": {**COUNTS, "within": "uniform"}}, 10, 40, in_steps([n / 10 for n in COUNTED], 10), 0
    ),
    "counts, even": Known({"counts": {**COUNTS, "within": "even"}}, 10, 40, in_steps([n / 10 for n in COUNTED], 10), 0),
    "sessions": steady({"sessions": SESSIONS}, 200, 15, 10, finds=0.06),
    "sessions of fixed length": steady({"sessions": {**SESSIONS, "lengths": "fixed"}}, 200, 8, 10, finds=0.06),
    "sum": steady({"sum": [{"poisson": "100/s"}, BURSTS]}, 200, 5, 10),
    "scaled": steady({"scaled": {"of": BURSTS, "by": "x2"}}, 200, 9, 10),
    "thinned": steady({"thinned": {"of": {"scaled": {"of": BURSTS, "by": "x4"}}, "keep": 0.25}}, 100, 3, 10),
}


def test_the_table_has_every_open_law() -> None:
    kinds = {next(iter(known.arrivals)) for known in TABLE.values()}
    assert kinds == set(Arrivals.model_fields) - {"closed"}, "closed loops have no rate of their own"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a file of counts, and a trace of as many requests."""
    (tmp_path / "counts.csv").write_text("count\n" + "".join(f"{n}\n" for n in COUNTED))
    at_s = np.concatenate([10 * i + (np.arange(n) + 0.5) * 10 / n for i, n in enumerate(COUNTED)])
    (tmp_path / "trace.csv").write_text("arrival_s\n" + "".join(f"{at:.6f}\n" for at in at_s))
    return tmp_path


def counted(arrivals: dict[str, Any], known: Known, base: Path, replications: int = REPLICATIONS) -> Floats:
    """Counts by replication and bin."""
    span_ns, bin_ns = round(known.seconds * S), round(known.bin_s * S)
    return np.array(
        [
            counts_of(instants(arrivals, known.seconds, each, base=base), span_ns, bin_ns)
            for each in range(replications)
        ],
        np.float64,
    )


def assert_known(counts: Floats, expected: Floats, idc: Floats | float, finds: float) -> None:
    """Counts by replication and bin have these means by bin, and this index of dispersion on the average of bins."""
    assert_mean(counts.sum(axis=1) / expected.sum(), 1, finds)
    assert_mean(((counts - expected) ** 2 / expected).mean(axis=1), float(np.mean(idc)), 0.35)


@pytest.mark.parametrize("name", TABLE)
def test_a_law_has_its_rate_and_its_variability(name: str, base: Path) -> None:
    known = TABLE[name]
    expected = np.diff(known.expected(known.edges_s))
    if known.idc:
        assert_known(counted(known.arrivals, known, base), expected, known.idc, known.finds)
    else:
        assert np.abs(counted(known.arrivals, known, base, 2) - expected).max() <= 1


@pytest.mark.parametrize("name", TABLE)
def test_a_law_at_another_rate_has_both(name: str, base: Path) -> None:
    known = TABLE[name]
    scaled = {"scaled": {"of": known.arrivals, "by": f"x{FACTOR}"}}
    expected = np.diff(known.expected(known.edges_s)) * FACTOR
    if name == "trace":  # its gaps shrink, so that it ends before the run
        expected = np.diff(known.expected(np.minimum(known.edges_s * FACTOR, known.seconds)))
    if known.idc:
        idc = known.idc if known.at_factor is None else known.at_factor
        assert_known(counted(scaled, known, base), expected, idc, known.finds)
    else:
        assert np.abs(counted(scaled, known, base, 2) - expected).max() <= 1


@pytest.mark.parametrize("name", TABLE)
def test_a_law_beside_another_has_both(name: str, base: Path) -> None:
    """Means and variances add up: of a bin, IDC (D m + p) / (m + p) beside a Poisson law of which p are expected."""
    known = TABLE[name]
    own = np.diff(known.expected(known.edges_s))
    beside = float(own.mean())
    law = {"sum": [known.arrivals, {"poisson": f"{beside / known.bin_s:.9g}/s"}]}
    assert_known(
        counted(law, known, base), own + beside, (known.idc * own + beside) / (own + beside), finds=known.finds
    )
