"""Which replicas run on which nodes, and which one node `serve` runs."""

from typing import Any

import pytest

from serve.deployment import Deployment, Replicas
from serve.errors import SpecError
from serve.files import parse
from serve.fleet import Place, engines_of, most, node_of, places


def fleet(count: int, threads: int = 1, on: list[str] | None = None, **pools: dict[str, Any]) -> Deployment:
    """A model with so many replicas on some pools."""
    replicas: dict[str, Any] = {"count": count, "threads": threads}
    if on is not None:
        replicas["on"] = on
    data = {
        "models": {"digits": {"backend": "emulated", "profile": "p.yaml", "replicas": replicas}},
        "pools": {name: {"price": "1 USD/h", **pool} for name, pool in pools.items()},
        "router": {"policy": "p2c"},
    }
    return parse(data, Deployment, "d.yaml")


SMALL, LARGE = {"nodes": 3, "cores": 2}, {"nodes": 2, "cores": 8}


def test_replicas_fill_nodes_in_the_order_of_pools() -> None:
    assert places(fleet(5, small=SMALL, large=LARGE), "digits") == [
        Place(0, "small", 2),
        Place(1, "small", 2),
        Place(2, "small", 1),
    ]
    assert places(fleet(9, on=["large", "small"], small=SMALL, large=LARGE), "digits") == [
        Place(3, "large", 8),
        Place(4, "large", 1),
    ]


def test_replicas_of_several_threads_leave_cores_that_are_too_few_empty() -> None:
    found = places(fleet(3, threads=3, small=SMALL, large=LARGE), "digits")
    assert found == [Place(3, "large", 2), Place(4, "large", 1)]


def test_a_single_node_takes_all_replicas_even_without_the_cores() -> None:
    assert places(fleet(4, here={"nodes": 1, "cores": 2}), "digits") == [Place(0, "here", 4)]


def test_replicas_that_fit_nowhere_are_refused_by_name() -> None:
    with pytest.raises(
        SpecError, match=r"models\.digits\.replicas: 8 replicas of 1 threads do not fit: 2 find no node"
    ):
        places(fleet(8, on=["small"], small=SMALL, large=LARGE), "digits")


def needing(count: int, needs: dict[str, Any], **pools: dict[str, Any]) -> Deployment:
    """A fleet whose replicas need more than cores."""
    found = fleet(count, **pools)
    model = found.models["digits"]
    replicas = parse({"count": count, **needs}, Replicas, "d.yaml")
    return found.model_copy(update={"models": {"digits": model.model_copy(update={"replicas": replicas})}})


def test_a_node_has_room_for_what_all_its_replicas_need() -> None:
    roomy = {"nodes": 3, "cores": 8, "memory": "4GiB", "accelerators": 1, "accelerator_memory": "16GiB"}
    assert places(needing(4, {"memory": "1536MiB"}, here=roomy), "digits") == [Place(0, "here", 2), Place(1, "here", 2)]
    assert [place.replicas for place in places(needing(3, {"accelerators": 1}, here=roomy), "digits")] == [1, 1, 1]
    shared = places(needing(5, {"accelerator_memory": "6GiB"}, here=roomy), "digits")
    assert [place.replicas for place in shared] == [2, 2, 1], "two fit beside each other on one accelerator"
    with pytest.raises(SpecError, match="4 replicas of 1 threads, 1 accelerators do not fit: 1 find no node"):
        places(needing(4, {"accelerators": 1}, here=roomy), "digits")
    with pytest.raises(SpecError, match="2 replicas of 1 threads, 3GiB of memory do not fit"):
        places(needing(2, {"memory": "3GiB"}, here={**roomy, "nodes": 1}), "digits")


def test_what_is_not_known_of_a_pool_and_asked_for_is_missing() -> None:
    with pytest.raises(
        SpecError, match=r"pools\.small\.memory: is missing: models\.digits\.replicas\.memory asks for it"
    ):
        places(needing(1, {"memory": "1GiB"}, small=SMALL), "digits")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"router": None}, r"router: is missing: 3 nodes need one"),
        ({"models": {"digits": {"replicas": {"on": ["smal"]}}}}, r"replicas\.on: must name pools \(small\), got smal"),
        ({"router": {"policy": "p2c", "state_age": "1s"}}, "must be 0s or left out"),
        ({"router": {"policy": "p3c"}}, "did you mean 'p2c'"),
    ],
)
def test_what_is_wrong_with_a_fleet_is_said(change: dict[str, Any], said: str) -> None:
    model = {"backend": "emulated", "profile": "p.yaml"} | change.get("models", {}).get("digits", {})
    data = {
        "models": {"digits": model},
        "pools": {"small": {"price": "1 USD/h", **SMALL}},
        "router": change.get("router", {"policy": "p2c"}),
    }
    with pytest.raises(SpecError, match=said):
        parse(data, Deployment, "d.yaml")


def test_one_engine_is_one_node_of_a_pool() -> None:
    deployment = fleet(5, small=SMALL, large=LARGE)
    one = node_of(deployment, "small")
    assert (one.node_count, one.models["digits"].replicas.count, one.router) == (1, 2, None)
    with pytest.raises(SpecError, match="has 5 nodes, of which one engine is one: name its pool"):
        node_of(deployment, None)
    with pytest.raises(SpecError, match="must be one of small, large, got 'medium'"):
        node_of(deployment, "medium")
    with pytest.raises(SpecError, match="'large' holds no replicas"):
        node_of(deployment, "large")


def test_each_node_is_an_engine_with_what_is_placed_there() -> None:
    engines = engines_of(fleet(5, small=SMALL, large=LARGE))
    assert [engine.models["digits"].replicas.count for engine in engines] == [2, 2, 1]
    assert {engine.node_count for engine in engines} == {1} and {engine.router for engine in engines} == {None}
    assert {engine.models["digits"].replicas.affinity for engine in engines} == {"none"}


def test_replicas_with_queues_of_their_own_are_engines_of_their_own() -> None:
    deployment = fleet(5, small=SMALL, large=LARGE)
    digits = deployment.models["digits"]
    alone = digits.model_copy(update={"queue": digits.queue.model_copy(update={"per": "replica"})})
    other = digits.model_copy(update={"replicas": digits.replicas.model_copy(update={"count": 3, "on": ["large"]})})
    engines = engines_of(deployment.model_copy(update={"models": {"digits": alone, "other": other}}))
    held = [{name: model.replicas.count for name, model in engine.models.items()} for engine in engines]
    assert held == [{"digits": 1}] * 5 + [{"other": 3}]


def test_an_autoscalers_replicas_begin_at_their_count() -> None:
    data = {
        "models": {
            "digits": {
                "backend": "emulated",
                "profile": "p.yaml",
                "replicas": {"count": 2, "min": 1, "max": 6, "autoscaler": {"kind": "kpa"}},
            }
        },
        "pools": {"small": {"price": "1 USD/h", "nodes": {"min": 1, "max": 3}, "cores": 2}},
        "router": {"policy": "p2c"},
    }
    engines = engines_of(parse(data, Deployment, "d.yaml"))
    assert [engine.models["digits"].replicas.count for engine in engines] == [2]
    assert engines[0].models["digits"].replicas.autoscaler is None


def test_an_autoscaler_sets_the_replicas_of_a_whole_fleet_not_of_one_of_its_nodes() -> None:
    def scaled(**pool: Any) -> Deployment:
        replicas = {"max": 5, "autoscaler": {"kind": "kpa"}}
        model = {"backend": "emulated", "profile": "p.yaml", "replicas": replicas}
        pools = {"small": {"price": "1 USD/h", **pool}}
        return parse({"models": {"digits": model}, "pools": pools, "router": {}}, Deployment, "d.yaml")

    several = scaled(**SMALL)
    one = node_of(several, "small").models["digits"].replicas
    assert (one.autoscaler, one.count) == (None, 2)
    alone = scaled(nodes=1, cores=2)
    assert node_of(alone, "small") == node_of(alone, None) == alone
    assert (most(alone, "digits"), most(several, "digits")) == (2, 5)


def test_models_of_a_fleet_share_the_cores_of_its_nodes() -> None:
    deployment = fleet(2, small=SMALL)
    models = {"first": deployment.models["digits"], "second": deployment.models["digits"]}
    engines = engines_of(deployment.model_copy(update={"models": models}))
    held = [{name: model.replicas.count for name, model in engine.models.items()} for engine in engines]
    assert held == [{"first": 2}, {"second": 2}]


def test_a_policy_that_only_simulators_run_is_refused_by_name() -> None:
    data = {
        "models": {"digits": {"backend": "emulated", "profile": "p.yaml", "batching": {"policy": "ray_serve"}}},
        "pools": {"here": {"cores": 2, "price": "1 USD/h"}},
    }
    deployment = parse(data, Deployment, "d.yaml")
    for serve in (engines_of, lambda deployment: node_of(deployment, None)):
        with pytest.raises(SpecError, match=r"models.digits.batching.policy: ray_serve is simulated only"):
            serve(deployment)
