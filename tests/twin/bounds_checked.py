"""Run by test_bounds in a process with NUMBA_BOUNDSCHECK=1: twin cases on a kernel that checks every index.

Prints one JSON object: how many cases there were, which disagreed or ran out of bounds, and whether
an index out of bounds is noticed at all in code that is compiled as the kernel is.
"""

import json
import random

import numpy as np

from sim.compiled import entry, inlined
from sim.plane import Ints
from tests.twin.cases import FEATURES, Case, both, difference, draw_case, draw_estate, stuck_head_case

CASES = 1500
LONG = 2
FAMILY = 60


@inlined
def element(array: Ints, index: int) -> int:
    """One element, read by a helper as the kernel's helpers read theirs."""
    return array[index & 0x7FFFFFFF]  # type: ignore[no-any-return]


@entry
def read(array: Ints, index: int) -> int:
    """One element, read by what Python calls."""
    return element(array, index)  # type: ignore[no-any-return]


def notices() -> bool:
    """Whether an index just beyond the end raises."""
    three = np.arange(3, dtype=np.int64)
    assert read(three, 2) == 2
    try:
        read(three, 3)
    except IndexError:
        return True
    return False


def cases() -> list[Case]:
    """Cases of any features and of most, some long ones, and the ring full of holes."""
    bits = random.Random(6)
    full = (1 << len(FEATURES)) - 1
    masks = [bits.getrandbits(len(FEATURES)) | (bits.getrandbits(len(FEATURES)) if i % 2 else 0) for i in range(CASES)]
    endless = full & ~(1 << FEATURES.index("drains"))
    ours, workers = (endless & ~(1 << FEATURES.index(name)) for name in ("engines", "priorities"))
    return [
        *(draw_case(FAMILY, i, 5 + i % 40, mask) for i, mask in enumerate(masks)),
        *(draw_case(FAMILY + 1, i, 2000, features) for i in range(LONG) for features in (ours, workers)),
        *(draw_estate(FAMILY + 2, i, 5 + i % 40, mask) for i, mask in enumerate(masks[::2])),
        *(draw_estate(FAMILY + 3, i, 2000, features) for i in range(LONG) for features in (ours, workers)),
        stuck_head_case(),
    ]


def fault(case: Case) -> str:
    """What is wrong with the case; empty if nothing."""
    try:
        return difference(*both(case))
    except IndexError as error:
        return f"out of bounds: {error}"


def main() -> None:
    """Print what was found."""
    drawn = cases()
    faults = {number: said for number, case in enumerate(drawn) if (said := fault(case))}
    print(json.dumps({"cases": len(drawn), "faults": faults, "notices": notices()}))


if __name__ == "__main__":
    main()
