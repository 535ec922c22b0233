"""What verify sends: rows of the shapes that were calibrated, or, where the batch is fixed, the whole of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.subject import INPUT_ROWS, read_subject
from planner.verify import verify
from serve import files
from serve.deployment import Deployment
from serve.profile import Profile, Tensor
from sim.scenario import PlannedDeployment
from tests.profiles import Synthetic, write_profile
from tests.serve.models import affine

FIXED = 2


def planned(folder: Path, batch: int | str) -> Path:
    """A deployment, planned for 100 requests/s, of a real model whose first axis is `batch`."""
    affine(folder / "affine.onnx", width=4, batch=batch)
    path = write_profile(folder, Synthetic(rows=(1,)) if batch == FIXED else None)
    if batch == FIXED:
        _fix(path)
    deployment = {
        "models": {"toy": {"profile": "toy.yaml", "file": "affine.onnx"}},
        "pools": {"here": {"cores": 2, "price": "1 USD/h"}},
        "planned_for": {
            "workload": {"duration": "1s", "classes": {"all": {"arrivals": {"poisson": "100/s"}}}},
            "slo": {"p99": "10s"},
            "seed": 1,
        },
    }
    files.save(folder / "d.yaml", Deployment.model_validate(deployment))
    return folder / "d.yaml"


def _fix(path: Path) -> None:
    """Say of a profile what calibration says of a model whose batch is fixed."""
    profile = files.load(path, Profile)
    whole = {
        "batch_axis": None,
        "max_batch": 1,
        "inputs": [Tensor(name="x", datatype="FP32", shape=[FIXED, 4])],
        "outputs": [Tensor(name="y", datatype="FP32", shape=[FIXED, 4])],
    }
    files.save(path, profile.model_copy(update={"model": profile.model.model_copy(update=whole)}))


def test_a_request_of_k_rows_sends_k_examples(tmp_path: Path) -> None:
    (x,) = read_subject(planned(tmp_path, "n")).inputs()
    assert (x.name, x.datatype, x.rows, x.whole) == ("x", "FP32", INPUT_ROWS, False)
    assert x.take(3).shape == (3, 4)


def test_a_fixed_batch_is_sent_whole_and_counts_as_one_row(tmp_path: Path) -> None:
    (x,) = read_subject(planned(tmp_path, FIXED)).inputs()
    assert (x.rows, x.whole) == (1, True)
    assert x.take(1).shape == (FIXED, 4)


def test_the_seed_decides_the_examples(tmp_path: Path) -> None:
    path = planned(tmp_path, FIXED)
    first, again, other = (read_subject(path, seed).inputs()[0].data for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.live
def test_a_model_of_fixed_batch_is_verified_live(tmp_path: Path) -> None:
    report = verify(planned(tmp_path, FIXED), repeats=1)
    (run,) = report.runs
    assert run.requests == run.answered > 50, "no request was refused as of a wrong shape"
    assert run.batch_rows == {1: 1.0}


def test_a_planned_deployment_can_also_be_read_with_its_plan_typed(tmp_path: Path) -> None:
    read = files.load(planned(tmp_path, "n"), PlannedDeployment)
    assert read.planned_for.slo == {"p99": "10s"}
