"""No index of the kernel leaves its array: twin cases on machine code that checks every one.

Compiled code does not check by default, and an element read from beyond an array's end may well
hold the right number by chance.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_twins_agree_with_every_index_checked(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.twin.bounds_checked"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "FOREBAY_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["notices"], "an index beyond the end must raise, else this test shows nothing"
    assert report["faults"] == {}
    assert report["cases"] > 1000
