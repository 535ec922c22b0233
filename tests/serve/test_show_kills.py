"""The show: replicas are killed while hundreds of distinct requests are under way, and nobody notices.

FOREBAY_SHOW_REQUESTS sets the number of requests (`make show` sends 60,000, for several kills), half through
tritonclient's blocking client, half through its asyncio one, 256 outstanding at any time in all.
"""

import asyncio
import contextlib
import os
import queue
import signal
import threading
import time

import numpy as np
import psutil
import pytest
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from tests.serve import models
from tests.serve.protocol.client import Client, request
from tests.serve.protocol.live import Direct, address_of, distinct_rows, port_of, serving

pytestmark = [pytest.mark.live, pytest.mark.slow]

REQUESTS = int(os.environ.get("FOREBAY_SHOW_REQUESTS", "2000"))
OUTSTANDING = 256
MAX_BATCH = 8
REPLICAS = 2
KILL_EVERY_S = 2.0
UNDER_WAY = 500
"""Answers after which the first replica is killed."""
SECOND_DEATH = "the model's process died 2 times"


class Ledger:
    """What became of each request: exactly one entry each, whoever sent it."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self._lock = threading.Lock()
        self.answered: set[int] = set()
        self.wrong: list[str] = []
        self.second_deaths = 0
        self.failed: list[str] = []
        self.well_under_way = threading.Event()

    def result(self, i: int, result: http.InferResult) -> None:
        """Check an answer against a direct call."""
        (expected,) = self._direct(x=input_of(i))
        with self._lock:
            self._note(i)
            right = result.get_response().get("id") == str(i) and np.allclose(
                result.as_numpy("y"), expected, rtol=1e-4, atol=1e-5
            )
            if not right:
                self.wrong.append(f"request {i}")

    def error(self, i: int, error: InferenceServerException) -> None:
        """Only a second death is an excuse."""
        with self._lock:
            self._note(i)
            if SECOND_DEATH in str(error):
                self.second_deaths += 1
            else:
                self.failed.append(f"request {i}: {error}")

    def _note(self, i: int) -> None:
        self.answered.add(i)
        if len(self.answered) >= UNDER_WAY:
            self.well_under_way.set()


def input_of(i: int) -> np.ndarray:
    """Request i: 1 to MAX_BATCH rows that no other request has."""
    return distinct_rows(7, i, 1 + i % MAX_BATCH)


def blocking_clients(address: str, numbers: list[int], outstanding: int, ledger: Ledger) -> None:
    """`outstanding` threads, each with one request under way through tritonclient.http."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in numbers:
        waiting.put(i)

    def work() -> None:
        with (
            http.InferenceServerClient(address, network_timeout=60, connection_timeout=60) as client,
            contextlib.suppress(queue.Empty),
        ):
            while True:
                i = waiting.get_nowait()
                x = http.InferInput("x", list(input_of(i).shape), "FP32")
                x.set_data_from_numpy(input_of(i))
                try:
                    ledger.result(i, client.infer("mlp", [x], request_id=str(i)))
                except InferenceServerException as error:
                    ledger.error(i, error)

    threads = [threading.Thread(target=work) for _ in range(outstanding)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def asyncio_clients(address: str, numbers: list[int], outstanding: int, ledger: Ledger) -> None:
    """`outstanding` tasks, each with one request under way through tritonclient.http.aio."""
    waiting = iter(numbers)

    async def work(client: aio.InferenceServerClient) -> None:
        for i in waiting:
            x = aio.InferInput("x", list(input_of(i).shape), "FP32")
            x.set_data_from_numpy(input_of(i))
            try:
                ledger.result(i, await client.infer("mlp", [x], request_id=str(i)))
            except InferenceServerException as error:
                ledger.error(i, error)

    async with aio.InferenceServerClient(address, conn_limit=outstanding) as client:
        await asyncio.gather(*(work(client) for _ in range(outstanding)))


def kill_replicas(engine_pid: int, ledger: Ledger, stop: threading.Event, kills: list[int]) -> None:
    """Once UNDER_WAY are answered, at a random moment of every KILL_EVERY_S: kill -9 a replica chosen at random."""
    random = np.random.default_rng(np.random.SeedSequence([8, REQUESTS]))
    engine = psutil.Process(engine_pid)
    ledger.well_under_way.wait()
    pause_s = 0.0
    while not stop.wait(pause_s):
        replicas = engine.children()
        if replicas:
            victim = replicas[int(random.integers(len(replicas)))]
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)
                kills.append(victim.pid)
        rest_s = KILL_EVERY_S - pause_s
        pause_s = float(random.uniform(0, KILL_EVERY_S))
        if stop.wait(rest_s):
            break


@contextlib.contextmanager
def killing(engine_pid: int, ledger: Ledger):
    """Kill replicas while the block runs; the pids killed."""
    stop, kills = threading.Event(), []
    killer = threading.Thread(target=kill_replicas, args=(engine_pid, ledger, stop, kills))
    killer.start()
    try:
        yield kills
    finally:
        stop.set()
        ledger.well_under_way.set()
        killer.join()


def test_replicas_die_and_every_answer_is_still_the_right_one(tmp_path, capsys):
    half = REQUESTS // 2
    settings = {
        "replicas": {"count": REPLICAS, "threads": 1},
        "batching": {"max_batch": MAX_BATCH, "window": "2ms"},
        "queue": {"max_queue": OUTSTANDING * MAX_BATCH},
    }
    with serving(tmp_path, {"mlp": models.mlp}, **settings) as live:
        ledger = Ledger(Direct(tmp_path / "mlp.onnx"))
        address, began_s = address_of(live), time.monotonic()
        with killing(live.pid, ledger) as kills:
            blocking = threading.Thread(
                target=blocking_clients, args=(address, list(range(half)), OUTSTANDING // 2, ledger)
            )
            blocking.start()
            asyncio.run(asyncio_clients(address, list(range(half, REQUESTS)), OUTSTANDING // 2, ledger))
            blocking.join()
        took_s = time.monotonic() - began_s
        with Client(port_of(live)) as raw:
            assert raw.ask(request("/v2/health/ready")).status == 200, "still alive?"
    with capsys.disabled():
        print(
            f"\n{REQUESTS} requests, {OUTSTANDING} outstanding, {len(kills)} replicas killed in {took_s:.1f} s: "
            f"{len(ledger.wrong)} wrong, {REQUESTS - len(ledger.answered)} unanswered, "
            f"{ledger.second_deaths} second deaths, {len(ledger.failed)} other failures"
        )
    assert ledger.wrong == []
    assert ledger.failed == []
    assert ledger.answered == set(range(REQUESTS))
    assert kills
