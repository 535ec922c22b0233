"""Lines (`sim.kernel_queue`): heaps that stay sorted while their entries come almost in order."""

import heapq

import numba
import numpy as np
import pytest

from sim import layout as ly
from sim.kernel_queue import LINE_WALK, heap_field, line_pop, line_push, top_slot

ROOM = 2 * LINE_WALK + 8


@numba.njit(error_model="numpy")
def drive(s, q, at_ns, gone):
    """Push instant after instant, each its own id and slot, and pop so many after each; slots in their order."""
    popped, count = np.zeros(len(at_ns), np.int64), 0
    for i in range(len(at_ns)):
        line_push(s, q, ly.ANSWERS, at_ns[i], len(at_ns) - i, i)
        for _ in range(gone[i]):
            popped[count] = top_slot(s, q, ly.ANSWERS)
            line_pop(s, q, ly.ANSWERS)
            count += 1
    return popped[:count]


@pytest.mark.parametrize("jitter_ns", [0, 3, LINE_WALK, 10 * LINE_WALK])
def test_line_pops_in_the_order_of_a_heap(jitter_ns: int) -> None:
    rng = np.random.default_rng(jitter_ns)
    count = 20 * ROOM
    at_ns = np.arange(count) // 2 + rng.integers(0, jitter_ns + 1, count)
    s, q = np.zeros(ly.LEVEL, np.int64), np.zeros(2 * ly.HEAP_ENTRY * ROOM, np.int64)
    s[heap_field.py_func(ly.ANSWERS, ly.LINE_END)] = len(q)
    gone, expected, heap = np.zeros(count, np.int64), [], []
    for i, at in enumerate(at_ns.tolist()):
        heapq.heappush(heap, (at, count - i, i))
        full = i + 1 == count or len(heap) == ROOM  # it empties now and then, else it is drained bit by bit
        gone[i] = len(heap) if i % (5 * ROOM) == 0 or i + 1 == count else rng.integers(full, min(len(heap), 2) + 1)
        expected += [heapq.heappop(heap)[2] for _ in range(gone[i])]
    assert drive(s, q, at_ns, gone).tolist() == expected
