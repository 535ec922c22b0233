"""Where replicas go, and which go first (rule 15). Pure: rooms and needs in, node ids and replica ids out.

The unit is the replica. Replicas are placed in the order of their ids; pools are tried in the order of the model's
`on`, nodes of a pool by the lowest id that has room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from serve.policy.scaling.nanoseconds import SECOND_NS

IDLE_NS = SECOND_NS
LONGEST_NS = 10 * SECOND_NS
"""Requests for nodes are put together until none has come for a second, at most for ten (Karpenter's batch window)."""

Stage = Literal["pending", "starting", "up"]
_LEAVING: dict[Stage, int] = {"pending": 0, "starting": 1, "up": 2}


class Size(NamedTuple):
    """What a replica needs, or a node has left."""

    cores: int
    memory_bytes: int = 0
    accelerators: int = 0
    accelerator_memory_bytes: int = 0

    def holds(self, need: Size) -> bool:
        """Whether there is room for it in every respect."""
        return all(has >= asked for has, asked in zip(self, need, strict=True))

    def count(self, need: Size) -> int:
        """How many such there is room for."""
        return min(has // asked for has, asked in zip(self, need, strict=True) if asked > 0)

    def times(self, count: int) -> Size:
        """What so many such need."""
        return Size(*(count * each for each in self))

    def without(self, need: Size) -> Size:
        """What is left when it has moved in."""
        return Size(*(has - asked for has, asked in zip(self, need, strict=True)))


class Room(NamedTuple):
    """A node that takes replicas, and what it has left."""

    node: int
    pool: str
    left: Size


class Standing(NamedTuple):
    """A replica that counts: draining ones do not."""

    replica: int
    stage: Stage


def place(need: Size, pools: Sequence[str], rooms: Iterable[Room]) -> int | None:
    """The node for one replica; None if it fits nowhere and stays pending."""
    order = {pool: rank for rank, pool in enumerate(pools)}
    fitting = [(order[room.pool], room.node) for room in rooms if room.pool in order and room.left.holds(need)]
    return min(fitting)[1] if fitting else None


def place_all(needs: Sequence[Size], pools: Sequence[str], rooms: Iterable[Room]) -> list[int | None]:
    """The node of each of several replicas, in the order of their ids."""
    left = {room.node: room for room in rooms}
    placed = []
    for need in needs:
        node = place(need, pools, left.values())
        if node is not None:
            left[node] = left[node]._replace(left=left[node].left.without(need))
        placed.append(node)
    return placed


def nodes_needed(needs: Sequence[Size], node: Size) -> int:
    """Empty nodes of one kind that so many pending replicas ask for, first fit; those that never fit ask for none."""
    nodes: list[Size] = []
    for need in needs:
        if not node.holds(need):
            continue
        index = next((i for i, left in enumerate(nodes) if left.holds(need)), len(nodes))
        if index == len(nodes):
            nodes.append(node)
        nodes[index] = nodes[index].without(need)
    return len(nodes)


def leaving(standing: Iterable[Standing], count: int) -> list[int]:
    """Which `count` replicas go when fewer are wanted: pending, then starting, then up ones, the highest ids first."""
    order = sorted(standing, key=lambda each: (_LEAVING[each.stage], -each.replica))
    return [each.replica for each in order[:count]]


def ask_ns(first_ns: int, last_ns: int) -> int:
    """When nodes are asked for, if replicas became pending at these instants, the last so far included."""
    return min(last_ns + IDLE_NS, first_ns + LONGEST_NS)


def pool_to_ask(
    pools: Sequence[str], held: dict[str, int], most: dict[str, int], passed_over_until_ns: dict[str, int], now_ns: int
) -> str | None:
    """The first pool, in the order of `on`, below its maximum and not passed over; None if there is none.

    `held` counts nodes held and asked for.
    """
    for pool in pools:
        if held.get(pool, 0) < most[pool] and passed_over_until_ns.get(pool, 0) <= now_ns:
            return pool
    return None
