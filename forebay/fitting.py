"""`forebay workload fit` without its printing: the burstiness of a trace or of counts, the laws fitted to it, and the
best one drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from serve.errors import SpecError
from serve.files import plain
from serve.units import format_duration
from serve.yaml_text import dump
from sim import counts, traces
from sim.burstiness import Burstiness, Fit, best_fit, best_fit_of_counts, of_counts, of_instants
from sim.count_fits import Counted
from sim.dispersion import BINS_MIN, Ints
from sim.drawing import CHUNK
from sim.laws import Arrivals
from sim.point_process import before_end
from sim.processes import process_of
from sim.rng import stream

DRAWN_MAX = 2e7
"""Requests of the best law that are drawn, of counts that have more: a shorter run."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of one trace."""

    file: str
    measured: Burstiness
    fits: tuple[Fit, ...]  # the best first
    drawn: Burstiness | None  # one run of the best law, of DRAWN_MAX requests at most; None if hardly one came
    unit: str = "request"  # what `Fit.held_out` counts
    replay: dict[str, Any] | None = None  # the law that replays a file of counts

    @property
    def drawn_idc(self) -> dict[float, float]:
        """The drawn run's IDC by time scale in seconds."""
        return {} if self.drawn is None else {scale.scale_s: scale.idc for scale in self.drawn.scales}

    def gain(self, fit: Fit) -> float:
        """Nats a request (of counts: an interval) by which a law foretells better than Poisson."""
        poisson = next(other for other in self.fits if other.law.poisson is not None)
        return (fit.log_likelihood - poisson.log_likelihood) / fit.held_out


def fit_file(path: Path, seed: int) -> Fitted:
    """Measure and fit the arrivals of a trace, or of the engine's log of requests.

    Raises
    ------
    SpecError : a file that is no trace, or has too few arrivals.
    """
    arrival_ns, _ = traces.load(path)
    try:
        fits, measured = best_fit(arrival_ns), of_instants(arrival_ns)
    except ValueError as error:
        raise SpecError.of(path, "arrival_s", str(error)) from None
    return Fitted(str(path), measured, fits, _drawn(fits[0].law, round(measured.span_s * 1e9), seed))


def fit_counts(path: Path, interval_ns: int, column: str, scale: float, seed: int) -> Fitted:
    """Measure and fit the arrivals that a file counts for successive intervals.

    Raises
    ------
    SpecError : a file of no such counts, or with too few of them.
    """
    read = counts.load(path, column) * scale
    counted = Counted(counts.whole(read).astype(np.float64), interval_ns / 1e9)
    try:
        fits, measured = best_fit_of_counts(counted), of_counts(counted)
    except ValueError as error:
        raise SpecError.of(path, column, str(error)) from None
    law = {"file": str(path), "interval": format_duration(interval_ns), "within": "poisson"}
    law |= {} if column == "count" else {"column": column}
    replay = {"counts": law if scale == 1 else {**law, "scale": scale}}
    return Fitted(str(path), measured, fits, _drawn_counts(fits[0].law, counted, seed), "interval", replay)


def _drawn_counts(law: Arrivals, counted: Counted, seed: int) -> Burstiness | None:
    """One run of a law, counted as the file is, a chunk at a time."""
    interval_ns = round(counted.interval_s * 1e9)
    number = min(len(counted.counts), max(1, int(DRAWN_MAX / (counted.rate_rps * counted.interval_s))))
    found = np.zeros(number, np.int64)
    for at_ns in _instants(law, number * interval_ns, seed):
        found += np.bincount(at_ns // interval_ns, minlength=number)
    drawn = Counted(found.astype(np.float64), counted.interval_s)
    return of_counts(drawn) if found.any() and number >= BINS_MIN else None


def _instants(law: Arrivals, span_ns: int, seed: int) -> Iterator[Ints]:
    """One run of a law."""
    return before_end(process_of(law, Path(), span_ns), partial(stream, seed, 0, "fit"), span_ns, CHUNK)


def _drawn(law: Arrivals, span_ns: int, seed: int) -> Burstiness | None:
    """What scatters in one run of a law."""
    arrival_ns = np.concatenate([np.zeros(0, np.int64), *_instants(law, span_ns, seed)])
    return of_instants(arrival_ns, span_ns) if len(arrival_ns) >= 3 else None


def yaml_lines(law: dict[str, Any]) -> str:
    """A law as it stands below a class of a scenario."""
    return dump({"arrivals": law}).rstrip("\n")


def fitted_json(fitted: Fitted) -> dict[str, Any]:
    """All of it for `--json`, in inside units; the fits best first."""
    measured, drawn = fitted.measured, fitted.drawn_idc
    return {
        "file": fitted.file,
        "requests": measured.requests,
        "span_s": measured.span_s,
        "rate_rps": measured.rate_rps,
        "gap_cv": measured.gap_cv,
        "gap_lag1": measured.gap_lag1,
        "scales": [
            {
                "scale_s": scale.scale_s,
                "bins": scale.bins,
                "idc": scale.idc,
                "idc_se": scale.se,
                "idc_of_best_law": drawn.get(scale.scale_s),
                "peak_to_mean": scale.peak_to_mean,
            }
            for scale in measured.scales
        ],
        "held_out_in": fitted.unit,
        "replay": fitted.replay,
        "fits": [
            {
                "arrivals": plain(fit.law),
                "parameters": fit.parameters,
                "log_likelihood": fit.log_likelihood,
                "held_out": fit.held_out,
                "gain_over_poisson": fitted.gain(fit),
            }
            for fit in fitted.fits
        ],
    }
