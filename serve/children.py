"""Child processes of ours: Python with this very package, whatever lies in the folder that we were started in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder that holds `serve`."""


def python(*arguments: str) -> list[str]:
    """Command of the interpreter that runs us; it does not look for modules in the current folder (`-P`)."""
    return [sys.executable, "-P", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Environment in which a child finds the package that its parent runs."""
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path} | more
