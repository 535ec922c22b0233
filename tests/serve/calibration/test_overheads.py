"""Front and client costs add up to what was measured, and a busy front's are those of a job that follows another."""

from dataclasses import replace

import numpy as np
import pytest

from serve import records
from serve.calibration import front_work, overheads
from serve.calibration.design import NULL_WINDOW_NS
from serve.calibration.overheads import Line, front_costs, front_lines, median_line, quantiles_us
from serve.profile import FrontCosts
from serve.request_log import BATCH_COLUMNS
from tests.serve.calibration.made import MS, US, Made


def busy_and_lone() -> Made:
    """Forty lone requests of 1 and of 5 rows, and forty batches of four requests."""
    made = Made()
    for k in range(40):
        start_ns = (k + 1) * 40 * MS
        made.batch(start_ns)
        made.batch(start_ns + 10 * MS, rows=(5,), parse=34 * US, first_answer=68 * US)
        made.batch(start_ns + 20 * MS, rows=(1, 1, 1, 1), first_answer=110 * US)
    return made


def test_marginal_costs_come_from_jobs_that_follow_others_and_slopes_from_lone_ones():
    costs = front_costs([busy_and_lone().logs()], front_lines([busy_and_lone().logs()]), 256, 512)
    row_us = {"parse": (34 - 30) / 4, "answer": (68 - 60) / 4}
    assert costs.parse_us == pytest.approx(10 - row_us["parse"], abs=0.01)
    assert costs.parse_us_per_kib == pytest.approx(row_us["parse"] * 4, abs=0.01)
    assert costs.finish_request_us == pytest.approx(12 - row_us["answer"], abs=0.01)
    assert costs.finish_us_per_kib == pytest.approx(row_us["answer"] * 2, abs=0.01)
    assert (costs.finish_batch_us, costs.dispatch_us) == (4.0, 0.0)


def test_handing_a_batch_over_costs_what_it_adds_before_the_first_answer():
    made = Made()
    for k in range(40):
        made.batch((k + 1) * 40 * MS)
        made.batch((k + 1) * 40 * MS + 10 * MS, first_answer=(60 + 55) * US)
        finished_ns = made.batches[-1][BATCH_COLUMNS.index("finished_ns")]
        made.batch(finished_ns, queued=500 * US)
    logs = made.logs()
    assert front_costs([logs], front_lines([logs]), 1, 1).dispatch_us == pytest.approx(55)


def test_each_further_request_of_a_batch_adds_to_handing_it_over():
    made = Made()
    for k in range(120):
        joined = 1 + k % 3
        made.batch((k + 1) * 40 * MS)
        made.batch((k + 1) * 40 * MS + 10 * MS, first_answer=(60 + 50 + 5 * joined) * US)
        finished_ns = made.batches[-1][BATCH_COLUMNS.index("finished_ns")]
        made.batch(finished_ns, rows=(1,) * joined, queued=500 * US)
    logs = made.logs()
    lines = front_lines([logs])
    costs = front_costs([logs], lines, 512, 512)
    assert (costs.dispatch_us, costs.dispatch_us_per_request) == (pytest.approx(55), pytest.approx(5))
    answers = overheads.answers_of(logs)
    begun_ns = answers.modelled_ns(lines) - lines.answer.at(answers.requests[:, records.ROWS])
    after_joined = (answers.dispatched_requests == 3) & (answers.place == 0)
    assert (begun_ns - answers.finished_ns)[after_joined] == pytest.approx(65 * US)


def test_handing_over_and_sending_grow_with_bytes():
    made = Made()
    for k in range(80):
        rows = 1 + 4 * (k % 2)
        made.batch((k + 1) * 40 * MS, rows=(rows,), send=(80 + 10 * rows) * US)
        made.batch((k + 1) * 40 * MS + 10 * MS, first_answer=(60 + 40 + 5 * rows) * US, send=90 * US)
        finished_ns = made.batches[-1][BATCH_COLUMNS.index("finished_ns")]
        made.batch(finished_ns, rows=(rows,), queued=500 * US, send=(80 + 10 * rows) * US)
    logs = made.logs()
    lines = front_lines([logs])
    costs = front_costs([logs], lines, 512, 512)
    assert (costs.dispatch_us, costs.dispatch_us_per_kib) == pytest.approx((40, 10), abs=0.5)
    assert overheads.client_costs([logs], lines, 512).send_us_per_kib == pytest.approx(20, abs=0.5)


def test_front_and_client_add_up_to_the_latency_that_was_measured():
    logs = busy_and_lone().logs()
    lines = front_lines([logs])
    parts = overheads.client_parts(logs, lines)
    answers = overheads.answers_of(logs)
    requests = answers.requests
    latency_ns = (logs.spans[0].client.received_ns - logs.spans[0].client.intended_ns)[requests[:, records.REQUEST]]
    parse_ns = lines.parse.at(requests[:, records.ROWS])
    inside_ns = answers.modelled_ns(lines) - requests[:, records.ENQUEUE_NS]
    total = parts.send_ns + parts.waited_ns + parse_ns + inside_ns + parts.receive_ns
    assert total == pytest.approx(latency_ns, abs=2)


def test_send_leaves_out_what_a_request_waited_for_a_busy_front():
    made = Made()
    for k in range(50):
        made.batch((k + 1) * 10 * MS)
    # Sent 240 us before its arrival; meanwhile the front answered the last batch, for 104 of them.
    finishing_ns = 50 * 10 * MS + 50 * US + 1 * MS + 40 * US
    made.batch(finishing_ns + 164 * US + 40 * US + 30 * US, send=240 * US, replica=1)
    logs = made.logs()
    parts = overheads.client_parts(logs, front_lines([logs]))
    assert parts.waited_ns[:-1].tolist() == [0] * 50
    assert parts.waited_ns[-1] == 64 * US
    assert overheads.client_costs([logs], front_lines([logs]), 256).cpu_us_per_request == pytest.approx(40)


def test_a_request_parsed_behind_others_of_its_iteration_has_waited_for_their_parses():
    logs = busy_and_lone().logs()
    parts = overheads.client_parts(logs, front_lines([logs]))
    together = (parts.weight < 1).reshape(40, 6)
    assert parts.waited_ns.reshape(40, 6)[~together].max() == 0
    assert parts.waited_ns[parts.weight < 1].reshape(40, 4)[0].tolist() == [0, 30 * US, 40 * US, 50 * US]


def test_every_batch_counts_once_for_the_client():
    logs = busy_and_lone().logs()
    costs = overheads.client_costs([logs], front_lines([logs]), 256)
    assert len(costs.send_us) == len(costs.receive_us) == 101
    assert overheads.client_parts(logs, front_lines([logs])).weight.sum() == pytest.approx(120)


def test_refusals_cost_what_they_took_after_their_parse():
    made = busy_and_lone()
    made.refusal(5 * MS, took=90 * US)
    logs = made.logs()
    assert front_costs([logs], front_lines([logs]), 1, 1).refuse_us == 90.0


def test_cpu_time_beyond_the_stamps_is_found_per_request_and_per_batch():
    costs = FrontCosts(
        parse_us=10, parse_us_per_kib=0, finish_batch_us=4, finish_request_us=12, finish_us_per_kib=0, refuse_us=50,
        bytes_in_per_row=1, bytes_out_per_row=1,
    )  # fmt: skip
    works = [
        front_work.Work(n, n, b, r, n, n, n * (10 + 12 + 7) + b * (4 + 100) + r * (50 + 10 + 7) - r * 17)
        for n, b, r in ((100, 100, 0), (100, 10, 0), (400, 100, 0), (50, 5, 0))
    ]
    assert front_work.unstamped_us(works, costs) == pytest.approx((7, 100))
    assert front_work.unstamped_us(works[:1], costs) == (0.0, 0.0)


def test_a_front_that_takes_what_its_costs_say_is_at_level_one():
    costs = FrontCosts(
        parse_us=10,
        parse_us_per_kib=2,
        finish_batch_us=40,
        finish_request_us=12,
        finish_us_per_kib=4,
        refuse_us=50,
        dispatch_us=20,
        dispatch_us_per_kib=1,
        dispatch_us_per_request=3,
        bytes_in_per_row=1024,
        bytes_out_per_row=512,
        unstamped_us_per_request=5,
        unstamped_us_per_batch=30,
    )
    parts_us = {
        "parse": 100 * 10 + 200 * 2,
        "dispatch": 20 * 20 + 200 * 1 + (90 - 20) * 3,
        "finish": 20 * 40 + 90 * 12 + 180 * 0.5 * 4,
        "refuse": 10 * 50,
        "unstamped": 100 * 5 + 20 * 30,
    }
    work = front_work.Work(100, 90, 20, 10, 200, 180, sum(parts_us.values()))
    assert front_work.level(work, costs) == pytest.approx(1.0)
    assert front_work.level(replace(work, cpu_us=0.7 * work.cpu_us), costs) == pytest.approx(0.7)
    assert front_work.level(front_work.Work(0, 0, 0, 0, 0, 0, 9.0), costs) == 1.0


def test_the_front_s_work_is_counted_replay_by_replay():
    made = busy_and_lone()
    made.refusal(5 * MS, rows=3)
    (work,) = front_work.work_of(made.logs(front_cpu_s=0.5))
    assert (work.requests, work.answers, work.batches, work.refused) == (241, 240, 120, 1)
    assert (work.rows_in, work.rows_out, work.cpu_us) == (40 * 10 + 3, 400, 5e5)


def test_timers_are_late_by_what_their_dispatch_is_after_the_window():
    made = Made()
    for k in range(1, 40):
        made.batch(k * 20 * MS, queue="null", queued=NULL_WINDOW_NS + 60 * US)
    assert overheads.timer_late_us([made.logs()]) == [60.0, 60.0]


def test_a_line_goes_through_medians_and_never_below_zero():
    x = np.array([1, 1, 1, 3, 3, 3])
    assert median_line(x, np.array([10, 10, 9999, 30, 30, 30])) == Line(
        pytest.approx(0.0, abs=1e-9), pytest.approx(10.0)
    )
    assert median_line(x, np.array([30, 30, 30, 10, 10, 10])).slope == 0.0
    assert median_line(np.zeros(0), np.zeros(0)) == Line(0.0, 0.0)


def test_weighted_quantiles():
    equal = quantiles_us(np.arange(1000, 102_000, 1000), np.ones(101))
    assert equal[50] == 51.0
    assert (equal[0], equal[100]) == pytest.approx((1.0, 101.0), abs=0.5)
    assert quantiles_us(np.array([1000, 9000]), np.array([99.0, 1.0]))[50] < 2
    assert quantiles_us(np.zeros(0), np.zeros(0)) == [0.0] * 101


def test_quantiles_keep_the_mean_through_a_stall():
    values_ns = np.random.default_rng(3).exponential(100_000, 5000)
    values_ns[17] = 3e9
    found = np.array(quantiles_us(values_ns, np.ones(5000)))
    drawn = np.interp((np.arange(1024) + 0.5) / 1024, np.linspace(0, 1, 101), found)
    assert drawn.mean() == pytest.approx(values_ns.mean() / 1000, rel=0.05)
    assert found[100] < 150_000, "3 s is one of 5000, not the end of a line that one in 100 lies on"
    assert np.all(np.diff(found) >= 0)


def test_costs_are_not_moved_by_a_stall():
    made = busy_and_lone()
    made.batch(41 * 40 * MS, rows=(1, 1, 1), parse_following=500 * MS, answer=700 * MS, finish=900 * MS)
    before, after = (front_costs([m.logs()], front_lines([m.logs()]), 256, 512) for m in (busy_and_lone(), made))
    assert after.parse_us == pytest.approx(before.parse_us, rel=0.02)
    assert after.finish_request_us == pytest.approx(before.finish_request_us, rel=0.02)
    assert after.finish_batch_us == before.finish_batch_us
