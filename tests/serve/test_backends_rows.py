"""Rows that depend on each other are told from rounding, and only where it can be told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from serve.backends.contract import Array
from serve.backends.rows import MIXING_MIN, ROWS, differ, distinct_rows, mixed_output
from serve.profile import Tensor

X = Tensor(name="x", datatype="FP32", shape=[3, -1])
Y = Tensor(name="y", datatype="FP32", shape=[3, 1])
Z = Tensor(name="z", datatype="INT64", shape=[1])


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "INT64", "UINT8", "BOOL", "BYTES"])
def test_made_up_rows_differ_and_fit(datatype: str) -> None:
    rows = distinct_rows(Tensor(name="x", datatype=datatype, shape=[2, -1]))
    assert rows.shape == (ROWS, 2, 1)
    assert (rows[0] != rows[1]).all()


def test_the_first_output_that_mixes_is_named() -> None:
    def run(feeds: Mapping[str, Array]) -> list[Array]:
        x = feeds["x"].astype(np.float64)
        return [x, x - x.mean(axis=0)]

    assert mixed_output(run, [X], [Y, Y.model_copy(update={"name": "mixed"})]) == "mixed"


def test_a_model_that_fails_on_made_up_rows_is_let_pass() -> None:
    def run(feeds: Mapping[str, Array]) -> list[Array]:
        raise RuntimeError("indices out of bounds")

    assert mixed_output(run, [X], [Y]) is None


@pytest.mark.parametrize("share", [0.5 * MIXING_MIN, 2 * MIXING_MIN])
def test_rounding_is_no_mixing(share: float) -> None:
    alone = [np.array([[1.0, -2.0]]), np.array([[0.5, 0.0]])]
    together = np.concatenate(alone)
    together[1, 1] += share * 2.0
    assert differ(together, alone) == (share > MIXING_MIN)


def test_of_whole_numbers_and_of_infinities_it_cannot_be_told() -> None:
    assert not differ(np.array([[1], [2]]), [np.array([[1]]), np.array([[9]])])
    assert not differ(np.array([[1.0], [np.inf]]), [np.array([[1.0]]), np.array([[np.inf]])])
