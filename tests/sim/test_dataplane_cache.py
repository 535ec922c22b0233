"""The cache of machine code: keyed by every source it is compiled from, so that no edit goes unseen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sim.compiled import SOURCES, cache_base, source_hash, writable

ROOT = Path(__file__).resolve().parents[2]

ONE_BATCH = """
import numpy as np
from serve.policy.codes import NEVER_NS
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import Node, Requests, Service
none, never = np.zeros(1, np.int64), np.full(1, NEVER_NS)
plane = DataPlane(Node(SchedulerSpec(1), 1, Service(np.array([0, 1000]), 0, 1, 0)), 1, keep="rows")
plane.ready(0)
plane.feed(Requests(none, none + 1, none, none, never, never, none, np.zeros((1, 1), np.int64)))
plane.end_feed()
plane.advance(10**9)
print(plane.rows()[0, -1])
"""


OUR_MODULES = """
import sys
import sim.kernel
for name, module in list(sys.modules.items()):
    if name.split(".")[0] in ("serve", "sim") and module is not None:
        print(module.__file__)
"""


def answered_ns(root: Path, cache: Path) -> tuple[int, str]:
    """When the only request is answered by the sources below `root`, and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", ONE_BATCH],
        cwd=root,
        env={**os.environ, "FOREBAY_CACHE_DIR": str(cache), "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout), done.stderr


def copy_of_the_sources(folder: Path) -> Path:
    """The packages that the data plane is made of."""
    for package in ("serve", "sim"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
def test_an_edited_leaf_changes_the_result(tmp_path: Path) -> None:
    root, cache = copy_of_the_sources(tmp_path / "tree"), tmp_path / "cache"
    answer, said = answered_ns(root, cache)
    assert answer == 1000
    assert "compiling the simulator" in said
    assert len(said.splitlines()) == 1
    assert answered_ns(root, cache) == (1000, "")  # from the cache, silently
    leaf = root / "serve/policy/service.py"
    edited = leaf.read_text().replace("return int(value * level)", "return int(value * level) + 7")
    assert edited != leaf.read_text()
    stamp = leaf.stat()
    leaf.write_text(edited)
    os.utime(leaf, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not even the time of change may matter
    assert answered_ns(root, cache)[0] == 1007


def test_every_source_that_is_compiled_is_in_the_key(tmp_path: Path) -> None:
    """All modules of ours that `sim.kernel` imports are covered, and each one's bytes change the hash."""
    listed = subprocess.run(
        [
            sys.executable,
            "-c",
            OUR_MODULES,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {Path(line) for line in listed.stdout.splitlines() if not line.endswith("/__init__.py")}
    covered = {path for pattern in SOURCES for path in ROOT.glob(pattern)}
    assert imported <= covered
    root = copy_of_the_sources(tmp_path)
    before = source_hash(root)
    for path in sorted(imported):
        copy = root / path.relative_to(ROOT)
        original = copy.read_bytes()
        copy.write_bytes(original + b"#")
        assert source_hash(root) != before
        copy.write_bytes(original)
    assert source_hash(root) == before


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOREBAY_CACHE_DIR", str(tmp_path))
    assert cache_base() == tmp_path
    monkeypatch.delenv("FOREBAY_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_base() == tmp_path / "forebay"


def test_without_a_folder_to_write_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert writable(tmp_path / "new")
    assert not writable(tmp_path / "file" / "below")
