"""Arrivals that are bursty or change over the day, and servers that are always enough, against exact results.

Each claim is the mean of independent replications; how wide its 95 % interval is, is a claim too: at most 2 % of the
value on the kernel, 5 % on the reference, of a variance and of a rare wait. Where the reference would need minutes for
that (the mean wait in bursts, a hundred servers), the twin tests hold it to the kernel instead.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from serve import records
from serve.policy.codes import NEVER_NS
from sim.plane import Floats, Node, Plane, Requests, Service
from sim.rng import stream, uniform_bits
from tests.sim import oracles
from tests.sim.oracle_cases import SERVICE_BITS, Engine, Law, build, gamma, limits
from tests.sim.point_processes import instants

Ints = npt.NDArray[np.int64]
S = 10**9
Z_MAX = 4.0
HALF_WIDTH_MAX = {"fast": 0.02, "reference": 0.05}
REPLICATIONS = 10
ENGINES = ["fast", "reference"]


def held(engine: Engine, values: Floats, exact: float, within: float | None = None) -> None:
    """The mean of independent values is the exact one within its error, which is small enough to tell."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    assert stats.t.ppf(0.975, len(values) - 1) * error / abs(exact) <= (within or HALF_WIDTH_MAX[engine]), "power"
    assert abs(values.mean() - exact) <= Z_MAX * error, f"{values.mean()} +- {error}, exact {exact}"


def plane_of(engine: Engine, law: Law, unit_s: float, replicas: int) -> Plane:
    """So many servers of a law whose unit lasts `unit_s`; one queue, without a bound."""
    bits = SERVICE_BITS[engine]
    table = np.concatenate([np.zeros(1 << bits), np.broadcast_to(law.slices(bits), 1 << bits)])
    service = Service(np.rint(table * unit_s * S).astype(np.int64), bits, 1, 0)
    plane = build(engine, Node(limits(), replicas, service), None)
    for replica in range(replicas):
        plane.ready(replica)
    return plane


def feed(plane: Plane, arrival_ns: Ints, replication: int) -> None:
    """These arrivals, all of them, with services of their own."""
    same, never = np.zeros(len(arrival_ns), np.int64), np.full(len(arrival_ns), NEVER_NS)
    service = uniform_bits(stream(7, replication, "varying", "service"), len(arrival_ns)).reshape(1, -1)
    plane.feed(Requests(arrival_ns, same + 1, same, same, never, never, same, service))
    plane.end_feed()


# -- bursts ------------------------------------------------------------------------------------------

STATES = [{"rate": "0.3/s", "dwell": "100s"}, {"rate": "1.5/s", "dwell": "33333333us"}]
BURSTS: dict[str, Any] = {"mmpp": {"states": STATES}}
MMPP_SPAN_S = {"fast": 2_000_000.0, "reference": 20_000.0}


@cache
def _bursty(engine: Engine, replication: int) -> tuple[float, float]:
    """(mean sojourn, share that waited) of one replication, the first twentieth cut."""
    plane = plane_of(engine, gamma(1.0), 1.0, 1)
    feed(plane, instants(BURSTS, MMPP_SPAN_S[engine], replication), replication)
    plane.advance(2**61)
    rows = plane.rows()
    rows = rows[len(rows) // 20 :]
    sojourn_ns = rows[:, records.ANSWERED_NS] - rows[:, records.ARRIVAL_NS]
    return float(sojourn_ns.mean()) / S, float((rows[:, records.START_NS] > rows[:, records.ARRIVAL_NS]).mean())


def test_bursts_make_requests_wait_eight_times_as_long_as_their_mean_rate_says() -> None:
    """MMPP(2)/M/1; planning by the mean rate expects 2.5."""
    exact = oracles.MMPPM1((0.3, 1.5), (0.01, 0.03))
    assert (exact.load, exact.sojourn_mean) == pytest.approx((0.6, 19.182776), abs=1e-6)
    found: Floats = np.array([_bursty("fast", i)[0] for i in range(REPLICATIONS)])
    held("fast", found, exact.sojourn_mean)


@pytest.mark.parametrize("engine", ENGINES)
def test_in_bursts_so_many_find_the_server_busy(engine: Engine) -> None:
    exact = oracles.MMPPM1((0.3, 1.5), (0.01, 0.03)).p_wait
    assert exact == pytest.approx(0.783076, abs=1e-6)
    held(engine, np.array([_bursty(engine, i)[1] for i in range(REPLICATIONS)]), exact)


# -- the day -----------------------------------------------------------------------------------------

DAYS = {"fast": 240, "reference": 40}
DAY: dict[str, Any] = {"sinusoid": {"mean": "10/h", "amplitude": "5/h", "period": "1d"}}
OMEGA = 2 * math.pi / 24


@cache
def _busy_wave(engine: Engine, replication: int) -> tuple[float, float, float]:
    """(mean, sine, cosine) coefficients by the hour of the day of how many are in service, after the first day.

    The integral of their number times a wave is a sum over services, of the wave's integral over each.
    """
    plane = plane_of(engine, gamma(1.0), 3600.0, 60)
    feed(plane, instants(DAY, DAYS[engine] * 86_400.0, replication), replication)
    plane.advance(2**61)
    rows = plane.rows()
    assert (rows[:, records.START_NS] == rows[:, records.ARRIVAL_NS]).all(), "there is always a server"
    end_h = DAYS[engine] * 24.0
    begin = np.clip(rows[:, records.START_NS] / (3600 * S), 24.0, end_h)
    done = np.clip(rows[:, records.DONE_NS] / (3600 * S), 24.0, end_h)
    span = end_h - 24.0
    sine = float((np.cos(OMEGA * begin) - np.cos(OMEGA * done)).sum()) / OMEGA * 2 / span
    cosine = float((np.sin(OMEGA * done) - np.sin(OMEGA * begin)).sum()) / OMEGA * 2 / span
    return float((done - begin).sum()) / span, sine, cosine


@pytest.mark.parametrize("engine", ENGINES)
def test_over_the_day_servers_are_busy_with_a_smaller_swing_about_an_hour_late(engine: Engine) -> None:
    """M_t/M/inf (Eick, Massey and Whitt 1993): 10 + 5 / sqrt(1 + w^2) sin w(t - atan(w) / w), services of an hour."""
    waves = np.array([_busy_wave(engine, i) for i in range(REPLICATIONS)])
    held(engine, waves[:, 0], 10.0)
    late = math.atan(OMEGA)
    assert (5 / math.sqrt(1 + OMEGA**2), late / OMEGA) == pytest.approx((4.836986, 0.978050), abs=1e-5)
    along = waves[:, 1] * math.cos(late) - waves[:, 2] * math.sin(late)
    held(engine, along, 4.836986)
    across = waves[:, 1] * math.sin(late) + waves[:, 2] * math.cos(late)
    error = float(across.std(ddof=1)) / math.sqrt(REPLICATIONS)
    assert abs(across.mean()) <= Z_MAX * error, "the wave is neither early nor late"
    assert error / 4.836986 / OMEGA <= 0.15, "power: its delay is known to minutes"


# -- always enough ---------------------------------------------------------------------------------------

LOOKS = {"fast": 2_400, "reference": 80}
APART = 4.0  # mean services between two looks


@cache
def _looks(engine: Engine, scv: float, replication: int) -> Floats:
    """How many are in service at instants far apart, at 20 arrivals in a mean service."""
    law = gamma(1.0, scv) if scv else Law(1.0)
    plane = plane_of(engine, law, 1.0, 70)
    span_s = (LOOKS[engine] + 10) * APART
    feed(plane, instants({"poisson": "20/s"}, span_s, replication), replication)
    plane.advance(2**61)
    rows = plane.rows()
    assert (rows[:, records.START_NS] == rows[:, records.ARRIVAL_NS]).all(), "there is always a server"
    at_ns = np.round((10 + np.arange(LOOKS[engine])) * APART * S).astype(np.int64)
    begun = np.searchsorted(rows[:, records.START_NS], at_ns, side="right")
    done = np.searchsorted(np.sort(rows[:, records.DONE_NS]), at_ns, side="right")
    return np.asarray(begun - done, np.float64)


@pytest.mark.parametrize("scv", [0.0, 1.0, 4.0], ids=["constant", "exponential", "gamma SCV 4"])
@pytest.mark.parametrize("engine", ENGINES)
def test_with_servers_for_all_the_busy_ones_are_poisson_whatever_the_service(engine: Engine, scv: float) -> None:
    """M/G/inf: an autoscaler without delay and without a limit."""
    if engine == "reference" and scv != 4.0:
        pytest.skip("the twin tests hold the reference to the kernel; one case is enough")
    looks = [_looks(engine, scv, i) for i in range(REPLICATIONS)]
    held(engine, np.array([each.mean() for each in looks]), 20.0)
    beyond: Floats = np.array([(each >= 30).mean() for each in looks])
    exact = float(stats.poisson.sf(29, 20))
    assert exact == pytest.approx(0.021818, abs=1e-6)
    error = float(beyond.std(ddof=1)) / math.sqrt(REPLICATIONS)
    assert abs(beyond.mean() - exact) <= Z_MAX * error
    if engine == "fast":
        held(engine, np.array([each.var() for each in looks]), 20.0, within=0.05)
        assert 31.0 == stats.poisson.ppf(0.99, 20) == np.quantile(np.concatenate(looks), 0.99)


# -- how many servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c", "as_printed", "span_s", "within"), [(105, 0.515707, 12_000.0, 0.02), (110, 0.237008, 6_000.0, 0.05)]
)
def test_square_root_staffing_has_the_waits_that_erlang_says(
    c: int, as_printed: float, span_s: float, within: float
) -> None:
    """A hundred servers' work: c - 100 of half a root, and one (Halfin and Whitt 1981)."""
    exact = oracles.MMc(c, 100.0)
    assert exact.p_wait == pytest.approx(as_printed, abs=1e-6)
    found = []
    for replication in range(REPLICATIONS):
        plane = plane_of("fast", gamma(1.0), 1.0, c)
        feed(plane, instants({"poisson": "100/s"}, span_s, replication), replication)
        plane.advance(2**61)
        rows = plane.rows()
        rows = rows[len(rows) // 20 :]
        found.append(float((rows[:, records.START_NS] > rows[:, records.ENQUEUE_NS]).mean()))
    held("fast", np.array(found), as_printed, within)
