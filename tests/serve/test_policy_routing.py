"""Rule 17's choice of a node: by turn, by draw, by what the router believes, by key."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.routing import (
    DRAW_BITS,
    DRAW_MASK,
    NOBODY,
    ROUTE_AFFINITY,
    ROUTE_LEAST_OUTSTANDING,
    ROUTE_LEAST_WORK,
    ROUTE_P2C,
    ROUTE_RANDOM,
    ROUTE_ROUND_ROBIN,
    ROUTE_SHORTEST_QUEUE,
    choose,
)

KINDS = range(7)
SCORED = (ROUTE_LEAST_OUTSTANDING, ROUTE_SHORTEST_QUEUE, ROUTE_LEAST_WORK)
NODES = [2, 3, 5, 8]
DRAW = st.integers(0, 2**62 - 1)


def bits_of(first: float, second: float) -> int:
    """A draw that holds these two uniforms."""
    return (int(first * 2**DRAW_BITS) << DRAW_BITS) | int(second * 2**DRAW_BITS)


def chosen(kind: int, nodes: list[int], score: list[int] | None = None, turn: int = 0, bits: int = 0, key: int = 0):
    return choose(kind, nodes, len(nodes), score or [0] * 10, turn, bits, key)


@pytest.mark.parametrize("kind", KINDS)
def test_among_nobody_nobody_is_chosen(kind: int) -> None:
    assert choose(kind, [1, 2], 0, [0, 0, 0], 5, 2**61, 7) == NOBODY


@pytest.mark.parametrize("kind", KINDS)
@given(bits=DRAW, turn=st.integers(0, 10**9), key=st.integers(0, 2**62), count=st.integers(1, 4))
def test_only_candidates_are_chosen(kind: int, bits: int, turn: int, key: int, count: int) -> None:
    assert choose(kind, NODES, count, [3] * 10, turn, bits, key) in NODES[:count]


def test_round_robin_goes_in_turn() -> None:
    assert [chosen(ROUTE_ROUND_ROBIN, NODES, turn=t) for t in range(6)] == [2, 3, 5, 8, 2, 3]


@pytest.mark.parametrize(("uniform", "node"), [(0.0, 2), (0.2499, 2), (0.25, 3), (0.74, 5), (0.9999, 8)])
def test_random_takes_the_node_at_u_times_n(uniform: float, node: int) -> None:
    assert chosen(ROUTE_RANDOM, NODES, bits=bits_of(uniform, 0.5)) == node


@pytest.mark.parametrize("kind", SCORED)
def test_the_least_of_all_is_found_and_ties_go_to_the_lowest_id(kind: int) -> None:
    score = [0, 0, 7, 4, 0, 4, 0, 0, 9]
    assert chosen(kind, NODES, score) == 3


def test_two_different_nodes_are_compared_and_every_pair_may_be() -> None:
    pairs = Counter()
    for first, second in product(range(4), range(3)):
        bits = bits_of((first + 0.5) / 4, (second + 0.5) / 3)
        other = second + (second >= first)
        pairs[frozenset((first, other))] += 1
        score = [0] * 10
        score[NODES[first]] = 1
        assert chosen(ROUTE_P2C, NODES, score, bits=bits) == NODES[other], "the less loaded of the two"
        assert chosen(ROUTE_P2C, NODES, bits=bits) == NODES[min(first, other)], "a tie goes to the lowest id"
    assert set(pairs.values()) == {2} and len(pairs) == 6


def test_one_candidate_needs_no_second() -> None:
    assert chosen(ROUTE_P2C, [5], bits=DRAW_MASK) == 5


def test_a_key_stays_where_it_is_while_its_node_does() -> None:
    keys = range(2000)
    before = {k: chosen(ROUTE_AFFINITY, NODES, key=k) for k in keys}
    without = {k: chosen(ROUTE_AFFINITY, [2, 3, 8], key=k) for k in keys}
    assert all(without[k] == before[k] for k in keys if before[k] != 5)
    shares = Counter(before.values())
    assert all(abs(shares[node] / len(keys) - 0.25) < 0.05 for node in NODES), shares


@given(key=st.integers(0, 2**62 - 1), bits=DRAW, turn=st.integers(0, 2**40), seed=st.integers(0, 99))
def test_compiled_integers_choose_alike(key: int, bits: int, turn: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = np.sort(rng.choice(40, 7, replace=False)).astype(np.int64)
    score = rng.integers(0, 4, 40)
    wrapped = [np.int64(v) for v in (turn, bits, key)]
    for kind in KINDS:
        plain = choose(kind, nodes.tolist(), 7, score.tolist(), turn, bits, key)
        with np.errstate(over="raise"):
            assert choose(np.int64(kind), nodes, np.int64(7), score, *wrapped) == plain
