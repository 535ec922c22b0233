"""The data plane takes the reference's every decision, to the nanosecond, on random nodes and arrivals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.policy.codes import OUTCOME_COUNT, REASON_COUNT, REASON_NONE
from serve.records import REASON
from tests.twin.cases import FEATURES, both, difference, draw_case, draw_estate, stuck_head_case

FAMILIES = range(10)
CASES_A_FAMILY = 520  # ten families: 5,200 cases

EVERYTHING = (1 << len(FEATURES)) - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_data_plane_takes_every_decision_of_the_reference(family: int) -> None:
    @settings(max_examples=CASES_A_FAMILY, derandomize=True, deadline=None, database=None)
    @given(seed=st.integers(0, 2**32), size=st.integers(1, 44), features=st.integers(0, EVERYTHING))
    def agree(seed: int, size: int, features: int) -> None:
        slow, fast = both(draw_case(family, seed, size, features))
        assert difference(slow, fast) == ""

    agree()


@pytest.mark.parametrize("family", FAMILIES)
def test_estates_agree_on_every_attempt(family: int) -> None:
    @settings(max_examples=CASES_A_FAMILY, derandomize=True, deadline=None, database=None)
    @given(seed=st.integers(0, 2**32), size=st.integers(1, 44), features=st.integers(0, EVERYTHING))
    def agree(seed: int, size: int, features: int) -> None:
        slow, fast = both(draw_estate(200 + family, seed, size, features))
        assert difference(slow, fast) == ""

    agree()


def test_the_cases_meet_every_outcome_and_reason() -> None:
    met_outcomes, met_reasons = np.zeros(OUTCOME_COUNT, np.int64), np.zeros(REASON_COUNT, np.int64)
    rng = np.random.default_rng(0)
    for seed in range(150):
        features = int(rng.integers(0, EVERYTHING + 1))
        for case in (draw_case(99, seed, 40, features), draw_estate(99, seed, 40, features)):
            slow, _ = both(case)
            met_outcomes += slow.tally.outcomes.sum(axis=(0, 1))
            np.add.at(met_reasons, slow.rows[-1][:, REASON], 1)
            met_reasons += slow.tally.drop_reasons.sum(axis=(0, 1))
    assert [i for i in range(OUTCOME_COUNT) if met_outcomes[i] == 0] == []
    assert [i for i in range(REASON_COUNT) if met_reasons[i] == 0 and i != REASON_NONE] == []


def test_a_long_run_of_everything_at_once_agrees() -> None:
    for seed in range(4):
        left_out = ("drains", "engines") if seed % 2 else ("drains", "priorities")
        features = EVERYTHING & ~sum(1 << FEATURES.index(name) for name in left_out)
        for draw in (draw_case, draw_estate):
            slow, fast = both(draw(100, seed, 3000, features))
            assert difference(slow, fast) == ""


def test_a_ring_full_of_holes_is_closed_up() -> None:
    slow, fast = both(stuck_head_case())
    assert difference(slow, fast) == ""
    assert len(slow.rows[-1]) == 200
