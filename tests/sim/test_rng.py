"""Named streams: the same name gives the same draws everywhere, another name gives unrelated ones."""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from sim.rng import stream, uniform_bits


def test_same_name_same_draws() -> None:
    one, other = (stream(7, 3, "interactive", "rows").random(100) for _ in range(2))
    assert (one == other).all()


@pytest.mark.parametrize(
    "key",
    [
        (8, 3, "interactive", "rows"),
        (7, 4, "interactive", "rows"),
        (7, 3, "nightly", "rows"),
        (7, 3, "interactive", "gaps"),
    ],
)
def test_any_part_of_the_name_changes_the_draws(key: tuple[int, int, str, str]) -> None:
    count = 10_000
    mine = stream(7, 3, "interactive", "rows").standard_normal(count)
    theirs = stream(*key).standard_normal(count)
    assert abs(np.corrcoef(mine, theirs)[0, 1]) < 4 / np.sqrt(count)


def test_names_do_not_run_into_each_other() -> None:
    draws = {stream(0, 0, a, b).integers(2**62) for a, b in product(("a", "ab", "b", ""), repeat=2)}
    assert len(draws) == 16


def test_streams_do_not_depend_on_the_process() -> None:
    program = "from sim.rng import stream; print(stream(7, 3, 'interactive', 'rows').integers(2**62))"
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{stream(7, 3, 'interactive', 'rows').integers(2**62)}\n"}


def test_bits_are_non_negative_and_use_all_63() -> None:
    bits = uniform_bits(stream(0, 0, "a", "service"), 10_000)
    assert bits.dtype == np.int64
    assert bits.min() >= 0
    for bit in range(63):
        assert 0.45 < ((bits >> bit) & 1).mean() < 0.55
