"""Arrival laws whose rate changes over time, as a scenario's file writes them. `sim.laws` has the others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from serve.spec import Spec
from serve.units import DurationNs, Factor, RateRps, format_duration, format_rate

RATE_RPS_MIN, RATE_RPS_MAX = 1e-6, 1e9
PositiveRate = Annotated[RateRps, Field(ge=RATE_RPS_MIN, le=RATE_RPS_MAX)]
AnyRate = Annotated[RateRps, Field(ge=0, le=RATE_RPS_MAX)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
GapCv = Annotated[
    float,
    Field(ge=0.01, le=100, description="coefficient of variation of the gaps, in requests expected: 1 is Poisson"),
]


class Diurnal(Spec):
    """A rate that follows the hour of the day and the day of the week."""

    mean: PositiveRate
    hours: list[Weight] = Field(
        min_length=1, max_length=1440, description="relative rates in even steps of the day (24: hours), from midnight"
    )
    days: Annotated[list[Weight], Field(min_length=7, max_length=7)] | None = Field(
        None, description="relative rates of Monday to Sunday; none: all alike"
    )
    between: Literal["linear", "step"] = Field(
        "linear", description="linear: straight from the middle of one step to that of the next"
    )
    offset: DurationNs = Field(0, ge=0, description="time since Monday, 0:00, at the start", validate_default=False)
    cv: GapCv = 1.0

    @field_validator("hours", "days")
    @classmethod
    def _weights(cls, weights: list[float] | None) -> list[float] | None:
        if weights is not None and not max(weights) > 0:
            raise ValueError("needs a weight above 0")
        return weights


class Sinusoid(Spec):
    """The rate mean + amplitude x sin(2 pi (t + offset) / period)."""

    mean: PositiveRate
    amplitude: AnyRate
    period: DurationNs = Field(ge=1_000_000, description="at least 1ms")
    offset: DurationNs = Field(0, ge=0, description="time since the rate rose through its mean", validate_default=False)
    cv: GapCv = 1.0

    @field_validator("amplitude")
    @classmethod
    def _never_negative(cls, amplitude: float, info: ValidationInfo) -> float:
        mean = info.data.get("mean", amplitude)
        if amplitude > mean:
            raise ValueError(f"must be at most the mean, {format_rate(mean)}")
        return amplitude


class Ramp(Spec):
    """A rate that goes from one value to another in a straight line, and stays there."""

    from_: AnyRate = Field(alias="from")
    to: AnyRate
    over: DurationNs = Field(gt=0, description="how long the change takes, from the start")
    cv: GapCv = 1.0

    @field_validator("to")
    @classmethod
    def _active(cls, to: float, info: ValidationInfo) -> float:
        if max(to, info.data.get("from_", RATE_RPS_MIN)) < RATE_RPS_MIN:
            raise ValueError(f"must be at least {RATE_RPS_MIN:g}/s, unless `from` is")
        return to


class Spike(Spec):
    """A rate that leaves its base for a while."""

    base: AnyRate
    peak: PositiveRate
    at: DurationNs = Field(ge=0, description="when it leaves the base")
    for_: DurationNs = Field(gt=0, alias="for", description="time at the peak")
    up: DurationNs = Field(0, ge=0, description="time from the base to the peak", validate_default=False)
    down: DurationNs = Field(0, ge=0, description="time from the peak to the base", validate_default=False)
    cv: GapCv = 1.0


class Trend(Spec):
    """A rate that is multiplied by the same factor in equal times."""

    rate: PositiveRate = Field(description="at the start")
    growth: Factor = Field(ge=1e-3, le=1e3, description="factor in each `per`; below x1 the rate declines")
    per: DurationNs = Field(ge=1_000_000_000, description="such as 1d or 7d; at least 1s")
    cv: GapCv = 1.0


class Counts(Spec):
    """Requests in successive intervals, from a CSV file."""

    file: str
    interval: DurationNs = Field(gt=0, description="length of an interval; the first begins at the start")
    from_: DurationNs = Field(
        0, alias="from", ge=0, description="time of the file that the run begins at", validate_default=False
    )
    to: DurationNs | None = Field(None, description="time of the file up to which it is read; none: its end")
    within: Literal["poisson", "uniform", "even"] = Field(
        description="poisson: so many on average; uniform: so many, at random instants; even: so many, evenly spaced"
    )
    column: str = "count"
    scale: float = Field(1.0, ge=1e-6, le=1e6, description="rate multiplier: counts are multiplied by it")

    @field_validator("from_", "to")
    @classmethod
    def _whole_intervals(cls, at_ns: int | None, info: ValidationInfo) -> int | None:
        interval = info.data.get("interval")
        if at_ns is not None and interval and at_ns % interval:
            raise ValueError(f"must be whole intervals of {format_duration(interval)}")
        return later(at_ns, info) if info.field_name == "to" else at_ns

    @property
    def part(self) -> tuple[int, int | None]:
        """The first of the file's intervals that is read, and the one at which reading ends."""
        return self.from_ // self.interval, None if self.to is None else self.to // self.interval


def later(to: int | None, info: ValidationInfo) -> int | None:
    """The end of the part of a file that is read; ValueError unless it lies behind its begin."""
    begin = info.data.get("from_", 0)
    if to is not None and to <= begin:
        raise ValueError(f"must be later than `from`, {format_duration(begin)}")
    return to
