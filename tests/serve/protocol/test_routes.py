"""Paths and the documents behind them, as perf_analyzer and tritonclient index them."""

import numpy as np
import pytest

from serve.policy.codes import OUTCOME_FULL, OUTCOME_OK
from serve.profile import Tensor
from serve.protocol import documents
from serve.protocol.errors import RequestError
from serve.protocol.routes import parse
from serve.protocol.signature import ModelSignature
from serve.served import BatchStatistics
from tests.serve.protocol.client import Client, binary_request, infer, request
from tests.serve.protocol.stub_engine import StubEngine, served_model


@pytest.mark.parametrize(
    ("target", "kind", "model", "version"),
    [
        ("/v2", "server", "", ""),
        ("/v2/", "server", "", ""),
        ("/v2/health/live", "live", "", ""),
        ("/v2/health/ready?x=1", "ready", "", ""),
        ("/v2/models/m", "model", "m", ""),
        ("/v2/models/m/versions/3", "model", "m", "3"),
        ("/v2/models/m/ready", "model_ready", "m", ""),
        ("/v2/models/m/versions/3/ready", "model_ready", "m", "3"),
        ("/v2/models/m/versions/3/infer", "infer", "m", "3"),
        ("/v2/models/m/config", "config", "m", ""),
        ("/v2/models/stats", "stats", "", ""),
        ("/v2/models/m/stats", "stats", "m", ""),
        ("/v2/models/a%2Fb%20c/infer", "infer", "a/b c", ""),
        ("/v2/models/%C3%A9", "model", "é", ""),
        ("/v2/repository/index", "index", "", ""),
        ("/v2/repository/models/m/load", "load", "m", ""),
        ("/metrics", "metrics", "", ""),
    ],
)
def test_known_paths(target, kind, model, version):
    route = parse(target)
    assert (route.kind, route.model, route.version) == (kind, model, version)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1",
        "/v2/models",
        "/v2/models//infer",
        "/v2/models/m/versions/x/infer",
        "/v2/models/m/versions/%D9%A1/infer",
        "/v2/models/m/versions",
        "/v2/models/m/infer/more",
        "/v2/models/%ff",
        "/v2/trace/setting",
        "/v2/systemsharedmemory/status",
    ],
)
def test_unknown_paths_are_404(target):
    with pytest.raises(RequestError) as caught:
        parse(target)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v2/nowhere", "GET", 404),
        ("/v2/models/nobody", "GET", 404),
        ("/v2/models/nobody/infer", "POST", 404),
        ("/v2/models/nobody/ready", "GET", 404),
        ("/v2/models/twice/versions/2", "GET", 404),
        ("/v2/models/twice/versions/2/infer", "POST", 404),
        ("/v2/models/twice/infer", "GET", 405),
        ("/v2/health/live", "POST", 405),
        ("/v2", "DELETE", 405),
        ("/v2/repository/index", "GET", 405),
        ("/v2/repository/models/twice/unload", "POST", 400),
        ("/v2/repository/models/nobody/load", "POST", 404),
    ],
)
def test_errors_are_json_and_the_connection_stays_open(running, path, method, status):
    with Client(running.port) as client:
        for _ in range(2):
            reply = client.ask(request(path, method=method))
            assert reply.status == status
            assert isinstance(reply.json["error"], str)
        if status == 405:
            assert reply.fields["allow"] in ("GET", "POST")


@pytest.mark.parametrize(("path", "status"), [("/v2", 200), ("/v2/models/twice/infer", 405), ("/v2/nowhere", 404)])
def test_a_head_request_gets_the_header_of_a_get_and_no_body(running, path, status):
    with Client(running.port) as client:
        client.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + request("/v2/health/live"))
        data = b""
        while b'{"live": true}' not in data:
            data += client.socket.recv(65536)
    head, rest = data.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Length: 0" not in head
    assert rest.startswith(b"HTTP/1.1 200 ")


def test_a_proxys_absolute_target_and_a_version_in_the_path(running):
    with Client(running.port) as client:
        header, data = binary_request(np.ones((2, 4), "f4"))
        whole = infer(header, data).replace(b"/v2/models/twice", b"http://host:80/v2/models/twice/versions/1")
        assert client.ask(whole).status == 200


def test_index_lists_what_is_ready(running):
    with Client(running.port) as client:
        assert client.ask(request("/v2/repository/index", method="POST")).json == [
            {"name": "twice", "version": "1", "state": "READY"}
        ]
        running.engine.models["twice"].scheduler.replicas[0].up = False
        assert client.ask(request("/v2/repository/index", b'{"ready": true}')).json == []
        (entry,) = client.ask(request("/v2/repository/index", b"{}")).json
        assert entry["state"] == "UNAVAILABLE"
        assert client.ask(request("/v2/models/twice/ready")).status == 400
        assert client.ask(request("/v2/repository/index", b"[]")).status == 400
        assert client.ask(request("/v2/repository/models/twice/load", method="POST")).status == 200


def test_metadata_shows_the_batch_dimension_and_config_does_not():
    served = served_model(
        inputs=[Tensor(name="t", datatype="BYTES", shape=[-1])],
        max_batch=8,
        priority_levels=3,
        default_priority=1,
        max_queue=40,
        default_timeout="5ms",
    )
    signature = ModelSignature.of(served)
    metadata = documents.model_metadata(served, signature)
    assert metadata["inputs"] == [{"name": "t", "datatype": "BYTES", "shape": [-1, -1]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
    config = documents.model_config(served, signature)
    assert config["max_batch_size"] == 8
    assert [(i["name"], i["data_type"], i["dims"]) for i in config["input"]] == [("t", "TYPE_STRING", [-1])]
    batching = config["dynamic_batching"]
    assert (batching["priority_levels"], batching["default_priority_level"]) == (3, 2)
    assert batching["default_queue_policy"]["max_queue_size"] == 40
    assert batching["default_queue_policy"]["default_timeout_microseconds"] == 5000


def test_a_model_of_fixed_batch_has_no_batch_dimension_and_no_batching():
    served = served_model(max_batch=0)
    signature = ModelSignature.of(served)
    assert documents.model_metadata(served, signature)["inputs"][0]["shape"] == [4]
    config = documents.model_config(served, signature)
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config


def test_statistics_count_what_the_engine_counted():
    served = served_model()
    counts = served.statistics
    counts.requests, counts.rows, counts.batches = 3, 7, 2
    counts.outcomes[OUTCOME_OK], counts.outcomes[OUTCOME_FULL] = 3, 4
    counts.success_ns, counts.fail_ns, counts.queue_ns, counts.infer_ns = 900, 40, 300, 500
    counts.by_rows = {4: BatchStatistics(1, 1, 2, 3), 3: BatchStatistics(1, 4, 5, 6)}
    (stats,) = documents.statistics([served], 0, {"twice": 7})["model_stats"]
    assert (stats["inference_count"], stats["execution_count"], stats["last_inference"]) == (7, 2, 0)
    assert stats["memory_usage"] == [{"type": "CPU", "id": 0, "byte_size": 7}]
    assert stats["inference_stats"]["success"] == {"count": 3, "ns": 900}
    assert stats["inference_stats"]["fail"] == {"count": 4, "ns": 40}
    assert stats["inference_stats"]["queue"] == {"count": 3, "ns": 300}
    assert [(b["batch_size"], b["compute_infer"]) for b in stats["batch_stats"]] == [
        (3, {"count": 1, "ns": 5}),
        (4, {"count": 1, "ns": 2}),
    ]


def test_the_front_serves_prometheus_its_page(start):
    running = start(StubEngine(served_model()))
    with Client(running.port) as client:
        reply = client.ask(request("/metrics"))
        assert reply.status == 200
        assert b"forebay_replicas_up" in reply.body
        assert b'forebay_http_responses_total{code="200"} 1.0' in client.ask(request("/metrics")).body


def test_an_output_that_json_cannot_say_is_an_error_that_says_what_to_ask_for(start):
    front = start(StubEngine(served_model(), compute=lambda inputs: {"y": inputs["x"] * np.float32("nan")}))
    header, data = binary_request(np.ones((2, 4), "f4"))
    with Client(front.port) as client:
        assert np.isnan(np.frombuffer(client.ask(infer(header, data)).binary, "<f4")).all()
        reply = client.ask(infer({**header, "parameters": {}}, data))
    assert reply.status == 400
    assert reply.json["error"].startswith("output 'y': an element is NaN or infinite")


def test_a_number_too_large_for_json_is_told_of_its_input(running):
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1e400, 2, 3]}]}'
    with Client(running.port) as client:
        reply = client.ask(infer(body))
    assert (reply.status, reply.json["error"]) == (400, "input 'x': an element is out of the range of FP32")
