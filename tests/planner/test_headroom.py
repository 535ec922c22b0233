"""Headroom: the load at which something breaks is found to one per cent, under the same arrivals stretched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import headroom
from planner.arrivals import draw
from serve.deployment import Deployment
from sim.scenario import Workload
from tests.planner.worlds import scenario


def workload(arrivals: dict[str, Any]) -> Workload:
    """One class that arrives so."""
    return scenario(classes={"all": {"arrivals": arrivals}}).workload


POISSON = {"poisson": "400/s"}


def breaks_above(limit: float, tried: list[float] | None = None) -> headroom.Breaks:
    """Something that breaks above a factor."""

    def breaks(factor: float) -> str:
        if tried is not None:
            tried.append(factor)
        return "it broke" if factor > limit else ""

    return breaks


@pytest.mark.parametrize("limit", [1.003, 1.3, 2.0, 7.7, 15.9])
def test_the_factor_is_found_from_below_to_one_per_cent(limit: float) -> None:
    found = headroom.find(breaks_above(limit), workload(POISSON))
    assert found is not None
    assert found.factor <= limit <= found.factor * 1.0101
    assert found.rate_rps == pytest.approx(400 * found.factor)
    assert found.breaks == "it broke"


@pytest.mark.parametrize("limit", [0.99, 0.5, 0.02])
def test_a_factor_below_one_is_found_too(limit: float) -> None:
    found = headroom.find_below(breaks_above(limit), workload(POISSON))
    assert found is not None
    assert found.factor <= limit <= found.factor * 1.0101


def test_what_never_breaks_is_told_up_to_where_it_was_tried() -> None:
    tried: list[float] = []
    found = headroom.find(breaks_above(1e9, tried), workload(POISSON))
    assert found is not None
    assert found.factor == max(tried) == headroom.FACTOR_MAX
    assert found.breaks == ""


def test_what_breaks_even_when_idle_has_no_rate() -> None:
    assert headroom.find_below(breaks_above(0.0), workload(POISSON)) is None


def test_closed_loops_set_their_own_rate() -> None:
    closed = workload({"closed": {"clients": 3}})
    assert headroom.find(breaks_above(2.0), closed) is None
    assert headroom.scaled(closed, 2.0) == closed
    assert headroom.stated_rate_rps(closed) is None


@pytest.mark.parametrize(
    "arrivals",
    [
        pytest.param(POISSON, id="poisson"),
        pytest.param({"constant": "400/s"}, id="constant"),
        pytest.param({"gamma": {"rate": "400/s", "cv": 3.0}}, id="gamma"),
    ],
)
def test_a_scaled_load_meets_the_same_gaps_stretched(arrivals: dict[str, Any]) -> None:
    question = scenario()
    assert isinstance(question.deployment, Deployment)
    model = question.deployment.models["m"]
    slow, fast = (draw(headroom.scaled(workload(arrivals), f), model, Path(), 1).open for f in (1.0, 2.0))
    assert slow is not None and fast is not None
    assert len(fast) > len(slow)
    assert np.allclose(slow.arrival_ns, 2 * fast.arrival_ns[: len(slow)], rtol=1e-6, atol=5e3)


def test_a_traces_scale_multiplies_its_rate() -> None:
    scaled = headroom.scaled(workload({"trace": {"file": "t.csv", "scale": 1.5}}), 2.0)
    trace = scaled.classes["all"].arrivals.trace
    assert trace is not None
    assert trace.scale == 3.0
