"""The checks of every run find what they are there for, and the page has them all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.policy.codes import NEVER_NS, OUTCOME_OK
from serve.roster import Step
from serve.scheduler import SchedulerSpec
from sim import invariants
from sim.dataplane import DataPlane
from sim.history import FleetCourse, History, Lease, ModelCourse, Up
from sim.plane import Estate, Node, Requests, Service
from sim.tally import SUM_QUEUE_S, SUM_ROWS, Tally

MS = 10**6
COUNT = 50
ESTATE = Estate((Node(SchedulerSpec(2), 1, Service(np.full(3, 4 * MS), 0, 2, 0)),))


def tally() -> Tally:
    """Fifty requests, of two rows now and then, at a replica that is busy most of the time."""
    plane = DataPlane(ESTATE, 1, keep="tally", time_bins=5, bin_ns=50 * MS)
    same = np.zeros(COUNT, np.int64)
    never = same + NEVER_NS
    arrival_ns, rows = np.arange(COUNT) * 5 * MS, 1 + same.reshape(-1) + (np.arange(COUNT) % 2)
    plane.feed(Requests(arrival_ns, rows, same, same, never, never, same, same.reshape(1, -1)))
    plane.end_feed()
    plane.ready(0)
    plane.advance(10**12)
    return plane.tally()


def history() -> History:
    """Two machines, one of which came and went, and a replica on each."""
    return History(
        fleets=[FleetCourse(ups={0: [Up(0, 0)], 1: [Up(1, 20, 30)]})],
        models=[ModelCourse(steps=[Step(10, 2, "", 1, 1), Step(25, 1, "", 2, 2)])],
        leases=[Lease(0, 0), Lease(1, 15, gone_ns=40)],
    )


def check(broken: Tally | None = None, told: History | None = None) -> None:
    invariants.check(broken or tally(), ESTATE, COUNT, open_only=True, one_attempt=True, history=told)


def test_what_holds_passes() -> None:
    check(told=history())


BROKEN: dict[str, list[Callable[[Tally], object]]] = {
    "I1": [lambda t: t.outcomes.__setitem__((0, 0, OUTCOME_OK), 0)],
    "I2": [lambda t: t.in_system_s.__setitem__(1, 0.0), lambda t: t.sums.__setitem__((0, 1, SUM_QUEUE_S), -1.0)],
    "I3": [lambda t: t.latency.__setitem__((0, 2, 9), 1), lambda t: t.good.__setitem__((0, 0), 99)],
    "I4": [lambda t: t.group_batch_rows.__setitem__((0, 0, 0), 1), lambda t: t.sums.__setitem__((0, 0, SUM_ROWS), 1e3)],
    "I5": [lambda t: t.node_busy_s.__setitem__((0, 2), 0.051), lambda t: t.node_busy_s.__setitem__((0, 2), -1.0)],
}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name, all_ in BROKEN.items() for change in all_])
def test_a_tally_that_cannot_be_is_found_out(name: str, change: Callable[[Tally], object]) -> None:
    broken = tally()
    change(broken)
    with pytest.raises(AssertionError, match=f"{name}[,:]"):
        check(broken)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("I6", lambda told: told.leases.append(Lease(1, 35))),
        ("I6", lambda told: told.fleets[0].ups.update({2: [Up(1, 39, 41)]})),
        ("I6", lambda told: told.fleets[0].ups.update({2: [Up(7, 0)]})),
        ("I7", lambda told: told.models[0].steps.append(Step(20, 1, "", 1, 1))),
        ("I7", lambda told: told.models[0].steps.append(Step(30, -1, "", 1, 1))),
    ],
)
def test_a_course_that_cannot_be_is_found_out(name: str, change: Callable[[History], object]) -> None:
    told = history()
    change(told)
    with pytest.raises(AssertionError, match=f"{name}:"):
        check(told=told)


def test_the_page_numbers_what_the_code_names() -> None:
    page = (Path(__file__).parents[2] / "docs" / "invariants.md").read_text()
    numbered = re.findall(r"^\| (I\d+) \|", page, re.MULTILINE)
    assert numbered == [f"I{i + 1}" for i in range(len(numbered))]
    named = set(re.findall(r"\bI\d+\b", Path(invariants.__file__).read_text()))
    assert named <= set(numbered)
    for test in re.findall(r"`(test_\w+)`", page):
        found = any(f"def {test}(" in path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
        assert found, f"{test}: there is no such test"
