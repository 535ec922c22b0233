"""What a simulated run costs: by hand where that can be, the parts of the bill, and what no system could better."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.vocabulary import METRICS
from sim.cost import PARTS, Cost, cost_of
from sim.measures import Window
from sim.prepare import prepare
from sim.replication import TIME_BINS, run
from sim.result import Result
from sim.scenario import Engine, Scenario
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile

BILLED = {
    "cost_usd_per_h",
    "cost_usd_per_1k",
    "cost_usd_per_month",
    "cost_bound_usd_per_h",
    "cost_gap",
    *PARTS,
    "commitment_utilisation",
    "commitment_coverage",
    "effective_savings_rate",
    "idle_hours",
    "energy_kwh",
    "co2e_kg",
}
"""Metrics that come from the bill, not from the run's requests."""

CONSTANT: dict[str, Any] = {"a": {"arrivals": {"constant": "10/s"}}}
POOL: dict[str, Any] = {"nodes": 1, "cores": 4, "price": "1 USD/h"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_profile(tmp_path, Synthetic())
    return tmp_path


def scenario(
    classes: dict[str, Any] | None = None,
    duration: str = "2s",
    model: dict[str, Any] | None = None,
    pools: dict[str, Any] | None = None,
    **deployment: Any,
) -> Scenario:
    """A replica takes 2.5 ms for a row."""
    served = {"profile": "toy.yaml", "backend": "emulated", **(model or {})}
    return Scenario.model_validate(
        {
            "seed": 3,
            "replications": 3,
            "workload": {"duration": duration, "classes": classes or CONSTANT},
            "deployment": {"models": {"m": served}, "pools": pools or {"here": POOL}, **deployment},
        }
    )


def costed(question: Scenario, folder: Path, engine: Engine = "fast") -> Cost:
    """The cost of the first replication, all of it."""
    asked = question.deployment, question.workload, {}, question.seed, folder, folder
    setup = prepare(*asked, world=question.world)  # type: ignore[arg-type]
    done = run(setup, 0, engine)
    return cost_of(setup, done, Window(0, TIME_BINS, done.tally.bin_ns))


def value(result: Result, metric: str) -> float:
    found = result.total.metrics[metric].value
    assert found is not None
    return found


# -- by hand -------------------------------------------------------------------------------------------


def test_work_costs_the_cores_that_it_holds(folder: Path) -> None:
    """Ten times 2.5 ms a second on one of four cores: a 160th of the node."""
    result = simulate(scenario(), base=folder)
    assert value(result, "cost_usd_per_h") == 1.0
    assert value(result, "cost_usd_per_month") == 730.0
    assert value(result, "cost_usd_per_1k") == pytest.approx(1000 / (value(result, "throughput") * 3600))
    assert value(result, "cost_useful") == pytest.approx(0.025 / 4, rel=0.06)
    assert value(result, "cost_idle") == pytest.approx(1 - value(result, "cost_useful"))
    assert value(result, "cost_wasted") == value(result, "cost_cold") == 0
    assert value(result, "cost_bound_usd_per_h") == pytest.approx(value(result, "cost_useful"), rel=0.01)
    assert value(result, "idle_hours") * 3600 == pytest.approx(2 * 0.95 * (1 - value(result, "cost_useful")), rel=0.06)


def test_a_node_that_holds_no_replica_is_idle(folder: Path) -> None:
    pools = {"here": POOL, "spare": POOL | {"nodes": 2}}
    cost = costed(scenario(pools=pools, router={}, model={"replicas": {"on": ["here"]}}), folder)
    assert cost.bill.total.usd_per_h == pytest.approx(3.0)
    assert cost.attribution.by_pool()["spare"].idle_usd == pytest.approx(2 * 2 / 3600)


def test_a_model_that_nobody_calls_is_paid_for(folder: Path) -> None:
    models = {"m": {"replicas": {"on": ["here"]}}, "zombie": {"replicas": {"on": ["there"]}}}
    served = {name: {"profile": "toy.yaml", "backend": "emulated", **model} for name, model in models.items()}
    question = scenario({"a": CONSTANT["a"] | {"model": "m"}}, pools={"here": POOL, "there": POOL}, router={})
    question = Scenario.model_validate(
        question.model_dump(mode="json")
        | {"deployment": question.deployment.model_dump(mode="json") | {"models": served}}  # type: ignore[union-attr]
    )
    by_model = costed(question, folder).attribution.by_model()
    assert by_model["zombie"].idle_usd == by_model["zombie"].usd == pytest.approx(2 / 3600)


def test_work_goes_to_classes_by_their_rows(folder: Path) -> None:
    classes = {
        "small": {"arrivals": {"constant": "10/s"}, "tags": {"team": "search"}},
        "large": {"arrivals": {"constant": "10/s"}, "rows": 3},
    }
    attribution = costed(scenario(classes, model={"batching": {"max_batch": 3}}), folder).attribution
    useful = {name: parts.useful_usd for name, parts in attribution.by_class().items()}
    assert useful["large"] == pytest.approx(3 * useful["small"])
    assert attribution.by_tag("team")["search"].useful_usd == useful["small"]


def test_what_a_client_left_behind_is_wasted(folder: Path) -> None:
    impatient = {"a": {"arrivals": {"poisson": "300/s"}, "patience": "4ms"}}
    result = simulate(scenario(impatient, model={"batching": {"max_batch": 1}}), base=folder)
    assert value(result, "cancelled") > 0.3
    assert 0.02 < value(result, "cost_wasted") < 0.15
    assert value(result, "busy") / 4 == pytest.approx(
        value(result, "cost_wasted") + value(result, "cost_useful"), rel=1e-6
    )


def test_a_machine_is_cold_until_its_first_replica_is_ready(folder: Path) -> None:
    """HPA asks for a second machine; it is paid from its hand-over on, and cold for the replica's start-up."""
    replicas = {
        "count": 1, "max": 2, "start_up": "30s",
        "autoscaler": {"kind": "hpa", "cpu": 20, "interval": "15s"},
    }  # fmt: skip
    question = scenario(
        {"a": {"arrivals": {"constant": "200/s"}}},
        "5min",
        {"queue": {"per": "replica"}, "replicas": replicas},
        {"here": {"nodes": {"min": 1, "max": 2}, "cores": 1, "price": "1 USD/h", "provision": "20s"}},
        router={},
    )
    cost = costed(question, folder)
    _, second = cost.usage.nodes
    assert second.first_ready_ns is not None and second.first_ready_ns - second.handed_over_ns == 30 * 10**9
    assert cost.attribution.total.cold_usd == pytest.approx(30 / 3600)
    assert cost.bill.total.usd == pytest.approx((600 - second.handed_over_ns / 1e9) / 3600)


# -- whatever is simulated --------------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn) -> Scenario:
    """Small scenarios of one or several nodes, calm or overloaded, patient or not, fixed or scaled."""
    nodes, scaled = draw(st.integers(1, 3)), draw(st.booleans())
    class_: dict[str, Any] = {"arrivals": {"poisson": f"{draw(st.sampled_from((5, 150, 900)))}/s"}}
    class_["rows"] = draw(st.sampled_from((1, 2, {1: 0.5, 4: 0.5})))
    if draw(st.booleans()):
        class_["patience"] = "10ms"
    replicas: dict[str, Any] = {"count": draw(st.integers(1, nodes))}
    pool: dict[str, Any] = {"nodes": nodes, "cores": draw(st.integers(1, 4)), "price": "0.4 USD/h"}
    if scaled:
        replicas |= {"max": nodes, "start_up": "3s", "autoscaler": {"kind": "kpa", "target": 1, "stable_window": "10s"}}
        pool |= {"nodes": {"min": draw(st.integers(0, nodes)), "max": nodes}, "provision": "2s", "empty_after": "2s"}
    model = {
        "batching": {"max_batch": draw(st.sampled_from((4, 8)))},
        "queue": {"per": draw(st.sampled_from(("node", "replica"))), "max_queue": 40},
        "replicas": replicas,
    }
    return scenario({"a": class_}, "20s", model, {"here": pool}, router={"network": "1ms"})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=questions())
def test_parts_are_the_whole_and_no_bill_is_below_a_perfect_systems(folder: Path, question: Scenario) -> None:
    result = simulate(question, base=folder, replications=2)
    assert sum(value(result, part) for part in PARTS) == pytest.approx(1.0, rel=1e-9)
    assert 0 <= value(result, "cost_bound_usd_per_h") <= value(result, "cost_usd_per_h") * (1 + 1e-9)
    assert 0 <= value(result, "cost_gap") <= 1
    assert set(result.total.metrics) <= set(METRICS)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=questions())
def test_both_simulators_bill_alike(folder: Path, question: Scenario) -> None:
    fast, slow = costed(question, folder), costed(question, folder, "reference")
    assert fast.usage.nodes == slow.usage.nodes
    assert fast.usage.up == slow.usage.up
    assert fast.attribution.total.useful_usd == pytest.approx(slow.attribution.total.useful_usd, rel=1e-9)
    assert fast.attribution.total.wasted_usd == pytest.approx(slow.attribution.total.wasted_usd, rel=1e-6, abs=1e-12)
