"""Plans of loads whose rate changes: scaled as they are, never cut short, their files moved with the deployment's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import export, headroom
from planner.arrivals import draw
from planner.race import STAGES
from planner.search import plan
from serve.deployment import Deployment
from sim.law_parts import files
from sim.scenario import PlannedFor, Scenario
from tests.planner.worlds import World, scenario, write_profile

SPIKE: dict[str, Any] = {"spike": {"base": "100/s", "peak": "300/s", "at": "5s", "for": "2s", "up": "1s", "down": "1s"}}


def question(arrivals: dict[str, Any]) -> Scenario:
    """A scenario of one class that arrives so."""
    return scenario(slo={"p99": "50ms"}, classes={"all": {"arrivals": arrivals}})


def drawn(arrivals: dict[str, Any], factor: float) -> np.ndarray:
    """Instants of a scaled load, in ns."""
    asked = question(arrivals)
    assert isinstance(asked.deployment, Deployment)
    found = draw(headroom.scaled(asked.workload, factor), asked.deployment.models["m"], Path(), 1).open
    assert found is not None
    return found.arrival_ns


def test_a_scaled_spike_stays_where_it_is() -> None:
    slow, fast = drawn(SPIKE, 1.0), drawn(SPIKE, 4.0)
    for start_s, end_s in ((0, 5), (6, 8), (9, 20)):
        counts = [int(((at >= start_s * 1e9) & (at < end_s * 1e9)).sum()) for at in (slow, fast)]
        assert counts[1] == pytest.approx(4 * counts[0], abs=4.5 * np.sqrt(20 * counts[0]))


def test_requests_of_a_rate_that_rises_have_the_same_luck_at_another_factor() -> None:
    """The n-th request is where the same sum of gaps has passed: at twice the rate that is earlier for each of them."""
    slow, fast = drawn(SPIKE, 1.0), drawn(SPIKE, 2.0)
    assert (fast[: len(slow)] < slow).all()
    before = slow[slow < 2 * 10**9]
    assert np.allclose(before, 2 * fast[: len(before)], rtol=1e-6, atol=5e3), "while the rate is even"


def test_a_load_that_changes_is_never_cut_short(tmp_path: Path) -> None:
    write_profile(tmp_path)
    world = World()
    asked = question(SPIKE)
    plan(asked, base=tmp_path, evaluate=world)
    brief = [call for call in world.calls if call.replications in {stage.replications for stage in STAGES}]
    assert brief
    assert {call.workload.duration for call in brief} == {asked.workload.duration}


def test_files_of_counts_move_with_the_deployment(tmp_path: Path) -> None:
    write_profile(tmp_path)
    counts = {"counts": {"file": "c.csv", "interval": "1s", "within": "even"}}
    asked = question({"sum": [{"poisson": "100/s"}, counts]})
    found = plan(asked, base=tmp_path, evaluate=World())
    written = export.write(found, asked, tmp_path / "deeper" / "d.yaml", base=tmp_path)
    moved = PlannedFor.model_validate(written.planned_for).workload.classes["all"].arrivals
    assert files(moved) == [("arrivals.sum.1.counts.file", "../c.csv")]
