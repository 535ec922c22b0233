"""How bursty arrivals are, and the law of a scenario that fits them best. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sim import count_fits, law_fits
from sim.count_fits import Counted
from sim.curves import DAY_NS
from sim.dispersion import (
    BINS_MAX,
    BINS_MIN,
    SCALES_S,
    Dispersion,
    Floats,
    Ints,
    counts_of,
    dispersion,
    gap_cv,
    gap_lag1,
)
from sim.law_fits import Law
from sim.laws import Arrivals
from sim.likelihood import log_likelihood

INSTANTS_MIN = 100
"""Fewer instants are not fitted."""
INTERVALS_MIN = 100
"""Fewer counts are not fitted."""
NATS_PER_PARAMETER = 3.0
"""What a law's log-likelihood must gain for each of its parameters."""

_FITTERS: tuple[tuple[int, Callable[[Floats], Law | None]], ...] = (
    (1, law_fits.poisson),
    (2, law_fits.gamma),
    (2, law_fits.weibull),
    (4, law_fits.mmpp),
    (25, law_fits.diurnal),
)
"""Number of parameters and fitter, the simplest first."""


@dataclass(frozen=True, slots=True)
class Burstiness:
    """What scatters in some arrivals; the gaps' measures are None where too few gaps tell."""

    requests: int
    span_s: float
    rate_rps: float
    gap_cv: float | None
    gap_lag1: float | None  # correlation of each gap with the next
    scales: tuple[Dispersion, ...]  # those of SCALES_S that the span has enough bins of


def of_instants(arrival_ns: Ints, span_ns: int | None = None) -> Burstiness:
    """Of ascending instants in [0, span).

    Without a span, of the time from the first instant to the last; the first is not counted then.

    Raises
    ------
    ValueError : fewer than three instants, instants out of order or outside the span, or no time between them.
    """
    at_ns = arrival_ns
    if span_ns is None and len(arrival_ns):
        at_ns, span_ns = arrival_ns[1:] - arrival_ns[0], int(arrival_ns[-1] - arrival_ns[0])
    if span_ns is None or len(arrival_ns) < 3:
        raise ValueError(f"needs at least 3 instants, got {len(arrival_ns)}")
    if span_ns <= 0 or np.any(np.diff(arrival_ns) < 0) or at_ns[0] < 0 or at_ns[-1] > span_ns:
        raise ValueError("instants must ascend within a span that is not empty")
    gaps, scales = np.diff(arrival_ns), tuple(_scales(at_ns, span_ns))
    rate = len(at_ns) / (span_ns * 1e-9)
    return Burstiness(len(at_ns), span_ns * 1e-9, rate, gap_cv(gaps), gap_lag1(gaps), scales)


def _scales(at_ns: Ints, span_ns: int) -> Iterator[Dispersion]:
    """Of each scale that makes enough bins, and not too many."""
    for scale_s in SCALES_S:
        length_ns = round(scale_s * 1e9)
        if BINS_MIN <= span_ns // length_ns <= BINS_MAX:
            counts = counts_of(at_ns, span_ns, length_ns)
            if counts.any():
                yield dispersion(counts, scale_s)


def of_counts(counted: Counted) -> Burstiness:
    """Of requests counted in intervals, at 1, 3, 10, 30, ... of them; their gaps are not known.

    Raises
    ------
    ValueError : fewer than BINS_MIN intervals, or none with a request.
    """
    number = len(counted.counts)
    if number < BINS_MIN or not counted.counts.any():
        raise ValueError(f"needs at least {BINS_MIN} intervals, not all of them empty, got {number}")
    widths = [width for power in range(9) for width in (10**power, 3 * 10**power) if number // width >= BINS_MIN]
    scales_s = [width * counted.interval_s for width in widths]
    scales = tuple(dispersion(counts, scale_s) for scale_s in scales_s if (counts := counted.summed(scale_s)).any())
    requests, span_s = int(counted.counts.sum()), number * counted.interval_s
    return Burstiness(requests, span_s, requests / span_s, None, None, scales)


@dataclass(frozen=True, slots=True)
class Fit:
    """A law fitted to instants or counts, and how well it foretold those that it was not shown."""

    law: Arrivals
    parameters: int
    log_likelihood: float  # of the later half, the law fitted to the earlier one; nats
    held_out: int  # requests in that half, or intervals

    @property
    def score(self) -> float:
        """What laws are ranked by: the log-likelihood, less what its parameters gain by chance."""
        return self.log_likelihood - NATS_PER_PARAMETER * self.parameters


def best_fit(arrival_ns: Ints) -> tuple[Fit, ...]:
    """Poisson, Gamma, Weibull, MMPP of two states and hours of the day fitted to instants, the best law first.

    Laws are ranked by held-out log-likelihood: each is fitted to the earlier half of the requests and asked
    how likely the later half is. That is a proper score, which no law improves by being wrong, it compares laws
    with different numbers of parameters, and it tells apart what has the same second moments, as Gamma and
    Weibull gaps of one cv, which the distance of IDC curves cannot. A law of more parameters goes first only if
    it gains NATS_PER_PARAMETER for each of them: chance alone gives about one (Wilks 1938). What the score says
    little of are scales much longer than a gap; so the IDC curve of a fitted law is to be held beside the
    measured one, as `forebay workload fit` does.

    The law that is returned is fitted to all instants (ns from the start of the run). Those that share a stamp
    are first spread evenly over the stamps' resolution, since no law of gaps has so many that are exactly 0.
    A day of hours is fitted where the earlier half is a day long. Whole days before the first instant are left out:
    no hour of the day depends on them, and seconds since 1970 are doubles that hold no gap below 240 ns.

    Raises
    ------
    ValueError : fewer than INSTANTS_MIN instants, or no time between them.
    """
    if len(arrival_ns) < INSTANTS_MIN or arrival_ns[-1] <= arrival_ns[0]:
        raise ValueError(f"needs at least {INSTANTS_MIN} instants that are not all one, got {len(arrival_ns)}")
    times_s = untied(arrival_ns - arrival_ns[0] // DAY_NS * DAY_NS)
    half = len(times_s) // 2
    fits = []
    for parameters, fitter in _FITTERS:
        earlier, whole = fitter(times_s[:half]), fitter(times_s)
        if earlier is not None and whole is not None:
            foretold = log_likelihood(Arrivals.model_validate(earlier), times_s[half - 1 :])
            fits.append(Fit(Arrivals.model_validate(whole), parameters, foretold, len(times_s) - half))
    return tuple(sorted(fits, key=lambda fit: -fit.score))


def best_fit_of_counts(counted: Counted) -> tuple[Fit, ...]:
    """Poisson, Gamma, MMPP of two states and hours of the day fitted to counts, ranked as those of `best_fit`.

    Raises
    ------
    ValueError : fewer than INTERVALS_MIN intervals, or a half of them in which no request came.
    """
    earlier, later = counted.halves()
    if len(counted.counts) < INTERVALS_MIN or not (earlier.counts.any() and later.counts.any()):
        what = f"needs at least {INTERVALS_MIN} intervals, with requests in both halves"
        raise ValueError(f"{what}, got {len(counted.counts)}")
    fits = []
    for parameters, fitter in count_fits.FITTERS:
        shown, whole = fitter(earlier), fitter(counted)
        if shown is not None and whole is not None:
            foretold = count_fits.log_likelihood(Arrivals.model_validate(shown), later)
            fits.append(Fit(Arrivals.model_validate(whole), parameters, foretold, len(later.counts)))
    return tuple(sorted(fits, key=lambda fit: -fit.score))


def untied(arrival_ns: Ints) -> Floats:
    """Ascending instants in seconds, those of one stamp spread evenly over the least distance of two stamps."""
    stamps, first, sharing = np.unique(arrival_ns, return_index=True, return_counts=True)
    step_ns = int(np.diff(stamps).min()) if len(stamps) > 1 else 1
    rank = np.arange(len(arrival_ns)) - np.repeat(first, sharing)
    return np.asarray((arrival_ns + rank / np.repeat(sharing, sharing) * step_ns) * 1e-9, np.float64)
