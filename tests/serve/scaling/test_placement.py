"""Rule 15: pools in order, nodes by id, and who leaves first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.policy.scaling.placement import (
    IDLE_NS,
    LONGEST_NS,
    Room,
    Size,
    Standing,
    ask_ns,
    leaving,
    nodes_needed,
    place,
    place_all,
    pool_to_ask,
)

GIB = 2**30
ROOMS = [
    Room(0, "spot", Size(4, 8 * GIB)),
    Room(1, "base", Size(1, 8 * GIB)),
    Room(2, "base", Size(4, 1 * GIB)),
    Room(3, "base", Size(4, 8 * GIB)),
    Room(4, "gpu", Size(4, 8 * GIB, 1, 16 * GIB)),
]
NEED = Size(2, 2 * GIB)


def test_the_first_pool_that_has_a_node_with_room_in_every_respect() -> None:
    assert place(NEED, ["base", "spot"], ROOMS) == 3, "node 1 lacks cores, node 2 memory"
    assert place(NEED, ["spot", "base"], ROOMS) == 0
    assert place(NEED, ["elsewhere"], ROOMS) is None
    assert place(Size(1, GIB, 1, 16 * GIB), ["base", "gpu"], ROOMS) == 4
    assert place(Size(1, GIB, 1, 17 * GIB), ["base", "gpu"], ROOMS) is None


def test_replicas_are_placed_one_after_the_other() -> None:
    assert place_all([NEED] * 5, ["base", "spot"], ROOMS) == [3, 3, 0, 0, None]
    assert place_all([Size(4, GIB), Size(1, GIB)], ["base"], ROOMS) == [2, 1]


@given(st.lists(st.builds(Size, st.integers(1, 4), st.integers(0, 4)), max_size=12))
def test_no_node_is_overfilled_and_nobody_waits_who_fits(needs: list[Size]) -> None:
    rooms = [Room(n, "p", Size(4, 4)) for n in range(3)]
    left = {room.node: room.left for room in rooms}
    for need, node in zip(needs, place_all(needs, ["p"], rooms), strict=True):
        if node is None:
            assert not any(size.holds(need) for size in left.values())
        else:
            assert left[node].holds(need)
            left[node] = left[node].without(need)


def test_pending_ones_ask_for_as_many_nodes_as_they_fill() -> None:
    node = Size(4, 8 * GIB)
    assert nodes_needed([], node) == 0
    assert nodes_needed([Size(2)] * 5, node) == 3
    assert nodes_needed([Size(3), Size(2), Size(1), Size(2)], node) == 2
    assert nodes_needed([Size(5), Size(1, 0, 1)], node) == 0, "what never fits asks for nothing"


def test_who_serves_least_leaves_first() -> None:
    standing = [
        Standing(0, "up"),
        Standing(1, "pending"),
        Standing(2, "up"),
        Standing(3, "starting"),
        Standing(4, "up"),
    ]
    assert leaving(standing, 4) == [1, 3, 4, 2]
    assert leaving(standing, 0) == []
    assert leaving([Standing(5, "pending"), Standing(7, "pending")], 9) == [7, 5]


def test_requests_for_nodes_wait_for_company_but_not_for_ever() -> None:
    assert ask_ns(0, 0) == IDLE_NS
    assert ask_ns(0, 8 * IDLE_NS) == 9 * IDLE_NS
    assert ask_ns(0, 9 * IDLE_NS + 1) == LONGEST_NS


def test_a_pool_that_is_full_or_yields_nothing_is_passed_over() -> None:
    pools, most = ["base", "spot"], {"base": 2, "spot": 5}
    assert pool_to_ask(pools, {"base": 1}, most, {}, 0) == "base"
    assert pool_to_ask(pools, {"base": 2}, most, {}, 0) == "spot"
    assert pool_to_ask(pools, {}, most, {"base": 10}, 9) == "spot"
    assert pool_to_ask(pools, {}, most, {"base": 10}, 10) == "base"
    assert pool_to_ask(pools, {"base": 2, "spot": 5}, most, {}, 0) is None
