"""A profile's raw samples: service times in ns by (threads, busy, rows), each cell in ascending order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from serve.errors import ProfileError, SpecError
from serve.files import resolve, sha256
from serve.profile import Profile, ServiceCell

Floats = npt.NDArray[np.float64]
Cells = Mapping[tuple[int, int, int], Floats]
"""(threads, busy, rows) -> service times in ns, ascending."""

ASSUMED_SAMPLES = 1024
"""Size of the sample that stands for a cell of a profile without samples: its quantiles at even steps."""


def load_cells(profile: Profile, path: Path) -> Cells:
    """The samples of the profile read from `path`.

    Raises
    ------
    SpecError : the samples' file cannot be read.
    ProfileError : it is not the file that the profile was written with, or lacks a cell.
    """
    if profile.samples.rows == 0:
        return {(c.threads, c.busy, c.rows): assumed(c) for c in profile.service}
    file = resolve(path, profile.samples.file)
    if not file.is_file():
        raise SpecError.of(path, "samples.file", f"must name the samples' file beside the profile, found no {file}")
    if sha256(file) != profile.samples.sha256:
        raise ProfileError(f"{path}: samples.sha256: {file.name} is not the file that was measured with this profile")
    cells = _grouped(file)
    for cell in profile.service:
        if (cell.threads, cell.busy, cell.rows) not in cells:
            where = f"threads {cell.threads}, busy {cell.busy}, rows {cell.rows}"
            raise ProfileError(f"{path}: {file.name} holds no samples of {where}, which the profile lists")
    return cells


def _grouped(file: Path) -> Cells:
    """Cells of a parquet file, by one sort over (threads, busy, rows, service time)."""
    from pyarrow import parquet  # slow to import, and synthetic profiles do without

    names = ["threads", "busy", "rows", "service_ns"]
    table = parquet.read_table(file, columns=names, use_threads=False)
    threads, busy, rows, service_ns = (table[name].to_numpy().astype(np.int64) for name in names)
    order = np.lexsort((service_ns, rows, busy, threads))
    keys = np.stack([threads, busy, rows], axis=1)[order]
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
    values = service_ns[order].astype(np.float64)
    parts = np.split(values, starts[1:])
    return {(int(t), int(b), int(r)): part for (t, b, r), part in zip(keys[starts], parts, strict=True)}


def assumed(cell: ServiceCell) -> Floats:
    """A lognormal with the cell's p50 and p99, scaled to its mean; constant where they are equal."""
    if cell.p99_ms <= cell.p50_ms:
        return np.full(ASSUMED_SAMPLES, cell.mean_ms * 1e6)
    normal = NormalDist()
    sigma = math.log(cell.p99_ms / cell.p50_ms) / normal.inv_cdf(0.99)
    steps = ((i + 0.5) / ASSUMED_SAMPLES for i in range(ASSUMED_SAMPLES))
    law = np.exp(sigma * np.array([normal.inv_cdf(u) for u in steps]))
    return np.asarray(law * (cell.mean_ms * 1e6 / law.mean()))
