"""Which replicas count, which come and which go (rule 15)."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serve.policy.scaling.decision import Decision
from serve.roster import comers, goers, step_of


@dataclass
class Replica:
    number: int
    ready_ns: int | None
    leaving: bool


def test_starting_ones_go_first_then_the_highest_and_those_that_leave_count_no_more() -> None:
    replicas = [Replica(0, 0, False), Replica(1, 5, False), Replica(2, 5, True), Replica(3, None, False)]
    step = step_of(9, Decision(1, "quiet"), replicas)
    assert (step.counted, step.ready, step.change) == (3, 2, -2)
    assert goers(step, replicas) == [3, 1]
    assert comers(step, {r.number for r in replicas}, 8) == []


def test_one_that_comes_takes_the_lowest_number_that_nobody_holds() -> None:
    replicas = [Replica(0, 0, False), Replica(2, 0, True)]
    step = step_of(9, Decision(3, "busy"), replicas)
    assert comers(step, {0, 2}, 4) == [1, 3]
    assert comers(step, {0, 2}, 2) == [1], "no more than there is room for"
    assert goers(step, replicas) == []


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=9), st.integers(0, 9))
def test_what_is_wanted_is_what_counts_afterwards_as_far_as_there_is_room(
    drawn: list[tuple[bool, bool]], wanted: int
) -> None:
    replicas = [Replica(n, 0 if up else None, leaving) for n, (up, leaving) in enumerate(drawn)]
    step = step_of(0, Decision(wanted, "drawn"), replicas)
    gone, come = goers(step, replicas), comers(step, {r.number for r in replicas}, 9)
    staying = {r.number for r in replicas if not r.leaving}
    assert set(gone) <= staying and not (gone and come)
    left = sum(r.leaving for r in replicas)
    assert len(staying) - len(gone) + len(come) == min(wanted, 9 - left)
