"""Both forms of every datatype survive the round trip, and bytes that lie are told apart."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serve.protocol.errors import RequestError
from serve.protocol.tensors import (
    DATATYPES,
    NonFinite,
    check_shape,
    datatype_of,
    from_binary,
    from_json,
    join_strings,
    split_strings,
    to_binary,
    to_json,
)

SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMERIC_JSON = [d for d in DATATYPES.values() if d.json_types and d.width]
BINARY_ONLY = [d for d in DATATYPES.values() if not d.json_types]


def nested(flat, shape):
    """`flat` nested as `shape` says."""
    if len(shape) <= 1:
        return list(flat)
    step = len(flat) // shape[0] if shape[0] else 0
    return [nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


@st.composite
def numeric_tensors(draw):
    datatype = draw(st.sampled_from(NUMERIC_JSON))
    array = draw(npst.arrays(datatype.dtype, SHAPES))
    return datatype, array


@given(numeric_tensors(), st.booleans())
def test_json_form_round_trips_through_real_json_flat_and_nested(tensor, nest):
    datatype, array = tensor
    if not np.isfinite(array).all():
        with pytest.raises(RequestError, match=r"x: .*ask for it as binary data"):
            to_json(datatype, array, "x")
        return
    data = to_json(datatype, array, "x")
    sent = json.loads(json.dumps(nested(data, array.shape) if nest else data))
    back = from_json(datatype, array.shape, sent, "x")
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@given(st.sampled_from([d for d in DATATYPES.values() if d.width and d.name != "BOOL"]), SHAPES, st.randoms())
def test_binary_form_round_trips_any_bits_and_any_other_length_is_refused(datatype, shape, random):
    raw = random.randbytes(datatype.width * int(np.prod(shape)))
    back = from_binary(datatype, shape, raw, "x")
    assert back.shape == shape
    assert bytes(to_binary(datatype, back)) == raw
    for wrong in (raw + b"\0", raw[:-1]):
        if wrong != raw:
            with pytest.raises(RequestError, match="x: shape"):
                from_binary(datatype, shape, wrong, "x")


@given(npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=3)))
def test_an_array_that_is_not_contiguous_is_written_row_major(array):
    assert bytes(to_binary(DATATYPES["FP32"], array.T)) == array.T.tobytes()


@given(st.lists(st.binary(max_size=20)))
def test_bytes_elements_round_trip_in_binary_form(strings):
    datatype = DATATYPES["BYTES"]
    raw = join_strings(strings)
    assert split_strings(raw, "x") == strings
    array = from_binary(datatype, (1, len(strings)), raw, "x")
    assert array.shape == (1, len(strings))
    assert array.ravel().tolist() == strings
    assert to_binary(datatype, array) == raw
    with pytest.raises(RequestError, match="needs"):
        from_binary(datatype, (len(strings) + 1,), raw, "x")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)))
def test_bytes_elements_round_trip_in_json_form(strings):
    array = from_json(DATATYPES["BYTES"], (len(strings),), strings, "x")
    assert all(isinstance(s, bytes) for s in array)
    assert to_json(DATATYPES["BYTES"], array, "x") == strings


def test_bytes_that_are_not_utf8_have_no_json_form():
    array = from_binary(DATATYPES["BYTES"], (1,), join_strings([b"\xff"]), "x")
    with pytest.raises(RequestError, match="not UTF-8"):
        to_json(DATATYPES["BYTES"], array, "x")


@given(st.lists(st.binary(max_size=8), min_size=1), st.data())
def test_bytes_cut_anywhere_never_yield_the_same_elements(strings, data):
    raw = join_strings(strings)
    cut = data.draw(st.integers(0, len(raw) - 1))
    try:
        assert split_strings(raw[:cut], "x") == strings[: len(split_strings(raw[:cut], "x"))]
        assert len(split_strings(raw[:cut], "x")) < len(strings)
    except RequestError as error:
        assert error.status == 400


def test_bytes_with_a_lying_length_are_refused():
    with pytest.raises(RequestError, match="claims 4294967295 bytes, but only 3 follow"):
        split_strings(struct.pack("<I", 2**32 - 1) + b"abc", "x")


@pytest.mark.parametrize("datatype", BINARY_ONLY, ids=lambda d: d.name)
def test_half_precision_has_no_json_form(datatype):
    array = from_binary(datatype, (2,), b"\0\0\0\0", "x")
    with pytest.raises(RequestError, match="no JSON form"):
        from_json(datatype, (1,), [1.0], "x")
    with pytest.raises(RequestError, match="no JSON form"):
        to_json(datatype, array, "x")


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("UINT8", 256),
        ("UINT8", -1),
        ("INT8", 128),
        ("INT64", 2**63),
        ("UINT64", 2**64),
        ("INT32", 1.0),
        ("INT32", True),
        ("INT32", "1"),
        ("INT32", None),
        ("FP32", 1e39),
        ("FP64", 10**400),
        ("FP32", True),
        ("FP32", "1"),
        ("FP32", [1.0]),
        ("FP32", {}),
        ("BOOL", 2),
        ("BOOL", 1.0),
        ("BOOL", "true"),
        ("BYTES", 1),
        ("BYTES", "\ud800"),
    ],
)
def test_an_element_that_the_datatype_cannot_hold_is_refused(name, bad):
    with pytest.raises(RequestError) as caught:
        from_json(DATATYPES[name], (1,), [bad], "input 'x'")
    assert caught.value.status == 400
    assert str(caught.value).startswith("input 'x': ")


def test_not_a_number_and_infinity_pass_as_python_writes_them():
    sent = json.loads("[NaN, Infinity, -Infinity]", parse_constant=NonFinite)
    back = from_json(DATATYPES["FP32"], (3,), sent, "x")
    np.testing.assert_array_equal(back, np.array([np.nan, np.inf, -np.inf], "<f4"))


@pytest.mark.parametrize("name", ["FP32", "FP64"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400])
def test_a_number_that_is_too_large_is_not_taken_for_infinity(name, number):
    sent = json.loads(f"[1, {number}, NaN]", parse_constant=NonFinite)
    with pytest.raises(RequestError, match=f"input 'x': an element is out of the range of {name}"):
        from_json(DATATYPES[name], (3,), sent, "input 'x'")


@pytest.mark.parametrize("name", ["FP32", "FP64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_json_cannot_say_must_be_asked_for_in_binary_form(name, bad):
    array = np.array([1, bad], DATATYPES[name].dtype)
    with pytest.raises(RequestError, match="output 'y': an element is NaN or infinite") as caught:
        to_json(DATATYPES[name], array, "output 'y'")
    assert caught.value.status == 400
    assert len(to_binary(DATATYPES[name], array)) == array.nbytes


def test_zero_and_one_stand_for_booleans():
    array = from_json(DATATYPES["BOOL"], (4,), [True, False, 1, 0], "x")
    assert array.tolist() == [True, False, True, False]


def test_boolean_bytes_other_than_zero_and_one_are_refused():
    assert from_binary(DATATYPES["BOOL"], (2,), b"\0\1", "x").tolist() == [False, True]
    with pytest.raises(RequestError, match="bytes 0 or 1"):
        from_binary(DATATYPES["BOOL"], (2,), b"\0\2", "x")


@pytest.mark.parametrize(
    "data",
    [
        [1, 2, 3],
        [[1, 2], [3]],
        [[1, 2, 3, 4]],
        [[1], [2], [3], [4]],
        [[[1], [2]], [[3], [4]]],
        [[1, 2], 3, 4],
        7,
        None,
        "1234",
    ],
)
def test_data_nested_otherwise_than_the_shape_is_refused(data):
    with pytest.raises(RequestError):
        from_json(DATATYPES["INT32"], (2, 2), data, "x")


@pytest.mark.parametrize(
    "shape",
    [[-1, 2], [1.0], ["1"], [True], 3, None, {}, [2**31, 2], [2**62, 2**62, 0], [10**30], [1] * 33, [10**300] * 1000],
    ids=lambda shape: str(shape)[:20],
)
def test_a_shape_that_is_no_shape_is_refused(shape):
    with pytest.raises(RequestError, match="x: shape"):
        check_shape(shape, "x")


def test_shapes_may_be_empty_or_have_empty_dimensions():
    assert check_shape([], "x") == ()
    assert check_shape([0, 4], "x") == (0, 4)


@pytest.mark.parametrize("name", ["FP31", "fp32", None, 5, [], {}])
def test_an_unknown_datatype_is_refused_with_the_list_of_known_ones(name):
    with pytest.raises(RequestError, match="must be one of BOOL, UINT8"):
        datatype_of(name, "x")
