"""The Prometheus page: what the counters say, under names that last."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import EngineCollector, Metrics, rows_buckets
from serve.policy.codes import OUTCOME_FULL, OUTCOME_OK, REASON_FULL, REASON_QUEUE
from serve.served import BatchStatistics
from tests.serve.protocol.stub_engine import StubEngine, served_model


class Front:
    """What a front shows."""

    responses = {200: 5, 503: 2}
    open_connections = 3


@pytest.fixture
def samples():
    """All samples of a scrape, by name and label values in the order of the labels' names."""

    def scrape(engine: StubEngine) -> dict[tuple[str, tuple[str, ...]], float]:
        text, content_type = Metrics(EngineCollector(engine, Front())).render()
        assert content_type.startswith("text/plain")
        return {
            (s.name, tuple(v for _, v in sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(text.decode())
            for s in family.samples
        }

    return scrape


def test_counters_gauges_and_histograms_show_the_engines_own_numbers(samples):
    served = served_model(name="m")
    counts = served.statistics
    counts.outcomes[OUTCOME_OK], counts.outcomes[OUTCOME_FULL] = 3, 4
    counts.drop_reasons[REASON_QUEUE] = 4
    counts.dispatch_reasons[REASON_FULL] = 2
    counts.rows, counts.batches, counts.busy_ns, counts.success_ns = 7, 2, 3_000_000_000, 6_000_000_000
    counts.latency_log2[31] = 3  # 1.07 s to 2.15 s
    counts.by_rows = {4: BatchStatistics(count=1), 3: BatchStatistics(count=1)}
    found = samples(StubEngine(served))
    assert found["forebay_requests_total", ("m", "ok")] == 3
    assert found["forebay_requests_total", ("m", "full")] == 4
    assert found["forebay_refused_total", ("m", "queue")] == 4
    assert found["forebay_batches_total", ("m", "full")] == 2
    assert found["forebay_rows_total", ("m",)] == 7
    assert found["forebay_busy_seconds_total", ("m",)] == 3
    assert found["forebay_replicas_up", ("m",)] == 1
    assert found["forebay_queue_rows", ("m",)] == 0
    assert found["forebay_latency_seconds_count", ("m",)] == 3
    assert found["forebay_latency_seconds_sum", ("m",)] == 6
    assert found["forebay_latency_seconds_bucket", (repr(2**30 / 1e9), "m")] == 0
    assert found["forebay_latency_seconds_bucket", (repr(2**31 / 1e9), "m")] == 3
    assert found["forebay_batch_rows_count", ("m",)] == 2
    assert found["forebay_batch_rows_sum", ("m",)] == 7
    assert found["forebay_batch_rows_bucket", ("2.0", "m")] == 0
    assert found["forebay_batch_rows_bucket", ("4.0", "m")] == 2
    assert found["forebay_http_responses_total", ("503",)] == 2
    assert found["forebay_http_connections", ()] == 3
    assert found["forebay_ready", ()] == 1
    assert found["process_cpu_seconds_total", ()] > 0


def test_every_outcome_and_reason_is_shown_from_the_start_so_that_rates_can_be_taken(samples):
    found = samples(StubEngine(served_model(name="m")))
    outcomes = {labels[1] for name, labels in found if name == "forebay_requests_total"}
    assert outcomes == {"ok", "invalid", "full", "draining", "expired", "cancelled", "lost", "failed"}
    assert {labels[1] for name, labels in found if name == "forebay_batches_total"} == {
        "full",
        "window",
        "idle",
        "drain",
    }


def test_bounds_of_the_batch_histogram_are_powers_of_two_and_the_largest_batch():
    buckets, total = rows_buckets({1: 5, 3: 1, 12: 2}, 12)
    assert buckets == [("1.0", 5), ("2.0", 5), ("4.0", 6), ("8.0", 6), ("12.0", 8), ("+Inf", 8)]
    assert total == 32


def test_every_metric_is_in_the_docs_and_every_one_in_the_docs_exists():
    text, _ = Metrics(EngineCollector(StubEngine(served_model()), Front())).render()
    families = [f for f in text_string_to_metric_families(text.decode()) if f.name.startswith("forebay_")]
    shown = {f.name.removeprefix("forebay_") + ("_total" if f.type == "counter" else "") for f in families}
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text().partition("## Metrics")[2]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([a-z_]+)", " ".join(rows))) == shown
