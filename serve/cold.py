"""What batches of idle replicas take longer, over many batches at once: for fitting the curve and taking it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.policy.service import COLD_KNOTS, COLD_SHIFT


def cold_knots_ns() -> npt.NDArray[np.float64]:
    """Idle times at which a profile's `cold_us` has its values."""
    return np.array([2.0 ** (COLD_SHIFT + k) for k in range(COLD_KNOTS)])


def cold_ns(idle_ns: npt.NDArray[Any], curve_us: Sequence[float]) -> npt.NDArray[np.float64]:
    """What each batch took longer since its replica had been idle for so long: the leaf of that name, of many batches.

    An empty curve: nothing. A replica that had never worked (-1) was warm.
    """
    if not len(curve_us):
        return np.zeros(len(idle_ns))
    knots = np.concatenate([[0.0], cold_knots_ns()])
    return np.asarray(np.interp(idle_ns, knots, [0.0, *(1000.0 * us for us in curve_us)]), np.float64)
