"""Requests at a rate that changes over time, by change of time: none is drawn only to be thrown away.

Points with gaps of mean 1 live in operational time, which passes as fast as requests are to be expected:
the n-th point is at the instant up to which the curve expects as many requests as its gaps add up to.
With exponential gaps that is the Poisson process of the curve (Çinlar, "Introduction to Stochastic
Processes", 1975, section 4.7); with others it has the same mean and the gaps' variability
(Gerhardt and Nelson, INFORMS Journal on Computing 21(4), 2009).

Operational time is counted in whole units, about 2^60 of them in a run, so that it does not depend on
where a sum of gaps was cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sim.curves import Floats, RateCurve
from sim.point_process import Draws, Ints

UNIT_BITS = 60
"""log2 of the most units that the requests of a run, or of a period, make: sums of several of them fit int64."""


@dataclass(frozen=True, slots=True)
class OperationalClock:
    """From operational time, in units, to instants of a run."""

    curve: RateCurve
    per_request: float  # units in which one request is to be expected; a power of two
    before: Ints  # (n + 1,) units up to each knot of the curve
    offset: int  # units before the run begins
    end: int  # all units of the run lie below this

    @classmethod
    def of(cls, curve: RateCurve, duration_ns: int) -> OperationalClock:
        """The clock of a run so long."""
        expected = curve.requests(duration_ns)
        most = max(1.0, expected, float(curve.before[-1]))
        per_request = 2.0 ** (UNIT_BITS - math.ceil(math.log2(most)))
        before = np.rint(curve.before * per_request).astype(np.int64)
        end = math.ceil(expected * per_request) + 2
        if not curve.periodic:
            end = min(end, int(before[-1]))
        return cls(curve, per_request, before, round(curve.skipped * per_request), end)

    def instants(self, units: Ints) -> Ints:
        """The instants, rounded to ns, at which so many units have passed; units lie in [0, end)."""
        curve = self.curve
        turn, rest = np.divmod(units + self.offset, self.before[-1])
        segment = np.searchsorted(self.before, rest, side="right") - 1
        requests = (rest - self.before[segment]) / self.per_request
        into_s = crossing_s(curve.rate_rps[segment], curve.slope[segment], requests)
        begin_ns, end_ns = curve.at_ns[segment], curve.at_ns[segment + 1]
        into_ns = np.rint(np.minimum(into_s * 1e9, end_ns - begin_ns)).astype(np.int64)
        instants: Ints = turn * curve.at_ns[-1] + begin_ns + into_ns - curve.offset_ns
        return instants


def crossing_s(rate_rps: Floats, slope: Floats, requests: Floats) -> Floats:
    """Seconds in which a rate that changes by `slope` each second brings so many requests.

    The root of rate x + slope x^2 / 2 = requests, in the form that loses no digits where the slope is small.
    """
    total = rate_rps + np.sqrt(np.maximum(rate_rps**2 + 2 * slope * requests, 0.0))
    return np.divide(2 * requests, total, out=np.zeros_like(requests), where=total > 0)


def unit_gaps(cv: float) -> Callable[[np.random.Generator, int], Floats]:
    """Draws gaps of mean 1 and this coefficient of variation: Gamma, of cv 1 exponential, of cv 0 all equal."""
    if cv == 0:
        return lambda rng, count: np.ones(count)
    if cv == 1:
        return lambda rng, count: rng.standard_exponential(count)
    shape = cv**-2
    return lambda rng, count: rng.standard_gamma(shape, count) / shape


@dataclass(frozen=True, slots=True)
class TimeChanged:
    """Gaps of mean 1 in operational time, on the clock of a curve.

    `cv` 0 stands for even spacing: the n-th request is where n - 1/2 are to be expected.
    """

    curve: RateCurve
    cv: float = 1.0

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Those of the run; none after it but within the rounding."""
        clock = OperationalClock.of(self.curve, duration_ns)
        gaps, rng = unit_gaps(self.cv), draws("gaps")
        longest = float(max(clock.end + 1, round(clock.per_request)))
        units, latest_ns = 0 if self.cv else -round(clock.per_request / 2), 0
        while True:
            drawn = np.minimum(np.rint(gaps(rng, chunk) * clock.per_request), longest).astype(np.int64)
            passed = units + np.cumsum(drawn)  # after the end this may leave int64: nobody looks there
            over = passed >= clock.end
            inside = passed[: int(np.argmax(over))] if over.any() else passed
            if len(inside):
                # Rounding may put a request a ns before the one before it.
                at_ns = np.maximum.accumulate(np.maximum(clock.instants(inside), latest_ns))
                latest_ns = int(at_ns[-1])
                yield at_ns
            if len(inside) < chunk:
                return
            units = int(passed[-1])

    def requests(self, duration_ns: int) -> float:
        """The integral of the rate."""
        return self.curve.requests(duration_ns)
