"""One model's versions on the slow clock: how many replicas each has, and its share of the traffic (rule 18)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.rollout import split, thresholds
from serve.roster import Step, step_of
from sim.fleet import Fleet, Replica
from sim.history import ModelCourse
from sim.plane import Plane


class Plan(Protocol):
    """What is under way from one version to another."""

    def step(self) -> None:
        """Do what there is to be done now."""

    def look_again(self) -> None:
        """Something has changed."""

    def end(self, given_up: str = "") -> None:
        """It is over."""


class Traffic:
    """By which parts a plane gives requests to the versions of every model."""

    def __init__(self, plane: Plane, groups: int) -> None:
        self._plane, self._upto = plane, [0] * groups

    def share(self, fleets: Sequence[Fleet], shares: Sequence[float]) -> None:
        """A model's versions get these shares, which add up to more than 0."""
        for fleet, upto in zip(fleets, thresholds(shares), strict=True):
            self._upto[fleet.plan.group] = upto
        self._plane.split(self._upto)


class Release:
    """As many replicas as are wanted of a model, over its versions.

    Parameters
    ----------
    fleets : by version, in the order of the plane's groups.
    shares : of the traffic, by version.
    """

    def __init__(self, fleets: Sequence[Fleet], shares: Sequence[float], course: ModelCourse, traffic: Traffic) -> None:
        self.fleets, self.course = fleets, course
        self._shares, self._traffic = list(shares), traffic
        self.wanted = 0
        self._on_demand: int | None = None
        self.under_way: Plan | None = None
        self.when_gone: Callable[[], None] = lambda: None
        for fleet in fleets:
            fleet.changed, fleet.when_gone = self._changed, lambda: self.when_gone()

    @property
    def plane(self) -> Plane:
        """That its replicas are on."""
        return self.fleets[0].plane

    @property
    def shares(self) -> list[float]:
        """Of the traffic, by version."""
        return list(self._shares)

    @property
    def replicas(self) -> list[Replica]:
        """Of all versions."""
        return [replica for fleet in self.fleets for replica in fleet.replicas.values()]

    def begin(self, count: int, on_demand: int | None = None) -> None:
        """So many replicas are wanted, and up at once where there is room; `on_demand` as `apply`'s."""
        self.wanted, self._on_demand = count, on_demand
        self.route(self._shares)
        for fleet, own in zip(self.fleets, split(count, self._shares), strict=True):
            fleet.begin(own, self._on_demand)

    def apply(self, decision: Decision) -> None:
        """So many are wanted from now on; where it says how many on demand, there is one version."""
        self.course.steps.append(self._step(decision))
        self.wanted, self._on_demand = decision.wanted, decision.on_demand
        if self.under_way is not None:
            self.under_way.step()
        else:
            self.spread()
        self._note_short()

    def _step(self, decision: Decision) -> Step:
        """What a decision sets. Versions' parts are rounded up, a rollout has more replicas for a while, and spot ones
        may not be there to be had: with these the count before is what was wanted."""
        step = step_of(self.fleets[0].now_ns, decision, self.replicas)
        if len(self.fleets) == 1 and decision.on_demand is None:
            return step
        return Step(step.at_ns, step.wanted, step.reason, self.wanted, step.ready)

    def spread(self) -> None:
        """Every version has the part of the replicas that its share of the traffic asks for."""
        for fleet, own in zip(self.fleets, split(self.wanted, self._shares), strict=True):
            fleet.resize(own, self._on_demand)

    def route(self, shares: Sequence[float]) -> None:
        """Versions get these shares of the traffic from now on."""
        self._shares = list(shares)
        if len(self.fleets) > 1:
            self._traffic.share(self.fleets, shares)

    def _changed(self) -> None:
        self._note_short()
        if self.under_way is not None:
            self.under_way.look_again()

    def _note_short(self) -> None:
        """How many replicas are missing is written down, if that has changed."""
        short = max(0, self.wanted - sum(fleet.ready for fleet in self.fleets))
        known = self.course.short
        if short != (known[-1][1] if known else 0):
            known.append((self.fleets[0].now_ns, short))
