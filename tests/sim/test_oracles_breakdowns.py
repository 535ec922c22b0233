"""Breakdowns against the M/M/1 queue whose server comes and goes: exponential up times at rate f, repairs at rate r,
service that is resumed. Replicas put the batch back that they die over, and serve it again with another draw, which for
exponential service is the same law (rule 8); times in mean services.

L = lam ((f + r)^2 + mu f) / ((f + r) (mu r - lam (f + r))): White and Christie (1958), Mitrany and Avi-Itzhak (1968).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from serve.policy.codes import NEVER_NS
from sim.dataplane import DataPlane
from sim.plane import Floats, Node, Plane, Requests, StopCode
from sim.reference import Reference
from sim.rng import stream, uniform_bits
from sim.tally import SUM_LATENCY_S
from tests.sim.oracle_cases import EXPONENTIAL, SERVICE_BITS, UNIT_NS, Engine, limits, service_table

LAM, MU, FAIL, REPAIR = 0.5, 1.0, 0.01, 0.1
AS_PRINTED = 2.232323
Z_MAX = 4.0
HALF_WIDTH_MAX = {"fast": 0.02, "reference": 0.05}
SIZE: dict[Engine, int] = {"fast": 400_000, "reference": 25_000}
REPLICATIONS = 10
DRAWS = 4


def exact() -> float:
    """Mean number in system."""
    both = FAIL + REPAIR
    return LAM * (both**2 + MU * FAIL) / (both * (MU * REPAIR - LAM * both))


@cache
def in_system(engine: Engine, replication: int) -> float:
    """Mean number in system of one replication, by Little's law at the rate that arrivals are drawn by."""
    count = SIZE[engine]
    spec = replace(limits(), max_deaths=-1)
    node = Node(spec, 1, service_table((EXPONENTIAL,), SERVICE_BITS[engine]))
    draws = {purpose: stream(5, replication, "breakdowns", purpose) for purpose in ("gaps", "service", "up", "down")}
    arrival_ns = np.cumsum(draws["gaps"].exponential(UNIT_NS / LAM, count)).astype(np.int64)
    same, never = np.zeros(count, np.int64), np.full(count, NEVER_NS)
    service = uniform_bits(draws["service"], DRAWS * count).reshape(DRAWS, count)
    plane: Plane = Reference(node, 1) if engine == "reference" else DataPlane(node, 1)
    plane.feed(Requests(arrival_ns, same + 1, same, same, never, never, same, service))
    plane.end_feed()
    at_ns, up = 0, False
    while at_ns < arrival_ns[-1] + 2_000 * UNIT_NS:
        while plane.advance(at_ns).code != StopCode.UNTIL:
            pass
        (plane.kill if up else plane.ready)(0)
        up = not up
        rate, purpose = (FAIL, "up") if up else (REPAIR, "down")
        at_ns += max(1, round(draws[purpose].exponential(UNIT_NS / rate)))
    tally = plane.tally()
    assert tally.latency.sum() == count, "all were answered"
    return float(tally.sums[0, :, SUM_LATENCY_S].sum() / count / UNIT_NS * 1e9) * LAM


def test_the_formula_gives_the_number_that_is_printed() -> None:
    assert exact() == pytest.approx(AS_PRINTED, abs=1e-6)
    assert exact() / (LAM / (MU - LAM)) > 2.2, "a tenth of the time away more than doubles what waits"


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_mean_number_in_system_is_that_of_m_m_1_with_breakdowns(engine: Engine) -> None:
    found: Floats = np.array([in_system(engine, replication) for replication in range(REPLICATIONS)])
    error = float(found.std(ddof=1)) / np.sqrt(len(found))
    assert 1.96 * error / AS_PRINTED <= HALF_WIDTH_MAX[engine], "power"
    assert abs(found.mean() - AS_PRINTED) <= Z_MAX * error
