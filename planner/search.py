"""The search: the cheapest deployment that holds the SLO, then the fastest among the equally cheap.

Best first: candidates are ruled out by bounds that need no simulation (`planner.ruling`), the rest
are taken by the least that they can cost, and raced: short simulations drop what even the near end of
its confidence interval puts beyond the SLO, the survivors run in full, in the order of promise, until
none that is left can beat what was found. All run the same seed, so they meet the same arrivals.
Nothing here is random beside that seed: same scenario, same plan. Fleets have no such bounds: `planner.fleet_race`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planner import cost, export, ruling, space
from planner.explain import chosen_plan, infeasible_plan
from planner.fleet_race import FleetRace
from planner.plan import Plan
from planner.race import Evaluate, Progress, Race
from planner.slo import parse_slo
from serve.deployment import Deployment, check_single
from serve.files import load
from serve.manifests import with_manifests
from serve.profile import Profile
from sim.pricing import priced
from sim.scenario import Scenario

REPLICATIONS_MIN = 20
"""`pi` rests on at least as many replications."""


def plan(scenario: Scenario, *, base: Path, progress: Progress | None = None, evaluate: Evaluate | None = None) -> Plan:
    """The cheapest deployment among the scenario's choices that holds its SLO at its rate.

    Parameters
    ----------
    scenario : what arrives, the SLO, the deployment to start from, and `choices`.
    base : folder that the scenario's paths are relative to.
    progress : told how far the search is.
    evaluate : simulates a scenario in place of `sim.simulate`.

    Raises
    ------
    SpecError : an SLO, a choice or a deployment that cannot be planned for; all faults at once.
    """
    deployment, profile = inputs(scenario, base)
    bounds = parse_slo(scenario.slo, tuple(scenario.workload.classes))
    choices = space.choices_of(scenario, deployment, profile, bounds)
    candidates = space.candidates(deployment, choices, profile, bounds)
    race = (FleetRace if any(cost.is_fleet(c.deployment) for c in candidates) else Race)(
        scenario=scenario.model_copy(update={"replications": max(REPLICATIONS_MIN, scenario.replications)}),
        profile=profile,
        bounds=bounds,
        load=ruling.offered(scenario.workload, bounds),
        evaluate=evaluate or simulator(base),
        progress=progress or (lambda what, share: None),
    )
    entries = [race.entry(c) for c in candidates]
    best = race.run([e for e in entries if e.outside is None])
    if best is None:
        found = infeasible_plan(race, entries)
    else:
        best.candidate = _whole(best.candidate, scenario, base)
        best.fate, best.reason = "chosen", "; ".join(str(c) for c in best.checks)
        found = chosen_plan(race, entries, best, race.headroom(best))
    race.tell("done", 1.0)
    return found


def inputs(scenario: Scenario, base: Path) -> tuple[Deployment, Profile]:
    """The deployment that a scenario names or holds, its paths relative to `base`, and its model's profile."""
    deployment = scenario.deployment
    if isinstance(deployment, str):
        path = base / deployment
        deployment = export.rebased(with_manifests(load(path, Deployment), path), path.parent, base)
    deployment = with_manifests(deployment, base / "scenario.yaml")
    check_single(deployment, "plan")
    _, model = cost.only_model(deployment)
    deployment = deployment.model_copy(update={"planned_for": None, "prediction": None})
    return priced(deployment, base).deployment, load(base / model.main.only_profile, Profile)


def _whole(candidate: space.Candidate, scenario: Scenario, base: Path) -> space.Candidate:
    """The candidate with all that its autoscaler was simulated with, as it is written."""
    if not cost.is_fleet(candidate.deployment):
        return candidate
    from sim.simulate import completed

    whole = completed(scenario.model_copy(update={"deployment": candidate.deployment}), base, base)
    assert isinstance(whole.deployment, Deployment)
    return replace(candidate, deployment=whole.deployment)


def simulator(base: Path) -> Evaluate:
    """Evaluates by the fast simulator."""
    from sim.simulate import simulate

    return lambda scenario: simulate(scenario, base=base)
