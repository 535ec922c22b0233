"""The slow clock: when replicas come and go, that nothing is lost by it, and that both planes see the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve import files
from serve.errors import SpecError
from serve.policy.codes import NEVER_NS
from serve.policy.routing import ROUTE_ROUND_ROBIN
from serve.policy.scaling.decision import Decision
from serve.records import ARRIVAL_NS, NODE, OUTCOME, Outcome
from serve.roster import Step
from serve.scheduler import SchedulerSpec
from sim.control import Control, ModelPlan
from sim.dataplane import DataPlane
from sim.fleet import FleetPlan, Timing
from sim.history import FLAP_NS, ModelCourse, Up
from sim.machines import Machine, Slot
from sim.plane import Estate, Node, Requests, Router, Service
from sim.scenario import Scenario
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile

S = 10**9
MS = 10**6


class Script:
    """A scaler that wants so many replicas from so many seconds on."""

    scrape_ns = S
    tick_ns = S
    idle_after_ns = None

    def __init__(self, wanted: dict[int, int]) -> None:
        self._wanted = wanted
        self.scraped: list[tuple[int, list[int]]] = []

    def scrape(self, now_ns: int, scrapes: dict[int, Any]) -> None:
        self.scraped.append((now_ns // S, sorted(scrapes)))

    def decide(self, now_ns: int, replicas: Any) -> Decision:
        begun = [at for at in self._wanted if at * S <= now_ns]
        return Decision(self._wanted[max(begun)], "as written")


def played(
    wanted: dict[int, int],
    per_replica: bool,
    seconds: int = 60,
    slots: int = 3,
    machine: Machine = Machine(),  # noqa: B008
) -> tuple[Control, DataPlane]:
    """Twenty requests a second, of 40 ms each, on what a script wants."""
    service = Service(np.full(2, 40 * MS), 0, 1, 0)
    node = Node(SchedulerSpec(1), 1 if per_replica else slots, service)
    estate = Estate((node,) * slots if per_replica else (node,), Router(ROUTE_ROUND_ROBIN, MS))
    plane = DataPlane(estate, 1, keep="both", metered=True)
    arrival_ns = np.arange(0, seconds * S, S // 20)
    same = np.zeros(len(arrival_ns), np.int64)
    never = same + NEVER_NS
    plane.feed(Requests(arrival_ns, same + 1, same, same, never, never, same, same.reshape(1, -1)))
    plane.end_feed()
    timing = Timing(start_up_ns=5 * S, probe_ns=3 * S, propagation_ns=2 * S)
    places = [Slot(i, 0, i) if per_replica else Slot(0, i) for i in range(slots)]
    control = Control(
        plane,
        plane.advance,
        [ModelPlan([FleetPlan(timing, places, per_replica=per_replica)], 1, Script(wanted))],  # type: ignore[arg-type]
        [Machine(), *[machine] * (slots - 1)],
        routed=True,
    )
    control.run((seconds + 5) * S)
    return control, plane


def test_a_replica_is_used_after_start_up_and_probe_and_not_after_its_propagation() -> None:
    control, plane = played({0: 1, 10: 2, 30: 1}, per_replica=True)
    rows = plane.rows()
    second = rows[rows[:, NODE] == 1][:, ARRIVAL_NS] / S
    assert 18.0 <= second.min() < 18.2, "wanted at 10, ready at 15, in rotation at 18"
    assert 31.7 < second.max() <= 32.01, "unwanted at 30, out of rotation at 32"
    assert (rows[:, OUTCOME] == Outcome.OK).all()
    assert control.history.fleets[0].present == [(0, 1), (10 * S, 2), (34 * S, 1)], "gone when it was empty twice"
    assert [(s.at_ns // S, s.wanted) for s in control.history.models[0].steps if s.wanted != s.counted] == [
        (10, 2),
        (30, 1),
    ]
    assert control.history.models[0].moves(0, 60 * S) == (1, 1)
    assert control.history.replicas_mean(0, 60 * S) == pytest.approx((10 + 24 * 2 + 26) / 60)


def test_changes_of_mind_and_the_time_with_too_few_replicas_are_counted() -> None:
    control, _ = played({0: 1, 10: 2, 20: 1, 30: 3}, per_replica=True)
    history, course = control.history, control.history.models[0]
    assert course.moves(0, 60 * S) == (2, 1)
    assert course.flaps(0, 60 * S) == 2, "down at 20 undoes 10, up at 30 undoes 20"
    assert course.flaps(25 * S, 60 * S) == 1, "the one before is looked at also where it is older than the span"
    assert history.under_target(0, 60 * S) == pytest.approx((5 + 5) / 60), "wanted at 10 and 30, ready 5 s later"
    steady, _ = played({0: 1, 10: 2}, per_replica=True)
    assert steady.history.models[0].flaps(0, 60 * S) == 0


def test_a_change_of_mind_after_ten_minutes_is_none() -> None:
    course = ModelCourse(steps=[Step(0, 2, "", 1, 1), Step(FLAP_NS, 1, "", 2, 2), Step(2 * FLAP_NS - 1, 2, "", 1, 1)])
    assert course.flaps(0, 3 * FLAP_NS) == 1


def test_replicas_that_share_a_queue_drain_one_by_one() -> None:
    control, plane = played({0: 1, 10: 3, 30: 1}, per_replica=False)
    assert (plane.rows()[:, OUTCOME] == Outcome.OK).all()
    assert control.history.fleets[0].present == [(0, 1), (10 * S, 3), (32 * S, 2), (32 * S, 1)]


def test_one_that_is_not_wanted_before_it_is_ready_never_comes() -> None:
    control, plane = played({0: 1, 10: 2, 12: 1}, per_replica=True)
    assert control.history.fleets[0].present == [(0, 1), (10 * S, 2), (12 * S, 1)]
    assert set(plane.rows()[:, NODE].tolist()) == {0}


def test_no_more_replicas_than_there_is_room_for() -> None:
    control, _ = played({0: 9}, per_replica=True)
    assert max(count for _, count in control.history.fleets[0].present) == 3
    assert {step.counted for step in control.history.models[0].steps if step.at_ns > 2 * S} == {3}


def test_a_place_is_taken_again_by_a_new_replica() -> None:
    _, plane = played({0: 1, 5: 2, 20: 1, 30: 2}, per_replica=True)
    rows = plane.rows()
    second = rows[rows[:, NODE] == 1][:, ARRIVAL_NS] / S
    assert ((second > 38) & (second < 60)).any()
    assert (rows[:, OUTCOME] == Outcome.OK).all()


def test_a_machine_comes_when_a_replica_needs_it_and_goes_when_it_is_empty() -> None:
    rented = Machine(fixed=False, provision_ns=10 * S, empty_after_ns=5 * S)
    control, plane = played({0: 1, 5: 2, 30: 1}, per_replica=True, machine=rented)
    rows = plane.rows()
    second = rows[rows[:, NODE] == 1][:, ARRIVAL_NS] / S
    assert 23.0 <= second.min() < 23.2, "wanted at 5, the machine there at 15, ready at 20, in rotation at 23"
    assert control.history.fleets[0].present == [(0, 1), (5 * S, 2), (34 * S, 1)]
    first, second_machine = control.history.leases
    assert (first.there_ns, first.ready_ns, first.gone_ns) == (0, 0, None)
    assert (second_machine.there_ns, second_machine.ready_ns, second_machine.gone_ns) == (15 * S, 20 * S, 39 * S)
    assert control.history.fleets[0].ups == {0: [Up(0, 0)], 1: [Up(1, 20 * S, 34 * S)]}, "empty at 34"


def test_a_machine_that_is_needed_again_stays() -> None:
    rented = Machine(fixed=False, provision_ns=0, empty_after_ns=10 * S)
    control, _ = played({0: 1, 5: 2, 20: 1, 30: 2}, per_replica=True, machine=rented)
    assert [(lease.there_ns, lease.gone_ns) for lease in control.history.leases] == [(0, None), (5 * S, None)]


# -- scenarios ---------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "hpa": {"cpu": 50},
    "keda": {"triggers": [{"metric": "ongoing", "target": 2}]},
    "kpa": {"target": 4},
    "ray_serve": {"upscale_delay": "2s", "downscale_delay": "10s", "look_back": "5s", "push": "1s", "loop": "500ms"},
    "target_tracking": {"target": 50, "period": "10s", "scale_out_cooldown": "20s", "scale_in_cooldown": "20s"},
    "scheduled": {"entries": {"Thu 00:00": 1, "Thu 00:01": 3}},
    "idle": {},
    "predictive": {"capacity": {1: "300/s", 2: "600/s", 3: "900/s"}, "horizon": "10s", "hold": "20s"},
}


def scaled(folder: Path, kind: str, per: str, **replicas: Any) -> Scenario:
    """A spike of three replicas' load on one that is scaled."""
    write_profile(folder, Synthetic())
    pools = {"nodes": 3, "cores": 1} if per != "node" else {"nodes": 1, "cores": 3}
    spike = {"base": "30/s", "peak": "700/s", "at": "20s", "for": "40s", "up": "10s", "down": "10s"}
    return files.parse(
        {
            "seed": 3,
            "replications": 2,
            "workload": {"duration": "120s", "classes": {"a": {"arrivals": {"spike": spike}}}},
            "deployment": {
                "models": {
                    "m": {
                        "backend": "emulated",
                        "profile": "toy.yaml",
                        "batching": {"max_batch": 1},
                        "queue": {"per": per, "max_queue": 64},
                        "replicas": {"start_up": "2s", "autoscaler": {"kind": kind, **KINDS[kind]}, **replicas},
                    }
                },
                "pools": {"here": {"price": "1 USD/h", **pools}},
                "router": {"policy": "p2c", "network": "1ms", "probe": "1s"},
            },
        },
        Scenario,
        "s.yaml",
    )


def alike(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of sums."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-15)
    return bool(one == other)


@pytest.mark.parametrize(
    ("kind", "per"),
    [*((kind, per) for kind in KINDS if kind != "idle" for per in ("replica", "node")), ("keda", "fleet")],
)
def test_both_planes_are_scaled_alike(tmp_path: Path, kind: str, per: str) -> None:
    question = scaled(tmp_path, kind, per, max=3)
    fast, slow = (simulate(question, base=tmp_path, engine=engine) for engine in ("fast", "reference"))
    assert alike(files.plain(fast) | {"engine": ""}, files.plain(slow) | {"engine": ""})
    assert fast.total.metrics["scale_ups"].value, "else nothing was scaled"
    assert fast.total.metrics["lost"].value == 0


def test_scaled_to_zero_the_first_request_waits_for_a_start_up(tmp_path: Path) -> None:
    """Knative is told at once: the wait is start-up and probe."""
    question = scaled(tmp_path, "kpa", "replica", min=0, max=2)
    arrivals = {"workload.classes.a.arrivals": {"constant": "0.01/s"}, "workload.duration": "500s"}
    fast, slow = (
        simulate(question, base=tmp_path, engine=engine, overrides=arrivals) for engine in ("fast", "reference")
    )
    assert alike(files.plain(fast) | {"engine": ""}, files.plain(slow) | {"engine": ""})
    waited_s = fast.total.metrics["p50"].value
    assert waited_s is not None and waited_s == pytest.approx(3.0, abs=0.1)
    replicas = fast.total.metrics["replicas"].value
    assert replicas is not None and replicas < 0.99


@pytest.mark.parametrize("after", ["0s", "7s"])
def test_an_idle_replica_goes_after_its_time_and_comes_with_the_next_request(tmp_path: Path, after: str) -> None:
    question = scaled(tmp_path, "idle", "node", min=0, max=1, autoscaler={"kind": "idle", "after": after})
    apart = {"workload.classes.a.arrivals": {"constant": "0.1/s"}, "workload.duration": "200s"}
    steady = {"deployment.router.propagation": "0s", "deployment.router.probe": "0s"}
    fast, slow = (
        simulate(question, base=tmp_path, engine=engine, overrides=apart | steady) for engine in ("fast", "reference")
    )
    assert alike(files.plain(fast) | {"engine": ""}, files.plain(slow) | {"engine": ""})
    assert fast.total.metrics["p50"].value == pytest.approx(2.0, abs=0.1), "every request waits for a start-up"
    assert fast.total.metrics["replicas"].value == pytest.approx((2 + int(after[:-1])) / 10, abs=0.05)
    assert fast.total.metrics["lost"].value == 0


def test_requests_that_come_while_an_idle_replica_leaves_are_served_by_it_or_its_successor(tmp_path: Path) -> None:
    question = scaled(tmp_path, "idle", "node", min=0, max=1, autoscaler={"kind": "idle"})
    often = {"workload.classes.a.arrivals": {"poisson": "0.7/s"}, "workload.duration": "500s"}
    slowly = {"deployment.router.propagation": "1s", "deployment.router.probe": "500ms"}
    fast, slow = (
        simulate(question, base=tmp_path, engine=engine, overrides=often | slowly) for engine in ("fast", "reference")
    )
    assert alike(files.plain(fast) | {"engine": ""}, files.plain(slow) | {"engine": ""})
    metrics = {name: estimate.value for name, estimate in fast.total.metrics.items()}
    assert metrics["lost"] == 0 and metrics["refused"] == 0
    assert (metrics["scale_ups"] or 0) > 30


@pytest.mark.parametrize(
    ("kind", "replicas", "said"),
    [
        ("idle", {"min": 1, "max": 1}, r"replicas\.min: must be 0, or kind idle never acts"),
        ("idle", {"min": 0, "max": 2}, r"replicas\.max: must be 1"),
        ("idle", {"min": 0, "max": 1}, r"queue\.per: must be node"),
        ("hpa", {"count": 3, "max": 2}, r"count must be from min \(1\) to max \(2\), got 3"),
        ("hpa", {"min": 0, "max": 3}, r"replicas\.min: must be at least 1: hpa does not scale from zero"),
        ("predictive", {"max": 3}, r"autoscaler\.capacity: is missing: the rate"),
    ],
)
def test_what_cannot_be_scaled_is_refused_by_name(
    tmp_path: Path, kind: str, replicas: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "predictive":
        monkeypatch.setitem(KINDS, kind, {})
    with pytest.raises(SpecError, match=said):
        simulate(scaled(tmp_path, kind, "replica", **replicas), base=tmp_path)


def test_who_goes_by_arrivals_at_replicas_is_refused_where_they_wait_at_the_router(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"autoscaler: kind predictive goes by what arrives at replicas"):
        simulate(scaled(tmp_path, "predictive", "fleet", max=3), base=tmp_path)
