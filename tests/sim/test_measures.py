"""Metrics: histogram against exact, tally against rows, and the identities that hold on every run."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_CANCELLED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_FULL,
    REASON_QUEUE,
    REASON_WINDOW,
)
from serve.records import (
    ANSWERED_NS,
    ARRIVAL_NS,
    BATCH,
    CLASS,
    DISPATCH_NS,
    DONE_NS,
    ENQUEUE_NS,
    OUTCOME,
    REASON,
    REPLICA,
    REQUEST,
    ROWS,
    START_NS,
    empty_rows,
)
from serve.vocabulary import METRICS
from sim.claims import OF_THE_SLO
from sim.drawing import open_chunks
from sim.measured import measure_live, run_of_rows
from sim.measures import (
    DELAYS,
    PERCENTILES,
    Window,
    batch_shares,
    budgets_of_tally,
    histogram_quantiles_s,
    metrics,
    run_of_tally,
    total_variation,
)
from sim.plane import Node, Service
from sim.reference import Reference
from sim.scenario import Workload
from sim.tally import HISTOGRAM_BINS, SUM_COUNT, histogram_bin, tally_from_rows
from sim.workload import build
from tests.sim.test_cost import BILLED

S = 10**9
MS = 10**6


# -- histograms ------------------------------------------------------------------------------------------


@given(
    values=st.lists(st.integers(1, 2**39), min_size=1, max_size=300),
    share=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
)
def test_histogram_quantiles_are_within_a_bin_of_an_order_statistic(values: list[int], share: float) -> None:
    latency_ns = np.sort(np.array(values, np.int64))
    counts = np.bincount(histogram_bin(latency_ns), minlength=HISTOGRAM_BINS)
    found_ns = histogram_quantiles_s(counts, [share])[0] * S
    rank = max(1, math.ceil(share * len(values)))
    exact = latency_ns[rank - 1]
    assert abs(found_ns - exact) <= 0.004 * exact + 1


def test_histogram_quantiles_of_a_full_sample_are_far_better_than_a_bin() -> None:
    latency_ns = np.rint(np.random.default_rng(0).gamma(4, 2 * MS, 400_000)).astype(np.int64)
    counts = np.bincount(histogram_bin(latency_ns), minlength=HISTOGRAM_BINS)
    shares = list(PERCENTILES.values())[:4]
    found = np.array(histogram_quantiles_s(counts, shares)) * S
    assert found == pytest.approx(np.quantile(latency_ns, shares), rel=5e-4)


def test_no_answers_have_no_quantiles() -> None:
    assert all(math.isnan(q) for q in histogram_quantiles_s(np.zeros(HISTOGRAM_BINS, np.int64), [0.5, 0.99]))


# -- tally against rows -------------------------------------------------------------------------------------


def played(tmp_path: Path, spec: dict[str, Any], seconds: int = 4) -> tuple[Reference, np.ndarray]:
    """A busy run of the reference (two classes, front, window, bounded queue), and what the client adds to requests."""
    from serve.deployment import Model

    model = Model.model_validate({"file": "m", "profile": "p", **spec})
    workload = Workload.model_validate(
        {
            "duration": f"{seconds}s",
            "classes": {
                "a": {"arrivals": {"poisson": "800/s"}, "rows": {1: 3, 3: 1}, "timeout": "3ms"},
                "b": {"arrivals": {"gamma": {"rate": "100/s", "cv": 3}}, "priority": 1, "patience": "5ms"},
            },
        }
    )
    models = [model] * len(workload.classes)
    load = build(workload, models, tmp_path, lambda rng, rows: rng.integers(20_000, 90_000, len(rows)))
    rows_max, bits = model.batching.max_batch, 2
    steps = np.array([0.8, 0.9, 1.0, 1.3])
    table = np.concatenate([steps * (2 + 0.5 * r) * MS * (1 + 0.1 * p) for p in range(2) for r in range(rows_max + 1)])
    service = Service(table.astype(np.int64), bits, rows_max, 1)
    front = np.array([30_000, 0, 20_000, 10_000, 0, 15_000, -1, 0, 0, 0, 5_000, 0, 500], np.int64)
    node = Node(model.scheduler_spec(), 2, service, front)
    plane = Reference(node, 2, time_bins=5, bin_ns=S, slo_ns=np.array([5 * MS, 6 * MS]), fine=(6, S))
    for replica in range(2):
        plane.ready(replica)
    sent = list(open_chunks(load, 5, 0))
    for requests in sent:
        plane.feed(requests)
    plane.end_feed()
    plane.advance(60 * S)
    return plane, np.concatenate([requests.client_ns for requests in sent])


SPEC = {
    "batching": {"max_batch": 4, "window": "2ms"},
    "queue": {"max_queue": 8, "priority_levels": 2},
    "replicas": {"count": 2},
}


def client_rows_of(plane: Reference, client_ns: np.ndarray) -> np.ndarray:
    """What a load generator would have written of a simulated run."""
    rows = plane.rows()
    client = np.full((len(rows), 5), -1, np.int64)
    client[:, 0] = rows[:, REQUEST]
    client[:, 1] = client[:, 2] = rows[:, ARRIVAL_NS]
    client[:, 3] = rows[:, ANSWERED_NS] + client_ns[rows[:, REQUEST]]
    return client


def test_tally_and_rows_give_the_same_metrics(tmp_path: Path) -> None:
    plane, client_ns = played(tmp_path, SPEC)
    of_tally = run_of_tally(plane.tally(), Window(1, 4, S), 2)
    of_rows = run_of_rows(plane.rows(), client_rows_of(plane, client_ns), 2, 2, (S, 4 * S), [5 * MS, 6 * MS])
    tally_total, tally_classes = metrics(of_tally)
    rows_total, rows_classes = metrics(of_rows)
    ways = zip((tally_total, *tally_classes), (rows_total, *rows_classes), strict=True)
    for (one, other), exact in zip(ways, (of_rows.total, *of_rows.classes), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if name in PERCENTILES:
                # The two rules of interpolation agree on the neighbours in rank, not on the place between them.
                rank = PERCENTILES[name] * len(exact.latency)
                low, high = exact.latency[[max(0, int(rank) - 1), min(len(exact.latency) - 1, int(rank) + 1)]]
                assert 0.995 * low <= value <= 1.005 * high, name
            elif name != "front_busy":
                assert value == pytest.approx(other[name], rel=1e-9), name
    assert 0 < tally_total["refused"] < 1
    assert tally_total["expired"] > 0
    assert tally_total["cancelled"] > 0
    assert math.isnan(rows_total["front_busy"])
    assert batch_shares(of_tally.node.batch_rows) == pytest.approx(batch_shares(of_rows.node.batch_rows))


def test_parts_of_the_latency_add_up_to_it(tmp_path: Path) -> None:
    plane, _ = played(tmp_path, SPEC)
    total, classes = metrics(run_of_tally(plane.tally(), Window(0, 4, S), 2))
    for values in (total, *classes):
        assert sum(values[part] for part in DELAYS) == pytest.approx(values["mean"], rel=1e-9)


def test_classes_add_up_to_the_total(tmp_path: Path) -> None:
    plane, _ = played(tmp_path, SPEC)
    total, classes = metrics(run_of_tally(plane.tally(), Window(0, 4, S), 2))
    for name in ("arrival_rate", "throughput", "goodput"):
        assert sum(c[name] for c in classes) == pytest.approx(total[name])
    assert total["goodput"] < total["throughput"] < total["arrival_rate"]


def test_littles_law_ties_the_number_in_system_to_the_stays(tmp_path: Path) -> None:
    plane, _ = played(tmp_path, {**SPEC, "queue": {"max_queue": "unbounded", "priority_levels": 2}})
    rows = plane.rows()
    total, _ = metrics(run_of_tally(plane.tally(), Window(0, 5, S), 2))
    stays_s = (rows[:, ANSWERED_NS] - rows[:, ARRIVAL_NS]).sum() / S
    assert total["in_system"] * 5 == pytest.approx(stays_s, rel=1e-9)


def test_every_metric_is_in_the_vocabulary(tmp_path: Path) -> None:
    plane, _ = played(tmp_path, SPEC)
    tally, window = plane.tally(), Window(0, 4, S)
    budgets = budgets_of_tally(tally, window, [0.99, None, 0.9])
    total, classes = metrics(replace(run_of_tally(tally, window, 2), budgets=budgets))
    assert set(total) | BILLED == set(METRICS)
    assert set(METRICS) - set(classes[1]) == {m.name for m in METRICS.values() if not m.per_class} | OF_THE_SLO
    assert set(classes[0]) == {m.name for m in METRICS.values() if m.per_class}


# -- a story that can be checked by hand -----------------------------------------------------------------------


def row(request: int, arrival: int, outcome: int = OUTCOME_OK, **fields: int) -> np.ndarray:
    made: np.ndarray = empty_rows(1)[0]
    made[[REQUEST, ARRIVAL_NS, OUTCOME, ROWS, ANSWERED_NS]] = request, arrival, outcome, 1, arrival
    for name, value in fields.items():
        made[COLUMN[name]] = value
    return made


COLUMN = {
    "class_": CLASS,
    "rows": ROWS,
    "batch": BATCH,
    "replica": REPLICA,
    "reason": REASON,
    "enqueue": ENQUEUE_NS,
    "dispatch": DISPATCH_NS,
    "start": START_NS,
    "done": DONE_NS,
    "answered": ANSWERED_NS,
}


def story() -> tuple[np.ndarray, np.ndarray]:
    """Two requests in a batch of 3 rows, one refused, one that the engine never saw, one unheard answer."""
    batch = {"batch": 0, "replica": 0, "reason": REASON_WINDOW, "dispatch": 400, "start": 400, "done": 900}
    rows = np.array(
        [
            row(0, 100, rows=2, enqueue=150, answered=950, **batch),
            row(1, 200, rows=1, enqueue=210, answered=960, **batch),
            row(2, 300, OUTCOME_FULL, reason=REASON_QUEUE, answered=320),
            row(
                4,
                500,
                rows=1,
                batch=1,
                replica=0,
                reason=REASON_FULL,
                enqueue=500,
                dispatch=900,
                start=900,
                done=1000,
                answered=1000,
            ),
        ]
    )
    client = np.array(
        [
            [0, 90, 95, 1000, 200],
            [1, 190, 190, 1100, 200],
            [2, 290, 291, 400, 503],
            [3, 400, 400, -1, 0],
            [4, 490, 490, -1, 0],
        ]
    )
    return rows, client


def test_a_live_run_by_hand() -> None:
    rows, client = story()
    found = measure_live(rows, client, classes=["a"], replicas=1, start_ns=0, end_ns=1000, slo_ns=[909])
    total = found.total
    span = 1000 / S
    assert found.requests == 5
    assert total["mean"] == pytest.approx((910 + 910) / 2 / S)
    assert total["throughput"] == pytest.approx(2 / span)
    assert total["goodput"] == 0
    assert total["refused"] == pytest.approx(1 / 5)
    assert total["failed"] == pytest.approx(2 / 5), "no row, and an answer that never came"
    assert total["front_delay"] == pytest.approx((50 + 10) / 2 / S)
    assert total["queue_delay"] == pytest.approx((250 + 190) / 2 / S)
    assert total["compute"] == pytest.approx(500 / S)
    assert total["answer_delay"] == pytest.approx((50 + 60) / 2 / S)
    assert total["client_delay"] == pytest.approx((60 + 150) / 2 / S)
    assert total["busy"] == pytest.approx(0.6)
    assert total["batch_mean"] == pytest.approx(2.0)
    assert found.batch_rows == {1: 0.5, 3: 0.5}
    assert found.reasons == {"full": 0.5, "window": 0.5}
    assert found.refusals == pytest.approx({"none": 0.4, "queue": 0.2})
    assert len(found.latency_cdf_s) == 201


def test_only_what_was_intended_in_the_window_counts() -> None:
    rows, client = story()
    found = measure_live(rows, client, classes=["a"], replicas=1, start_ns=150, end_ns=450)
    assert found.requests == 3
    assert found.total["busy"] == pytest.approx(50 / 300), "spans are clipped to the window"


def test_what_the_front_refused_unread_is_known_by_its_status() -> None:
    rows, client = story()
    unknown = ~np.isin(client[:, 0], rows[:, 0])
    client[unknown, 4] = 503
    found = measure_live(rows, client, classes=["a"], replicas=1, start_ns=0, end_ns=1000)
    assert unknown.sum() == 1
    assert found.total["refused"] == pytest.approx(2 / 5) and found.total["failed"] == pytest.approx(1 / 5)
    assert found.refusals["front"] == pytest.approx(1 / 5)


def test_an_empty_run_has_no_metrics_but_does_not_crash() -> None:
    found = measure_live(empty_rows(0), np.zeros((0, 5), np.int64), classes=["a"], replicas=1, start_ns=0, end_ns=S)
    assert found.requests == 0
    assert math.isnan(found.total["p99"])
    assert found.total["throughput"] == 0
    assert found.latency_cdf_s == []


# -- small ones --------------------------------------------------------------------------------------------------


def test_total_variation_of_equal_and_of_disjoint_laws() -> None:
    assert total_variation({1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}) == 0
    assert total_variation({1: 1.0}, {4: 1.0}) == 1
    assert total_variation({1: 0.6, 2: 0.4}, {1: 0.5, 2: 0.4, 3: 0.1}) == pytest.approx(0.1)


def test_shares_count_the_outcomes_that_their_meaning_says() -> None:
    outcomes = [OUTCOME_OK] * 4 + [OUTCOME_FULL, OUTCOME_CANCELLED, OUTCOME_LOST, OUTCOME_FAILED]
    rows = np.array([row(i, 10 * i, outcome) for i, outcome in enumerate(outcomes)])
    tally = tally_from_rows(rows, np.zeros(len(rows), np.int64), 1)
    total, _ = metrics(run_of_tally(tally, Window(0, 1, NEVER_NS), 1))
    assert [total[name] for name in ("refused", "expired", "cancelled", "failed")] == [1 / 8, 0, 1 / 8, 2 / 8]
    assert tally.sums.shape[-1] == SUM_COUNT
