"""What a request's JSON header may say, and what it is told when it says anything else."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy.codes import NEVER_NS, REASON_NONE, REASON_ROWS
from serve.profile import Tensor
from serve.protocol import answer, oip
from serve.protocol.errors import RequestError
from serve.protocol.signature import ModelSignature
from tests.serve.protocol.stub_engine import served_model


def signature(**kwargs):
    return ModelSignature.of(served_model(**kwargs))


TWICE = signature()
TWO = signature(
    inputs=[Tensor(name="a", datatype="FP32", shape=[2]), Tensor(name="s", datatype="BYTES", shape=[-1])],
    outputs=[Tensor(name="p", datatype="FP16", shape=[2]), Tensor(name="q", datatype="BYTES", shape=[1])],
)


def header(**changes):
    """A good JSON-only request for TWICE with fields replaced; None takes one out."""
    value = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}], **changes}
    return {k: v for k, v in value.items() if v is not None}


def the_input(**changes):
    """`header` with the fields of its input replaced."""
    item = {**header()["inputs"][0], **changes}
    return header(inputs=[{k: v for k, v in item.items() if v is not None}])


def read(value, sig=TWICE, binary=b"", length=...):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    told = (len(text) or None) if length is ... else length
    return oip.read(oip.PlanCache(sig), text + binary, told)


def two(a=None, s=None, **more):
    """A request for TWO; `a` and `s` are the fields of its inputs."""
    a = a or {"data": [1.0, 2.0]}
    s = s or {"data": ["u", "v", "w"]}
    return {
        "inputs": [
            {"name": "s", "datatype": "BYTES", "shape": [1, 3], **s},
            {"name": "a", "datatype": "FP32", "shape": [1, 2], **a},
        ],
        "parameters": {"binary_data_output": True},
        **more,
    }


def test_a_json_request_becomes_arrays():
    inference = read(header(id="abc"), length=None)
    np.testing.assert_array_equal(inference.arrays["x"], np.array([[1, 2, 3, 4]], np.float32))
    assert (inference.id, inference.plan.rows) == ("abc", 1)
    assert (inference.plan.priority, inference.plan.timeout_ns) == (0, NEVER_NS)
    assert [(o.index, o.binary) for o in inference.plan.outputs] == [(0, False)]


def test_binary_parts_are_taken_in_the_order_of_the_requests_inputs():
    a, s = np.array([[1, 2]], "<f4").tobytes(), b"\x01\0\0\0u\0\0\0\0\x02\0\0\0vw"
    request = two({"parameters": {"binary_data_size": len(a)}}, {"parameters": {"binary_data_size": len(s)}})
    arrays = read(request, TWO, s + a).arrays
    assert arrays["s"].tolist() == [[b"u", b"", b"vw"]]
    assert arrays["a"].tolist() == [[1, 2]]


def test_json_and_binary_inputs_mix_in_one_request():
    a = np.array([[1, 2]], "<f4").tobytes()
    arrays = read(two({"parameters": {"binary_data_size": 8}}), TWO, a).arrays
    assert arrays["s"].tolist() == [[b"u", b"v", b"w"]]
    assert arrays["a"].tolist() == [[1, 2]]


def test_outputs_are_answered_as_and_in_the_order_asked_each_in_its_own_form():
    request = two(outputs=[{"name": "q", "parameters": {"binary_data": False}}, {"name": "p"}])
    inference = read(request, TWO)
    assert [(o.index, o.binary) for o in inference.plan.outputs] == [(1, False), (0, True)]
    outputs = {"p": np.array([[1, 2]], np.float16), "q": np.array([[b"yes"]], object)}
    fields, parts = answer.inference(TWO, inference.plan, "7", outputs)
    body = b"".join(parts)
    length = int(fields.split(b"Length: ")[1])
    assert json.loads(body[:length]) == {
        "model_name": "twice",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "q", "datatype": "BYTES", "shape": [1, 1], "data": ["yes"]},
            {"name": "p", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}},
        ],
    }
    assert body[length:] == outputs["p"].tobytes()


def test_one_plan_answers_with_outputs_of_different_sizes():
    plan = read(two(), TWO).plan
    for text in (b"a", b"bcd", b"a"):
        outputs = {"p": np.zeros((1, 2), np.float16), "q": np.array([[text]], object)}
        fields, parts = answer.inference(TWO, plan, "", outputs)
        body = b"".join(parts)
        length = int(fields.split(b"Length: ")[1])
        sizes = [o["parameters"]["binary_data_size"] for o in json.loads(body[:length])["outputs"]]
        assert sizes == [4, 4 + len(text)]
        assert len(body) == length + sum(sizes)


@pytest.mark.parametrize(("priority", "inside"), [(None, 1), (0, 1), (1, 0), (2, 1), (3, 2)], ids=lambda v: str(v))
def test_priorities_on_the_wire_count_from_one_and_zero_is_the_default(priority, inside):
    sig = signature(priority_levels=3, default_priority=1)
    parameters = {} if priority is None else {"priority": priority}
    assert read(header(parameters=parameters), sig).plan.priority == inside


def test_a_timeout_is_in_microseconds_and_a_huge_one_is_none():
    assert read(header(parameters={"timeout": 1500})).plan.timeout_ns == 1_500_000
    assert read(header(parameters={"timeout": 2**80})).plan.timeout_ns == NEVER_NS
    assert read(header(), signature(default_timeout="2ms")).plan.timeout_ns == 2_000_000


def test_parameters_that_we_do_not_know_are_let_pass():
    unknown = {"sequence_id": 3, "sequence_start": True, "temperature": 0.5, "who": "me"}
    plain, told = read(header()).plan, read(header(parameters=unknown)).plan
    for field in ("rows", "priority", "timeout_ns", "outputs"):
        assert getattr(told, field) == getattr(plain, field), field


BAD_HEADERS = {
    "not JSON": (b"{", "is not JSON"),
    "empty": (b"", "is not JSON"),
    "not UTF-8": (b'{"id": "\xff"}', "is not UTF-8: byte 8"),
    "UTF-16": ('{"id": "a"}'.encode("utf-16"), "is not UTF-8"),
    "not an object": (b"[]", "must be a JSON object, got list"),
    "nested without end": (b'{"inputs":' + b"[" * 100_000, "is not JSON|nested too deeply"),
    "a number without end": (b'{"id":' + b"9" * 5000 + b"}", "is not JSON"),
    "id is a number": (header(id=5), "id must be a string"),
    "no inputs": (header(inputs=None), "inputs must be an array"),
    "inputs is an object": (header(inputs={}), "inputs must be an array"),
    "an input is a string": (header(inputs=["x"]), "inputs must be an array of objects"),
    "missing input": (header(inputs=[]), "missing input 'x'"),
    "unknown input": (the_input(name="z"), "unknown input 'z'; the model has 'x'"),
    "input without a name": (the_input(name=None), "unknown input None"),
    "name is a list": (the_input(name=[]), r"unknown input \[\]"),
    "twice the same input": (header(inputs=header()["inputs"] * 2), "input 'x' is given twice"),
    "unknown datatype": (the_input(datatype="FLOAT"), "datatype must be one of"),
    "another datatype": (the_input(datatype="FP64"), "the model takes FP32, got FP64"),
    "no shape": (the_input(shape=None), "shape must be a list"),
    "negative shape": (the_input(shape=[-1, 4]), "shape must be a list of integers >= 0"),
    "float shape": (the_input(shape=[1.0, 4]), "shape must be a list of integers >= 0"),
    "shape that overflows": (the_input(shape=[2**33, 2**33]), "has more than"),
    "wrong rank": (the_input(shape=[4]), r"shape must be \[-1, 4\] \(-1: any\), got \[4\]"),
    "wrong dimension": (the_input(shape=[1, 5], data=[1] * 5), r"shape must be \[-1, 4\]"),
    "no rows": (the_input(shape=[0, 4], data=[]), "1 to 8 rows"),
    "too many rows": (the_input(shape=[9, 4], data=[0] * 36), "1 to 8 rows .*got 9"),
    "too few elements": (the_input(data=[1, 2, 3]), "needs 4 elements, got 3"),
    "data is a number": (the_input(data=5), "data must be an array"),
    "data of the wrong type": (the_input(data=[1, 2, 3, "4"]), "'4' is not a FP32"),
    "neither data nor size": (the_input(data=None), "neither data nor"),
    "data and size": (the_input(parameters={"binary_data_size": 16}), "both data and"),
    "size is not a number": (the_input(data=None, parameters={"binary_data_size": "16"}), "must be an integer"),
    "negative size": (the_input(data=None, parameters={"binary_data_size": -16}), "must be an integer >= 0"),
    "size that is not the shape's": (the_input(data=None, parameters={"binary_data_size": 15}), "needs 16 bytes"),
    "parameters is a list": (header(parameters=[]), "parameters must be an object"),
    "a parameter is a list": (header(parameters={"k": []}), "parameters.k must be a string, number or boolean"),
    "a reserved parameter": (header(parameters={"triton_x": 1}), "'triton_x' is reserved"),
    "priority above the levels": (header(parameters={"priority": 2}), "at most 1, got 2"),
    "negative priority": (header(parameters={"priority": -1}), "integer >= 0"),
    "priority is true": (header(parameters={"priority": True}), "integer >= 0"),
    "priority is text": (header(parameters={"priority": "1"}), "integer >= 0"),
    "timeout of zero": (header(parameters={"timeout": 0}), "integer > 0 in microseconds"),
    "negative timeout": (header(parameters={"timeout": -1}), "integer > 0 in microseconds"),
    "timeout with a fraction": (header(parameters={"timeout": 1.5}), "integer > 0 in microseconds"),
    "binary_data_output is a number": (header(parameters={"binary_data_output": 1}), "must be true or false"),
    "outputs is an object": (header(outputs={"name": "y"}), "outputs must be an array"),
    "unknown output": (header(outputs=[{"name": "z"}]), "unknown output 'z'; the model has 'y'"),
    "twice the same output": (header(outputs=[{"name": "y"}] * 2), "output 'y' is given twice"),
    "binary_data is text": (header(outputs=[{"name": "y", "parameters": {"binary_data": "no"}}]), "true or false"),
    "classification": (header(outputs=[{"name": "y", "parameters": {"classification": 3}}]), "not supported"),
}


@pytest.mark.parametrize(("value", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_bad_header_is_told_what_is_wrong(value, message):
    with pytest.raises(RequestError, match=message) as caught:
        read(value)
    assert caught.value.status == 400
    assert caught.value.reason == (REASON_ROWS if "rows" in str(caught.value) else REASON_NONE)


@pytest.mark.parametrize(
    ("binary", "length", "message"),
    [
        (b"\0" * 15, ..., "add up to 16 bytes, but 15 follow"),
        (b"\0" * 17, ..., "add up to 16 bytes, but 17 follow"),
        (b"", ..., "add up to 16 bytes, but 0 follow"),
        (b"\0" * 16, 10**9, "but the body has only"),
        (b"\0" * 16, 5, "is not JSON"),
        (b"\0" * 16, None, "is not JSON"),
    ],
)
def test_lengths_that_lie_are_refused(binary, length, message):
    value = the_input(data=None, parameters={"binary_data_size": 16})
    with pytest.raises(RequestError, match=message):
        read(value, binary=binary, length=length)


@pytest.mark.parametrize("strings", [b"\xff\xff\xff\xffab", b"\x01\0\0\0a", b"\x01\0\0", b"\0" * 16])
def test_bytes_elements_with_lying_lengths_are_refused(strings):
    with pytest.raises(RequestError, match="input 's'"):
        read(two(s={"parameters": {"binary_data_size": len(strings)}}), TWO, strings)


def test_inputs_must_agree_on_their_rows():
    with pytest.raises(RequestError, match=r"different numbers of rows: \[1, 2\]"):
        read(two({"shape": [2, 2], "data": [1, 2, 3, 4]}), TWO)


def test_half_precision_outputs_must_be_asked_for_in_binary_form():
    with pytest.raises(RequestError, match="output 'p': FP16 has no JSON form"):
        read({k: v for k, v in two().items() if k != "parameters"}, TWO)


def test_a_model_of_fixed_batch_takes_whole_shapes_and_counts_one_row():
    sig = signature(inputs=[Tensor(name="x", datatype="FP32", shape=[3, 2])], max_batch=0)
    value = header(inputs=[{"name": "x", "datatype": "FP32", "shape": [3, 2], "data": [1, 2, 3, 4, 5, 6]}])
    assert read(value, sig).plan.rows == 1


# -- raw requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "body", "expected"),
    [
        (Tensor(name="x", datatype="FP32", shape=[2]), np.array([1, 2], "<f4").tobytes(), [[1, 2]]),
        (Tensor(name="x", datatype="UINT8", shape=[-1]), b"abc", [[97, 98, 99]]),
        (Tensor(name="x", datatype="INT16", shape=[2, -1]), b"\1\0\2\0\3\0\4\0", [[[1, 2], [3, 4]]]),
        (Tensor(name="x", datatype="BYTES", shape=[1]), b"hello", [[b"hello"]]),
    ],
    ids=["fixed", "variable", "one-variable", "bytes"],
)
def test_a_raw_request_is_one_row_of_the_only_input_with_the_shape_deduced(tensor, body, expected):
    inference = read(body, signature(inputs=[tensor]), length=0)
    assert inference.arrays["x"].tolist() == expected
    assert inference.plan.rows == 1
    assert all(o.binary for o in inference.plan.outputs)


@pytest.mark.parametrize(
    ("sig", "body"),
    [
        (TWO, b"abcd"),
        (TWICE, b"abc"),
        (signature(inputs=[Tensor(name="x", datatype="FP32", shape=[-1, -1])]), b"abcd"),
        (signature(inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 2])]), b"abcd"),
        (signature(inputs=[Tensor(name="x", datatype="BYTES", shape=[2])]), b"abcd"),
    ],
    ids=["two inputs", "too short", "two variable", "no multiple", "two strings"],
)
def test_a_raw_request_that_does_not_fit_is_refused(sig, body):
    with pytest.raises(RequestError) as caught:
        read(body, sig, length=0)
    assert caught.value.status == 400


# -- the cache of plans ------------------------------------------------------------------------------


def binary_header(**more):
    return json.dumps({**more, **the_input(data=None, parameters={"binary_data_size": 16})}).encode()


def test_headers_that_differ_only_in_a_leading_id_share_a_plan_and_keep_their_ids():
    cache = oip.PlanCache(TWICE)
    plans = [cache.get(binary_header(id=i)) for i in ("1", "2", "", "a-b.c")]
    assert [request_id for _, request_id in plans] == ["1", "2", "", "a-b.c"]
    assert len({id(plan) for plan, _ in plans}) == 1


@pytest.mark.parametrize(
    "text",
    [b'{"id": "1", "id": "2", REST}', b'{"id": "1", REST, "id": "2"}', b'{"id": "\\u0032", REST}'],
    ids=["twice in front", "front and back", "escaped"],
)
def test_an_id_told_twice_or_with_escapes_is_what_json_says_it_is(text):
    value = text.replace(b"REST", binary_header()[1:-1])
    cache = oip.PlanCache(TWICE)
    assert [cache.get(value)[1] for _ in range(3)] == [json.loads(value)["id"]] * 3 == ["2"] * 3
    assert cache.get(value.replace(b'"1"', b'"9"'))[1] == "2"
    assert cache.get(binary_header(id="9"))[1] == "9"


@given(st.text(max_size=12))
def test_any_id_is_the_same_from_the_cache_as_from_json(text):
    cache = oip.PlanCache(TWICE)
    value = binary_header(id=text)
    assert cache.get(value)[1] == cache.get(value)[1] == text


def test_headers_with_data_are_not_kept_and_the_cache_is_bounded():
    cache = oip.PlanCache(TWICE, entries=2)
    cache.get(json.dumps(header()).encode())
    assert len(cache) == 0
    for k in range(5):
        cache.get(binary_header(parameters={"k": k}))
    assert len(cache) == 2
