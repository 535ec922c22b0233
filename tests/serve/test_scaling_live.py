"""A live engine that sets its own replicas: processes come and go, nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.deployment import Deployment
from serve.engine import Engine
from serve.errors import EngineError, SpecError
from serve.launch import launch
from serve.metrics import EngineCollector, Metrics
from serve.policy.codes import OUTCOME_FAILED, OUTCOME_OK
from serve.policy.scaling.decision import Decision
from serve.scaling_log import SCALING_FILE, replay
from tests.profiles import Synthetic, write_profile
from tests.serve.live import PATIENCE_S, Kept, ask, in_loop, write
from tests.serve.test_engine_process import alive, connected, infer, replicas, until
from tests.serve.test_metrics import Front

pytestmark = pytest.mark.live

MS = 10**6
ROW = {"x": np.zeros((1, 4), np.float32)}
KPA = {"kind": "kpa", "target": 1, "scrape": "20ms", "tick": "50ms", "stable_window": "1s"}


def deployment(autoscaler: dict[str, Any], most: int = 3, cores: int = 4, **scaled: Any) -> Deployment:
    """A model `m` of emulated replicas."""
    parts = {"max": most, "autoscaler": autoscaler} | scaled
    model = {"backend": "emulated", "profile": "profile.yaml", "replicas": parts, "queue": {"max_queue": 10_000}}
    return Deployment.model_validate({"models": {"m": model}, "pools": {"here": {"cores": cores, "price": "0 USD/h"}}})


class Wanted:
    """A scaler that wants what the test says."""

    scrape_ns = tick_ns = 10 * MS

    def __init__(self) -> None:
        self.count = 1
        self.scrapes = 0

    def scrape(self, now_ns: int, scrapes: Any) -> None:
        self.scrapes += 1

    def sample(self, now_ns: int, views: Any) -> None:
        return None

    def answer(self, sample: None) -> Decision:
        return Decision(self.count, "as the test says")

    def age_ns(self, now_ns: int) -> int:
        return 0


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """How many replicas the next engine wants; it begins with one."""
    scaler = Wanted()
    monkeypatch.setattr("serve.model_engine.Scaler", lambda *_: scaler)
    return scaler


async def wait(true: Callable[[], bool]) -> None:
    """Let the engine go on until something holds; `in_loop` bounds it."""
    while not true():
        await asyncio.sleep(0.005)


def up(engine: Engine) -> list[int]:
    """Replicas that can take a batch."""
    return [r.id for r in engine.models["m"].scheduler.replicas if r.up and not r.draining]


def run(folder: Path, plan: Deployment, work: Callable[[Engine], Any]) -> None:
    """An engine in this process, for the time of `work`."""

    async def whole() -> None:
        engine = Engine(plan, folder, folder / "log")
        try:
            await engine.start()
            await work(engine)
        finally:
            await engine.close()

    in_loop(whole)


def test_a_step_of_load_brings_replicas_and_its_end_takes_them(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=20, row_ms=0), name="profile")
    answers: list[asyncio.Future[Kept]] = []

    async def work(engine: Engine) -> None:
        while len(up(engine)) < 3:
            answers.append(ask(engine, ROW, 1)[0])
            await asyncio.sleep(0.008)
        processes = [psutil.Process(pid) for pid in engine.pids("m")]
        page = samples(engine)
        assert (page["replicas"], page["replicas_counted"], page["replicas_up"]) == (3, 3, 3)
        assert page["scale_ups_total"] >= 1
        await wait(lambda: engine.pids("m")[1:] == [0, 0])
        assert all(answer.done() for answer in answers)
        await wait(lambda: not any(alive(p) for p in processes[1:]))
        page = samples(engine)
        assert (page["replicas"], page["replicas_up"], page["scale_downs_total"] >= 1) == (1, 1, True)
        assert page["replica_deaths_total"] == 0

    run(tmp_path, deployment(KPA), work)
    assert {answer.result().outcome for answer in answers} == {OUTCOME_OK}
    logged = replay(tmp_path / "log" / SCALING_FILE)
    assert logged.agreeing == len(logged.ticks) > 0
    assert {tick.applied for tick in logged.ticks} >= {1, 3}
    assert len(logged.start_ups_ns) >= 2


def samples(engine: Engine) -> dict[str, float]:
    """What Prometheus sees of the model."""
    text, _ = Metrics(EngineCollector(engine, Front())).render()
    families = text_string_to_metric_families(text.decode())
    return {s.name.removeprefix("forebay_"): s.value for f in families for s in f.samples if s.labels == {"model": "m"}}


def test_one_that_drains_ends_what_it_has_and_goes(tmp_path: Path, wanted: Wanted) -> None:
    write_profile(tmp_path, Synthetic(base_ms=300, row_ms=0), name="profile")

    async def work(engine: Engine) -> None:
        wanted.count = 2
        await wait(lambda: len(up(engine)) == 2)
        asked = [ask(engine, ROW, 1) for _ in range(6)]
        await wait(lambda: asked[1][1].batch is not None and asked[1][1].batch.replica == 1)
        wanted.count = 1
        await wait(lambda: up(engine) == [0])
        assert not asked[1][0].done() or engine.pids("m")[1] == 0
        assert {kept.outcome for kept in await asyncio.gather(*(answer for answer, _ in asked))} == {OUTCOME_OK}
        assert [request.deaths for _, request in asked] == [0] * 6
        await wait(lambda: engine.pids("m")[1:] == [0, 0])
        assert engine.models["m"].statistics.deaths == 0

    run(tmp_path, deployment(KPA), work)


def test_one_that_does_not_drain_in_time_is_killed_and_its_requests_run_elsewhere(
    tmp_path: Path, wanted: Wanted
) -> None:
    write_profile(tmp_path, Synthetic(base_ms=400, row_ms=0), name="profile")

    async def work(engine: Engine) -> None:
        wanted.count = 2
        await wait(lambda: len(up(engine)) == 2)
        asked = [ask(engine, ROW, 1) for _ in range(2)]
        os.kill(engine.pids("m")[1], signal.SIGSTOP)  # it hangs
        wanted.count = 1
        kept = await asyncio.gather(*(answer for answer, _ in asked))
        assert [each.outcome for each in kept] == [OUTCOME_OK] * 2
        assert asked[1][1].deaths == 1
        assert engine.pids("m")[1:] == [0, 0]

    run(tmp_path, deployment(KPA, drain_limit="100ms"), work)


def test_one_that_starts_is_let_go_without_having_been_up(tmp_path: Path, wanted: Wanted) -> None:
    write_profile(tmp_path, Synthetic(), name="profile")

    async def work(engine: Engine) -> None:
        wanted.count = 3
        await wait(lambda: 0 not in engine.pids("m"))
        processes = [psutil.Process(pid) for pid in engine.pids("m")]
        wanted.count = 1
        await wait(lambda: engine.pids("m")[1:] == [0, 0])
        await wait(lambda: not any(alive(p) for p in processes[1:]))
        assert alive(processes[0])

    run(tmp_path, deployment(KPA), work)


@pytest.mark.parametrize("stays", [True, False], ids=["and is wanted", "while it drains"])
def test_one_that_dies(tmp_path: Path, wanted: Wanted, stays: bool) -> None:
    write_profile(tmp_path, Synthetic(base_ms=500, row_ms=0), name="profile")

    async def work(engine: Engine) -> None:
        wanted.count = 2
        await wait(lambda: len(up(engine)) == 2)
        asked = [ask(engine, ROW, 1)[0] for _ in range(2)]
        pid = engine.pids("m")[1]
        if not stays:
            wanted.count = 1
            await wait(lambda: up(engine) == [0])
        os.kill(pid, signal.SIGKILL)
        await wait(lambda: engine.pids("m")[1] != pid)
        if stays:
            await wait(lambda: engine.pids("m")[1] != 0 and len(up(engine)) == 2)
        else:
            ticks = wanted.scrapes
            await wait(lambda: wanted.scrapes > ticks + 20)
            assert engine.pids("m")[1:] == [0, 0], "one that was to go has no successor"
        assert {kept.outcome for kept in await asyncio.gather(*asked)} == {OUTCOME_OK}

    run(tmp_path, deployment(KPA), work)


def test_nothing_is_set_any_more_once_the_engine_drains(tmp_path: Path, wanted: Wanted) -> None:
    write_profile(tmp_path, Synthetic(base_ms=300, row_ms=0), name="profile")

    async def work(engine: Engine) -> None:
        answer = ask(engine, ROW, 1)[0]
        engine.drain()
        wanted.count = 3
        await engine.drained()
        assert (await answer).outcome != OUTCOME_FAILED
        assert engine.pids("m")[1:] == [0, 0]

    run(tmp_path, deployment(KPA), work)


def test_a_kill_of_a_scaled_engine_leaves_nothing_and_its_log_replays(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=50, row_ms=0), name="profile")
    path = write(tmp_path / "deployment.yaml", deployment(KPA))
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]})
    stop = threading.Event()

    def client(url: str) -> None:
        with connected(url) as connection:
            while not stop.is_set():
                connection.request("POST", "/v2/models/m/infer", body)
                assert connection.getresponse().read()

    with launch(path, log_dir=tmp_path / "log") as live:
        assert infer(live.url)[0] == 200
        clients = [threading.Thread(target=client, args=(live.url,)) for _ in range(4)]
        for each in clients:
            each.start()
        until(lambda: len(replicas(live)) == 3, "more replicas")
        stop.set()
        for each in clients:
            each.join()
        processes = replicas(live)
        os.kill(live.pid, signal.SIGKILL)
        live.process.wait(PATIENCE_S)
        until(lambda: not any(map(alive, processes)), "replicas to die")
    logged = replay(tmp_path / "log" / SCALING_FILE)
    assert logged.agreeing == len(logged.ticks) > 0


@pytest.mark.parametrize(
    ("autoscaler", "scaled", "told"),
    [
        ({"kind": "idle"}, {}, "models.m.replicas.autoscaler: kind idle is not run by the engine"),
        ({"kind": "skyserve"}, {}, "kind skyserve is not run by the engine"),
        ({"kind": "kpa"}, {"min": 0}, "models.m.replicas.min: must be at least 1: an engine has no router"),
        ({"kind": "predictive"}, {}, "autoscaler.capacity: is missing"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(
    tmp_path: Path, autoscaler: dict[str, Any], scaled: dict[str, Any], told: str
) -> None:
    write_profile(tmp_path, Synthetic(), name="profile")

    async def work() -> None:
        with pytest.raises(SpecError, match=told):
            Engine(deployment(autoscaler, **scaled), tmp_path)

    in_loop(work)


def test_the_machine_bounds_what_may_be_set(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(), name="profile")

    async def work() -> None:
        engine = Engine(deployment(KPA, most=9, cores=2), tmp_path)
        assert len(engine.pids("m")) == 2, "two cores, one a replica"
        await engine.close()
        far = Engine(deployment(KPA, most=4000, cores=4000), tmp_path)
        with pytest.raises(EngineError, match=r"models.m.replicas.max 4000: this machine runs at most"):
            await far.start()
        await far.close()

    in_loop(work)
