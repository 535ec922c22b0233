"""The table of the predictive autoscaler (rule 20): the rate that 1, 2, ... replicas carry within the SLO.

Found by simulating as many replicas, fixed, under Poisson arrivals of the workload's mix, by bisection. Replicas are
doubled from count to count; between two that were simulated the rate is a straight line, and what is beyond the last is
the policy's to extend.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serve.autoscaler import Predictive
from serve.deployment import Deployment
from serve.errors import Fault, SpecError
from serve.files import plain, resolve, sha256
from serve.units import format_rate
from sim.capacity import capacity_rps
from sim.claims import LOWER_BOUNDED, Expectation
from sim.laws import Arrivals
from sim.measures import LATENCIES, SHARES
from sim.result import Result
from sim.scenario import Scenario
from sim.setup import Setup
from sim.slo import bounds

COUNTS_MAX = 16
"""Replicas that are simulated at most."""
REQUESTS = 20_000
"""Of a replication; there are REPLICATIONS for each rate."""
REPLICATIONS = 4
STEPS = 7
"""Halvings of what a rate can be: to a hundredth of what the replicas can serve at most."""
LOSS_IMPLIED = 0.01
"""Share that may be lost where the SLO says nothing: as a plan sees it."""

Evaluate = Callable[[Scenario], Result]
Prepare = Callable[[Scenario], Setup]

_known: dict[str, tuple[float, ...]] = {}
"""Tables of this process, by what they were computed from: variants and further replications ask again."""


def without_scaling(scenario: Scenario, name: str, count: int) -> Scenario:
    """The scenario with so many replicas of a model that stay."""
    deployment = scenario.deployment
    assert isinstance(deployment, Deployment)
    model = deployment.models[name]
    fixed = model.replicas.model_copy(update={"autoscaler": None, "count": count, "min": 1, "max": None})
    models = {**deployment.models, name: model.model_copy(update={"replicas": fixed})}
    return scenario.model_copy(update={"deployment": deployment.model_copy(update={"models": models})})


def with_table(scenario: Scenario, name: str, deployment_base: Path, prepare: Prepare, evaluate: Evaluate) -> Scenario:
    """The scenario whose deployment's autoscaler has its table, computed if it is predictive and has none.

    Raises
    ------
    SpecError : no SLO to hold, no open class, or an SLO that not even one request in a while holds.
    """
    deployment = scenario.deployment
    assert isinstance(deployment, Deployment)
    model = deployment.models[name]
    scaler = model.replicas.autoscaler
    if not isinstance(scaler, Predictive) or scaler.capacity is not None:
        return scenario
    _check(scenario, name)
    profile = sha256(resolve(deployment_base / "deployment.yaml", model.main.only_profile))
    table = _table(scenario, name, profile, prepare, evaluate)
    filled = scaler.model_copy(update={"capacity": dict(enumerate(table, 1)), "profile_sha256": profile})
    replicas = model.replicas.model_copy(update={"autoscaler": filled})
    models = {**deployment.models, name: model.model_copy(update={"replicas": replicas})}
    return scenario.model_copy(update={"deployment": deployment.model_copy(update={"models": models})})


def _check(scenario: Scenario, name: str) -> None:
    where, faults = f"models.{name}.replicas.autoscaler.capacity", []
    if not any(_judges(bound) for bound in bounds(scenario.slo, tuple(scenario.workload.classes))):
        faults.append("is missing: the rate that 1, 2, ... replicas carry; an slo on a latency would have it computed")
    if all(law.closed is not None for _, law in scenario.workload.laws):
        faults.append("is missing: the rate that 1, 2, ... replicas carry; closed loops have none to compute it from")
    if faults:
        raise SpecError([Fault("deployment", where, what) for what in faults])


def _judges(bound: Expectation) -> bool:
    return bound.of.metric in LATENCIES and bound.of.metric not in LOWER_BOUNDED


def _table(scenario: Scenario, name: str, profile: str, prepare: Prepare, evaluate: Evaluate) -> tuple[float, ...]:
    one = without_scaling(scenario, name, 1)
    asked: dict[str, Any] = {**plain(one), "profile": profile}
    for irrelevant in ("replications", "expect", "variants", "choices", "contrast"):
        asked.pop(irrelevant, None)
    asked["workload"].pop("duration", None)
    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    if key not in _known:
        _known[key] = _computed(scenario, name, prepare, evaluate)
    return _known[key]


def _computed(scenario: Scenario, name: str, prepare: Prepare, evaluate: Evaluate) -> tuple[float, ...]:
    deployment = scenario.deployment
    assert isinstance(deployment, Deployment)
    replicas = deployment.models[name].replicas
    pools = prepare(without_scaling(scenario, name, 1)).deployment.pools.values()
    room = sum(pool.most * ((pool.cores or 0) // replicas.threads) for pool in pools)
    counts = _counts(max(1, min(COUNTS_MAX, replicas.max or room, room)))
    rates: list[float] = []
    for count in counts:
        fixed = without_scaling(scenario, name, count)
        setup = prepare(fixed)
        found = _rate(fixed, setup, capacity_rps(setup, "fast"), evaluate)
        rates.append(max(found, rates[-1] if rates else 0.0))
    if rates[0] <= 0:
        where = f"models.{name}.replicas.autoscaler.capacity"
        raise SpecError.of("deployment", where, "cannot be computed: not even an all but idle replica holds the SLO")
    every = np.interp(np.arange(1, counts[-1] + 1), counts, rates)
    return tuple(float(f"{rate:.4g}") for rate in every)


def _counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    doubled = [1 << i for i in range(most.bit_length())]
    return doubled if doubled[-1] == most else [*doubled, most]


def _rate(scenario: Scenario, setup: Setup, most_rps: float, evaluate: Evaluate) -> float:
    """The highest rate that holds the SLO, in steps of what can be served at most."""
    limits = bounds(scenario.slo, tuple(scenario.workload.classes))
    holds, fails = 0.0, 1.0
    for _ in range(STEPS):
        middle = (holds + fails) / 2
        if _held(evaluate(_at(scenario, setup, most_rps * middle)), limits):
            holds = middle
        else:
            fails = middle
    return most_rps * holds


def _at(scenario: Scenario, setup: Setup, rate_rps: float) -> Scenario:
    """Poisson arrivals at a rate, of the open classes in proportion to what they send."""
    weights = {source.name: source.weight for source in setup.load.open}
    together = sum(weights.values())
    classes = {
        name: class_.model_copy(
            update={"arrivals": Arrivals(poisson=format_rate(rate_rps * weights[name] / together)), "weight": None}
        )
        for name, class_ in scenario.workload.classes.items()
        if weights.get(name, 0.0) > 0
    }
    duration_ns = max(1, round(REQUESTS / rate_rps * 1e9))
    workload = scenario.workload.model_copy(update={"duration": duration_ns, "arrivals": None, "classes": classes})
    slo = {text: value for text, value in scenario.slo.items() if _class_of(text, scenario) in (None, *classes)}
    return scenario.model_copy(update={"workload": workload, "slo": slo, "replications": REPLICATIONS})


def _class_of(bound: str, scenario: Scenario) -> str | None:
    """The class that a bound is on; None: all."""
    return bounds({bound: scenario.slo[bound]}, tuple(scenario.workload.classes))[0].of.class_


def _held(result: Result, limits: Sequence[Expectation]) -> bool:
    """Whether latencies and losses are within their bounds."""
    if result.verdict in ("unstable", "overloaded"):
        return False
    said = {bound.of.metric for bound in limits if bound.of.class_ is None}
    losses = [(None, name, LOSS_IMPLIED) for name in ("refused", "expired", "failed") if name not in said]
    asked = [(b.of.class_, b.of.metric, b.high) for b in limits if _judges(b) or b.of.metric in SHARES]
    for class_, metric, limit in [*asked, *losses]:
        part = result.total if class_ is None else result.classes.get(class_)
        value = None if part is None else part.metrics[metric].value
        if part is not None and (value is None or value > limit):
            return False
    return True


def computed(asked: Scenario, whole: Scenario) -> list[str]:
    """What a run says of the tables that were computed for it."""
    before, after = asked.deployment, whole.deployment
    assert isinstance(before, Deployment) and isinstance(after, Deployment)
    told = []
    for name, model in after.models.items():
        scaler, given = model.replicas.autoscaler, before.models[name].replicas.autoscaler
        if isinstance(scaler, Predictive) and scaler != given:
            rates = ", ".join(f"{count}: {format_rate(rate)}" for count, rate in (scaler.capacity or {}).items())
            told.append(f"models.{name}.replicas.autoscaler.capacity: computed for this slo: {rates}")
    return told
