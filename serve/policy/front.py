"""What the front's jobs cost, and whom it refuses from the header alone (rule 10).

The front is one FIFO station; its costs are measured by calibration and given as a vector.
"""

# Parameter vector of a front: int64 ns, and ns per KiB.
FRONT_PARSE_NS = 0
FRONT_PARSE_NS_PER_KIB = 1
FRONT_FINISH_BATCH_NS = 2
FRONT_FINISH_REQUEST_NS = 3
FRONT_FINISH_NS_PER_KIB = 4
FRONT_REFUSE_NS = 5
FRONT_BUDGET_NS = 6
FRONT_BYTES_IN_PER_ROW = 7
FRONT_BYTES_OUT_PER_ROW = 8
FRONT_TIMER_LATE_NS = 9  # how late a window or deadline timer fires on an idle front
FRONT_DISPATCH_NS = 10
FRONT_DISPATCH_NS_PER_KIB = 11
FRONT_DISPATCH_NS_PER_REQUEST = 12
FRONT_PARAM_COUNT = 13


def parse_ns(params, rows):
    """Time to read and parse one request of `rows` rows."""
    return params[0] + params[1] * params[7] * rows // 1024


def finish_batch_ns(params):
    """First part of a finish job: after it the slot is free and the next dispatch is decided."""
    return params[2]


def dispatch_ns(params, rows, requests):
    """Time to hand a batch of `requests` requests, `rows` rows together, over to its replica.

    It begins with the dispatch; only then does the front go on with the job that let the batch leave, or with the next.
    """
    return params[10] + params[11] * params[7] * rows // 1024 + params[12] * (requests - 1)


def answer_ns(params, rows):
    """Time to write one answer of `rows` rows, within the second part of a finish job."""
    return params[3] + params[4] * params[8] * rows // 1024


def refuse_ns(params):
    """Time to answer one refused, draining, expired or failed request."""
    return params[5]


def over_budget(arrival_ns, now_ns, budget_ns):
    """Whether a request waited so long for its parse that it is refused instead; budget < 0 is unbounded."""
    if budget_ns >= 0 and now_ns - arrival_ns > budget_ns:
        return 1
    return 0
