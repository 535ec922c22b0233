"""Where a run's warm-up ends: MSER on the latency's course, averaged over the replications.

Only stationary open loads are cut; of the others every instant belongs to the question.
Source: K. P. White, "An effective truncation heuristic for bias reduction in simulation output",
Simulation 69(6), 1997: cut where the standard error of the mean of what is left is least.
"""

from __future__ import annotations

import numpy as np

from sim.tally import Floats


def bins_cut(latency_s: Floats, counts: Floats) -> int:
    """Number of time bins to cut from the start, at most half of them.

    Parameters
    ----------
    latency_s : (replications, bins), sums of latency by time bin of the arrival.
    counts : (replications, bins), requests in those sums.
    """
    means = latency_s.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    bins = len(means)
    errors = [float(means[cut:].var()) / (bins - cut) for cut in range(bins // 2 + 1)]
    return int(np.argmin(errors))
