"""Verdicts by their definition, on courses made up for the purpose."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.deployment import Deployment
from sim.prepare import prepare
from sim.scenario import Workload
from sim.setup import Setup
from sim.verdict import arrival_cv2, growing, judge, resolved_s
from tests.profiles import Synthetic, write_profile

FLAT = np.ones((20, 40))
RISING = np.ones((20, 40)) * np.linspace(0, 10, 40)


def setup(folder: Path, classes: dict[str, Any], queue: dict[str, Any] | None = None) -> Setup:
    write_profile(folder, Synthetic())
    model = {"file": "m", "profile": "toy.yaml", "batching": {"max_batch": 4}, "queue": queue or {}}
    deployment = {"models": {"m": model}, "pools": {"here": {"cores": 1, "price": "0 USD/h"}}}
    workload = Workload.model_validate({"duration": "100s", "classes": classes})
    return prepare(Deployment.model_validate(deployment), workload, {}, 0, folder, folder)


def poisson(rate: str, **more: Any) -> dict[str, Any]:
    return {"a": {"arrivals": {"poisson": rate}, **more}}


UNBOUNDED = {"max_queue": "unbounded"}


@pytest.mark.parametrize(
    ("classes", "queue", "capacity", "course", "verdict"),
    [
        (poisson("90/s"), UNBOUNDED, 100.0, FLAT, "stable"),
        (poisson("100/s"), UNBOUNDED, 100.0, FLAT, "unstable"),
        (poisson("90/s"), UNBOUNDED, 100.0, RISING, "unstable"),
        (poisson("90/s"), {}, 100.0, RISING, "stable"),
        (poisson("100/s"), {}, 100.0, FLAT, "overloaded"),
        (poisson("100/s", timeout="1s"), UNBOUNDED, 100.0, FLAT, "overloaded"),
        (poisson("100/s", patience="1s"), UNBOUNDED, 100.0, FLAT, "overloaded"),
        (poisson("99/s"), UNBOUNDED, 100.0, FLAT, "unresolved"),
        (poisson("99/s"), UNBOUNDED, 100.0, RISING, "unresolved"),
        (poisson("50/s") | {"b": {"arrivals": {"constant": "50/s"}}}, UNBOUNDED, 100.0, FLAT, "unstable"),
        (
            poisson("50/s", timeout="1s") | {"b": {"arrivals": {"constant": "50/s"}}},
            UNBOUNDED,
            100.0,
            FLAT,
            "unstable",
        ),
        ({"a": {"arrivals": {"closed": {"clients": 5}}}}, UNBOUNDED, None, RISING, "stable"),
        (poisson("50/s") | {"b": {"arrivals": {"closed": {"clients": 5}}}}, UNBOUNDED, None, RISING, "unstable"),
    ],
)
def test_verdicts(
    tmp_path: Path, classes: Any, queue: Any, capacity: float | None, course: np.ndarray, verdict: str
) -> None:
    judged = judge(setup(tmp_path, classes, queue), capacity, course, 1000.0)
    assert judged.verdict == verdict
    assert judged.reason


def test_a_run_is_resolved_when_it_is_as_long_as_the_oracle_says() -> None:
    assert resolved_s(0.8, 1.0, 1.0) == pytest.approx(173_000, rel=0.01)
    assert resolved_s(0.9, 1.0, 1.0) == pytest.approx(649_000, rel=0.01)
    assert resolved_s(0.9, 100.0, 1.0) == pytest.approx(6490, rel=0.01)
    assert resolved_s(0.9, 1.0, 9.0) == 5 * resolved_s(0.9, 1.0, 1.0), "bursts take longer"


def test_burstiness_is_averaged_by_rate(tmp_path: Path) -> None:
    classes = poisson("300/s") | {"b": {"arrivals": {"gamma": {"rate": "100/s", "cv": 3}}}}
    assert arrival_cv2(setup(tmp_path, classes).workload) == pytest.approx((300 * 1 + 100 * 9) / 400)
    assert arrival_cv2(setup(tmp_path, {"a": {"arrivals": {"constant": "1/s"}}}).workload) == 0


def test_noise_is_no_trend_and_a_small_trend_is_none_either() -> None:
    rng = np.random.default_rng(0)
    false_alarms = sum(growing(10 + rng.normal(0, 3, (20, 40))) for _ in range(300))
    assert false_alarms == 0
    assert not growing(10 + np.linspace(-1, 1, 40) + rng.normal(0, 0.1, (20, 40)))
    assert growing(rng.normal(0, 3, (20, 40)) + np.linspace(0, 60, 40))


@pytest.mark.parametrize(("end", "verdict"), [(3.0, "recovered"), (60.0, "not recovered")])
def test_transient_loads_are_judged_by_their_end(tmp_path: Path, end: float, verdict: str) -> None:
    (tmp_path / "t.csv").write_text("arrival_s\n1\n2\n")
    course = np.full((3, 40), 2.0)
    course[:, 20:30] = 500.0
    course[:, -2:] = end
    trace = {"a": {"arrivals": {"trace": {"file": "t.csv"}}}}
    assert judge(setup(tmp_path, trace, UNBOUNDED), 100.0, course, 100.0).verdict == verdict
