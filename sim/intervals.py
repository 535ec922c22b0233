"""The two 95 % intervals of an estimate: `ci` of the expected value, `pi` of one run of this length.

Each replication has its own arrivals, luck, bootstrap of the calibration and path of the machine's
level. The spread over replications is therefore what one more run would show, and `pi` follows from
it by Student's t, on the log scale where values are positive. The mean over replications averages
the calibration's error out, which the truth does not: calibration was done once. So `ci` adds back
its share, by the delta method: the metric's response to the logs of mean and tail of the service
times, fitted over the replications, times the calibration's own spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Shifts:
    """By replication: logs of what bootstrap and level path multiplied service times by.

    The bootstrap moves several summaries of the service times (`calibration`, one column each), the
    level all of them alike.
    """

    calibration: Floats  # (replications, summaries)
    level: Floats  # (replications,)

    @classmethod
    def none(cls, replications: int) -> Shifts:
        """Of a calibration that is exact and a machine that never moves."""
        return cls(np.zeros((replications, 1)), np.zeros(replications))


def t_quantile(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit  # a tenth of scipy.stats' import time

    return float(stdtrit(degrees, 0.5 + LEVEL / 2))


def ci(values: Sequence[float] | Floats, shifts: Shifts, bounds: Interval = (-math.inf, math.inf)) -> Interval | None:
    """95 % confidence interval of the expected value; None below two values, or where one is not finite."""
    sample = np.asarray(values, float)
    if len(sample) < 2 or not np.isfinite(sample).all():
        return None
    mean = float(sample.mean())
    variance = float(sample.var(ddof=1)) / len(sample) + calibration_variance(sample, shifts)
    half = t_quantile(len(sample) - 1) * math.sqrt(variance)
    return _clipped((mean - half, mean + half), bounds)


def pi(values: Sequence[float] | Floats, bounds: Interval = (-math.inf, math.inf)) -> Interval | None:
    """95 % prediction interval of one more run; None below two values, or where one is not finite.

    On the log scale if all values are positive, else on their own.
    """
    sample = np.asarray(values, float)
    if len(sample) < 2 or not np.isfinite(sample).all():
        return None
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    positive = bool((sample > 0).all())
    scaled = np.log(sample) if positive else sample
    half = t_quantile(len(sample) - 1) * float(scaled.std(ddof=1)) * math.sqrt(1 + 1 / len(sample))
    low, high = float(scaled.mean()) - half, float(scaled.mean()) + half
    return _clipped((_exp(low), _exp(high)) if positive else (low, high), bounds)


def calibration_variance(values: Floats, shifts: Shifts) -> float:
    """Variance of the expected value that comes from having calibrated once.

    With b the least-squares slopes of the values on the summaries' logs and S the covariance of the
    calibration's logs: b'Sb, less what the sampling error of b adds to it. 0 where nothing varies.
    """
    x = shifts.calibration + shifts.level[:, np.newaxis]
    x = x - x.mean(axis=0)
    count, summaries = x.shape
    if count < summaries + 3 or not np.any(x):
        return 0.0
    inverse = np.linalg.pinv(x.T @ x)
    slopes = inverse @ (x.T @ (values - values.mean()))
    residuals = values - values.mean() - x @ slopes
    slope_covariance = inverse * (float((residuals**2).sum()) / (count - summaries - 1))
    spread = np.atleast_2d(np.cov(shifts.calibration, rowvar=False))
    return max(0.0, float(slopes @ spread @ slopes - np.trace(spread @ slope_covariance)))


def _clipped(interval: Interval, bounds: Interval) -> Interval:
    low, high = (min(max(v, bounds[0]), bounds[1]) for v in interval)
    return low, high


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
