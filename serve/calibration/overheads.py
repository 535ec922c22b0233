"""What the front and the client cost, from one launch's logs.

Pure. A front that has been asleep does its first job slowly (caches are cold, a core has to wake, the next
batch's tensors may have to be written first), and further jobs at once after it three to five times faster.
What limits a busy front, and what requests queue for, is the latter: the *marginal* cost of a job that
follows another. So the front's costs are marginal ones, and the client's are all the rest: `send` ends
where a front with those costs would have begun the parse, `receive` begins where it would have
answered. Their sum with the front's costs is exactly what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from serve import records
from serve.calibration.design import CROWD, NULL, NULL_WINDOW_NS
from serve.calibration.fit import p50_p99_us, rounded
from serve.calibration.front_work import unstamped_us, work_of
from serve.calibration.rig import QUEUES, Logs
from serve.calibration.samples import Bools, Columns, Ints, Jobs, column, finish_jobs, front_jobs
from serve.loadgen import ClientRows
from serve.policy.codes import OUTCOME_FULL, OUTCOME_OK
from serve.profile import ClientCosts, FrontCosts
from serve.records import Rows

Floats = npt.NDArray[np.float64]
QUANTILES = np.linspace(0.0, 1.0, 101)
TYPICAL_MAX = 5.0
FOLLOWING_MIN = 30
"""Fewer jobs that follow another than this say nothing."""


# -- front --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """y = base + slope x, in ns and rows."""

    base: float
    slope: float

    def at(self, x: npt.NDArray[np.generic]) -> Floats:
        """Its values."""
        return self.base + self.slope * x.astype(np.float64)


def typical(spans_ns: npt.NDArray[np.generic]) -> float:
    """Mean of the values up to TYPICAL_MAX medians; 0 of none.

    Not the median: jobs that met a cold cache or an interrupt are part of what a queue of jobs takes. Not
    the plain mean: one that was preempted for milliseconds says nothing of what a job costs.
    """
    if not len(spans_ns):
        return 0.0
    values = spans_ns.astype(np.float64)
    median = np.median(values)
    return float(values[values <= median + (TYPICAL_MAX - 1) * abs(median)].mean())


def median_line(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> Line:
    """Through the medians of y at each x, weighted by their counts, neither part negative.

    Medians, because a job that was preempted says nothing of what a row costs.
    """
    if not len(x):
        return Line(0.0, 0.0)
    values, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    medians = np.array([np.median(y[index == i]) for i in range(len(values))], float)
    weight = np.sqrt(counts)
    matrix = np.stack([weight, values.astype(float) * weight], axis=1)
    (base, slope), _ = optimize.nnls(matrix, np.maximum(medians, 0.0) * weight)
    return Line(float(base), float(slope))


def marginal_line(lone: tuple[Ints, Ints], following: tuple[Ints, Ints]) -> Line:
    """Cost of a job that follows another: how it grows with rows from the lone jobs, its level from the following.

    Each is (rows, ns). Too few following ones leave the lone jobs' line, which is an upper bound.
    """
    line = median_line(*lone)
    rows, spans_ns = following
    if len(rows) < FOLLOWING_MIN:
        return line
    base = typical(spans_ns) - line.slope * float(rows.mean())
    return Line(max(0.0, base), line.slope)


def parsed(logs: Logs) -> Rows:
    """The requests that were parsed and enqueued, in that order."""
    requests = logs.requests[logs.requests[:, records.ENQUEUE_NS] >= 0]
    return requests[np.argsort(requests[:, records.ENQUEUE_NS], kind="stable")]


def lone_parses(logs: Logs) -> tuple[Ints, Ints]:
    """(rows, arrival to enqueue) of requests that shared their loop iteration with no other request or completion."""
    requests = parsed(logs)
    arrivals, counts = np.unique(requests[:, records.ARRIVAL_NS], return_counts=True)
    alone = counts[np.searchsorted(arrivals, requests[:, records.ARRIVAL_NS])] == 1
    finishing = finish_jobs(logs).meeting(requests[:, records.ARRIVAL_NS], requests[:, records.ENQUEUE_NS])
    own = requests[alone & (finishing == 0)]
    return own[:, records.ROWS], own[:, records.ENQUEUE_NS] - own[:, records.ARRIVAL_NS]


def following_parses(logs: Logs) -> tuple[Ints, Ints]:
    """(rows, time since the enqueue before) of requests read in one iteration with the one before them.

    Nothing was dispatched in between, since writing a batch's tensors is no part of a parse.
    """
    requests = parsed(logs)
    enqueue_ns, arrival_ns = requests[:, records.ENQUEUE_NS], requests[:, records.ARRIVAL_NS]
    dispatches = np.sort(column(logs.batches, "dispatch_ns"))
    between = np.diff(np.searchsorted(dispatches, enqueue_ns, "left"))
    chosen = (arrival_ns[1:] == arrival_ns[:-1]) & (between == 0)
    return requests[1:, records.ROWS][chosen], np.asarray(np.diff(enqueue_ns)[chosen], np.int64)


@dataclass(frozen=True, slots=True)
class Answers:
    """Every answer that left: its row, its place in its batch, the batch's size, when the front saw the batch
    completed, when its slot was free, and how many batches, of how many rows and requests together, left at that
    instant."""

    requests: Rows
    place: Ints
    size: Ints
    seen_ns: Ints
    finished_ns: Ints
    dispatched: Ints
    dispatched_rows: Ints
    dispatched_requests: Ints

    def lone(self) -> tuple[Ints, Ints]:
        """(rows, slot free to answered) of batches of one request."""
        own = self.size == 1
        return self.requests[own, records.ROWS], (self.requests[:, records.ANSWERED_NS] - self.finished_ns)[own]

    def following(self) -> tuple[Ints, Ints]:
        """(rows, time since the answer before) of all but a batch's first."""
        later = np.flatnonzero(self.place > 0)
        gaps_ns: Ints = np.diff(self.requests[:, records.ANSWERED_NS])
        return self.requests[later, records.ROWS], gaps_ns[later - 1]

    def beginning(self, line: Line) -> tuple[Ints, Ints, Ints, Floats]:
        """(batches dispatched, their rows, their requests, time from the slot's being free until the first answer was
        begun), by batch."""
        first = self.place == 0
        begun_ns = self.requests[:, records.ANSWERED_NS] - line.at(self.requests[:, records.ROWS])
        left = self.dispatched[first], self.dispatched_rows[first], self.dispatched_requests[first]
        return *left, (begun_ns - self.finished_ns)[first]

    def modelled_ns(self, lines: FrontLines) -> Ints:
        """When a front of those costs would have answered."""
        costs = lines.answer.at(self.requests[:, records.ROWS])
        total = np.cumsum(costs)
        before = (total - costs)[np.arange(len(costs)) - self.place]
        further = self.dispatched_requests - self.dispatched
        dispatch_ns = self.dispatched * lines.dispatch.base + self.dispatched_rows * lines.dispatch.slope
        begun_ns = self.seen_ns + lines.finish_batch_ns + dispatch_ns + further * lines.dispatch_request_ns
        modelled: Ints = np.rint(begun_ns + total - before).astype(np.int64)
        return modelled


def answers_of(logs: Logs) -> Answers:
    """The answers of one launch, batch by batch in the order in which they left."""
    ok = logs.requests[logs.requests[:, records.OUTCOME] == OUTCOME_OK]
    ok = ok[np.lexsort((ok[:, records.ANSWERED_NS], ok[:, records.BATCH], ok[:, records.QUEUE]))]
    keys = ok[:, records.BATCH] * len(QUEUES) + ok[:, records.QUEUE]
    first = np.diff(keys, prepend=-1) != 0
    group = np.cumsum(first) - 1
    place = np.arange(len(ok)) - np.flatnonzero(first)[group]
    batch_keys = column(logs.batches, "batch") * len(QUEUES) + column(logs.batches, "queue")
    order = np.argsort(batch_keys)
    batch = order[np.searchsorted(batch_keys[order], keys)]
    seen_ns, finished_ns = column(logs.batches, "seen_ns")[batch], column(logs.batches, "finished_ns")[batch]
    rows, dispatches_ns = column(logs.batches, "rows"), column(logs.batches, "dispatch_ns")
    order = np.argsort(dispatches_ns)
    dispatches_ns = dispatches_ns[order]
    first_left, end_left = (np.searchsorted(dispatches_ns, finished_ns, side) for side in ("left", "right"))
    requests = np.bincount(batch[first], weights=np.bincount(group), minlength=len(batch_keys)).astype(np.int64)
    totals = (np.concatenate([[0], np.cumsum(c[order])]) for c in (np.ones_like(requests), rows, requests))
    left = (total[end_left] - total[first_left] for total in totals)
    return Answers(ok, place, np.bincount(group)[group], seen_ns, finished_ns, *left)


def refuse_ns(requests: Rows) -> Ints:
    """Enqueue to answer of the requests that found the queue full."""
    full = requests[requests[:, records.OUTCOME] == OUTCOME_FULL]
    return np.asarray(full[:, records.ANSWERED_NS] - full[:, records.ENQUEUE_NS], np.int64)


@dataclass(frozen=True, slots=True)
class FrontLines:
    """Marginal cost of a parse and of an answer, against rows, of freeing a slot, of handing a batch over, against
    rows, and of each request in it beyond the first.

    What is beyond them is in the client's part, which is measured against these costs.
    """

    parse: Line
    answer: Line
    finish_batch_ns: float
    dispatch: Line
    dispatch_request_ns: float


def dispatch_line(answers: Sequence[Answers], line: Line) -> tuple[Line, float]:
    """What handing one batch over adds to the time until the first answer, and each request in it beyond the first;
    nothing if too few batches were handed over before an answer, or too few answers had none before them."""
    parts = [a.beginning(line) for a in answers]
    dispatched, rows, requests, spent_ns = (np.concatenate([part[k] for part in parts]) for k in range(4))
    alone, joined, none = (dispatched == 1) & (requests == 1), (dispatched == 1) & (requests > 1), dispatched == 0
    if min(np.count_nonzero(alone), np.count_nonzero(none)) < FOLLOWING_MIN:
        return Line(0.0, 0.0), 0.0
    slope = median_line(rows[alone], spent_ns[alone]).slope
    base = typical(spent_ns[alone]) - typical(spent_ns[none]) - slope * float(rows[alone].mean())
    further_ns = median_line(requests[joined] - 1, spent_ns[joined] - slope * rows[joined]).slope
    return Line(max(0.0, base), slope), further_ns


def front_lines(parts: Sequence[Logs]) -> FrontLines:
    """From all launches together."""
    answers = [answers_of(logs) for logs in parts]
    answer = marginal_line(_joined([a.lone() for a in answers]), _joined([a.following() for a in answers]))
    finish_ns = np.concatenate([column(g.batches, "finished_ns") - column(g.batches, "seen_ns") for g in parts])
    return FrontLines(
        marginal_line(_joined([lone_parses(g) for g in parts]), _joined([following_parses(g) for g in parts])),
        answer,
        typical(finish_ns),
        *dispatch_line(answers, answer),
    )


def front_costs(parts: Sequence[Logs], lines: FrontLines, bytes_in: int, bytes_out: int) -> FrontCosts:
    """The vector of rule 10, and the CPU time of the front that it leaves out."""
    refused_ns = np.concatenate([refuse_ns(g.requests) for g in parts])
    costs = FrontCosts(
        parse_us=rounded(lines.parse.base / 1000),
        parse_us_per_kib=rounded(lines.parse.slope / 1000 / (bytes_in / 1024)),
        finish_batch_us=rounded(lines.finish_batch_ns / 1000),
        finish_request_us=rounded(lines.answer.base / 1000),
        finish_us_per_kib=rounded(lines.answer.slope / 1000 / (bytes_out / 1024)),
        refuse_us=rounded(float(np.median(refused_ns)) / 1000) if len(refused_ns) else 0.0,
        dispatch_us=rounded(lines.dispatch.base / 1000),
        dispatch_us_per_kib=rounded(lines.dispatch.slope / 1000 / (bytes_in / 1024)),
        dispatch_us_per_request=rounded(lines.dispatch_request_ns / 1000),
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
    """Of each request answered ok: what its client and a cold front added, what it waited for a front at work on
    others, and its weight, one per batch."""

    send_ns: Ints
    receive_ns: Ints
    waited_ns: Ints
    queue: Ints
    rows: Ints
    weight: Floats


def client_parts(logs: Logs, lines: FrontLines) -> ClientParts:
    """The generator's rows joined with the engine's by request id."""
    answers = answers_of(logs)
    requests = answers.requests
    spans = [span.client for span in logs.spans]
    ids, intended, received = (
        np.concatenate([getattr(c, name) for c in spans]) for name in ("request", "intended_ns", "received_ns")
    )
    order = np.argsort(ids)
    place = order[np.searchsorted(ids[order], requests[:, records.REQUEST])]
    waited_ns = waited_for_front(front_jobs(logs), intended[place], requests[:, records.ENQUEUE_NS])
    parse_ns = np.rint(lines.parse.at(requests[:, records.ROWS])).astype(np.int64)
    return ClientParts(
        send_ns=requests[:, records.ENQUEUE_NS] - parse_ns - waited_ns - intended[place],
        receive_ns=received[place] - answers.modelled_ns(lines),
        waited_ns=waited_ns,
        queue=requests[:, records.QUEUE],
        rows=requests[:, records.ROWS],
        weight=np.where((beside_crowd(logs) | rested(logs))[span_of(spans, place)], 0.0, 1.0 / answers.size),
    )


def span_of(spans: Sequence[ClientRows], place: Ints) -> Ints:
    """Which replay each of the generator's rows, all replays in one, belongs to."""
    return np.searchsorted(np.cumsum([len(span) for span in spans]), place, "right")


def beside_crowd(logs: Logs) -> Bools:
    """By replay, whether busy neighbours took part; none of them if there is no replay without.

    Neighbours may leave front and generator no core of their own. What a client then waits for is
    that, and not what it adds where the deployment fits its machine, which is all a profile promises.
    """
    dispatched = np.sort(column(logs.batches, "dispatch_ns")[column(logs.batches, "queue") == QUEUES.index(CROWD)])
    bounds = np.array([(span.client.start_ns, span.client.end_ns) for span in logs.spans]).reshape(-1, 2)
    taking = np.diff(np.searchsorted(dispatched, bounds), axis=1)[:, 0] > 0
    return taking & (not taking.all())


def rested(logs: Logs) -> Bools:
    """By replay, whether it let the replica rest: front and client then slept as well, longer than under load."""
    return np.array([span.rested for span in logs.spans], bool)


def waited_for_front(jobs: Jobs, intended_ns: Ints, enqueue_ns: Ints) -> Ints:
    """How long the front worked on other things between a request's intended instant and its enqueue.

    From the intended instant, since a generator that shares the front's core sends only when the front rests.
    """
    own_ns = enqueue_ns - np.maximum(jobs.start_of(enqueue_ns), intended_ns)
    return np.asarray(jobs.worked_ns(enqueue_ns) - jobs.worked_ns(intended_ns) - own_ns, np.int64)


def quantiles_us(values_ns: npt.NDArray[np.generic], weights: Floats) -> list[float]:
    """Quantiles at 0, 1, ..., 100 %, in us, for drawing from by straight lines between them; zeros if there are none.

    The outermost are not the extremes but such that the outermost hundredths keep their means: a line
    from the 99th percentile up to one stall of a second would make one draw in 200 half a second.
    """
    if not len(values_ns):
        return [0.0] * len(QUANTILES)
    order = np.argsort(values_ns)
    values, mass = values_ns[order].astype(np.float64), np.concatenate([[0.0], np.cumsum(weights[order])])
    share = mass / mass[-1]
    found = np.interp(QUANTILES, (share[1:] + share[:-1]) / 2, values)
    below = np.interp([QUANTILES[1], QUANTILES[-2]], share, np.concatenate([[0.0], np.cumsum(values * np.diff(share))]))
    total = float(np.sum(values * np.diff(share)))
    found[0] = min(found[1], 2 * below[0] / QUANTILES[1] - found[1])
    found[-1] = max(found[-2], 2 * (total - below[1]) / (1 - QUANTILES[-2]) - found[-2])
    return [rounded(v / 1000, 4) for v in found]


def client_costs(parts: Sequence[Logs], lines: FrontLines, bytes_in: int) -> ClientCosts:
    """What clients add under the engine's own load; every batch counts once, however many it answers.

    What a request waited for a front at work on others is taken out of `send`: the simulator finds it.
    Leaving such requests out instead would leave out the late ones, which meet more of that work.
    """
    found = [client_parts(logs, lines) for logs in parts]
    send, receive, rows, weight = (
        np.concatenate([getattr(p, name) for p in found]) for name in ("send_ns", "receive_ns", "rows", "weight")
    )
    row_ns = median_line(rows[weight > 0], send[weight > 0]).slope
    cpu_s = sum(span.client.cpu_s for logs in parts for span in logs.spans)
    count = sum(len(span.client) for logs in parts for span in logs.spans)
    return ClientCosts(
        send_us=quantiles_us(send - rows * row_ns, weight),
        send_us_per_kib=rounded(row_ns / 1000 / (bytes_in / 1024)),
        receive_us=quantiles_us(receive, weight),
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
