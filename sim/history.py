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
class History:
    """Every tick, from when on how many replicas were there, starting and draining too, and when what failed."""

    steps: list[Step] = field(default_factory=list)
    present: list[tuple[int, int]] = field(default_factory=list)
    short: list[tuple[int, int]] = field(default_factory=list)
    """From when on how many fewer were ready than were wanted."""
    leases: list[Lease] = field(default_factory=list)
    """Of all machines, those that are there included, in the order in which they were asked for."""
    ups: dict[int, list[Up]] = field(default_factory=dict)
    """Of every replica, by its number: when it was up."""
    deaths_ns: list[int] = field(default_factory=list)
    """Of replicas, by themselves."""
    losses_ns: list[int] = field(default_factory=list)
    """Of machines."""
    reclaims_ns: list[int] = field(default_factory=list)
    """Of machines, by their provider."""

    def replicas_mean(self, start_ns: int, end_ns: int) -> float:
        """Replicas that were there, on average over a span."""
        return _mean(self.present, start_ns, end_ns)

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

    def under_target(self, start_ns: int, end_ns: int) -> float:
        """Share of a span in which fewer replicas were ready than were wanted."""
        return _mean([(at_ns, short > 0) for at_ns, short in self.short], start_ns, end_ns)

    def scaling(self, start_ns: int, end_ns: int) -> dict[str, Any]:
        """What a span's metrics tell of it, by the fields of `sim.measures.NodeTotals`."""
        ups, downs = self.moves(start_ns, end_ns)
        flaps, under_target = self.flaps(start_ns, end_ns), self.under_target(start_ns, end_ns)
        failed = {"deaths": self.deaths_ns, "node_losses": self.losses_ns, "reclaims": self.reclaims_ns}
        counts = {name: sum(start_ns <= at_ns < end_ns for at_ns in instants) for name, instants in failed.items()}
        return {"scale_ups": ups, "scale_downs": downs, "flaps": flaps, "under_target": under_target, **counts}


def _mean(levels: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> float:
    """Mean over a span of what has each level from its instant until the next."""
    area = 0
    for i, (at_ns, level) in enumerate(levels):
        until_ns = levels[i + 1][0] if i + 1 < len(levels) else end_ns
        area += level * max(0, min(until_ns, end_ns) - max(at_ns, start_ns))
    return area / (end_ns - start_ns)
