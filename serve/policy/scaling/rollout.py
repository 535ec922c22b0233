"""From one version to the next (rule 18): how many replicas start and drain at a step, and when it is given up. Pure.

Source of the rolling step: Kubernetes, pkg/controller/deployment/rolling.go (reconcileNewReplicaSet,
reconcileOldReplicaSets) and util/deployment_util.go (ResolveFenceposts), v1.3x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

DRAW_END = 2**31
"""Draws of a request's version lie below."""
EXACT = 1e-9
"""What a share times a count may be off by, in floating point."""


@dataclass(frozen=True, slots=True)
class RollingSettings:
    """How many replicas beyond the wanted ones there may be, and how many of those may be missing.

    Either is a share of the wanted ones, `surge` rounded up and `unavailable` rounded down, or a count. Where both come
    to none, one may be missing.
    """

    surge: float | int = 0.25
    unavailable: float | int = 0.25

    def bounds(self, wanted: int) -> tuple[int, int]:
        """(surge, unavailable) in replicas."""
        surge = self.surge if isinstance(self.surge, int) else math.ceil(wanted * self.surge - EXACT)
        missing = (
            self.unavailable if isinstance(self.unavailable, int) else math.floor(wanted * self.unavailable + EXACT)
        )
        return (surge, missing) if surge or missing else (0, 1)


class Count(NamedTuple):
    """Replicas of one version that count: available (ready for `min_ready`), and not yet. Draining ones do not."""

    available: int
    other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.available + self.other


class RollingStep(NamedTuple):
    """New replicas to start; old ones to end that are not available, and available ones to drain, the highest ids
    first."""

    start: int
    end_other: int
    drain: int


def rolling(settings: RollingSettings, wanted: int, old: Count, new: Count) -> RollingStep:
    """What a rolling update does now; nothing where it has to wait, or is done.

    >>> rolling(RollingSettings(), 4, Count(4), Count(0))
    RollingStep(start=1, end_other=0, drain=1)
    """
    surge, missing = settings.bounds(wanted)
    start = max(0, min(wanted - new.total, wanted + surge - old.total - new.total))
    least = wanted - missing
    most_ended = old.total + new.total - least - new.other
    if most_ended <= 0:
        return RollingStep(start, 0, 0)
    end_other = min(old.other, most_ended)
    drain = min(old.available, max(0, old.available + new.available - least))
    return RollingStep(start, end_other, drain)


def rolled(wanted: int, old: Count, new: Count) -> bool:
    """Whether the update is done."""
    return old.total == 0 and new.available >= wanted


def given_up(waited_ns: int, progress_ns: int, failed: int, answered: int, abort_share: float) -> str:
    """Why a step is rolled back; empty if it is not.

    Parameters
    ----------
    waited_ns : since the newest replica became available, or since the step began; a step may take `progress_ns`.
    failed, answered : requests of the new version since the rollout began, not ok and in all.
    """
    if waited_ns >= progress_ns:
        return f"no replica became available within {progress_ns / 1e9:g} s"
    if answered and failed > abort_share * answered:
        return f"{failed} of {answered} requests failed, over {abort_share:.1%}"
    return ""


def split(wanted: int, shares: Sequence[float]) -> list[int]:
    """The wanted count over versions by their share of the traffic, each rounded up.

    >>> split(20, [0.95, 0.05, 0.0])
    [19, 1, 0]
    """
    return [math.ceil(wanted * share - EXACT) for share in shares]


def thresholds(shares: Sequence[float]) -> list[int]:
    """Of versions in their order: draws in [0, 2**31) below a threshold, and below none before it, are the version's.

    >>> thresholds([0.5, 0.5])
    [1073741824, 2147483648]
    """
    total, reached, found = sum(shares), 0.0, []
    for share in shares:
        reached += share
        found.append(round(reached / total * DRAW_END))
    last = max(index for index, share in enumerate(shares) if share > 0)
    return [*found[:last], *[DRAW_END] * (len(shares) - last)]
