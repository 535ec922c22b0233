"""Numbers of fitted laws as files write them: a few digits, within what scenarios take. Pure."""

from __future__ import annotations

from serve.units import format_duration, format_rate
from sim.laws import RATE_RPS_MAX, RATE_RPS_MIN


def digits(value: float, count: int) -> float:
    """Rounded to so many digits.

    >>> digits(0.123456, 3)
    0.123
    """
    return float(f"{value:.{count}g}")


def rate_text(rate_rps: float) -> str:
    """Four digits; 0 stays 0."""
    return format_rate(digits(min(max(rate_rps, RATE_RPS_MIN), RATE_RPS_MAX), 4) if rate_rps > 0 else 0.0)


def cv_digits(cv: float) -> float:
    """Four digits of a coefficient of variation."""
    return digits(min(max(cv, 0.01), 100.0), 4)


def dwell_text(dwell_s: float) -> str:
    """Three digits, at least 1ms."""
    return format_duration(max(1_000_000, round(digits(dwell_s, 3) * 1e9)))
