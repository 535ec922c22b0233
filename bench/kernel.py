"""Speed of the simulators: the compiled kernel, the reference and a plain SimPy program of the same queue.

    python -m bench.kernel [--rounds 5] [--requests 2000000]

One process, one core, the three taken in turn each round; medians of the rounds. A second is one of
the core's time, so that a busy machine does not count against whoever is at work. Writes
bench/results/kernel.json and the table of docs/kernel.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from time import process_time

import numpy as np

from bench import report
from bench.plain_simpy import PlainQueue
from serve.policy.codes import NEVER_NS
from serve.policy.front import FRONT_BUDGET_NS, FRONT_PARAM_COUNT
from serve.policy.routing import ROUTE_P2C
from serve.policy.service import COLD_KNOTS
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import Estate, Ints, Node, Plane, Requests, Router, Service, StopCode
from sim.reference import Reference

MS = 1_000_000
RATE_RPS = 17_067.0
REPLICAS = 16
MAX_BATCH = 8
NETWORK_NS = 200_000
TIME_BINS = 10
CHUNK = 250_000
SLOW_SHARE = 100  # the slow programs get one request for so many of the kernel's
END_NS = 2**61

COLUMNS = {
    "case": "case",
    "requests_per_s": "kernel, requests/s",
    "drawn_requests_per_s": "drawing included",
    "reference_requests_per_s": "reference",
    "simpy_requests_per_s": "plain SimPy",
    "times_simpy": "kernel x plain SimPy",
}


@dataclass(frozen=True)
class Case:
    """A node, and how its requests are drawn."""

    name: str
    node: Node
    nodes: int = 1
    policy: int | None = None  # of the router; none: clients reach the only node themselves
    rows_max: int = 1
    priorities: int = 1
    timeout_ns: int = NEVER_NS
    patience_ns: float = NEVER_NS
    draws: int = 1
    death_every_ns: int = NEVER_NS

    @property
    def what(self) -> Node | Estate:
        """What planes simulate."""
        return self.node if self.policy is None else Estate((self.node,) * self.nodes, Router(self.policy, NETWORK_NS))

    @property
    def rate_rps(self) -> float:
        """Rows per second: the same share of capacity in every case."""
        return RATE_RPS * self.nodes * self.node.replicas / REPLICAS

    def draw(self, rng: np.random.Generator, count: int, after_ns: int) -> Requests:
        """The next requests after an instant, at the rate that offers as many rows in every case."""
        mean_gap_ns = 1e9 / self.rate_rps * (1 + self.rows_max) / 2
        arrival_ns = after_ns + np.cumsum(rng.exponential(mean_gap_ns, count)).astype(np.int64)
        same = np.zeros(count, np.int64)
        patience_ns = same + NEVER_NS
        if self.patience_ns < NEVER_NS:
            patience_ns = rng.exponential(self.patience_ns, count).astype(np.int64)
        return Requests(
            arrival_ns=arrival_ns,
            rows=rng.integers(1, self.rows_max + 1, count) if self.rows_max > 1 else same + 1,
            class_=same,
            priority=rng.integers(0, self.priorities, count) if self.priorities > 1 else same,
            timeout_ns=same + self.timeout_ns,
            patience_ns=patience_ns,
            client_ns=same + 100_000,
            draw=rng.integers(0, 2**62, (self.draws, count)),
            route=same if self.policy is None else rng.integers(0, 2**62, count),
        )


def cases() -> list[Case]:
    """tau(k) = 0.5 k + 2 ms everywhere."""
    tau = np.array([500_000 * k + 2 * MS for k in range(MAX_BATCH + 1)], np.int64)
    bare = Node(SchedulerSpec(MAX_BATCH, window_ns=5 * MS), REPLICAS, Service(tau, 0, MAX_BATCH, 0))
    full = Node(
        SchedulerSpec(MAX_BATCH, window_ns=5 * MS, max_queue=256, priority_levels=8, slots=2),
        REPLICAS,
        _measured(tau),
        _front(),
    )
    lone = replace(full, replicas=1, scheduler=replace(full.scheduler, priority_levels=1, slots=1), row_ns=750_000)
    wanting = {"priorities": 8, "timeout_ns": 100 * MS, "patience_ns": 500.0 * MS, "draws": 2}
    return [
        Case("batching only", bare),
        Case("everything, rows 1", full, death_every_ns=1000 * MS, **wanting),  # type: ignore[arg-type]
        Case("everything, rows 1-4", full, rows_max=4, death_every_ns=1000 * MS, **wanting),  # type: ignore[arg-type]
        Case("50 nodes of one replica, p2c", lone, nodes=50, policy=ROUTE_P2C),
        Case("10 nodes of five replicas, p2c", replace(lone, replicas=5), nodes=10, policy=ROUTE_P2C),
        Case("1,000 nodes of one replica, p2c", lone, nodes=1000, policy=ROUTE_P2C),
    ]


def _measured(tau_ns: Ints) -> Service:
    """A table as a profile makes it: 1,024 quantiles a cell, all neighbours, a level that drifts."""
    bits, rng = 10, np.random.default_rng(0)
    luck = np.sort(rng.lognormal(-0.00125, 0.05, 1 << bits))
    cells = tau_ns[None, :, None] * luck * (1 + 0.002 * np.arange(REPLICAS)[:, None, None])
    levels = 1 + 0.01 * rng.standard_normal(64)
    cold_ns = np.linspace(20_000, 500_000, COLD_KNOTS).astype(np.int64)
    table = cells.astype(np.int64).ravel()
    return Service(table, bits, MAX_BATCH, REPLICAS - 1, levels, 1000 * MS, handover_ns=20_000, cold_ns=cold_ns)


def _front() -> Ints:
    """A front that is busy for about a third of the time."""
    front = np.zeros(FRONT_PARAM_COUNT, np.int64)
    front[:] = [10_000, 100, 10_000, 5_000, 100, 5_000, 0, 1024, 256, 50_000, 5_000, 0, 1_000]
    front[FRONT_BUDGET_NS] = 10 * MS
    return front


def drive(plane: Plane, case: Case, chunks: Callable[[], Requests | None]) -> None:
    """Run to the end, a replica dying now and then and coming back a tenth of that later."""
    for node in range(case.nodes):
        for replica in range(case.node.replicas):
            plane.ready(replica, node)
    every_ns, turn, ended = case.death_every_ns, 0, False
    while True:
        until_ns = every_ns * (turn // 2 + 1) + (every_ns // 10 if turn % 2 else 0) if every_ns < NEVER_NS else END_NS
        stop = plane.advance(END_NS if ended else until_ns)
        if stop.code == StopCode.STARVED:
            if (chunk := chunks()) is None:
                plane.end_feed()
                ended = True  # what is left is served without further deaths
            else:
                plane.feed(chunk)
        elif stop.code == StopCode.UNTIL and ended:
            return
        elif stop.code == StopCode.UNTIL:
            replica = turn // 2 % REPLICAS
            (plane.ready if turn % 2 else plane.kill)(replica)
            turn += 1


def timed_plane(plane: Plane, case: Case, chunks: Iterable[Requests], count: int) -> float:
    """Requests per second of the core's time; drawing is in it if `chunks` draws."""
    left = iter(chunks)
    began = process_time()
    drive(plane, case, lambda: next(left, None))
    return count / (process_time() - began)


def drawn_chunks(case: Case, count: int, seed: int) -> Iterator[Requests]:
    """`count` requests, drawn chunk by chunk as they are asked for."""
    rng, at_ns = np.random.default_rng(seed), 0
    for low in range(0, count, CHUNK):
        chunk = case.draw(rng, min(CHUNK, count - low), at_ns)
        at_ns = int(chunk.arrival_ns[-1])
        yield chunk


def timed_simpy(case: Case, requests: Requests) -> float:
    """Requests per second of the plain program."""
    queue = PlainQueue(case.node)
    began = process_time()
    queue.run(requests)
    return len(requests) / (process_time() - began)


def measure(case: Case, rounds: int, count: int) -> dict[str, object]:
    """One row: medians over the rounds."""
    chunks = list(drawn_chunks(case, count, 1))
    few = case.draw(np.random.default_rng(2), count // SLOW_SHARE, 0)
    bin_ns = int(chunks[-1].arrival_ns[-1]) // TIME_BINS
    DataPlane(case.what, 1).ready(0)  # compiled, or loaded from the cache, before anything is timed
    taken: dict[str, list[float]] = {name: [] for name in COLUMNS if name.endswith("_per_s")}
    for i in range(rounds):
        fast = DataPlane(case.what, 1, time_bins=TIME_BINS, bin_ns=bin_ns)
        taken["requests_per_s"].append(timed_plane(fast, case, chunks, count))
        fast = DataPlane(case.what, 1, time_bins=TIME_BINS, bin_ns=bin_ns)
        taken["drawn_requests_per_s"].append(timed_plane(fast, case, drawn_chunks(case, count, i), count))
        taken["reference_requests_per_s"].append(timed_plane(Reference(case.what, 1), case, [few], len(few)))
        if case.policy is None:
            taken["simpy_requests_per_s"].append(timed_simpy(case, few))
    row: dict[str, object] = {"case": case.name, "requests": count, "rounds": rounds}
    row |= {name: statistics.median(values) if values else None for name, values in taken.items()}
    if case.policy is not None:
        return row | {"times_simpy": None}
    ratios = [a / b for a, b in zip(taken["requests_per_s"], taken["simpy_requests_per_s"], strict=True)]
    return row | {"times_simpy": statistics.median(ratios)}


def main() -> None:
    """Measure every case; write the file and the page's table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2_000_000, help="of the kernel, a round and case")
    told = parser.parse_args()
    rows = [measure(case, told.rounds, told.requests) for case in cases()]
    head = report.provenance(rate_rps=RATE_RPS, replicas=REPLICAS, max_batch=MAX_BATCH)
    head["versions"] = {"python": platform.python_version()} | {p: version(p) for p in ("numba", "numpy", "simpy")}
    print(report.save("kernel", head, rows))
    text = f"{report.told(head)}\n{told.rounds} rounds of {told.requests:,} requests.\n\n{report.table(rows, COLUMNS)}"
    report.splice(report.DOCS / "kernel.md", "kernel", text)
    print(text)


if __name__ == "__main__":
    main()
