"""The grammar of `expect:` and `slo:`.

    [class.]metric < value          also <=, >, >=, ==          interactive.p99 < 50ms
    [class.]metric in [low, high]                               busy in [0.5, 0.7]
    [class.]metric < [class.]metric                             interactive.p99 < batch.p99
    [model.version.]metric ...                                  digits.v2.p99 < digits.v1.p99
    A cheaper_than B                                            spot cheaper_than reserved
    ... because REASON                                          p99 < 50ms because users leave after that

Where a scenario has variants, every metric names its own first: `p2c.interactive.p99 < random.interactive.p99`.
Metrics are the words of `serve.vocabulary`; values carry the unit of their metric.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from serve.errors import Fault
from serve.units import parse_duration_ns, parse_price_usd_per_h, parse_rate_rps, parse_share
from serve.vocabulary import METRICS, Metric, Unit
from sim import error_budget

LOWER_BOUNDED = frozenset({"arrival_rate", "throughput", "goodput"})
"""Metrics of which `slo:` names the least that will do; of all others it names the most."""

OF_THE_SLO = frozenset(("slo_met", *error_budget.NAMES))
"""Metrics of how the SLO fares: they are there if it names a percentile."""

COST = "cost_usd_per_h"
"""What `cheaper_than` compares."""

_NAME = r"([A-Za-z0-9_.-]+)"
_COMPARE = re.compile(rf"\s*{_NAME}\s*(<=|>=|==|<|>)\s*([^<>=\s].*?)\s*")
_WITHIN = re.compile(rf"\s*{_NAME}\s+in\s*\[([^,\[\]]+),([^,\[\]]+)\]\s*")
_BECAUSE = re.compile(r"\s+because\s+")
_CHEAPER = re.compile(rf"\s*{_NAME}\s+cheaper_than\s+{_NAME}\s*")
_GRAMMAR = "must read like 'p99 < 50ms', 'interactive.goodput >= 100/s', 'busy in [0.5, 0.7]' or 'a.p99 < b.p99'"


@dataclass(frozen=True, slots=True)
class Operand:
    """The metric of a class or version (None: of all requests), in a variant (None: in the scenario as it stands)."""

    metric: str
    class_: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """One claim: a metric lies between two bounds, in its inside unit; or what it exceeds another metric by does."""

    text: str
    """Without the reason that it may give."""
    of: Operand
    low: float = -inf
    high: float = inf
    open_: bool = False
    """Whether the bounds themselves are outside (`<` and `>`)."""
    than: Operand | None = None
    because: str | None = None
    """Why its bound is where it is, if the claim says so."""

    def holds(self, value: float) -> bool:
        """Whether a value is inside the bounds."""
        if self.open_:
            return self.low < value < self.high
        return self.low <= value <= self.high


def without_reason(text: str) -> str:
    """A claim less why its bound is where it is.

    >>> without_reason("p99 < 50ms because users leave after that")
    'p99 < 50ms'
    """
    return _BECAUSE.split(text, maxsplit=1)[0].strip()


def parse_expectation(text: str, classes: Collection[str], variants: Collection[str] = ()) -> Expectation:
    """A claim of `expect:`.

    Raises
    ------
    ValueError : says what was found and what would do.
    """
    claim, *reason = _BECAUSE.split(text, maxsplit=1)
    return replace(_parse_claim(claim, classes, variants), because=reason[0].strip() if reason else None)


def _parse_claim(text: str, classes: Collection[str], variants: Collection[str]) -> Expectation:
    if matched := _CHEAPER.fullmatch(text):
        one, other = (parse_operand(f"{name}.{COST}", classes, variants) for name in matched.groups())
        return Expectation(text, one, high=0.0, open_=True, than=other)
    if matched := _COMPARE.fullmatch(text):
        name, operator, right = matched.groups()
        of, than = parse_operand(name, classes, variants), None
        if right[0].isalpha():
            than, value = parse_operand(right, classes, variants), 0.0
            if METRICS[than.metric].unit != METRICS[of.metric].unit:
                raise ValueError(f"{of.metric} and {than.metric} have different units")
        else:
            value = parse_value(METRICS[of.metric], right)
        low, high = -inf if operator[0] == "<" else value, inf if operator[0] == ">" else value
        return Expectation(text, of, low, high, open_=len(operator) == 1, than=than)
    if matched := _WITHIN.fullmatch(text):
        name, low_text, high_text = matched.groups()
        of = parse_operand(name, classes, variants)
        low, high = (parse_value(METRICS[of.metric], side) for side in (low_text, high_text))
        if low > high:
            raise ValueError(f"the interval's lower end must come first, got [{low_text.strip()}, {high_text.strip()}]")
        return Expectation(text, of, low, high)
    raise ValueError(f"{_GRAMMAR}, got {text!r}")


def parse_operand(name: str, classes: Collection[str], variants: Collection[str] = ()) -> Operand:
    """`p2c.interactive.p99` as an operand.

    Raises
    ------
    ValueError : unknown variant, class or metric, with the nearest known name.
    """
    if not variants:
        class_, metric = parse_metric(name, classes)
        return Operand(metric, class_)
    variant, _, rest = name.partition(".")
    if variant not in variants:
        raise ValueError(f"{name!r} must begin with a variant; {_nearest(variant, variants)}")
    class_, metric = parse_metric(rest, classes)
    return Operand(metric, class_, variant)


def parse_bound(name: str, value: str | float, classes: Collection[str]) -> Expectation:
    """A bound of `slo:`, as a claim: the most that will do, or of a rate the least.

    Raises
    ------
    ValueError : says what was found and what would do.
    """
    class_, metric = parse_metric(name, classes)
    if metric in OF_THE_SLO:
        raise ValueError("is how the SLO itself fares, and belongs into `expect:`")
    limit = parse_value(METRICS[metric], str(value))
    if METRICS[metric].unit == "share" and not 0 <= limit <= 1:
        raise ValueError(f"the value of {metric} must be from 0% to 100%, got {value!r}")
    if METRICS[metric].unit != "share" and limit <= 0:
        raise ValueError(f"the value of {metric} must be above 0, got {value!r}")
    if metric in LOWER_BOUNDED:
        return Expectation(f"{name} >= {value}", Operand(metric, class_), low=limit)
    return Expectation(f"{name} <= {value}", Operand(metric, class_), high=limit)


def parse_metric(name: str, classes: Collection[str]) -> tuple[str | None, str]:
    """`interactive.p99` as (class, metric); the class is None where the name has none.

    Raises
    ------
    ValueError : unknown class or metric, with the nearest known name.
    """
    if name in METRICS:
        return None, name
    named = [each for each in classes if name.startswith(f"{each}.") and name[len(each) + 1 :] in METRICS]
    class_, dot, metric = (named[0], ".", name[len(named[0]) + 1 :]) if named else name.partition(".")
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


def claims_of(
    expect: Sequence[str], classes: Collection[str], file: object, variants: Collection[str] = ()
) -> tuple[list[Expectation], list[Fault]]:
    """All claims of a scenario's `expect:` and the faults of those that cannot be read."""
    claims, faults = [], []
    for index, text in enumerate(expect):
        try:
            claims.append(parse_expectation(text, classes, variants))
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
    "count": _number_of(""),
    "node-h": _number_of("node-h"),
    "kWh": _number_of("kWh"),
    "kg": _number_of("kg"),
}
