"""What the front and the client cost, from one launch's logs.

Pure. Two views of the front are kept. *Stamps* give what a job delays: parse from arrival to enqueue,
finish from seeing the completion to the slot being free, and each answer from the stamp before it. The
engine process's *CPU time*, regressed on how many of each job the replays held, gives what the front is
occupied with in all; what exceeds the stamps (polling, the messages to and from replicas) delays
nobody who is not queueing for the front, and is reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from serve import records
from serve.calibration.design import NULL, NULL_WINDOW_NS
from serve.calibration.fit import p50_p99_us, rounded
from serve.calibration.rig import QUEUES, Logs
from serve.calibration.samples import Columns, Intervals, Ints, column, finish_jobs, front_jobs
from serve.policy.codes import OUTCOME_FULL, OUTCOME_OK
from serve.profile import ClientCosts, FrontCosts, ModelFacts
from serve.records import Rows

Floats = npt.NDArray[np.float64]
QUANTILES = np.linspace(0.0, 1.0, 101)


# -- front --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """y = base + slope x."""

    base: float
    slope: float


def mean_line(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> Line:
    """Least squares, neither part negative; a mean and not a median, since what is summed up is time."""
    if not len(x):
        return Line(0.0, 0.0)
    matrix = np.stack([np.ones(len(x)), x.astype(np.float64)], axis=1)
    (base, slope), _ = optimize.nnls(matrix, np.maximum(y.astype(np.float64), 0.0))
    return Line(float(base), float(slope))


def parse_ns(logs: Logs) -> tuple[Ints, Ints]:
    """(rows, arrival to enqueue) of requests that shared their loop iteration with no other request or completion."""
    requests = logs.requests[logs.requests[:, records.ENQUEUE_NS] >= 0]
    arrivals, counts = np.unique(requests[:, records.ARRIVAL_NS], return_counts=True)
    alone = counts[np.searchsorted(arrivals, requests[:, records.ARRIVAL_NS])] == 1
    finishing = finish_jobs(logs).meeting(requests[:, records.ARRIVAL_NS], requests[:, records.ENQUEUE_NS])
    own = requests[alone & (finishing == 0)]
    return own[:, records.ROWS], own[:, records.ENQUEUE_NS] - own[:, records.ARRIVAL_NS]


def answers_ns(logs: Logs) -> tuple[Ints, Ints]:
    """(rows, time from the stamp before) of every answer: of a batch's first from the slot's being free.

    The first therefore also holds the dispatch of the next batch, if one was waiting: the engine
    dispatches before it answers.
    """
    ok = logs.requests[logs.requests[:, records.OUTCOME] == OUTCOME_OK]
    ok = ok[np.lexsort((ok[:, records.ANSWERED_NS], ok[:, records.BATCH], ok[:, records.QUEUE]))]
    keys = ok[:, records.BATCH] * len(QUEUES) + ok[:, records.QUEUE]
    batch_keys = column(logs.batches, "batch") * len(QUEUES) + column(logs.batches, "queue")
    order = np.argsort(batch_keys)
    place = order[np.searchsorted(batch_keys[order], keys)]
    before = column(logs.batches, "finished_ns")[place]
    same = keys[1:] == keys[:-1]
    before[1:][same] = ok[:-1, records.ANSWERED_NS][same]
    return ok[:, records.ROWS], ok[:, records.ANSWERED_NS] - before


def refuse_ns(requests: Rows) -> Ints:
    """Enqueue to answer of the requests that found the queue full."""
    full = requests[requests[:, records.OUTCOME] == OUTCOME_FULL]
    return np.asarray(full[:, records.ANSWERED_NS] - full[:, records.ENQUEUE_NS])


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


def work_of(logs: Logs) -> list[Work]:
    """The front's work, replay by replay."""
    requests = logs.requests[np.argsort(logs.requests[:, records.ARRIVAL_NS])]
    arrival, seen = requests[:, records.ARRIVAL_NS], np.sort(column(logs.batches, "seen_ns"))
    done = []
    for span in logs.spans:
        bounds = [span.client.start_ns, span.client.end_ns]
        inside = requests[slice(*np.searchsorted(arrival, bounds))]
        ok = inside[inside[:, records.OUTCOME] == OUTCOME_OK]
        done.append(
            Work(
                requests=len(inside),
                answers=len(ok),
                batches=int(np.diff(np.searchsorted(seen, bounds))[0]),
                refused=int(np.count_nonzero(inside[:, records.OUTCOME] == OUTCOME_FULL)),
                rows_in=int(inside[:, records.ROWS].sum()),
                rows_out=int(ok[:, records.ROWS].sum()),
                cpu_us=span.front_cpu_s * 1e6,
            )
        )
    return done


def unstamped_us(works: Sequence[Work], costs: FrontCosts) -> tuple[float, float]:
    """(per request, per batch): the front's CPU time beyond what the stamps explain, never negative."""
    kib_in, kib_out = costs.bytes_in_per_row / 1024, costs.bytes_out_per_row / 1024
    rest, matrix = [], []
    for work in works:
        explained = (
            work.requests * costs.parse_us
            + work.rows_in * kib_in * costs.parse_us_per_kib
            + work.batches * costs.finish_batch_us
            + work.answers * costs.finish_request_us
            + work.rows_out * kib_out * costs.finish_us_per_kib
            + work.refused * costs.refuse_us
        )
        rest.append(max(0.0, work.cpu_us - explained))
        matrix.append([work.requests, work.batches])
    if len(works) < 2:
        return 0.0, 0.0
    (request_us, batch_us), _ = optimize.nnls(np.array(matrix, float), np.array(rest))
    return rounded(request_us), rounded(batch_us)


def front_costs(parts: Sequence[Logs], facts: ModelFacts, bytes_in: int, bytes_out: int) -> FrontCosts:
    """The vector of rule 10, from the stamps of all launches, and what CPU time adds to it."""
    parse = mean_line(*_joined([parse_ns(logs) for logs in parts]))
    answer = mean_line(*_joined([answers_ns(logs) for logs in parts]))
    finish_ns = np.concatenate([column(g.batches, "finished_ns") - column(g.batches, "seen_ns") for g in parts])
    refused_ns = np.concatenate([refuse_ns(g.requests) for g in parts])
    costs = FrontCosts(
        parse_us=rounded(parse.base / 1000),
        parse_us_per_kib=rounded(parse.slope / 1000 / (bytes_in / 1024)),
        finish_batch_us=rounded(float(finish_ns.mean()) / 1000),
        finish_request_us=rounded(answer.base / 1000),
        finish_us_per_kib=rounded(answer.slope / 1000 / (bytes_out / 1024)),
        refuse_us=rounded(float(refused_ns.mean()) / 1000) if len(refused_ns) else 0.0,
        bytes_in_per_row=bytes_in,
        bytes_out_per_row=bytes_out,
    )
    request_us, batch_us = unstamped_us([w for logs in parts for w in work_of(logs)], costs)
    return costs.model_copy(update={"unstamped_us_per_request": request_us, "unstamped_us_per_batch": batch_us})


def _joined(parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


# -- client -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientParts:
    """Of each request answered ok: what its client added, by model, and whether the front was busy as it came."""

    send_ns: Ints
    receive_ns: Ints
    queue: Ints
    front_busy: npt.NDArray[np.bool_]


def client_parts(logs: Logs) -> ClientParts:
    """The generator's rows joined with the engine's by request id."""
    requests = logs.requests[logs.requests[:, records.OUTCOME] == OUTCOME_OK]
    requests = requests[np.argsort(requests[:, records.REQUEST])]
    spans = [span.client for span in logs.spans]
    ids, intended, received = (
        np.concatenate([getattr(c, name) for c in spans]) for name in ("request", "intended_ns", "received_ns")
    )
    order = np.argsort(ids)
    place = order[np.searchsorted(ids[order], requests[:, records.REQUEST])]
    arrival_ns = requests[:, records.ARRIVAL_NS]
    return ClientParts(
        send_ns=arrival_ns - intended[place],
        receive_ns=received[place] - requests[:, records.ANSWERED_NS],
        queue=requests[:, records.QUEUE],
        front_busy=front_jobs(logs).meeting(intended[place], arrival_ns) > 0,
    )


def quantiles_us(values_ns: npt.NDArray[np.generic]) -> list[float]:
    """Quantiles at 0, 1, ..., 100 %."""
    return [rounded(v / 1000) for v in np.quantile(values_ns.astype(np.float64), QUANTILES)]


def client_costs(parts: Sequence[Logs]) -> ClientCosts:
    """What a client adds while the front is free: of the null model, and as a check of all under load.

    What a request waits for a busy front is the simulator's to find, so requests that met one are left
    out of `send`.
    """
    found = [client_parts(logs) for logs in parts]
    free = np.concatenate([p.send_ns[~p.front_busy] for p in found])
    receive = np.concatenate([p.receive_ns for p in found])
    cpu_s = sum(span.client.cpu_s for logs in parts for span in logs.spans)
    count = sum(len(span.client) for logs in parts for span in logs.spans)
    return ClientCosts(
        send_us=quantiles_us(free),
        receive_us=quantiles_us(receive),
        cpu_us_per_request=rounded(cpu_s * 1e6 / max(1, count)),
    )


# -- timers -------------------------------------------------------------------------------------------------


def timer_late_us(parts: Sequence[Logs]) -> list[float]:
    """How late the null model's window timers fired on a free front: median and 99th percentile."""
    late = []
    for logs in parts:
        null = logs.requests[:, records.QUEUE] == QUEUES.index(NULL)
        ok = logs.requests[null & (logs.requests[:, records.OUTCOME] == OUTCOME_OK)]
        due_ns = ok[:, records.ENQUEUE_NS] + NULL_WINDOW_NS
        busy = front_jobs(logs).meeting(due_ns, ok[:, records.DISPATCH_NS]) > 0
        late.append((ok[:, records.DISPATCH_NS] - due_ns)[~busy])
    return p50_p99_us(np.concatenate(late))


def jitter_us(samples: Columns) -> list[float]:
    """How long the front takes to see a completed batch, whatever else it is doing: median and 99th percentile."""
    return p50_p99_us(samples["notice_ns"])


__all__ = ["Intervals", "client_costs", "client_parts", "front_costs", "jitter_us", "timer_late_us", "work_of"]
