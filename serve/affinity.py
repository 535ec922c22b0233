"""Which cores each process runs on: replicas on cores of their own, the front on the others.

On a machine with few cores the kernel now and then wakes the front, or a load generator, on the core
where a replica computes, and lets it wait there for milliseconds: on two cores that made the p99 of
the digits model at 600 requests/s 7.9 ms instead of 5.7 ms (docs/engine.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.deployment import Deployment
from serve.fleet import most


@dataclass(frozen=True, slots=True)
class Layout:
    """Cores of each replica, in the order in which they were asked for, and of the front."""

    replicas: list[list[int]]
    front: list[int]


def layout(cores: Sequence[int], threads: Sequence[int]) -> Layout:
    """Give each replica as many cores as it has threads, from the last down; all to all if that leaves none over.

    >>> layout([0, 1, 2, 3], [2, 1])
    Layout(replicas=[[2, 3], [1]], front=[0])
    >>> layout([0, 1], [1, 1])
    Layout(replicas=[[0, 1], [0, 1]], front=[0, 1])
    """
    free = sorted(cores)
    if sum(threads) >= len(free):
        return Layout([free] * len(threads), free)
    given = []
    for count in threads:
        given.append(free[-count:])
        free = free[:-count]
    return Layout(given, free)


def layout_of(deployment: Deployment, cores: Sequence[int]) -> tuple[dict[str, list[list[int]]], list[int]]:
    """(cores of each model's replicas, cores of the front).

    Emulated replicas compute nothing and share what is not the front's: waking up, they would only
    interrupt it. All of them together count as one thread where nothing else does. Where an autoscaler sets their
    number, there is a place for the most that it may set.
    """
    seats = {name: most(deployment, name) for name in deployment.models}
    every = sorted(cores)
    computing = {name: m.replicas for name, m in deployment.models.items() if m.backend != "emulated"}
    if any(m.replicas.affinity == "none" for m in deployment.models.values()):
        return {name: [every] * count for name, count in seats.items()}, every
    shares = layout(every, [r.threads for name, r in computing.items() for _ in range(seats[name])] or [1])
    others = sorted(set(every) - set(shares.front)) or every
    given = iter(shares.replicas)
    return {
        name: [next(given) if name in computing else others for _ in range(count)] for name, count in seats.items()
    }, shares.front


def generator_of(deployment: Deployment, cores: Sequence[int]) -> list[int]:
    """Cores of a load generator on the same machine: the front's, off the replicas; beside emulated ones the others.

    On the front's core it waits while the front works: bursts left it 0.1 ms late there, on average. Emulated
    replicas do not mind.
    """
    _, front = layout_of(deployment, cores)
    if any(model.backend != "emulated" for model in deployment.models.values()):
        return front
    return sorted(set(cores) - set(front)) or front


def here() -> list[int]:
    """Cores that this process may use, ascending."""
    return sorted(os.sched_getaffinity(0))


def keep_to(pid: int, cores: Sequence[int]) -> None:
    """Let every thread of a process run on `cores` only; nothing happens if the process has gone."""
    for task in sorted(Path(f"/proc/{pid}/task").glob("[0-9]*")):
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:
            continue
