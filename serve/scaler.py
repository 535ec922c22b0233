"""The scaler: from what queues count to what an autoscaler decides at each tick, sans-IO (rule 13).

It is told scrapes and replicas with their instants, and says how many replicas are wanted and why. The simulator drives
it under its clock (`sim.control`), an engine that scales its own replicas under the wall's (`serve.scaling`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_type_hints

from serve import autoscaler as files
from serve.policy.codes import NEVER_NS
from serve.policy.scaling import (
    hpa,
    hpa_replicas,
    idle,
    keda,
    kpa,
    predictive,
    ray_serve,
    scheduled,
    skyserve,
    target_tracking,
)
from serve.policy.scaling.decision import Decision
from serve.policy.scaling.metering import Counters, Gauges, Scrape, Scrapes
from serve.policy.scaling.nanoseconds import SECOND_NS

Autoscaler = (
    files.Hpa
    | files.Keda
    | files.Kpa
    | files.RayServe
    | files.SkyServe
    | files.TargetTracking
    | files.Scheduled
    | files.Predictive
    | files.Idle
)
"""The kinds that are driven."""


class ReplicaView(NamedTuple):
    """A replica as an autoscaler sees it: `queue` is the one that feeds it, `ready_ns` None while it starts, `spot`
    whether its provider may take its machine back."""

    queue: int
    started_ns: int
    ready_ns: int | None = None
    leaving: bool = False
    spot: bool = False


class Reading(NamedTuple):
    """One scrape of all queues together: what was counted since the one before, and the gauges."""

    at_ns: int
    span_ns: int
    counted: Counters
    gauges: Gauges


class Totals:
    """Scrapes of all queues, put together; a queue that went takes nothing away."""

    def __init__(self, keep_ns: int) -> None:
        self._keep_ns = keep_ns
        self._last: dict[int, Counters] = {}
        self._readings: deque[Reading] = deque()
        self._at_ns = 0
        self.arrivals = 0
        self.held = 0
        """Requests that wait at the router, which no queue has counted yet."""

    def add(self, now_ns: int, scrapes: Mapping[int, Scrape]) -> None:
        """The next scrape of every queue that is there; numbers below 0 are the router's buffers."""
        counted = [0] * len(Counters._fields)
        for queue, scrape in scrapes.items():
            before = self._last.get(queue, Counters())
            if scrape.counters.arrivals < before.arrivals or scrape.counters.busy_ns < before.busy_ns:
                before = Counters()  # another one took its place
            counted = [n + b - a for n, a, b in zip(counted, before, scrape.counters, strict=True)]
        self._last = {queue: scrape.counters for queue, scrape in scrapes.items()}
        self.held = sum(scrape.gauges.waiting for queue, scrape in scrapes.items() if queue < 0)
        gauges = Gauges(*(sum(values) for values in zip(*(s.gauges for s in scrapes.values()), strict=True)))
        reading = Reading(now_ns, now_ns - self._at_ns, Counters(*counted), gauges)
        self._at_ns = now_ns
        self.arrivals += reading.counted.arrivals
        self._readings.append(reading)
        while self._readings[0].at_ns <= now_ns - self._keep_ns:
            self._readings.popleft()

    def over(self, now_ns: int, window_ns: int) -> Sequence[Reading]:
        """The readings whose time ended within the last `window_ns`."""
        return [reading for reading in self._readings if reading.at_ns > now_ns - window_ns]

    def age_ns(self, now_ns: int, hidden_ns: int) -> int | None:
        """How old the newest reading is that is at least `hidden_ns` old; None: there is none."""
        seen = [reading.at_ns for reading in self._readings if reading.at_ns <= now_ns - hidden_ns]
        return now_ns - seen[-1] if seen else None

    @property
    def gauges(self) -> Gauges:
        """Of the last scrape."""
        return self._readings[-1].gauges if self._readings else Gauges()


def concurrency(readings: Sequence[Reading]) -> float:
    """Requests in flight, the time-weighted mean."""
    span_ns = sum(reading.span_ns for reading in readings)
    return sum(reading.counted.ongoing_ns for reading in readings) / span_ns if span_ns else 0.0


def arrival_rate(readings: Sequence[Reading]) -> float:
    """Requests per second."""
    span_ns = sum(reading.span_ns for reading in readings)
    return sum(reading.counted.arrivals for reading in readings) * SECOND_NS / span_ns if span_ns else 0.0


@dataclass(frozen=True, slots=True)
class _Tick:
    """What a sample is made of."""

    now_ns: int
    replicas: Sequence[ReplicaView]

    @property
    def counted(self) -> int:
        """Replicas that are set: up or starting."""
        return sum(not replica.leaving for replica in self.replicas)

    @property
    def ready(self) -> int:
        """Of those, the ones that serve."""
        return sum(not replica.leaving and replica.ready_ns is not None for replica in self.replicas)


class Scaler:
    """One model's autoscaler with what it has scraped.

    Parameters
    ----------
    autoscaler : as the deployment's file says it.
    bounds : fewest and most replicas.
    threads : of a replica, which are the cores that it requests.
    starts_ns : Unix time at instant 0; only a schedule looks at it.

    `scrape_ns` and `tick_ns` are how long until `scrape` and `decide` want to be called again, the former first at one
    instant; NEVER_NS of one that goes by event.
    """

    def __init__(self, autoscaler: Autoscaler, bounds: files.Bounds, threads: int, starts_ns: int = 0) -> None:
        self._of, self._threads = autoscaler, threads
        self.scrape_ns, self._tick_ns, keep_ns = _clock(autoscaler)
        self._totals = Totals(keep_ns)
        self._queues: dict[int, Scrapes] = {}
        self._policy = policy_of(autoscaler, bounds, starts_ns)
        self._sample = _SAMPLES.get(type(autoscaler))

    @property
    def tick_ns(self) -> int:
        """Time to the next tick."""
        return self._policy.interval_ns() if isinstance(self._policy, skyserve.SkyServe) else self._tick_ns

    def scrape(self, now_ns: int, scrapes: Mapping[int, Scrape]) -> None:
        """The counters of every queue, now."""
        self._totals.add(now_ns, scrapes)
        if not isinstance(self._of, files.Hpa):
            return
        for queue, scrape in scrapes.items():
            known = self._queues.get(queue)
            last = None if known is None else known.seen(now_ns, 0)
            if known is None or last is None or last.counters.busy_ns > scrape.counters.busy_ns:
                known = self._queues[queue] = Scrapes(self._of.scrape + self._of.age)
            known.add(scrape)

    def decide(self, now_ns: int, replicas: Sequence[ReplicaView]) -> Decision:
        """How many replicas are wanted now."""
        return self.answer(self.sample(now_ns, replicas))

    def sample(self, now_ns: int, replicas: Sequence[ReplicaView]) -> Any:
        """What the policy may know now; of the type `sample_type`."""
        assert self._sample is not None, "goes by event"
        return self._sample(self, _Tick(now_ns, replicas))

    def answer(self, sample: Any) -> Decision:
        """What the policy says to a sample."""
        decision: Decision = self._policy.decide(sample)
        return decision

    def age_ns(self, now_ns: int) -> int | None:
        """How old the newest scrape is that a tick sees; None: it sees none."""
        hidden_ns = self._of.age if isinstance(self._of, files.Hpa) else 0
        return self._totals.age_ns(now_ns, hidden_ns)

    @property
    def idle_after_ns(self) -> int | None:
        """How long after the last request has left `idle` wants to be called; None: it goes by ticks."""
        return self._of.after if isinstance(self._of, files.Idle) else None

    def idle(self, now_ns: int) -> Decision:
        """What is decided when nothing has been present for so long."""
        return self.answer(idle.IdleSample(now_ns, 0))

    def wake(self, now_ns: int, replicas: Sequence[ReplicaView], waiting: int) -> Decision | None:
        """What is decided at once when a request finds no replica, outside of any tick; None: the next tick is soon
        enough. Knative's activator tells its autoscaler, and `idle` knows nothing else."""
        if isinstance(self._of, files.Idle):
            called: Decision = self._policy.decide(idle.IdleSample(now_ns, waiting))
            return called
        if not isinstance(self._of, files.Kpa):
            return None
        tick, load = _Tick(now_ns, replicas), float(max(1, waiting))
        decision: Decision = self._policy.decide(kpa.KpaSample(now_ns, tick.ready, tick.counted, load, load))
        return decision

    # -- samples, by kind ----------------------------------------------------------------------------

    def _hpa(self, tick: _Tick) -> hpa.HpaSample:
        of = self._of
        assert isinstance(of, files.Hpa)
        per_queue: dict[int, int] = {}
        for replica in tick.replicas:
            per_queue[replica.queue] = per_queue.get(replica.queue, 0) + (replica.ready_ns is not None)
        readings = []
        if of.cpu is not None:
            readings.append(hpa.Reading(per_pod=tuple(self._cpu(of, r, per_queue, tick) for r in tick.replicas)))
        for gauge, target in (("ongoing", of.ongoing), ("waiting", of.waiting)):
            if target is not None:
                values = tuple(self._gauge(of, gauge, r, per_queue, tick) for r in tick.replicas)
                readings.append(hpa.Reading(per_pod=values))
        pods = tuple(
            hpa_replicas.Pod(
                started_ns=r.started_ns,
                ready_changed_ns=r.started_ns if r.ready_ns is None else r.ready_ns,
                ready=r.ready_ns is not None,
                deleting=r.leaving,
                request_milli=self._threads * 1000,
            )
            for r in tick.replicas
        )
        return hpa.HpaSample(tick.now_ns, tick.counted, tick.counted, tuple(readings), pods)

    def _cpu(
        self, of: files.Hpa, replica: ReplicaView, sharing: Mapping[int, int], tick: _Tick
    ) -> hpa_replicas.PodMetric | None:
        """What its queue's replicas computed, each as much, in thousandths of a core; truncated to whole per cent."""
        scrapes = self._queues.get(replica.queue)
        change = None if scrapes is None else scrapes.over(tick.now_ns, of.age, of.scrape)
        if change is None or scrapes is None or replica.ready_ns is None:
            return None
        percent = change.counters.busy_ns * 100 // (change.span_ns * max(1, sharing[replica.queue]))
        seen = scrapes.seen(tick.now_ns, of.age)
        assert seen is not None, "what changed was seen"
        return hpa_replicas.PodMetric(percent * 10 * self._threads, seen.at_ns, change.span_ns)

    def _gauge(
        self, of: files.Hpa, name: str, replica: ReplicaView, sharing: Mapping[int, int], tick: _Tick
    ) -> hpa_replicas.PodMetric | None:
        scrapes = self._queues.get(replica.queue)
        seen = None if scrapes is None else scrapes.seen(tick.now_ns, of.age)
        if seen is None or replica.ready_ns is None:
            return None
        value = getattr(seen.gauges, name) * 1000 // max(1, sharing[replica.queue])
        return hpa_replicas.PodMetric(value, seen.at_ns, of.scrape)

    def _keda(self, tick: _Tick) -> keda.KedaSample:
        of = self._of
        assert isinstance(of, files.Keda)
        values = tuple(1000 * int(getattr(self._totals.gauges, trigger.metric)) for trigger in of.triggers)
        return keda.KedaSample(tick.now_ns, tick.counted, tick.counted, values)

    def _kpa(self, tick: _Tick) -> kpa.KpaSample:
        of = self._of
        assert isinstance(of, files.Kpa)
        mean = arrival_rate if of.metric == "rps" else concurrency
        stable = self._totals.over(tick.now_ns, of.stable_window)
        panic = self._totals.over(tick.now_ns, round(of.stable_window * of.panic_window))
        return kpa.KpaSample(tick.now_ns, tick.ready, tick.counted, mean(stable), mean(panic), bool(stable))

    def _ray(self, tick: _Tick) -> ray_serve.RayServeSample:
        """The mean of what was pushed, each push until the next."""
        of = self._of
        assert isinstance(of, files.RayServe)
        pushed = self._totals.over(tick.now_ns, of.look_back)
        if not pushed:
            return ray_serve.RayServeSample(tick.now_ns, tick.ready, tick.counted, 0.0)
        until = [reading.at_ns for reading in pushed[1:]] + [tick.now_ns]
        spans = [
            (max(1, end - reading.at_ns), reading.gauges.ongoing) for reading, end in zip(pushed, until, strict=True)
        ]
        ongoing = sum(span * value for span, value in spans) / sum(span for span, _ in spans)
        return ray_serve.RayServeSample(tick.now_ns, tick.ready, tick.counted, ongoing)

    def _sky(self, tick: _Tick) -> skyserve.SkyServeSample:
        """What has arrived is counted in whole reports."""
        of = self._of
        assert isinstance(of, files.SkyServe)
        reported = self._totals.over(tick.now_ns, of.window)
        requests = sum(reading.counted.arrivals for reading in reported) + self._totals.held
        ready = sum(r.spot and not r.leaving and r.ready_ns is not None for r in tick.replicas)
        return skyserve.SkyServeSample(tick.now_ns, requests, ready)

    def _tracking(self, tick: _Tick) -> target_tracking.TargetTrackingSample:
        of = self._of
        assert isinstance(of, files.TargetTracking)
        readings = self._totals.over(tick.now_ns, of.period)
        span_ns = sum(reading.span_ns for reading in readings)
        if not readings or not tick.ready:
            return target_tracking.TargetTrackingSample(tick.now_ns, tick.counted, 0.0, has_data=False)
        total = concurrency(readings)
        if of.metric == "cpu":
            total = 100.0 * sum(reading.counted.busy_ns for reading in readings) / span_ns
        return target_tracking.TargetTrackingSample(tick.now_ns, tick.counted, total / tick.ready)

    def _scheduled(self, tick: _Tick) -> scheduled.ScheduledSample:
        return scheduled.ScheduledSample(tick.now_ns, tick.counted)

    def _predictive(self, tick: _Tick) -> predictive.PredictiveSample:
        return predictive.PredictiveSample(tick.now_ns, self._totals.arrivals, tick.counted)


_POLICIES: dict[type, type] = {
    files.Hpa: hpa.Hpa,
    files.Keda: keda.Keda,
    files.Kpa: kpa.Kpa,
    files.RayServe: ray_serve.RayServe,
    files.SkyServe: skyserve.SkyServe,
    files.TargetTracking: target_tracking.TargetTracking,
    files.Predictive: predictive.Predictive,
    files.Idle: idle.Idle,
}

_SAMPLES: dict[type, Callable[[Scaler, _Tick], Any]] = {
    files.Hpa: Scaler._hpa,
    files.Keda: Scaler._keda,
    files.Kpa: Scaler._kpa,
    files.RayServe: Scaler._ray,
    files.SkyServe: Scaler._sky,
    files.TargetTracking: Scaler._tracking,
    files.Scheduled: Scaler._scheduled,
    files.Predictive: Scaler._predictive,
}


def policy_of(autoscaler: Autoscaler, bounds: files.Bounds, starts_ns: int = 0) -> Any:
    """The policy that a file's autoscaler stands for, with a state of its own; it has `decide(sample)`."""
    if isinstance(autoscaler, files.Scheduled):
        return scheduled.Scheduled(autoscaler.settings(bounds, starts_ns))
    return _POLICIES[type(autoscaler)](autoscaler.settings(bounds))


def sample_type(autoscaler: Autoscaler) -> Any:
    """What its policy's samples are: a NamedTuple."""
    return get_type_hints(_SAMPLES[type(autoscaler)])["return"]


def _clock(of: Autoscaler) -> tuple[int, int, int]:
    """(between scrapes, between ticks, how long readings are needed), in ns."""
    if isinstance(of, files.Hpa):
        return of.scrape, of.interval, of.scrape + of.age
    if isinstance(of, files.Keda):
        tick_ns = min(of.polling, of.interval)
        return tick_ns, tick_ns, tick_ns
    if isinstance(of, files.Kpa):
        return of.scrape, of.tick, of.stable_window
    if isinstance(of, files.RayServe):
        return of.push, of.loop, of.look_back + of.push
    if isinstance(of, files.SkyServe):
        return of.report, of.interval, of.window
    if isinstance(of, files.TargetTracking):
        return of.period, of.period, of.period
    if isinstance(of, files.Idle):
        return NEVER_NS, NEVER_NS, 0
    return of.interval, of.interval, of.interval
