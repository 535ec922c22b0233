"""The search on the real simulator: the same choice as simulating every candidate in full, and a story of limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import cost, fastest, ruling, space
from planner.race import latency_step
from planner.search import inputs, plan, simulator
from planner.slo import check, parse_slo
from sim.scenario import Scenario
from tests.profiles import Synthetic, write_profile

CHOICES: dict[str, Any] = {
    "models.toy.batching.window": ["0ms", "5ms"],
    "models.toy.batching.max_batch": [1, 8],
    "models.toy.replicas.count": [1, 2, 3],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile: 2 ms a batch and 0.5 ms a row, 20 % noise, a front that costs something."""
    folder = tmp_path_factory.mktemp("profile")
    write_profile(
        folder, Synthetic(noise_cv=0.2, parse_us=60, finish_batch_us=30, finish_request_us=30, busy=(0, 1, 2))
    )
    return folder


def question(rate: float, slo: dict[str, Any], choices: dict[str, Any] | None = None, cores: int = 4) -> Scenario:
    """Poisson requests of one row over 5 s."""
    return Scenario.model_validate(
        {
            "seed": 5,
            "workload": {"duration": "5s", "classes": {"all": {"arrivals": {"poisson": f"{rate}/s"}}}},
            "deployment": {
                "models": {"toy": {"file": "toy.onnx", "profile": "toy.yaml"}},
                "pools": {"here": {"cores": cores, "price": "1 USD/h"}},
            },
            "slo": slo,
            "choices": CHOICES if choices is None else choices,
        }
    )


def exhaustive(asked: Scenario, base: Path) -> dict[str, Any] | None:
    """Settings of the best candidate of all, each simulated in full."""
    deployment, profile = inputs(asked, base)
    bounds = parse_slo(asked.slo, ("all",))
    evaluate = simulator(base)
    best: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    choices = space.choices_of(asked, deployment, profile, bounds)
    for candidate in space.candidates(deployment, choices, profile, bounds):
        result = evaluate(asked.model_copy(update={"deployment": candidate.deployment}))
        front, p99 = result.total.metrics["front_busy"].value, result.total.metrics["p99"].value
        held = all(check(b, result).held for b in bounds) and result.verdict not in ("unstable", "overloaded")
        if not held or front is None or p99 is None or candidate.replica_cores + front > 4:
            continue
        step = cost.cost_step(candidate.deployment, front)
        capacity = fastest.capacity_rows_per_s(candidate.deployment, profile)
        key = (step, latency_step(p99), -capacity, candidate.index)
        if best is None or key < best[0]:
            best = key, dict(candidate.settings)
    return None if best is None else best[1]


@pytest.mark.parametrize(
    ("rate", "p99"),
    [
        pytest.param(100, "40ms", id="one-replica-will-do"),
        pytest.param(900, "20ms", id="batching-saves-a-replica"),
        pytest.param(1800, "15ms", id="more-replicas-are-needed"),
        pytest.param(300, "2ms", id="nothing-holds"),
    ],
)
def test_the_search_finds_what_simulating_everything_finds(base: Path, rate: float, p99: str) -> None:
    asked = question(rate, {"p99": p99})
    assert plan(asked, base=base).settings == exhaustive(asked, base)


@pytest.mark.parametrize(("rate", "p99", "limits"), [(1450, "30ms", {"capacity"}), (50, "2700us", {"latency floor"})])
def test_what_a_bound_rules_out_does_not_hold_when_simulated(
    base: Path, rate: float, p99: str, limits: set[str]
) -> None:
    asked = question(rate, {"p99": p99})
    deployment, profile = inputs(asked, base)
    bounds = parse_slo(asked.slo, ("all",))
    load = ruling.offered(asked.workload, bounds)
    seen = set()
    for candidate in space.candidates(deployment, CHOICES, profile, bounds):
        outside = ruling.ruled_out(candidate, profile, asked.workload, load, bounds)
        if outside is not None:
            seen.add(outside.limit)
            result = simulator(base)(asked.model_copy(update={"deployment": candidate.deployment}))
            assert not all(check(b, result).held for b in bounds), f"{candidate}: {outside.reason}"
    assert seen == limits


def test_a_planned_headroom_really_is_where_the_slo_breaks(base: Path) -> None:
    found = plan(question(300, {"p99": "20ms"}), base=base)
    assert found.headroom is not None and found.headroom.rate_rps is not None and found.settings is not None
    fixed = {path: [value] for path, value in found.settings.items()}
    assert plan(question(found.headroom.rate_rps, {"p99": "20ms"}, fixed), base=base).feasible
    assert not plan(question(found.headroom.rate_rps * 1.03, {"p99": "20ms"}, fixed), base=base).feasible


def test_too_little_for_the_load_names_capacity_and_the_rate_that_would_hold(base: Path) -> None:
    found = plan(question(5000, {"p99": "20ms"}), base=base)
    assert found.limit is not None
    assert found.limit.limit == "capacity"
    assert found.limit.holds_rate_rps is not None
    assert 500 < found.limit.holds_rate_rps < 5000


def test_the_same_scenario_gives_the_same_plan(base: Path) -> None:
    asked = question(900, {"p99": "20ms"}, {"models.toy.batching.max_batch": [8]})
    assert plan(asked, base=base) == plan(asked, base=base)
