"""The arrivals of a verification: the same on the wire and in the simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from planner.arrivals import Arrivals, draw
from serve.backends import emulated
from serve.backends.contract import DEFAULT_SEED
from serve.deployment import Deployment
from serve.load_plan import CLOSED_FIRST_ID, faults
from serve.records import CLASS, REQUEST, empty_rows
from sim.scenario import Scenario
from sim.service import BITS
from tests.planner.worlds import scenario

TWO = {
    "fast": {"arrivals": {"poisson": "200/s"}, "rows": {1: 1, 3: 1}, "priority": 0, "timeout": "50ms"},
    "slow": {"arrivals": {"poisson": "100/s"}, "priority": 1},
    "loop": {"arrivals": {"closed": {"clients": 3, "think": "5ms"}}},
}


def question() -> Scenario:
    """Two open classes and a closed loop."""
    return scenario(classes=TWO, duration="2s")


def drawn(seed: int = 1) -> Arrivals:
    """Its arrivals."""
    asked = question()
    assert isinstance(asked.deployment, Deployment)
    model = asked.deployment.models["m"].model_copy(
        update={"queue": asked.deployment.models["m"].queue.model_copy(update={"priority_levels": 2})}
    )
    return draw(asked.workload, model, Path(), seed)


def test_the_wire_and_the_simulator_meet_the_same_instants_and_rows() -> None:
    arrivals = drawn()
    plan, given = arrivals.plan("m", ()), arrivals.given()
    assert plan.open is not None
    assert set(given) == {"fast", "slow"}
    merged = np.concatenate([given["fast"].arrival_ns, given["slow"].arrival_ns])
    assert np.array_equal(np.sort(merged, kind="stable"), plan.open.at_ns)
    assert sum(int(g.rows.sum()) for g in given.values()) == int(plan.open.rows.sum())
    assert all("input tensor" in fault for fault in faults(plan))


def test_the_simulator_can_be_given_what_emulated_replicas_will_draw() -> None:
    arrivals = drawn()
    draws = arrivals.emulated_draws()
    assert arrivals.open is not None and len(draws) == len(arrivals.open)
    shares = [emulated.draw(DEFAULT_SEED, request) for request in range(len(draws))]
    assert draws.tolist() == np.floor(np.array(shares) * 2**BITS).tolist()
    given = arrivals.given(draws)
    fast = arrivals.open.class_ == arrivals.names.index("fast")
    assert given["fast"].draw is not None
    assert given["fast"].draw.tolist() == draws[fast].tolist(), "by wire id, whatever the class"


def test_the_same_seed_gives_the_same_arrivals_and_another_one_does_not() -> None:
    assert drawn().sha256 == drawn().sha256
    assert drawn().sha256 != drawn(2).sha256


def test_each_wire_id_has_its_class() -> None:
    arrivals = drawn()
    ids = np.array([0, 1, 2, CLOSED_FIRST_ID, CLOSED_FIRST_ID + 7])
    classes = arrivals.classes_of(ids)
    assert arrivals.open is not None
    assert classes[:3].tolist() == arrivals.open.class_[:3].tolist()
    assert classes[3:].tolist() == [2, 2]
    rows = empty_rows(2)
    rows[:, REQUEST] = [0, CLOSED_FIRST_ID]
    assert arrivals.with_classes(rows)[:, CLASS].tolist() == [int(arrivals.open.class_[0]), 2]


def test_priorities_and_timeouts_are_sent_where_they_differ_from_the_defaults() -> None:
    plan = drawn().plan("m", ())
    assert plan.open is not None
    assert plan.open.priority is not None and set(plan.open.priority.tolist()) == {0, 1}
    assert plan.open.timeout_ns is not None
    assert plan.open.patience_ns is None
    alone = draw(scenario(duration="1s").workload, drawn().model, Path(), 1).plan("m", ())
    assert alone.open is not None
    assert alone.open.priority is None
    assert alone.open.timeout_ns is None


def test_a_primer_is_the_beginning_of_the_arrivals() -> None:
    arrivals = drawn()
    whole, start = arrivals.plan("m", ()), arrivals.plan("m", (), until_ns=500_000_000)
    assert whole.open is not None and start.open is not None and start.closed is not None
    assert np.array_equal(start.open.at_ns, whole.open.at_ns[whole.open.at_ns < 500_000_000])
    assert start.closed.until_ns == 500_000_000


def test_classes_that_share_arrivals_are_sent_as_they_are_simulated() -> None:
    mix = {"fast": {"weight": 3, "timeout": "50ms"}, "slow": {"rows": 3}, "other": {"arrivals": {"poisson": "50/s"}}}
    asked = scenario(arrivals={"gamma": {"rate": "300/s", "cv": 3}}, classes=mix, duration="2s")
    assert isinstance(asked.deployment, Deployment)
    arrivals = draw(asked.workload, asked.deployment.models["m"], Path(), 1)
    plan, given = arrivals.plan("m", ()), arrivals.given()
    assert plan.open is not None
    assert set(given) == set(mix)
    merged = np.concatenate([given[name].arrival_ns for name in mix])
    assert np.array_equal(np.sort(merged, kind="stable"), plan.open.at_ns)
    assert set(given["slow"].rows.tolist()) == {3}
