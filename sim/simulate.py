"""The one entry of the simulator: a Scenario in, a Result out.

Read `sim.prepare` and `sim.setup` (what is loaded), `sim.replication` (one run), `sim.measures` (its metrics) and
`sim.verdict` next; here they are put together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from serve.capacity_table import check_tables
from serve.deployment import Deployment
from serve.files import load, plain, resolve
from serve.manifests import with_manifests
from serve.vocabulary import METRICS
from sim import paths, workers
from sim.capacity import capacity_rps
from sim.checks import asked_models, check_scaling
from sim.cost import Cost, cost_metrics, cost_of
from sim.intervals import Shifts, ci, pi
from sim.level import Level
from sim.measures import (
    LATENCIES,
    Run,
    Window,
    batch_shares,
    budgets_of_tally,
    latency_cdf_s,
    metrics,
    reason_shares,
    run_of_tally,
    together,
)
from sim.mix import apart
from sim.prepare import prepare
from sim.replication import TIME_BINS, Replication, run
from sim.result import ClassResult, Estimate, Result, Simulated
from sim.scenario import Engine, Scenario, Slo, Workload
from sim.service import origin, weakest
from sim.setup import Setup
from sim.showback import showback
from sim.slo_capacity import computed, with_table
from sim.tally import Ints
from sim.verdict import Judged, judge, stationary
from sim.warmup import bins_cut
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
    """What the scenario's deployment would do under its workload; variants are left out.

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
    return simulate_in_full(scenario, base, engine, replications, overrides, progress).result


def simulate_in_full(
    scenario: Scenario,
    base: Path,
    engine: Engine = "fast",
    replications: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """As `simulate`, with the metrics of each replication."""
    whole, deployment_base = with_deployment(scenario, base)
    if overrides:
        whole = paths.apply(whole, overrides)
    if replications is not None:
        whole = whole.model_copy(update={"replications": replications})
    return _simulated(whole, base, deployment_base, engine, _Known(), progress)


def simulate_variant(
    scenario: Scenario, base: Path, variant: str | None, replications: int, overrides: Mapping[str, Any] | None = None
) -> Simulated:
    """A variant of a scenario, with the metrics of each replication; None: the scenario itself, which has none. All
    variants meet the same arrivals. `overrides` are made first.

    Raises
    ------
    SpecError, ProfileError : as `simulate`.
    """
    whole, deployment_base = with_deployment(scenario, base)
    if overrides:
        whole = paths.apply(whole, overrides)
    whole = whole.model_copy(update={"replications": replications})
    return _simulated(variants(whole)[variant], base, deployment_base, "fast", _Known(), None)


def variants(scenario: Scenario) -> dict[str | None, Scenario]:
    """The scenario with each variant's changes made, by the variant's name; by None if there are none."""
    if not scenario.variants:
        return {None: scenario}
    plain_one = scenario.model_copy(update={"variants": {}, "expect": [], "contrast": None})
    return {
        name: paths.apply(plain_one, changes, f"variants.{name}") if changes else plain_one
        for name, changes in scenario.variants.items()
    }


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
    level: Level | None = None,
    warmup_s: float | None = None,
    progress: Progress | None = None,
) -> Result:
    """As `simulate`, of a deployment (its paths relative to `base`).

    `given` fixes the arrival instants and rows of the open classes (what a live run met; of a class that
    is not in it: none), so that only service, calibration and the machine's level vary between
    replications. `level` is how fast the machine was just before, if a spot check was made. `warmup_s` is cut
    from the start; none: as much as the rule says.
    """
    scenario = Scenario(
        workload=workload, deployment=deployment, seed=seed, replications=replications, slo=dict(slo or {})
    )
    return _simulated(scenario, base, base, engine, _Known(given, level, warmup_s), progress).result


def with_deployment(scenario: Scenario, base: Path) -> tuple[Scenario, Path]:
    """The scenario with its deployment inside instead of a path to it, and the folder the deployment's paths are in."""
    if isinstance(scenario.deployment, Deployment):
        return scenario, base
    path = resolve(base / "scenario.yaml", scenario.deployment)
    return scenario.model_copy(update={"deployment": load(path, Deployment)}), path.parent


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a run before it is simulated, as `predict` takes it."""

    given: Mapping[str, Given] | None = None
    level: Level | None = None
    warmup_s: float | None = None


def _simulated(
    scenario: Scenario,
    base: Path,
    deployment_base: Path,
    engine: Engine,
    known: _Known,
    progress: Progress | None,
) -> Simulated:
    whole = completed(scenario, base, deployment_base)
    assert isinstance(whole.deployment, Deployment)
    setup = prepare(
        whole.deployment,
        whole.workload,
        whole.slo,
        whole.seed,
        base,
        deployment_base,
        known.given,
        known.level,
        whole.world,
        whole.events,
    )
    setup = replace(setup, warnings=(*setup.warnings, *computed(scenario, whole)))
    capacity = None if setup.load.closed else capacity_rps(setup, engine)
    done = _replications(setup, scenario.replications, engine, progress)
    return _result(scenario, setup, engine, capacity, done, known.warmup_s)


def completed(scenario: Scenario, base: Path, deployment_base: Path) -> Scenario:
    """The scenario, whose deployment is inside, with what its deployment leaves to files and simulations: manifests
    read, the predictive autoscaler's table computed.

    Raises
    ------
    SpecError : a manifest that cannot be used, a table that is stale or cannot be computed.
    """
    assert isinstance(scenario.deployment, Deployment)
    deployment = with_manifests(scenario.deployment, deployment_base / "deployment.yaml")
    check_tables(deployment, deployment_base / "deployment.yaml")
    whole = scenario.model_copy(update={"deployment": deployment})

    def evaluate(question: Scenario) -> Result:
        return _simulated(question, base, deployment_base, "fast", _Known(), None).result

    def prepared(question: Scenario) -> Setup:
        assert isinstance(question.deployment, Deployment)
        return prepare(question.deployment, question.workload, question.slo, question.seed, base, deployment_base)

    names = asked_models(deployment, scenario.workload)
    check_scaling(deployment, list(dict.fromkeys(names)))
    for name in dict.fromkeys(names):
        filled = with_table(_asking(whole, name, names), name, deployment_base, prepared, evaluate).deployment
        assert isinstance(filled, Deployment) and isinstance(whole.deployment, Deployment)
        models = {**whole.deployment.models, name: filled.models[name]}
        whole = whole.model_copy(update={"deployment": whole.deployment.model_copy(update={"models": models})})
    return whole


def _asking(scenario: Scenario, name: str, names: Sequence[str]) -> Scenario:
    """The scenario with those classes only that ask for a model; `names`: the models that they ask for."""
    classes = {
        class_: asked for (class_, asked), of in zip(apart(scenario.workload).items(), names, strict=True) if of == name
    }
    others = scenario.workload.classes.keys() - classes.keys()
    slo = {bound: value for bound, value in scenario.slo.items() if bound.partition(".")[0] not in others}
    workload = scenario.workload.model_copy(update={"arrivals": None, "classes": classes})
    return scenario.model_copy(update={"workload": workload, "slo": slo})


def _replications(setup: Setup, count: int, engine: Engine, progress: Progress | None) -> list[Replication]:
    """All replications, in order; the reference's share the GIL."""
    done = []
    for replication in workers.each(partial(run, setup, engine=engine), count, threads=engine == "fast"):
        done.append(replication)
        if progress is not None:
            progress(len(done), count)
    return done


# -- putting replications together -----------------------------------------------------------------------


def _result(
    scenario: Scenario,
    setup: Setup,
    engine: Engine,
    capacity: float | None,
    done: Sequence[Replication],
    warmup_s: float | None,
) -> Simulated:
    window = _window(setup, done, warmup_s)
    judged = judge(setup, capacity, _in_system(done, window), window.span_s)
    unstable = judged.verdict == "unstable"
    if unstable:
        window = replace(window, first=0)  # there is no steady state to warm up to
    runs = [_run(setup, replication, window, unstable) for replication in done]
    costs = [cost_of(setup, replication, window) for replication in done]
    values = [_metrics(setup, one, cost) for one, cost in zip(runs, costs, strict=True)]
    names = list(scenario.workload.classes)
    labels = [serving.label for serving in setup.served if serving.label != serving.name]
    pooled = together([one.total for one in runs])
    batch_rows = np.sum([one.node.batch_rows for one in runs], axis=0)
    reasons = np.sum([one.node.batch_reasons for one in runs], axis=0)
    shifts = _shifts(done, batch_rows)
    totals = [total for total, _ in values]
    parts = {name: [each[i] for _, each in values] for i, name in enumerate([*names, *labels])}
    result = Result(
        scenario_sha256=scenario_sha256(scenario),
        seed=scenario.seed,
        engine=engine,
        replications=len(done),
        requests=sum(int(r.tally.outcomes.sum()) for r in done),
        verdict=judged.verdict,
        verdict_reason=judged.reason,
        capacity_rps=capacity,
        warmup_s=window.first * window.bin_ns * 1e-9,
        origin=weakest(
            [origin(kind.measured.profile, kind.law.threads) for each in setup.served for kind in each.kinds]
        ),
        warnings=_warnings(setup, judged, len(done)),
        total=_estimates(totals, shifts, unstable),
        classes={name: _estimates(parts[name], shifts, unstable) for name in names},
        versions={label: _estimates(parts[label], shifts, unstable) for label in labels},
        batch_rows=batch_shares(batch_rows),
        reasons=reason_shares(reasons, int(reasons.sum())),
        refusals=reason_shares(pooled.drop_reasons, int(pooled.outcomes.sum())),
        latency_cdf_s=[] if unstable else latency_cdf_s(pooled),
        showback=showback(setup, costs, window),
    )
    by_class: dict[str | None, list[dict[str, float]]] = {None: totals}
    by_class.update(parts)
    samples = {
        (class_, metric): np.array([each[metric] for each in runs_of])
        for class_, runs_of in by_class.items()
        for metric in runs_of[0]
    }
    return Simulated(result, samples)


def _window(setup: Setup, done: Sequence[Replication], warmup_s: float | None) -> Window:
    first, bin_ns = 0, done[0].tally.bin_ns
    if warmup_s is not None:
        first = round(warmup_s * 1e9 / bin_ns)
    elif stationary(setup):
        first = bins_cut(np.stack([r.latency_s for r in done]), np.stack([r.answered for r in done]))
    return Window(first, TIME_BINS, bin_ns)


def _shifts(done: Sequence[Replication], batch_rows: Ints) -> Shifts:
    """What bootstrap and level path multiplied each replication's service times by, as logs: those of the batch sizes
    that occurred, by the time that they took."""
    tau_ns = np.stack([r.tau_ns for r in done])  # (replications, summaries, rows)
    weights = batch_rows * tau_ns[:, 0].mean(axis=0)
    logs = np.log(tau_ns / tau_ns.mean(axis=0))
    return Shifts(logs @ (weights / max(float(weights.sum()), 1.0)), np.array([r.level_shift for r in done]))


def _in_system(done: Sequence[Replication], window: Window) -> np.ndarray:
    """(replications, bins of the window): mean number in system."""
    return np.stack([r.tally.in_system_s[window.first : window.last] for r in done]) / (window.bin_ns * 1e-9)


def _run(setup: Setup, replication: Replication, window: Window, unstable: bool) -> Run:
    """Summed up within the window. Of an unstable queue only what was answered while the load lasted counts as
    throughput: its backlog is not worked off at the rate at which it came."""
    in_time, tally = None, replication.tally
    if unstable:
        counted = setup.by_class(replication.in_time[:, window.first : window.last].sum(axis=1))
        in_time = tuple(int(n) for n in counted)
    history, replicas = replication.history, float(setup.replicas)
    span_ns = (window.first * window.bin_ns, window.last * window.bin_ns)
    scaling = {} if history is None else history.scaling(*span_ns)
    if history is not None:
        replicas = history.replicas_mean(*span_ns)
    one = run_of_tally(tally, window, replicas, in_time, replication.latency_first, _node_count(setup))
    front_busy_s = one.node.front_busy_s + _unstamped_s(setup, one)
    one = replace(_put_together(setup, one), node=replace(one.node, front_busy_s=front_busy_s, **scaling))
    if not any(setup.objectives):
        return one
    by_class = replace(tally, fine=setup.by_class(tally.fine))
    return replace(one, budgets=budgets_of_tally(by_class, window, setup.objectives))


def _put_together(setup: Setup, one: Run) -> Run:
    """A run by portion, by class and by version."""
    portions = list(zip(setup.portions, one.classes, strict=True))
    classes = [
        together([t for portion, t in portions if portion.class_ == c]) for c in range(len(setup.workload.classes))
    ]
    versions = [
        together([t for portion, t in portions if portion.group == group])
        for group, serving in enumerate(setup.served)
        if serving.label != serving.name
    ]
    return replace(one, classes=tuple(classes), versions=tuple(versions))


def _metrics(setup: Setup, one: Run, cost: Cost) -> tuple[dict[str, float], list[dict[str, float]]]:
    """All metrics of a replication, and those of each class, then of each version."""
    total, classes = metrics(one)
    return total | cost_metrics(cost, setup.book, total["throughput"]), classes


def _node_count(setup: Setup) -> int:
    """Fronts that there are, counting one a machine and model."""
    return sum(len(serving.places) for serving in setup.served)


def _unstamped_s(setup: Setup, one: Run) -> float:
    """CPU time of the front outside its jobs: it occupies a core, but delays nobody. Batches of several models are not
    told apart: theirs are taken to cost what they do on average by requests."""
    batches, requests = int(one.node.batch_rows.sum()), int(one.total.outcomes.sum())
    seconds = 0.0
    for group, each in zip(setup.group_of, one.classes, strict=True):
        costs, count = setup.served[group].main.measured.profile.front, int(each.outcomes.sum())
        share = count / requests if requests else 1 / len(one.classes)
        seconds += (count * costs.unstamped_us_per_request + batches * share * costs.unstamped_us_per_batch) * 1e-6
    return seconds


def _estimates(values: Sequence[Mapping[str, float]], shifts: Shifts, unstable: bool) -> ClassResult:
    """Each metric's estimate, in the order of the vocabulary; latencies of an unstable queue do not exist."""
    names = [name for name in METRICS if name in values[0]]
    undefined = Estimate(value=None, ci=None, pi=None)
    return ClassResult(
        metrics={
            name: undefined if unstable and name in LATENCIES else _estimate(name, [v[name] for v in values], shifts)
            for name in names
        }
    )


def _estimate(name: str, values: Sequence[float], shifts: Shifts) -> Estimate:
    """Mean over the replications in which the metric is defined, with its intervals; none if one is without end."""
    defined = [i for i, value in enumerate(values) if math.isfinite(value)]
    if not defined or math.inf in values:
        return Estimate(value=None, ci=None, pi=None)
    sample = np.array([values[i] for i in defined])
    own = Shifts(shifts.calibration[defined], shifts.level[defined])
    bounds = METRICS[name].least, 1.0 if METRICS[name].unit == "share" else math.inf
    return Estimate(
        value=float(sample.mean()),
        ci=ci(sample, own, bounds),
        pi=pi(sample, bounds),
        typical=float(np.median(sample)),
    )


def _warnings(setup: Setup, judged: Judged, replications: int) -> list[str]:
    warnings = list(setup.warnings)
    if judged.verdict == "unresolved":
        warnings.append(f"unresolved: {judged.reason}; lengthen workload.duration or raise replications")
    if replications < 20:
        warnings.append(f"{replications} replications: prediction intervals ask for at least 20")
    return warnings


def scenario_sha256(scenario: Scenario) -> str:
    """Hash of what a scenario asks, whatever the layout of its file."""
    text = json.dumps(plain(scenario), sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
