"""One replication: a plane fed and driven to the end of the load, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve.errors import SpecError
from serve.policy.codes import OUTCOME_OK
from sim import invariants
from sim.control import Control
from sim.drawing import closed_chunks, open_chunks
from sim.error_budget import bins_of
from sim.history import History
from sim.model_plans import model_plans
from sim.plane import Plane, Requests, Stop, StopCode
from sim.planes import build_plane
from sim.scenario import Engine
from sim.setup import Setup
from sim.tally import NO_FINE, SUM_LATENCY_S, Floats, Ints, Tally
from sim.verdict import unbounded
from sim.workload import Load

TIME_BINS = 40
"""Time bins of the load; one more takes what is later."""

_DRAIN_NS = 10**9
_FOREVER_NS = 2**60
_STUCK_NS = 3600 * 10**9
"""If for longer than this, and than the load, none of those that are left has left, none will."""


@dataclass(frozen=True, slots=True)
class Replication:
    """A finished replication: its tally with the histograms cut to the bins in use, and the state at the load's end."""

    tally: Tally
    latency_first: int  # number of the first histogram bin kept
    in_time: Ints
    """(classes, time bins): ok requests that were answered before the load ended; all of them where the queue is
    bounded and none can be much later."""
    fed: int  # open requests that arrived
    tau_ns: Floats  # what its bootstrap made of service times: `Drawn.tau_ns`
    alone_ns: tuple[tuple[Floats, ...], ...]  # by version, kind of machine and rows, without neighbours
    level_shift: float
    history: History | None = None  # what control did

    @property
    def latency_s(self) -> Floats:
        """Sum of latencies by time bin of the load."""
        sums: Floats = self.tally.sums[:, :TIME_BINS, SUM_LATENCY_S].sum(axis=0)
        return sums

    @property
    def answered(self) -> Ints:
        """Requests answered ok, by time bin of the load."""
        counts: Ints = self.tally.outcomes[:, :TIME_BINS, OUTCOME_OK].sum(axis=0)
        return counts


def run(setup: Setup, replication: int, engine: Engine) -> Replication:
    """Simulate one replication; its chance depends on nothing but the seed and its number."""
    drawn = setup.drawn(replication)
    classes = len(setup.portions)
    bin_ns = -(-setup.load.duration_ns // TIME_BINS)
    estate = setup.estate(drawn, replication)
    plane = build_plane(
        engine,
        estate,
        classes,
        setup.closed,
        TIME_BINS + 1,
        bin_ns,
        setup.slo_ns,
        setup.metered,
        bins_of(setup.load.duration_ns) if any(setup.objectives) else NO_FINE,
    )
    feed = _Feed(plane, setup.load_on(drawn[0][0]), setup.seed, replication)
    control = _controlled(setup, plane, feed, replication)
    feed.run(setup.load.duration_ns)
    at_end = plane.tally() if unbounded(setup) else None
    tally = _drained(plane, feed, setup)
    in_time = (at_end or tally).outcomes[:, :, OUTCOME_OK]
    history = None if control is None else control.history
    one_attempt = setup.router is None or setup.router.attempts == 1
    invariants.check(
        tally, estate, feed.open_fed, open_only=setup.closed is None, one_attempt=one_attempt, history=history
    )
    first, kept = _compact(tally)
    tau_ns = _mean_tau_ns([each.tau_ns for kinds in drawn for each in kinds], estate.rows_max)
    alone_ns = tuple(tuple(each.alone_ns for each in kinds) for kinds in drawn)
    return Replication(kept, first, in_time, feed.open_fed, tau_ns, alone_ns, drawn[0][0].level_shift, history)


def _mean_tau_ns(tau_ns: Sequence[Floats], rows_max: int) -> Floats:
    """Service times of several models put together, up to the largest batch of any: their mean."""
    padded = [np.pad(each, ((0, 0), (0, rows_max + 1 - each.shape[1])), mode="edge") for each in tau_ns]
    mean: Floats = np.mean(padded, axis=0)
    return mean


def _controlled(setup: Setup, plane: Plane, feed: _Feed, replication: int) -> Control | None:
    """All replicas are up from the start; or as many as there are to be, and control goes on from there."""
    if not setup.controlled:
        for slot in (slot for slots in setup.slots for slot in slots):
            plane.ready(slot.replica, slot.node)
        return None
    control = Control(
        plane,
        feed.advance,
        model_plans(setup, replication),
        setup.machines,
        routed=setup.router is not None,
        failing=setup.mishaps.failing(replication),
        markets=setup.mishaps.markets(replication),
    )
    feed.run = control.run
    return control


class _Feed:
    """Hands a plane its requests, a chunk whenever it has run out of one kind."""

    def __init__(self, plane: Plane, load: Load, seed: int, replication: int) -> None:
        self.plane = plane
        self.run: Callable[[int], None] = self._uncontrolled
        self.open_fed = 0
        self._open_until_ns = -1
        self._open: Iterator[Requests] = open_chunks(load, seed, replication) if load.open else iter(())
        self._closed = closed_chunks(load, seed, replication)
        self._open_ended = False
        self._feed_open()
        if load.closed:
            self.plane.feed_closed(next(self._closed))

    def _feed_open(self) -> None:
        requests = next(self._open, None)
        if requests is None:
            self._open_ended = True
            self.plane.end_feed()
        else:
            self.plane.feed(requests)
            self.open_fed += len(requests)
            self._open_until_ns = int(requests.arrival_ns[-1])

    def advance(self, until_ns: int) -> Stop:
        """Advance the plane to an instant, or to where control must react."""
        while (stop := self.plane.advance(until_ns)).code == StopCode.STARVED:
            self._refill(stop)
        return stop

    def _uncontrolled(self, until_ns: int) -> None:
        """Advance the plane to an instant where nothing sets its replicas."""
        stop = self.advance(until_ns)
        assert stop.code == StopCode.UNTIL, f"no control runs, yet the plane stopped for {stop}"

    def _refill(self, stop: Stop) -> None:
        if not self._open_ended and self._open_until_ns <= stop.at_ns:
            self._feed_open()
        else:
            self.plane.feed_closed(next(self._closed))


def _drained(plane: Plane, feed: _Feed, setup: Setup) -> Tally:
    """Advance beyond the load until every open request has left; the tally then.

    Closed-loop clients go on meanwhile, so that the queue stays what it was for those still in it.
    """
    if not setup.load.open:
        return plane.tally()
    if not setup.load.closed and not setup.controlled:
        feed.run(setup.load.duration_ns + _FOREVER_NS)
        return plane.tally()
    opened = [number for number, portion in enumerate(setup.portions) if not setup.load.sources[portion.class_].clients]
    until_ns, step_ns = setup.load.duration_ns, max(_DRAIN_NS, setup.load.duration_ns // TIME_BINS)
    before = -1
    while (left := feed.open_fed - int((tally := plane.tally()).outcomes[opened].sum())) > 0:
        if left == before and step_ns > max(setup.load.duration_ns, _STUCK_NS):
            what = f"{left} requests wait for a replica after the load has ended, and none comes"
            raise SpecError.of("deployment", "models", f"{what}; give them a timeout, or keep one (replicas.min: 1)")
        until_ns, step_ns, before = until_ns + step_ns, 2 * step_ns, left
        feed.run(until_ns)
    return tally


def _compact(tally: Tally) -> tuple[int, Tally]:
    """The tally with its histograms cut to the range in use, in 32 bits: what makes many replications affordable."""
    used = np.flatnonzero(tally.latency.any(axis=(0, 1)))
    first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    return first, replace(tally, latency=tally.latency[:, :, first:end].astype(np.int32))
