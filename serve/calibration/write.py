"""The profile's two files: samples first, then the YAML that names them by hash; each whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pyarrow
import pyarrow.parquet

from serve.calibration.samples import Columns
from serve.files import save, sha256
from serve.profile import Profile, Samples

COMMENTS = {
    "": "What this model takes on this machine, measured by `forebay calibrate`; docs/calibration.md says how.",
    "service": "From the dispatch decision to the completion seen by the front, by threads, busy neighbours and rows.",
    "front": "What the HTTP front's jobs take; the simulator's front station has these costs.",
    "client": "What a client adds to the server's latency, quantiles at 0, 1, ..., 100 %.",
    "noise": "How well the machine repeats itself; level_series is its speed in successive windows, 1 = the mean.",
    "samples": "The raw samples, one row a batch.",
}


def save_profile(out: Path, profile: Profile, samples: Columns) -> Profile:
    """Write both and return the profile as written; an interrupted write leaves an older pair usable or detectable."""
    file = out.with_suffix(".parquet")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_samples(file, samples)
    bound = Samples(file=file.name, sha256=sha256(file), rows=len(samples["rows"]))
    written = profile.model_copy(update={"samples": bound})
    save(out, written, COMMENTS)
    return written


def write_samples(file: Path, samples: Columns) -> None:
    """The samples as parquet: written beside, made durable, renamed."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        pyarrow.parquet.write_table(pyarrow.table(dict(samples)), temporary)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
