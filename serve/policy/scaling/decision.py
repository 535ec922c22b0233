"""What an autoscaler policy answers at a tick."""

from __future__ import annotations

from typing import NamedTuple


class Decision(NamedTuple):
    """How many replicas are wanted, and why."""

    wanted: int
    reason: str
