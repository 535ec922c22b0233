"""Ejection of nodes that fail again and again, as the balancer drives it (rule 17). Times in s."""

from __future__ import annotations

import pytest

from serve.balancer import Balancer
from serve.ejection import Ejection
from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_LOST,
    OUTCOME_OK,
)
from serve.policy.retries import judged
from serve.policy.routing import ROUTE_ROUND_ROBIN

RULE = Ejection(failures=3, base_ns=30, percent=10)


def failing(balancer: Balancer, node: int, now_s: int, times: int = 3) -> list[bool]:
    """What so many lost attempts in a row make of a node."""
    return [balancer.judge(node, OUTCOME_LOST, now_s) for _ in range(times)]


def balancer_of(nodes: int, rule: Ejection = RULE) -> Balancer:
    return Balancer(ROUTE_ROUND_ROBIN, nodes, ejection=rule)


@pytest.mark.parametrize("outcome", [OUTCOME_LOST, OUTCOME_FAILED, OUTCOME_EXPIRED, OUTCOME_FULL, OUTCOME_DRAINING])
def test_what_a_node_did_not_serve_is_a_failure_of_it(outcome: int) -> None:
    assert judged(outcome) == 1


def test_an_answer_is_none_whatever_it_says_and_who_gave_up_says_nothing() -> None:
    assert [judged(outcome) for outcome in (OUTCOME_OK, OUTCOME_INVALID, OUTCOME_CANCELLED)] == [-1, -1, 0]


def test_only_failures_in_a_row_eject_and_who_gave_up_does_not_end_a_row() -> None:
    balancer = balancer_of(3)
    for outcome in (OUTCOME_FULL, OUTCOME_FULL, OUTCOME_OK, OUTCOME_FULL, OUTCOME_CANCELLED, OUTCOME_FULL):
        assert not balancer.judge(1, outcome, 0)
    assert balancer.judge(1, OUTCOME_FULL, 0)
    assert balancer.candidates(0) == [0, 2]


def test_each_ejection_lasts_longer_and_ends_at_its_instant() -> None:
    balancer = balancer_of(3)
    assert failing(balancer, 1, 100) == [False, False, True]
    assert failing(balancer, 1, 110) == [False, False, False], "an ejected node is not judged"
    assert balancer.candidates(129) == [0, 2]
    assert balancer.candidates(130) == [0, 1, 2]
    assert failing(balancer, 1, 130)[-1]
    assert balancer.candidates(189) == [0, 2]
    assert balancer.candidates(190) == [0, 1, 2]


def test_one_node_may_always_be_ejected_and_no_more_than_the_share() -> None:
    balancer = balancer_of(10)
    assert failing(balancer, 4, 0)[-1]
    assert not any(failing(balancer, 5, 0))
    assert failing(balancer, 5, 30)[-1], "the first one is back, and the row begins anew"
    assert len(balancer_of(20).candidates(0)) == 20
    twenty = balancer_of(20)
    assert [failing(twenty, node, 0)[-1] for node in (1, 2, 3)] == [True, True, False]


def test_if_all_are_ejected_all_are_used() -> None:
    balancer = balancer_of(1)
    assert failing(balancer, 0, 0)[-1]
    assert balancer.send(0, 0) == 0


def test_a_node_that_comes_into_rotation_is_another_one() -> None:
    balancer = balancer_of(3)
    assert failing(balancer, 1, 0)[-1]
    balancer.rotate([0, 1])
    assert balancer.candidates(1) == [0], "it stayed in rotation"
    balancer.rotate([0])
    balancer.rotate([0, 1])
    assert balancer.candidates(1) == [0, 1]
