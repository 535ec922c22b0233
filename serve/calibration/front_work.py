"""How much work a front did, and the CPU time that a profile's costs say it takes.

Pure. A profile's costs are of jobs between their stamps; what CPU time the front took beyond them delays
nobody, but occupies its core (`unstamped_us_per_request`, `unstamped_us_per_batch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from serve import records
from serve.calibration.fit import rounded
from serve.calibration.rig import Logs
from serve.calibration.samples import column
from serve.policy.codes import OUTCOME_FULL, OUTCOME_OK
from serve.profile import FrontCosts
from serve.records import Rows


@dataclass(frozen=True, slots=True)
class Work:
    """What the front did in one replay, and the CPU time that it took."""

    requests: int
    answers: int
    batches: int
    refused: int
    rows_in: int
    rows_out: int
    cpu_us: float

    @classmethod
    def of(cls, requests: Rows, batches: int, cpu_s: float) -> Work:
        """Of the requests of a replay and the number of batches that they were served in."""
        ok = requests[requests[:, records.OUTCOME] == OUTCOME_OK]
        return cls(
            requests=len(requests),
            answers=len(ok),
            batches=batches,
            refused=int(np.count_nonzero(requests[:, records.OUTCOME] == OUTCOME_FULL)),
            rows_in=int(requests[:, records.ROWS].sum()),
            rows_out=int(ok[:, records.ROWS].sum()),
            cpu_us=cpu_s * 1e6,
        )


def work_of(logs: Logs) -> list[Work]:
    """The front's work, replay by replay."""
    requests = logs.requests[np.argsort(logs.requests[:, records.ARRIVAL_NS])]
    arrival, seen = requests[:, records.ARRIVAL_NS], np.sort(column(logs.batches, "seen_ns"))
    done = []
    for span in logs.spans:
        bounds = [span.client.start_ns, span.client.end_ns]
        inside = requests[slice(*np.searchsorted(arrival, bounds))]
        done.append(Work.of(inside, int(np.diff(np.searchsorted(seen, bounds))[0]), span.front_cpu_s))
    return done


def stamped_us(work: Work, costs: FrontCosts) -> float:
    """CPU time of its jobs, by the costs."""
    kib_in, kib_out = costs.bytes_in_per_row / 1024, costs.bytes_out_per_row / 1024
    return (
        work.requests * costs.parse_us
        + work.rows_in * kib_in * (costs.parse_us_per_kib + costs.dispatch_us_per_kib)
        + work.batches * (costs.finish_batch_us + costs.dispatch_us)
        + max(0, work.answers - work.batches) * costs.dispatch_us_per_request
        + work.answers * costs.finish_request_us
        + work.rows_out * kib_out * costs.finish_us_per_kib
        + work.refused * costs.refuse_us
    )


def unstamped_us(works: Sequence[Work], costs: FrontCosts) -> tuple[float, float]:
    """(per request, per batch): the front's CPU time beyond what the stamps explain, never negative."""
    if len(works) < 2:
        return 0.0, 0.0
    rest = [max(0.0, work.cpu_us - stamped_us(work, costs)) for work in works]
    matrix = np.array([[work.requests, work.batches] for work in works], float)
    (request_us, batch_us), _ = optimize.nnls(matrix, np.array(rest))
    return rounded(request_us), rounded(batch_us)


def level(work: Work, costs: FrontCosts) -> float:
    """CPU time that the front took, relative to what the costs say; 1 of no work."""
    unstamped = work.requests * costs.unstamped_us_per_request + work.batches * costs.unstamped_us_per_batch
    expected_us = stamped_us(work, costs) + unstamped
    return work.cpu_us / expected_us if expected_us > 0 else 1.0
