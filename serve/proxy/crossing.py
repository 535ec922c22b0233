"""What the router itself costs: the way through it and back, and its CPU time, measured on a running fleet.

One request at a time is asked of the router and of a node itself, in turn: what they differ by is the way, the
router and one more hop of the network. The requests are wrong ones, which a node answers 400 as soon as it has read
them, so that no service time is in it; between router and node they are like any other. A simulation's
`router.network` is half of the difference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from statistics import median
from urllib.parse import quote, urlsplit

from serve import machine
from serve.errors import EngineError

TIMEOUT_S = 30.0
WARM_UP = 50
"""Requests each way that are not counted."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Medians over the requests; in us."""

    direct_us: float  # of a request to a node itself
    routed_us: float  # of one through the router
    cpu_us: float  # of the router, per request

    @property
    def network_us(self) -> float:
        """From the router to a node, and the same back: what `router.network` stands for."""
        return max(0.0, self.routed_us - self.direct_us) / 2


def crossing(router_url: str, router_pid: int, node_url: str, model: str, count: int = 1000) -> Crossing:
    """Measure with so many requests each way; EngineError if one of them does not answer as it should."""
    body = json.dumps({"id": "1", "inputs": [{"name": "none", "shape": [1, 1], "datatype": "FP32", "data": [0]}]})
    target = f"/v2/models/{quote(model)}/infer"
    direct, routed = (_Asked(url, target, body) for url in (node_url, router_url))
    try:
        _in_turn((direct, routed), WARM_UP)
        direct.took_us.clear()
        routed.took_us.clear()
        before_s = machine.process_cpu_s(router_pid)
        _in_turn((direct, routed), count)
        cpu_s = machine.process_cpu_s(router_pid) - before_s
    finally:
        direct.close()
        routed.close()
    return Crossing(median(direct.took_us), median(routed.took_us), cpu_s * 1e6 / count)


def _in_turn(asked: Sequence[_Asked], count: int) -> None:
    for _ in range(count):
        for each in asked:
            each.ask()


class _Asked:
    """A server that is asked the same again and again, on one connection."""

    def __init__(self, url: str, target: str, body: str) -> None:
        address = urlsplit(url)
        self._url, self._target, self._body = url, target, body
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self.took_us: list[float] = []

    def ask(self) -> None:
        """One request, waited for."""
        began_ns = time.perf_counter_ns()
        try:
            self._connection.request("POST", self._target, self._body)
            answer = self._connection.getresponse()
            answer.read()
        except OSError as error:
            raise EngineError(f"{self._url}: cannot be reached: {error}") from None
        self.took_us.append((time.perf_counter_ns() - began_ns) / 1e3)
        if answer.status != 400:
            raise EngineError(f"{self._url}: a wrong request was answered {answer.status}, not 400")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
