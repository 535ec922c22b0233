"""Named random streams: every kind of draw has its own generator, derived from the scenario's seed by name.

A stream is keyed by (seed, replication, owner, purpose), such as (7, 3, "interactive", "rows"), so
changing one part of a scenario leaves the draws of all others alone: two deployments meet the same
arrivals, the same rows and the same luck in service, and are compared under common random numbers.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import numpy.typing as npt


def _words(name: str) -> tuple[int, ...]:
    """Four 32-bit words of a name; equal on every platform and in every process, unlike `hash`."""
    digest = sha256(name.encode()).digest()
    return tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))


def stream(seed: int, replication: int, owner: str, purpose: str) -> np.random.Generator:
    """The generator of one kind of draw.

    Parameters
    ----------
    seed : the scenario's, >= 0.
    replication : which independent run, >= 0.
    owner : whom the draws belong to, such as a request class.
    purpose : what is drawn, such as `gaps` or `rows`.
    """
    key = (replication, *_words(owner), *_words(purpose))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def uniform_bits(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """`count` non-negative int64, uniform over [0, 2**63): the draws that the planes look service times up by."""
    raw = rng.bit_generator.random_raw(count)
    return (raw >> np.uint64(1)).view(np.int64)
