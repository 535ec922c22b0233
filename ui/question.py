"""What the sliders ask: a scenario with another rate, burstiness, window, batch and replicas. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serve.deployment import Deployment
from serve.profile import Profile
from sim.mix import with_laws
from sim.scenario import Arrivals, Gamma, Scenario
from ui.course import is_changing

REQUESTS_MAX = 200_000
"""Requests simulated for one answer, replications included: what half a second allows."""
CHANGING_REPLICATIONS = 3
"""Of a scenario in which something happens at an instant: it is not cut, but simulated less often."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """Where the sliders stand."""

    rate_rps: float
    cv: float
    window_ms: float
    max_batch: int
    replicas: int
    p99_ms: float


def open_rate_rps(scenario: Scenario) -> float:
    """Rate of all open arrivals whose rate the file states (traces and closed loops have none)."""
    return sum(stated_rate_rps(law) for _, law in scenario.workload.laws)


def stated_rate_rps(arrivals: Arrivals) -> float:
    """Rate that the file states for one law, 0 for traces and closed loops."""
    if arrivals.gamma is not None:
        return arrivals.gamma.rate
    return arrivals.poisson or arrivals.constant or 0.0


def knobs_of(scenario: Scenario, model: str) -> Knobs:
    """Where the sliders stand when a scenario is opened."""
    assert isinstance(scenario.deployment, Deployment)
    spec = scenario.deployment.models[model]
    cvs = [_cv(law) for _, law in scenario.workload.laws]
    return Knobs(
        rate_rps=open_rate_rps(scenario),
        cv=max(cvs),
        window_ms=spec.batching.window / 1e6,
        max_batch=spec.batching.max_batch,
        replicas=spec.replicas.count,
        p99_ms=0.0,
    )


def batch_max(profile: Profile, threads: int) -> int:
    """The largest batch whose time the profile knows: no slider goes beyond it."""
    return max((cell.rows for cell in profile.service if cell.threads == threads and cell.busy == 0), default=1)


def asked(scenario: Scenario, model: str, knobs: Knobs) -> Scenario:
    """The scenario with the sliders' values, long enough for REQUESTS_MAX requests in all; whole if it changes."""
    assert isinstance(scenario.deployment, Deployment)
    stated = open_rate_rps(scenario)
    factor = knobs.rate_rps / stated if stated else 1.0
    duration = scenario.workload.duration
    replications = scenario.replications
    if is_changing(scenario):
        replications = min(replications, CHANGING_REPLICATIONS)
    elif stated:
        duration = min(duration, int(REQUESTS_MAX / scenario.replications / knobs.rate_rps * 1e9))
    workload = with_laws(scenario.workload, lambda law: _reshaped(law, factor, knobs.cv))
    workload = workload.model_copy(update={"duration": duration})
    deployment = _redeployed(scenario.deployment, model, knobs)
    slo = scenario.slo | {"p99": f"{knobs.p99_ms:g}ms"}
    changed = {"workload": workload, "deployment": deployment, "slo": slo, "replications": replications}
    return scenario.model_copy(update=changed)


def _cv(arrivals: Arrivals) -> float:
    return arrivals.gamma.cv if arrivals.gamma is not None else 1.0


def _reshaped(law: Arrivals, factor: float, cv: float) -> Arrivals:
    rate = stated_rate_rps(law) * factor
    if not rate:
        return law
    if cv == 1.0:
        return Arrivals.model_construct(_fields_set={"poisson"}, poisson=rate)
    gamma = Gamma.model_construct(rate=rate, cv=cv)
    return Arrivals.model_construct(_fields_set={"gamma"}, gamma=gamma)


def _redeployed(deployment: Deployment, model: str, knobs: Knobs) -> Deployment:
    spec = deployment.models[model]
    batching = spec.batching.model_copy(update={"window": round(knobs.window_ms * 1e6), "max_batch": knobs.max_batch})
    most = spec.replicas.max and max(spec.replicas.max, knobs.replicas)
    replicas = spec.replicas.model_copy(update={"count": knobs.replicas, "max": most})
    changed = spec.model_copy(update={"batching": batching, "replicas": replicas})
    return deployment.model_copy(update={"models": deployment.models | {model: changed}})
