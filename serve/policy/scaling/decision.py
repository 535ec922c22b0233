"""What an autoscaler policy answers at a tick."""

from __future__ import annotations

from typing import NamedTuple


class Decision(NamedTuple):
    """How many replicas are wanted, and why; how many of them on demand, the others on spot (None: as pools come)."""

    wanted: int
    reason: str
    on_demand: int | None = None
