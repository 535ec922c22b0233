"""An old profile still holds if a few batches take what it says, within its machine's own noise."""

import pytest

from serve.calibration.spot import compare, known_cells, spot_check
from serve.files import load, save
from serve.profile import Profile
from tests.profiles import Synthetic, write_profile
from tests.serve.test_benchmark import write_model

STEADY = Synthetic(base_ms=2.0, row_ms=0.5, rows=(1, 2, 4, 8), busy=(0, 1))


@pytest.fixture
def steady(tmp_path) -> Profile:
    return load(write_profile(tmp_path, STEADY), Profile)


def test_batches_without_neighbours_are_measured_again(steady):
    assert [(c.busy, c.rows) for c in known_cells(steady)] == [(0, 1), (0, 2), (0, 4), (0, 8)]


def test_small_differences_agree_and_large_ones_do_not(steady):
    known = {1: 2.5, 4: 4.0, 8: 6.0}
    assert compare(steady, {r: t * 1.03 for r, t in known.items()})[:2] == (pytest.approx(1.03), True)
    assert compare(steady, {r: t * 0.97 for r, t in known.items()})[:2] == (pytest.approx(0.97), True)
    level, agrees, why = compare(steady, {r: t * 1.3 for r, t in known.items()})
    assert (level, agrees) == (pytest.approx(1.3), False)
    assert "+30.0%" in why and "8 rows 7.8 ms, was 6" in why


def test_a_noisy_machine_is_allowed_more(steady):
    def with_cv(cv: float) -> Profile:
        return steady.model_copy(update={"noise": steady.noise.model_copy(update={"repeat_cv": cv})})

    assert not compare(steady, {1: 2.5 * 1.15})[1]
    assert compare(with_cv(0.06), {1: 2.5 * 1.15})[1]
    assert not compare(with_cv(1.0), {1: 2.5 * 1.3})[1], "but not anything"


def test_nothing_measured_is_no_agreement(steady):
    assert compare(steady, {})[:2] == (None, False)


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
