"""Keys of requests, by which a router keeps together what belongs together (affinity, rule 17)."""

from __future__ import annotations

import numpy as np

from sim.rng import stream, uniform_bits
from sim.tally import Ints


class Keys:
    """Keys of one class in one replication, drawn by Zipf's law: the k-th of them in proportion to k**-zipf.

    Each key is 62 random bits of its own, so that no two runs put the same ones on a node.
    """

    def __init__(self, seed: int, replication: int, owner: str, count: int, zipf: float) -> None:
        self._bits = uniform_bits(stream(seed, replication, owner, "keys"), count)
        edges = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -zipf)
        self._edges = edges / edges[-1]
        self._edges[-1] = 1.0
        self._rng = stream(seed, replication, owner, "key")

    def draw(self, count: int) -> Ints:
        """(count,) int64: the keys of the next requests."""
        bits: Ints = self._bits[np.searchsorted(self._edges, self._rng.random(count), side="right")]
        return bits
