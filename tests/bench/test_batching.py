"""What is compared when other engines' batching is held against the engines: sizes, service times, latencies."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.batching.__main__ import MAX_BATCH, TIMES_NS, Case, Run, cases, measured_ns, simulated, total_variation
from bench.batching.client import Client, Target
from serve.batching import UNCHECKED

MS = 1_000_000


def test_total_variation_is_nothing_between_equals_and_one_between_strangers() -> None:
    assert total_variation([1, 2, 2], [2, 1, 2, 2, 1, 2]) == 0
    assert total_variation([1, 1], [8]) == 1
    assert total_variation([1, 2], [1, 1]) == 0.5


def test_service_times_are_the_medians_of_the_batch_log_or_the_tables() -> None:
    runs = [Run([], [1, 1, 3], [10, 30, 7]), Run([], [1], [20])]
    assert measured_ns(runs) == [20, TIMES_NS[1], 7, *TIMES_NS[3:]]


def test_every_engine_that_can_be_had_is_held_against_itself() -> None:
    assert {case.engine for case in cases()} & set(UNCHECKED) == set()
    assert all(case.batching.max_batch == MAX_BATCH for case in cases())


def test_what_is_simulated_is_the_engines_own_policy() -> None:
    instants_s = [0.0, 0.010, 0.015, 0.100]
    mosec = simulated(Case("two", "mosec", 1.0, 20 * MS, workers=2), instants_s, TIMES_NS)
    assert mosec.batches == [2, 1, 1]  # the first and the third with one worker, the second with the other
    assert mosec.latencies_s == pytest.approx([0.048, 0.044, 0.033, 0.044])
    ray = simulated(Case("one", "ray_serve", 1.0, 20 * MS), [0.0, 0.021], TIMES_NS)
    assert ray.latencies_s == pytest.approx([0.044, 0.047])  # closed at 41 ms, begun at 44


class Echo(BaseHTTPRequestHandler):
    """Answers what it is sent, and closes every connection: the next request must open another."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_client_counts_from_the_intended_instants_and_opens_closed_connections_again(port: int) -> None:
    with closing(Client(Target(port, "/", b"1", "text/plain"))) as client:
        assert client.ask() and client.ask()
        latencies_s = client.run([0.0, 0.001, 0.002])
    assert len(latencies_s) == 3 and all(0 < one < 30 for one in latencies_s)


def test_what_is_not_answered_has_no_latency() -> None:
    client = Client(Target(9, "/", b"1", "text/plain"))
    assert all(math.isnan(one) for one in client.run([0.0]))
    with pytest.raises(TimeoutError, match="port 9 gave no answer"):
        client.wait_until_ready(0.0, lambda: True)
