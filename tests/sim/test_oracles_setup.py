"""Scale to zero against M/G/1 with set-up: one replica that goes as soon as nothing is there and starts with the next
request (`kind: idle`, rule 16), on both planes through the slow clock. Times in mean services.

Wq = lam E S^2 / (2 (1 - rho)) + (2 E U + lam E U^2) / (2 (1 + lam E U)), Welch (1964), Levy and Kleinrock (1986).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from serve import autoscaler as files
from serve.deployment import StartUp
from serve.draws import Exponential
from serve.policy.codes import NEVER_NS
from serve.policy.routing import ROUTE_ROUND_ROBIN
from serve.scaler import Scaler
from sim.control import Control, ModelPlan
from sim.dataplane import DataPlane
from sim.fleet import FleetPlan, Timing
from sim.machines import Machine, slots_of
from sim.model_plans import start_ups_ns
from sim.plane import Estate, Floats, Node, Plane, Requests, Router
from sim.reference import Reference
from sim.rng import stream, uniform_bits
from sim.tally import SUM_LATENCY_S
from tests.sim.oracle_cases import EXPONENTIAL, SERVICE_BITS, UNIT_NS, Engine, limits, service_table

LAM = 0.5
Z_MAX = 4.0
REPLICATIONS = {False: 10, True: 30}
HALF_WIDTH_MAX = {"fast": 0.02, "reference": 0.05}
SIZE: dict[Engine, int] = {"fast": 40_000, "reference": 6_000}


def exact(set_up: float, cv2: float = 0.0) -> float:
    """Mean wait with a set-up of a mean and squared coefficient of variation; 0: it always takes as long."""
    return LAM * 2 / (2 * (1 - LAM)) + (2 * set_up + LAM * set_up**2 * (1 + cv2)) / (2 * (1 + LAM * set_up))


@cache
def wait(engine: Engine, set_up: float, drawn: bool, replication: int) -> float:
    """Mean wait of one replication; `drawn`: exponential set-ups."""
    count = SIZE[engine]
    node = Node(limits(), 1, service_table((EXPONENTIAL,), SERVICE_BITS[engine]))
    router = Router(ROUTE_ROUND_ROBIN, buffer_rows=2**40, tells_empty=True)
    estate = Estate((node,), router)
    draw = [stream(3, replication, "set-up", purpose) for purpose in ("gaps", "service")]
    arrival_ns = np.cumsum(draw[0].exponential(UNIT_NS / LAM, count)).astype(np.int64)
    same, never = np.zeros(count, np.int64), np.full(count, NEVER_NS)
    service = uniform_bits(draw[1], count).reshape(1, count)
    plane: Plane = Reference(estate, 1) if engine == "reference" else DataPlane(estate, 1, metered=True)
    plane.feed(Requests(arrival_ns, same + 1, same, same, never, never, same, service))
    plane.end_feed()
    scaler = Scaler(files.Idle(kind="idle"), files.Bounds(least=0, most=1), threads=1)
    timing = Timing(start_up_ns=round(set_up * UNIT_NS))
    slots = slots_of(estate)
    law = StartUp(exponential=Exponential(mean=f"{timing.start_up_ns}ns")) if drawn else None
    start_up_ns = start_ups_ns(law, stream(3, replication, "set-up", "start-up"))
    models = [ModelPlan([FleetPlan(timing, slots, start_up_ns=start_up_ns)], 1, scaler)]
    control = Control(plane, plane.advance, models, [Machine(1.0)], routed=True)
    control.run(int(arrival_ns[-1]) + 10_000 * UNIT_NS)
    tally = plane.tally()
    assert tally.latency.sum() == count, "all were answered"
    return float(tally.sums[0, :, SUM_LATENCY_S].sum() / count / UNIT_NS * 1e9) - 1.0


@pytest.mark.parametrize(
    ("set_up", "drawn", "as_printed"), [(0.0, False, 1.0), (10.0, False, 6.833333), (10.0, True, 11.0)]
)
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_mean_wait_is_that_of_m_g_1_with_set_up(
    engine: Engine, set_up: float, drawn: bool, as_printed: float
) -> None:
    assert exact(set_up, float(drawn)) == pytest.approx(as_printed, abs=1e-6)
    found: Floats = np.array([wait(engine, set_up, drawn, replication) for replication in range(REPLICATIONS[drawn])])
    error = float(found.std(ddof=1)) / np.sqrt(len(found))
    assert 1.96 * error / as_printed <= HALF_WIDTH_MAX[engine], "power"
    assert abs(found.mean() - as_printed) <= Z_MAX * error
