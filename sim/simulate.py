"""The one entry of the simulator: a Scenario in, a Result out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serve.deployment import Deployment
from sim.result import Result
from sim.scenario import Engine, Scenario, Slo, Workload
from sim.workload import Given

Progress = Callable[[int, int], None]
"""Called with (replications done, replications in all)."""


def simulate(
    scenario: Scenario,
    *,
    base: Path = Path(),
    engine: Engine = "fast",
    replications: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Result:
    """What the scenario's deployment would do under its workload.

    Parameters
    ----------
    scenario : the question.
    base : folder of the scenario's file; paths in it are relative to it.
    engine : `fast` (compiled) or `reference` (SimPy over the production scheduler); both give the same.
    replications : in place of the scenario's.
    overrides : value by path, such as {"models.digits.batching.window": "5ms"}; see `sim.paths`.
    progress : told after each replication.

    Raises
    ------
    SpecError : a file or path that cannot be used.
    ProfileError : the deployment asks for what its profile did not measure.
    """
    raise NotImplementedError


def predict(
    deployment: Deployment,
    workload: Workload,
    *,
    base: Path = Path(),
    seed: int = 0,
    replications: int = 20,
    slo: Slo | None = None,
    engine: Engine = "fast",
    given: Mapping[str, Given] | None = None,
    progress: Progress | None = None,
) -> Result:
    """As `simulate`, of a deployment (its paths relative to `base`).

    `given` fixes the arrival instants and rows of the classes that it names (what a live run met),
    so that only service, calibration and the machine's level vary between replications.
    """
    raise NotImplementedError
