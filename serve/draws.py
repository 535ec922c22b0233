"""Laws that a file can say a duration is drawn from."""

from __future__ import annotations

from pydantic import Field

from serve.spec import Spec
from serve.units import DurationNs


class Lognormal(Spec):
    """Durations whose logarithm is normal."""

    median: DurationNs = Field(gt=0)
    sigma: float = Field(gt=0, le=5, description="standard deviation of the logarithm")


class Exponential(Spec):
    """Durations without memory."""

    mean: DurationNs = Field(gt=0)
