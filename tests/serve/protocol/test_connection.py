"""The connection: keep-alive, pipelining in order, Expect, hang-ups, limits, and bytes that are no request."""

import gc
import json
import weakref

import numpy as np
import pytest

from serve.policy.codes import (
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    REASON_DEADLINE,
    REASON_DEATH,
    REASON_DRAINING,
    REASON_FRONT,
    REASON_QUEUE,
)
from serve.profile import Tensor
from serve.protocol import orca
from tests.serve.protocol.client import Client, binary_request, infer, request
from tests.serve.protocol.stub_engine import StubEngine, served_model
from tests.serve.protocol.tape import converse


def numbered(i: int, **fields: str) -> bytes:
    """A request whose answer names it."""
    header, data = binary_request(np.full((1, 4), i, np.float32), id=str(i))
    return infer(header, data, **fields)


def test_many_requests_on_one_connection(running):
    with Client(running.port) as client:
        for i in range(5):
            reply = client.ask(numbered(i))
            assert reply.status == 200
            assert reply.json["id"] == str(i)
            np.testing.assert_array_equal(np.frombuffer(reply.binary, "<f4"), 2 * i)


def test_pipelined_answers_leave_in_the_order_asked_whatever_the_order_they_were_computed_in(running):
    running.engine.hold = True
    with Client(running.port) as client:
        client.send(b"".join(numbered(i) for i in range(4)) + request("/v2/health/live"))
        running.wait_until(lambda: len(running.engine.submitted) == 4)
        for i in (2, 0, 3, 1):
            running.call(lambda i=i: running.engine.answer(running.engine.submitted[i]))
        replies = client.receive(5)
    assert [r.json.get("id") for r in replies] == ["0", "1", "2", "3", None]
    assert replies[4].json == {"live": True}


def test_a_request_arriving_byte_by_byte_is_understood(running):
    with Client(running.port) as client:
        for byte in numbered(7):
            client.send(bytes([byte]))
        (reply,) = client.receive()
    assert reply.status == 200
    assert reply.json["id"] == "7"


def test_a_chunked_body_is_understood(running):
    header, data = binary_request(np.ones((1, 4), np.float32))
    text = json.dumps(header).encode()
    head = (
        f"POST /v2/models/twice/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n\r\n"
    ).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (text[:9], text[9:] + data[:3], data[3:]))
    with Client(running.port) as client:
        reply = client.ask(head + chunks + b"0\r\n\r\n")
    assert reply.status == 200
    np.testing.assert_array_equal(np.frombuffer(reply.binary, "<f4"), 2)


def test_a_client_that_expects_100_continue_is_told_to_go_on(running):
    header, data = binary_request(np.ones((1, 4), np.float32))
    whole = infer(header, data, Expect="100-continue")
    head, body = whole.split(b"\r\n\r\n", 1)
    with Client(running.port) as client:
        client.send(head + b"\r\n\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.ask(body).status == 200


def test_100_continue_waits_for_its_turn_behind_a_pipelined_answer(running):
    running.engine.hold = True
    head, body = numbered(1).replace(b"Host: here", b"Host: here\r\nExpect: 100-continue").split(b"\r\n\r\n", 1)
    with Client(running.port) as client:
        client.send(numbered(0) + head + b"\r\n\r\n")
        running.wait_until(lambda: len(running.engine.submitted) == 1)
        running.call(lambda: running.engine.answer(running.engine.submitted[0]))
        running.engine.hold = False
        received = b""
        while not received.endswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            received += client.socket.recv(65536)
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert client.ask(body).json["id"] == "1"


def test_an_unknown_expectation_is_refused(running):
    with Client(running.port) as client:
        assert client.ask(request("/v2", Expect="a miracle")).status == 400


def test_two_different_header_lengths_are_refused(running):
    header, data = binary_request(np.ones((1, 4), np.float32))
    whole = infer(header, data)
    doubled = whole.replace(b"\r\nHost:", b"\r\nInference-Header-Content-Length: 1\r\nHost:", 1)
    assert doubled != whole
    with Client(running.port) as client:
        reply = client.ask(doubled)
        assert reply.status == 400
        assert "twice" in reply.json["error"]


def test_connection_close_is_honoured_and_what_follows_is_not_run(running):
    with Client(running.port) as client:
        client.send(numbered(0).replace(b"Host: here", b"Host: here\r\nConnection: close") + numbered(1))
        (reply,) = client.receive()
        assert reply.fields["connection"] == "close"
        assert client.closed()
    assert len(running.engine.submitted) == 1


def test_a_client_that_hangs_up_cancels_what_it_waited_for(running):
    running.engine.hold = True
    client = Client(running.port)
    client.send(numbered(0) + numbered(1))
    running.wait_until(lambda: len(running.engine.submitted) == 2)
    client.socket.close()
    running.wait_until(lambda: len(running.engine.cancelled) == 2)
    assert running.engine.cancelled == running.engine.submitted
    running.call(lambda: running.engine.answer(running.engine.submitted[0]))  # too late, and harmless
    with Client(running.port) as other:
        assert other.ask(request("/v2/health/live")).status == 200


def test_an_announced_body_over_the_limit_is_refused_before_it_is_sent(start):
    running = start(StubEngine(served_model()), body_bytes_max=1000)
    with Client(running.port) as client:
        reply = client.ask(request("/v2/models/twice/infer", method="POST", Content_Length=1001))
        assert reply.status == 413
        assert "1000 bytes" in reply.json["error"]
        assert client.closed()


def test_a_client_that_sends_all_of_too_large_a_body_before_it_listens_still_learns_why(start):
    running = start(StubEngine(served_model()), body_bytes_max=1000)
    with Client(running.port) as client:
        assert client.ask(request("/v2/models/twice/infer", b"x" * 20_000_000)).status == 413


def test_a_chunked_body_over_the_limit_is_refused(start):
    running = start(StubEngine(served_model()), body_bytes_max=1000)
    with Client(running.port) as client:
        head = b"POST /v2/models/twice/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert client.ask(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n").status == 413
        assert client.closed()


def test_a_header_that_never_ends_is_refused(running):
    with Client(running.port) as client:
        client.send(b"GET /v2 HTTP/1.1\r\nX: ")
        for _ in range(100):
            client.send(b"x" * 65536)
        (reply,) = client.receive()
        assert reply.status == 431
    with Client(running.port) as other:
        assert other.ask(request("/v2/health/live")).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["tls", "no-target", "version", "negative-length", "two-lengths", "length-and-chunked", "bad-chunk"],
)
def test_bytes_that_are_no_request_get_400_and_the_connection_closes(running, garbage):
    with Client(running.port) as client:
        reply = client.ask(garbage)
        assert reply.status == 400
        assert "not an HTTP request" in reply.json["error"]
        assert client.closed()


def test_garbage_behind_a_good_request_does_not_cost_that_request_its_answer(running):
    running.engine.hold = True
    with Client(running.port) as client:
        client.send(numbered(0) + b"garbage\r\n\r\n")
        running.wait_until(lambda: len(running.engine.submitted) == 1)
        running.call(lambda: running.engine.answer(running.engine.submitted[0]))
        replies = client.receive(2)
    assert [r.status for r in replies] == [200, 400]


def test_an_upgrade_is_ignored_and_answered_in_http_1(running):
    with Client(running.port) as client:
        reply = client.ask(request("/v2/health/live", Connection="Upgrade", Upgrade="h2c"))
        assert reply.status == 200


def test_more_pipelined_requests_than_are_read_ahead_are_all_answered_in_order(running):
    count = 1500
    with Client(running.port) as client:
        client.send(b"".join(request("/v2/health/live") for _ in range(count)))
        assert [r.status for r in client.receive(count)] == [200] * count


@pytest.mark.parametrize(
    ("outcome", "reason", "status", "retry"),
    [
        (OUTCOME_FULL, REASON_QUEUE, 503, "10"),
        (OUTCOME_DRAINING, REASON_DRAINING, 503, "10"),
        (OUTCOME_EXPIRED, REASON_DEADLINE, 504, None),
        (OUTCOME_FAILED, REASON_DEATH, 500, None),
        (OUTCOME_INVALID, 0, 400, None),
    ],
)
def test_each_outcome_has_its_status_and_a_json_error(running, outcome, reason, status, retry):
    running.engine.hold = True
    with Client(running.port) as client:
        client.send(numbered(0))
        running.wait_until(lambda: len(running.engine.submitted) == 1)
        running.call(lambda: running.engine.answer(running.engine.submitted[0], outcome, reason))
        (reply,) = client.receive()
    assert reply.status == status
    assert reply.json["error"]
    assert reply.fields.get("retry-after-ms") == retry
    assert reply.fields.get("retry-after") == (None if retry is None else "0")
    assert reply.fields.get("forebay-draining") == ("1" if outcome == OUTCOME_DRAINING else None)


@pytest.mark.parametrize(("asked", "told"), [("TEXT", True), (" text", True), ("JSON", False), (None, False)])
def test_an_answer_says_what_load_there_is_if_it_is_asked(running, asked, told):
    scheduler = running.engine.models["twice"].scheduler
    scheduler.ongoing_requests, scheduler.ongoing_rows = 3, 12
    fields = {} if asked is None else {"Endpoint_Load_Metrics_Format": asked}
    with Client(running.port) as client:
        reply = client.ask(numbered(0, **fields))
    load = reply.fields.get("endpoint-load-metrics")
    assert (load is not None) == told
    if told:
        assert orca.read(load.encode()) == orca.Load(3, 12, 1)


@pytest.mark.parametrize("value", [b"", b"JSON {}", b"TEXT", b"TEXT named_metrics.ongoing_rows=1", b"TEXT a=b, c"])
def test_a_load_report_that_is_not_ours_says_nothing(value):
    assert orca.read(value) is None


def test_a_request_over_the_fronts_budget_is_refused_from_its_header_alone(running):
    running.engine.budget_passed = True
    with Client(running.port) as client:
        reply = client.ask(infer(b"this is not even JSON"))
    assert reply.status == 503
    assert running.engine.refused == [(OUTCOME_FULL, REASON_FRONT, "")]


def test_what_arrives_after_the_drain_is_refused_and_readiness_is_gone(running):
    running.engine.draining = True
    running.engine.drain_ns = 0
    with Client(running.port) as client:
        reply = client.ask(numbered(0))
        assert reply.status == 503
        assert "shutting down" in reply.json["error"]
        assert client.ask(request("/v2/health/ready")).status == 503
        assert client.ask(request("/v2/models/twice/ready")).status == 400
        assert client.ask(request("/v2/health/live")).status == 200
    assert running.engine.refused == [(OUTCOME_DRAINING, REASON_DRAINING, "")]


def test_a_model_whose_outputs_cannot_be_written_costs_one_request_and_not_the_server(start, caplog):
    running = start(StubEngine(served_model(), compute=lambda inputs: {}))
    with Client(running.port) as client:
        assert client.ask(numbered(0)).status == 500
        assert client.ask(request("/v2/health/live")).status == 200
    assert "could not be written" in caplog.text


def test_bfloat16_travels_as_its_bits(start):
    """tritonclient speaks it by ml_dtypes; nothing between may look at the bits."""
    tensors = [[Tensor(name=name, datatype="BF16", shape=[3])] for name in ("x", "y")]
    running = start(StubEngine(served_model("bits", *tensors), compute=lambda inputs: {"y": inputs["x"]}))
    bits = np.array([[0x3F80, 0x7FC1, 0xFFFF]], np.uint16)
    item = {"name": "x", "datatype": "BF16", "shape": [1, 3], "parameters": {"binary_data_size": 6}}
    header = {"inputs": [item], "parameters": {"binary_data_output": True}}
    with Client(running.port) as client:
        reply = client.ask(infer(header, bits.tobytes(), model="bits"))
        assert reply.json["outputs"][0]["datatype"] == "BF16"
        assert reply.binary == bits.tobytes()
        del header["parameters"]
        assert "no JSON form" in client.ask(infer(header, bits.tobytes(), model="bits")).json["error"]


def test_a_request_leaves_nothing_for_the_garbage_collector():
    """The engine switches its collector all but off, so a cycle a request would be memory for good."""

    def one_more(connection):
        exchanges = []
        connection.front.engine.hold = True
        connection.data_received(numbered(2))
        exchanges += [weakref.ref(e) for e in connection._pending]
        connection.front.engine.answer(connection.front.engine.submitted.pop())
        connection.data_received(numbered(3))  # never answered: its client hangs up
        exchanges += [weakref.ref(e) for e in connection._pending]
        left.extend(exchanges)

    left: list[weakref.ref] = []
    gc.disable()
    try:
        _, _, engine = converse([numbered(1)], one_more)
        assert len(engine.cancelled) == 1
        engine.submitted.clear()
        engine.cancelled.clear()
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()
