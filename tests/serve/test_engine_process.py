"""The engine as a process of its own: its ready line, its signals, its logs, and what a kill -9 leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from serve.errors import EngineError
from serve.launch import Live, launch
from serve.request_log import read_requests
from tests.profiles import Synthetic, write_profile
from tests.serve import models
from tests.serve.live import PATIENCE_S, deployment, write

pytestmark = pytest.mark.live

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something outside this process, which offers no event to wait for."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        threading.Event().wait(0.005)


@contextlib.contextmanager
def connected(url: str) -> Iterator[HTTPConnection]:
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.close()


def infer(url: str) -> tuple[int, dict[str, object]]:
    with connected(url) as connection:
        connection.request("POST", "/v2/models/m/infer", BODY)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def replicas(live: Live) -> list[psutil.Process]:
    return psutil.Process(live.pid).children(recursive=True)


def test_it_says_when_it_is_ready_and_leaves_a_log(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    path = write(tmp_path / "deployment.yaml", deployment(replicas={"count": 2}))
    with launch(path, log_dir=tmp_path / "log") as live:
        assert live.started["url"] == live.url
        assert live.started["pid"] == live.pid
        parts = live.started["models"]["m"]["replicas"]
        assert sorted(part["pid"] for part in parts) == sorted(p.pid for p in replicas(live))
        for part in parts:
            assert min(part["spawn_s"], part["load_s"], part["warmup_s"], part["memory_mib"]) > 0
            assert part["spawn_s"] + part["load_s"] + part["warmup_s"] <= live.started["ready_s"]
        status, answer = infer(live.url)
        assert status == 200
        assert answer["outputs"][0]["data"] == [3, 5, 7, 9]  # type: ignore[index]
        processes = [psutil.Process(live.pid), *replicas(live)]
    assert not any(p.is_running() for p in processes)
    assert len(read_requests(tmp_path / "log")) == 1
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == ["batches.parquet", "requests.parquet"]


def test_sigterm_answers_what_is_inside_and_refuses_what_comes(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=2000), name="profile")
    path = write(tmp_path / "deployment.yaml", deployment(model={"backend": "emulated"}))
    with launch(path) as live:
        answers: list[int] = []
        with connected(live.url) as later:
            later.connect()
            client = threading.Thread(target=lambda: answers.append(infer(live.url)[0]))
            client.start()
            until(lambda: dispatched(live.url) == 1, "the request to be inside")
            os.kill(live.pid, signal.SIGTERM)
            until(lambda: ready(later) != 200, "the engine to be no longer ready")
            later.request("POST", "/v2/models/m/infer", BODY)
            response = later.getresponse()
            assert response.status == 503
            assert "shutting down" in json.loads(response.read())["error"]
        client.join()
        assert answers == [200]
        assert live.process.wait(PATIENCE_S) == 0


def dispatched(url: str) -> int:
    """Batches that the engine has sent to its replicas, from its own metrics."""
    with connected(url) as connection:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    lines = [line for line in page.splitlines() if line.startswith("forebay_batches_total{")]
    return int(sum(float(line.split()[-1]) for line in lines))


def ready(connection: HTTPConnection) -> int:
    connection.request("GET", "/v2/health/ready")
    response = connection.getresponse()
    response.read()
    return response.status


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=3.6e6), name="profile")  # an hour a batch
    path = write(tmp_path / "deployment.yaml", deployment(model={"backend": "emulated"}))
    with pytest.raises(EngineError, match="exited with 130"), launch(path) as live:
        with connected(live.url) as client:
            client.request("POST", "/v2/models/m/infer", BODY)
            until(lambda: dispatched(live.url) == 1, "the request to be inside")
            os.kill(live.pid, signal.SIGTERM)
            with connected(live.url) as other:
                until(lambda: ready(other) != 200, "the drain")
            processes = replicas(live)
            os.kill(live.pid, signal.SIGINT)
            live.process.wait(PATIENCE_S)
        assert not any(p.is_running() for p in processes)


@pytest.mark.parametrize("busy", [pytest.param(False, id="idle"), pytest.param(True, id="in the middle of a batch")])
def test_nothing_is_left_after_a_kill_of_the_engine(tmp_path: Path, busy: bool) -> None:
    write_profile(tmp_path, Synthetic(base_ms=3.6e6), name="profile")
    path = write(tmp_path / "deployment.yaml", deployment(model={"backend": "emulated"}, replicas={"count": 2}))
    before = set(Path("/dev/shm").iterdir())
    with launch(path) as live:
        processes = replicas(live)
        assert len(processes) == 2
        port = int(live.url.rsplit(":", 1)[1])
        with connected(live.url) as client:
            if busy:
                client.request("POST", "/v2/models/m/infer", BODY)
                until(lambda: dispatched(live.url) == 1, "the request to be inside")
            os.kill(live.pid, signal.SIGKILL)
            live.process.wait(PATIENCE_S)
            until(lambda: not any(Path(f"/proc/{p.pid}").exists() for p in processes if alive(p)), "replicas to die")
        with pytest.raises(ConnectionRefusedError):
            HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S).connect()
    assert set(Path("/dev/shm").iterdir()) <= before


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that waits only to be reaped by its new parent holds nothing any more."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_engine_dies_with_whoever_launched_it(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    path = write(tmp_path / "deployment.yaml", deployment())
    program = (
        "import sys, signal\nfrom pathlib import Path\nfrom serve.launch import launch\n"
        "with launch(Path(sys.argv[1])) as live:\n    print(live.pid, flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
        processes = [engine, *engine.children(recursive=True)]
        parent.kill()
    assert len(processes) == 2
    until(lambda: not any(map(alive, processes)), "the engine and its replica to die")


def test_the_engine_outlives_the_thread_that_launched_it(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    path = write(tmp_path / "deployment.yaml", deployment())
    with contextlib.ExitStack() as stack:
        launched: list[Live] = []
        thread = threading.Thread(target=lambda: launched.append(stack.enter_context(launch(path))))
        thread.start()
        thread.join()
        assert infer(launched[0].url)[0] == 200


def test_what_cannot_be_served_is_said_by_launch(tmp_path: Path) -> None:
    path = write(tmp_path / "deployment.yaml", deployment("missing.onnx"))
    with pytest.raises(EngineError, match="no such model file"), launch(path):
        pass


def test_an_engine_that_does_not_drain_in_time_is_killed_and_that_is_said(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=3.6e6), name="profile")  # an hour a batch
    path = write(tmp_path / "deployment.yaml", deployment(model={"backend": "emulated"}))
    clients = contextlib.ExitStack()
    with clients, pytest.raises(EngineError, match="had not drained"), launch(path, drain_s=0.2) as live:
        # It stays connected: by hanging up it would cancel, and then nobody would wait for the answer.
        client = clients.enter_context(connected(live.url))
        client.request("POST", "/v2/models/m/infer", BODY)
        until(lambda: dispatched(live.url) == 1, "the request to be inside")
        processes = [psutil.Process(live.pid), *replicas(live)]
    until(lambda: not any(map(alive, processes)), "all processes to end")


def test_a_faulty_deployment_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text("models: {m: {profile: p.yaml, batching: {max_batch: 0}}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "serve.engine", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "max_batch" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_in_use_is_said_in_plain_words(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    path = write(tmp_path / "deployment.yaml", deployment())
    with launch(path) as live:
        port = int(live.url.rsplit(":", 1)[1])
        with pytest.raises(EngineError, match="cannot listen on"), launch(path, http_port=port):
            pass
