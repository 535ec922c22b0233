"""How the SLO fares: which share it wants of whom, and what a simulation tells of it, on both simulators alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.claims import OF_THE_SLO
from sim.error_budget import bins_of
from sim.result import Result
from sim.scenario import Scenario
from sim.simulate import simulate
from sim.slo import NO_LIMIT_NS, bounds, limits_ns, objective_of_all, objectives
from tests.profiles import Synthetic, write_profile

MIN = 60 * 10**9
CLASSES = ("a", "b")


@pytest.mark.parametrize(
    ("slo", "each", "of_all"),
    [
        ({}, [None, None], None),
        ({"mean": "5ms"}, [None, None], None),
        ({"p99": "5ms"}, [0.99, 0.99], 0.99),
        ({"p50": "1ms", "p99.9": "5ms"}, [0.999, 0.999], 0.999),
        ({"a.p95": "5ms"}, [0.95, None], None),
        ({"a.p95": "5ms", "b.p95": "9ms"}, [0.95, 0.95], 0.95),
        ({"a.p95": "5ms", "p99": "9ms"}, [0.95, 0.99], 0.99),
    ],
)
def test_the_highest_percentile_of_a_class_is_its_objective(
    slo: dict[str, str], each: list[float | None], of_all: float | None
) -> None:
    found = bounds(dict(slo), CLASSES)
    assert objectives(found, CLASSES) == each
    assert objective_of_all(found, CLASSES) == of_all
    assert [limit < NO_LIMIT_NS for limit in limits_ns(found, CLASSES)] == [
        objective is not None or "mean" in slo for objective in each
    ]


@pytest.mark.parametrize(
    ("minutes", "width_s"), [(1, 1), (60, 1), (5 * 60, 5), (24 * 60, 60), (7 * 24 * 60, 300), (60 * 24 * 60, 3600)]
)
def test_bins_are_as_fine_as_memory_stays_flat(minutes: int, width_s: int) -> None:
    count, width_ns = bins_of(minutes * MIN)
    assert width_ns == width_s * 10**9
    assert (count - 1) * width_ns >= minutes * MIN and count <= 4097
    assert 300 % width_s == 0 or width_s > 300


def test_whatever_lasts_has_bins_to_its_end() -> None:
    count, width_ns = bins_of(365 * 24 * 60 * MIN)
    assert (count - 1) * width_ns >= 365 * 24 * 60 * MIN


def burst(peak: str, slo: dict[str, str], seconds: int = 40) -> Scenario:
    """Six minutes at a rate that one replica bears, but for some seconds from the second minute on."""
    arrivals = {"spike": {"base": "50/s", "peak": peak, "at": "2min", "for": f"{seconds}s"}}
    model = {
        "profile": "toy.yaml",
        "backend": "emulated",
        "batching": {"max_batch": 1},
        "queue": {"max_queue": "unbounded"},
    }
    return Scenario.model_validate(
        {
            "replications": 4,
            "slo": slo,
            "workload": {"duration": "6min", "classes": {"a": {"arrivals": arrivals}}},
            "deployment": {"models": {"m": model}, "pools": {"here": {"nodes": 1, "cores": 1, "price": "1 USD/h"}}},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_profile(tmp_path, Synthetic(samples=0))
    return tmp_path


def metrics(result: Result) -> dict[str, float | None]:
    return {name: estimate.value for name, estimate in result.total.metrics.items()}


def test_both_simulators_tell_the_same_of_the_slo(folder: Path) -> None:
    scenario = burst("400/s", {"p95": "20ms"})
    fast, slow = (metrics(simulate(scenario, base=folder, engine=engine)) for engine in ("fast", "reference"))
    assert {name: fast[name] for name in OF_THE_SLO} == {name: slow[name] for name in OF_THE_SLO}


def test_a_burst_is_seen_in_each_measure(folder: Path) -> None:
    found = metrics(simulate(burst("2000/s", {"p95": "20ms"}, 5), base=folder))
    met, left, burnt = found["slo_met"], found["budget_left"], found["burn_1h"]
    assert met is not None and left is not None and burnt is not None
    assert 0.1 < met < 0.95
    assert left == pytest.approx(1 - (1 - met) / 0.05, abs=1e-9), "of the whole load, 5 % of which may be late"
    assert burnt == found["burn_6h"] == pytest.approx((1 - met) / 0.05), "of a run that is shorter than the windows"
    assert found["slo_windows"] == 0.5, "the first 5 minutes were missed, the last minute was not"
    recovery = found["recovery"]
    assert recovery is not None and 60 <= recovery <= 180 and recovery % 15 == 0, "whole minutes, over 4 runs"


def test_what_never_recovers_has_no_time_to_recover(folder: Path) -> None:
    found = metrics(simulate(burst("4000/s", {"p95": "20ms"}, 230), base=folder))
    assert found["recovery"] is None
    assert found["slo_met"] is not None and found["slo_met"] < 0.1


def test_without_a_percentile_in_the_slo_nothing_is_told(folder: Path) -> None:
    assert not OF_THE_SLO & set(simulate(burst("400/s", {"mean": "20ms"}), base=folder).total.metrics)
