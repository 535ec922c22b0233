"""Service time of a batch: a look-up in the profile's table of measured quantiles (rule 11).

The table is what `sim.service` compiled a profile into: for every pressure (other busy replicas of
the machine) and number of rows, `2**bits` equally likely service times in ns.
"""


def service_ns(table, bits, rows_max, rows, pressure, draw, level):
    """Service time in ns of a batch of `rows` beside `pressure` busy neighbours.

    Parameters
    ----------
    table : int64[(pressure_max + 1) * (rows_max + 1) * 2**bits], flat.
    bits : log2 of the number of entries of one cell.
    rows, pressure : the cell; the caller clamps pressure to what was measured.
    draw : non-negative int64, uniform; keyed by the batch's first request, attempt and deaths.
    level : float64, the machine's speed at that time relative to the table (1.0 = as calibrated).
    """
    cell = pressure * (rows_max + 1) + rows
    value = table[(cell << bits) + (draw & ((1 << bits) - 1))]
    return int(value * level)


COLD_SHIFT = 18
"""The curve of `cold_ns` has its first knot at 2**18 ns, 0.26 ms."""
COLD_KNOTS = 10
"""Each further knot lies at twice the idle time of the one before; the last, at 134 ms, goes for all beyond."""


def cold_ns(curve, first, idle_ns):
    """What a batch takes longer on a replica that has been idle: its core slept, its caches hold other things.

    It is a time, not a factor: measured, it does not depend on the rows. Straight lines between knots; which
    two, the position of the highest bit says.

    Parameters
    ----------
    curve : ints of which COLD_KNOTS from `first` on are the curve's values in ns, ascending; 0 at no idle time.
    idle_ns : since the replica's last batch ended, or since it was ready.
    """
    if idle_ns < 1 << COLD_SHIFT:
        return curve[first] * idle_ns >> COLD_SHIFT
    if idle_ns >= 1 << COLD_SHIFT + COLD_KNOTS - 1:
        return curve[first + COLD_KNOTS - 1]
    knot = 0
    steps = idle_ns >> COLD_SHIFT
    if steps >> 8:
        knot, steps = knot + 8, steps >> 8
    if steps >> 4:
        knot, steps = knot + 4, steps >> 4
    if steps >> 2:
        knot, steps = knot + 2, steps >> 2
    knot += steps >> 1
    low_ns = curve[first + knot]
    rise_ns = curve[first + knot + 1] - low_ns
    return low_ns + (rise_ns * (idle_ns - (1 << (COLD_SHIFT + knot))) >> (COLD_SHIFT + knot))


PER_MILLE = 1000


def slowed_ns(span_ns, per_mille):
    """Service time on a machine that takes so many thousandths of what it should (rule 14, grey failure)."""
    return span_ns * per_mille // PER_MILLE


def following_ns(span_ns, handover_ns):
    """Service time of a batch that waited in the second slot: the replica has it at hand when the one before ends.

    It takes `handover_ns` less than a batch that is sent to a free replica, which has to be woken for it
    and then noticed; never less than 1 ns (nor more than `span_ns`).
    """
    if span_ns > handover_ns:
        return span_ns - handover_ns
    if span_ns > 1:
        return 1
    return span_ns
