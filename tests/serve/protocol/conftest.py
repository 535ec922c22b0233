"""A front over a stub engine, in an event loop of its own thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop

from serve.protocol.http import HttpFront
from tests.serve.protocol.stub_engine import StubEngine, served_model


class Running:
    """A front that listens on `port`; `call` runs a function in its loop and returns the result."""

    def __init__(self, engine: StubEngine, **settings: int) -> None:
        self.engine = engine
        self._settings = settings
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(10), "the front did not start"

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.front = HttpFront(self.engine, **self._settings)
        await self.front.start("127.0.0.1", 0)
        self.port = self.front.port
        self._started.set()
        await self._stop.wait()
        await self.front.close(grace_s=0.2)

    def call(self, function: Callable[[], object]) -> object:
        async def run() -> object:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until `condition` holds, at most 10 s."""

        async def run() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(asyncio.wait_for(run(), 10), self.loop).result(11)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.fixture
def running() -> Iterator[Running]:
    """y = 2 x over four numbers a row, at most eight rows."""
    front = Running(StubEngine(served_model()))
    yield front
    front.stop()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start a front over an engine of the test's own."""
    fronts: list[Running] = []

    def run(engine: StubEngine, **settings: int) -> Running:
        fronts.append(Running(engine, **settings))
        return fronts[-1]

    yield run
    for front in fronts:
        front.stop()
