"""The flags of `forebay calibrate` as what `serve.benchmark` takes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.errors import Fault, SpecError
from serve.units import parse_duration_ns


def shapes_of(flags: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`NAME=1x3x48x192`, batch axis first, as {NAME: (3, 48, 192)}; SpecError for every flag that cannot be read."""
    shapes: dict[str, tuple[int, ...]] = {}
    faults = []
    for flag in flags:
        matched = re.fullmatch(r"([^=]+)=([0-9]{1,9}(?:x[0-9]{1,9})*)", flag)
        sizes = tuple(int(size) for size in matched[2].split("x")) if matched else ()
        if matched is None or sizes[0] != 1 or 0 in sizes:
            faults.append(Fault("--shape", "", f"must be NAME=1x3x48x192, the batch axis (1) first, got {flag!r}"))
        else:
            shapes[matched[1]] = sizes[1:]
    if faults:
        raise SpecError(faults)
    return shapes


def threads_of(text: str) -> tuple[int, ...]:
    """`1,2` as (1, 2); ValueError otherwise."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,3}", part) for part in parts):
        raise ValueError("must be numbers of threads such as 1,2")
    return tuple(sorted({int(part) for part in parts}))


def budget_s_of(text: str) -> float:
    """`60s` in seconds; ValueError for what is no duration or no time at all."""
    budget_ns = parse_duration_ns(text)
    if budget_ns < 10**9:
        raise ValueError("must be at least 1s")
    return budget_ns / 1e9


def data_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file by name; SpecError if it is none."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("this is a single array without a name (.npy)")
        with loaded as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise SpecError.of(path, "", "there is no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        message = f"must be an .npz file with one array for each input of the model: {error}"
        raise SpecError.of(path, "", message) from None
