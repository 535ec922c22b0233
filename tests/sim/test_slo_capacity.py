"""The predictive autoscaler's table: what replicas carry within the SLO, found by simulating them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve import files
from serve.autoscaler import Predictive
from serve.capacity_table import check_tables
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.run import run
from sim import slo_capacity
from sim.scenario import Scenario
from sim.simulate import completed, simulate
from tests.profiles import Synthetic, write_profile

SPIKE = {"spike": {"base": "30/s", "peak": "700/s", "at": "20s", "for": "40s", "up": "10s", "down": "10s"}}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slo_capacity, "_known", {})


def question(folder: Path, slo: dict[str, str] | None = None, classes: Any = None, **autoscaler: Any) -> Scenario:
    write_profile(folder, Synthetic())
    return files.parse(
        {
            "seed": 3,
            "replications": 2,
            "workload": {"duration": "120s", "classes": classes or {"a": {"arrivals": SPIKE}}},
            "deployment": {
                "models": {
                    "m": {
                        "backend": "emulated",
                        "profile": "toy.yaml",
                        "batching": {"max_batch": 4},
                        "queue": {"per": "replica", "max_queue": 64},
                        "replicas": {
                            "start_up": "2s",
                            "max": 3,
                            "autoscaler": {"kind": "predictive", "horizon": "10s", "hold": "20s", **autoscaler},
                        },
                    }
                },
                "pools": {"here": {"price": "1 USD/h", "nodes": 3, "cores": 1}},
                "router": {"policy": "p2c", "network": "1ms", "probe": "1s"},
            },
            "slo": {"p99": "30ms"} if slo is None else slo,
        },
        Scenario,
        "s.yaml",
    )


def table_of(scenario: Scenario) -> list[float]:
    deployment = scenario.deployment
    assert isinstance(deployment, Deployment)
    scaler = deployment.models["m"].replicas.autoscaler
    assert isinstance(scaler, Predictive) and scaler.capacity is not None
    assert list(scaler.capacity) == list(range(1, len(scaler.capacity) + 1))
    return list(scaler.capacity.values())


def test_what_the_table_says_holds_the_slo_and_a_tenth_more_does_not(tmp_path: Path) -> None:
    asked = question(tmp_path)
    whole = completed(asked, tmp_path, tmp_path)
    rates = table_of(whole)
    assert len(rates) == 3 and rates[0] < rates[1] < rates[2]
    assert rates[1] < rates[2] * 2 / 3 * 1.001, "of three no more than doubled is simulated: a straight line between"
    for count, rate in ((1, rates[0]), (3, rates[2])):
        fixed = slo_capacity.without_scaling(whole, "m", count)
        p99s = [_p99(fixed, tmp_path, rate * factor) for factor in (0.95, 1.15)]
        assert p99s[0] < 0.030 < p99s[1]


def _p99(fixed: Scenario, folder: Path, rate_rps: float) -> float:
    changes = {"workload.classes.a.arrivals": {"poisson": f"{rate_rps}/s"}, "workload.duration": "60s"}
    value = simulate(fixed, base=folder, replications=6, overrides=changes).total.metrics["p99"].value
    return float("inf") if value is None else value


def test_a_scenario_without_a_table_is_simulated_with_one_and_says_so(tmp_path: Path) -> None:
    asked = question(tmp_path)
    found = simulate(asked, base=tmp_path)
    told = [warning for warning in found.warnings if "computed for this slo: 1: " in warning]
    assert len(told) == 1
    said = completed(asked, tmp_path, tmp_path)
    again = simulate(said, base=tmp_path)
    assert again.total == found.total and not [w for w in again.warnings if "computed" in w]


def test_a_table_is_computed_once_for_all_that_ask_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question(tmp_path)
    first = completed(asked, tmp_path, tmp_path)
    monkeypatch.setattr(slo_capacity, "_computed", lambda *_: pytest.fail("computed again"))
    longer = asked.model_copy(update={"replications": 9, "expect": ["p99 < 1s"]})
    assert table_of(completed(longer, tmp_path, tmp_path)) == table_of(first)


def test_a_table_of_another_profile_is_refused(tmp_path: Path) -> None:
    whole = completed(question(tmp_path), tmp_path, tmp_path)
    deployment = whole.deployment
    assert isinstance(deployment, Deployment)
    check_tables(deployment, tmp_path / "d.yaml")
    (tmp_path / "toy.yaml").write_text((tmp_path / "toy.yaml").read_text() + "\n# measured again\n")
    with pytest.raises(SpecError, match=r"d\.yaml: models\.m\.replicas\.autoscaler\.capacity: is stale"):
        check_tables(deployment, tmp_path / "d.yaml")
    with pytest.raises(SpecError, match="is stale"):
        simulate(whole, base=tmp_path)
    files.save(tmp_path / "d.yaml", deployment)
    with pytest.raises(SpecError, match="is stale"):
        run(tmp_path / "d.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"slo": {"refused": "1%"}}, "is missing: the rate that 1, 2, ... replicas carry; an slo on a latency"),
        ({"classes": {"a": {"arrivals": {"closed": {"clients": 2}}}}}, "closed loops have none"),
        ({"slo": {"p99": "1us"}}, "not even an all but idle replica holds the SLO"),
    ],
)
def test_what_cannot_be_computed_is_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        simulate(question(tmp_path, **changes), base=tmp_path)
