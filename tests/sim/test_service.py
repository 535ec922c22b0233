"""From a profile to service tables: means are kept, tails are kept, what was not measured is refused by name."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serve.errors import ProfileError, SpecError
from serve.policy import front
from serve.policy.service import service_ns
from serve.profile_samples import ServiceTimes, load_samples
from sim.level import DRIFT_AFTER_LOOK, DRIFT_LATER, STRAYS, Level, calibration_level, drift, level_path
from sim.rng import stream, uniform_bits
from sim.service import (
    BITS,
    Measured,
    PooledTail,
    cell_law,
    client_draw,
    front_at,
    front_vector,
    strata,
)
from tests.profiles import Synthetic, write_profile

ENTRIES = 2**BITS


def measured(folder: Path, synthetic: Synthetic) -> Measured:
    return Measured.load(write_profile(folder, synthetic))


def table_of(profile: Measured, replicas: int = 1, max_batch: int = 16, backend: str = "onnx") -> np.ndarray:
    service = profile.law(1, replicas, max_batch, backend).expected().service
    return service.table.reshape(service.pressure_max + 1, service.rows_max + 1, ENTRIES)


# -- one cell ------------------------------------------------------------------------------------------


@given(
    sample=arrays.arrays(float, st.integers(1, 3000), elements=st.floats(1.0, 1e9)),
    count=st.sampled_from([1, 16, 100, 1024]),
)
def test_strata_keep_mean_order_and_range(sample: np.ndarray, count: int) -> None:
    ordered = np.sort(sample)
    law = strata(ordered, count)
    assert law.mean() == pytest.approx(ordered.mean(), rel=1e-9)
    slack = 1e-6 * ordered[-1]
    assert (np.diff(law) >= -slack).all()
    assert ordered[0] - slack <= law[0]
    assert law[-1] <= ordered[-1] + slack


def test_a_large_cell_keeps_its_quantiles() -> None:
    ordered = np.sort(np.random.default_rng(0).lognormal(0, 0.5, 50_000))
    law = strata(ordered, ENTRIES)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(law, share) == pytest.approx(np.quantile(ordered, share), rel=0.01)


@pytest.mark.parametrize("slow_by", ["a time", "a factor"])
def test_a_small_cell_borrows_its_tail_and_keeps_its_body(slow_by: str) -> None:
    rng = np.random.default_rng(1)

    def sample(base: float, count: int) -> np.ndarray:
        noise = rng.exponential(1.0, count)
        return np.sort(base + (noise if slow_by == "a time" else 0.3 * base * noise))

    others = [sample(base, 4000) for base in (1.0, 3.0, 10.0)]
    errors = []
    for _ in range(50):
        small = sample(5.0, 40)
        law = cell_law(small, PooledTail.of([*others, small]))
        errors.append(law[int(0.99 * ENTRIES)] / (5.0 + np.log(100) * (1.0 if slow_by == "a time" else 1.5)) - 1)
        body = slice(0, int(0.89 * ENTRIES))
        assert np.array_equal(law[body], strata(small, ENTRIES)[body])
    assert np.abs(errors).max() < 0.25, "its own p99, the largest of forty, scatters by more"
    assert abs(np.mean(errors)) < 0.04


def test_a_cell_with_enough_samples_keeps_its_own_tail() -> None:
    own = np.linspace(1.0, 2.0, 500)
    wild = PooledTail(50.0, 0.0, np.ones(round(0.1 * ENTRIES)))
    assert cell_law(own, wild).max() <= 2.0
    assert cell_law(own[:400], wild).max() > 50.0


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_cells_have_only_their_own_tails(count: int) -> None:
    rng = np.random.default_rng(2)
    cells = [np.sort(base + rng.exponential(1.0, 60)) for base in (1.0, 4.0)[:count]]
    for cell in cells:
        law = cell_law(cell, PooledTail.of(cells))
        assert law.mean() == pytest.approx(cell.mean(), rel=0.03)
        assert law.max() <= cell.max() + (0 if count == 1 else 3) + 1e-6


# -- the table -------------------------------------------------------------------------------------------


def test_measured_cells_have_their_mean_and_others_lie_between(tmp_path: Path) -> None:
    table = table_of(measured(tmp_path, Synthetic(noise_cv=0.3, samples=600)))
    means = table[0].mean(axis=1) / 1e6
    for cell in Measured.load(tmp_path / "toy.yaml").profile.service:
        assert means[cell.rows] == pytest.approx(cell.mean_ms, rel=1e-5)
    assert means[5] == pytest.approx((means[4] + means[6]) / 2, rel=1e-6)
    assert means[11] == pytest.approx(means[8] + 0.75 * (means[12] - means[8]), rel=1e-6)


def test_interpolation_keeps_the_tail(tmp_path: Path) -> None:
    table = table_of(measured(tmp_path, Synthetic(noise_cv=0.5, samples=2000)))
    ratio = [np.quantile(table[0, rows], 0.99) / np.median(table[0, rows]) for rows in (4, 5, 6)]
    assert ratio[1] == pytest.approx(np.mean([ratio[0], ratio[2]]), rel=0.05)
    assert ratio[1] > 2


def test_neighbours_slow_a_batch(tmp_path: Path) -> None:
    table = table_of(measured(tmp_path, Synthetic(busy=(0, 2), slowdown=0.2)), replicas=3)
    means = table.mean(axis=2)
    assert means[2, 8] / means[0, 8] == pytest.approx(1.4)
    assert means[1, 8] / means[0, 8] == pytest.approx(1.2), "between measured numbers of neighbours: interpolated"


def test_batches_not_measured_beside_neighbours_are_slowed_as_the_largest_that_was(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(busy=(0, 1), slowdown=0.5))
    cells = {key: own for key, own in profile.cells.items() if key[1] == 0 or key[2] <= 4}
    means = table_of(replace(profile, cells=cells), replicas=2).mean(axis=2)
    assert means[1, 16] / means[0, 16] == pytest.approx(1.5)


def test_the_leaf_draws_from_the_cell(tmp_path: Path) -> None:
    service = measured(tmp_path, Synthetic(busy=(0, 1), noise_cv=0.2)).law(1, 2, 16).expected().service
    cell = service.table.reshape(2, 17, ENTRIES)[1, 7]
    draws = uniform_bits(np.random.default_rng(0), 20_000).tolist()
    assert {service_ns(service.table, BITS, 16, 7, 1, draw, 1.0) for draw in draws} == set(cell.tolist())


def test_a_profile_without_samples_has_the_quantiles_that_it_states(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(noise_cv=0.4, samples=0))
    law = table_of(profile)[0, 8] / 1e6
    cell = next(c for c in profile.profile.service if c.rows == 8)
    assert law.mean() == pytest.approx(cell.mean_ms, rel=1e-5)
    assert np.median(law) == pytest.approx(cell.p50_ms, rel=0.03)
    assert np.quantile(law, 0.99) == pytest.approx(cell.p99_ms, rel=0.05)


def test_equal_quantiles_mean_a_constant_time(tmp_path: Path) -> None:
    law = table_of(measured(tmp_path, Synthetic(noise_cv=0.0, samples=0)))[0, 4]
    assert set(law.tolist()) == {4_000_000}


def test_samples_are_freed_of_the_level_that_a_run_gets_anew(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(samples=600, rows=(1,), level_series=(0.5, 1.5), level_bin_s=10.0))
    assert np.ptp(profile.raw[1, 0, 1]) / 2.5e6 == pytest.approx(1.0, abs=1e-3), "half of it was measured at each level"
    assert np.ptp(profile.cells[1, 0, 1]) < 10, "freed of it, it is the constant that it was made of"
    assert set(table_of(profile, max_batch=1)[0, 1] // 1000) <= {2499, 2500}


@pytest.mark.parametrize(("request_rows", "added_ns"), [(1.0, 7 * 20_000), (2.0, 3 * 20_000), (16.0, 0)])
def test_putting_requests_together_takes_its_time(tmp_path: Path, request_rows: float, added_ns: int) -> None:
    profile = measured(tmp_path, Synthetic(joining_us=20))
    service = profile.law(1, 1, 16, request_rows=request_rows).expected().service
    assert service.table.reshape(17, ENTRIES)[8].mean() == pytest.approx(6_000_000 + added_ns, rel=1e-6)


# -- what was not measured -----------------------------------------------------------------------------------


def test_threads_not_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"replicas\.threads 3 was not measured \(measured: 1, 2\)"):
        measured(tmp_path, Synthetic(threads=(1, 2))).law(3, 1, 8)


def test_batches_not_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"batching\.max_batch 17 is beyond the 16 rows that were measured"):
        measured(tmp_path, Synthetic()).law(1, 1, 17)


def test_a_profile_that_starts_at_two_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="a lone request beside no neighbour is missing"):
        measured(tmp_path, Synthetic(rows=(2, 4))).law(1, 1, 4)


def test_more_neighbours_than_measured_are_warned_about(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(busy=(0, 1)))
    assert profile.law(1, 2, 8).warnings == ()
    law = profile.law(1, 4, 8)
    assert law.pressure_max == 1
    assert "4 replicas have up to 3 busy neighbours, 1 were measured" in law.warnings[0]


def test_samples_of_another_profile_are_refused(tmp_path: Path) -> None:
    path = write_profile(tmp_path, Synthetic())
    write_profile(tmp_path, Synthetic(seed=1, noise_cv=0.1), name="other")
    (tmp_path / "toy.parquet").write_bytes((tmp_path / "other.parquet").read_bytes())
    with pytest.raises(SpecError, match=r"samples\.sha256: toy\.parquet is not the file that was measured"):
        Measured.load(path)


def test_missing_samples_are_told(tmp_path: Path) -> None:
    path = write_profile(tmp_path, Synthetic())
    (tmp_path / "toy.parquet").unlink()
    with pytest.raises(SpecError, match=r"toy\.yaml: samples\.file: there is no such file"):
        Measured.load(path)


# -- chance ----------------------------------------------------------------------------------------------------


def test_bootstrap_spreads_as_the_standard_error(tmp_path: Path) -> None:
    law = measured(tmp_path, Synthetic(noise_cv=0.3, samples=600, rows=(1, 4), level_series=(1.0,))).law(1, 1, 4)
    taus = np.array([law.bootstrap(stream(0, r, "calibration", "bootstrap"), 10**9).tau_ns[0] for r in range(300)])
    error = 0.3 / np.sqrt(600)
    for rows in (1, 4):
        logs = np.log(taus[:, rows] / law.expected().tau_ns[0, rows])
        assert np.std(logs) == pytest.approx(error, rel=0.2)
        assert abs(np.mean(logs)) < 4 * error / np.sqrt(300)
    assert abs(np.corrcoef(taus[:, 1], taus[:, 4])[0, 1]) < 0.25, "cells are resampled apart"


def test_a_drifting_calibration_is_uncertain_for_all_cells_at_once(tmp_path: Path) -> None:
    series = tuple(np.repeat((0.9, 1.1, 0.95, 1.05), 4))
    law = measured(tmp_path, Synthetic(samples=600, rows=(1, 4), level_series=series)).law(1, 1, 4)
    taus = np.array([law.bootstrap(np.random.default_rng(r), 10**9).tau_ns[0] for r in range(100)])
    assert np.corrcoef(taus[:, 1], taus[:, 4])[0, 1] > 0.99
    assert np.std(np.log(taus[:, 1])) > 0.02


def test_a_known_level_takes_the_place_of_calibrations_own(tmp_path: Path) -> None:
    law = measured(tmp_path, Synthetic(samples=600, rows=(1, 4), level_series=(1.0,))).law(1, 1, 4)
    slow = replace(law, level=Level(1.1, 5.0))
    assert slow.expected().tau_ns == pytest.approx(law.expected().tau_ns * 1.1, rel=1e-6)
    drawn = slow.bootstrap(np.random.default_rng(0), 10**10)
    assert drawn.service.levels.tolist() == [1.1] * 12


def test_a_known_level_leaves_what_the_machine_did_between_such_spans(tmp_path: Path) -> None:
    steps, slow = np.tile((0.9, 1.1), 30), np.repeat((0.9, 1.1), 30)
    spread = {}
    for name, series in {"fast": steps, "slow": slow}.items():
        law = measured(tmp_path, Synthetic(samples=600, rows=(1, 4), level_series=tuple(series))).law(1, 1, 4)
        known = replace(law, level=Level(1.2, 6.0))
        means = [known.bootstrap(np.random.default_rng(r), 8 * 10**9).service.levels.mean() for r in range(200)]
        assert np.median(means) == pytest.approx(1.2, rel=0.02)
        spread[name] = np.std(means)
    assert spread["fast"] == pytest.approx(1.2 * STRAYS, rel=0.2), "steps that both spans average over"
    assert 0.15 < spread["slow"] < 0.5, "steps that happen between the two, and those that may still come"


def test_what_quarters_of_the_series_differ_by_goes_on(tmp_path: Path) -> None:
    def spread(series: np.ndarray, looked: bool) -> float:
        noise = measured(tmp_path, Synthetic(level_series=tuple(series))).profile.noise
        return float(np.std([math.log(drift(noise, np.random.default_rng(s), looked)) for s in range(400)]))

    quarters = np.repeat((0.95, 1.0, 1.0, 1.05), 12)
    deviation = np.std(np.log((0.95, 1.0, 1.0, 1.05)), ddof=1)
    assert spread(quarters, looked=True) == pytest.approx(DRIFT_AFTER_LOOK * deviation, rel=0.1)
    assert spread(quarters, looked=False) == pytest.approx(DRIFT_LATER * deviation, rel=0.1)
    steady = np.tile((0.95, 1.05), 24)
    assert spread(steady, looked=False) == 0, "scatter from window to window is no drift"
    assert spread(steady, looked=True) == pytest.approx(STRAYS, rel=0.1)
    assert spread(np.array([1.0]), looked=False) == 0


def test_the_front_has_a_core_with_a_level_of_its_own(tmp_path: Path) -> None:
    law = measured(tmp_path, Synthetic(samples=600, level_series=tuple(np.repeat((0.8, 1.2, 0.9, 1.1), 6)))).law(
        1, 1, 4
    )
    drawn = [law.bootstrap(np.random.default_rng(seed), 10**10) for seed in range(200)]
    replicas, fronts = [d.level_shift for d in drawn], [math.log(d.front_level) for d in drawn]
    assert np.std(fronts) > 0.1
    assert abs(np.corrcoef(replicas, fronts)[0, 1]) < 0.2


def test_a_look_at_the_front_is_where_its_level_begins(tmp_path: Path) -> None:
    law = measured(tmp_path, Synthetic(samples=600, level_series=(1.0,))).law(1, 1, 4)
    seen = replace(law, level=Level(1.1, 5.0, front=0.7))
    emulated = replace(seen, exact=True)
    for one in (seen, emulated):
        drawn = one.bootstrap(np.random.default_rng(0), 10**10)
        assert (drawn.front_level, one.expected().front_level) == pytest.approx((0.7, 0.7))
    assert emulated.expected().tau_ns == pytest.approx(replace(law, exact=True).expected().tau_ns)


def test_emulated_replicas_are_as_late_as_a_look_found_them(tmp_path: Path) -> None:
    law = replace(measured(tmp_path, Synthetic(samples=600, rows=(1, 4))).law(1, 1, 4, "emulated"))
    late = replace(law, level=Level(1.0, 5.0, late_ns=70_000))
    assert (late.expected().tau_ns - law.expected().tau_ns)[:, 1:] == pytest.approx(70_000, abs=1)
    real = replace(late, exact=False)
    assert real.expected().tau_ns == pytest.approx(replace(law, exact=False).expected().tau_ns)


def test_a_slower_core_makes_all_of_the_fronts_work_slower_and_nothing_else() -> None:
    vector = np.arange(1000, 1000 + front.FRONT_PARAM_COUNT, dtype=np.int64)
    changed = {i for i in range(len(vector)) if front_at(vector, 2.0)[i] == 2 * vector[i]}
    same = {i for i in range(len(vector)) if front_at(vector, 2.0)[i] == vector[i]}
    assert changed | same == set(range(len(vector)))
    assert same == {
        front.FRONT_BUDGET_NS,
        front.FRONT_BYTES_IN_PER_ROW,
        front.FRONT_BYTES_OUT_PER_ROW,
        front.FRONT_TIMER_LATE_NS,
    }


def test_an_emulated_replica_is_certain_and_borrows_no_tail(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(noise_cv=0.5, samples=50, level_series=(0.8, 1.2)))
    law = profile.law(1, 1, 16, "emulated")
    drawn = law.bootstrap(np.random.default_rng(0), 10**10)
    assert drawn.level_shift == 0
    assert (drawn.tau_ns == law.expected().tau_ns).all()
    assert drawn.service.levels.tolist() == [1.0]
    own = profile.raw[1, 0, 8]
    assert table_of(profile, backend="emulated")[0, 8].max() <= own[-1] + 1


def test_the_table_of_an_emulated_replica_is_what_it_draws_from(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(noise_cv=0.4, samples=64, busy=(0, 2), slowdown=0.3))
    table = table_of(profile, replicas=4, backend="emulated")
    times = ServiceTimes(load_samples(tmp_path / "toy.parquet"), 1)
    shares = (np.arange(640) + 0.5) / 640
    for busy, rows in ((0, 1), (0, 8), (1, 4), (2, 5), (2, 16)):
        drawn = np.array([times.service_ns(rows, busy, share) for share in shares])
        law = table[busy, rows]
        assert law.mean() == pytest.approx(drawn.mean(), rel=1e-4)
        for share in (0.1, 0.5, 0.9, 0.98):
            assert np.quantile(law, share) == pytest.approx(np.quantile(drawn, share), rel=0.02)


def test_level_paths_are_stretches_of_the_measured_series(tmp_path: Path) -> None:
    series = (0.9, 1.0, 1.05, 1.2, 1.3, 1.31)
    noise = measured(tmp_path, Synthetic(level_series=series, level_bin_s=2.0)).profile.noise
    starts = set()
    for seed in range(60):
        levels, bin_ns = level_path(noise, 30 * 10**9, np.random.default_rng(seed))
        assert bin_ns == 2 * 10**9
        assert len(levels) * bin_ns >= 30 * 10**9
        assert set(levels) <= set(series)
        for stretch in np.split(levels, range(3, len(levels), 3)):
            steps = [abs(series.index(a) - series.index(b)) for a, b in pairwise(stretch)]
            assert max(steps, default=0) <= 1, "only steps that were seen"
        starts.add(float(levels[0]))
    assert starts == set(series)


def test_the_mean_level_of_a_long_run_is_not_certain(tmp_path: Path) -> None:
    series = tuple(np.random.default_rng(0).normal(1.0, 0.05, 20))
    noise = measured(tmp_path, Synthetic(level_series=series)).profile.noise
    means = [level_path(noise, 60 * 10**9, np.random.default_rng(s))[0].mean() for s in range(300)]
    assert 0.3 * 0.05 / np.sqrt(60) < np.std(means) < 3 * 0.05 / np.sqrt(60)


def test_a_calibration_averages_over_its_windows(tmp_path: Path) -> None:
    series = tuple(np.random.default_rng(0).normal(1.0, 0.05, 25))
    noise = measured(tmp_path, Synthetic(level_series=series)).profile.noise
    levels = [calibration_level(noise, np.random.default_rng(seed)) for seed in range(400)]
    assert np.std(levels) == pytest.approx(np.std(series) / 5, rel=0.35)
    assert np.mean(levels) == pytest.approx(1.0, abs=0.003), "relative to the calibration that was made"


def test_a_level_that_lasts_makes_a_calibration_more_uncertain(tmp_path: Path) -> None:
    spread = []
    for each in (1, 8):
        series = tuple(np.repeat(np.random.default_rng(0).normal(1.0, 0.05, 64 // each), each))
        noise = measured(tmp_path, Synthetic(level_series=series)).profile.noise
        spread.append(np.std([calibration_level(noise, np.random.default_rng(s)) for s in range(300)]) / np.std(series))
    assert spread[1] > 1.7 * spread[0]


# -- front and client ---------------------------------------------------------------------------------------------


def test_front_vector_in_ns(tmp_path: Path) -> None:
    made = Synthetic(
        parse_us=20.5, finish_batch_us=30, finish_request_us=7, refuse_us=9, dispatch_us=50, timer_late_us=60
    )
    profile = measured(tmp_path, made).profile
    vector = front_vector(profile.front, profile.noise, 5_000_000)
    assert vector.tolist() == [20_500, 0, 30_000, 7_000, 0, 9_000, 5_000_000, 16, 8, 60_000, 50_000, 0, 0]


def test_client_overhead_is_the_sum_of_both_ways(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(send_us=(0, 100), receive_us=(1000, 1000, 3000))).profile
    drawn = client_draw(profile.client, 16)(np.random.default_rng(0), np.ones(100_000, np.int64)) / 1000
    assert drawn.min() >= 1000
    assert drawn.max() <= 3100
    assert drawn.mean() == pytest.approx(50 + 1500, rel=0.01)
    assert drawn.var() == pytest.approx(100**2 / 12 + np.var([0] * 100_000) + 0.5 * 2000**2 / 3 - 500**2, rel=0.02)


def test_larger_requests_take_longer_to_send(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(send_us=(100, 100))).profile
    costs = profile.client.model_copy(update={"send_us_per_kib": 2.0})
    drawn = client_draw(costs, 512)(np.random.default_rng(0), np.array([1, 4]))
    assert (drawn - 100_000).tolist() == [1_000, 4_000]


def test_an_answer_read_before_its_stamp_shortens_the_latency_but_never_below_nothing(tmp_path: Path) -> None:
    profile = measured(tmp_path, Synthetic(send_us=(50, 50), receive_us=(-500, -20))).profile
    drawn = client_draw(profile.client, 16)(np.random.default_rng(0), np.ones(10_000, np.int64))
    assert drawn.min() == 0
    assert 0 < drawn.max() <= 30_000
