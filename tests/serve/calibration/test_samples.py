"""A batch's service time is taken apart, and freed of what the front did meanwhile."""

from dataclasses import replace

import numpy as np

from serve.calibration.fit import single
from serve.calibration.samples import SAMPLE_COLUMNS, Jobs, free_notice, merge, samples_of, where
from tests.serve.calibration.made import MS, US, Made


def test_service_runs_from_dispatch_to_seen_and_is_the_sum_of_its_parts():
    made = Made()
    made.batch(10 * MS, rows=(3,), wake=70 * US, compute=2 * MS, notice=30 * US, busy=1)
    samples = samples_of(made.logs())
    assert tuple(samples) == SAMPLE_COLUMNS
    parts = {name: int(samples[name][0]) for name in SAMPLE_COLUMNS if name != "at_s"}
    assert parts["service_ns"] == parts["wake_ns"] + parts["compute_ns"] + parts["notice_ns"] == 2 * MS + 100 * US
    assert (parts["rows"], parts["busy"], parts["requests"], parts["front_busy"]) == (3, 1, 1, 0)
    assert samples["at_s"][0] == 0.01


def test_requests_are_counted_and_idleness_is_told_by_replica_and_model():
    made = Made()
    made.batch(10 * MS, rows=(1, 2))
    made.batch(12 * MS, queue="crowd")
    made.batch(20 * MS, compute=3 * MS)
    samples = samples_of(made.logs())
    assert samples["requests"].tolist() == [2, 1, 1]
    assert samples["rows"].tolist() == [3, 1, 1]
    ended_ns = 10 * MS + 50 * US + 1 * MS
    assert samples["idle_ns"].tolist() == [-1, -1, 20 * MS - ended_ns]


def test_the_null_model_s_batches_are_told_apart():
    made = Made()
    made.batch(10 * MS, queue="null")
    made.batch(20 * MS)
    logs = made.logs()
    assert len(samples_of(logs)["rows"]) == len(samples_of(logs, null=True)["rows"]) == 1
    assert samples_of(logs)["at_s"][0] == 0.02


def test_a_batch_that_ended_while_the_front_was_parsing_is_marked():
    made = Made()
    made.batch(10 * MS, compute=5 * MS)
    # Parsed from 14.99 to 15.09 ms: the batch above ends at 15.05 ms.
    made.batch(15 * MS + 90 * US, parse=100 * US, replica=1)
    assert samples_of(made.logs())["front_busy"].tolist() == [1, 0]


def test_a_disturbed_notice_is_replaced_by_an_undisturbed_one_of_the_same_neighbours():
    notice = np.array([10, 11, 12] * 10 + [500, 900], np.int64)
    disturbed = np.array([False] * 30 + [True, True])
    freed = free_notice(notice, disturbed, np.zeros(32, np.int64), seed=1)
    assert np.array_equal(freed[:30], notice[:30])
    assert set(freed[30:].tolist()) <= {10, 11, 12}
    busy = np.array([0] * 30 + [1, 1])
    assert np.array_equal(free_notice(notice, disturbed, busy, seed=1), notice), "too few to draw from: left alone"


def test_a_lone_request_among_clients_whose_requests_join_is_no_batch_of_its_own():
    made = Made()
    made.batch(10 * MS)
    logs = made.logs()
    assert samples_of(logs)["apart"].tolist() == [1]
    logs.spans = [replace(span, apart=False) for span in logs.spans]
    joined = samples_of(logs)
    assert (joined["apart"].tolist(), joined["requests"].tolist()) == ([0], [1])
    assert not single(joined).any()


def test_jobs_of_one_thread_are_counted_and_their_time_summed_exactly():
    jobs = Jobs.of(np.array([20, 0, 10]), np.array([30, 5, 15]))
    after, before = np.array([4, 5, 16, 12]), np.array([10, 10, 20, 25])
    assert jobs.meeting(after, before).tolist() == [1, 0, 0, 2]
    assert jobs.worked_ns(np.array([-1, 0, 3, 7, 12, 40])).tolist() == [0, 0, 3, 5, 7, 20]
    assert jobs.start_of(np.array([15, 30])).tolist() == [10, 20]


def test_a_job_cannot_have_begun_before_the_one_before_it_ended():
    """An arrival stamp is the start of a loop iteration, in which other jobs may come first."""
    jobs = Jobs.of(np.array([0, 0, 0]), np.array([10, 30, 20]))
    assert (jobs.starts.tolist(), jobs.ends.tolist()) == ([0, 10, 20], [10, 20, 30])


def test_launches_are_merged_onto_one_time_axis():
    made = Made()
    made.batch(2000 * MS)
    first = samples_of(made.logs())
    later = Made()
    later.batch(3500 * MS)
    merged = merge([first, samples_of(later.logs())])
    assert merged["at_s"].tolist() == [0.0, 1.5]
    assert where(merged, merged["at_s"] > 1)["rows"].tolist() == [1]
