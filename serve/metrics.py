"""Prometheus metrics: the engine's plain counters, turned into families when somebody scrapes.

The hot path pays nothing: no metric object is touched by a request. Words are those of
`serve.vocabulary`, with Prometheus' unit and suffix, under `forebay_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from serve.policy.codes import OUTCOME_PENDING, REASON_NONE
from serve.records import Outcome, Reason
from serve.scheduler import Replica
from serve.served import Served

if TYPE_CHECKING:
    from serve.scaling import Scaling

LOG2_FIRST = 14
LOG2_LAST = 36
"""Histograms of times show the bins from 2**14 ns (16 us) to 2**36 ns (69 s); those below and above are folded in."""

DISPATCH_REASONS = (Reason.FULL, Reason.WINDOW, Reason.IDLE, Reason.DRAIN)
DROP_REASONS = tuple(r for r in Reason if r not in DISPATCH_REASONS and r != REASON_NONE)


class EngineView(Protocol):
    """What of the engine is shown."""

    models: dict[str, Served]
    draining: bool

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""


class FrontView(Protocol):
    """What of the HTTP front is shown."""

    @property
    def responses(self) -> Mapping[int, int]:
        """Responses by status code."""

    @property
    def open_connections(self) -> int:
        """Number of clients connected."""


class Metrics:
    """The page that Prometheus scrapes, over a registry of its own."""

    def __init__(self, collector: Collector) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class EngineCollector(Collector):
    """Reads the counters of every model and of the front."""

    def __init__(self, engine: EngineView, front: FrontView) -> None:
        self._engine = engine
        self._front = front

    def collect(self) -> Iterator[Metric]:
        """One family a metric, one sample a model and label."""
        models = list(self._engine.models.values())
        yield gauge("ready", "whether the engine takes requests", float(self._engine.ready))
        yield gauge(
            "draining", "whether the engine answers what it has and takes no more", float(self._engine.draining)
        )
        yield gauge("http_connections", "clients connected", float(self._front.open_connections))
        yield by_label("http_responses", "HTTP responses", "code", self._front.responses)
        yield from _counters(models)
        yield from _gauges(models)
        yield from _histograms(models)


def gauge(name: str, meaning: str, value: float) -> Metric:
    """One gauge without labels."""
    return GaugeMetricFamily(f"forebay_{name}", meaning, value=value)


def by_label(name: str, meaning: str, label: str, counts: Mapping[int, int]) -> Metric:
    """A counter by the values of one label."""
    family = CounterMetricFamily(f"forebay_{name}", meaning, labels=[label])
    for key in sorted(counts):
        family.add_metric([str(key)], counts[key])
    return family


def _counters(models: Iterable[Served]) -> Iterator[Metric]:
    requests = CounterMetricFamily("forebay_requests", "requests by what became of them", labels=["model", "outcome"])
    refused = CounterMetricFamily(
        "forebay_refused", "requests refused or dropped, by reason", labels=["model", "reason"]
    )
    batches = CounterMetricFamily("forebay_batches", "batches by the reason they left", labels=["model", "reason"])
    rows = CounterMetricFamily("forebay_rows", "rows answered ok", labels=["model"])
    busy = CounterMetricFamily("forebay_busy_seconds", "time that replicas computed", labels=["model"])
    deaths = CounterMetricFamily("forebay_replica_deaths", "replicas that died", labels=["model"])
    ups = CounterMetricFamily("forebay_scale_ups", "times that more replicas were set", labels=["model"])
    downs = CounterMetricFamily("forebay_scale_downs", "times that fewer replicas were set", labels=["model"])
    missed = CounterMetricFamily(
        "forebay_scale_ticks_missed", "ticks that were left out after a pause", labels=["model"]
    )
    for served in models:
        counts = served.statistics
        for outcome in Outcome:
            if outcome != OUTCOME_PENDING:
                requests.add_metric([served.name, outcome.name.lower()], counts.outcomes[outcome])
        for reason in DROP_REASONS:
            refused.add_metric([served.name, reason.name.lower()], counts.drop_reasons[reason])
        for reason in DISPATCH_REASONS:
            batches.add_metric([served.name, reason.name.lower()], counts.dispatch_reasons[reason])
        rows.add_metric([served.name], counts.rows)
        busy.add_metric([served.name], counts.busy_ns / 1e9)
        deaths.add_metric([served.name], counts.deaths)
        scaled = (0, 0, 0) if served.scaling is None else served.scaling.moves
        for family, count in zip((ups, downs, missed), scaled, strict=True):
            family.add_metric([served.name], count)
    yield from (requests, refused, batches, rows, busy, deaths, ups, downs, missed)


_GAUGES: tuple[tuple[str, str, Callable[[Served], int]], ...] = (
    ("queue_rows", "rows that wait", lambda s: s.scheduler.waiting_rows),
    ("queue_requests", "requests that wait", lambda s: s.scheduler.waiting_requests),
    ("batches_in_flight", "batches dispatched and not yet finished", lambda s: s.scheduler.in_flight),
    ("replicas_running", "replicas that compute now", lambda s: s.scheduler.running),
    (
        "replicas_up",
        "replicas that can take a batch",
        lambda s: sum(_takes(r) for r in s.scheduler.replicas),
    ),
    ("replicas_draining", "replicas that end what they have", lambda s: sum(r.draining for r in s.scheduler.replicas)),
    ("replicas_counted", "replicas that are set: up or starting", lambda s: _set(s, lambda scaling: scaling.counted)),
    ("replicas", "replicas that are wanted", lambda s: _set(s, lambda scaling: scaling.wanted)),
)


def _takes(replica: Replica) -> bool:
    return replica.up and not replica.draining


def _set(served: Served, read: Callable[[Scaling], int]) -> int:
    """Of what sets the number of replicas, if anything does, else the deployment's own number."""
    return served.config.replicas.count if served.scaling is None else read(served.scaling)


def _gauges(models: Sequence[Served]) -> Iterator[Metric]:
    for name, meaning, read in _GAUGES:
        family = GaugeMetricFamily(f"forebay_{name}", meaning, labels=["model"])
        for served in models:
            family.add_metric([served.name], read(served))
        yield family


def _histograms(models: Iterable[Served]) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        "forebay_latency_seconds", "arrival to the answer written, of requests answered ok", labels=["model"]
    )
    queue = HistogramMetricFamily(
        "forebay_queue_delay_seconds", "enqueue to dispatch, of requests answered ok", labels=["model"]
    )
    compute = HistogramMetricFamily("forebay_compute_seconds", "start to end of a batch", labels=["model"])
    batch = HistogramMetricFamily("forebay_batch_rows", "rows of a batch", labels=["model"])
    for served in models:
        counts = served.statistics
        latency.add_metric([served.name], _log2_buckets(counts.latency_log2), counts.success_ns / 1e9)
        queue.add_metric([served.name], _log2_buckets(counts.queue_log2), counts.queue_ns / 1e9)
        compute.add_metric([served.name], _log2_buckets(counts.service_log2), counts.busy_ns / 1e9)
        by_rows = {rows: batches.count for rows, batches in counts.by_rows.items()}
        buckets, total = rows_buckets(by_rows, served.max_batch)
        batch.add_metric([served.name], buckets, total)
    yield from (latency, queue, compute, batch)


def _log2_buckets(bins: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative buckets of a histogram whose bin k counts 2**(k-1) <= ns < 2**k."""
    cumulative = list(accumulate(bins))
    shown = [(repr(2**k / 1e9), float(cumulative[k])) for k in range(LOG2_FIRST, LOG2_LAST + 1)]
    return [*shown, ("+Inf", float(cumulative[-1]))]


def rows_buckets(by_rows: Mapping[int, int], max_batch: int) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets at the powers of two and at `max_batch`, and the sum of rows."""
    bounds = sorted({2**k for k in range(max(max_batch, 1).bit_length())} | {max(max_batch, 1)})
    shown = [(repr(float(b)), float(sum(n for rows, n in by_rows.items() if rows <= b))) for b in bounds]
    total = float(sum(rows * n for rows, n in by_rows.items()))
    return [*shown, ("+Inf", float(sum(by_rows.values())))], total
