"""Values with a unit, as files and flags write them: `5ms`, `400/s`, `2GiB`, `0.35 USD/h`, `1%`, `x1.5`.

Each `parse_*` takes the text (or a bare number only where none can be misread) and returns the
inside unit; each `format_*` is its inverse. The annotated types at the end plug them into pydantic,
in JSON Schema as strings with a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
_LARGEST = 1e15
_DURATIONS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_PER_S = {"s": 1.0, "min": 1 / 60, "h": 1 / 3600, "d": 1 / 86400}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def _match(text: Any, pattern: str, what: str) -> re.Match[str]:
    matched = re.fullmatch(pattern, text.strip()) if isinstance(text, str) else None
    if matched is None:
        raise ValueError(f"must be {what}")
    return matched


def _number(matched: re.Match[str]) -> float:
    value = float(matched[1])
    if value > _LARGEST:
        raise ValueError("must be a number below 1e15 in any unit")
    return value


def _whole(matched: re.Match[str], scales: dict[str, int]) -> int:
    """Whole inside units, which must fit int64 with room for sums."""
    _number(matched)  # its bound; the value itself is computed exactly, which a float is not above 2^53
    value = round(Decimal(matched[1]) * scales[matched[2]])
    if value >= 2**62:
        raise ValueError("must be below 2^62 in its smallest unit (146 years; 4 EiB)")
    return value


def parse_duration_ns(text: Any) -> int:
    """`5ms` -> 5_000_000; a plain 0 is allowed, other bare numbers are not.

    >>> parse_duration_ns("1.5s")
    1500000000
    """
    if text == 0 and not isinstance(text, bool):
        return 0
    matched = _match(text, _NUMBER + r"\s*(ns|us|ms|s|min|h|d)", "a duration with its unit, such as 5ms, 2s or 10min")
    return _whole(matched, _DURATIONS_NS)


def format_duration(value_ns: int) -> str:
    """The shortest exact text of a duration: the largest unit that divides it, else one with decimals.

    >>> format_duration(2_500_000)
    '2.5ms'
    """
    if value_ns == 0:
        return "0ms"
    for unit in ("h", "min", "s", "ms", "us"):
        scale = _DURATIONS_NS[unit]
        if value_ns % scale == 0 or (unit in ("s", "ms", "us") and value_ns >= scale):
            return f"{(Decimal(int(value_ns)) / scale).normalize():f}{unit}"
    return f"{value_ns}ns"


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def parse_rate_rps(text: Any) -> float:
    """`400/s` -> 400.0 per second; also /min, /h, /d.

    >>> parse_rate_rps("90/min")
    1.5
    """
    matched = _match(text, _NUMBER + r"\s*/\s*(s|min|h|d)", "a rate with its unit, such as 400/s or 90/min")
    return _number(matched) * _PER_S[matched[2]]


def format_rate(value_rps: float) -> str:
    """`400.0` -> `400/s`."""
    return f"{_plain(value_rps)}/s"


def parse_bytes(text: Any) -> int:
    """`2GiB` -> 2147483648."""
    matched = _match(text, _NUMBER + r"\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)", "a size with its unit, such as 600MiB or 2GiB")
    return _whole(matched, _BYTES)


def format_bytes(value: int) -> str:
    """`2147483648` -> `2GiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def parse_price_usd_per_h(text: Any) -> float:
    """`0.35 USD/h` -> 0.35."""
    return _number(_match(text, _NUMBER + r"\s*USD\s*/\s*h", "a price per hour, such as 0.35 USD/h"))


def format_price(value_usd_per_h: float) -> str:
    """`0.35` -> `0.35 USD/h`."""
    return f"{_plain(value_usd_per_h)} USD/h"


def parse_price_usd_per_gib(text: Any) -> float:
    """`0.01 USD/GiB` -> 0.01."""
    return _number(_match(text, _NUMBER + r"\s*USD\s*/\s*GiB", "a price of traffic, such as 0.01 USD/GiB"))


def format_price_per_gib(value_usd: float) -> str:
    """`0.01` -> `0.01 USD/GiB`."""
    return f"{_plain(value_usd)} USD/GiB"


def parse_watts(text: Any) -> float:
    """`3.5W` -> 3.5."""
    return _number(_match(text, _NUMBER + r"\s*W", "a power, such as 3.5W"))


def format_watts(value: float) -> str:
    """`3.5` -> `3.5W`."""
    return f"{_plain(value)}W"


def parse_kg_per_kwh(text: Any) -> float:
    """`0.35 kg/kWh` -> 0.35."""
    return _number(_match(text, _NUMBER + r"\s*kg\s*/\s*kWh", "what energy emits, such as 0.35 kg/kWh"))


def format_kg_per_kwh(value: float) -> str:
    """`0.35` -> `0.35 kg/kWh`."""
    return f"{_plain(value)} kg/kWh"


def parse_share(text: Any) -> float:
    """`1%` -> 0.01; a bare number in [0, 1] is a share already."""
    if isinstance(text, (int, float)) and not isinstance(text, bool) and 0 <= text <= 1:
        return float(text)
    return _number(_match(text, _NUMBER + r"\s*%", "a share, such as 1% or 0.01")) / 100


def format_share(value: float) -> str:
    """`0.01` -> `1%`."""
    return f"{_plain(round(value * 100, 12))}%"


def parse_factor(text: Any) -> float:
    """`x1.5` -> 1.5: what something is multiplied by.

    >>> parse_factor("x0.98")
    0.98
    """
    return _number(_match(text, r"x\s*" + _NUMBER, "a factor with its x, such as x1.5 or x0.2"))


def format_factor(value: float) -> str:
    """`1.5` -> `x1.5`."""
    return f"x{_plain(value)}"


def _unit(parse: Callable[[Any], Any], show: Callable[[Any], str], pattern: str, example: str) -> tuple[Any, ...]:
    def before(value: Any) -> Any:
        return parse(value)

    return (
        BeforeValidator(before),
        PlainSerializer(show, return_type=str),
        WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": [example]}),
    )


_N = r"[0-9.eE+-]+ ?"
DurationNs = Annotated[int, *_unit(parse_duration_ns, format_duration, _N + "(ns|us|ms|s|min|h|d)", "5ms")]
RateRps = Annotated[float, *_unit(parse_rate_rps, format_rate, _N + "/ ?(s|min|h|d)", "400/s")]
Bytes = Annotated[int, *_unit(parse_bytes, format_bytes, _N + "(B|KiB|MiB|GiB|kB|KB|MB|GB)", "600MiB")]
PriceUsdPerH = Annotated[float, *_unit(parse_price_usd_per_h, format_price, _N + "USD ?/ ?h", "0.35 USD/h")]
PriceUsdPerGib = Annotated[
    float, *_unit(parse_price_usd_per_gib, format_price_per_gib, _N + "USD ?/ ?GiB", "0.01 USD/GiB")
]
Watts = Annotated[float, *_unit(parse_watts, format_watts, _N + "W", "3.5W")]
KgPerKwh = Annotated[float, *_unit(parse_kg_per_kwh, format_kg_per_kwh, _N + "kg ?/ ?kWh", "0.35 kg/kWh")]
Share = Annotated[float, *_unit(parse_share, format_share, _N + "%", "1%")]
Factor = Annotated[float, *_unit(parse_factor, format_factor, "x ?[0-9.eE+-]+", "x1.5")]
