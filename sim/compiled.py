"""Compilation: numba's decorators, and a disk cache keyed by the hash of every source that is compiled.

numba's own cache looks only at the file of the cached function, so an edited leaf in
`serve/policy` would silently leave the old machine code in use. This module sets numba's cache
folder to one named by a hash over all those sources; it must be imported before they are compiled.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_config: Any = numba.config

SOURCES = (
    "serve/policy/*.py",
    "serve/policy/engines/*.py",
    "serve/records.py",
    "sim/compiled.py",
    "sim/layout.py",
    "sim/tally.py",
    "sim/kernel*.py",
)
"""Every source that the machine code depends on, relative to the folder that holds `sim`."""


def source_hash(root: Path) -> str:
    """Hash of the names and bytes of all compiled sources below `root`, and of what else changes the code."""
    digest = hashlib.sha256(f"{numba.__version__} {_config.BOUNDSCHECK}".encode())
    for path in sorted(p for pattern in SOURCES for p in root.glob(pattern)):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def cache_base() -> Path:
    """Where machine code is kept: FOREBAY_CACHE_DIR, else the user's cache folder."""
    if given := os.environ.get("FOREBAY_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forebay"


def writable(folder: Path) -> bool:
    """Whether machine code can be kept there. If not it must not be kept at all: numba would fall back to a
    folder beside the sources, which is not keyed by their hash."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


CACHE_FOLDER = cache_base() / "numba" / source_hash(Path(__file__).resolve().parent.parent)
CACHED = writable(CACHE_FOLDER)
if CACHED:
    _config.CACHE_DIR = str(CACHE_FOLDER)

# The tally adds eight sums that lie side by side: as vectors, a twentieth faster in all, to the same bits.
_config.SLP_VECTORIZE = 1

_COMMON: dict[str, Any] = {
    # Reference counts of arrays passed between helpers are atomic increments, the first cost of
    # the prototype; nothing here allocates. Every divisor is checked positive before the call.
    "_nrt": False,
    "error_model": "numpy",
}

# Helpers are called by compiled code only; wrappers for Python would be half of the compile time.
_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def helper(function: Callable[..., Any]) -> Any:
    """Compile a helper of the kernel as a function of its own."""
    return numba.njit(**_COMMON, **_INNER)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a helper, or a leaf of the rulebook, into its callers."""
    return numba.njit(forceinline=True, **_COMMON, **_INNER)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile what Python calls: kept on disk with all that it calls, and run without the GIL."""
    return numba.njit(cache=CACHED, nogil=True, **_COMMON)(function)


_telling = threading.Lock()


def tell_if_compiling() -> None:
    """One line on stderr, once a process, before the first use on a machine, which takes some seconds longer."""
    with _telling:
        _tell_if_compiling()


@functools.cache
def _tell_if_compiling() -> None:
    if not _config.DISABLE_JIT and not any(CACHE_FOLDER.rglob("*.nbi")):
        print("forebay: compiling the simulator for this machine, once; this takes about ten seconds", file=sys.stderr)
