"""Values with a unit: each value has a text that reads back, and a wrong text is told what would do."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from serve import units
from serve.units import (
    Bytes,
    DurationNs,
    PriceUsdPerH,
    RateRps,
    Share,
    format_bytes,
    format_duration,
    format_price,
    format_rate,
    format_share,
    parse_bytes,
    parse_duration_ns,
    parse_price_usd_per_h,
    parse_rate_rps,
    parse_share,
)

RATES = st.floats(0, 1e15, allow_subnormal=False)


def test_the_examples_in_the_docstrings() -> None:
    found = doctest.testmod(units)
    assert found.attempted >= 3
    assert found.failed == 0


# -- what a text means ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value_ns"),
    [
        ("5ms", 5_000_000),
        ("1.5s", 1_500_000_000),
        ("250us", 250_000),
        ("7ns", 7),
        ("10min", 600 * 10**9),
        ("2h", 7200 * 10**9),
        ("1d", 86400 * 10**9),
        ("1e3ms", 10**9),
        (" 5 ms ", 5_000_000),
        ("0.1ms", 100_000),
        ("0ms", 0),
        (0, 0),
        (0.0, 0),
    ],
)
def test_durations(text: Any, value_ns: int) -> None:
    parsed = parse_duration_ns(text)
    assert parsed == value_ns
    assert isinstance(parsed, int)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_rate_rps, "400/s", 400.0),
        (parse_rate_rps, "90/min", 1.5),
        (parse_rate_rps, "7200 / h", 2.0),
        (parse_rate_rps, "86400/d", 1.0),
        (parse_bytes, "2GiB", 2**31),
        (parse_bytes, "600MiB", 600 * 2**20),
        (parse_bytes, "1.5KiB", 1536),
        (parse_bytes, "3GB", 3 * 10**9),
        (parse_bytes, "3kB", 3000),
        (parse_bytes, "3KB", 3000),
        (parse_price_usd_per_h, "0.35 USD/h", 0.35),
        (parse_price_usd_per_h, "2USD / h", 2.0),
        (parse_share, "1%", 0.01),
        (parse_share, 0.01, 0.01),
        (parse_share, 1, 1.0),
    ],
)
def test_rates_sizes_prices_and_shares(parse: Callable[[Any], float], text: Any, value: float) -> None:
    assert parse(text) == pytest.approx(value, rel=1e-15)


# -- round trips -----------------------------------------------------------------------------------------


@given(value_ns=st.one_of(st.integers(0, 2**62 - 1), st.integers(0, 10**10)))
@example(value_ns=2**53 + 1)
@example(value_ns=2**62 - 1)
def test_a_duration_reads_back_to_the_nanosecond(value_ns: int) -> None:
    assert parse_duration_ns(format_duration(value_ns)) == value_ns


@given(value=RATES)
def test_a_rate_reads_back_to_the_last_bit(value: float) -> None:
    assert parse_rate_rps(format_rate(value)) == value


@given(value=st.integers(0, 10**15))
def test_a_size_reads_back_to_the_byte(value: int) -> None:
    assert parse_bytes(format_bytes(value)) == value


@given(value=RATES)
def test_a_price_reads_back_to_the_last_bit(value: float) -> None:
    assert parse_price_usd_per_h(format_price(value)) == value


@given(value=st.floats(0, 1))
def test_a_share_reads_back_to_fourteen_places(value: float) -> None:
    assert parse_share(format_share(value)) == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [(0, "0ms"), (1, "1ns"), (2_500, "2.5us"), (5_000_000, "5ms"), (90 * 10**9, "90s"), (120 * 10**9, "2min")],
)
def test_a_duration_is_written_as_a_person_would(value_ns: int, text: str) -> None:
    assert format_duration(value_ns) == text


def test_other_values_are_written_as_a_person_would() -> None:
    assert [format_rate(400.0), format_rate(0.5), format_price(0.35)] == ["400/s", "0.5/s", "0.35 USD/h"]
    assert [format_bytes(2**31), format_bytes(1536), format_bytes(1000), format_bytes(0)] == [
        "2GiB",
        "1536B",
        "1000B",
        "0B",
    ]
    assert [format_share(0.01), format_share(0.07), format_share(1.0)] == ["1%", "7%", "100%"]


# -- wrong texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "wrong", "says"),
    [
        (parse_duration_ns, 5, "a duration with its unit, such as 5ms"),
        (parse_duration_ns, "5", "a duration with its unit"),
        (parse_duration_ns, "0", "a duration with its unit"),
        (parse_duration_ns, "-5ms", "a duration with its unit"),
        (parse_duration_ns, "5 m", "a duration with its unit"),
        (parse_duration_ns, "5MS", "a duration with its unit"),
        (parse_duration_ns, "five ms", "a duration with its unit"),
        (parse_duration_ns, "nanms", "a duration with its unit"),
        (parse_duration_ns, False, "a duration with its unit"),
        (parse_duration_ns, None, "a duration with its unit"),
        (parse_duration_ns, "1e300s", "below 1e15"),
        (parse_duration_ns, "1e14s", "below 2^62"),
        (parse_rate_rps, 400, "a rate with its unit, such as 400/s"),
        (parse_rate_rps, "400", "a rate with its unit"),
        (parse_rate_rps, "400/ms", "a rate with its unit"),
        (parse_rate_rps, "1e16/s", "below 1e15"),
        (parse_bytes, 600, "a size with its unit, such as 600MiB"),
        (parse_bytes, "600M", "a size with its unit"),
        (parse_bytes, "1e14GiB", "below 2^62"),
        (parse_price_usd_per_h, 0.35, "a price per hour, such as 0.35 USD/h"),
        (parse_price_usd_per_h, "0.35 EUR/h", "a price per hour"),
        (parse_share, 1.5, "a share, such as 1% or 0.01"),
        (parse_share, -0.1, "a share"),
        (parse_share, True, "a share"),
        (parse_share, "0.01", "a share"),
        (parse_share, "-1%", "a share"),
    ],
)
def test_a_wrong_value_is_told_what_would_do(parse: Callable[[Any], Any], wrong: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        parse(wrong)
    assert str(raised.value).startswith("must be ")


@given(text=st.text(max_size=12))
def test_no_text_breaks_a_reader(text: str) -> None:
    """A text is a value or a ValueError, never another exception and never a negative."""
    for parse in (parse_duration_ns, parse_rate_rps, parse_bytes, parse_price_usd_per_h, parse_share):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "must be" in str(error)


# -- the types that models use -----------------------------------------------------------------------------------

TYPES: list[tuple[Any, str, Any]] = [
    (DurationNs, "5ms", 5_000_000),
    (RateRps, "400/s", 400.0),
    (Bytes, "600MiB", 600 * 2**20),
    (PriceUsdPerH, "0.35 USD/h", 0.35),
    (Share, "1%", 0.01),
]


@pytest.mark.parametrize(("type_", "text", "value"), TYPES, ids=[text for _, text, _ in TYPES])
def test_a_models_field_reads_and_writes_the_text_and_its_schema_admits_it(type_: Any, text: str, value: Any) -> None:
    adapter = TypeAdapter(type_)
    assert adapter.validate_python(text) == value
    assert adapter.dump_python(value, mode="json") == text
    schema = adapter.json_schema()
    assert schema["type"] == "string"
    assert re.fullmatch(schema["pattern"], text)
    assert schema["examples"] == [text]


@pytest.mark.parametrize(("type_", "text", "value"), TYPES, ids=[text for _, text, _ in TYPES])
def test_a_models_field_refuses_a_number_without_its_unit(type_: Any, text: str, value: Any) -> None:
    with pytest.raises(ValidationError, match="must be a"):
        TypeAdapter(type_).validate_python("12")


@given(value_ns=st.integers(1, 10**15), rate=st.floats(1e-3, 1e12), size=st.integers(1, 10**15), share=st.floats(0, 1))
def test_whatever_is_written_matches_the_schema(value_ns: int, rate: float, size: int, share: float) -> None:
    written = zip(TYPES, (value_ns, rate, size, rate, share), strict=True)
    for (type_, _, _), value in written:
        adapter = TypeAdapter(type_)
        text = adapter.dump_python(value, mode="json")
        assert re.fullmatch(adapter.json_schema()["pattern"], text), text
