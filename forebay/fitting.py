"""`forebay workload fit` without its printing: a trace's burstiness, the laws fitted to it, and the best one drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from serve.errors import SpecError
from serve.files import plain
from serve.yaml_text import dump
from sim import traces
from sim.burstiness import Burstiness, Fit, best_fit, of_instants
from sim.drawing import CHUNK
from sim.laws import Arrivals
from sim.point_process import before_end
from sim.processes import process_of
from sim.rng import stream


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of one trace."""

    file: str
    measured: Burstiness
    fits: tuple[Fit, ...]  # the best first
    drawn: Burstiness | None  # one run of the best law, as long as the trace; None if hardly a request came

    @property
    def drawn_idc(self) -> dict[float, float]:
        """The drawn run's IDC by time scale in seconds."""
        return {} if self.drawn is None else {scale.scale_s: scale.idc for scale in self.drawn.scales}

    def gain(self, fit: Fit) -> float:
        """Nats a request by which a law foretells better than Poisson."""
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


def _drawn(law: Arrivals, span_ns: int, seed: int) -> Burstiness | None:
    """One run of a law."""
    found = before_end(process_of(law, Path(), span_ns), partial(stream, seed, 0, "fit"), span_ns, CHUNK)
    arrival_ns = np.concatenate([np.zeros(0, np.int64), *found])
    return of_instants(arrival_ns, span_ns) if len(arrival_ns) >= 3 else None


def yaml_lines(law: Arrivals) -> str:
    """A law as it stands below a class of a scenario."""
    return dump({"arrivals": plain(law)}).rstrip("\n")


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
