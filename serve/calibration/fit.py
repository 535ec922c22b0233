"""From samples to the numbers of a profile: service cells, their curve, the machine's level, and waking.

Pure. Nothing is trimmed: a slow sample is part of what the machine does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from serve.calibration.samples import Bools, Columns, Ints
from serve.cold import cold_knots_ns, cold_ns
from serve.policy.service import COLD_KNOTS
from serve.profile import ServiceCell

Floats = npt.NDArray[np.float64]

CELL_SAMPLES_MIN = 30
OWN_TAIL_SAMPLES = 500
STALL_RATIO = 20
STALL_NS = 50_000_000
LEVEL_BIN_S = 1.0
LEVEL_SAMPLES_MIN = 10


# -- service times ----------------------------------------------------------------------------------------


def single(samples: Columns) -> Bools:
    """Batches that were meant to be of one request each, of replicas at work: what the cells are made of."""
    return np.asarray(lone(samples) & (samples["rested"] == 0))


def lone(samples: Columns) -> Bools:
    """As `single`, and those of replicas that were let rest."""
    return np.asarray((samples["requests"] == 1) & (samples["apart"] == 1))


def unmet(samples: Columns) -> Bools:
    """Batches that met no neighbour which they did not start beside: the same work, whatever others began meanwhile."""
    return np.asarray(samples["met"] <= samples["busy"])


def cell_keys(samples: Columns) -> Ints:
    """(threads, busy, rows) of each sample, shape (n, 3)."""
    return np.stack([samples[name].astype(np.int64) for name in ("threads", "busy", "rows")], axis=1)


def service_cells(
    samples: Columns, curve_us: Sequence[float] = (), samples_min: int = CELL_SAMPLES_MIN
) -> list[ServiceCell]:
    """Every (threads, busy, rows) that has at least `samples_min` samples, of which those that met no further
    neighbour are summed up (all, if they are fewer than that). `curve_us` is what idleness adds (`cold_us`)."""
    keys, index, counts = np.unique(cell_keys(samples), axis=0, return_inverse=True, return_counts=True)
    times_ms = samples["service_ns"].astype(np.float64) / 1e6
    warm_ms = times_ms - cold_ns(samples["idle_ns"], curve_us) / 1e6
    clean = unmet(samples)
    cells = []
    for number, ((threads, busy, rows), count) in enumerate(zip(keys.tolist(), counts.tolist(), strict=True)):
        if count < samples_min:
            continue
        chosen = (index.reshape(-1) == number) & clean
        if np.count_nonzero(chosen) < samples_min:
            chosen = index.reshape(-1) == number
        own = times_ms[chosen]
        cells.append(
            ServiceCell(
                threads=threads,
                busy=busy,
                rows=rows,
                samples=len(own),
                mean_ms=rounded(own.mean()),
                warm_ms=rounded(max(0.0, warm_ms[chosen].mean())),
                p50_ms=rounded(np.quantile(own, 0.5)),
                p99_ms=rounded(np.quantile(own, 0.99)),
                p99_pooled=len(own) < OWN_TAIL_SAMPLES,
            )
        )
    return cells


def in_cells(samples: Columns, cells: Sequence[ServiceCell]) -> Bools:
    """Which samples belong to one of the cells."""
    kept = np.array([(c.threads, c.busy, c.rows) for c in cells], np.int64).reshape(-1, 3)
    base = np.int64(1 << 20)
    code = kept @ np.array([base * base, base, 1])
    return np.isin(cell_keys(samples) @ np.array([base * base, base, 1]), code)


def curve(cells: Sequence[ServiceCell]) -> dict[str, float]:
    """tau(rows) = base + row x rows through the means at the fewest threads and no neighbour, least squares of
    relative error; `error` is its root mean square."""
    threads = min(c.threads for c in cells)
    own = [c for c in cells if c.threads == threads and c.busy == 0]
    rows, means = np.array([c.rows for c in own], float), np.array([c.mean_ms for c in own])
    (base_ms, row_ms), _ = optimize.nnls(np.stack([1 / means, rows / means], axis=1), np.ones(len(own)))
    error = float(np.sqrt(np.mean(((base_ms + row_ms * rows) / means - 1) ** 2)))
    return {"base_ms": rounded(base_ms), "row_ms": rounded(row_ms), "error": rounded(error)}


def joining_us(samples: Columns) -> float:
    """What each further request of a batch adds to the time around its computation; 0 if that is not to be seen.

    Compares batches of several single-row requests with batches of the same rows that are one request,
    at the fewest threads and no neighbour. The computation itself cannot tell them apart, so it is
    left out: its drift between the few batches of either kind would drown what is looked for.
    """
    around_ns = (samples["service_ns"] - samples["compute_ns"]).astype(np.float64)
    alone = (samples["busy"] == 0) & (samples["threads"] == samples["threads"].min())
    one = alone & single(samples)
    joined = alone & (samples["requests"] > 1) & (samples["requests"] == samples["rows"])
    known = np.unique(samples["rows"][one])
    if len(known) < 2 or not joined.any():
        return 0.0
    means = [around_ns[one & (samples["rows"] == r)].mean() for r in known]
    more = samples["requests"][joined].astype(np.float64) - 1
    extra_ns = around_ns[joined] - np.interp(samples["rows"][joined], known, means)
    return rounded(max(0.0, float(np.sum(extra_ns * more) / np.sum(more**2)) / 1000))


# -- cold replicas -----------------------------------------------------------------------------------------

COLD_ROUNDS = 20
COLD_SAMPLES_MIN = 8
"""A knot about which fewer batches were seen takes the value of the knot before it."""


def cold_us(samples: Columns) -> list[float]:
    """What a lone batch takes longer, by how long its replica had been idle, at the knots; ascending, 0 if unknown.

    An additive model: a batch of r rows takes m(r) when warm and c(idle) more when cold. Both by medians,
    in turns; near a knot means within a factor of the square root of 2.
    """
    idle_ns = samples["idle_ns"].astype(np.float64)
    chosen = (samples["busy"] == 0) & (samples["met"] == 0) & (idle_ns >= 0)
    steps = np.log2(np.maximum(idle_ns, 1.0) / cold_knots_ns()[0])
    bucket = np.clip(np.rint(steps) + 1, 0, COLD_KNOTS).astype(np.int64)[chosen]
    _, cell = np.unique(cell_keys(samples)[chosen], axis=0, return_inverse=True)
    service_ns = samples["service_ns"][chosen].astype(np.float64)
    if not len(service_ns) or not (bucket == 0).any():
        return [0.0] * COLD_KNOTS
    warm, cold = np.zeros(cell.max() + 1), np.zeros(COLD_KNOTS + 1)
    for _ in range(COLD_ROUNDS):
        warm = np.array([np.median((service_ns - cold[bucket])[cell.reshape(-1) == i]) for i in range(len(warm))])
        over = service_ns - warm[cell.reshape(-1)]
        for k in range(COLD_KNOTS + 1):
            seen = over[bucket == k]
            cold[k] = np.median(seen) if len(seen) >= COLD_SAMPLES_MIN else cold[max(0, k - 1)]
        cold = np.maximum.accumulate(cold - cold[0])
    return [rounded(v / 1000) for v in cold[1:]]


def warmed(samples: Columns, curve_us: Sequence[float]) -> Columns:
    """The samples as a replica that is never idle would have given them."""
    extra_ns = np.rint(cold_ns(samples["idle_ns"], curve_us)).astype(np.int64)
    warm_ns = np.maximum(samples["service_ns"] - extra_ns, 1)
    return {**samples, "service_ns": warm_ns}


# -- the machine's level -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Level:
    """The machine's drift: means of successive windows relative to the whole, without their sampling error."""

    series: list[float]
    bin_s: float
    repeat_cv: float


def ratios(samples: Columns) -> Floats:
    """Each service time relative to its cell's mean: the same work, timed again and again."""
    _, index, counts = np.unique(cell_keys(samples), axis=0, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    service_ns = samples["service_ns"].astype(np.float64)
    means = np.bincount(index, service_ns) / counts
    return np.asarray(service_ns / means[index])


def stalls(samples: Columns) -> int:
    """Batches that took over STALL_RATIO times their cell's mean and over STALL_NS: the machine stood still."""
    slow = (ratios(samples) > STALL_RATIO) & (samples["service_ns"] > STALL_NS)
    return int(np.count_nonzero(slow))


def level(at_s: Floats, ratio: Floats, bin_s: float = LEVEL_BIN_S) -> Level:
    """Means of `ratio` in windows of `bin_s`.

    A window's mean scatters by sampling alone; what is left of its variance is the machine's
    (`repeat_cv`), and the series is shrunk to have just that. Windows with few samples take their
    neighbours' level.
    """
    window = (at_s // bin_s).astype(np.int64)
    count = np.bincount(window).astype(np.float64)
    known = np.flatnonzero(count >= LEVEL_SAMPLES_MIN)
    if len(known) < 2:
        return Level([1.0], bin_s, 0.0)
    sums, squares = np.bincount(window, ratio)[known], np.bincount(window, ratio**2)[known]
    n = count[known]
    means = sums / n
    sampling = np.maximum(squares / n - means**2, 0) / (n - 1)
    total = float(np.var(means, ddof=1))
    excess = max(0.0, total - float(sampling.mean()))
    shrunk = 1 + (means - np.average(means, weights=n)) * np.sqrt(excess / total if total > 0 else 0.0)
    series = np.interp(np.arange(len(count)), known, shrunk)
    return Level([rounded(v) for v in series], bin_s, rounded(np.sqrt(excess)))


# -- waking ----------------------------------------------------------------------------------------------------

IDLE_LONG_NS = 5_000_000
IDLE_SHORT_NS = 1_000_000


def p50_p99_us(values_ns: npt.NDArray[np.generic]) -> list[float]:
    """Median and 99th percentile in us; zeros if there are no values."""
    if not len(values_ns):
        return [0.0, 0.0]
    return [rounded(v / 1000) for v in np.quantile(values_ns.astype(np.float64), [0.5, 0.99])]


def wake_us(samples: Columns) -> tuple[list[float], list[float]]:
    """Dispatch to begin: of replicas that slept for IDLE_LONG_NS or more, and of those that had just worked."""
    idle_ns, wake_ns = samples["idle_ns"], samples["wake_ns"]
    short = (idle_ns >= 0) & (idle_ns < IDLE_SHORT_NS)
    return (
        p50_p99_us(wake_ns[idle_ns >= IDLE_LONG_NS]),
        p50_p99_us(wake_ns[short]),
    )


def rounded(value: float, digits: int = 6) -> float:
    """That many significant digits: no measurement here has more, and files stay readable."""
    return float(f"{float(value):.{digits}g}")
