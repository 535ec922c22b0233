"""Hedges as the balancer decides them (rule 17)."""

from __future__ import annotations

from serve.balancer import Balancer
from serve.hedging import P95, Hedge
from serve.policy.codes import NEVER_NS
from serve.policy.routing import NOBODY, ROUTE_LEAST_OUTSTANDING, ROUTE_ROUND_ROBIN


def test_a_hedge_goes_to_another_node_and_counts_until_it_ends() -> None:
    balancer = Balancer(ROUTE_LEAST_OUTSTANDING, 3, hedge=Hedge(5))
    assert balancer.send(0, 0) == 0
    assert balancer.hedge(0, 5, besides=0) == 1
    assert (balancer.extra, balancer.outstanding) == (1, [1, 1, 0])
    balancer.forget(1, extra=True)
    assert (balancer.extra, balancer.outstanding) == (0, [1, 0, 0])


def test_without_another_node_there_is_no_hedge() -> None:
    balancer = Balancer(ROUTE_ROUND_ROBIN, 1, hedge=Hedge(5))
    assert balancer.hedge(0, 5, besides=balancer.send(0, 0)) == NOBODY
    assert balancer.extra == 0


def test_hedges_keep_within_the_budget_of_retries() -> None:
    balancer = Balancer(ROUTE_ROUND_ROBIN, 2, budget_percent=20, hedge=Hedge(5))
    for _ in range(20):
        balancer.send(0, 0)
    hedges = [balancer.hedge(0, 5, besides=0) for _ in range(7)]
    assert hedges == [1, 1, 1, 1, 1, NOBODY, NOBODY], "a fifth of what is outstanding, hedges included"


def test_a_hedge_is_due_after_a_fixed_time_or_after_the_p95_of_the_last_answers() -> None:
    assert Balancer(ROUTE_ROUND_ROBIN, 2).hedge_after_ns == NEVER_NS
    assert Balancer(ROUTE_ROUND_ROBIN, 2, hedge=Hedge(7)).hedge_after_ns == 7
    balancer = Balancer(ROUTE_ROUND_ROBIN, 2, hedge=Hedge(P95, answers=100))
    for took_ns in range(1, 10):
        assert balancer.hedge_after_ns == NEVER_NS
        balancer.answered(took_ns)
    for took_ns in range(10, 201):
        balancer.answered(took_ns)
    assert balancer.hedge_after_ns == 195, "of 101 to 200"
