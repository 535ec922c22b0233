"""The load generator sends what it was told when it was told, and reports all that became of it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter

import httptools
import numpy as np
import psutil
import pytest

from serve.load_plan import CLOSED_FIRST_ID, ClosedLoad, InputData, LoadPlan, OpenLoad
from serve.loadgen import STATUS_CANCELLED, STATUS_NONE, LoadError, LoadGenerator, address_of, closed_loop, inputs_of
from serve.policy.codes import NEVER_NS

INPUTS = (InputData("x", "FP32", np.ones((4, 2), np.float32)),)


class Peer(asyncio.Protocol):
    """One connection of the stand-in server: what it answers is decided by the request's id."""

    def __init__(self, server):
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def connection_made(self, transport):
        self.transport = transport
        self.server.peers.add(self)

    def connection_lost(self, exc):
        self.server.lost += 1
        self.server.hung_up.set()
        self.server.peers.discard(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url = url

    def on_message_begin(self):
        self.body = b""

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        if self.server.warm_answer is not None:
            self.transport.write(self.server.warm_answer)
            return
        if not self.url.endswith(b"/infer"):
            self.answer(200, json.dumps(self.server.metadata).encode())
            return
        # raw_decode stops at the end of the JSON header: the tensor's bytes follow it.
        request = json.JSONDecoder().raw_decode(self.body.decode("latin-1"))[0]
        self.server.seen.append(request)
        self.server.behave(self, int(request["id"]))

    def answer(self, status, body=b"{}", headers=""):
        text = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.transport.write(text.encode() + body)


class Server:
    """A stand-in server on a free port, in a thread of its own."""

    def __init__(self):
        self.seen = []
        self.lost = 0
        self.hung_up = threading.Event()
        self.peers = set()
        self.warm_answer = None
        self.metadata = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
        self.behave = lambda peer, number: peer.answer(200)
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,))
        self.thread.start()
        assert started.wait(10)

    def _run(self, started):
        async def listen():
            self.listener = await self.loop.create_server(lambda: Peer(self), "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}"
            started.set()

        self.loop.run_until_complete(listen())
        self.loop.run_forever()
        self.listener.close()
        self.loop.run_until_complete(self._hang_up())
        self.loop.close()

    async def _hang_up(self):
        for peer in list(self.peers):
            peer.transport.abort()
        while self.peers:
            await asyncio.sleep(0)
        await self.listener.wait_closed()

    def later(self, delay_s, call):
        self.loop.call_later(delay_s, call)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def generator(server):
    with LoadGenerator(server.url) as generator:
        yield generator


def open_plan(at_ms, rows=None, **options):
    at_ns = (np.asarray(at_ms) * 1e6).astype(np.int64)
    columns = {k: options.pop(k) for k in ("priority", "timeout_ns", "patience_ns") if k in options}
    load = OpenLoad(at_ns, np.ones(len(at_ns), np.int64) if rows is None else np.asarray(rows), **columns)
    return LoadPlan("m", INPUTS, open=load, **{"connections": 2, **options})


def test_each_request_is_sent_once_never_early_with_its_own_rows(server, generator):
    rows = generator.replay(open_plan([0, 1, 1, 2.5, 40], rows=[1, 2, 3, 4, 1]))
    assert rows.request.tolist() == [0, 1, 2, 3, 4]
    assert set(rows.status.tolist()) == {200}
    assert ((rows.intended_ns - rows.start_ns) / 1e6).tolist() == [0, 1, 1, 2.5, 40]
    assert np.all(rows.sent_ns >= rows.intended_ns)
    assert np.all(rows.received_ns > rows.sent_ns)
    assert np.array_equal(rows.latency_ns, rows.received_ns - rows.intended_ns)
    assert {int(r["id"]): r["inputs"][0]["shape"][0] for r in server.seen} == {0: 1, 1: 2, 2: 3, 3: 4, 4: 1}
    assert rows.cpu_s > 0


def test_a_generator_replays_again_and_again_on_warm_connections(server, generator):
    for _ in range(2):
        assert len(generator.replay(open_plan(np.zeros(8)))) == 8
    assert server.lost == 0


def test_a_request_without_a_free_connection_waits_and_counts_as_late(server, generator):
    server.behave = lambda peer, number: server.later(0.02, lambda: peer.answer(200))
    rows = generator.replay(open_plan([0, 0, 0], connections=1, connections_max=1))
    assert set(rows.status.tolist()) == {200}
    waited_ns = np.sort(rows.sent_ns - rows.intended_ns)
    assert waited_ns[1] >= 20e6 and waited_ns[2] >= 40e6
    assert rows.late == np.count_nonzero(waited_ns > 1e6) >= 2, "the first may be late too, on a busy machine"
    assert rows.late_share == pytest.approx(rows.late / 3)
    assert rows.latency_ns.max() >= 60e6, "latency counts from the intended instant, not from the late send"


def test_refusals_and_lost_connections_are_reported_not_hidden(server, generator):
    def behave(peer, number):
        if number == 1:
            peer.answer(503, b'{"error":"full"}', "Retry-After: 1\r\n")
        elif number == 2:
            peer.transport.abort()
        else:
            peer.answer(200)

    server.behave = behave
    rows = generator.replay(open_plan([0, 1, 2, 3]))
    assert rows.status.tolist() == [200, 503, STATUS_NONE, 200]
    assert rows.received_ns[2] == -1
    assert len(rows.latency_ns) == 2


def test_an_answer_that_never_comes_ends_with_the_grace_time(server, generator):
    server.behave = lambda peer, number: None if number == 0 else peer.answer(200)
    rows = generator.replay(open_plan([0, 1], grace_ns=400_000_000))
    assert rows.status.tolist() == [STATUS_NONE, 200]


def test_an_impatient_client_hangs_up(server, generator):
    server.behave = lambda peer, number: peer.answer(200) if number else None
    rows = generator.replay(open_plan([0, 5], patience_ns=np.array([20_000_000, NEVER_NS])))
    assert rows.status.tolist() == [STATUS_CANCELLED, 200]
    assert server.hung_up.wait(10)


def test_closed_loop_clients_take_turns_and_stop_at_the_end(server):
    rows = closed_loop(server.url, "m", INPUTS, clients=3, duration_s=0.2, think_s=0.005)
    assert set(rows.status.tolist()) == {200}
    number = rows.request - CLOSED_FIRST_ID
    for client in range(3):
        mine = number % 3 == client
        assert (number[mine] // 3).tolist() == list(range(int(mine.sum())))
        gaps = rows.intended_ns[mine][1:] - rows.received_ns[mine][:-1]
        assert np.all(gaps == 5_000_000), "intended = the answer before it + the think time"
    assert rows.intended_ns.max() < rows.start_ns + 200_000_000


def test_a_refused_client_waits_retry_after(server, generator):
    server.behave = lambda peer, number: peer.answer(503, b"{}", "Retry-After: 0.05\r\n")
    load = ClosedLoad(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(4, np.int64), until_ns=60 * 10**9)
    rows = generator.replay(LoadPlan("m", INPUTS, closed=load, connections=1))
    assert len(rows) == 4
    assert np.all(rows.intended_ns[1:] - rows.received_ns[:-1] == 50_000_000)


def test_open_and_closed_load_mix(server, generator):
    load = ClosedLoad(np.zeros(2, np.int64), np.zeros(2, np.int64), np.ones(6, np.int64), until_ns=10**9)
    rows = generator.replay(
        LoadPlan("m", INPUTS, open=OpenLoad(np.arange(5), np.ones(5, np.int64)), closed=load, connections=3)
    )
    assert Counter((rows.request >= CLOSED_FIRST_ID).tolist()) == {False: 5, True: 6}
    assert np.all(np.diff(rows.intended_ns) >= 0)


def test_progress_is_told(server, generator):
    told = []
    rows = generator.replay(open_plan([0, 600]), told.append)
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= (rows.end_ns - rows.start_ns) / 1e9


def test_random_inputs_come_from_the_server_s_metadata(server):
    (tensor,) = inputs_of(server.url, "m", rows=3)
    assert (tensor.name, tensor.datatype, tensor.data.shape) == ("x", "FP32", (3, 2))


@pytest.mark.parametrize("shape", [[3, 2], [1, 2], []])
def test_a_fixed_batch_is_sent_whole(server, shape):
    server.metadata = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape}]}
    (tensor,) = inputs_of(server.url, "m")
    assert (tensor.whole, tensor.rows, list(tensor.take(1).shape)) == (True, 1, shape)


def test_only_this_machine_is_loaded_unless_told():
    with pytest.raises(LoadError, match=r"another machine .192\.0\.2\.1."):
        address_of("http://192.0.2.1:80")
    assert address_of("http://192.0.2.1:81", allow_remote=True) == ("192.0.2.1", 81)
    with pytest.raises(LoadError, match="must be an http URL"):
        address_of("https://127.0.0.1")


def test_no_server_and_a_faulty_plan_are_errors_that_say_so():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with LoadGenerator(f"http://127.0.0.1:{unused.getsockname()[1]}") as generator:
            with pytest.raises(LoadError, match=r"127\.0\.0\.1:\d+.*refused"):
                generator.replay(open_plan([0]))
            with pytest.raises(LoadError, match="sorted"):
                generator.replay(open_plan([2, 1]))


def test_a_server_of_another_protocol_or_without_keep_alive_is_an_error_and_the_generator_lives_on(server, generator):
    server.warm_answer = b"SSH-2.0-other\r\n"
    with pytest.raises(LoadError, match="does not speak HTTP"):
        generator.replay(open_plan([0]))
    server.warm_answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(LoadError, match="keep connections alive"):
        generator.replay(open_plan([0]))
    server.warm_answer = None
    assert len(generator.replay(open_plan([0]))) == 1


def test_ctrl_c_is_the_parents_to_hear(server, generator):
    def interrupt(peer, number):
        os.kill(generator.pid, signal.SIGINT)
        server.later(0.05, lambda: peer.answer(200))

    server.behave = interrupt
    assert generator.replay(open_plan([0, 20])).status.tolist() == [200, 200]


def test_a_generator_that_is_killed_is_an_error_that_names_the_signal(server, generator):
    server.behave = lambda peer, number: os.kill(generator.pid, signal.SIGKILL)
    with pytest.raises(LoadError, match="the load generator was killed by SIGKILL"):
        generator.replay(open_plan([0]))
    with pytest.raises(LoadError, match="the load generator was killed by SIGKILL"):
        generator.replay(open_plan([0]))


def test_the_generator_dies_with_its_parent(server):
    script = f"""
import os
from serve.loadgen import LoadGenerator
generator = LoadGenerator("{server.url}")
print(generator.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    pid = int(parent.stdout)
    if psutil.pid_exists(pid):
        psutil.Process(pid).wait(20)
    assert not psutil.pid_exists(pid)
