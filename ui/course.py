"""What happens over time in a scenario whose replicas come and go: the course of one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve.deployment import Deployment
from sim.history import History
from sim.prepare import prepare
from sim.replication import run
from sim.scenario import Scenario
from sim.simulate import completed


@dataclass(frozen=True, slots=True)
class Course:
    """By version, from which second on how many replicas were there; and what failed or was rolled out, when."""

    replicas: dict[str, list[tuple[float, int]]]
    events: list[tuple[float, str]]


def is_changing(scenario: Scenario) -> bool:
    """Whether replicas come and go, or something befalls them."""
    assert isinstance(scenario.deployment, Deployment)
    scaled = any(model.replicas.autoscaler is not None for model in scenario.deployment.models.values())
    return scaled or bool(scenario.events) or scenario.world.takes_machines


def course(scenario: Scenario, base: Path) -> Course:
    """The first replication, as it is drawn.

    Raises
    ------
    ForebayError : as `sim.simulate`.
    """
    whole = completed(scenario, base, base)
    assert isinstance(whole.deployment, Deployment)
    about = (whole.workload, whole.slo, whole.seed, base, base)
    setup = prepare(whole.deployment, *about, world=whole.world, events=whole.events)
    history = run(setup, 0, "fast").history or History()
    end_s = setup.load.duration_ns / 1e9
    replicas = {}
    for serving, fleet in zip(setup.served, history.fleets, strict=False):
        there = [(at_ns / 1e9, count) for at_ns, count in fleet.present if at_ns / 1e9 <= end_s]
        replicas[serving.label] = [*there, (end_s, there[-1][1])]
    told = [(at_ns, "a replica died") for at_ns in history.deaths_ns]
    told += [(at_ns, "a machine was lost") for at_ns in history.losses_ns]
    told += [(at_ns, "a spot machine was taken back") for at_ns in history.reclaims_ns]
    for each in history.rollouts:
        told.append((each.at_ns, f"rolled back: {each.given_up}" if each.given_up else "rolled out"))
    return Course(replicas, sorted((at_ns / 1e9, text) for at_ns, text in told if at_ns / 1e9 <= end_s))
