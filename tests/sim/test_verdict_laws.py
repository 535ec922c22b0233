"""Verdicts on other laws than Poisson: rates that change are judged by their end, bursts take longer to resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.verdict import arrival_cv2, judge, stationary, transient
from tests.sim.test_verdict import UNBOUNDED, setup

MMPP = {"mmpp": {"states": [{"rate": "0/s", "dwell": "3s"}, {"rate": "40/s", "dwell": "1s"}]}}
SPIKE = {"spike": {"base": "1/s", "peak": "90/s", "at": "50s", "for": "5s"}}


def a(arrivals: dict[str, Any]) -> dict[str, Any]:
    """Classes of which one arrives so."""
    return {"a": {"arrivals": arrivals}}


@pytest.mark.parametrize(("end", "verdict"), [(3.0, "recovered"), (60.0, "not recovered")])
def test_a_rate_that_changes_is_judged_by_its_end(tmp_path: Path, end: float, verdict: str) -> None:
    course = np.full((3, 40), 2.0)
    course[:, 20:30] = 500.0
    course[:, -2:] = end
    for arrivals in (SPIKE, {"sum": [{"poisson": "1/s"}, {"scaled": {"of": SPIKE, "by": "x0.5"}}]}):
        made = setup(tmp_path, a(arrivals), UNBOUNDED)
        assert transient(made) and not stationary(made)
        assert judge(made, 100.0, course, 100.0).verdict == verdict


def test_bursts_are_stationary_and_need_a_longer_run(tmp_path: Path) -> None:
    bursts = setup(tmp_path, a(MMPP), UNBOUNDED)
    assert stationary(bursts) and not transient(bursts)
    assert arrival_cv2(bursts.workload) == pytest.approx(46)
    flat = np.ones((20, 40))
    assert judge(bursts, 20.0, flat, 1000.0).verdict == "unresolved"
    assert judge(setup(tmp_path, a({"poisson": "10/s"}), UNBOUNDED), 20.0, flat, 1000.0).verdict == "stable"
    assert judge(bursts, 9.9, flat, 1000.0).verdict == "unstable"
