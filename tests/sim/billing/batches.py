"""Work out of batches, as the rule has it: a batch's time x threads is split over its requests by rows."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sim.billing.usage import Owner, Work, bins_of


@dataclass(frozen=True, slots=True)
class RequestRows:
    """What one request had in a batch; `used`: somebody used its answer."""

    owner: Owner
    rows: int
    used: bool = True


@dataclass(frozen=True, slots=True)
class BatchUsage:
    """One batch, from its start to its end or the loss of its replica."""

    node_id: int
    threads: int
    started_ns: int
    ended_ns: int
    requests: tuple[RequestRows, ...]


def work_of_batches(batches: Iterable[BatchUsage]) -> tuple[Work, ...]:
    """Work by node, bin and owner, in this order: a batch's time x threads, split over its requests by rows."""
    useful: defaultdict[tuple[int, int, Owner], float] = defaultdict(float)
    wasted: defaultdict[tuple[int, int, Owner], float] = defaultdict(float)
    for batch in batches:
        rows = sum(request.rows for request in batch.requests)
        for bin_, inside_ns in bins_of(batch.started_ns, batch.ended_ns):
            for request in batch.requests:
                sums = useful if request.used else wasted
                sums[batch.node_id, bin_, request.owner] += inside_ns * batch.threads * request.rows / rows
    keys = sorted(useful.keys() | wasted.keys())
    return tuple(Work(*key, useful.get(key, 0.0), wasted.get(key, 0.0)) for key in keys)
