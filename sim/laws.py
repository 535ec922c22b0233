"""The laws by which requests arrive, as a scenario's file writes them.

Schema only, that of rates which change over time in `sim.rate_laws`: `sim.law_parts` walks through laws that
hold others, `sim.law_moments` knows their means, `sim.processes` makes of each the point process that it
stands for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from serve.spec import Spec
from serve.units import DurationNs, Factor
from sim.rate_laws import RATE_RPS_MAX as RATE_RPS_MAX
from sim.rate_laws import RATE_RPS_MIN as RATE_RPS_MIN
from sim.rate_laws import AnyRate, Counts, Diurnal, PositiveRate, Ramp, Sinusoid, Spike, Trend, later

EDGE_MIN = 1e-9
"""Transitions less likely than this do not make a state reachable."""


class Gamma(Spec):
    """Gaps with a Gamma law: cv 1 is Poisson, above it bursts."""

    rate: PositiveRate
    cv: float = Field(ge=0.01, le=100, description="coefficient of variation of the gaps")


class Weibull(Spec):
    """Gaps with a Weibull law: shape 1 is Poisson, below it bursts."""

    rate: PositiveRate
    shape: float = Field(ge=0.1, le=100, description="shape of the gaps' law; its scale follows from the rate")


class Trace(Spec):
    """Arrival instants from a file: CSV or parquet with a column arrival_s and, optionally, rows; or the engine's own
    log of requests."""

    file: str
    scale: float = Field(1.0, ge=1e-6, le=1e6, description="rate multiplier: gaps are divided by it")
    from_: DurationNs = Field(
        0, alias="from", ge=0, description="time of the file that the run begins at", validate_default=False
    )
    to: DurationNs | None = Field(None, description="time of the file up to which it is read; none: its end")

    @field_validator("to")
    @classmethod
    def _later(cls, to: int | None, info: ValidationInfo) -> int | None:
        return later(to, info)


class Closed(Spec):
    """Clients that each wait for their answer, think, and send again."""

    clients: int = Field(ge=1, le=1_000_000)
    think: DurationNs = Field(0, ge=0, validate_default=False)


class MmppState(Spec):
    """One state of an MMPP."""

    rate: AnyRate
    dwell: DurationNs = Field(ge=1_000_000, description="mean time in it, at least 1ms")


class Mmpp(Spec):
    """A Markov-modulated Poisson process: Poisson at the rate of a state that changes after exponential times."""

    states: list[MmppState] = Field(min_length=2, max_length=64)
    next: list[list[Annotated[float, Field(ge=0, le=1)]]] | None = Field(
        None, description="by state, the probabilities of the state after it; none: they follow in turn"
    )

    @field_validator("states")
    @classmethod
    def _active(cls, states: list[MmppState]) -> list[MmppState]:
        if max(state.rate for state in states) < RATE_RPS_MIN:
            raise ValueError(f"needs a rate of at least {RATE_RPS_MIN:g}/s in one of them")
        return states

    @field_validator("next")
    @classmethod
    def _chain(cls, rows: list[list[float]] | None, info: ValidationInfo) -> list[list[float]] | None:
        if rows is not None and "states" in info.data:
            _check_chain(rows, len(info.data["states"]))
        return rows


class Sessions(Spec):
    """Sessions that begin by a law and each send some requests, whatever the server does."""

    begin: Arrivals = Field(description="how sessions begin; the first request comes at once")
    requests: float = Field(ge=1, le=10_000, description="mean requests of a session")
    lengths: Literal["geometric", "fixed"] = "geometric"
    think: DurationNs = Field(ge=0, description="mean time from one request of a session to its next")
    thinks: Literal["exponential", "constant"] = "exponential"

    @field_validator("lengths")
    @classmethod
    def _whole(cls, lengths: str, info: ValidationInfo) -> str:
        requests = info.data.get("requests", 1.0)
        if lengths == "fixed" and requests != int(requests):
            raise ValueError(f"must be geometric unless `requests` is a whole number, got fixed with {requests:g}")
        return lengths


class Scaled(Spec):
    """A law at another rate: its days, dwell times and think times stay as they are, a trace's gaps shrink."""

    of: Arrivals
    by: Factor = Field(ge=1e-6, le=1e6)


class Thinned(Spec):
    """A law some of whose requests come, each by chance: what a cache in front lets through."""

    of: Arrivals
    keep: float = Field(ge=1e-6, le=1, description="share that comes")


class Arrivals(Spec):
    """How requests arrive: exactly one of these."""

    poisson: PositiveRate | None = None
    constant: PositiveRate | None = None
    gamma: Gamma | None = None
    trace: Trace | None = None
    closed: Closed | None = None
    weibull: Weibull | None = None
    mmpp: Mmpp | None = None
    diurnal: Diurnal | None = None
    sinusoid: Sinusoid | None = None
    ramp: Ramp | None = None
    spike: Spike | None = None
    trend: Trend | None = None
    counts: Counts | None = None
    sessions: Sessions | None = None
    sum: Annotated[list[Arrivals], Field(min_length=2, max_length=64)] | None = None
    scaled: Scaled | None = None
    thinned: Thinned | None = None

    @field_validator("sessions", "sum", "scaled", "thinned")
    @classmethod
    def _open(cls, law: Any) -> Any:
        if any(inner.closed is not None for inner in _held(law)):
            raise ValueError("must not hold closed: its clients set their own rate")
        return law

    @model_validator(mode="after")
    def _one(self) -> Arrivals:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"must name exactly one of {known}; got {', '.join(given) or 'none'}")
        return self


def _held(law: Sessions | Scaled | Thinned | list[Arrivals] | None) -> list[Arrivals]:
    """The laws that one holds."""
    if isinstance(law, Sessions):
        return [law.begin]
    return [law.of] if isinstance(law, Scaled | Thinned) else law or []


def _check_chain(rows: list[list[float]], count: int) -> None:
    """ValueError unless the rows are a transition matrix of so many states, each of which is reached from each."""
    if [len(row) for row in rows] != [count] * count:
        raise ValueError(f"must have {count} rows of {count} probabilities, one for each state")
    for number, row in enumerate(rows):
        if abs(sum(row) - 1) > 1e-6:
            raise ValueError(f"must have rows that add up to 1, got {sum(row):g} in row {number}")
    edges = [{to for to, probability in enumerate(row) if probability > EDGE_MIN} for row in rows]
    for start in range(count):
        reached = {start}
        while (further := reached.union(*(edges[state] for state in reached))) != reached:
            reached = further
        if len(reached) < count:
            raise ValueError(f"must lead from every state to every other, got none from state {start} to all")


# They hold each other: what was not yet defined above is looked up now.
for _kind in (Arrivals, Sessions, Scaled, Thinned):
    _kind.model_rebuild()
