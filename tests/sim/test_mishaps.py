"""A scenario's world and events: that both planes see the same, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve import files
from serve.errors import SpecError
from sim.scenario import Scenario
from sim.simulate import simulate
from sim.spot_traces import read_spot_trace
from tests.profiles import Synthetic, write_profile
from tests.sim.test_control import alike

EVENTS = [
    {"at": "10s", "fail": {"zone": "a"}, "for": "15s"},
    {"at": "20s", "hang": {"replica": "m/2"}},
    {"at": "30s", "slow": {"node": "second/0", "factor": 4}, "for": "10s"},
    {"at": "45s", "partition": {"zone": "b"}, "for": "8s"},
    {"at": "60s", "fail": {"node": "first/1"}},
    {"at": "70s", "fail": {"replica": "m/0"}},
]
WORLD = {"failures": {"node": {"mtbf": "3min", "detect": "2s", "replace": "3s"}, "replica": {"mtbf": "1min"}}}


def failing(folder: Path, **parts: Any) -> Scenario:
    """Three replicas on four machines in two zones."""
    write_profile(folder, Synthetic())
    pool = {"nodes": 2, "cores": 1, "price": "1 USD/h", "provision": "5s"}
    replicas = {"count": 3, "start_up": "2s"}
    whole: dict[str, Any] = {
        "seed": 3,
        "replications": 2,
        "workload": {"duration": "90s", "classes": {"a": {"arrivals": {"poisson": "200/s"}}}},
        "deployment": {
            "models": {
                "m": {
                    "backend": "emulated",
                    "profile": "toy.yaml",
                    "batching": {"max_batch": 1},
                    "queue": {"max_queue": 64},
                    "replicas": replicas,
                }
            },
            "pools": {"first": pool | {"zone": "a"}, "second": pool | {"zone": "b"}},
            "router": {"policy": "p2c", "network": "1ms", "probe": "1s", "timeout": "2s", "retry": {"max": 1}},
        },
    }
    return files.parse(whole | parts, Scenario, "s.yaml")


def on_both(folder: Path, question: Scenario, overrides: dict[str, Any] | None = None) -> dict[str, float]:
    """The metrics, which both planes must agree on."""
    fast, slow = (
        simulate(question, base=folder, engine=engine, overrides=overrides) for engine in ("fast", "reference")
    )  # type: ignore[arg-type]
    assert alike(files.plain(fast) | {"engine": ""}, files.plain(slow) | {"engine": ""})
    return {name: estimate.value for name, estimate in fast.total.metrics.items() if estimate.value is not None}


@pytest.mark.parametrize("per", ["node", "replica"])
def test_both_planes_go_through_the_same_failures(tmp_path: Path, per: str) -> None:
    question = failing(tmp_path, world=WORLD, events=EVENTS)
    metrics = on_both(tmp_path, question, {"models.m.queue.per": per})
    assert metrics["node_losses"] >= 3 and metrics["deaths"] >= 2 and metrics["lost"] > 0
    assert 0 < metrics["under_target"] < 1


def test_both_planes_fail_alike_under_an_autoscaler(tmp_path: Path) -> None:
    question = failing(tmp_path, world=WORLD, events=EVENTS)
    scaled = {"count": 2, "min": 2, "max": 4, "start_up": "2s", "autoscaler": {"kind": "kpa", "target": 2}}
    metrics = on_both(tmp_path, question, {"models.m.replicas": scaled})
    assert metrics["node_losses"] >= 3


def test_both_planes_have_their_spot_machines_taken_back_alike(tmp_path: Path) -> None:
    spot = {"weibull": {"mean": "30s", "shape": 0.7}, "available": 2}
    question = failing(tmp_path, world={"spot": {"a": {"fitted": spot, "notice": "3s", "no_notice": "30%"}}})
    nodes = {"min": 0, "max": 2}
    bought = {"pools.first.buy": "spot", "pools.first.nodes": nodes, "pools.second.nodes": nodes}
    metrics = on_both(tmp_path, question, bought)
    assert metrics["reclaims"] >= 2 and metrics["node_losses"] == 0


def test_a_zone_that_fails_takes_its_machines_and_no_others(tmp_path: Path) -> None:
    question = failing(tmp_path, events=[EVENTS[0]])
    metrics = on_both(tmp_path, question)
    assert metrics["node_losses"] == 2


def test_what_is_drawn_is_not_changed_by_what_else_is_asked(tmp_path: Path) -> None:
    """A failure more leaves the arrivals and the other failures as they were."""
    question = failing(tmp_path, world=WORLD)
    with_more = failing(tmp_path, world=WORLD, events=[EVENTS[2]])
    one, other = (simulate(each, base=tmp_path).total.metrics for each in (question, with_more))
    for name in ("arrival_rate", "node_losses", "deaths"):
        assert one[name].value == other[name].value
    assert one["mean"].value != other["mean"].value


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"events": [{"at": "91s", "fail": {"zone": "a"}}]}, r"events\.0\.at: must lie before the end"),
        ({"events": [{"at": "1s", "fail": {"zone": "c"}}]}, r"events\.0\.fail\.zone: must be one of a, b, got 'c'"),
        ({"events": [{"at": "1s", "slow": {"node": "first/2", "factor": 2}}]}, r"must be below first/2"),
        (
            {"events": [{"at": "1s", "slow": {"node": "x/0", "factor": 2}}]},
            r"must name one of first, second, got 'x/0'",
        ),
        ({"events": [{"at": "1s", "hang": {"replica": "m/3"}}]}, r"must be below m/3: counted from 0, got 'm/3'"),
        ({"events": [{"at": "1s", "hang": {"replica": "n/0"}}]}, r"must be one of m, got 'n/0'"),
    ],
)
def test_what_there_is_not_is_refused_by_name(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        simulate(failing(tmp_path, **parts), base=tmp_path)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"at": "1s"}, "takes one of fail, slow, hang, partition, rollout, got none"),
        ({"at": "1s", "hang": {"replica": "m/0"}, "for": "1s"}, "a replica is back when it has started again"),
        ({"at": "1s", "fail": {"zone": "a", "node": "first/0"}}, "takes either zone or node"),
    ],
)
def test_an_event_says_one_thing(tmp_path: Path, event: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        failing(tmp_path, events=[event])


def test_nodes_cannot_fail_where_nobody_would_notice(tmp_path: Path) -> None:
    alone = {"deployment.router": None, "deployment.pools": {"first": {"nodes": 1, "cores": 3, "price": "1 USD/h"}}}
    question = failing(tmp_path, events=[{"at": "1s", "fail": {"node": "first/0"}}], world=WORLD)
    with pytest.raises(SpecError, match=r"events\.0\.fail: needs a router(.|\n)*world\.failures\.node: needs a router"):
        simulate(question, base=tmp_path, overrides=alone)


def test_spot_is_bought_in_a_zone_that_is_known(tmp_path: Path) -> None:
    world = {"spot": {"c": {"fitted": {"lognormal": {"median": "1h", "sigma": 1}}}}}
    question = failing(tmp_path, world=world)
    with pytest.raises(SpecError, match=r"pools\.first\.zone: must be one of world\.spot \(c\)"):
        simulate(question, base=tmp_path, overrides={"pools.first.buy": "spot"})


# -- traces ------------------------------------------------------------------------------------------------


def test_a_trace_is_read_in_both_formats(tmp_path: Path) -> None:
    table, published = tmp_path / "t.csv", tmp_path / "t.json"
    table.write_text("start_s,end_s,available\n0,120,2\n120,180,0\n180,240,1\n")
    published.write_text(json.dumps({"metadata": {"gap_seconds": 60}, "data": [2, 2, 0, 1]}))
    for trace in (read_spot_trace(table), read_spot_trace(published)):
        supply = trace.supply(60 * 10**9, 300 * 10**9)
        assert [supply.at(at_s * 10**9) for at_s in (0, 59, 60, 119, 120, 179, 180, 240, 299)] == [
            2, 2, 0, 0, 1, 1, 2, 2, 2,
        ]  # fmt: skip
        assert trace.supply(0, 10**9, 3).at(0) == 6
        assert trace.most == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "start_s,available\n0,1\n", "lacks the columns end_s"),
        ("t.csv", "start_s,end_s,available\n0,60,1\n90,120,1\n", "each row where the one before ends"),
        ("t.csv", "start_s,end_s,available\n0,60,0.5\n", "must be whole numbers"),
        ("t.csv", "start_s,end_s,available\n", "has no rows"),
        ("t.json", "[1, 2", "is no trace of spot machines"),
        ("t.json", '{"data": [1]}', "is no trace of spot machines"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SpecError, match=said):
        read_spot_trace(file)
    with pytest.raises(SpecError, match="cannot be read"):
        read_spot_trace(tmp_path / "none.csv")
