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
