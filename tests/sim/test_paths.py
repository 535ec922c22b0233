"""Paths into a scenario: they reach anything in it, and say where they go wrong."""

from pathlib import Path
from typing import Any

import pytest

from serve.deployment import Deployment
from serve.errors import SpecError
from sim import paths
from sim.scenario import Scenario


def scenario(**changes: Any) -> Scenario:
    data: dict[str, Any] = {
        "workload": {"duration": "1s", "classes": {"a": {"arrivals": {"poisson": "10/s"}}}},
        "deployment": {
            "models": {"digits": {"file": "m.onnx", "profile": "p.yaml"}},
            "pools": {"here": {"cores": 2, "price": "0.35 USD/h"}},
        },
    }
    return Scenario.model_validate(data | changes)


def deployment(changed: Scenario) -> Deployment:
    assert isinstance(changed.deployment, Deployment)
    return changed.deployment


def test_deployment_may_be_left_out() -> None:
    for path in ("models.digits.batching.window", "deployment.models.digits.batching.window"):
        assert deployment(paths.apply(scenario(), {path: "5ms"})).models["digits"].batching.window == 5_000_000


def test_what_is_not_named_stays() -> None:
    before = scenario()
    after = paths.apply(before, {"models.digits.batching.max_batch": 8})
    assert deployment(after).models["digits"].batching.max_batch == 8
    assert after.workload == before.workload
    assert deployment(before).models["digits"].batching.max_batch == 1, "the scenario given is left alone"


@pytest.mark.parametrize(
    ("path", "value", "reached"),
    [
        ("seed", "9", lambda s: s.seed == 9),
        ("workload.duration", "3s", lambda s: s.workload.duration == 3 * 10**9),
        ("workload.classes.a.timeout", "40ms", lambda s: s.workload.classes["a"].timeout == 40_000_000),
        ("workload.classes.a.arrivals.poisson", "7/s", lambda s: s.workload.classes["a"].arrivals.poisson == 7),
        ("workload.classes.a.rows", '{"1": 0.5, "4": 0.5}', lambda s: s.workload.classes["a"].rows == {1: 0.5, 4: 0.5}),
        (
            "workload.classes.a.arrivals",
            {"gamma": {"rate": "5/s", "cv": 3}},
            lambda s: s.workload.classes["a"].arrivals.gamma.cv == 3,
        ),
        ("slo", {"p99": "50ms"}, lambda s: s.slo == {"p99": "50ms"}),
        ("pools.here.price", "1 USD/h", lambda s: s.deployment.pools["here"].price == 1.0),
        (
            "models.digits.queue.max_queue",
            "unbounded",
            lambda s: s.deployment.models["digits"].queue.max_queue == "unbounded",
        ),
    ],
)
def test_every_part_can_be_reached(path: str, value: Any, reached: Any) -> None:
    assert reached(paths.apply(scenario(), {path: value}))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("models.digits.batching.windw", "has no part 'windw'; did you mean 'window'?"),
        ("models.digit.batching.window", "has no part 'digit'; did you mean 'digits'?"),
        ("modles.digits", "has no part 'modles'; did you mean 'models'?"),
        ("workload.classes.zzz.rows", "has no part 'zzz'; there are a"),
        ("seed.more", "leads into 0, which has no parts (at 'more')"),
        ("workload.classes.a.arrivals.gamma.cv", "leads into what is not set, which has no parts (at 'cv')"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(path: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        paths.apply(scenario(), {path: 1})
    assert str(caught.value) == f"--set: {path}: {said}"


def test_all_wrong_paths_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        paths.apply(scenario(), {"sed": 1, "models.digits.fil": "x", "seed": 3})
    assert len(caught.value.faults) == 2


def test_a_value_that_will_not_do_names_its_path() -> None:
    with pytest.raises(SpecError, match=r"--set: deployment\.models\.digits\.batching\.max_batch: must be >= 1, got 0"):
        paths.apply(scenario(), {"models.digits.batching.max_batch": "0"})


def test_a_deployment_in_another_file_is_not_reached_into() -> None:
    with pytest.raises(SpecError, match=r"leads into the file 'd\.yaml'"):
        paths.apply(scenario(deployment="d.yaml"), {"models.digits.batching.window": "1ms"}, Path("s.yaml"))
