"""Temporary folders that are removed even after a kill -9: by the next one that is made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from pathlib import Path

_PREFIX = "forebay-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this process, removed at the end of the block; those of processes that are gone are removed first."""
    sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{getpid()}-") as folder:
        yield Path(folder)


def sweep(folder: Path) -> None:
    """Remove what processes left in `folder` that were killed before they could."""
    for path in folder.glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).split("-", 1)[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)
