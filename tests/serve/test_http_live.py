"""tritonclient, as it is, against the live engine: every feature of the protocol that it can ask for."""

import asyncio
import json
import time

import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from serve.datatypes import NUMPY_OF_DATATYPE
from tests.serve import models
from tests.serve.protocol.client import Client, binary_request, infer, request
from tests.serve.protocol.live import TYPES, Direct, address_of, distinct_rows, every_type, port_of, serving

pytestmark = pytest.mark.live

SERVED = {
    "affine": models.affine,
    "pair": models.two_in_two_out,
    "echo": models.text,
    "mlp": models.mlp,
    "gather": models.gather,
    "slow": models.affine,
    "narrow": models.affine,
    "types": every_type,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def live(folder):
    slow = {"batching": {"max_batch": 8, "window": "1h"}}  # what is asked there waits until eight rows have come
    own = {"slow": slow, "narrow": slow | {"queue": {"max_queue": 2}}}
    with serving(folder, SERVED, own, replicas={"count": 1, "threads": 1}) as engine:
        yield engine


@pytest.fixture
def client(live):
    with http.InferenceServerClient(address_of(live), concurrency=4) as found:
        yield found


def tensor(name, array, datatype, binary=True):
    found = http.InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_health_metadata_and_config(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert client.is_model_ready("affine", "1")
    assert not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert server["name"] == "forebay"
    assert "binary_tensor_data" in server["extensions"]
    metadata = client.get_model_metadata("pair", "1")
    assert [(t["name"], t["datatype"], t["shape"]) for t in metadata["inputs"]] == [
        ("a", "FP32", [-1, 3]),
        ("k", "INT64", [-1, 2]),
    ]
    config = client.get_model_config("pair")
    assert (config["max_batch_size"], config["platform"]) == (8, "onnxruntime_onnx")
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 2000


def test_repository_index_load_and_unload(client):
    index = client.get_model_repository_index()
    assert {(m["name"], m["state"]) for m in index} == {(name, "READY") for name in SERVED}
    client.load_model("affine")
    with pytest.raises(InferenceServerException, match="cannot be unloaded"):
        client.unload_model("affine")
    with pytest.raises(InferenceServerException, match="unknown model 'nobody'"):
        client.load_model("nobody")


@pytest.mark.parametrize("send_binary", [True, False])
@pytest.mark.parametrize("receive_binary", [True, False, None])
def test_json_and_binary_in_every_combination(client, send_binary, receive_binary):
    outputs = None if receive_binary is None else [http.InferRequestedOutput("y", binary_data=receive_binary)]
    result = client.infer("affine", [tensor("x", X, "FP32", send_binary)], outputs=outputs, request_id="a id/ü")
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * X + 1)
    assert result.get_response()["id"] == "a id/ü"
    assert result.get_response()["model_version"] == "1"


def test_several_inputs_and_outputs_of_mixed_forms_in_the_order_asked(client):
    a = np.array([[1, 2, 3]], np.float32)
    k = np.array([[2**40, 5]], np.int64)
    inputs = [tensor("k", k, "INT64", binary=False), tensor("a", a, "FP32", binary=True)]
    outputs = [
        http.InferRequestedOutput("total", binary_data=True),
        http.InferRequestedOutput("doubled", binary_data=False),
    ]
    result = client.infer("pair", inputs, model_version="1", outputs=outputs)
    assert [o["name"] for o in result.get_response()["outputs"]] == ["total", "doubled"]
    assert result.as_numpy("total").tolist() == [[2**40 + 5]]
    np.testing.assert_array_equal(result.as_numpy("doubled"), 2 * a)
    only = client.infer("pair", inputs, outputs=outputs[:1])
    assert only.as_numpy("doubled") is None


@pytest.mark.parametrize("send_binary", [True, False])
@pytest.mark.parametrize("receive_binary", [True, False])
def test_bytes_tensors_both_ways(client, send_binary, receive_binary):
    x = np.array([[b"", "grüß".encode()], [b"x" * 5000, b"2"]], dtype=object)
    outputs = [http.InferRequestedOutput("y", binary_data=receive_binary)]
    result = client.infer("echo", [tensor("x", x, "BYTES", send_binary)], outputs=outputs)
    found = [s if isinstance(s, bytes) else s.encode() for s in result.as_numpy("y").ravel()]
    assert found == x.ravel().tolist()


def sample(datatype, seed):
    """[2, 3] values of a datatype, its extremes among them."""
    if datatype == "BYTES":
        return np.array([[b"", b"a\nb", "ü".encode()], [str(seed).encode(), b"x" * 300, b'"']], object)
    dtype = NUMPY_OF_DATATYPE[datatype]
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, bool(seed % 2)]])
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.array([[limits.min, limits.max, 0], [1, seed % 100, 7]], dtype)


@pytest.mark.parametrize("send_binary", [True, False])
@pytest.mark.parametrize("receive_binary", [True, False])
def test_every_datatype_goes_through_the_engine_unharmed_in_every_form_it_has(client, send_binary, receive_binary):
    """FP16 has no JSON form and stays binary; two requests at once, so that they may share a batch."""
    json_free = {"FP16"}
    asked = []
    for seed in (11, 12):
        arrays = {t: sample(t, seed) for t in TYPES}
        inputs = [tensor(f"in_{t}", a, t, send_binary or t in json_free) for t, a in arrays.items()]
        outputs = [http.InferRequestedOutput(f"out_{t}", binary_data=receive_binary or t in json_free) for t in TYPES]
        asked.append((arrays, client.async_infer("types", inputs, outputs=outputs)))
    for arrays, pending in asked:
        result = pending.get_result()
        for datatype, array in arrays.items():
            found = result.as_numpy(f"out_{datatype}")
            if datatype == "BYTES":
                found = np.array([s if isinstance(s, bytes) else s.encode() for s in found.ravel()], object)
                found = found.reshape(array.shape)
            else:
                assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array, err_msg=datatype)


@pytest.mark.parametrize("parameters", [{"priority": 3}, {"timeout": 10_000_000}, {"parameters": {"colour": "red"}}])
def test_parameters_are_taken(client, parameters):
    result = client.infer("affine", [tensor("x", X, "FP32")], **parameters)
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * X + 1)


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"model_name": "nobody"}, "404", "unknown model"),
        ({"model_version": "2"}, "404", "no version 2"),
        ({"inputs": [("z", X, "FP32")]}, "400", "unknown input 'z'"),
        ({"inputs": []}, "400", "missing input 'x'"),
        ({"inputs": [("x", X.astype(np.float64), "FP64")]}, "400", "takes FP32, got FP64"),
        ({"inputs": [("x", X[:, :3], "FP32")]}, "400", "shape must be"),
        ({"inputs": [("x", np.zeros((9, 4), np.float32), "FP32")]}, "400", "1 to 8 rows"),
        ({"priority": 4}, "400", "at most 3"),
        ({"timeout": 0}, "400", "integer > 0"),
        ({"outputs": [http.InferRequestedOutput("z")]}, "400", "unknown output 'z'"),
        ({"outputs": [http.InferRequestedOutput("y", class_count=2)]}, "400", "not supported"),
    ],
)
def test_what_is_wrong_is_told(client, change, status, text):
    told = {"model_name": "affine", "inputs": [("x", X, "FP32")], **change}
    told["inputs"] = [tensor(*item) for item in told["inputs"]]
    with pytest.raises(InferenceServerException, match=text) as caught:
        client.infer(**told)
    assert caught.value.status() == status


def test_a_request_on_which_the_model_fails_is_500_and_the_server_lives(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("gather", [tensor("x", np.array([[7]], np.int64), "INT64")])
    assert caught.value.status() == "500"
    good = client.infer("gather", [tensor("x", np.array([[2]], np.int64), "INT64")])
    assert good.as_numpy("y").tolist() == [[30.0]]


def test_statistics_move_by_what_was_asked(client):
    def counts():
        (stats,) = client.get_inference_statistics("affine")["model_stats"]
        return stats

    before = counts()
    for _ in range(3):
        client.infer("affine", [tensor("x", X, "FP32")])
    after = counts()
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] - before["execution_count"] == 3
    success = [s["inference_stats"]["success"] for s in (before, after)]
    assert success[1]["count"] - success[0]["count"] == 3
    assert success[1]["ns"] > success[0]["ns"]
    assert abs(after["last_inference"] / 1000 - time.time()) < 60
    two = next(b for b in after["batch_stats"] if b["batch_size"] == 2)
    assert two["compute_infer"]["ns"] > 0


def test_metrics_of_the_live_engine(live, client):
    client.infer("affine", [tensor("x", X, "FP32")])
    with Client(port_of(live)) as raw:
        page = raw.ask(request("/metrics")).body.decode()
    assert 'forebay_replicas_up{model="affine"} 1.0' in page
    ok = next(
        line for line in page.splitlines() if line.startswith('forebay_requests_total{model="affine",outcome="ok"}')
    )
    assert float(ok.split()[1]) >= 1


def test_a_raw_request_of_one_row(live):
    row = np.arange(4, dtype="<f4")
    with Client(port_of(live)) as raw:
        reply = raw.ask(request("/v2/models/affine/infer", row.tobytes(), Inference_Header_Content_Length=0))
    assert reply.status == 200
    np.testing.assert_array_equal(np.frombuffer(reply.binary, "<f4"), 2 * row + 1)


def test_two_thousand_distinct_requests_at_once_each_get_their_own_answer(live, folder):
    """Rows 1 to 8, 64 outstanding, through the asyncio client; every answer against a direct call."""
    direct = Direct(folder / "mlp.onnx")

    async def run() -> list[str]:
        gate = asyncio.Semaphore(64)
        wrong: list[str] = []

        async def one(client, i: int) -> None:
            x = distinct_rows(1, i, 1 + i % 8)
            async with gate:
                result = await client.infer("mlp", [aio_tensor("x", x)], request_id=str(i))
            if result.get_response()["id"] != str(i) or not np.allclose(
                result.as_numpy("y"), direct(x=x)[0], rtol=1e-4, atol=1e-5
            ):
                wrong.append(f"request {i}")

        async with aio.InferenceServerClient(address_of(live), conn_limit=64) as client:
            await asyncio.gather(*(one(client, i) for i in range(2000)))
        return wrong

    assert asyncio.run(run()) == []


def aio_tensor(name, array):
    found = aio.InferInput(name, list(array.shape), "FP32")
    found.set_data_from_numpy(array)
    return found


CORPUS = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe{}",
    "nested": b"[" * 200_000,
    "wrong shape": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2,3,4]}]}',
    "negative shape": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,4],"data":[1,2,3,4]}]}',
    "overflowing shape": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[9223372036854775807,4],"data":[]}]}',
    "lying size": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":99999}}]}',
    "truncated": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}]}abc',
}


@pytest.mark.parametrize("body", CORPUS.values(), ids=CORPUS)
@pytest.mark.parametrize("header_length", [None, "whole", 1, 10**9, 10**30, -1, "x"], ids=str)
def test_malformed_requests_get_400_and_the_server_keeps_serving(live, body, header_length):
    fields = {} if header_length is None else {"Inference_Header_Content_Length": header_length}
    if header_length == "whole":
        fields = {"Inference_Header_Content_Length": body.rfind(b"}") + 1}
    with Client(port_of(live)) as raw:
        reply = raw.ask(request("/v2/models/affine/infer", body, method="POST", **fields))
        assert reply.status == 400
        assert json.loads(reply.body)["error"]
        assert raw.ask(request("/v2/health/ready")).status == 200


def test_the_call_sequence_of_perf_analyzer_finds_every_field_it_indexes(live):
    """Its C++ client always sends the header length and an id, possibly empty; two windows of four requests."""
    with Client(port_of(live)) as raw:
        assert raw.ask(request("/v2/health/live")).status == 200
        metadata = raw.ask(request("/v2/models/affine")).json
        assert {"name", "versions", "platform", "inputs", "outputs"} <= set(metadata)
        config = raw.ask(request("/v2/models/affine/config")).json
        assert {i["name"] for i in config["input"]} <= {i["name"] for i in metadata["inputs"]}
        assert type(config["max_batch_size"]) is int
        assert type(config["model_transaction_policy"]["decoupled"]) is bool
        assert type(config["response_cache"]["enable"]) is bool
        server = raw.ask(request("/v2")).json
        assert type(server["extensions"]) is list
        assert "statistics" in server["extensions"]
        for _ in range(2):
            before = perf_statistics(raw)
            for _ in range(2):
                perf_binary(raw)
                perf_json(raw)
            after = perf_statistics(raw)
            assert after["inference_count"] - before["inference_count"] == 4
            assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 4
        assert raw.ask(request("/metrics")).status == 200


def perf_statistics(raw):
    """A statistics request, indexed as perf_analyzer's parser does, without looking whether a field is there."""
    (stats,) = raw.ask(request("/v2/models/affine/stats")).json["model_stats"]
    parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    found = [stats["inference_stats"][part][key] for part in parts for key in ("count", "ns")]
    found += [stats["inference_count"], stats["execution_count"], stats["last_inference"]]
    for batch in stats["batch_stats"]:
        found.append(batch["batch_size"])
        found += [batch[part][key] for part in parts[3:6] for key in ("count", "ns")]
    assert all(type(n) is int and n >= 0 for n in found)
    assert (stats["name"], stats["version"]) == ("affine", "1")
    return stats


def perf_binary(raw):
    """A binary inference as perf_analyzer sends it."""
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    reply = raw.ask(infer(*binary_request(X[:1], id="", outputs=outputs), model="affine"))
    assert reply.status == 200
    np.testing.assert_array_equal(np.frombuffer(reply.binary, "<f4"), 2 * X[0] + 1)


def perf_json(raw):
    """A JSON inference as perf_analyzer sends it: with a header length, and no parameters on a JSON output."""
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": X[0].tolist()}]
    text = json.dumps({"id": "", "inputs": inputs, "outputs": [{"name": "y"}]}).encode()
    reply = raw.ask(infer(text, model="affine", Inference_Header_Content_Length=len(text)))
    assert reply.status == 200
    (output,) = reply.json["outputs"]
    assert "parameters" not in output
    assert output["data"] == (2 * X[0] + 1).tolist()
    assert "id" not in reply.json


def test_a_timeout_that_passes_in_the_queue_is_504(client):
    with pytest.raises(InferenceServerException, match="timed out") as caught:
        client.infer("slow", [tensor("x", X, "FP32")], timeout=2000)
    assert caught.value.status() == "504"


def test_a_full_queue_is_503_with_advice_when_to_come_back(live):
    with Client(port_of(live)) as waiting, Client(port_of(live)) as late:
        waiting.send(infer(*binary_request(X), model="narrow"))
        until(lambda: b'forebay_queue_rows{model="narrow"} 2.0' in late.ask(request("/metrics")).body)
        reply = late.ask(infer(*binary_request(X[:1]), model="narrow"))
    assert reply.status == 503
    assert "queue is full" in reply.json["error"]
    assert (reply.fields["retry-after"], reply.fields["retry-after-ms"]) == ("0", "10")


def test_rows_of_several_clients_leave_in_one_batch_as_soon_as_it_is_full(live):
    """Four requests of two rows make the eight that the model waits an hour for."""

    async def run():
        async with aio.InferenceServerClient(address_of(live)) as client:
            asked = [client.infer("slow", [aio_tensor("x", X + i)]) for i in range(4)]
            return [r.as_numpy("y") for r in await asyncio.gather(*asked)]

    for i, y in enumerate(asyncio.run(run())):
        np.testing.assert_array_equal(y, 2 * (X + i) + 1)


def test_a_client_that_hangs_up_is_counted_as_cancelled(live):
    """Behind a queue held back by its window; the count appears in the metrics."""

    def cancelled(raw):
        page = raw.ask(request("/metrics")).body.decode().splitlines()
        line = next(x for x in page if x.startswith('forebay_requests_total{model="slow",outcome="cancelled"}'))
        return float(line.split()[1])

    with Client(port_of(live)) as raw:
        before = cancelled(raw)
        leaving = Client(port_of(live))
        leaving.send(infer(*binary_request(X), model="slow"))
        until(lambda: b'forebay_queue_rows{model="slow"} 2.0' in raw.ask(request("/metrics")).body)
        leaving.socket.close()
        until(lambda: cancelled(raw) > before)
        assert cancelled(raw) == before + 1


def until(condition, patience_s=30.0):
    """Ask the server again and again until `condition` holds; how long that takes decides nothing."""
    given_up_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < given_up_s, "it did not come about"
