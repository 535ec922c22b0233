"""What autoscalers are told: scrapes of several queues put together, and samples by kind (rule 13)."""

from __future__ import annotations

from typing import Any

import pytest

from serve import autoscaler as formats
from serve.files import parse
from serve.policy.scaling.metering import Counters, Gauges, Scrape
from serve.scaler import ReplicaView, Scaler, Totals, arrival_rate, concurrency
from serve.spec import Spec

S = 10**9


class Holder(Spec):
    """A file with an autoscaler in it."""

    autoscaler: formats.Autoscaler


def scaler_of(threads: int = 1, **settings: Any) -> Scaler:
    """A scaler of one to ten replicas."""
    of = parse({"autoscaler": settings}, Holder, "f.yaml").autoscaler
    return Scaler(of, formats.Bounds(least=1, most=10), threads)  # type: ignore[arg-type]


def scrape(at_s: float, busy_s: float = 0, ongoing_s: float = 0, arrivals: int = 0, ongoing: int = 0) -> Scrape:
    counters = Counters(busy_ns=round(busy_s * S), ongoing_ns=round(ongoing_s * S), arrivals=arrivals)
    return Scrape(round(at_s * S), counters, Gauges(ongoing=ongoing, ready=1))


def sample_of(scaler: Scaler, now_s: float, replicas: list[ReplicaView]) -> Any:
    """What the policy is told at a tick."""
    told: list[Any] = []

    class Listening:
        def decide(self, sample: Any) -> None:
            told.append(sample)

    scaler._policy = Listening()
    scaler.decide(round(now_s * S), replicas)
    return told[0]


def test_queues_are_put_together_and_one_that_went_takes_nothing_away() -> None:
    totals = Totals(keep_ns=100 * S)
    totals.add(10 * S, {0: scrape(10, ongoing_s=20, arrivals=5), 1: scrape(10, ongoing_s=10, arrivals=1)})
    totals.add(20 * S, {0: scrape(20, ongoing_s=30, arrivals=9, ongoing=2)})
    assert totals.arrivals == 10
    assert concurrency(totals.over(20 * S, 10 * S)) == pytest.approx(1.0)
    assert concurrency(totals.over(20 * S, 20 * S)) == pytest.approx(2.0)
    assert arrival_rate(totals.over(20 * S, 20 * S)) == pytest.approx(0.5)
    assert totals.gauges.ongoing == 2


def test_another_queue_in_the_same_place_counts_from_its_beginning() -> None:
    totals = Totals(keep_ns=100 * S)
    totals.add(10 * S, {0: scrape(10, busy_s=5, arrivals=50)})
    totals.add(20 * S, {0: scrape(20, busy_s=1, arrivals=3)})
    assert totals.arrivals == 53


def test_cpu_is_busy_time_in_whole_per_cent_shared_by_those_of_a_queue() -> None:
    scaler = scaler_of(kind="hpa", cpu=60, threads=2)
    scaler.scrape(15 * S, {0: scrape(15, busy_s=0)})
    scaler.scrape(30 * S, {0: scrape(30, busy_s=20)})
    ready = [ReplicaView(0, 0, ready_ns=0)] * 2
    sample = sample_of(scaler, 30, [*ready, ReplicaView(0, 29 * S)])
    first, second, starting = sample.readings[0].per_pod
    assert (first.value_milli, first.window_ns) == (66 * 10 * 2, 15 * S), "20 of 2 x 15 s, truncated, of two threads"
    assert second == first and starting is None
    assert [(pod.ready, pod.request_milli) for pod in sample.pods] == [(True, 2000), (True, 2000), (False, 2000)]
    assert sample.spec_replicas == 3


def test_kpa_sees_a_long_and_a_short_window() -> None:
    scaler = scaler_of(kind="kpa", target=4)
    for second in range(1, 61):
        scaler.scrape(second * S, {0: scrape(second, ongoing_s=2 * min(second, 54) + 10 * max(0, second - 54))})
    sample = sample_of(scaler, 60, [ReplicaView(0, 0, ready_ns=0), ReplicaView(1, 0, ready_ns=0, leaving=True)])
    assert (sample.stable, sample.panic) == (pytest.approx((54 * 2 + 60) / 60), pytest.approx(10.0))
    assert (sample.ready, sample.replicas) == (1, 1), "one that drains counts nowhere"


def test_ray_averages_what_was_pushed_each_until_the_next() -> None:
    scaler = scaler_of(kind="ray_serve", target_ongoing_requests=2)
    assert sample_of(scaler, 1, [ReplicaView(0, 0, ready_ns=0)]).ongoing == 0.0
    for second, ongoing in ((10, 4), (20, 8), (30, 0)):
        scaler.scrape(second * S, {0: scrape(second, ongoing=ongoing)})
    assert sample_of(scaler, 35, [ReplicaView(0, 0, ready_ns=0)]).ongoing == pytest.approx((4 * 10 + 8 * 10) / 25)


def test_predictive_counts_all_arrivals_since_the_start() -> None:
    scaler = scaler_of(kind="predictive", capacity={1: "100/s"})
    scaler.scrape(10 * S, {0: scrape(10, arrivals=40), 1: scrape(10, arrivals=2)})
    assert sample_of(scaler, 10, [ReplicaView(0, 0, ready_ns=0)]).arrivals == 42
