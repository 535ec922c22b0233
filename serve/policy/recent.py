"""The last so many times, kept in their order as they come, so that a percentile is looked up. Leaves.

`recent` is an int64 row of `length(size)` zeros at first: how many came in all, a ring of the last `size`, and the same
in ascending order.
"""

from serve.policy.codes import NEVER_NS

SHARE_MIN = 10
"""A percentile is known from this share of the times on that are kept: a tenth."""


def length(size):
    """Entries of a row that keeps the last `size` times."""
    return 1 + 2 * size


def note(recent, size, time_ns):
    """One more time; if `size` are kept the oldest goes. `recent` is written."""
    count, ordered = recent[0], 1 + size
    held, at = min(count, size), min(count, size)
    ring = 1 + count % size
    if held == size:  # where the oldest lies in the order
        low, held = 0, size - 1
        while low < at:
            middle = (low + at) // 2
            if recent[ordered + middle] < recent[ring]:
                low = middle + 1
            else:
                at = middle
    while at > 0 and recent[ordered + at - 1] > time_ns:
        recent[ordered + at] = recent[ordered + at - 1]
        at -= 1
    while at < held and recent[ordered + at + 1] < time_ns:
        recent[ordered + at] = recent[ordered + at + 1]
        at += 1
    recent[ordered + at] = recent[ring] = time_ns
    recent[0] = count + 1


def percentile_ns(recent, size, percent):
    """The time that `percent` of those kept do not exceed; NEVER_NS if too few are."""
    held = min(recent[0], size)
    if held * SHARE_MIN < size:
        return NEVER_NS
    return recent[size + (held * percent + 99) // 100]
