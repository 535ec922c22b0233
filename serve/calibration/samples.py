"""From one launch's logs to samples: one row a batch, its service time split into the parts it is made of.

Pure. The service time of a batch runs from the dispatch decision to the instant at which the front
sees it completed, since all of that holds the replica:

    dispatch --wake--> begin --compute--> end --notice--> seen

`wake` is the front's writing of the tensors and message and the replica's waking up for it, `notice`
the message back and the front's waking up. If the front is working on something else when the batch
ends, `notice` also holds that work, which the simulator's front station accounts for already: such
a notice is replaced by one measured while the front was free (`front_busy` marks it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serve import records
from serve.calibration.rig import QUEUES, Logs
from serve.policy.codes import OUTCOME_OK
from serve.records import Rows
from serve.request_log import BATCH_COLUMNS

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

SAMPLE_COLUMNS = (
    "threads", "busy", "rows", "at_s", "service_ns", "wake_ns", "compute_ns", "notice_ns", "idle_ns", "requests",
    "apart", "rested", "front_busy", "met", "replica", "model",
)  # fmt: skip
"""Columns of the samples' file.

`idle_ns`: how long the replica had been idle (-1: it had never worked); `requests`: how many the batch held; `apart`: 0
if the clients' requests were meant to join, so that holding one is chance; `rested`: 1 if the client let the replica
idle for long, to see what that costs; `met`: other batches of the machine that ran
at some time during it; `model`: 0 solo, 2 crowd (`rig.QUEUES`).
"""

NEAR_NS = 100_000
"""A front job that ended less than this before a batch's end counts as disturbing its notice: its tail is unstamped."""
CLEAN_MIN = 20


@dataclass(frozen=True, slots=True)
class Jobs:
    """What one station did, one after the other: ascending, none overlapping the next."""

    starts: Ints
    ends: Ints

    @classmethod
    def of(cls, starts: Ints, ends: Ints) -> Jobs:
        """From the jobs of a single thread in any order: none can have begun before the one that ended before it."""
        order = np.argsort(ends, kind="stable")
        ends = ends[order]
        begun = np.maximum(starts[order], np.concatenate([starts[order][:1], ends[:-1]]))
        return cls(np.minimum(begun, ends), ends)

    def meeting(self, after_ns: Ints, before_ns: Ints) -> Ints:
        """How many jobs begin before `before_ns` and end after `after_ns`."""
        return np.searchsorted(self.starts, before_ns, "left") - np.searchsorted(self.ends, after_ns, "right")

    def start_of(self, end_ns: Ints) -> Ints:
        """When the jobs that end at these instants began."""
        return self.starts[np.searchsorted(self.ends, end_ns)]

    def worked_ns(self, until_ns: Ints) -> Ints:
        """Time that the station has worked before each instant."""
        if not len(self.ends):
            return np.zeros(len(until_ns), np.int64)
        before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        current = np.searchsorted(self.starts, until_ns, "right") - 1
        partly = np.minimum(until_ns, self.ends[current]) - self.starts[current]
        return np.where(current < 0, 0, before[current] + partly)


def column(batches: Rows, name: str) -> Ints:
    """One column of the batch log."""
    return batches[:, BATCH_COLUMNS.index(name)]


def finish_jobs(logs: Logs) -> Jobs:
    """Finish jobs of one launch: from seeing the batch completed to its last answer."""
    last_answer = _last_answers(logs.requests, logs.batches)
    return Jobs.of(column(logs.batches, "seen_ns"), np.maximum(last_answer, column(logs.batches, "finished_ns")))


def front_jobs(logs: Logs) -> Jobs:
    """Parse jobs (arrival, or the job before in the same loop iteration, to enqueue) and finish jobs of one launch."""
    parsed = logs.requests[logs.requests[:, records.ENQUEUE_NS] >= 0]
    finish = finish_jobs(logs)
    return Jobs.of(
        np.concatenate([parsed[:, records.ARRIVAL_NS], finish.starts]),
        np.concatenate([parsed[:, records.ENQUEUE_NS], finish.ends]),
    )


def _keys(queue: Ints, batch: Ints) -> Ints:
    return batch * len(QUEUES) + queue


def _last_answers(requests: Rows, batches: Rows) -> Ints:
    """Instant of the last answer of each batch; -1 if none was."""
    answered = requests[requests[:, records.OUTCOME] == OUTCOME_OK]
    keys = _keys(column(batches, "queue"), column(batches, "batch"))
    order = np.argsort(keys)
    found = order[np.searchsorted(keys[order], _keys(answered[:, records.QUEUE], answered[:, records.BATCH]))]
    last = np.full(len(batches), -1, np.int64)
    np.maximum.at(last, found, answered[:, records.ANSWERED_NS])
    return last


def requests_per_batch(requests: Rows, batches: Rows) -> Ints:
    """How many requests each batch held."""
    keys = _keys(column(batches, "queue"), column(batches, "batch"))
    served = requests[requests[:, records.BATCH] >= 0]
    held, counts = np.unique(_keys(served[:, records.QUEUE], served[:, records.BATCH]), return_counts=True)
    place = np.clip(np.searchsorted(held, keys), 0, max(0, len(held) - 1))
    return np.where(held[place] == keys, counts[place], 0) if len(held) else np.zeros(len(keys), np.int64)


def idle_before(batches: Rows) -> Ints:
    """How long each batch's replica had been idle when the batch was dispatched; -1 for its first."""
    replica = column(batches, "queue") * (1 << 20) + column(batches, "replica")
    dispatch_ns, end_ns = column(batches, "dispatch_ns"), column(batches, "end_ns")
    order = np.lexsort((dispatch_ns, replica))
    idle = np.full(len(batches), -1, np.int64)
    same = replica[order][1:] == replica[order][:-1]
    gaps = dispatch_ns[order][1:] - end_ns[order][:-1]
    idle[order[1:][same]] = np.maximum(gaps[same], 0)
    return idle


def of_replay(logs: Logs, at_ns: Ints) -> tuple[Bools, Bools]:
    """Whether each instant lies in a replay whose requests were kept apart; whose replica was let rest."""
    spans = sorted((s.client.start_ns, s.client.end_ns, s.apart, s.rested) for s in logs.spans)
    starts, ends, apart, rested = (np.array([span[k] for span in spans]) for k in range(4))
    place = np.clip(np.searchsorted(starts, at_ns, "right") - 1, 0, None)
    inside = (at_ns >= starts[place]) & (at_ns <= ends[place])
    return np.asarray(apart[place] & inside), np.asarray(rested[place] & inside)


def samples_of(logs: Logs, null: bool = False, seed: int = 0) -> Columns:
    """The samples of one launch: of the model (or, if `null`, of the null model), in order of dispatch.

    `at_s` is CLOCK_MONOTONIC here; `merge` makes it count from the start of the calibration.
    """
    chosen = (column(logs.batches, "queue") == QUEUES.index("null")) == null
    held = requests_per_batch(logs.requests, logs.batches)[chosen]
    idle = idle_before(logs.batches)[chosen]
    batches = logs.batches[chosen]
    dispatch_ns, begin_ns, end_ns, seen_ns = (
        column(batches, name) for name in ("dispatch_ns", "begin_ns", "end_ns", "seen_ns")
    )
    disturbed = front_jobs(logs).meeting(end_ns - NEAR_NS, seen_ns) > 0
    notice_ns = free_notice(seen_ns - end_ns, disturbed, column(batches, "busy"), seed)
    order = np.argsort(dispatch_ns, kind="stable")
    apart, rested = of_replay(logs, dispatch_ns)
    columns: Columns = {
        "threads": np.full(len(batches), logs.threads, np.int64),
        "busy": column(batches, "busy"),
        "rows": column(batches, "rows"),
        "at_s": dispatch_ns / 1e9,
        "service_ns": end_ns - dispatch_ns + notice_ns,
        "wake_ns": begin_ns - dispatch_ns,
        "compute_ns": end_ns - begin_ns,
        "notice_ns": seen_ns - end_ns,
        "idle_ns": idle,
        "requests": held,
        "apart": apart.astype(np.int64),
        "rested": rested.astype(np.int64),
        "front_busy": disturbed.astype(np.int64),
        "met": others_met(dispatch_ns, end_ns),
        "replica": column(batches, "replica"),
        "model": column(batches, "queue"),
    }
    return {name: columns[name][order] for name in SAMPLE_COLUMNS}


def others_met(dispatch_ns: Ints, end_ns: Ints) -> Ints:
    """How many other batches ran at some time during each one."""
    begun_before_end = np.searchsorted(np.sort(dispatch_ns), end_ns, "left")
    ended_before_begin = np.searchsorted(np.sort(end_ns), dispatch_ns, "right")
    return np.asarray(begun_before_end - ended_before_begin - 1, np.int64)


def free_notice(notice_ns: Ints, disturbed: Bools, busy: Ints, seed: int) -> Ints:
    """Notices as a free front would have given them: disturbed ones are drawn from the others at the same `busy`.

    Where fewer than CLEAN_MIN are undisturbed, all stay as they are.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x0071CE,))))
    free = notice_ns.copy()
    for level in np.unique(busy):
        clean = notice_ns[(busy == level) & ~disturbed]
        dirty = (busy == level) & disturbed
        if len(clean) >= CLEAN_MIN:
            free[dirty] = rng.choice(clean, int(dirty.sum()))
    return free


def merge(parts: list[Columns]) -> Columns:
    """Samples of several launches together, `at_s` counted from the first dispatch of all."""
    merged = {name: np.concatenate([part[name] for part in parts]) for name in SAMPLE_COLUMNS}
    at_s = merged["at_s"].astype(np.float64)
    merged["at_s"] = at_s - at_s.min() if len(at_s) else at_s
    return merged


def where(samples: Columns, mask: Bools) -> Columns:
    """The samples that a mask picks."""
    return {name: values[mask] for name, values in samples.items()}
