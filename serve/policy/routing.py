"""Which node a request is sent to (rule 17): one leaf for all policies.

The router knows only its own: `score` is what it believes of each node. Candidates are the nodes that are ready and
not ejected, in the order of their ids; ties go to the lowest id.

Sources: round robin, random and least outstanding as in Envoy and nginx; join the shortest queue; the power of two
choices (Mitzenmacher, IEEE TPDS 12(10), 2001); affinity by rendezvous hashing (Thaler and Ravishankar, IEEE/ACM ToN
6(1), 1998), which moves no key but those of a node that comes or goes.
"""

ROUTE_ROUND_ROBIN = 0
ROUTE_RANDOM = 1
ROUTE_LEAST_OUTSTANDING = 2
ROUTE_SHORTEST_QUEUE = 3
ROUTE_P2C = 4
ROUTE_LEAST_WORK = 5
ROUTE_AFFINITY = 6

NOBODY = -1
"""The choice among no candidates."""

DRAW_BITS = 31
"""Of one of the two uniforms that a draw holds."""
DRAW_MASK = (1 << DRAW_BITS) - 1
MIX = 0x7FEB352D
MIX_NODE = 0x046CA68B
"""Odd multipliers below 2**31, so that products stay within int64: compiled integers wrap, interpreted ones do not.
From Chris Wellons's search for 32-bit hashes ("lowbias32", 2018)."""


def another_draw(draw):
    """A draw for the next attempt at a request, from its last one's: as good as an independent one, of 62 bits."""
    low, high = draw & DRAW_MASK, (draw >> DRAW_BITS) & DRAW_MASK
    one = ((low ^ (low >> 16)) * MIX + high) & DRAW_MASK
    one = one ^ (one >> 15)
    other = (high * MIX_NODE + one) & DRAW_MASK
    other = other ^ (other >> 13)
    return (other << DRAW_BITS) | one


def reported(kind, requests, rows, row_ns, replicas):
    """What a node says of itself with each answer: the score that a router of this kind has of it.

    Parameters
    ----------
    requests, rows : enqueued, and of a batch that is not finished.
    row_ns : what a row is expected to take of a replica.
    replicas : that take batches.
    """
    if kind == ROUTE_LEAST_WORK:
        return rows * row_ns // max(replicas, 1)
    return requests


def version(draw, upto, first, count):
    """Which of `count` versions, numbered from `first` on, serves a request (rule 18); it is asked once.

    Parameters
    ----------
    draw : of 31 bits, keyed by the request.
    upto : int64 by version: up to where, of 2**31, draws go to it and those before it; all the others to the last one.
    """
    last = first + count - 1
    while first < last and draw >= upto[first]:
        first += 1
    return first


def choose(kind, nodes, count, score, turn, bits, key):
    """The node that a request is sent to; NOBODY if there is no candidate.

    Parameters
    ----------
    kind : one of ROUTE_*.
    nodes : int64 ids of the candidates, ascending; the first `count` are looked at.
    score : int64 by node id, never negative: requests sent and not yet answered (ROUTE_LEAST_OUTSTANDING, ROUTE_P2C),
        or what it `reported` last (ROUTE_SHORTEST_QUEUE, ROUTE_LEAST_WORK); the other kinds do not look.
    turn : how many requests were routed before this one; ROUTE_ROUND_ROBIN goes by it.
    bits : non-negative int64 keyed by (request id, attempt), uniform in its lowest 62 bits: two uniforms u of 31 bits,
        each an index int(u x n), the second among the remaining n - 1.
    key : what ROUTE_AFFINITY keeps together, not negative.
    """
    if count == 0:
        return NOBODY
    if kind == ROUTE_ROUND_ROBIN:
        return nodes[turn % count]
    first = (((bits >> DRAW_BITS) & DRAW_MASK) * count) >> DRAW_BITS
    if kind == ROUTE_RANDOM or (kind == ROUTE_P2C and count == 1):
        return nodes[first]
    if kind == ROUTE_P2C:
        second = ((bits & DRAW_MASK) * (count - 1)) >> DRAW_BITS
        if second >= first:
            second += 1
        low, high = nodes[min(first, second)], nodes[max(first, second)]
        if score[high] < score[low]:
            return high
        return low
    best = nodes[0]
    if kind == ROUTE_AFFINITY:
        highest = -1
        for i in range(count):
            weight = ((key & DRAW_MASK) * MIX + (nodes[i] & DRAW_MASK) * MIX_NODE + (key >> DRAW_BITS)) & DRAW_MASK
            weight = ((weight ^ (weight >> 15)) * MIX) & DRAW_MASK
            weight = ((weight ^ (weight >> 13)) * MIX_NODE) & DRAW_MASK
            weight = weight ^ (weight >> 16)
            if weight > highest:
                best, highest = nodes[i], weight
        return best
    for i in range(1, count):
        if score[nodes[i]] < score[best]:
            best = nodes[i]
    return best
