"""The front's leaves as a specification: what its jobs cost and whom it refuses unread (rule 10)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.policy import front
from sim.plane import free_front


def _params(**fields: int) -> list[int]:
    params = [0] * front.FRONT_PARAM_COUNT
    for name, value in fields.items():
        params[getattr(front, f"FRONT_{name.upper()}")] = value
    return params


def test_a_parse_costs_per_request_and_per_byte_in() -> None:
    params = _params(parse_ns=20_000, parse_ns_per_kib=100, bytes_in_per_row=2048, bytes_out_per_row=10**6)
    assert [front.parse_ns(params, rows) for rows in (1, 3)] == [20_200, 20_600]


def test_an_answer_costs_per_request_and_per_byte_out() -> None:
    params = _params(finish_request_ns=9_000, finish_ns_per_kib=300, bytes_out_per_row=1024, bytes_in_per_row=10**6)
    assert [front.answer_ns(params, rows) for rows in (1, 2)] == [9_300, 9_600]


def test_parts_of_a_nanosecond_are_dropped_once_per_job_not_once_per_row() -> None:
    params = _params(parse_ns_per_kib=1, bytes_in_per_row=1023)
    assert [front.parse_ns(params, rows) for rows in (1, 2, 1024)] == [0, 1, 1023]


def test_a_batch_and_a_refusal_have_their_own_cost() -> None:
    params = _params(finish_batch_ns=7, refuse_ns=11)
    assert (front.finish_batch_ns(params), front.refuse_ns(params)) == (7, 11)


def test_handing_a_batch_over_costs_by_its_bytes_in_and_its_further_requests() -> None:
    params = _params(dispatch_ns=50, dispatch_ns_per_kib=7, bytes_in_per_row=2048, bytes_out_per_row=10**6)
    assert [front.dispatch_ns(params, rows, 1) for rows in (1, 3)] == [64, 92]
    params = _params(dispatch_ns=50, dispatch_ns_per_request=5)
    assert [front.dispatch_ns(params, 8, requests) for requests in (1, 3)] == [50, 60]


@pytest.mark.parametrize(("waited", "refused"), [(0, 0), (50, 0), (51, 1)])
def test_a_request_is_refused_unread_only_if_it_waited_longer_than_the_budget(waited: int, refused: int) -> None:
    assert front.over_budget(1_000, 1_000 + waited, 50) == refused
    assert front.over_budget(1_000, 1_000 + waited, -1) == 0, "a negative budget is unbounded"


def test_a_free_front_costs_nothing_and_refuses_nobody() -> None:
    params = free_front()
    costs = (
        front.parse_ns(params, 9),
        front.answer_ns(params, 9),
        front.finish_batch_ns(params),
        front.refuse_ns(params),
    )
    assert costs == (0, 0, 0, 0)
    assert front.over_budget(0, 10**18, params[front.FRONT_BUDGET_NS]) == 0


def test_the_parameters_are_the_vector_without_gaps() -> None:
    places = [value for name, value in vars(front).items() if name.startswith("FRONT_") and name != "FRONT_PARAM_COUNT"]
    assert sorted(places) == list(range(front.FRONT_PARAM_COUNT))


@given(rows=st.integers(1, 512), fields=st.lists(st.integers(0, 10**6), min_size=10, max_size=10))
def test_costs_are_whole_non_negative_and_grow_with_rows(rows: int, fields: list[int]) -> None:
    params = np.array(fields, np.int64)
    for cost in (front.parse_ns, front.answer_ns):
        assert 0 <= cost(params, rows) <= cost(params, rows + 1)
        assert isinstance(cost(fields, rows), int)
