"""A fleet on this machine as processes: ready line, drain, and what a kill -9 of router or engine leaves and loses."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serve.deployment import Deployment
from serve.errors import EngineError
from serve.files import parse, save
from serve.launch import Live, launch
from serve.load_plan import LoadPlan, OpenLoad
from serve.loadgen import inputs_of, replay
from serve.request_log import read_requests
from tests.profiles import Synthetic, write_profile
from tests.serve.live import PATIENCE_S
from tests.serve.test_engine_process import alive, connected, infer, ready, until

pytestmark = pytest.mark.live


def fleet(folder: Path, nodes: int, base_ms: float = 5.0, **router: Any) -> Path:
    """A deployment of `m` on so many nodes, a replica each."""
    write_profile(folder, Synthetic(base_ms=base_ms), name="profile")
    data = {
        "models": {"m": {"backend": "emulated", "profile": "profile.yaml", "replicas": {"count": nodes}}},
        "pools": {"here": {"nodes": nodes, "cores": 1, "price": "0 USD/h"}},
        "router": {"policy": "round_robin", "probe": "100ms", "propagation": "100ms"} | router,
    }
    save(folder / "fleet.yaml", parse(data, Deployment, "fleet.yaml"))
    return folder / "fleet.yaml"


def engines(live: Live) -> list[psutil.Process]:
    """The engines of a fleet, in the order of its nodes."""
    return [psutil.Process(engine["pid"]) for engine in live.started["engines"]]


def in_rotation(live: Live) -> int:
    """Nodes that requests are sent to, by the router's metrics."""
    with connected(live.url) as connection:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    return sum(line.endswith(" 1.0") for line in page.splitlines() if line.startswith("forebay_node_in_rotation{"))


def load(url: str, count: int, gap_ns: int) -> LoadPlan:
    """So many requests at equal gaps."""
    at_ns = np.arange(count, dtype=np.int64) * gap_ns
    return LoadPlan("m", inputs_of(url, "m"), open=OpenLoad(at_ns, np.ones(count, np.int64)))


@contextlib.contextmanager
def gone_after(live: Live) -> Iterator[None]:
    """All processes of a fleet have ended when the block has."""
    processes = [psutil.Process(live.pid), *psutil.Process(live.pid).children(recursive=True)]
    yield
    until(lambda: not any(map(alive, processes)), "all processes to end")


def test_a_fleet_answers_drains_and_leaves_a_log_of_each_engine(tmp_path: Path) -> None:
    path = fleet(tmp_path, 2)
    with launch(path, fleet=True, log_dir=tmp_path / "log") as live:
        assert [node["models"] for node in live.started["nodes"]] == [["m"], ["m"]]
        assert len(psutil.Process(live.pid).children(recursive=True)) == 4
        assert [infer(live.url)[0] for _ in range(4)] == [200] * 4
        with gone_after(live):
            os.kill(live.pid, signal.SIGTERM)
            assert live.process.wait(PATIENCE_S) == 0
    assert [len(read_requests(tmp_path / "log" / f"engine-{k}")) for k in range(2)] == [2, 2]


def test_sigterm_answers_what_engines_have(tmp_path: Path) -> None:
    with launch(fleet(tmp_path, 1, base_ms=1000), fleet=True) as live, gone_after(live):
        answers: list[int] = []
        with connected(live.url) as later:
            later.connect()
            client = threading.Thread(target=lambda: answers.append(infer(live.url)[0]))
            client.start()
            until(lambda: outstanding(live) == 1, "the request to be inside")
            os.kill(live.pid, signal.SIGTERM)
            until(lambda: ready(later) != 200, "the router to be no longer ready")
        client.join()
        assert answers == [200] and live.process.wait(PATIENCE_S) == 0


def outstanding(live: Live) -> int:
    with connected(live.url) as connection:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    lines = [line for line in page.splitlines() if line.startswith("forebay_node_outstanding{")]
    return int(sum(float(line.split()[-1]) for line in lines))


def test_nothing_is_left_after_a_kill_of_the_router(tmp_path: Path) -> None:
    with launch(fleet(tmp_path, 2), fleet=True) as live, gone_after(live):
        os.kill(live.pid, signal.SIGKILL)
        live.process.wait(PATIENCE_S)


def test_no_request_is_lost_when_an_engine_is_killed_and_the_engine_comes_back(tmp_path: Path) -> None:
    path = fleet(tmp_path, 3, retry={"max": 2, "budget": "100%", "backoff": "1ms"})
    with launch(path, fleet=True) as live:
        victim = engines(live)[1]
        killer = threading.Timer(0.5, victim.kill)
        plan = load(live.url, 400, 5_000_000)
        killer.start()
        client = replay(live.url, plan)
        killer.join()
        assert not alive(victim)
        assert np.unique(client.status).tolist() == [200]
        until(lambda: in_rotation(live) == 3, "the engine to be back")
        assert [infer(live.url)[0] for _ in range(3)] == [200] * 3


def test_a_router_before_engines_that_run_already_ends_with_whoever_launched_it(tmp_path: Path) -> None:
    path = fleet(tmp_path, 1)
    with launch(path) as one, launch(path) as other:
        urls = [one.url, other.url]
        with pytest.raises(EngineError, match="exited with 130"), launch(path, nodes=urls) as live, gone_after(live):
            assert [node["url"] for node in live.started["nodes"]] == urls
            assert [infer(live.url)[0] for _ in range(2)] == [200] * 2
            os.kill(one.pid, signal.SIGTERM)
            one.process.wait(PATIENCE_S)
            until(lambda: in_rotation(live) == 1, "the drained engine to leave")
            assert infer(live.url)[0] == 200
            assert live.process.stdin is not None
            live.process.stdin.close()
            live.process.wait(PATIENCE_S)


def test_an_engine_that_does_not_start_ends_the_fleet(tmp_path: Path) -> None:
    path = fleet(tmp_path, 2)
    (tmp_path / "profile.parquet").unlink()
    with pytest.raises(EngineError, match="engine 0 of 2 did not start: it exited with 2"), launch(path, fleet=True):
        pass
