"""None while there is nothing to do: one replica that goes some time after the last request, and comes with the next.

By event, outside of any tick (rule 16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import SECOND_NS


@dataclass(frozen=True, slots=True)
class IdleSettings:
    """`after_ns`: how long nothing may be present before it goes."""

    after_ns: int = 0


class IdleSample(NamedTuple):
    """What is known when a request comes while there is no replica, or `after_ns` after the last one left: `requests`
    that have not come to their end."""

    now_ns: int
    requests: int


class Idle:
    """A policy without state."""

    def __init__(self, settings: IdleSettings) -> None:
        self.settings = settings

    def decide(self, sample: IdleSample) -> Decision:
        """Whether the replica is wanted now."""
        if sample.requests > 0:
            return Decision(1, f"{sample.requests} requests are there")
        return Decision(0, f"nothing came for {self.settings.after_ns / SECOND_NS:g} s")
