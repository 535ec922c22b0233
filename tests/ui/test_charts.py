"""The app's charts: times are read in ms, or in s where they are long."""

from __future__ import annotations

from typing import Any

import pytest

from sim.result import ClassResult, Estimate, Result
from tests.examples import example
from ui import charts


def slowed(factor: float) -> Result:
    """A Result whose p99 is 20 ms, of which half is compute, or so many times as long."""
    result: Result = example("result")
    values = {"p50": 0.01, "p99": 0.02, "queue_delay": 0.01, "compute": 0.01}
    metrics = {
        name: Estimate(value=value * factor, ci=None, pi=(value * factor, value * factor))
        for name, value in values.items()
    }
    return result.model_copy(update={"total": ClassResult(metrics=metrics)})


def titles(node: Any) -> list[str]:
    """Every axis title of a chart."""
    if isinstance(node, dict):
        own = [node["title"]] if isinstance(node.get("title"), str) else []
        return own + [title for value in node.values() for title in titles(value)]
    return [title for value in node for title in titles(value)] if isinstance(node, list) else []


@pytest.mark.parametrize(("factor", "word"), [(1.0, "ms"), (1e3, "s")])
def test_long_times_are_read_in_seconds(factor: float, word: str) -> None:
    result = slowed(factor)
    value = result.total.metrics["p99"].value
    assert value is not None and charts.unit(value)[0] == word
    against = charts.latency_against_load([(100.0, result)], 50.0, 100.0).to_dict()
    assert f"latency, {word}" in titles(against)
    drawn = [row["latency"] for rows in against["datasets"].values() for row in rows if row.get("percentile") == "p99"]
    assert drawn == [pytest.approx(value * (1e3 if word == "ms" else 1.0))]
    assert f"latency, {word}" in titles(charts.exceedance([0.0, value], []).to_dict())
    assert f"mean latency, {word}" in titles(charts.breakdown(result).to_dict())


def test_nothing_to_show_is_still_a_chart() -> None:
    assert "latency, ms" in titles(charts.exceedance([], []).to_dict())
    assert titles(charts.latency_against_load([], 50.0, 100.0).to_dict())
