"""Several models and versions behind one router, and engines that share a machine, on both planes and in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.errors import SpecError
from serve.policy.codes import NEVER_NS
from serve.policy.routing import ROUTE_RANDOM, ROUTE_ROUND_ROBIN
from serve.records import ANSWERED_NS, ARRIVAL_NS, NODE, Rows
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import BUFFER, SPLIT_WHOLE, Estate, Node, Plane, Requests, Router, Service, StopCode
from sim.reference import Reference
from sim.scenario import Scenario
from sim.simulate import simulate, simulate_in_full
from tests.profiles import Synthetic, write_profile

MS = 1_000_000
ENGINES = ("reference", "fast")


def node(busy_ms: int = 10) -> Node:
    """A replica of its own that takes 10 ms alone, and `busy_ms` beside another one that runs."""
    return Node(SchedulerSpec(1), 1, Service(np.array([10, 10, busy_ms, busy_ms]) * MS, 0, 1, 1))


def played(engine: str, estate: Estate, classes: list[int], gap_ms: int, up: list[int] | None = None) -> Plane:
    """Requests of these classes, one every `gap_ms`, on a plane with these nodes up; all of them if none are named."""
    count = max(classes) + 1
    plane: Plane = (
        Reference(estate, count) if engine == "reference" else DataPlane(estate, count, keep="both", metered=True)
    )
    for number in range(len(estate.nodes)) if up is None else up:
        plane.ready(0, number)
    same = np.zeros(len(classes), np.int64)
    never, route = same + NEVER_NS, np.random.default_rng(3).integers(0, 2**62, len(classes))
    arrival_ns = np.arange(len(classes)) * gap_ms * MS
    plane.feed(
        Requests(arrival_ns, same + 1, np.array(classes), same, never, never, same, same.reshape(1, -1), route=route)
    )
    plane.end_feed()
    return plane


def to_end(plane: Plane) -> Rows:
    while plane.advance(10**6 * MS).code != StopCode.UNTIL:
        pass
    return plane.rows()


@pytest.mark.parametrize("engine", ENGINES)
def test_each_model_has_nodes_and_turns_of_its_own(engine: str) -> None:
    router = Router(ROUTE_ROUND_ROBIN, served_by=(range(1), range(1, 2)))
    estate = Estate((node(),) * 4, router, groups=(0, 0, 1, 1))
    rows = to_end(played(engine, estate, [0, 1, 1, 0, 1], 1))
    assert rows[:, NODE].tolist() == [0, 2, 3, 1, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_versions_get_their_parts_of_the_requests_and_new_ones_when_control_says_so(engine: str) -> None:
    router = Router(ROUTE_RANDOM, served_by=(range(2),), split=(SPLIT_WHOLE // 10, SPLIT_WHOLE))
    estate = Estate((node(),) * 2, router, groups=(0, 1))
    plane = played(engine, estate, [0] * 2000, 20)
    assert plane.advance(20_000 * MS).code == StopCode.UNTIL
    plane.split((SPLIT_WHOLE, SPLIT_WHOLE))
    rows = to_end(plane)
    first, second = rows[:1000, NODE], rows[1000:, NODE]
    assert (first == 0).mean() == pytest.approx(0.1, abs=0.03)
    assert (second == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_buffer_of_a_model_without_a_replica_holds_nobody_elses_requests(engine: str) -> None:
    router = Router(ROUTE_ROUND_ROBIN, buffer_rows=10, served_by=(range(1), range(1, 2)))
    estate = Estate((node(),) * 2, router, groups=(0, 1))
    plane = played(engine, estate, [0, 1, 0, 1], 1, up=[0])
    plane.rotate([], 1)
    stop = plane.advance(50 * MS)
    assert (stop.code, stop.node, stop.which) == (StopCode.NO_REPLICA, BUFFER - 1, 1)
    assert plane.advance(50 * MS).code == StopCode.UNTIL
    assert (plane.scrape(BUFFER).gauges.waiting, plane.scrape(BUFFER - 1).gauges.waiting) == (0, 2)
    plane.ready(0, 1)
    plane.rotate([1], 1)
    assert to_end(plane)[:, NODE].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("machines", "second_ms"), [((), 10), ((0, 0), 25)])
def test_engines_on_one_machine_slow_each_other(engine: str, machines: tuple[int, ...], second_ms: int) -> None:
    router = Router(ROUTE_ROUND_ROBIN, served_by=(range(1), range(1, 2)))
    estate = Estate((node(busy_ms=25),) * 2, router, (0, 1), machines)
    rows = to_end(played(engine, estate, [0, 1, 0], 2))
    taken_ms = (rows[:, ANSWERED_NS] - rows[:, ARRIVAL_NS]) // MS
    assert taken_ms.tolist()[:2] == [10, second_ms]


def test_an_estate_whose_groups_are_not_in_order_is_refused() -> None:
    with pytest.raises(ValueError, match="groups must have one entry"):
        DataPlane(Estate((node(),) * 2, Router(ROUTE_RANDOM), groups=(1, 0)), 1)
    with pytest.raises(ValueError, match="served_by must name groups"):
        DataPlane(Estate((node(),) * 2, Router(ROUTE_RANDOM, served_by=(range(2, 3),)), groups=(0, 1)), 1)


# -- in files ------------------------------------------------------------------------------------------


def two_models(folder: Path, **changes: Any) -> Scenario:
    """An interactive model beside one that is never idle, one replica each, on one machine of two cores."""
    profile = str(write_profile(folder, Synthetic(busy=(0, 1), slowdown=0.5)))
    model = {"backend": "emulated", "profile": profile, "batching": {"max_batch": 4}, **changes}
    document = {
        "seed": 5,
        "replications": 4,
        "workload": {
            "duration": "20s",
            "classes": {
                "few": {"model": "small", "arrivals": {"poisson": "40/s"}, "tags": {"team": "search"}},
                "many": {"model": "large", "arrivals": {"closed": {"clients": 2, "think": "0s"}}},
            },
        },
        "deployment": {
            "models": {"small": model, "large": {**model, "batching": {"max_batch": 1}}},
            "pools": {"here": {"nodes": 1, "cores": 2, "price": "0.4 USD/h"}},
        },
    }
    return Scenario.model_validate(document)


def test_a_model_beside_another_is_as_much_slower_as_calibration_saw(tmp_path: Path) -> None:
    scenario = two_models(tmp_path)
    beside = simulate(scenario).classes["few"].metrics["compute"].value
    alone = simulate(scenario, overrides={"workload.classes.many.arrivals": {"poisson": "0.1/s"}})
    assert beside == pytest.approx(1.5 * (alone.classes["few"].metrics["compute"].value or 0.0), rel=0.03)


def test_both_engines_simulate_two_models_alike(tmp_path: Path) -> None:
    fast, slow = (simulate(two_models(tmp_path), engine=engine, replications=2) for engine in ENGINES[::-1])  # type: ignore[arg-type]
    assert (fast.requests, fast.batch_rows, fast.reasons) == (slow.requests, slow.batch_rows, slow.reasons)
    for one, other in ((fast.total, slow.total), *zip(fast.classes.values(), slow.classes.values(), strict=True)):
        values = [{name: each.value for name, each in of.metrics.items()} for of in (one, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_the_bill_of_two_models_is_split_between_them(tmp_path: Path) -> None:
    result = simulate_in_full(two_models(tmp_path), Path()).result
    parts = ("cost_useful", "cost_cold", "cost_wasted", "cost_idle", "cost_unused", "cost_other")
    assert sum(result.total.metrics[name].value or 0.0 for name in parts) == pytest.approx(1.0)
    few, many = (result.classes[name].metrics["throughput"].value or 0.0 for name in ("few", "many"))
    useful = result.total.metrics["cost_useful"].value or 0.0
    assert useful == pytest.approx((few * 3.2 + many * 2.6) / 2000, rel=0.1)  # both are slowed now and then


def test_one_that_goes_by_event_is_refused_beside_another_model(tmp_path: Path) -> None:
    scaled = {"count": 1, "min": 0, "max": 1, "autoscaler": {"kind": "idle"}}
    with pytest.raises(SpecError, match=r"models\.small\.replicas\.autoscaler\.kind: kind idle .*beside other models"):
        simulate(two_models(tmp_path, replicas=scaled))
