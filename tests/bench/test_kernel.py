"""What the kernel benchmark compares is the same work: its three programs meet the same fate."""

import numpy as np
import pytest

from bench.kernel import Case, cases, drawn_chunks, drive
from bench.plain_simpy import PlainQueue
from serve.records import ANSWERED_NS, ARRIVAL_NS, Rows
from sim.dataplane import DataPlane
from sim.plane import Plane
from sim.reference import Reference

COUNT = 3000


def rows_of(plane: Plane, case: Case) -> Rows:
    """The rows of a run as the benchmark drives it."""
    chunks = drawn_chunks(case, COUNT, 3)
    drive(plane, case, lambda: next(chunks, None))
    return plane.rows()


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case.name))
def test_kernel_and_reference_agree_on_the_cases(case: Case) -> None:
    fast = rows_of(DataPlane(case.what, 1, keep="rows"), case)
    assert len(fast) == COUNT
    assert np.array_equal(fast, rows_of(Reference(case.what, 1), case))


def test_the_plain_program_is_of_the_same_queue() -> None:
    case = cases()[0]
    rows = rows_of(DataPlane(case.node, 1, keep="rows"), case)
    plain = PlainQueue(case.node)
    plain.run(next(drawn_chunks(case, COUNT, 3)))
    assert sorted(plain.latencies_ns) == sorted((rows[:, ANSWERED_NS] - rows[:, ARRIVAL_NS]).tolist())
