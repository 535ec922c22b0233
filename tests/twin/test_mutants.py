"""The twin test can fail: mutations of the kernel's decisions are caught; and it holds without the JIT."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report() -> Any:
    """What the kernel as plain Python made of the cases, whole and mutated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.twin.without_jit"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_kernel_as_plain_python_agrees_too(report: Any) -> None:
    assert report["disagreed"] == 0


def test_every_mutation_is_found_in_the_source(report: Any) -> None:
    assert report["missing"] == []


def test_every_mutant_is_caught(report: Any) -> None:
    assert [name for name, cases in report["caught_after"].items() if cases == 0] == []
