"""A look at the machine just before a prediction: the deployment itself, for seconds, under other arrivals of its law.

Virtual machines drift by several per cent over minutes, and what a batch takes depends on the sizes and
the rests before it (docs/calibration.md). So the look is at the load that is about to come. Of the look only its
batches' service times and the front's CPU time are used, relative to the profile's: the prediction stays the profile's,
at the machine's level. Emulated replicas take the very times that they draw, but wake late: by how much, on average, is
what is looked for in their place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from planner.arrivals import draw
from planner.subject import Subject
from serve import machine, records
from serve.backends.contract import DEFAULT_SEED
from serve.backends.emulated import draw as draw_of_batch
from serve.calibration import front_work
from serve.calibration.samples import column, idle_before
from serve.cold import cold_ns
from serve.loadgen import LoadGenerator
from serve.records import Rows
from serve.scratch import scratch

if TYPE_CHECKING:
    from sim.level import Level

Floats = npt.NDArray[np.float64]

SEED_OFFSET = 0x6C6F6F6B  # "look": its arrivals are others than those that are predicted
BATCHES_MIN = 20
"""Fewer batches say nothing of the machine."""
STALLED = 3.0
"""Batches that took so many times the median were not cold, but preempted."""
COLD_PRIOR = 0.02
COLD_MAX = 3.0


def look(subject: Subject, seconds: float) -> Level | None:
    """How fast replicas and front are under this load, and what idleness adds (how late emulated ones wake); none if
    there were too few batches to tell.

    Raises
    ------
    EngineError, LoadError : the engine did not start.
    """
    from serve.request_log import read_batches, read_requests  # pyarrow is slow to import
    from sim.level import Level

    model = subject.deployment.models[subject.name]
    arrivals = draw(subject.planned.workload, model, subject.path.parent, subject.seed + SEED_OFFSET)
    plan = arrivals.plan(subject.name, subject.inputs(), round(seconds * 1e9))
    with scratch() as logs:
        with (
            subject.launch(logs) as live,
            LoadGenerator(live.url, cpus=subject.generator_cores) as generator,
        ):
            before_s = sum(map(machine.process_cpu_s, live.fronts))
            generator.replay(plan)
            front_s = sum(map(machine.process_cpu_s, live.fronts)) - before_s
        batches, requests = read_batches(logs), read_requests(logs)
    front = front_work.level(front_work.Work.of(requests, len(batches), front_s), subject.profile.front)
    if subject.emulated:
        late_ns = lateness_ns(subject, batches, requests)
        return None if late_ns is None else Level(1.0, seconds, front=front, late_ns=late_ns)
    seen = seen_of(subject, batches)
    if len(seen.took) < BATCHES_MIN:
        return None
    level, cold = fit(seen)
    return Level(level, seconds, cold, front)


def lateness_ns(subject: Subject, batches: Rows, requests: Rows) -> int | None:
    """How much longer than they drew emulated replicas took, on average, their late wake-ups included; none if there
    were too few batches."""
    from serve.files import bound
    from serve.profile_samples import ServiceTimes, load_samples

    if len(batches) < BATCHES_MIN:
        return None
    samples = load_samples(bound(subject.profile_path, "samples", subject.profile.samples))
    times = ServiceTimes(samples, subject.deployment.models[subject.name].replicas.threads)
    ordered = requests[np.lexsort((requests[:, records.REQUEST], requests[:, records.BATCH]))]
    led = ordered[np.diff(ordered[:, records.BATCH], prepend=-2) != 0]  # by its lowest id: the first that came
    leader = dict(zip(led[:, records.BATCH].tolist(), led[:, records.REQUEST].tolist(), strict=True))
    facts = np.stack([column(batches, name) for name in ("batch", "rows", "busy")], axis=1).tolist()
    shares = [draw_of_batch(DEFAULT_SEED, leader[batch]) for batch, _, _ in facts]
    drawn_ns = np.array([times.service_ns(r, b, u) for (_, r, b), u in zip(facts, shares, strict=True)])
    took_ns = took_ns_of(batches)
    usual = took_ns < STALLED * drawn_ns
    return max(0, round(float((took_ns - drawn_ns)[usual].mean())))


@dataclass(frozen=True, slots=True)
class Seen:
    """Of each batch, relative to its size's warm time: what it took, and what idleness would add by the profile."""

    took: Floats
    cold: Floats


def seen_of(subject: Subject, batches: Rows) -> Seen:
    """The batches of sizes and neighbours that the profile knows."""
    threads = subject.deployment.models[subject.name].replicas.threads
    known = {(c.busy, c.rows): c.busy_ms * 1e6 for c in subject.profile.service if c.threads == threads}
    rows, busy = column(batches, "rows"), column(batches, "busy")
    known_ns = np.array([known.get((int(b), int(r)), math.nan) for b, r in zip(busy, rows, strict=True)], np.float64)
    took_ns = took_ns_of(batches)
    extra_ns = cold_ns(idle_before(batches), subject.profile.cold_us)
    told = np.isfinite(known_ns)
    took, extra = (took_ns / known_ns)[told], (extra_ns / known_ns)[told]
    usual = took < STALLED * np.median(took) if len(took) else np.zeros(0, bool)
    return Seen(took[usual], extra[usual])


def took_ns_of(batches: Rows) -> Floats:
    """Service times as the profile means them: to the front's notice, which is late where the front was at work; the
    simulator's front accounts for that."""
    end_ns = column(batches, "end_ns")
    notice_ns = float(np.median(column(batches, "seen_ns") - end_ns)) if len(batches) else 0.0
    return np.asarray(end_ns - column(batches, "start_ns") + notice_ns, np.float64)


def fit(seen: Seen) -> tuple[float, float]:
    """(level, cold): how much longer than in the profile batches take, and idleness adds, by least squares.

    How cold a cache grows in a millisecond is the work of strangers, and how deep a core sleeps depends on how long it
    has been resting of late. As strong as COLD_PRIOR of the batches pulls the assumption that idleness adds what it
    did, so that a look at replicas that never rested says nothing of it.
    """
    from scipy import optimize

    pull = math.sqrt(COLD_PRIOR * float(seen.cold @ seen.cold))
    matrix = np.stack([np.append(np.ones(len(seen.took)), 0.0), np.append(seen.cold, pull)], axis=1)
    (level, cold), _ = optimize.nnls(matrix, np.append(seen.took, pull))
    return float(level), float(min(cold, COLD_MAX)) if pull else 1.0
