"""The service leaf as a specification: which entry of the table is a batch's service time (rule 11)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.policy import service
from serve.policy.service import following_ns, service_ns

BITS, ROWS_MAX, PRESSURE_MAX = 2, 3, 1
TABLE = list(range((PRESSURE_MAX + 1) * (ROWS_MAX + 1) << BITS))


@given(rows=st.integers(1, ROWS_MAX), pressure=st.integers(0, PRESSURE_MAX), draw=st.integers(0, 2**63 - 1))
def test_a_draw_picks_an_entry_of_the_cell_of_its_rows_and_pressure(rows: int, pressure: int, draw: int) -> None:
    """Entries are numbered here, so the answer tells cell and entry."""
    entry = service_ns(TABLE, BITS, ROWS_MAX, rows, pressure, draw, 1.0)
    assert divmod(entry, 1 << BITS) == (pressure * (ROWS_MAX + 1) + rows, draw % (1 << BITS))


def test_all_entries_of_a_cell_are_equally_likely() -> None:
    picked = [service_ns(TABLE, BITS, ROWS_MAX, 2, 1, draw, 1.0) for draw in range(400)]
    assert {entry: picked.count(entry) for entry in picked} == {24: 100, 25: 100, 26: 100, 27: 100}


def test_the_level_stretches_the_time_and_the_rest_of_a_nanosecond_is_dropped() -> None:
    assert service_ns([0, 1001], 0, 1, 1, 0, 5, 1.0) == 1001
    assert service_ns([0, 1001], 0, 1, 1, 0, 5, 1.1) == 1101


@given(span_ns=st.integers(0, 10**6), handover_ns=st.integers(0, 10**6))
def test_a_batch_from_the_second_slot_saves_the_handover_but_takes_some_time(span_ns: int, handover_ns: int) -> None:
    taken = following_ns(span_ns, handover_ns)
    assert taken == span_ns - handover_ns if span_ns > handover_ns else taken == min(span_ns, 1)


def test_a_cold_replica_takes_longer_by_a_curve_through_its_knots() -> None:
    curve = [100, 300, 300, 700, 1500, 1500, 1500, 2000, 4000, 5000]
    knots = [1 << (service.COLD_SHIFT + k) for k in range(service.COLD_KNOTS)]
    assert [service.cold_ns(curve, 0, at) for at in knots] == curve
    assert [service.cold_ns(curve, 0, at) for at in (0, knots[0] // 2, 3 * knots[0] // 2, 10 * knots[-1])] == [
        0,
        50,
        200,
        5000,
    ]
    assert service.cold_ns([7, 7, *curve], 2, knots[4]) == 1500


@given(st.lists(st.integers(0, 10**7), min_size=service.COLD_KNOTS, max_size=service.COLD_KNOTS).map(sorted))
def test_longer_idle_never_makes_a_batch_faster(curve: list[int]) -> None:
    idle = [int(x) for x in np.geomspace(1, 10**9, 200)]
    found = [service.cold_ns(curve, 0, at) for at in idle]
    assert found == sorted(found)
    at_knots = [0, *(1 << (service.COLD_SHIFT + k) for k in range(service.COLD_KNOTS))]
    assert np.allclose(found, np.interp(idle, at_knots, [0, *curve]), atol=1)
