"""The tally computed from rows: bins, parts of the latency, spans over time bins, batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.codes import OUTCOME_CANCELLED, OUTCOME_OK, REASON_CLIENT, REASON_FULL, REASON_IDLE
from serve.records import (
    ANSWERED_NS,
    ARRIVAL_NS,
    BATCH,
    DISPATCH_NS,
    DONE_NS,
    ENQUEUE_NS,
    OUTCOME,
    REASON,
    ROWS,
    START_NS,
    Rows,
    empty_rows,
)
from sim.tally import (
    HISTOGRAM_BINS,
    SUM_ANSWER_S,
    SUM_CLIENT_S,
    SUM_COMPUTE_S,
    SUM_FRONT_S,
    SUM_LATENCY_S,
    SUM_LATENCY_SQUARED_S2,
    SUM_QUEUE_S,
    SUM_ROWS,
    SUM_SLOT_S,
    batches_of,
    histogram_bin,
    histogram_edges_ns,
    spread,
    tally_from_rows,
)

S = 10**9


def three_rows() -> Rows:
    """Two requests of one batch, answered, and a cancelled one."""
    rows = empty_rows(3)
    instants = [ARRIVAL_NS, ENQUEUE_NS, DISPATCH_NS, START_NS, DONE_NS, ANSWERED_NS]
    rows[:, ROWS] = [1, 3, 2]
    rows[0, instants] = np.array([0, 1, 3, 6, 10, 15]) * S
    rows[1, instants] = np.array([2, 2, 3, 6, 10, 16]) * S
    rows[:2, [BATCH, OUTCOME, REASON]] = [0, OUTCOME_OK, REASON_FULL]
    rows[2, [ARRIVAL_NS, ENQUEUE_NS, ANSWERED_NS]] = np.array([11, 11, 13]) * S
    rows[2, [OUTCOME, REASON]] = [OUTCOME_CANCELLED, REASON_CLIENT]
    return rows


def test_the_parts_of_the_latency_add_up_to_it() -> None:
    tally = tally_from_rows(three_rows(), np.array([1, 1, 1]) * S, 1)
    sums = tally.sums[0, 0]
    parts = {SUM_FRONT_S: 1, SUM_QUEUE_S: 3, SUM_SLOT_S: 6, SUM_COMPUTE_S: 8, SUM_ANSWER_S: 11, SUM_CLIENT_S: 2}
    assert {column: sums[column] for column in parts} == pytest.approx(parts)
    assert sums[SUM_LATENCY_S] == pytest.approx(sum(parts.values()))
    assert sums[SUM_LATENCY_SQUARED_S2] == pytest.approx(16**2 + 15**2)
    assert sums[SUM_ROWS] == 4


def test_each_thing_is_counted_in_the_time_bin_it_belongs_to() -> None:
    tally = tally_from_rows(three_rows(), np.zeros(3, np.int64), 1, 2, 8 * S, slo_ns=np.array([14 * S]))
    assert tally.outcomes[0, :, OUTCOME_OK].tolist() == [2, 0]  # bins of the arrival
    assert tally.outcomes[0, :, OUTCOME_CANCELLED].tolist() == [0, 1]
    assert tally.drop_reasons[0, :, REASON_CLIENT].tolist() == [0, 1]
    assert tally.latency.sum(axis=2).tolist() == [[2, 0]]
    assert tally.good.tolist() == [[1, 0]]  # 14 s is within the bound, 15 s is not
    assert tally.batch_rows.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]  # bin of the start
    assert tally.batch_reasons[0, REASON_FULL] == 1
    assert tally.busy_s.tolist() == pytest.approx([2, 2])  # spans are split at the edge
    assert tally.in_system_s.tolist() == pytest.approx([8 + 6, 7 + 8 + 2])
    assert tally.front_busy_s.tolist() == [0, 0]
    assert tally.fine.shape == (1, 0, 2)


def test_the_error_budget_counts_every_request_in_finer_bins_of_its_arrival() -> None:
    asked = {"slo_ns": np.array([14 * S]), "fine": (3, 4 * S)}
    tally = tally_from_rows(three_rows(), np.zeros(3, np.int64), 1, 2, 8 * S, **asked)  # type: ignore[arg-type]
    assert tally.fine.tolist() == [[[1, 2], [0, 0], [0, 1]]]  # good and all: 14 s of two, and one cancelled, late
    assert tally.fine[:, :, 0].sum() == tally.good.sum() and tally.fine[:, :, 1].sum() == tally.outcomes.sum()


def test_a_batch_log_takes_the_place_of_what_rows_imply() -> None:
    log = np.array([[0, 4 * S, 2, REASON_IDLE, 0], [5 * S, -1, 1, REASON_IDLE, 0]])  # the second still runs
    tally = tally_from_rows(
        three_rows(), np.zeros(3, np.int64), 1, batches=log, front_ns=np.array([[0, S], [S, 3 * S]])
    )
    assert tally.batch_rows.tolist() == [[0, 1, 1]]
    assert tally.busy_s.tolist() == pytest.approx([4])
    assert tally.front_busy_s.tolist() == pytest.approx([3])


def test_batches_are_read_off_the_rows_that_rode_them() -> None:
    assert batches_of(three_rows()).tolist() == [[6 * S, 10 * S, 4, REASON_FULL, 0]]


@given(st.integers(0, 2**62))
def test_a_latency_lies_between_its_bins_edges(value_ns: int) -> None:
    index = int(histogram_bin(np.array([value_ns]))[0])
    edges = histogram_edges_ns()
    assert 0 <= index < HISTOGRAM_BINS
    assert edges[index] <= value_ns or index == 0
    assert value_ns < edges[index + 1] or index == HISTOGRAM_BINS - 1
    assert edges[index + 1] / edges[index] <= 1 + 1 / 256


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=20), st.integers(1, 5), st.integers(1, 40))
def test_spans_lose_nothing_over_time_bins(spans: list[tuple[int, int]], time_bins: int, bin_ns: int) -> None:
    array = np.array([(start, start + length) for start, length in spans], np.int64).reshape(-1, 2)
    assert spread(array, time_bins, bin_ns).sum() == pytest.approx(sum(length for _, length in spans) * 1e-9)


def test_nothing_makes_an_empty_tally() -> None:
    tally = tally_from_rows(empty_rows(0), np.zeros(0, np.int64), 2)
    assert tally.outcomes.sum() == tally.latency.sum() == tally.batch_rows.sum() == 0
