"""What a scenario expects of its Result: the grammar of `expect:` and `slo:`, and the verdict of each claim.

    [class.]metric < value        also <=, >, >=         interactive.p99 < 50ms
    [class.]metric in [low, high]                         busy in [0.5, 0.7]

Metrics are the words of `serve.vocabulary`; values carry the unit of their metric. A claim is
judged by the estimate's `ci`: wholly inside the bounds it passes, wholly outside it fails, and
where the interval straddles a bound more replications are run, up to a cap.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from serve.errors import Fault
from serve.units import parse_duration_ns, parse_price_usd_per_h, parse_rate_rps, parse_share
from serve.vocabulary import METRICS, Metric, Unit
from sim.result import Estimate, Result

Outcome = Literal["pass", "fail", "undecided"]

REPLICATIONS_CAP = 160
"""Replications are doubled at most up to here to decide a claim; what is open then is reported as undecided."""

LOWER_BOUNDED = frozenset({"arrival_rate", "throughput", "goodput"})
"""Metrics of which `slo:` names the least that will do; of all others it names the most."""

_NAME = r"([A-Za-z0-9_.-]+)"
_COMPARE = re.compile(rf"\s*{_NAME}\s*(<=|>=|<|>)\s*([^<>=\s].*?)\s*")
_WITHIN = re.compile(rf"\s*{_NAME}\s+in\s*\[([^,\[\]]+),([^,\[\]]+)\]\s*")
_GRAMMAR = "must read like 'p99 < 50ms', 'interactive.goodput >= 100/s' or 'busy in [0.5, 0.7]'"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One claim: the metric of a class (None: of all requests) lies between two bounds, in its inside unit."""

    text: str
    class_: str | None
    metric: str
    low: float = -inf
    high: float = inf
    open_: bool = False
    """Whether the bounds themselves are outside (`<` and `>`)."""

    def holds(self, value: float) -> bool:
        """Whether a value is inside the bounds."""
        if self.open_:
            return self.low < value < self.high
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Judgement:
    """A claim beside what was simulated."""

    expectation: Expectation
    estimate: Estimate | None
    """None where the Result has no such metric."""
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Checked:
    """A scenario's Result with the judgement of each of its claims."""

    result: Result
    judgements: list[Judgement]

    @property
    def outcome(self) -> Outcome:
        """`fail` if any claim fails, else `undecided` if any is, else `pass`."""
        outcomes = {judgement.outcome for judgement in self.judgements}
        return "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"


def parse_expectation(text: str, classes: Collection[str]) -> Expectation:
    """A claim of `expect:`.

    Raises
    ------
    ValueError : says what was found and what would do.
    """
    if matched := _COMPARE.fullmatch(text):
        name, operator, value_text = matched.groups()
        class_, metric = parse_metric(name, classes)
        value = parse_value(METRICS[metric], value_text)
        low, high = (-inf, value) if operator[0] == "<" else (value, inf)
        return Expectation(text, class_, metric, low, high, open_=len(operator) == 1)
    if matched := _WITHIN.fullmatch(text):
        name, low_text, high_text = matched.groups()
        class_, metric = parse_metric(name, classes)
        low, high = (parse_value(METRICS[metric], side) for side in (low_text, high_text))
        if low > high:
            raise ValueError(f"the interval's lower end must come first, got [{low_text.strip()}, {high_text.strip()}]")
        return Expectation(text, class_, metric, low, high)
    raise ValueError(f"{_GRAMMAR}, got {text!r}")


def parse_bound(name: str, value: str | float, classes: Collection[str]) -> Expectation:
    """A bound of `slo:`, as a claim: the most that will do, or of a rate the least.

    Raises
    ------
    ValueError : says what was found and what would do.
    """
    class_, metric = parse_metric(name, classes)
    limit = parse_value(METRICS[metric], str(value))
    if METRICS[metric].unit == "share" and not 0 <= limit <= 1:
        raise ValueError(f"the value of {metric} must be from 0% to 100%, got {value!r}")
    if METRICS[metric].unit != "share" and limit <= 0:
        raise ValueError(f"the value of {metric} must be above 0, got {value!r}")
    if metric in LOWER_BOUNDED:
        return Expectation(f"{name} >= {value}", class_, metric, low=limit)
    return Expectation(f"{name} <= {value}", class_, metric, high=limit)


def parse_metric(name: str, classes: Collection[str]) -> tuple[str | None, str]:
    """`interactive.p99` as (class, metric); the class is None where the name has none.

    Raises
    ------
    ValueError : unknown class or metric, with the nearest known name.
    """
    if name in METRICS:
        return None, name
    class_, dot, metric = name.partition(".")
    if not dot or (metric not in METRICS and class_ not in classes):
        raise ValueError(f"{name!r} is not a metric; {_nearest(name, METRICS)}")
    if class_ not in classes:
        raise ValueError(f"{class_!r} is not a request class; {_nearest(class_, classes)}")
    if metric not in METRICS:
        raise ValueError(f"{metric!r} is not a metric; {_nearest(metric, METRICS)}")
    if not METRICS[metric].per_class:
        raise ValueError(f"{metric} is a metric of the whole run; leave out {class_ + '.'!r}")
    return class_, metric


def parse_value(metric: Metric, text: str) -> float:
    """A value with the unit of its metric, in the inside unit.

    >>> parse_value(METRICS["p99"], "50ms")
    0.05

    Raises
    ------
    ValueError : not a value of that unit.
    """
    try:
        return _PARSERS[metric.unit](text.strip())
    except ValueError as error:
        raise ValueError(f"the value of {metric.name} {error}, got {text.strip()!r}") from None


def claims_of(expect: Sequence[str], classes: Collection[str], file: object) -> tuple[list[Expectation], list[Fault]]:
    """All claims of a scenario's `expect:` and the faults of those that cannot be read."""
    claims, faults = [], []
    for index, text in enumerate(expect):
        try:
            claims.append(parse_expectation(text, classes))
        except ValueError as error:
            faults.append(Fault(str(file), f"expect.{index}", str(error)))
    return claims, faults


def bounds_of(
    slo: Mapping[str, str | float], classes: Collection[str], file: object
) -> tuple[list[Expectation], list[Fault]]:
    """All bounds of a scenario's `slo:` and the faults of those that cannot be read."""
    bounds, faults = [], []
    for name, value in slo.items():
        try:
            bounds.append(parse_bound(name, value, classes))
        except ValueError as error:
            faults.append(Fault(str(file), f"slo.{name}", str(error)))
    return bounds, faults


def estimate_of(claim: Expectation, result: Result) -> Estimate | None:
    """The estimate that a claim speaks of; None if the Result has none."""
    part = result.total if claim.class_ is None else result.classes.get(claim.class_)
    return None if part is None else part.metrics.get(claim.metric)


def judge(claim: Expectation, estimate: Estimate | None) -> Judgement:
    """The verdict by the estimate's `ci`. What does not exist, such as the p99 of an unstable queue, fails."""
    if estimate is None or estimate.value is None:
        return Judgement(claim, estimate, "fail")
    low, high = estimate.ci or (estimate.value, estimate.value)
    if claim.holds(low) and claim.holds(high):
        return Judgement(claim, estimate, "pass")
    if high < claim.low or low > claim.high or (claim.open_ and (high <= claim.low or low >= claim.high)):
        return Judgement(claim, estimate, "fail")
    return Judgement(claim, estimate, "undecided")


def check(
    claims: Sequence[Expectation], run: Callable[[int], Result], replications: int, cap: int = REPLICATIONS_CAP
) -> Checked:
    """Judge `claims` on `run(replications)`, doubling the replications while one is undecided and the cap allows."""
    while True:
        result = run(replications)
        checked = Checked(result, [judge(claim, estimate_of(claim, result)) for claim in claims])
        if checked.outcome != "undecided" or replications >= cap:
            return checked
        replications = min(2 * replications, cap)


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _seconds(text: str) -> float:
    return parse_duration_ns(0 if text == "0" else text) / 1e9


def _share(text: str) -> float:
    return parse_share(float(text) if _is_number(text) else text)


def _number_of(unit: str) -> Callable[[str], float]:
    """A plain number whose unit may be written behind it."""

    def parse(text: str) -> float:
        stripped = text.removesuffix(unit).strip()
        if not _is_number(stripped):
            raise ValueError(f"must be a number{f' of {unit}' if unit else ''}, such as 4{unit and ' ' + unit}")
        return float(stripped)

    return parse


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", text) is not None


_PARSERS: dict[Unit, Callable[[str], float]] = {
    "s": _seconds,
    "1/s": parse_rate_rps,
    "share": _share,
    "usd/h": parse_price_usd_per_h,
    "usd": _number_of("USD"),
    "rows": _number_of("rows"),
    "1": _number_of(""),
}
