"""What the slow clock writes down: ticks, replicas, machines, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.roster import Step

FLAP_NS = 600 * SECOND_NS
"""A change of mind within so long is a flap."""


@dataclass(slots=True)
class Lease:
    """A machine from its hand-over until it goes, which is what is paid."""

    machine: int
    there_ns: int
    ready_ns: int | None = None
    """When its first replica was ready; none: never."""
    gone_ns: int | None = None
    """None: it is still there."""
    reclaimed: bool = False
    """Whether its provider took it back."""
    emptied_ns: int = -1


@dataclass(frozen=True, slots=True)
class Up:
    """A replica that was up: on which machine, from when to when; `down_ns` none: it still is."""

    machine: int
    ready_ns: int
    down_ns: int | None = None


@dataclass(slots=True)
class FleetCourse:
    """Of one version of a model, over time."""

    present: list[tuple[int, int]] = field(default_factory=list)
    """From when on how many replicas were there, starting and draining too."""
    ups: dict[int, list[Up]] = field(default_factory=dict)
    """Of every replica, by its number: when it was up."""


@dataclass(slots=True)
class ModelCourse:
    """Of one model, over time."""

    steps: list[Step] = field(default_factory=list)
    """Every tick."""
    short: list[tuple[int, int]] = field(default_factory=list)
    """From when on how many fewer replicas were ready than were wanted."""

    def moves(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Ticks that set more replicas within a span, and those that set fewer."""
        within = [step for step in self.steps if start_ns <= step.at_ns < end_ns]
        return sum(s.change > 0 for s in within), sum(s.change < 0 for s in within)

    def flaps(self, start_ns: int, end_ns: int) -> int:
        """Moves of a span that go the other way than the one before them, less than FLAP_NS ago."""
        moves = [step for step in self.steps if step.change != 0]
        return sum(
            start_ns <= after.at_ns < end_ns
            and (after.change > 0) != (before.change > 0)
            and after.at_ns - before.at_ns < FLAP_NS
            for before, after in pairwise(moves)
        )


@dataclass(frozen=True, slots=True)
class Rolled:
    """A rollout that has come to its end: `given_up` says why it was rolled back; empty if it was not."""

    at_ns: int
    given_up: str = ""


@dataclass(slots=True)
class History:
    """What was there when, by fleet (group) and by model, and when what failed."""

    fleets: list[FleetCourse] = field(default_factory=list)
    models: list[ModelCourse] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    """Of all machines, those that are there included, in the order in which they were asked for."""
    deaths_ns: list[int] = field(default_factory=list)
    """Of replicas, by themselves."""
    losses_ns: list[int] = field(default_factory=list)
    """Of machines."""
    reclaims_ns: list[int] = field(default_factory=list)
    """Of machines, by their provider."""
    rollouts: list[Rolled] = field(default_factory=list)

    def replicas_mean(self, start_ns: int, end_ns: int) -> float:
        """Replicas that were there, on average over a span."""
        return sum(_mean(fleet.present, start_ns, end_ns) for fleet in self.fleets)

    def under_target(self, start_ns: int, end_ns: int) -> float:
        """Share of a span in which fewer replicas of some model were ready than were wanted."""
        told = [(at_ns, number, short) for number, model in enumerate(self.models) for at_ns, short in model.short]
        changes = sorted(told, key=lambda change: change[0])  # at one instant each model's as they were told
        short, levels = [0] * len(self.models), []
        for at_ns, number, missing in changes:
            short[number] = missing
            levels.append((at_ns, int(any(short))))
        return _mean(levels, start_ns, end_ns)

    def scaling(self, start_ns: int, end_ns: int) -> dict[str, Any]:
        """What a span's metrics tell of it, by the fields of `sim.measures.NodeTotals`."""
        moves = [model.moves(start_ns, end_ns) for model in self.models]
        instants = {
            "deaths": self.deaths_ns,
            "node_losses": self.losses_ns,
            "reclaims": self.reclaims_ns,
            "rollouts": [each.at_ns for each in self.rollouts if not each.given_up],
            "rollbacks": [each.at_ns for each in self.rollouts if each.given_up],
        }
        return {
            "scale_ups": sum(ups for ups, _ in moves),
            "scale_downs": sum(downs for _, downs in moves),
            "flaps": sum(model.flaps(start_ns, end_ns) for model in self.models),
            "under_target": self.under_target(start_ns, end_ns),
            **{name: sum(start_ns <= at_ns < end_ns for at_ns in each) for name, each in instants.items()},
        }


def _mean(levels: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> float:
    """Mean over a span of what has each level from its instant until the next."""
    area = 0
    for i, (at_ns, level) in enumerate(levels):
        until_ns = levels[i + 1][0] if i + 1 < len(levels) else end_ns
        area += level * max(0, min(until_ns, end_ns) - max(at_ns, start_ns))
    return area / (end_ns - start_ns)
