"""A load plan becomes the very bytes that OIP v2 asks for, and a faulty one says everything that is wrong."""

import json

import numpy as np
import pytest

from serve.load_plan import (
    ID_DIGITS,
    ClosedLoad,
    InputData,
    LoadPlan,
    OpenLoad,
    Target,
    binary_tensor,
    build_forms,
    faults,
    random_inputs,
)
from serve.policy.codes import NEVER_NS


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


ROWS = InputData("x", "FP32", np.arange(12, dtype=np.float32).reshape(4, 3))


def parse(form, request_id: int):
    """Head, JSON header and tensor bytes of a form with an id in it."""
    raw = form.before + b"%0*d" % (ID_DIGITS, request_id) + form.after
    head, body = raw.split(b"\r\n\r\n", 1)
    fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    size = int(fields["Inference-Header-Content-Length"])
    assert int(fields["Content-Length"]) == len(body)
    return head.decode().split("\r\n")[0], json.loads(body[:size]), body[size:]


def test_a_form_is_a_binary_infer_request_with_triton_s_priority_and_timeout():
    plan = LoadPlan("m", (ROWS,), open=OpenLoad(ints(0), ints(2), ints(0), ints(1_500_001)))
    line, header, body = parse(build_forms(plan, "h:1").forms[0], 7)
    assert line == "POST /v2/models/m/infer HTTP/1.1"
    assert int(header["id"]) == 7
    assert header["parameters"] == {"binary_data_output": True, "priority": 1, "timeout": 1501}
    assert header["inputs"] == [
        {"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
    ]
    assert np.frombuffer(body, "<f4").tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_not_set_is_not_sent_and_equal_requests_share_a_form():
    plan = LoadPlan(
        "m",
        (ROWS,),
        open=OpenLoad(ints(0, 1, 2), ints(1, 2, 1), None, ints(NEVER_NS, NEVER_NS, NEVER_NS)),
        closed=ClosedLoad(ints(0), ints(0), ints(2, 2), until_ns=10),
    )
    forms = build_forms(plan, "h:1")
    assert len(forms.forms) == 2
    assert forms.open[0] == forms.open[2] != forms.open[1] == forms.closed[0] == forms.closed[1]
    assert parse(forms.forms[0], 0)[1]["parameters"] == {"binary_data_output": True}


def test_requests_may_name_other_models_each_with_its_own_inputs():
    other = Target("n", (InputData("y", "UINT8", np.array([[7]], np.uint8)),))
    load = OpenLoad(ints(0, 1, 2), ints(1, 1, 1), target=ints(0, 1, 1))
    forms = build_forms(LoadPlan("m", (ROWS,), open=load, others=(other,)), "h:1")
    assert forms.open == [0, 1, 1]
    line, header, body = parse(forms.forms[1], 0)
    assert line.startswith("POST /v2/models/n/infer")
    assert (header["inputs"][0]["name"], body) == ("y", b"\x07")


def test_rows_run_along_the_batch_axis_and_examples_repeat():
    entry, body = binary_tensor(InputData("x", "INT16", np.array([[1, 2], [3, 4]], np.int16), batch_axis=1), 3)
    assert entry["shape"] == [2, 3]
    assert np.frombuffer(body, "<i2").reshape(2, 3).tolist() == [[1, 2, 1], [3, 4, 3]]


def test_strings_are_length_prefixed():
    entry, body = binary_tensor(InputData("s", "BYTES", np.array([["a"], ["bc"]], dtype=object)), 2)
    assert entry["shape"] == [2, 1]
    assert body == b"\x01\0\0\0a\x02\0\0\0bc"


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT64", "FP16", "BF16", "FP64", "BYTES"])
def test_random_inputs_have_the_shape_asked_for_and_repeat_with_the_seed(datatype):
    first, again, other = (random_inputs([("x", datatype, [5])], 8, seed)[0] for seed in (1, 1, 2))
    assert first.data.shape == (8, 5)
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, other.data)
    assert binary_tensor(first, 8)[0]["shape"] == [8, 5]


def test_a_shape_that_varies_must_be_told():
    with pytest.raises(ValueError, match=r"input x: shape .* varies; give its size with --shape x="):
        random_inputs([("x", "FP32", [-1, 3])], 4, 0)


def test_every_fault_is_reported_at_once():
    plan = LoadPlan(
        "m",
        (InputData("x", "FP23", np.zeros((0, 2))),),
        open=OpenLoad(ints(5, 1), ints(0, 1)),
        closed=ClosedLoad(ints(0, 0), ints(0), ints(1, 1, 1), until_ns=0, target=ints(0, 1, 0), first_id=1),
        connections=0,
    )
    found = "\n".join(faults(plan))
    for part in (
        "FP23",
        "example row",
        "connections",
        "sorted",
        "open.rows",
        "closed: needs",
        "until_ns",
        "closed.target",
        "overlap",
    ):
        assert part in found
    assert faults(LoadPlan("m", (ROWS,), open=OpenLoad(ints(0, 0, 1), ints(1, 1, 1)))) == []
