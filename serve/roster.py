"""What a decision does to a model's replicas: which count, which come, which go first (rule 15). Pure.

The simulator's slow clock and the engine hold replicas of their own kinds; both ask here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.placement import Standing, leaving


class Member(Protocol):
    """A replica: `ready_ns` is None while it starts, `leaving` holds once it is not wanted any more."""

    number: int
    ready_ns: int | None
    leaving: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One tick: how many replicas were wanted, why, and how many were set and ready before."""

    at_ns: int
    wanted: int
    reason: str
    counted: int
    ready: int

    @property
    def change(self) -> int:
        """Replicas that come, or, below 0, go."""
        return self.wanted - self.counted


def step_of(now_ns: int, decision: Decision, replicas: Iterable[Member]) -> Step:
    """What a decision means for the replicas that there are: those that leave count no more."""
    staying = [replica for replica in replicas if not replica.leaving]
    ready = sum(replica.ready_ns is not None for replica in staying)
    return Step(now_ns, decision.wanted, decision.reason, len(staying), ready)


def goers(step: Step, replicas: Iterable[Member]) -> list[int]:
    """The numbers of those that leave, in order: starting ones first, then those that are up, the highest first."""
    staying = [replica for replica in replicas if not replica.leaving]
    standing = [Standing(each.number, "starting" if each.ready_ns is None else "up") for each in staying]
    return leaving(standing, max(0, -step.change))


def comers(step: Step, taken: Collection[int], most: int) -> list[int]:
    """The numbers of those that come: the lowest free ones below `most`; one that drains still holds its own."""
    free = (number for number in islice(count(), most) if number not in taken)
    return list(islice(free, max(0, step.change)))
