"""An old profile still holds if a few batches take what it says, within its machine's own noise."""

import numpy as np
import pytest

from serve.calibration.samples import Columns
from serve.calibration.spot import WarmTime, compare, known_cells, spot_check, warm_times
from serve.files import load, save
from serve.policy.service import COLD_KNOTS
from serve.profile import Profile
from tests.profiles import Synthetic, write_profile
from tests.serve.test_benchmark import write_model

STEADY = Synthetic(base_ms=2.0, row_ms=0.5, rows=(1, 2, 4, 8), busy=(0, 1))


@pytest.fixture
def steady(tmp_path) -> Profile:
    return load(write_profile(tmp_path, STEADY), Profile)


def test_batches_without_neighbours_are_measured_again(steady):
    assert [(c.busy, c.rows) for c in known_cells(steady)] == [(0, 1), (0, 2), (0, 4), (0, 8)]


KNOWN_MS = {1: 2.5, 4: 4.0, 8: 6.0}


def times(factor: float) -> dict[int, WarmTime]:
    return {r: WarmTime(time_ms * factor, 50) for r, time_ms in KNOWN_MS.items()}


def test_small_differences_agree_and_large_ones_do_not():
    assert compare(0.01, KNOWN_MS, times(1.03))[:2] == (pytest.approx(1.03), True)
    assert compare(0.01, KNOWN_MS, times(0.97))[:2] == (pytest.approx(0.97), True)
    level, agrees, why = compare(0.01, KNOWN_MS, times(1.3))
    assert (level, agrees) == (pytest.approx(1.3), False)
    assert "+30.0%" in why and "8 rows 7.8 ms, was 6" in why


def test_a_noisy_machine_is_allowed_more():
    assert not compare(0.01, KNOWN_MS, times(1.15))[1]
    assert compare(0.06, KNOWN_MS, times(1.15))[1]
    assert not compare(1.0, KNOWN_MS, times(1.3))[1], "but not anything"


def test_sizes_count_by_their_samples():
    found = {1: WarmTime(2.5, 900), 8: WarmTime(12.0, 100)}
    assert compare(0.01, KNOWN_MS, found)[0] == pytest.approx(2**0.1)


def test_nothing_measured_is_no_agreement():
    assert compare(0.01, KNOWN_MS, {})[:2] == (None, False)


def test_how_long_replicas_had_been_idle_does_not_look_like_another_machine():
    """The same machine, looked at while its replicas rest, is the same machine."""
    curve_us = [1000.0] * COLD_KNOTS
    count = 100

    def samples(idle_ns: int) -> Columns:
        columns = {name: np.zeros(count, np.int64) for name in ("busy", "met")}
        service_ns = np.full(count, 2_500_000 + (1_000_000 if idle_ns else 0))
        ones = np.ones(count, np.int64)
        return {**columns, "threads": ones, "rows": ones, "service_ns": service_ns, "idle_ns": ones * idle_ns}

    assert warm_times(samples(0), curve_us) == warm_times(samples(50_000_000), curve_us) == {1: WarmTime(2.5, count)}


@pytest.mark.live
def test_a_model_that_has_become_slower_is_noticed(steady, tmp_path):
    """The real model takes microseconds, the profile says milliseconds: the check must say so."""
    write_model(tmp_path / "none.onnx")
    path = tmp_path / "toy.yaml"
    outputs = [t.model_copy(update={"shape": [3]}) for t in steady.model.outputs]
    save(path, steady.model_copy(update={"model": steady.model.model_copy(update={"outputs": outputs})}))
    check = spot_check(path, seconds=0.5)
    assert not check.agrees
    assert check.level is not None and check.level < 0.5
    assert check.measured_s > 0
    assert "rows" in check.why
