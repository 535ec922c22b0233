"""From a plan to the Deployment file that `forebay serve` runs unchanged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from planner.plan import Plan
from serve import files
from serve.deployment import Deployment, Model, with_profiles
from serve.errors import SpecError
from sim.law_parts import moved
from sim.mix import with_laws
from sim.scenario import PlannedFor, Scenario, Workload


def rebased(deployment: Deployment, old: Path, new: Path) -> Deployment:
    """The deployment with its relative paths, which count from folder `old`, counting from folder `new`."""
    models = {
        name: with_profiles(model, lambda file: _moved(file, old, new), lambda file: _moved(file, old, new))
        for name, model in deployment.models.items()
    }
    prices = None if deployment.prices is None else _moved(deployment.prices, old, new)
    return deployment.model_copy(update={"models": models, "prices": prices})


def _hashed(model: Model, sha256: str) -> Model:
    """The model with its profile's hash."""
    hashed = {"profile_sha256": sha256}
    if model.versions is None:
        return model.model_copy(update=hashed)
    versions = {name: version.model_copy(update=hashed) for name, version in model.versions.items()}
    return model.model_copy(update={"versions": versions})


def _rebased_workload(workload: Workload, old: Path, new: Path) -> Workload:
    return with_laws(workload, lambda law: moved(law, lambda file: _moved(file, old, new)))


def _moved(name: str, old: Path, new: Path) -> str:
    if Path(name).expanduser().is_absolute():
        return name
    return os.path.relpath((old / name).resolve(), new.resolve())


def deployment_of(plan: Plan, scenario: Scenario, *, base: Path, folder: Path) -> Deployment:
    """The planned deployment as it is written into `folder`: what it was planned for, and its prediction, inside.

    Parameters
    ----------
    plan : a feasible one.
    scenario : what it was planned for.
    base : folder that the scenario's paths, hence the plan's, are relative to.
    folder : folder of the file to be.
    """
    if plan.deployment is None or plan.result is None:
        raise SpecError.of("scenario", "slo", "nothing holds it, so there is no deployment to write")
    models = {
        name: _hashed(model, files.sha256(base / model.main.only_profile))
        for name, model in plan.deployment.models.items()
    }
    planned_for = PlannedFor(
        workload=_rebased_workload(scenario.workload, base, folder),
        slo=scenario.slo,
        seed=scenario.seed,
        replications=scenario.replications,
    )
    planned = plan.deployment.model_copy(
        update={"models": models, "planned_for": files.plain(planned_for), "prediction": files.plain(plan.result)}
    )
    return rebased(planned, base, folder)


def write(plan: Plan, scenario: Scenario, path: Path, *, base: Path) -> Deployment:
    """Write the planned deployment to `path`, headed by why it was chosen; returns what was written."""
    deployment = deployment_of(plan, scenario, base=base, folder=path.parent)
    files.save(path, deployment, {"": "\n".join(why(plan))})
    return deployment


def why(plan: Plan) -> list[str]:
    """Lines that a person reads first: what was chosen and why, or which limit is hit."""
    asked = f"Planned for {', '.join(plan.bounds)}."
    if plan.limit is not None:
        return [asked, *_why_not(plan)]
    cores = "" if plan.cores is None else f", {plan.cores:.2f} cores"
    lines = [asked, f"Chosen: {_settings(plan.settings)}: {plan.usd_per_h:.4g} USD/h{cores}."]
    if plan.runner_up is not None:
        lines.append(f"Runner-up: {_settings(plan.runner_up.settings)}: {plan.runner_up.reason}.")
    if plan.headroom is not None:
        rate = "" if plan.headroom.rate_rps is None else f", {plan.headroom.rate_rps:.4g}/s"
        then = plan.headroom.breaks or "nothing broke up to there"
        lines.append(f"Headroom: holds up to {plan.headroom.factor:.2f} times this load{rate}; then {then}.")
    return lines


def _why_not(plan: Plan) -> list[str]:
    limit = plan.limit
    assert limit is not None
    lines = [f"Nothing holds it. The limit is {limit.limit}: {limit.reason}."]
    if limit.best_latency_s is not None:
        nearest = _settings(limit.best_settings)
        lines.append(f"The best possible {plan.latency_metric} is {limit.best_latency_s * 1e3:.4g}ms, with {nearest}.")
    if limit.holds_rate_rps is not None:
        lines.append(f"That one holds it up to {limit.holds_rate_rps:.4g}/s.")
    return lines


def _settings(settings: dict[str, Any] | None) -> str:
    return ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in (settings or {}).items()) or "as given"
