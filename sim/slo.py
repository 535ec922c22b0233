"""What a simulation itself needs of `slo:`: by class, the latency that counts as good."""

from __future__ import annotations

from collections.abc import Sequence

from serve.errors import SpecError
from sim.claims import Expectation, bounds_of
from sim.measures import LATENCIES, PERCENTILES
from sim.scenario import Slo

NO_LIMIT_NS = 2**62


def bounds(slo: Slo, classes: Sequence[str]) -> list[Expectation]:
    """The bounds of `slo:`; SpecError with every one that cannot be read."""
    found, faults = bounds_of(slo, classes, "scenario")
    if faults:
        raise SpecError(faults)
    return found


def limits_ns(slo: Sequence[Expectation], classes: Sequence[str]) -> list[int]:
    """By class: the latency that its SLO allows a request, NO_LIMIT_NS if it names none.

    Of several percentiles the highest counts: a request may be as slow as the SLO lets any be. A
    class's own bounds go before those of all requests.
    """
    return [_limit_ns(slo, name) or _limit_ns(slo, None) or NO_LIMIT_NS for name in classes]


def objectives(slo: Sequence[Expectation], classes: Sequence[str]) -> list[float | None]:
    """By class: the share of requests that its SLO wants within that latency; None if it names no percentile."""
    return [_objective(slo, name) or _objective(slo, None) for name in classes]


def objective_of_all(slo: Sequence[Expectation], classes: Sequence[str]) -> float | None:
    """The share that the SLO wants of all requests together: its own, or that of every class alike."""
    each = set(objectives(slo, classes))
    return _objective(slo, None) or (each.pop() if len(each) == 1 else None)


def _objective(slo: Sequence[Expectation], class_: str | None) -> float | None:
    own = [PERCENTILES[b.of.metric] for b in slo if b.of.class_ == class_ and b.of.metric in PERCENTILES]
    return max(own, default=None)


def _limit_ns(slo: Sequence[Expectation], class_: str | None) -> int | None:
    own = {b.of.metric: round(b.high * 1e9) for b in slo if b.of.class_ == class_ and b.of.metric in LATENCIES}
    return next((own[metric] for metric in reversed(LATENCIES) if metric in own), None)
