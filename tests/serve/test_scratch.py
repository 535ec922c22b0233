"""What a killed process left behind goes when the next one starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serve.scratch import scratch, sweep

KILLED = """
import os, signal
from serve.scratch import scratch
with scratch(): os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_gone_after_its_block() -> None:
    with scratch() as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    (left,) = tmp_path.iterdir()
    others = [tmp_path / name for name in ("forebay-1-of-a-living-process", "forebay-notes", "else")]
    for other in others:
        other.mkdir()
    sweep(tmp_path)
    assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted(others)
