"""Factors in files: `x1.5` reads back as written, and what is no factor is told what would do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from serve.units import Factor, format_factor, parse_factor


@pytest.mark.parametrize(("text", "value"), [("x1.5", 1.5), ("x2", 2.0), (" x 0.2 ", 0.2), ("x1e-3", 1e-3), ("x0", 0)])
def test_factors(text: str, value: float) -> None:
    assert parse_factor(text) == value


@given(value=st.floats(0, 1e15, allow_subnormal=False))
def test_a_factor_reads_back_to_the_last_bit(value: float) -> None:
    text = format_factor(value)
    assert parse_factor(text) == value
    assert re.fullmatch(TypeAdapter(Factor).json_schema()["pattern"], text)


@pytest.mark.parametrize("wrong", [1.5, "1.5", "1.5x", "x-2", "x", "X2", "x1e300", None, True])
def test_what_is_no_factor_is_told_what_would_do(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a (factor with its x, such as x1\.5 or x0\.2|number below 1e15)"):
        parse_factor(wrong)


@given(text=st.text(max_size=12))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        assert parse_factor(text) >= 0
    except ValueError as error:
        assert "must be" in str(error)


def test_a_models_field_reads_and_writes_the_text() -> None:
    adapter = TypeAdapter(Factor)
    assert adapter.validate_python("x1.5") == 1.5
    assert adapter.dump_python(1.5, mode="json") == "x1.5"
    with pytest.raises(ValidationError, match="must be a factor"):
        adapter.validate_python("12")
