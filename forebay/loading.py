"""`forebay load` without its printing: what is sent, to whom, and what the client saw of it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forebay.inputs import deployment_of
from planner.arrivals import draw
from planner.compare import check_bounds
from planner.live_run import Replayed, measured_run
from planner.report import BoundCheck, Run
from planner.slo import parse_slo
from serve.deployment import Model
from serve.errors import EngineError, SpecError
from serve.load_client import STATUS_CANCELLED, STATUS_NONE
from serve.loadgen import address_of, inputs_of, replay
from serve.units import format_duration
from sim.law_moments import expected_requests
from sim.scenario import Arrivals, RequestClass, Scenario, Slo, Workload

TIMEOUT_S = 10.0
UNANSWERED, CANCELLED = "none", "cancelled"
SENT_MAX = 1e7
"""Requests that one generator sends in a run: they are drawn beforehand, about 100 bytes each."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: a workload of one model, by the seed, and the SLO that it is held to."""

    model: str | None
    """None: the only one that the server has."""
    limits: Model
    """Default priority and timeout of its requests."""
    workload: Workload
    base: Path
    seed: int
    slo: Slo


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it."""

    model: str
    run: Run
    bounds: list[BoundCheck]
    statuses: dict[str, int]
    """Requests by the HTTP status of their answer; UNANSWERED and CANCELLED of those that have none."""

    @property
    def held(self) -> bool:
        """Whether something was answered ok, nothing was left unanswered, and every bound of the SLO held."""
        complete = self.run.answered > 0 and UNANSWERED not in self.statuses
        return complete and all(bound.held for bound in self.bounds)


def of_scenario(path: Path, scenario: Scenario, seed: int | None) -> Load:
    """The workload of a scenario, whose classes must ask for one model."""
    deployment, _ = deployment_of(path, scenario)
    models = {class_.model or next(iter(deployment.models)) for class_ in scenario.workload.classes.values()}
    if len(models) > 1:
        raise SpecError.of(path, "workload.classes", f"must ask for one model, got {', '.join(sorted(models))}")
    model = models.pop()
    seed = scenario.seed if seed is None else seed
    return Load(model, deployment.models[model], scenario.workload, path.parent, seed, scenario.slo)


def of_rate(rate: str, duration: str, rows: int, model: str | None, seed: int | None) -> Load:
    """Poisson arrivals at a rate (`400/s`) for a duration (`10s`)."""
    class_ = RequestClass(arrivals=Arrivals(poisson=rate), rows=rows)
    workload = Workload(duration=duration, classes={"requests": class_})
    return Load(model, Model(profile="none", backend="emulated"), workload, Path(), seed or 0, {})


def send(load: Load, url: str, allow_remote: bool, progress: Callable[[float, float], None]) -> Loaded:
    """Send the load to the server at `url` and measure at the client; EngineError if it cannot be reached."""
    url = url if "//" in url else f"http://{url}"
    address_of(url, allow_remote)  # before the first byte is sent to it
    _check_size(load.workload)
    model = load.model or only_model(url)
    arrivals = draw(load.workload, load.limits, load.base, load.seed)
    if arrivals.empty:
        what = f"no request arrives in {format_duration(arrivals.duration_ns)} by seed {load.seed}; make it longer"
        raise SpecError.of("load", "", what)
    inputs = inputs_of(url, model, seed=load.seed, allow_remote=allow_remote)
    duration_s = arrivals.duration_ns / 1e9
    client = replay(
        url, arrivals.plan(model, inputs), progress=lambda s: progress(s, duration_s), allow_remote=allow_remote
    )
    bounds = parse_slo(load.slo, arrivals.names) if load.slo else []
    run = measured_run(arrivals, Replayed(client, None), None, replicas=1, slo=load.slo)
    return Loaded(model, run, check_bounds(bounds, [run]), by_status(client.status))


def by_status(status: npt.NDArray[np.int64]) -> dict[str, int]:
    """How many requests ended with each HTTP status, those without one last."""
    names = {STATUS_NONE: UNANSWERED, STATUS_CANCELLED: CANCELLED}
    found, counts = np.unique(status, return_counts=True)
    known = sorted(zip(found.tolist(), counts.tolist(), strict=True), key=lambda entry: (entry[0] in names, entry[0]))
    return {names.get(code, str(code)): count for code, count in known}


def _check_size(workload: Workload) -> None:
    requests = sum(expected_requests(law, workload.duration) for _, law in workload.laws)
    if requests > SENT_MAX:
        raise SpecError.of(
            "load", "", f"rate and duration make {requests:.2g} requests; at most {SENT_MAX:.0e} are sent"
        )


def only_model(url: str) -> str:
    """Name of the one model that the server has ready; SpecError if there are several."""
    request = urllib.request.Request(f"{url.rstrip('/')}/v2/repository/index", data=b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            names = sorted({entry["name"] for entry in json.load(answer)})
    except OSError as error:
        raise EngineError(f"{url}: cannot be reached: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{url}: cannot be asked for its models: {error}; name one with --model") from None
    if len(names) != 1:
        raise SpecError.of("--model", "", f"is needed: the server has {', '.join(names) or 'no model'}")
    return str(names[0])
