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
    setup = prepare(*asked, world=question.world, events=question.events)  # type: ignore[arg-type]
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


def test_an_accelerator_that_nobody_else_can_use_is_paid_with_its_part_of_the_node(folder: Path) -> None:
    """One of two accelerators: half of the node while it computes, though on one of four cores."""
    pools = {"here": POOL | {"accelerators": 2}}
    result = simulate(scenario(pools=pools, model={"replicas": {"accelerators": 1}}), base=folder)
    assert value(result, "cost_useful") == pytest.approx(0.025 / 2, rel=0.06)
    assert value(result, "cost_bound_usd_per_h") == pytest.approx(value(result, "cost_useful"), rel=0.01)


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


def test_what_one_models_clients_leave_behind_is_no_other_models_waste(folder: Path) -> None:
    served = {"profile": "toy.yaml", "backend": "emulated", "batching": {"max_batch": 1}}
    classes = {
        "a": {"model": "m", "arrivals": {"poisson": "300/s"}, "patience": "4ms"},
        "b": {"model": "n", "arrivals": {"poisson": "100/s"}},
    }
    asked = scenario(classes, pools={"here": POOL}, router={}).model_dump(mode="json")
    asked["deployment"]["models"] = {"m": served, "n": served}
    by_model = costed(Scenario.model_validate(asked), folder).attribution.by_model()
    assert by_model["m"].wasted_usd > 0.02 * by_model["m"].usd
    assert by_model["n"].wasted_usd == 0 < by_model["n"].useful_usd


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


@st.composite
def estates(draw: st.DrawFn) -> Scenario:
    """Two models on machines of two types, each fixed or scaled, one of two versions that may be rolled out."""
    kinds = {"c7i.large": "toy.yaml", "c7i.xlarge": "quick.yaml"}
    pools = {
        name: {
            "type": type_,
            "nodes": draw(st.sampled_from((2, {"min": 1, "max": 3}))),
            "provision": "2s",
            "zone": zone,
        }
        for name, type_, zone in (("here", "c7i.large", "a"), ("there", "c7i.xlarge", "b"))
    }
    traffic = draw(st.sampled_from(({"v1": {}, "v2": {}}, {"v1": {"traffic": "70%"}, "v2": {"traffic": "30%"}})))
    models = {
        "m": {"versions": {name: {"profile": kinds, **part} for name, part in traffic.items()}},
        "n": {"profile": kinds},
    }
    classes = {}
    for name, model in models.items():
        replicas: dict[str, Any] = {"count": 2, "start_up": "3s"}
        if draw(st.booleans()):
            scaler = {"kind": "kpa", "target": draw(st.sampled_from((1, 4))), "stable_window": "10s"}
            replicas |= {"min": 1, "max": 3, "autoscaler": scaler}
        model |= {
            "backend": "emulated",
            "batching": {"max_batch": draw(st.sampled_from((1, 4)))},
            "queue": {"per": "replica", "max_queue": 40},
            "replicas": replicas,
        }
        classes[name] = {
            "model": name,
            "arrivals": {"poisson": f"{draw(st.sampled_from((5, 150, 600)))}/s"},
            "tags": {"team": name},
            **draw(st.sampled_from(({}, {"patience": "10ms"}))),
        }
    kind = draw(st.sampled_from(("", "rolling", "blue_green", "canary"))) if "traffic" not in traffic["v1"] else ""
    steps = {"steps": [{"traffic": "30%", "for": "4s"}]} if kind == "canary" else {}
    events: list[dict[str, Any]] = (
        [{"at": "5s", "rollout": {"model": "m", "to": "v2", "kind": kind, **steps}}] if kind else []
    )
    if draw(st.booleans()):
        events.append({"at": "9s", "fail": {"zone": "a"}, "for": "4s"})
    question = {
        "seed": draw(st.integers(0, 99)),
        "replications": 2,
        "workload": {"duration": "20s", "classes": classes},
        "deployment": {"models": models, "pools": pools, "router": {"network": "1ms", "probe": "1s"}},
        "events": events,
    }
    return Scenario.model_validate(question)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=estates())
def test_an_estates_parts_are_its_bill_model_by_model(folder: Path, question: Scenario) -> None:
    """Versions, rollouts, autoscalers, failures and machines of two types: what is split is all there is to split."""
    write_profile(folder, Synthetic(base_ms=1.0), name="quick")
    result = simulate(question, base=folder)
    assert sum(value(result, part) for part in PARTS) == pytest.approx(1.0, rel=1e-9)
    assert 0 <= value(result, "cost_bound_usd_per_h") <= value(result, "cost_usd_per_h") * (1 + 1e-9)
    cost = costed(question, folder)
    models = cost.attribution.by_model()
    assert set(models) <= {"", "m", "n"}, "a version's cost is its model's"
    for model in ("m", "n"):
        worked = [work for work in cost.usage.work if work.owner.model == model]
        assert {work.owner.class_ for work in worked} <= {model}
        assert cost.attribution.by_tag("team")[model].useful_usd == pytest.approx(models[model].useful_usd, rel=1e-9)
    assert result.showback is not None
    charged = sum(charge.effective_usd for charge in result.showback.charges) / result.showback.hours
    assert charged == pytest.approx(value(result, "cost_usd_per_h"), rel=1e-9)
    assert sum(parts.usd for parts in models.values()) == pytest.approx(cost.bill.total.usd, rel=1e-9)
