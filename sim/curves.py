"""Rates over time, straight between knots: their cumulative rate is a parabola in each segment, with an exact inverse.

Diurnal curves, ramps, spikes and counts are such rates as they stand. Sinusoids and trends are cut into
chords so short that the rate is off by 3e-7 of the amplitude, or of itself. `sim.time_change` makes
requests of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.rate_laws import Diurnal, Ramp, Sinusoid, Spike, Trend

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Segment = tuple[int, float, float]
"""Length in ns, and the rate at its beginning and end."""

DAY_NS = 86_400 * 10**9
CHORDS = 4096
"""Of one period of a sinusoid: off by (2 pi / 4096)^2 / 8 of its amplitude."""
CHORD_LOG = 1 / 1024
"""Growth of a trend over one chord, as a logarithm: off by its square / 8."""
LOG_MAX = 64.0
"""Beyond e^-64 a declining rate is taken to stay what it is: nothing is left of it."""


@dataclass(frozen=True, slots=True)
class RateCurve:
    """A rate, straight within each of its segments, that begins anew after the last one (`periodic`) or is 0 then.

    The run begins `offset_ns` after the beginning of the curve.
    """

    at_ns: Ints  # (n + 1,) knots, ascending, from 0
    rate_rps: Floats  # (n,) at the beginning of each segment
    slope: Floats  # (n,) 1/s², its change each second
    before: Floats  # (n + 1,) requests to be expected up to each knot
    periodic: bool
    offset_ns: int

    @classmethod
    def of(
        cls, at_ns: Ints, start_rps: Floats, end_rps: Floats, periodic: bool = False, offset_ns: int = 0
    ) -> RateCurve:
        """From the rates at both ends of each segment, which may jump from one to the next."""
        length_s = np.diff(at_ns) * 1e-9
        before = np.concatenate([[0.0], np.cumsum((start_rps + end_rps) / 2 * length_s)])
        return cls(at_ns, start_rps, (end_rps - start_rps) / length_s, before, periodic, offset_ns % int(at_ns[-1]))

    def rate_at(self, at_ns: Ints | Floats) -> Floats:
        """Rate per second at instants of the run; of a curve that is not periodic, none after its end."""
        _, segment, into_s = self._place(at_ns)
        return np.asarray(self.rate_rps[segment] + self.slope[segment] * into_s, np.float64)

    def requests_until(self, at_ns: Ints | Floats) -> Floats:
        """Requests to be expected from the start of the run up to each of these instants."""
        return self._counted(at_ns) - self.skipped

    @property
    def skipped(self) -> float:
        """Requests to be expected on the curve before the run begins."""
        return float(self._counted(np.zeros(1, np.int64))[0])

    def requests(self, duration_ns: int) -> float:
        """Requests to be expected in a run so long."""
        return float(self.requests_until(np.array([duration_ns]))[0])

    def _counted(self, at_ns: Ints | Floats) -> Floats:
        """From the beginning of the curve."""
        turn, segment, into_s = self._place(at_ns)
        partial = into_s * (self.rate_rps[segment] + self.slope[segment] * into_s / 2)
        return np.asarray(turn * self.before[-1] + self.before[segment] + partial, np.float64)

    def _place(self, at_ns: Ints | Floats) -> tuple[Ints | Floats, Ints, Floats]:
        """Turn of the curve, segment, and seconds into it, of instants of the run."""
        position, whole = at_ns + self.offset_ns, int(self.at_ns[-1])
        turn = position // whole if self.periodic else np.zeros_like(position)
        rest = np.minimum(position - turn * whole, whole)
        segment = np.clip(np.searchsorted(self.at_ns, rest, side="right") - 1, 0, len(self.rate_rps) - 1)
        into_s = np.asarray((rest - self.at_ns[segment]) * 1e-9, np.float64)
        return turn, segment.astype(np.int64), into_s


# -- laws ------------------------------------------------------------------------------------------


def curve_of(law: Diurnal | Sinusoid | Ramp | Spike | Trend, duration_ns: int) -> RateCurve:
    """The rate that a law states, for a run so long."""
    if isinstance(law, Diurnal):
        return _diurnal(law)
    if isinstance(law, Sinusoid):
        return _sinusoid(law)
    if isinstance(law, Trend):
        return _trend(law, duration_ns)
    if isinstance(law, Ramp):
        return _held([(law.over, law.from_, law.to)], duration_ns)
    rise, peak, fall = (law.up, law.base, law.peak), (law.for_, law.peak, law.peak), (law.down, law.peak, law.base)
    return _held([(law.at, law.base, law.base), rise, peak, fall], duration_ns)


def _diurnal(law: Diurnal) -> RateCurve:
    """Relative rates of days times those of hours, brought to the mean.

    The mean of a polygon over evenly spaced knots is the mean of the knots, so that it is the same for both kinds.
    """
    hours, days = np.array(law.hours), np.array(law.days or [1.0])
    rates = np.outer(days / days.max(), hours / hours.max()).reshape(-1)
    rates *= law.mean / rates.mean()
    whole_ns = len(days) * DAY_NS
    at_ns = np.rint(np.arange(len(rates) + 1) * (whole_ns / len(rates))).astype(np.int64)
    if law.between == "step":
        return RateCurve.of(at_ns, rates, rates, True, law.offset)
    # From middle to middle: the curve begins half a step after midnight.
    return RateCurve.of(at_ns, rates, np.roll(rates, -1), True, law.offset + whole_ns - int(at_ns[1]) // 2)


def _sinusoid(law: Sinusoid) -> RateCurve:
    steps = np.arange(CHORDS + 1)
    at_ns = np.rint(steps * (law.period / CHORDS)).astype(np.int64)
    rates = np.maximum(law.mean + law.amplitude * np.sin(2 * math.pi * steps / CHORDS), 0.0)
    return RateCurve.of(at_ns, rates[:-1], rates[1:], True, law.offset)


def _trend(law: Trend, duration_ns: int) -> RateCurve:
    log_per_ns = math.log(law.growth) / law.per
    changing_ns = duration_ns
    if abs(log_per_ns) * duration_ns > LOG_MAX:
        changing_ns = max(1, int(LOG_MAX / abs(log_per_ns)))
    chords = max(1, math.ceil(abs(log_per_ns) * changing_ns / CHORD_LOG))
    at_ns = np.rint(np.linspace(0, changing_ns, chords + 1)).astype(np.int64)
    rates = law.rate * np.exp(log_per_ns * at_ns)
    if changing_ns < duration_ns:
        at_ns, rates = np.append(at_ns, duration_ns), np.append(rates, rates[-1])
    return RateCurve.of(at_ns, rates[:-1], rates[1:])


def _held(segments: Sequence[Segment], duration_ns: int) -> RateCurve:
    """Segments one after another, as far as the run goes; the last rate stays."""
    kept, until_ns, rate = [0], 0, segments[-1][2]
    starts, ends = [], []
    for length_ns, start, end in [*segments, (duration_ns, rate, rate)]:
        if length_ns > 0 and until_ns < duration_ns:
            until_ns += length_ns
            kept.append(until_ns)
            starts.append(start)
            ends.append(end)
    return RateCurve.of(np.array(kept, np.int64), np.array(starts, np.float64), np.array(ends, np.float64))


def of_counts(counts: Floats, interval_ns: int, duration_ns: int) -> RateCurve:
    """So many requests to be expected in each interval, at an even rate; none after the last one."""
    needed = min(len(counts), -(-duration_ns // interval_ns))
    rates = counts[:needed] / (interval_ns * 1e-9)
    return RateCurve.of(np.arange(needed + 1) * interval_ns, rates, rates)
