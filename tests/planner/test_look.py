"""The level of the machine, and what idleness adds now, are told apart by service times alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.look import Seen, fit, lateness_ns, seen_of
from planner.subject import Subject, read_subject
from serve import files, records
from serve.backends.contract import DEFAULT_SEED
from serve.backends.emulated import draw as draw_of_batch
from serve.cold import cold_ns
from serve.policy.service import COLD_KNOTS
from serve.profile import Profile
from serve.profile_samples import ServiceTimes, load_samples
from serve.records import Rows, empty_rows
from serve.request_log import BATCH_COLUMNS
from tests.planner.test_subject import planned
from tests.profiles import Synthetic, write_profile

CURVE_US = [50.0 * 2**k for k in range(COLD_KNOTS)]


def looked_at(level: float, cold: float, idle_ns: np.ndarray) -> Seen:
    """Batches of a machine on which everything takes `level` and idleness adds `cold` of what it did."""
    rng = np.random.default_rng(0)
    extra = cold_ns(idle_ns, CURVE_US) / 2_500_000
    return Seen(level * rng.lognormal(0, 0.02, len(idle_ns)) + cold * extra, extra)


@pytest.mark.parametrize(("level", "cold"), [(1.0, 1.0), (0.9, 0.2), (1.1, 2.0), (0.95, 0.0)])
def test_what_idleness_adds_now_is_told_from_how_fast_the_machine_is(level: float, cold: float) -> None:
    seen = looked_at(level, cold, np.random.default_rng(1).exponential(2e6, 2000))
    assert fit(seen) == (pytest.approx(level, abs=0.01), pytest.approx(cold, abs=0.1))


def test_replicas_that_never_rested_say_nothing_of_idleness() -> None:
    assert fit(looked_at(1.2, 0.0, np.zeros(500))) == (pytest.approx(1.2, abs=0.01), 1.0)


def subject_of(folder: Path) -> Subject:
    """A deployment whose profile knows 1, 2 and 4 rows alone and a lone row beside one neighbour."""
    subject = read_subject(planned(folder, "batch"))
    made = Synthetic(base_ms=1.0, row_ms=1.0, rows=(1, 2, 4), busy=(0, 1), slowdown=0.5)
    profile = files.load(write_profile(folder, made, name="known"), Profile)
    return replace(subject, profile=profile.model_copy(update={"cold_us": [100.0] * COLD_KNOTS}))


def log_of(*batches: tuple[int, int, int, int]) -> Rows:
    """Batches of one replica: (rows, busy, idle before, service), in us; each is noticed 40 us after its end."""
    rows, at_ns = [], 0
    for number, (size, busy, idle_us, service_us) in enumerate(batches):
        start_ns = at_ns + idle_us * 1000
        at_ns = start_ns + service_us * 1000
        values = {
            "batch": number,
            "threads": 1,
            "rows": size,
            "busy": busy,
            "dispatch_ns": start_ns,
            "start_ns": start_ns,
        }
        values |= {"begin_ns": start_ns, "end_ns": at_ns, "seen_ns": at_ns + 40_000, "finished_ns": at_ns + 50_000}
        rows.append([values.get(name, 0) for name in BATCH_COLUMNS])
    return np.array(rows, np.int64)


def test_batches_count_relative_to_their_size_and_neighbours(tmp_path: Path) -> None:
    log = log_of((1, 0, 0, 1960), (4, 0, 500, 4960), (1, 1, 0, 2960), (3, 0, 0, 9999), (2, 0, 0, 2960))
    seen = seen_of(subject_of(tmp_path), log)
    assert seen.took == pytest.approx([1.0, 1.0, 1.0, 1.0]), "3 rows were not measured and say nothing"
    assert seen.cold == pytest.approx([0.0, 0.1 / 5.0, 0.0, 0.0], abs=1e-3)


def test_a_stalled_batch_says_nothing(tmp_path: Path) -> None:
    seen = seen_of(subject_of(tmp_path), log_of((1, 0, 0, 1960), (1, 0, 0, 900_000), (1, 0, 0, 1960)))
    assert len(seen.took) == 2
    assert len(seen_of(subject_of(tmp_path), log_of().reshape(0, len(BATCH_COLUMNS))).took) == 0


def test_emulated_replicas_are_late_by_what_they_took_beyond_their_draws(tmp_path: Path) -> None:
    subject = read_subject(planned(tmp_path, "batch"))
    write_profile(tmp_path, Synthetic(noise_cv=0.5, samples=300))
    times = ServiceTimes(load_samples(tmp_path / "toy.parquet"), 1)
    subject = replace(subject, profile=files.load(tmp_path / "toy.yaml", Profile))
    drawn_us = [times.service_ns(2, 0, draw_of_batch(DEFAULT_SEED, 2 * k)) // 1000 for k in range(40)]
    assert len(set(drawn_us)) > 30
    batches = log_of(*((2, 0, 100, drawn + 30) for drawn in drawn_us))
    requests = empty_rows(80)
    requests[:, records.REQUEST] = np.arange(80)
    requests[:, records.BATCH] = np.arange(80) // 2
    late_ns = lateness_ns(subject, batches, requests[::-1])
    assert late_ns == pytest.approx(70_000, abs=1000), "30 us, and 40 until it is noticed"
    assert lateness_ns(subject, batches[:5], requests) is None
