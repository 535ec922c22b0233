"""Cells, curve and level say what the samples say, no less and no more."""

import numpy as np
import pytest

from serve.calibration import fit
from serve.calibration.samples import SAMPLE_COLUMNS
from serve.cold import cold_knots_ns


def samples(count: int, **columns) -> dict[str, np.ndarray]:
    made = {name: np.zeros(count, np.int64) for name in SAMPLE_COLUMNS}
    made |= {
        "threads": np.ones(count, np.int64),
        "rows": np.ones(count, np.int64),
        "requests": np.ones(count, np.int64),
        "apart": np.ones(count, np.int64),
    }
    return made | {name: np.broadcast_to(np.asarray(value), count) for name, value in columns.items()}


def test_a_cell_needs_thirty_samples_and_a_tail_of_its_own_five_hundred():
    rows = np.repeat([1, 2, 3], [500, 30, 29])
    found = fit.service_cells(samples(559, rows=rows, service_ns=rows * 1_000_000))
    assert [(c.rows, c.samples, c.mean_ms, c.p99_pooled) for c in found] == [(1, 500, 1.0, False), (2, 30, 2.0, True)]
    kept = fit.in_cells(samples(559, rows=rows), found)
    assert kept.sum() == 530 and not kept[rows == 3].any()


def test_slow_samples_are_kept():
    times = np.full(100, 1_000_000)
    times[7] = 50_000_000
    (cell,) = fit.service_cells(samples(100, service_ns=times))
    assert cell.mean_ms == pytest.approx(1.49)
    assert cell.p99_ms > 1


def test_a_cell_says_what_a_replica_that_is_never_idle_takes():
    curve_us = [1000.0] * len(cold_knots_ns())
    (cell,) = fit.service_cells(samples(100, service_ns=3_000_000, idle_ns=np.tile([0, 10**9], 50)), curve_us)
    assert (cell.mean_ms, cell.warm_ms, cell.busy_ms) == (3.0, 2.5, 2.5)
    assert cell.model_copy(update={"warm_ms": None}).busy_ms == 3.0, "where it is not known"


def test_cells_are_told_apart_by_threads_and_neighbours():
    found = fit.service_cells(
        samples(60, threads=np.repeat([1, 2], 30), busy=np.tile([0, 1], 30), service_ns=1), samples_min=15
    )
    assert [(c.threads, c.busy) for c in found] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_the_curve_finds_base_and_slope_and_its_own_error():
    rows = np.repeat([1, 2, 4, 8], 30)
    cells = fit.service_cells(samples(120, rows=rows, service_ns=2_000_000 + 500_000 * rows))
    assert fit.curve(cells) == pytest.approx({"base_ms": 2.0, "row_ms": 0.5, "error": 0.0}, abs=1e-6)
    stepped = fit.service_cells(samples(120, rows=rows, service_ns=np.where(rows > 2, 4, 1) * 1_000_000))
    assert fit.curve(stepped)["error"] > 0.1


def test_joining_costs_are_what_many_requests_add_around_the_computation_whatever_it_took():
    rows = np.repeat([1, 2, 4, 8], 40)
    requests = np.where(np.arange(160) % 2, rows, 1)
    compute_ns = 1_000_000 * rows * np.where(requests > 1, 1.3, 1.0).astype(np.int64)
    service_ns = compute_ns + 100_000 + 7_000 * (requests - 1)
    made = samples(160, rows=rows, requests=requests, compute_ns=compute_ns, service_ns=service_ns)
    assert fit.joining_us(made) == pytest.approx(7.0)
    assert fit.joining_us(samples(160, rows=rows, service_ns=rows)) == 0.0


def test_a_steady_machine_has_no_level_of_its_own():
    rng = np.random.default_rng(0)
    ratio = 1 + 0.2 * rng.standard_normal(20_000)
    level = fit.level(np.linspace(0, 40, 20_000, endpoint=False), ratio)
    assert level.repeat_cv < 0.005
    assert np.ptp(level.series) < 0.02
    assert len(level.series) == 40


def test_a_drifting_machine_s_level_is_found_through_the_noise_and_not_exaggerated():
    rng = np.random.default_rng(1)
    at_s = np.linspace(0, 40, 4_000, endpoint=False)
    truth = 1 + 0.1 * np.sin(at_s / 6)
    level = fit.level(at_s, truth * (1 + 0.2 * rng.standard_normal(4_000)))
    expected = truth.reshape(40, -1).mean(axis=1)
    assert np.corrcoef(level.series, expected)[0, 1] > 0.9
    assert level.repeat_cv == pytest.approx(expected.std(), rel=0.3)
    assert np.std(level.series) == pytest.approx(level.repeat_cv, rel=0.05)


def test_windows_without_samples_take_their_neighbours_level():
    at_s = np.concatenate([np.linspace(0, 1, 50, endpoint=False), np.linspace(4, 5, 50, endpoint=False)])
    level = fit.level(at_s, np.repeat([1.0, 1.2], 50))
    assert len(level.series) == 5
    assert level.series == sorted(level.series)


def test_too_little_to_see_a_level():
    assert fit.level(np.zeros(5), np.ones(5)) == fit.Level([1.0], 1.0, 0.0)


def test_the_same_work_is_timed_relative_to_its_own_cell():
    rows = np.array([1, 1, 5, 5])
    assert fit.ratios(samples(4, rows=rows, service_ns=[90, 110, 900, 1100])) == pytest.approx([0.9, 1.1, 0.9, 1.1])


def test_a_stall_is_slow_for_its_kind_and_in_itself():
    def slow(times: list[float]) -> int:
        return fit.stalls(samples(100, service_ns=np.array([1e6] * (100 - len(times)) + times)))

    assert slow([]) == 0
    assert slow([3_000e6]) == 1
    assert slow([40e6]) == 0, "many times its like, but within what a busy core does"


def test_waking_is_told_apart_by_how_long_a_replica_slept():
    made = samples(4, idle_ns=[-1, 10, 20_000_000, 2_000_000], wake_ns=[1, 50_000, 200_000, 3])
    idle, busy = fit.wake_us(made)
    assert idle == [200.0, 200.0]
    assert busy == [50.0, 50.0]


def test_what_an_idle_replica_takes_longer_is_found_apart_from_rows():
    rng = np.random.default_rng(5)
    n = 6000
    idle_ns = np.exp(rng.uniform(np.log(5e4), np.log(1e8), n)).astype(np.int64)
    rows = rng.integers(1, 9, n)
    truth_us = np.interp(np.log2(np.maximum(idle_ns, 2**18)), [18, 20, 24, 26], [0, 100, 800, 1500])
    service_ns = (2e6 + 3e5 * rows + 1000 * truth_us) * rng.lognormal(0, 0.02, n)
    samples = {
        "threads": np.ones(n, np.int64), "busy": np.zeros(n, np.int64), "rows": rows, "met": np.zeros(n, np.int64),
        "idle_ns": idle_ns, "service_ns": service_ns.astype(np.int64),
    }  # fmt: skip
    found = fit.cold_us(samples)
    knots = cold_knots_ns()
    expected = np.interp(np.log2(knots), [18, 20, 24, 26], [0, 100, 800, 1500])
    assert found == pytest.approx(expected, abs=60)
    warm = fit.warmed(samples, found)["service_ns"]
    assert abs(np.corrcoef(np.log(idle_ns), warm / (2e6 + 3e5 * rows))[0, 1]) < 0.2
    assert np.corrcoef(np.log(idle_ns), service_ns / (2e6 + 3e5 * rows))[0, 1] > 0.7
    assert fit.cold_us({**samples, "busy": np.ones(n, np.int64)}) == [0.0] * len(knots)
