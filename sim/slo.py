"""What a simulation itself needs of `slo:`: the latency that counts as good, and the front's budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve.deployment import Deployment
from serve.units import parse_duration_ns
from sim.measures import LATENCIES

FRONT_SHARE = 10
"""The front's budget, where a deployment sets none, is one so manieth of the p99 SLO (rule 10)."""

NO_LIMIT_NS = 2**62


def limits_ns(slo: Mapping[str, str | float], classes: Sequence[str]) -> list[int]:
    """By class: the latency that its SLO allows a request, NO_LIMIT_NS if it names none.

    Of several percentiles the highest counts: a request may be as slow as the SLO lets any be. A
    class's own bounds go before those of all requests.
    """
    return [_limit_ns(slo, f"{name}.") or _limit_ns(slo, "") or NO_LIMIT_NS for name in classes]


def _limit_ns(slo: Mapping[str, str | float], prefix: str) -> int | None:
    for metric in reversed(LATENCIES):
        if (bound := slo.get(prefix + metric)) is not None:
            return parse_duration_ns(bound)
    return None


def front_budget_ns(deployment: Deployment, slo: Mapping[str, str | float], classes: Sequence[str]) -> int:
    """Longest wait for the parse before a request is refused from its header; -1: unlimited."""
    if deployment.front.budget is not None:
        return deployment.front.budget
    bounds = [parse_duration_ns(slo[key]) for key in ("p99", *(f"{c}.p99" for c in classes)) if key in slo]
    return min(bounds) // FRONT_SHARE if bounds else -1
