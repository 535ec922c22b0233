"""A profile's raw samples: service times in ns by (threads, busy, rows), each cell in ascending order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from serve.cold import cold_ns
from serve.errors import ProfileError
from serve.files import bound
from serve.profile import Noise, Profile, ServiceCell

Floats = npt.NDArray[np.float64]
Cells = Mapping[tuple[int, int, int], Floats]
"""(threads, busy, rows) -> service times in ns, ascending."""

ASSUMED_SAMPLES = 1024
"""Size of the sample that stands for a cell of a profile without samples: its quantiles at even steps."""


ALONE_SAMPLES_MIN = 30
"""A cell of fewer batches that met no neighbour uses all of its samples."""


def load_cells(profile: Profile, path: Path) -> tuple[Cells, Cells, Cells]:
    """The samples of the profile read from `path`, in three ways.

    As measured; freed of the machine's level and of what idle replicas take longer; and of the latter
    those without neighbours (`busy` 0) that met none later either, which is what a machine's only replica is like.

    A sample's service time is divided by the level of the window in which it was taken, so that what
    is left scatters around one and the same machine; a simulated run then gets a level of its own.

    Raises
    ------
    SpecError : the samples' file is not there, or is not the file that the profile was written with.
    ProfileError : it cannot be read, or lacks a cell.
    """
    if profile.samples.rows == 0:
        cells: Cells = {(c.threads, c.busy, c.rows): assumed(c) for c in profile.service}
        return cells, cells, cells
    file = bound(path, "samples", profile.samples)
    columns = read_columns(file)
    cells = _grouped(columns, columns["service_ns"])
    warm_ns = np.maximum(columns["service_ns"] - cold_ns(columns["idle_ns"], profile.cold_us), 1.0)
    for cell in profile.service:
        if (cell.threads, cell.busy, cell.rows) not in cells:
            where = f"threads {cell.threads}, busy {cell.busy}, rows {cell.rows}"
            raise ProfileError(f"{path}: {file.name} holds no samples of {where}, which the profile lists")
    freed_ns = warm_ns / levels_at(columns["at_s"], profile.noise)
    freed = _grouped(columns, freed_ns)
    unmet = columns["met"] == 0
    unmet_cells = _grouped({name: values[unmet] for name, values in columns.items()}, freed_ns[unmet])
    alone = {key: own for key, own in unmet_cells.items() if len(own) >= ALONE_SAMPLES_MIN}
    return cells, freed, {**freed, **alone}


READ = ("threads", "busy", "rows", "at_s", "service_ns", "met", "idle_ns")
"""Columns of a samples' file that service times need."""


def read_columns(file: Path) -> dict[str, Floats]:
    """The columns of a samples' file that service times need, one row a batch; ProfileError if it cannot be used."""
    try:
        return _read_columns(file)
    except (OSError, TypeError, ValueError) as error:  # pyarrow's own errors are these too
        raise ProfileError(f"{file}: cannot be read as samples: {error}; calibrate again") from None


def _read_columns(file: Path) -> dict[str, Floats]:
    from pyarrow import parquet  # slow to import, and synthetic profiles do without
    from pyarrow.types import is_floating, is_integer

    # `read_table` and `to_numpy` would import pandas, a quarter of a second that every simulation would pay.
    opened = parquet.ParquetFile(file)
    if missing := [name for name in READ if name not in opened.schema_arrow.names]:
        raise ProfileError(
            f"{file}: must have the columns {', '.join(READ)}, lacks {', '.join(missing)}; calibrate again"
        )
    fields = {name: opened.schema_arrow.field(name).type for name in READ}
    if wrong := [f"{name} ({kind})" for name, kind in fields.items() if not (is_integer(kind) or is_floating(kind))]:
        raise ProfileError(f"{file}: must have numbers in its columns, not {', '.join(wrong)}; calibrate again")
    if opened.metadata.num_rows == 0:
        raise ProfileError(f"{file}: holds no samples; calibrate again")
    table = opened.read(columns=list(READ), use_threads=False)
    return {
        name: np.concatenate([np.from_dlpack(chunk) for chunk in table[name].chunks]).astype(np.float64)
        for name in READ
    }


def levels_at(at_s: Floats, noise: Noise) -> Floats:
    """The machine's level in the window of each instant; the last window lasts."""
    series = np.array(noise.level_series or [1.0])
    window = (at_s // noise.level_bin_s).astype(np.int64)
    return series[np.clip(window, 0, len(series) - 1)]


def _grouped(columns: Mapping[str, Floats], service_ns: Floats) -> Cells:
    """Service times by cell, by one sort over (threads, busy, rows, service time)."""
    order = np.lexsort((service_ns, columns["rows"], columns["busy"], columns["threads"]))
    keys = np.stack([columns[name].astype(np.int64) for name in ("threads", "busy", "rows")], axis=1)[order]
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
    parts = np.split(service_ns[order], starts[1:])
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
