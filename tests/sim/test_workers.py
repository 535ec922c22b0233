"""Replications on threads and on Ray: the same numbers, wherever they run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.errors import SpecError
from sim import workers
from sim.scenario import Scenario
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    write_profile(tmp_path, Synthetic())
    return Scenario.model_validate(
        {
            "seed": 3,
            "replications": 6,
            "workload": {"duration": "1s", "classes": {"a": {"arrivals": {"poisson": "300/s"}}}},
            "deployment": {
                "models": {"m": {"file": "m.onnx", "profile": "toy.yaml", "batching": {"max_batch": 8}}},
                "pools": {"here": {"nodes": 1, "cores": 4, "price": "1 USD/h"}},
            },
        }
    )


@pytest.fixture
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="ray is not installed: pip install -c constraints.txt -e '.[dev]'")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27, logging_level="ERROR"
        )
        yield
        ray.shutdown()


def test_any_number_of_threads_gives_the_same_result(tmp_path: Path, scenario: Scenario) -> None:
    results = []
    for jobs in (None, 1, 3):
        with workers.on(jobs):
            results.append(simulate(scenario, base=tmp_path))
    assert results[0] == results[1] == results[2]


def test_a_ray_cluster_gives_the_same_result(tmp_path: Path, scenario: Scenario, cluster: None) -> None:
    here = simulate(scenario, base=tmp_path)
    told: list[int] = []
    with workers.on("ray"):
        there = simulate(scenario, base=tmp_path, progress=lambda done, _: told.append(done))
        reference = simulate(scenario, base=tmp_path, engine="reference", replications=2)
    assert there == here and told == [1, 2, 3, 4, 5, 6]
    assert reference == simulate(scenario, base=tmp_path, engine="reference", replications=2)


def test_ray_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpecError, match=r"--jobs: ray: needs ray"), workers.on("ray"):
        pass


def test_so_many_threads_at_once_and_in_order() -> None:
    import threading

    running, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(3, timeout=60)

    def task(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1
        return number

    with workers.on(3):
        assert list(workers.each(task, 6)) == [0, 1, 2, 3, 4, 5]
    assert most == 3
