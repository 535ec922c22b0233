"""Plans of fleets: the same choice as simulating every candidate in full; what is written can be simulated as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import space
from planner.export import write
from planner.fleet_race import cost_step
from planner.race import latency_step
from planner.search import inputs, plan, simulator
from planner.slo import check, parse_slo
from planner.subject import read_subject
from serve.autoscaler import Predictive
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.files import load, sha256
from sim.scenario import Scenario
from sim.simulate import predict
from tests.profiles import Synthetic, write_profile


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile: 2 ms a batch and 0.5 ms a row, 20 % noise."""
    folder = tmp_path_factory.mktemp("profile")
    write_profile(folder, Synthetic(noise_cv=0.2))
    return folder


def question(choices: dict[str, Any], slo: dict[str, Any], arrivals: Any, **replicas: Any) -> Scenario:
    """A fleet of single-core nodes behind a router, each an engine."""
    return Scenario.model_validate(
        {
            "seed": 5,
            "workload": {"duration": "30s", "classes": {"all": {"arrivals": arrivals}}},
            "deployment": {
                "models": {
                    "toy": {
                        "backend": "emulated",
                        "profile": "toy.yaml",
                        "batching": {"max_batch": 4},
                        "queue": {"per": "replica", "max_queue": 64},
                        "replicas": {"start_up": "1s", **replicas},
                    }
                },
                "pools": {"here": {"cores": 1, "price": "1 USD/h", "nodes": 4}},
                "router": {"policy": "random", "probe": "500ms", "propagation": "500ms"},
            },
            "slo": slo,
            "choices": choices,
        }
    )


FIXED = {
    "router.policy": ["random", "p2c"],
    "pools.here.nodes": [2, 3, 4],
    "models.toy.replicas.count": [2, 3, 4],
}
SCALED = {
    "models.toy.replicas.autoscaler": [
        {"kind": "hpa", "cpu": 40, "interval": "2s", "scrape": "1s", "down_window": "5s", "cpu_initialization": "0s"},
        {"kind": "hpa", "cpu": 90, "interval": "2s", "scrape": "1s", "down_window": "5s", "cpu_initialization": "0s"},
        {"kind": "predictive", "interval": "1s", "horizon": "2s", "hold": "5s"},
    ],
    "router.policy": ["random", "p2c"],
}
RAMP = {"ramp": {"from": "100/s", "to": "900/s", "over": "25s"}}


def exhaustive(asked: Scenario, base: Path) -> dict[str, Any] | None:
    """Settings of the best candidate of all, each simulated in full."""
    deployment, profile = inputs(asked, base)
    bounds = parse_slo(asked.slo, ("all",))
    found = []
    for candidate in space.candidates(deployment, asked.choices, profile, bounds):
        full = asked.model_copy(update={"deployment": candidate.deployment, "replications": 20})
        try:
            result = simulator(base)(full)
        except SpecError:
            continue  # more replicas than nodes
        p99, bill = (result.total.metrics[name].value for name in ("p99", "cost_usd_per_h"))
        if all(check(b, result).held for b in bounds) and result.verdict not in ("unstable", "overloaded"):
            assert p99 is not None and bill is not None
            found.append(((cost_step(bill), latency_step(p99), candidate.index), dict(candidate.settings)))
    return min(found, key=lambda each: each[0])[1] if found else None


@pytest.mark.parametrize(
    ("choices", "slo", "arrivals", "replicas"),
    [
        pytest.param(FIXED, {"p99": "12ms"}, {"poisson": "700/s"}, {}, id="fewest nodes, best router"),
        pytest.param(FIXED, {"p99": "4ms"}, {"poisson": "700/s"}, {}, id="nothing holds"),
        pytest.param(SCALED, {"p99": "40ms"}, RAMP, {"max": 4, "count": 1}, id="autoscalers"),
    ],
)
def test_the_search_finds_what_simulating_everything_finds(
    base: Path, choices: dict[str, Any], slo: dict[str, Any], arrivals: Any, replicas: dict[str, Any]
) -> None:
    asked = question(choices, slo, arrivals, **replicas)
    found = plan(asked, base=base)
    assert found.settings == exhaustive(asked, base)
    assert found.feasible == (found.settings is not None)
    fates = {considered.fate for considered in found.considered}
    assert choices is SCALED or "ruled out" in fates, "three replicas on two nodes"
    assert (found.limit is None) == found.feasible


def test_what_is_written_is_what_was_simulated_and_verify_says_that_it_cannot(base: Path, tmp_path: Path) -> None:
    predictive = {"models.toy.replicas.autoscaler": [SCALED["models.toy.replicas.autoscaler"][2]]}
    asked = question(predictive, {"p99": "60ms"}, RAMP, max=4)
    found = plan(asked, base=base)
    assert found.feasible and found.result is not None and found.cores is None
    path = tmp_path / "planned.yaml"
    write(found, asked, path, base=base)
    written = load(path, Deployment)
    scaler = written.models["toy"].replicas.autoscaler
    assert isinstance(scaler, Predictive) and scaler.capacity is not None
    assert scaler.profile_sha256 == sha256(base / "toy.yaml") == written.models["toy"].profile_sha256
    again = predict(written, asked.workload, base=tmp_path, seed=5, replications=20, slo=asked.slo)
    assert again.total == found.result.total
    assert found.usd_per_h == again.total.metrics["cost_usd_per_h"].value
    with pytest.raises(SpecError, match=r"models\.toy\.replicas\.autoscaler: sets the replicas of a fleet"):
        read_subject(path)


def test_a_fleet_without_choices_is_refused_by_name(base: Path) -> None:
    asked = question({}, {"p99": "60ms"}, RAMP)
    with pytest.raises(SpecError, match=r"choices: is missing: of several nodes"):
        plan(asked, base=base)
