"""The space: its default choices, what follows from the SLO, and bounds that never exclude what could hold."""

from __future__ import annotations

from typing import Any

import pytest

from planner import cost, fastest, ruling, space
from planner.slo import Bound, parse_slo
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.profile import Profile
from sim.scenario import Scenario
from tests.planner.worlds import profile_data, scenario, tau_ms

PROFILE = Profile.model_validate(profile_data())


def built(question: Scenario) -> list[space.Candidate]:
    """All candidates of a scenario."""
    deployment = question.deployment
    assert isinstance(deployment, Deployment)
    bounds = parse_slo(question.slo, tuple(question.workload.classes))
    return space.candidates(deployment, space.choices_of(question, deployment, PROFILE, bounds), PROFILE, bounds)


def test_default_choices_are_what_was_measured_and_fits() -> None:
    settings = [dict(c.settings) for c in built(scenario(slo={"p99": "8ms"}, cores=4))]
    seen = {path.rpartition(".")[2]: {s[path] for s in settings} for path in settings[0]}
    assert seen == {
        "window": {"0ms", "1ms", "2ms"},
        "max_batch": {1, 2, 4, 8, 16},
        "count": {1, 2, 3, 4},
        "threads": {1, 2},
        "slots": {1, 2},
    }


def test_a_path_may_begin_at_the_files_root() -> None:
    long = built(scenario(choices={"deployment.models.m.replicas.count": [1, 2]}))
    short = built(scenario(choices={"models.m.replicas.count": "1..2"}))
    assert [c.deployment for c in long] == [c.deployment for c in short]


def test_max_queue_is_what_can_be_served_within_the_slo() -> None:
    (candidate,) = built(scenario(slo={"p99": "100ms"}, choices={"models.m.batching.max_batch": [16]}))
    rows_within = 0.1 / (tau_ms(16, 1) / 1e3) * 16
    assert candidate.deployment.models["m"].queue.max_queue == pytest.approx(rows_within, abs=1)
    assert candidate.deployment.front.budget == 10_000_000


def test_max_queue_and_front_budget_stay_where_they_are_choices() -> None:
    choices: dict[str, Any] = {"models.m.queue.max_queue": [7], "front.budget": ["3ms"]}
    (candidate,) = built(scenario(choices=choices))
    assert candidate.deployment.models["m"].queue.max_queue == 7
    assert candidate.deployment.front.budget == 3_000_000


def test_the_queue_serves_the_loosest_class_and_the_front_the_strictest() -> None:
    classes = {"fast": {"arrivals": {"poisson": "10/s"}}, "slow": {"arrivals": {"poisson": "10/s"}}}
    slo = {"fast.p99": "20ms", "slow.p99": "200ms"}
    (candidate,) = built(scenario(slo=slo, choices={"models.m.batching.max_batch": [16]}, classes=classes))
    assert candidate.deployment.front.budget == 2_000_000
    assert candidate.deployment.models["m"].queue.max_queue == pytest.approx(0.2 / (tau_ms(16, 1) / 1e3) * 16, abs=1)


def test_without_a_latency_bound_the_queue_stays_as_given() -> None:
    (candidate,) = built(scenario(slo={"throughput": "1/s"}, choices={"models.m.replicas.slots": [1]}))
    assert candidate.deployment.models["m"].queue.max_queue == 256
    assert candidate.deployment.front.budget is None


def test_what_was_not_measured_is_refused_whether_chosen_or_fixed() -> None:
    question = scenario(choices={"models.m.batching.max_batch": [8, 32]})
    assert isinstance(question.deployment, Deployment)
    fixed = space.with_values(question.deployment, {"models.m.replicas.threads": 3})
    with pytest.raises(SpecError) as raised:
        built(question.model_copy(update={"deployment": fixed}))
    first, second = str(raised.value).splitlines()
    assert first.startswith("scenario: choices.models.m.batching.max_batch: the profile measured batches up to 16 rows")
    assert second.startswith("scenario: deployment.models.m.replicas.threads: the profile measured threads [1, 2]")


def test_too_many_combinations_are_refused_with_their_number() -> None:
    choices: dict[str, Any] = {"models.m.queue.max_queue": "1..200", "models.m.replicas.count": "1..200"}
    with pytest.raises(SpecError, match="40000 combinations"):
        built(scenario(choices=choices))
    with pytest.raises(SpecError, match="at most 20000 values"):
        built(scenario(choices={"models.m.replicas.count": "1..1000000000000"}))


def test_values_that_the_schema_refuses_are_named() -> None:
    with pytest.raises(SpecError, match=r"replicas\.slots.*3"):
        built(scenario(choices={"models.m.replicas.slots": [3]}))


@pytest.mark.parametrize(("rate", "outside"), [(15, True), (13, False), (0.1, False)])
def test_capacity_rules_out_only_what_cannot_be_served(rate: float, outside: bool) -> None:
    """Batches of 16 take 10 ms: 1,600 rows/s, loosened by 5 % and by the SLO's share of the run."""
    classes = {"all": {"arrivals": {"poisson": f"{rate * 10}/s"}, "rows": 12}}
    question = scenario(slo={"p99": "50ms", "refused": "0%"}, choices={"models.m.replicas.count": [1]}, classes=classes)
    (candidate,) = built(question)
    bounds = parse_slo(question.slo, ("all",))
    load = ruling.offered(question.workload, bounds)
    assert load.rows_per_s == pytest.approx(rate * 120)
    assert (ruling.capacity_outside(candidate, PROFILE, load, bounds) is not None) == outside


def test_what_idleness_added_bounds_neither_capacity_nor_latency() -> None:
    """Near saturation no replica is idle; a bound that holds for idle ones would rule out what can be done."""
    cold = [c.model_copy(update={"warm_ms": c.mean_ms, "mean_ms": c.mean_ms + 1.0}) for c in PROFILE.service]
    profile = PROFILE.model_copy(update={"service": [c.model_copy(update={"p99_ms": c.p99_ms + 1.0}) for c in cold]})
    (candidate, *_) = built(scenario())
    for metric in ("mean", "p99"):
        floor_s = fastest.latency_floor_s(candidate.deployment, profile, metric)
        assert floor_s == pytest.approx(fastest.latency_floor_s(candidate.deployment, PROFILE, metric))
    capacity = fastest.capacity_rows_per_s(candidate.deployment, profile)
    assert capacity == pytest.approx(fastest.capacity_rows_per_s(candidate.deployment, PROFILE))


def test_the_latency_floor_is_the_fastest_batch_of_that_many_threads() -> None:
    one, two = built(scenario(choices={"models.m.replicas.threads": [1, 2]}))
    assert fastest.latency_floor_s(one.deployment, PROFILE, "p99") == pytest.approx(1.2 * tau_ms(1, 1) / 1e3)
    assert fastest.latency_floor_s(two.deployment, PROFILE, "p50") == pytest.approx(tau_ms(1, 2) / 1e3)


def test_cost_is_price_times_the_share_of_cores() -> None:
    (candidate,) = built(scenario(choices={"models.m.replicas.count": [3]}, cores=8))
    assert cost.usd_per_h(candidate.deployment, 0.2) == pytest.approx(0.8 * 3.2 / 8)


def test_the_fronts_floor_is_below_its_cost_with_any_batching() -> None:
    floor = cost.front_floor_cores(PROFILE.front, 1000, 1000, 16, 0.0)
    assert floor == pytest.approx(1000 * (70 + 30 / 16) / 1e6)


def test_losses_are_implied_unless_written() -> None:
    bounds = parse_slo({"p99": "50ms", "refused": "5%"}, ())
    assert Bound("refused", 0.05) in bounds
    assert Bound("expired", 0.01, implied=True) in bounds
    assert sum(b.metric == "refused" for b in bounds) == 1


@pytest.mark.parametrize(
    ("part", "copies"),
    [
        pytest.param(
            "models", {"a": {"file": "a.onnx", "profile": "p.yaml"}, "b": {"file": "b.onnx", "profile": "p.yaml"}}
        ),
        pytest.param("pools", {"a": {"cores": 2, "price": "1 USD/h"}, "b": {"cores": 2, "price": "1 USD/h"}}),
    ],
)
def test_more_than_one_model_or_pool_is_refused_by_name(part: str, copies: dict[str, Any]) -> None:
    deployment = scenario().deployment
    assert isinstance(deployment, Deployment)
    twice = Deployment.model_validate(deployment.model_dump(mode="json") | {"router": {}, part: copies})
    with pytest.raises(SpecError, match=rf"deployment\.{part}: .* got a, b"):
        cost.only_model(twice)
        cost.only_pool(twice)
