"""Do the intervals hold in worlds where the truth is known? Calibrations and live runs are made up, many times over.

Each world has a machine whose level drifts. A calibration sees 150 samples a cell and 50 windows of it;
a run sees the true law and another stretch of the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sim.measures import Window, metrics, run_of_tally
from sim.prepare import prepare
from sim.replication import TIME_BINS, run
from sim.result import Result
from sim.scenario import Scenario
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile

WORLDS = 40
METRICS = ("mean", "p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class World:
    """Lag-1 correlation and standard deviation of the log of the machine's level, by windows of a second."""

    rho: float
    sd: float

    def levels(self, count: int, rng: np.random.Generator) -> tuple[float, ...]:
        """A stretch of the level."""
        log = np.zeros(count)
        log[0] = rng.normal(0, self.sd)
        for i in range(1, count):
            log[i] = self.rho * log[i - 1] + rng.normal(0, self.sd * np.sqrt(1 - self.rho**2))
        return tuple(np.exp(log))


def question(seed: int) -> Scenario:
    model = {"file": "m", "profile": "toy.yaml", "batching": {"max_batch": 16, "window": "2ms"}}
    return Scenario.model_validate(
        {
            "seed": seed,
            "replications": 20,
            "workload": {"duration": "4s", "classes": {"a": {"arrivals": {"poisson": "600/s"}}}},
            "deployment": {"models": {"m": model}, "pools": {"here": {"cores": 1, "price": "0 USD/h"}}},
        }
    )


def live_runs(folder: Path, world: World, rng: np.random.Generator) -> list[dict[str, float]]:
    """Runs of the truth: so many samples that their bootstrap is one."""
    folder.mkdir()
    write_profile(folder, Synthetic(noise_cv=0.3, samples=20_000, level_series=world.levels(2000, rng)))
    asked = question(999)
    setup = prepare(asked.deployment, asked.workload, {}, 999, folder, folder)  # type: ignore[arg-type]
    found = []
    for number in range(WORLDS):
        one = run(setup, number, "fast")
        window = Window(0, TIME_BINS, one.tally.bin_ns)
        found.append(metrics(run_of_tally(one.tally, window, 1, None, one.latency_first))[0])
    return found


def predictions(folder: Path, world: World, rng: np.random.Generator) -> list[Result]:
    folder.mkdir()
    made = []
    for number in range(WORLDS):
        calibrated = Synthetic(noise_cv=0.3, samples=150, seed=number + 1, level_series=world.levels(50, rng))
        write_profile(folder, calibrated)
        made.append(simulate(question(number), base=folder))
    return made


@pytest.mark.parametrize("world", [World(0.0, 0.0), World(0.8, 0.03)], ids=["a steady machine", "a drifting machine"])
def test_prediction_intervals_cover_one_run_and_predictions_are_not_biased(tmp_path: Path, world: World) -> None:
    rng = np.random.default_rng(0)
    live, predicted = live_runs(tmp_path / "truth", world, rng), predictions(tmp_path / "calibrated", world, rng)
    covered = 0
    for metric in METRICS:
        logs = []
        for seen, result in zip(live, predicted, strict=True):
            estimate = result.total.metrics[metric]
            assert estimate.pi is not None and estimate.value is not None
            covered += estimate.pi[0] <= seen[metric] <= estimate.pi[1]
            logs.append(np.log(estimate.value / seen[metric]))
        error = np.std(logs) / np.sqrt(WORLDS)
        assert abs(np.mean(logs)) < 0.015 + 3 * error, metric
    assert 0.86 <= covered / (WORLDS * len(METRICS)) <= 0.995
