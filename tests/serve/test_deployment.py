"""The deployment's own rules: the front's budget, one rule for the engine, the simulator and the planner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve import files
from serve.deployment import Deployment, front_budget_within_ns
from serve.errors import SpecError

MS = 1_000_000


def deployment(**more: Any) -> Deployment:
    """One emulated model and what else is given."""
    plain = {
        "models": {"m": {"profile": "m.yaml", "backend": "emulated"}},
        "pools": {"here": {"cores": 2, "price": "1 USD/h"}},
    }
    return Deployment.model_validate(plain | more)


def test_the_budget_is_a_tenth_of_the_strictest_p99() -> None:
    assert front_budget_within_ns([200 * MS, 50 * MS]) == 5 * MS
    assert deployment().front_budget_ns({"p99": "100ms", "fast.p99": "20ms", "mean": "1ms"}) == 2 * MS


def test_without_a_p99_it_is_unlimited() -> None:
    assert front_budget_within_ns([]) == -1
    assert deployment().front_budget_ns() == -1
    assert deployment().front_budget_ns({"p95": "10ms", "fast.p99.9": "10ms", "busy": 0.5}) == -1


def test_its_own_budget_goes_first_then_what_it_was_planned_for_then_what_is_asked() -> None:
    asked, planned = {"p99": "100ms"}, {"slo": {"p99": "50ms"}}
    assert deployment(front={"budget": "0ms"}, planned_for=planned).front_budget_ns(asked) == 0
    assert deployment(planned_for=planned).front_budget_ns(asked) == 5 * MS
    assert deployment(planned_for={"seed": 1}).front_budget_ns(asked) == -1
    assert deployment().front_budget_ns(asked) == 10 * MS


def test_a_bound_of_zero_may_be_written_bare() -> None:
    assert [deployment().front_budget_ns({"p99": zero}) for zero in ("0", 0, "0ms")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("slo", "said"),
    [
        ("{p99: soon}", r"slo\.p99: must be a duration with its unit"),
        ("{a.p99: 5}", r"slo\.a\.p99: must be a duration with its unit"),
        ("[50ms]", r"slo: must map metrics to bounds, such as p99: 50ms"),
    ],
)
def test_a_planned_slo_that_the_engine_cannot_read_is_refused_with_its_field(
    slo: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "d.yaml"
    files.save(path, deployment())
    path.write_text(f"{path.read_text()}planned_for:\n  slo: {slo}\n")
    with pytest.raises(SpecError, match=rf"planned_for.*{said}"):
        files.load(path, Deployment)
