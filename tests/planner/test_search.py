"""The search against exhaustive truth and closed forms, with simulators made of formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import cost, fastest, space
from planner.plan import Plan
from planner.race import Evaluate, latency_step
from planner.search import plan
from planner.slo import check, estimate_of, latency_metric, parse_slo
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.files import load
from serve.profile import Profile
from sim.result import Result
from sim.scenario import Scenario
from tests.planner.worlds import World, erlang_c_p99, estimate, result, scenario, write_profile

SMALL: dict[str, Any] = {
    "models.m.batching.window": ["0ms", "2ms", "10ms"],
    "models.m.batching.max_batch": [1, 4, 16],
    "models.m.replicas.count": "1..4",
    "models.m.replicas.threads": [1, 2],
    "models.m.replicas.slots": [1, 2],
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the made-up profile."""
    write_profile(tmp_path)
    return tmp_path


def exhaustive(question: Scenario, base: Path, evaluate: Evaluate) -> dict[str, Any] | None:
    """Settings of the best of all candidates, each simulated in full; None if nothing holds."""
    deployment, profile = question.deployment, load(base / "profile.yaml", Profile)
    assert isinstance(deployment, Deployment)
    bounds = parse_slo(question.slo, ("all",))
    best: tuple[tuple[int, float, float, int], dict[str, Any]] | None = None
    choices = space.choices_of(question, deployment, profile, bounds)
    for candidate in space.candidates(deployment, choices, profile, bounds):
        outcome = evaluate(question.model_copy(update={"deployment": candidate.deployment}))
        front = outcome.total.metrics["front_busy"].value
        latency = estimate_of(latency_metric(bounds), outcome)
        if front is None or latency is None or latency.value is None:
            continue
        if candidate.replica_cores + front > 8 or not all(check(b, outcome).held for b in bounds):
            continue
        capacity = fastest.capacity_rows_per_s(candidate.deployment, profile)
        step = cost.cost_step(candidate.deployment, front)
        key = (step, latency_step(latency.value), -capacity, candidate.index)
        if best is None or key < best[0]:
            best = key, dict(candidate.settings)
    return None if best is None else best[1]


@pytest.mark.parametrize("luck", range(6))
@pytest.mark.parametrize(("rate", "p99"), [(100, "30ms"), (400, "12ms"), (900, "25ms"), (2500, "15ms"), (2500, "4ms")])
def test_the_search_finds_what_an_exhaustive_one_finds(base: Path, luck: int, rate: float, p99: str) -> None:
    question = scenario(rate, {"p99": p99, "throughput": f"{0.9 * rate}/s"}, SMALL)
    found = plan(question, base=base, evaluate=World(luck))
    assert found.settings == exhaustive(question, base, World(luck))


def test_the_search_simulates_few_of_many_in_full(base: Path) -> None:
    world = World()
    found = plan(scenario(400, {"p99": "20ms"}, SMALL), base=base, evaluate=world)
    full = [s for s in world.calls if s.workload.duration == 20 * 10**9]
    assert found.feasible
    assert found.candidates == 144
    assert len({repr(s.deployment) for s in full}) < 20


def test_the_same_scenario_gives_the_same_plan(base: Path) -> None:
    question = scenario(900, {"p99": "25ms"}, SMALL)
    assert plan(question, base=base, evaluate=World(2)) == plan(question, base=base, evaluate=World(2))


def test_feasibility_is_judged_by_the_far_end_of_pi_not_by_the_point(base: Path) -> None:
    only = {"models.m.batching.window": ["0ms"]}
    exact = plan(scenario(100, {"p99": "6.3ms"}, only), base=base, evaluate=World(width=0.0))
    assert exact.feasible
    assert exact.result is not None
    wide = plan(scenario(100, {"p99": "6.3ms"}, only), base=base, evaluate=World(width=0.9))
    assert not wide.feasible
    assert wide.limit is not None
    assert wide.limit.best_latency_s == pytest.approx(exact.result.total.metrics["p99"].value)


class MultiServer:
    """M/M/c in units of 10 ms of mean service, as ORACLES of queueing theory give it (Erlang C)."""

    def __init__(self, load: float) -> None:
        self.load = load

    def __call__(self, question: Scenario) -> Result:
        """Exact, without intervals of any width."""
        assert isinstance(question.deployment, Deployment)
        rate = question.workload.classes["all"].arrivals.poisson
        assert rate is not None
        p99 = erlang_c_p99(question.deployment.models["m"].replicas.count, rate / 100)
        metrics = {"p99": estimate(None if p99 is None else p99 / 100), "front_busy": estimate(0.0)}
        losses = {name: estimate(0.0) for name in ("refused", "expired", "failed")}
        return result(question, {**metrics, **losses}, "stable" if p99 else "unstable")


@pytest.mark.parametrize(("load_", "p99", "servers"), [(6.4, "50ms", 9), (6.4, "60ms", 8), (50.0, "52ms", 52)])
def test_the_fewest_servers_are_those_of_erlang_c(base: Path, load_: float, p99: str, servers: int) -> None:
    choices = {"models.m.replicas.count": "1..64"}
    question = scenario(100 * load_, {"p99": p99}, choices, cores=80)
    found = plan(question, base=base, evaluate=MultiServer(load_))
    assert found.settings == {"models.m.replicas.count": servers}


def test_below_the_latency_floor_no_number_of_servers_helps_and_the_plan_says_so(base: Path) -> None:
    choices = {"models.m.replicas.count": "1..64"}
    found = plan(scenario(640, {"p99": "46ms"}, choices, cores=80), base=base, evaluate=MultiServer(6.4))
    assert not found.feasible
    assert found.limit is not None
    assert found.limit.limit == "latency floor"
    assert found.limit.best_latency_s == pytest.approx(0.04605, rel=1e-3)


def test_headroom_is_the_rate_at_which_erlang_c_crosses_the_slo(base: Path) -> None:
    choices = {"models.m.replicas.count": [9]}
    found = plan(scenario(640, {"p99": "50ms"}, choices, cores=80), base=base, evaluate=MultiServer(6.4))
    assert found.headroom is not None
    assert found.headroom.rate_rps is not None
    below, above = (
        erlang_c_p99(9, found.headroom.rate_rps / 100),
        erlang_c_p99(9, found.headroom.rate_rps * 1.011 / 100),
    )
    assert below is not None and above is not None
    assert below <= 5.0 < above
    assert found.headroom.breaks.startswith("p99 <= 50ms")


def infeasible(base: Path, question: Scenario, evaluate: Evaluate | None = None) -> Plan:
    """The plan of a question that has no answer."""
    found = plan(question, base=base, evaluate=evaluate or World())
    assert not found.feasible
    assert found.deployment is None
    return found


def test_a_rate_beyond_all_replicas_names_the_capacity_and_races_nobody(base: Path) -> None:
    world = World()
    found = infeasible(base, scenario(8000, choices={**SMALL, "models.m.replicas.count": [1, 2]}, cores=16), world)
    assert found.limit is not None
    assert found.limit.limit == "capacity"
    assert "8000 rows/s arrive" in found.limit.reason
    assert len({repr(s.deployment) for s in world.calls}) == 1
    assert found.limit.holds_rate_rps is not None
    assert found.limit.holds_rate_rps < 8000


def test_too_few_cores_name_the_cores(base: Path) -> None:
    found = infeasible(base, scenario(100, choices={"models.m.replicas.count": [2]}, cores=2))
    assert found.limit is not None
    assert found.limit.limit == "cores"
    assert "of 2" in found.limit.reason


def test_an_slo_below_the_fastest_batch_names_the_latency_floor_and_the_best_p99(base: Path) -> None:
    found = infeasible(base, scenario(100, {"p99": "1ms"}, SMALL))
    assert found.limit is not None
    assert found.limit.limit == "latency floor"
    assert found.limit.best_latency_s is not None
    assert found.limit.best_latency_s > 0.001


def test_waiting_that_breaks_the_slo_names_the_rate_that_would_hold(base: Path) -> None:
    choices = {"models.m.replicas.count": [1]}
    found = infeasible(base, scenario(1000, {"p99": "14ms"}, choices))
    assert found.limit is not None
    assert found.limit.limit == "latency"
    assert found.limit.holds_rate_rps is not None
    again = plan(scenario(found.limit.holds_rate_rps, {"p99": "14ms"}, choices), base=base, evaluate=World())
    assert again.feasible


def test_requests_larger_than_every_max_batch_name_the_rows(base: Path) -> None:
    classes = {"all": {"arrivals": {"poisson": "10/s"}, "rows": 5}}
    found = infeasible(base, scenario(choices={"models.m.batching.max_batch": [1, 4]}, classes=classes))
    assert found.limit is not None
    assert found.limit.limit == "rows"


def test_the_runner_up_lost_for_a_stated_reason(base: Path) -> None:
    found = plan(scenario(400, {"p99": "20ms"}, SMALL), base=base, evaluate=World())
    assert found.runner_up is not None
    assert found.runner_up.settings != found.settings
    assert found.runner_up.reason.startswith("holds the SLO too, but ")
    alone = plan(scenario(400, choices={"models.m.replicas.count": [1]}), base=base, evaluate=World())
    assert alone.runner_up is None


def test_every_candidate_is_accounted_for(base: Path) -> None:
    found = plan(scenario(2500, {"p99": "15ms"}, SMALL), base=base, evaluate=World())
    assert len(found.considered) == found.candidates == 144
    assert sum(c.fate == "chosen" for c in found.considered) == 1
    assert all(c.reason for c in found.considered)


def test_losses_count_even_if_the_slo_forgets_them(base: Path) -> None:
    def lossy(question: Scenario) -> Result:
        metrics = {"p99": estimate(0.001), "front_busy": estimate(0.01), "refused": estimate(0.02)}
        return result(question, {**metrics, "expired": estimate(0.0), "failed": estimate(0.0)})

    found = infeasible(base, scenario(100, choices={"models.m.replicas.count": [1]}), lossy)
    assert found.limit is not None
    assert found.limit.limit == "refusals"


def test_a_short_run_that_answers_less_per_second_drops_nobody(base: Path) -> None:
    found = plan(scenario(400, {"throughput": "390/s"}, SMALL), base=base, evaluate=World())
    assert found.feasible


def test_traces_are_never_cut_short(base: Path) -> None:
    world = World()
    classes = {"all": {"arrivals": {"trace": {"file": "trace.csv"}}}}
    plan(scenario(slo={"p99": "1s"}, choices=SMALL, classes=classes), base=base, evaluate=world)
    assert {s.workload.duration for s in world.calls} == {20 * 10**9}


def test_progress_never_goes_back_and_ends_at_one(base: Path) -> None:
    shares: list[float] = []
    plan(scenario(400, choices=SMALL), base=base, evaluate=World(), progress=lambda _, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_faults_of_a_scenario_come_all_at_once(base: Path) -> None:
    choices = {
        "models.m.batching.windw": ["0ms"],
        "models.m.replicas.count": "4..1",
        "models.m.replicas.threads": [1, 3],
        "models.m.replicas.slots": [],
    }
    with pytest.raises(SpecError) as raised:
        plan(scenario(choices=choices), base=base, evaluate=World())
    text = str(raised.value)
    assert len(text.splitlines()) == 4
    assert "did you mean 'window'?" in text
    assert "measured threads [1, 2], not [3]" in text


def test_an_slo_that_cannot_be_read_is_refused_by_name(base: Path) -> None:
    with pytest.raises(SpecError, match=r"slo\.p9"):
        plan(scenario(slo={"p9": "50ms", "p99": "fast"}), base=base, evaluate=World())
