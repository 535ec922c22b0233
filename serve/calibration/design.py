"""The experiment: which batch sizes, how many neighbours, and episodes of clients that visit them all.

Pure. An *episode* is a spell of closed-loop clients. Each sends requests of random rows to a model
that batches greedily and never finds two of them waiting, so that a request of k rows is a batch of
k rows. Episodes of all kinds follow one another in random order, again and again, so that the
machine's drift falls on all cells alike and does not pass for an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serve.load_plan import CLOSED_FIRST_ID, ClosedLoad, Ints, LoadPlan, Target

SOLO = "solo"
"""The model under test as a single replica: what is driven at every load, up to saturation."""
CROWD = "crowd"
"""The same model on the replicas beside it: the busy neighbours."""
NULL = "null"
"""An emulated model that answers at once: what the front, the client and the timers cost."""

NULL_WINDOW_NS = 2_000_000
"""The null model's window: its timers show how late the front wakes, and let it fall asleep as real work does."""
NULL_ROWS = 1
"""Rows that the null model's queue (max_queue 1) takes; requests of more are refused."""

EPISODE_S = 0.5
EPISODE_BATCHES = 25
"""An episode is at least this long in the largest batches, so that its start weighs little."""
CYCLES_MIN = 2
"""Every kind of episode comes at least this often, however short the time."""
BACKGROUND_CLIENTS = 8
BACKGROUND_BYTES_PER_S = 50e6
"""Most bytes a second that arrive in the background."""
ARRIVALS_SHARE = (0.25, 0.5)
"""Shares of a size's own arrival rate that arrive in the background: a refused request is read, refused and received
while the batch runs, twice the work of one that only arrives meanwhile."""
THINKS = {1: (0.5, 1.5), 2: (0.0, 0.5)}
"""Mean think time of so many solo clients, in gaps between arrivals at that rate."""
CENTRE_WEIGHT = 0.3
"""A size is asked for so much less often by each step of the grid that it is away from the episode's centre: in a real
load too a batch resembles the one before. A single row after a batch of any size took 15 % longer than after a single
row, since the larger batch had driven its model out of the core's own caches (docs/calibration.md)."""
LOADS = (0.02, 0.95)
"""Busy shares of a replica by which it is seen what idleness costs it: its core sleeps, its caches come to hold other
things. One share an episode: a core that has rested long is put to a deeper sleep the next time too, so that the same
rest of 2 ms added a tenth to a lone row at a fifth of the load, and a hundredth at a third (docs/calibration.md)."""
REST_MAX_S = 0.1
RESTED_SHARE = 0.25
"""Time spent on that, relative to all else."""
CLIENT_REQUESTS_MAX = 20_000
NULL_THINK_S = 0.003
SETTLE_NS = 10_000_000
"""Clients begin within this time, each at its own instant."""


def row_grid(max_batch: int) -> list[int]:
    """Batch sizes that are measured: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... and `max_batch` itself.

    >>> row_grid(20)
    [1, 2, 3, 4, 6, 8, 12, 16, 20]
    """
    grid = {1, 2, max_batch}
    power = 2
    while power <= max_batch:
        grid |= {power, power * 3 // 2}
        power *= 2
    return sorted(r for r in grid if r <= max_batch)


DENSE_TO = 8
"""Up to so many rows every size is measured where time allows, then every other one."""


def dense(grid: Sequence[int]) -> list[int]:
    """Every size up to DENSE_TO, every other one up to twice that, then the grid's own.

    Service time is no smooth function of rows (matrix kernels work in blocks): between two sizes of the plain
    grid it can be off a straight line by more than a tenth.

    >>> dense([1, 2, 3, 4, 6, 8, 12, 16, 24, 32])[6:]
    [7, 8, 10, 12, 14, 16, 24, 32]
    """
    sizes = {*range(1, DENSE_TO + 1), *range(DENSE_TO, 2 * DENSE_TO + 1, 2), *grid}
    return sorted(r for r in sizes if r <= grid[-1])


def coarse(grid: Sequence[int]) -> list[int]:
    """The powers of two of a grid and its ends: what is left when time does not allow for more."""
    return [r for r in grid if r in (grid[0], grid[-1]) or r & (r - 1) == 0]


def neighbour_levels(replicas: int) -> list[int]:
    """Numbers of crowd clients that are tried: all up to 4, then every power of two and the most there can be."""
    most = replicas - 1
    return sorted({0, most, *(c for c in range(most + 1) if c <= 4 or c & (c - 1) == 0)})


@dataclass(frozen=True, slots=True)
class Episode:
    """Clients of each model, how long they go on, and their mean think time.

    `solo` clients above one keep a request waiting; `joined` > 0 replaces them by so many clients of
    single rows, whose requests join into batches of half as many. `background` clients, whose mean think
    time is `background_s`, are refused at once: arrivals that give front and generator work while a
    batch runs, as those of a real load do, and join no batch.
    """

    seconds: float
    solo: int = 0
    crowd: int = 0
    null: int = 0
    refused: int = 0
    joined: int = 0
    background: int = 0
    centre: int = -1  # place in the grid that rows are drawn about; -1: evenly
    think_s: float = 0.0
    background_s: float = 0.0
    rested: bool = False  # sent to see what idleness costs

    @property
    def kinds(self) -> npt.NDArray[np.str_]:
        """The kind of each client."""
        names = (SOLO, CROWD, NULL, "refused", "joined", "background")
        return np.repeat(names, [self.solo, self.crowd, self.null, self.refused, self.joined, self.background])


@dataclass(frozen=True, slots=True)
class Scale:
    """What is known of the model before: how long each batch size of the grid takes, and how many requests a second
    may arrive in the background."""

    grid: tuple[int, ...]
    times_s: tuple[float, ...]
    arrivals_max_rps: float

    @classmethod
    def of(cls, times_s: Mapping[int, float], bytes_in: int) -> Scale:
        """From the time of each batch size, and the bytes of a row."""
        grid = tuple(sorted(times_s))
        return cls(grid, tuple(times_s[r] for r in grid), BACKGROUND_BYTES_PER_S / bytes_in)

    @property
    def typical_s(self) -> float:
        """Mean service time over the grid."""
        return float(np.mean(self.times_s))

    def arrivals_rps(self, place: int) -> float:
        """Rate of single-row arrivals at which greedy batching settles at batches of `grid[place]` rows."""
        return min(self.grid[place] / self.times_s[place], self.arrivals_max_rps)

    def rest_s(self, place: int, busy: float) -> float:
        """How long a replica that is busy for that share of the time rests between batches of `grid[place]` rows."""
        return min(REST_MAX_S, self.times_s[place] * (1 / busy - 1))


def cycle(levels: Sequence[int], scale: Scale, left_s: float, rng: np.random.Generator) -> list[Episode]:
    """One round of every kind of episode, in random order.

    Episodes are shortened so that CYCLES_MIN rounds fit into the time that is left.
    """
    typical_s = scale.typical_s
    seconds = max(EPISODE_S, EPISODE_BATCHES * typical_s)
    episodes = [e for crowd in levels for e in work(crowd, scale, seconds, rng)]
    joined = int(rng.integers(2, max(2, scale.grid[-1]) + 1))
    episodes.append(Episode(seconds, joined=2 * joined, think_s=typical_s * float(rng.uniform(0.0, 2.0))))
    episodes.append(Episode(EPISODE_S / 2, null=1, think_s=NULL_THINK_S))
    episodes.append(Episode(EPISODE_S / 2, null=1, solo=1, think_s=NULL_THINK_S))
    episodes.append(Episode(EPISODE_S / 5, refused=1))
    rested_s = RESTED_SHARE * sum(e.seconds for e in episodes) / 2
    for centre in _centres(scale, rng):
        rest_s = scale.rest_s(centre, float(rng.uniform(*LOADS)))
        episodes.append(Episode(rested_s, solo=1, centre=centre, think_s=rest_s, rested=True))
    shorter = min(1.0, left_s / (CYCLES_MIN * sum(e.seconds for e in episodes)))
    order = rng.permutation(len(episodes))
    return [replace(episodes[i], seconds=episodes[i].seconds * shorter) for i in order]


def work(crowd: int, scale: Scale, seconds: float, rng: np.random.Generator) -> list[Episode]:
    """Two episodes beside `crowd` neighbours' clients: one solo client and two, one about the smaller half of the grid
    and one about the larger.

    Each is about one size, with about the arrivals behind it that make batches of that size in a real load.
    A lone client leaves the replica idle between its requests for as long as it would then wait for the next
    arrival; two clients leave it idle seldom. How long a replica has slept matters: its caches grow cold.
    """
    centres = rng.permutation(_centres(scale, rng))
    episodes = []
    for centre, solo in zip(centres.tolist(), (1, 2), strict=True):
        rate_rps = scale.arrivals_rps(centre)
        episodes.append(
            Episode(
                seconds,
                solo=solo,
                crowd=crowd,
                background=BACKGROUND_CLIENTS,
                centre=centre,
                think_s=float(rng.uniform(*THINKS[solo])) / rate_rps,
                background_s=BACKGROUND_CLIENTS / (rate_rps * float(rng.uniform(*ARRIVALS_SHARE))),
            )
        )
    return episodes


def _centres(scale: Scale, rng: np.random.Generator) -> list[int]:
    """A place in the smaller half of the grid, and one in the larger."""
    half = len(scale.grid) / 2
    return [int(rng.uniform(0, half)), int(rng.uniform(half, len(scale.grid)))]


def plan_of(
    episode: Episode, grid: Sequence[int], targets: Sequence[Target], first_id: int, fastest_s: float, seed: Ints
) -> LoadPlan:
    """What an episode sends. `targets` are solo, crowd and null; wire ids start at `first_id`.

    `fastest_s` is the shortest service time known: it bounds how many requests a client can need.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed.tolist())))
    kind = episode.kinds
    background = kind == "background"
    pace_s = min(fastest_s, episode.background_s) if background.any() else fastest_s
    shape = (min(CLIENT_REQUESTS_MAX, 10 + int(2 * episode.seconds / max(pace_s, 50e-6))), len(kind))
    rows = rng.choice(np.asarray(grid, np.int64), shape, p=_weights(len(grid), episode.centre))
    rows[:, kind == NULL] = NULL_ROWS
    rows[:, kind == "joined"] = 1
    rows[:, background] = NULL_ROWS + 1
    refused = kind == "refused"
    rows[:, refused] = rng.integers(NULL_ROWS + 1, max(grid[-1], NULL_ROWS + 1) + 1, (shape[0], int(refused.sum())))
    thinks_s = rng.exponential(1.0, shape) * np.where(background, episode.background_s, episode.think_s)
    target = np.select([kind == CROWD, (kind == NULL) | refused | background], [1, 2], 0).astype(np.int64)
    closed = ClosedLoad(
        first_ns=rng.integers(0, SETTLE_NS, len(kind)),
        think_ns=np.zeros(len(kind), np.int64),
        rows=rows.reshape(-1).astype(np.int64),
        until_ns=round(episode.seconds * 1e9),
        thinks_ns=np.rint(thinks_s.reshape(-1) * 1e9).astype(np.int64),
        target=np.tile(target, shape[0]),
        first_id=CLOSED_FIRST_ID + first_id,
        retry_after_ns=1_000_000,
    )
    model, *others = targets
    return LoadPlan(
        model.model,
        model.inputs,
        closed=closed,
        others=tuple(others),
        connections=max(4, len(kind)),
        grace_ns=60 * 10**9,
    )


def _weights(count: int, centre: int) -> npt.NDArray[np.float64]:
    """How often each size is asked for."""
    weights = np.ones(count) if centre < 0 else CENTRE_WEIGHT ** np.abs(np.arange(count) - centre)
    return np.asarray(weights / weights.sum())


def probe_plan(rows: Ints, seconds: float, targets: Sequence[Target], first_id: int) -> LoadPlan:
    """One solo client that sends these rows one after the other, as far as it gets in the time."""
    closed = ClosedLoad(
        first_ns=np.zeros(1, np.int64),
        think_ns=np.zeros(1, np.int64),
        rows=rows,
        until_ns=max(1, round(seconds * 1e9)),
        first_id=CLOSED_FIRST_ID + first_id,
    )
    return LoadPlan(targets[0].model, targets[0].inputs, closed=closed, connections=1, grace_ns=600 * 10**9)
