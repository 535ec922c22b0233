"""What a load comes to: by HTTP status, and whether it held."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forebay.loading import Loaded, by_status
from serve.load_client import STATUS_CANCELLED, STATUS_NONE


def test_requests_are_counted_by_how_they_ended_those_without_an_answer_last() -> None:
    status = np.array([STATUS_NONE, 503, 200, 200, STATUS_CANCELLED, 503, 200])
    assert list(by_status(status).items())[:2] == [("200", 3), ("503", 2)]
    assert by_status(status) == {"200": 3, "503": 2, "none": 1, "cancelled": 1}


@pytest.mark.parametrize(
    ("answered", "statuses", "bounds", "held"),
    [
        (3, {"200": 3}, [True], True),
        (3, {"200": 3, "503": 9}, [], True),
        (3, {"200": 3, "none": 1}, [], False),
        (0, {"503": 3}, [], False),
        (3, {"200": 3}, [True, False], False),
    ],
)
def test_a_load_holds_if_all_were_answered_some_ok_and_the_slo_holds(
    answered: int, statuses: dict[str, int], bounds: list[bool], held: bool
) -> None:
    run: Any = SimpleNamespace(answered=answered)
    checks: Any = [SimpleNamespace(held=each) for each in bounds]
    assert Loaded("toy", run, checks, statuses).held is held
