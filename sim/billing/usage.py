"""What a run hands over to be billed: nodes held, work done on them, replicas up, traffic between zones.

Instants are ns from the run's start. Work is counted in core-ns, time busy x threads, and lies in bins
from the run's start, of one width throughout.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

BIN_NS = 60 * 10**9
"""Width of a bin where nothing else is said."""

Buy = Literal["on_demand", "spot"]


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """One node, from its hand-over (provisioning done) to its release.

    Raises
    ------
    ValueError : instants out of order, no cores, or a reclaim of what was not spot or was never released.
    """

    node_id: int
    pool: str
    type: str
    """Hardware type, as the price book names it."""
    zone: str
    buy: Buy
    cores: int
    handed_over_ns: int
    """Negative if it was held before the run began; what lies before is not billed in the run."""
    first_ready_ns: int | None
    """When its first replica could serve; none: never."""
    released_ns: int | None
    """None: still held when the run ended."""
    reclaimed: bool = False
    """Whether the provider took it back."""

    def __post_init__(self) -> None:
        instants = [t for t in (self.handed_over_ns, self.first_ready_ns, self.released_ns) if t is not None]
        if instants != sorted(instants):
            raise ValueError(f"node {self.node_id}: must be handed over, ready, released in this order, got {instants}")
        if self.cores < 1:
            raise ValueError(f"node {self.node_id}: cores must be >= 1, got {self.cores}")
        if self.reclaimed and (self.buy != "spot" or self.released_ns is None):
            raise ValueError(f"node {self.node_id}: reclaimed must be spot and released")

    def held_until_ns(self, end_ns: int) -> int:
        """Its release, or the end of the run if it was held until then."""
        return end_ns if self.released_ns is None else self.released_ns


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Whom a cost belongs to; what is empty does not apply."""

    model: str = ""
    class_: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    """(name, value) of the request class's tags, such as (team, search)."""

    def tag(self, name: str) -> str:
        """Value of a tag; empty if it has none of that name."""
        return dict(self.tags).get(name, "")


NOBODY = Owner()
"""Owner of what no request and no model caused."""


@dataclass(frozen=True, slots=True)
class Work:
    """Core-ns that a node worked for one owner in one bin; wasted: nobody used the answers."""

    node_id: int
    bin: int
    owner: Owner
    useful_core_ns: float
    wasted_core_ns: float


@dataclass(frozen=True, slots=True)
class ReplicasUp:
    """Core-ns that the replicas of one model were up on a node in one bin: time up x threads, all together."""

    node_id: int
    bin: int
    model: str
    core_ns: int


@dataclass(frozen=True, slots=True)
class CrossZone:
    """Bytes that one owner's requests and answers carried from zone to zone in one bin."""

    bin: int
    owner: Owner
    bytes: int


@dataclass(frozen=True, slots=True)
class FleetUsage:
    """All that a run of `end_ns` used.

    Raises
    ------
    ValueError : a node id given twice, a node outside the run, work or replicas where no node was ready in the run,
        or traffic outside it.
    """

    end_ns: int
    nodes: tuple[NodeUsage, ...]
    work: tuple[Work, ...] = ()
    up: tuple[ReplicasUp, ...] = ()
    cross_zone: tuple[CrossZone, ...] = ()
    bin_ns: int = BIN_NS

    def __post_init__(self) -> None:
        if self.end_ns <= 0:
            raise ValueError(f"end_ns must be > 0, got {self.end_ns}")
        by_id = {node.node_id: node for node in self.nodes}
        if len(by_id) != len(self.nodes):
            raise ValueError("node ids must differ")
        for node in self.nodes:
            if max(node.handed_over_ns, node.first_ready_ns or 0, node.released_ns or 0) > self.end_ns:
                raise ValueError(f"node {node.node_id}: must be handed over, ready, released by {self.end_ns} ns")
        for what, parts in (("worked", self.work), ("had replicas up", self.up)):
            for part in parts:
                if part.node_id not in by_id or not self._was_ready(by_id[part.node_id], part.bin):
                    raise ValueError(f"node {part.node_id}: {what} in bin {part.bin}, in which it was not ready")
        for traffic in self.cross_zone:
            if not 0 <= traffic.bin * self.bin_ns < self.end_ns:
                raise ValueError(f"cross-zone traffic must lie within the run, got bin {traffic.bin}")

    def _was_ready(self, node: NodeUsage, bin_: int) -> bool:
        """Whether it could serve at some time in a bin of the run; what lies before the run is not billed in it."""
        if node.first_ready_ns is None or bin_ < 0:
            return False
        held_until_ns = min(node.held_until_ns(self.end_ns), (bin_ + 1) * self.bin_ns)
        return max(node.first_ready_ns, bin_ * self.bin_ns) < held_until_ns


@dataclass(frozen=True, slots=True)
class ReplicaUsage:
    """One replica, while it was up."""

    node_id: int
    model: str
    threads: int
    up_ns: int
    down_ns: int


def bins_of(start_ns: int, end_ns: int, bin_ns: int = BIN_NS) -> Iterator[tuple[int, int]]:
    """(bin, ns inside it) of each bin that an interval lies in, in order of time.

    >>> list(bins_of(50 * 10**9, 70 * 10**9))
    [(0, 10000000000), (1, 10000000000)]
    """
    for bin_ in range(start_ns // bin_ns, -(-end_ns // bin_ns)):
        yield bin_, min(end_ns, (bin_ + 1) * bin_ns) - max(start_ns, bin_ * bin_ns)


def up_of_replicas(replicas: Iterable[ReplicaUsage], bin_ns: int = BIN_NS) -> tuple[ReplicasUp, ...]:
    """Replicas up by node, bin and model, in this order."""
    core_ns: defaultdict[tuple[int, int, str], int] = defaultdict(int)
    for replica in replicas:
        for bin_, inside_ns in bins_of(replica.up_ns, replica.down_ns, bin_ns):
            core_ns[replica.node_id, bin_, replica.model] += inside_ns * replica.threads
    return tuple(ReplicasUp(*key, core_ns[key]) for key in sorted(core_ns))
