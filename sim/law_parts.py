"""Laws within laws: walking through an arrival law, and the same law at another rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from sim.laws import RATE_RPS_MAX, Arrivals

SOJOURNS_MAX = 10_000_000
"""Stays in states of one MMPP that a run may have: all are drawn before its first request."""

_RATES = {
    "gamma": ("rate",),
    "weibull": ("rate",),
    "trace": ("scale",),
    "diurnal": ("mean",),
    "sinusoid": ("mean", "amplitude"),
    "ramp": ("from_", "to"),
    "spike": ("base", "peak"),
    "trend": ("rate",),
    "counts": ("scale",),
}
"""Attributes of a law that are multiplied with its rate."""

_TRANSIENT = frozenset(("trace", "diurnal", "sinusoid", "ramp", "spike", "trend", "counts"))


def kind(arrivals: Arrivals) -> tuple[str, Any]:
    """The name of the law that arrivals follow, and the law."""
    return next((name, law) for name in Arrivals.model_fields if (law := getattr(arrivals, name)) is not None)


def parts(arrivals: Arrivals, path: str = "arrivals") -> Iterator[tuple[str, Arrivals]]:
    """Arrivals and those that their law holds, each with its path in the file."""
    yield path, arrivals
    for step, inner in _inside(arrivals):
        yield from parts(inner, f"{path}.{step}")


def _inside(arrivals: Arrivals) -> list[tuple[str, Arrivals]]:
    if arrivals.sum is not None:
        return [(f"sum.{number}", inner) for number, inner in enumerate(arrivals.sum)]
    if arrivals.scaled is not None:
        return [("scaled.of", arrivals.scaled.of)]
    if arrivals.thinned is not None:
        return [("thinned.of", arrivals.thinned.of)]
    return [] if arrivals.sessions is None else [("sessions.begin", arrivals.sessions.begin)]


def mapped(arrivals: Arrivals, change: Callable[[Arrivals], Arrivals]) -> Arrivals:
    """The same arrivals with every law that holds no other one replaced by what `change` makes of it."""
    if arrivals.sum is not None:
        return arrivals.model_copy(update={"sum": [mapped(inner, change) for inner in arrivals.sum]})
    if arrivals.scaled is not None:
        of = mapped(arrivals.scaled.of, change)
        return arrivals.model_copy(update={"scaled": arrivals.scaled.model_copy(update={"of": of})})
    if arrivals.thinned is not None:
        of = mapped(arrivals.thinned.of, change)
        return arrivals.model_copy(update={"thinned": arrivals.thinned.model_copy(update={"of": of})})
    if arrivals.sessions is not None:
        begin = mapped(arrivals.sessions.begin, change)
        return arrivals.model_copy(update={"sessions": arrivals.sessions.model_copy(update={"begin": begin})})
    return change(arrivals)


def scaled(arrivals: Arrivals, factor: float) -> Arrivals:
    """The same law with its rate multiplied: days, dwell and think times stay; closed loops set their own rate."""
    return mapped(arrivals, lambda inner: _scaled(inner, factor))


def _scaled(arrivals: Arrivals, factor: float) -> Arrivals:
    name, law = kind(arrivals)
    if name in ("poisson", "constant"):
        return arrivals.model_copy(update={name: law * factor})
    if name == "mmpp":
        states = [state.model_copy(update={"rate": state.rate * factor}) for state in law.states]
        return arrivals.model_copy(update={"mmpp": law.model_copy(update={"states": states})})
    if name not in _RATES:
        return arrivals
    changed = {field: getattr(law, field) * factor for field in _RATES[name]}
    return arrivals.model_copy(update={name: law.model_copy(update=changed)})


def unscaled(arrivals: Arrivals) -> Arrivals:
    """The same arrivals by a law that is no `scaled` one."""
    while arrivals.scaled is not None:
        arrivals = scaled(arrivals.scaled.of, arrivals.scaled.by)
    return arrivals


def transient(arrivals: Arrivals) -> bool:
    """Whether the mean rate changes over time."""
    return any(kind(inner)[0] in _TRANSIENT for _, inner in parts(arrivals))


def files(arrivals: Arrivals, path: str = "arrivals") -> list[tuple[str, str]]:
    """Files that the law reads, each with the path of the field that names it."""
    named = [(where, *kind(inner)) for where, inner in parts(arrivals, path)]
    return [(f"{where}.{name}.file", law.file) for where, name, law in named if name in ("trace", "counts")]


def moved(arrivals: Arrivals, move: Callable[[str], str]) -> Arrivals:
    """The same arrivals with other names for the files that they are read from."""

    def renamed(inner: Arrivals) -> Arrivals:
        name, law = kind(inner)
        if name not in ("trace", "counts"):
            return inner
        return inner.model_copy(update={name: law.model_copy(update={"file": move(law.file)})})

    return mapped(arrivals, renamed)


def beyond(arrivals: Arrivals, duration_ns: int) -> str:
    """Why a run of this length cannot have such arrivals, begun by the law's name; empty if it can."""
    if arrivals.trend is not None:
        trend = arrivals.trend
        grown = math.log(trend.rate) + math.log(trend.growth) * duration_ns / trend.per
        if grown > math.log(RATE_RPS_MAX):
            return f"trend: grows beyond {RATE_RPS_MAX:g}/s before the run ends"
    if arrivals.mmpp is not None:
        sojourns = duration_ns / min(state.dwell for state in arrivals.mmpp.states)
        if sojourns > SOJOURNS_MAX:
            return f"mmpp: may change its state {sojourns:.2g} times; at most {SOJOURNS_MAX:.0e} are simulated"
    return ""
