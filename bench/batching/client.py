"""An open-loop client of any HTTP server: each request at its instant, whatever came of those before."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

CONNECTIONS = 200
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Target:
    """Where to send what."""

    port: int
    path: str
    body: bytes
    content_type: str


class Client:
    """Sends one body again and again over connections that stay open, one a thread."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._own = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def ask(self) -> bool:
        """One request; whether it was answered 200. A connection that the server closed meanwhile is opened again."""
        connection = getattr(self._own, "connection", None)
        if connection is not None and self._try(connection):
            return True
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(
                "127.0.0.1", self._target.port, timeout=TIMEOUT_S
            )
            self._connections.append(connection)
        return self._try(connection)

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            connection.close()

    def _try(self, connection: http.client.HTTPConnection) -> bool:
        try:
            headers = {"Content-Type": self._target.content_type}
            connection.request("POST", self._target.path, self._target.body, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return False
        return bool(answer.status == 200)

    def wait_until_ready(self, for_s: float, alive: Callable[[], bool]) -> None:
        """Ask until an answer comes; TimeoutError if none does, or the server is not alive."""
        deadline_s = time.monotonic() + for_s
        while not self.ask():
            if time.monotonic() > deadline_s or not alive():
                raise TimeoutError(f"port {self._target.port} gave no answer within {for_s:.0f} s")
            time.sleep(0.2)

    def run(self, instants_s: Sequence[float]) -> list[float]:
        """Latencies in s of requests sent at these instants from now on, counted from them; NaN if unanswered."""
        latencies_s = [float("nan")] * len(instants_s)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda _: time.sleep(0.05), range(CONNECTIONS)))  # threads that are there already
            began_s = time.perf_counter() + 0.5

            def one(i: int) -> None:
                if self.ask():
                    latencies_s[i] = time.perf_counter() - began_s - instants_s[i]

            for i, instant_s in enumerate(instants_s):
                time.sleep(max(0.0, began_s + instant_s - time.perf_counter()))
                pool.submit(one, i)
        return latencies_s
