"""Any bytes at all, cut anywhere: documented answers, nothing else, and the next client is served."""

import json
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.protocol.connection import STALLED_S
from tests.serve.protocol.client import binary_request, infer, request
from tests.serve.protocol.tape import converse

DOCUMENTED = {200, 400, 404, 405, 413, 431, 503}
GOOD = infer(*binary_request(np.ones((2, 4), np.float32), id="7"))
JSON_ONLY = infer({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [[1, 2, 3, 4]]}]})
PIECES = [b"\r\n", b"\r\n\r\n", b"\0", b"\xff" * 9, b"-1", b"9" * 30, b"[" * 50, b'"', b"}", b"Content-Length: 3\r\n"]


@st.composite
def mutated(draw):
    """A good request with bytes replaced, taken out or put in, at up to three places."""
    data = bytearray(draw(st.sampled_from([GOOD, JSON_ONLY, GOOD + JSON_ONLY, request("/v2/models/twice")])))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        data[at : at + length] = draw(st.sampled_from(PIECES) | st.binary(max_size=12))
    return bytes(data)


@st.composite
def chunked(draw, source):
    """Those bytes, cut at up to four places."""
    data = draw(source)
    cuts = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=4))})
    return [data[a:b] for a, b in pairwise(cuts)] or [b""]


@given(chunked(mutated()))
def test_a_mutated_request_gets_a_documented_answer_and_never_a_500(chunks):
    replies, _, engine = converse(chunks)
    assert {r.status for r in replies} <= DOCUMENTED
    for reply in replies:
        if reply.status != 200:
            assert json.loads(reply.body)["error"]
    ok = sum(1 for r in replies if r.status == 200 and b'"model_name":' in r.body)
    assert ok == len(engine.submitted)


@given(chunked(st.binary(max_size=300)))
def test_arbitrary_bytes_never_reach_the_engine(chunks):
    replies, _, engine = converse(chunks)
    assert {r.status for r in replies} <= DOCUMENTED
    assert engine.submitted == []


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_a_good_request_is_the_same_however_it_is_cut(first, second):
    low, high = sorted((first, second))
    (reply,), tape, _ = converse([GOOD[:low], GOOD[low:high], GOOD[high:]])
    assert (reply.status, reply.json["id"], tape.closed) == (200, "7", False)
    np.testing.assert_array_equal(np.frombuffer(reply.binary, "<f4"), 2)


@given(st.integers(1, len(GOOD) - 1))
def test_a_truncated_request_is_waited_for_and_then_given_up(cut):
    def stall(connection):
        now_s = connection.front.loop.time()
        connection.give_up_if_stalled(now_s + STALLED_S / 2)
        assert not connection.transport.closed
        connection.give_up_if_stalled(now_s + STALLED_S * 1.1)

    (reply,), tape, engine = converse([GOOD[:cut]], stall)
    assert reply.status == 400
    assert "did not arrive" in reply.json["error"]
    assert tape.closed
    assert engine.submitted == []


def test_an_idle_connection_is_left_open():
    replies, tape, _ = converse([GOOD], lambda c: c.give_up_if_stalled(c.front.loop.time() + 10 * STALLED_S))
    assert [r.status for r in replies] == [200]
    assert not tape.closed


def test_a_client_that_does_not_read_is_not_read_from():
    def states(connection):
        connection.pause_writing()
        assert not connection.transport.reading
        connection.resume_writing()
        assert connection.transport.reading

    converse([GOOD], states)


def test_only_so_many_requests_of_one_connection_are_read_ahead():
    def held(connection):
        engine = connection.front.engine
        engine.hold = True
        connection.data_received(GOOD * 300)
        assert not connection.transport.reading
        for live in engine.submitted:
            engine.answer(live)
        assert connection.transport.reading

    replies, _, engine = converse([], held)
    assert [r.status for r in replies] == [200] * 300
    assert len(engine.submitted) == 300
