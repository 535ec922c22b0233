"""Triton's server, as the wheel of nvidia-pytriton ships it, with its Python backend and a model that sleeps."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytriton
from _work import MAX_BATCH, PORT, SETTINGS, WINDOW_S, WORKERS

MODEL = """
import sys
sys.path[:0] = {paths!r}  # the numpy that the backend was made for comes before any other
import triton_python_backend_utils as pb
from _work import work

class TritonPythonModel:
    def execute(self, requests):
        rows = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        work(sum(len(row) for row in rows))
        return [pb.InferenceResponse([pb.Tensor("y", row)]) for row in rows]
"""

CONFIG = """
name: "m" max_batch_size: {max_batch} backend: "python"
input [{{ name: "x" data_type: TYPE_FP32 dims: [1] }}] output [{{ name: "y" data_type: TYPE_FP32 dims: [1] }}]
instance_group [{{ kind: KIND_CPU count: {workers} }}]
dynamic_batching {{ {preferred} max_queue_delay_microseconds: {delay_us} {policy} }}
"""

LATE = "default_queue_policy { max_queue_size: 100000 }"
"""A queue policy of any kind keeps Triton from filling batches while its instances work."""


def main() -> None:
    """Write the model repository and become the server."""
    root = Path(pytriton.__file__).parent / "tritonserver"
    models, backends = Path(tempfile.mkdtemp(dir=Path.cwd())), Path(tempfile.mkdtemp(dir=Path.cwd()))
    (models / "m" / "1").mkdir(parents=True)
    (models / "m" / "1" / "model.py").write_text(
        MODEL.format(paths=[str(Path(__file__).parent), str(root.parent.parent)])
    )
    preferred = f"preferred_batch_size: {SETTINGS['preferred']}" if SETTINGS["preferred"] else ""
    told = {"max_batch": MAX_BATCH, "workers": WORKERS, "delay_us": round(1e6 * WINDOW_S), "preferred": preferred}
    (models / "m" / "config.pbtxt").write_text(CONFIG.format(**told, policy=LATE if SETTINGS["late"] else ""))
    shutil.copytree(root / "backends" / "python", backends / "python")
    stub = root / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}" / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python" / "triton_python_backend_stub")
    libraries = [root.parent.parent / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib"]
    os.environ["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    os.environ["PYTHONPATH"] = ":".join(p for p in sys.path if p)
    ports = ["--http-address=127.0.0.1", f"--http-port={PORT}", "--allow-grpc=false", "--allow-metrics=false"]
    where = [f"--model-repository={models}", f"--backend-directory={backends}", "--log-info=false"]
    os.execv(root / "bin" / "tritonserver", ["tritonserver", *where, *ports])


if __name__ == "__main__":
    main()
