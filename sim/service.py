"""From a Profile to what the planes draw from: service table, machine level, front costs, client overhead.

A measured cell (threads, busy, rows) becomes `2**BITS` equally likely service times: the means of so
many strata of its own samples, so the cell's mean is kept exactly. Cells with too few samples for a
p99 of their own take the shape of their upper tenth from all batch sizes at the same (threads, busy),
and its scale from a straight line over them, so that slow batches may be slow by a time (waking,
being preempted), by a factor (caches), or both. `bench.service_law` is how this law was chosen.
Between measured batch sizes, and between measured numbers of neighbours, quantiles are interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve.errors import ProfileError
from serve.policy import front
from serve.policy.service import COLD_KNOTS
from serve.profile import ClientCosts, FrontCosts, Noise, Profile
from serve.spec import Origin
from sim.level import FRONT_STRAYS, Level, calibration_level, run_levels
from sim.plane import Ints, Service
from sim.rng import uniform_bits
from sim.samples import Cells, load_cells
from sim.workload import ClientDraw

Floats = npt.NDArray[np.float64]

BITS = 10
"""log2 of the entries of one cell of the table."""

OWN_TAIL_SAMPLES = 500
"""From so many samples on, a cell's tail is its own."""

TAIL_SHARE = 0.1
"""Share of a cell's law that is pooled over batch sizes where it has too few samples."""

ORIGINS: tuple[Origin, ...] = ("measured", "imported", "projected", "assumed")
"""From the strongest to the weakest."""

_TAIL = round(TAIL_SHARE * 2**BITS)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The service of one replication, the log of its level path's mean, and the level of the front's and clients' core.

    That core has neighbours of its own, so its level is another than the replicas'.
    """

    service: Service
    level_shift: float = 0.0
    front_level: float = 1.0

    @property
    def tau_ns(self) -> Floats:
        """(2, rows): mean of the service times, and of their upper tenth, over the numbers of neighbours, without the
        level path."""
        shape = (self.service.pressure_max + 1, self.service.rows_max + 1, 2**self.service.bits)
        laws = self.service.table.reshape(shape)
        return np.stack([laws.mean(axis=(0, 2)), laws[:, :, -_TAIL:].mean(axis=(0, 2))])

    @property
    def alone_ns(self) -> Floats:
        """(rows,): mean of the service times without neighbours, of batches that waited in no second slot."""
        service = self.service
        shape = (service.pressure_max + 1, service.rows_max + 1, 2**service.bits)
        alone: Floats = service.table.reshape(shape)[0].mean(axis=1)
        return alone


@dataclass(frozen=True, slots=True)
class Measured:
    """A profile with its samples, ready to be drawn from."""

    profile: Profile
    raw: Cells
    cells: Cells  # freed of the machine's level
    alone: Cells  # of those, what met no neighbour at any time

    @classmethod
    def load(cls, path: Path) -> Measured:
        """Read profile and samples; SpecError or ProfileError if they cannot be used."""
        from serve.files import load

        profile = load(path, Profile)
        return cls(profile, *load_cells(profile, path))

    def law(
        self, threads: int, replicas: int, max_batch: int, backend: str = "onnx", request_rows: float = math.inf
    ) -> Law:
        """What replicas of so many threads draw from; ProfileError if that was not measured.

        `request_rows` is the mean number of rows of a request: calibration times batches that are
        one request, and putting several together takes its own time (`fit.joining_us`).
        """
        covered = coverage(self.profile, threads, replicas, max_batch)
        exact = backend == "emulated"
        joining_ns = 0.0 if exact else self.profile.fit.get("joining_us", 0.0) * 1000
        return Law(
            self, *covered, exact=exact, alone=replicas == 1, row_ns=joining_ns / request_rows, request_ns=joining_ns
        )


@dataclass(frozen=True, slots=True)
class Law:
    """Service times of one deployment's replicas.

    `exact`: the replicas are emulated. They draw from these very samples, so neither calibration nor
    the machine's level makes them uncertain, and no tail is borrowed.
    """

    measured: Measured
    threads: int
    pressure_max: int
    max_batch: int
    warnings: tuple[str, ...] = ()
    exact: bool = False
    alone: bool = False  # the machine has no other replica
    row_ns: float = 0.0  # a batch of r rows takes r x row_ns - request_ns longer, if that is positive
    request_ns: float = 0.0
    level: Level | None = None  # none: not known better than from calibration

    def expected(self) -> Drawn:
        """The samples as they are, on a machine whose level never moves."""
        factor = 1.0 if self.level is None or self.exact else self.level.value
        front_level = 1.0 if self.level is None else self.level.front
        return Drawn(self._service(self._own(), factor, np.ones(1), 2**62), front_level=front_level)

    def bootstrap(self, rng: np.random.Generator, duration_ns: int) -> Drawn:
        """Samples drawn again with replacement, and one path of the machine's level as calibration saw it."""
        noise = self.measured.profile.noise
        if self.exact:
            return replace(self.expected(), front_level=_front_level(noise, duration_ns, rng, self.level))
        cells = {key: resampled(own, rng) for key, own in sorted(self._own().items())}
        calibration = calibration_level(noise, rng) if self.level is None else 1.0
        levels, bin_ns = run_levels(noise, duration_ns, rng, self.level)
        drawn = self._service(cells, calibration, levels, bin_ns)
        front_level = _front_level(noise, duration_ns, rng, self.level)
        return Drawn(drawn, math.log(float(levels.mean())), front_level)

    def elsewhere(self, drawn: Drawn, rng: np.random.Generator, duration_ns: int) -> Drawn:
        """The same samples on another machine, whose level takes a path of its own."""
        noise = self.measured.profile.noise
        front_level = _front_level(noise, duration_ns, rng, self.level)
        if self.exact:
            return replace(drawn, front_level=front_level)
        levels, bin_ns = run_levels(noise, duration_ns, rng, self.level)
        service = replace(drawn.service, levels=levels, level_bin_ns=bin_ns)
        return Drawn(service, math.log(float(levels.mean())), front_level)

    def _own(self) -> Cells:
        measured = self.measured
        cells = measured.raw if self.exact else measured.alone if self.alone else measured.cells
        return {key: own for key, own in cells.items() if key[0] == self.threads}

    def _joining_ns(self) -> Floats:
        """By rows: what putting together the requests of such a batch adds, as many as there are on average."""
        added: Floats = np.maximum(np.arange(self.max_batch + 1) * self.row_ns - self.request_ns, 0.0)
        return added

    def _service(self, cells: Cells, factor: float, levels: Floats, bin_ns: int) -> Service:
        table = quantile_table(cells, self.threads, self.pressure_max, self.max_batch, not self.exact)
        late_ns = self.level.late_ns if self.exact and self.level is not None else 0
        table = (table + self._joining_ns()[:, np.newaxis]) * factor + late_ns
        whole = np.maximum(np.rint(table), 1).astype(np.int64)
        profile = self.measured.profile
        handover_ns = 0 if self.exact else handover(profile.noise)
        shape = (BITS, self.max_batch, self.pressure_max)
        cold = cold_curve(profile, not self.exact, 1.0 if self.level is None else self.level.cold)
        return Service(whole.reshape(-1), *shape, levels, bin_ns, handover_ns, cold)


def cold_curve(profile: Profile, known: bool, factor: float = 1.0) -> Ints:
    """`Service.cold_ns`; zeros where it is not `known` (emulated replicas draw from samples that hold it). `factor`:
    how much of it idleness adds now."""
    values = profile.cold_us if known and profile.cold_us else [0.0] * COLD_KNOTS
    return np.array([_ns(factor * us) for us in values], np.int64)


def handover(noise: Noise) -> int:
    """What a batch that waits in the second slot saves, in ns: waking a busy replica, and the front's notice of the
    batch before it. Service times were measured with one slot and hold both."""
    return _ns(noise.wake_busy_us[0] + noise.loop_jitter_us[0])


# -- what was measured ---------------------------------------------------------------------------------


def coverage(profile: Profile, threads: int, replicas: int, max_batch: int) -> tuple[int, int, int, tuple[str, ...]]:
    """(threads, most neighbours looked up, max_batch, warnings) for a use that the profile covers.

    Raises
    ------
    ProfileError : threads or batch sizes that were not measured.
    """
    cells = [c for c in profile.service if c.threads == threads]
    if not cells:
        known = ", ".join(str(t) for t in sorted({c.threads for c in profile.service}))
        raise ProfileError(f"replicas.threads {threads} was not measured (measured: {known})")
    alone = [c.rows for c in cells if c.busy == 0]
    if not alone or min(alone) > 1:
        raise ProfileError(f"threads {threads}: a lone request beside no neighbour is missing")
    if max_batch > max(alone):
        raise ProfileError(
            f"batching.max_batch {max_batch} is beyond the {max(alone)} rows that were "
            f"measured with threads {threads}; lower it, or calibrate up to it"
        )
    busy_max = max(c.busy for c in cells)
    warnings: tuple[str, ...] = ()
    if replicas - 1 > busy_max:
        warnings = (
            f"{replicas} replicas have up to {replicas - 1} busy neighbours, {busy_max} "
            f"were measured with threads {threads}; more than that are taken to slow a batch no further",
        )
    return threads, min(replicas - 1, busy_max), max_batch, warnings


def weakest(origins: Sequence[Origin]) -> Origin:
    """The weakest of several origins."""
    return max(origins, key=ORIGINS.index)


def origin(profile: Profile, threads: int) -> Origin:
    """The weakest origin among the numbers that a prediction with so many threads rests on."""
    cells: list[Origin] = [c.origin for c in profile.service if c.threads == threads]
    return weakest([*cells, profile.front.origin, profile.client.origin])


# -- the table -----------------------------------------------------------------------------------------


def strata(ordered: Floats, count: int) -> Floats:
    """Means of `count` equally likely strata of a sample in ascending order; their mean is the sample's."""
    cumulative = np.concatenate([[0.0], np.cumsum(ordered)]) / len(ordered)
    edges = np.linspace(0.0, 1.0, count + 1)
    return np.asarray(np.diff(np.interp(edges, np.linspace(0.0, 1.0, len(ordered) + 1), cumulative)) * count)


@dataclass(frozen=True, slots=True)
class PooledTail:
    """By how much the upper tenth of a sample exceeds the mean of the rest, pooled over several samples.

    Its mean is a straight line over the mean of the rest (which is known far better than a high quantile
    of a few dozen samples is), its shape is that of all samples together.
    """

    intercept: float
    slope: float
    shape: Floats  # (_TAIL,), ascending, mean 1

    @classmethod
    def of(cls, laws: Sequence[Floats]) -> PooledTail:
        """Least squares, each sample weighted by its size; where the line would end below a fifth of what a sample
        shows, that fifth."""
        weights = np.sqrt([len(ordered) for ordered in laws])
        bodies = np.array([_body_mean(ordered) for ordered in laws])
        excess = [ordered[_tail_start(ordered) :] - body for ordered, body in zip(laws, bodies, strict=True)]
        means = np.array([part.mean() for part in excess])
        design = np.stack([np.ones(len(laws)), bodies], axis=1) * weights[:, np.newaxis]
        intercept, slope = np.linalg.lstsq(design, means * weights, rcond=None)[0]
        line = np.maximum(intercept + slope * bodies, 0.2 * means)
        pooled = np.sort(np.concatenate([p / max(m, 1e-9) for p, m in zip(excess, line, strict=True)]))
        return cls(float(intercept), float(slope), strata(pooled, _TAIL))

    def above(self, body: float, own: float) -> Floats:
        """The excess of a cell whose body has this mean and whose own excess has mean `own`."""
        return self.shape * max(self.intercept + self.slope * body, 0.2 * own)


def _tail_start(ordered: Floats) -> int:
    return min(math.floor((1 - TAIL_SHARE) * len(ordered)), len(ordered) - 1)


def _body_mean(ordered: Floats) -> float:
    return float(ordered[: max(1, _tail_start(ordered))].mean())


def cell_law(ordered: Floats, pooled: PooledTail) -> Floats:
    """A cell's `2**BITS` equally likely times: its own body, and its own or the pooled tail."""
    law = strata(ordered, 2**BITS)
    if len(ordered) < OWN_TAIL_SAMPLES:
        body = _body_mean(ordered)
        tail = body + pooled.above(body, float(ordered[_tail_start(ordered) :].mean()) - body)
        law[-_TAIL:] = np.maximum(tail, law[-_TAIL - 1])
    return law


def quantile_table(cells: Cells, threads: int, pressure_max: int, max_batch: int, pool: bool = True) -> Floats:
    """Service times of shape (pressure_max + 1, max_batch + 1, 2**BITS); rows 0 is never looked up.

    Without `pool` the table is what an emulated replica draws from (`serve.profile_samples.ServiceTimes`).
    """
    busy = sorted({key[1] for key in cells if key[0] == threads})
    planes = [_rows_plane(cells, threads, b, max_batch, pool) for b in busy]
    for b, plane in zip(busy[1:], planes[1:], strict=True):
        _extend(plane, planes[0], max(key[2] for key in cells if key[:2] == (threads, b)))
    return _interpolated(np.array(busy, float), np.stack(planes), np.arange(pressure_max + 1))


def _rows_plane(cells: Cells, threads: int, busy: int, max_batch: int, pool: bool) -> Floats:
    """Laws of 0..max_batch rows beside `busy` neighbours."""
    measured = sorted(key[2] for key in cells if key[:2] == (threads, busy))
    own = [cells[threads, busy, rows] for rows in measured]
    pooled = PooledTail.of(own)
    laws = np.stack([cell_law(ordered, pooled) if pool else strata(ordered, 2**BITS) for ordered in own])
    return _interpolated(np.array(measured, float), laws, np.arange(max_batch + 1))


def _extend(plane: Floats, alone: Floats, rows_max: int) -> None:
    """Beyond the `rows_max` measured beside neighbours, they slow a batch by as much as they do there."""
    if rows_max + 1 < len(plane):
        plane[rows_max + 1 :] = plane[rows_max] * (alone[rows_max + 1 :] / alone[rows_max])


def _interpolated(at: Floats, values: Floats, wanted: npt.NDArray[np.int_]) -> Floats:
    """`values`, known at ascending `at` along the first axis, interpolated linearly; constant beyond both ends."""
    right = np.clip(np.searchsorted(at, wanted), 0, len(at) - 1)
    left = np.maximum(right - 1, 0)
    width = np.where(right > left, at[right] - at[left], 1.0)
    weight = np.clip((wanted - at[left]) / width, 0.0, 1.0).reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray(values[left] * (1 - weight) + values[right] * weight)


# -- chance --------------------------------------------------------------------------------------------


def resampled(ordered: Floats, rng: np.random.Generator) -> Floats:
    """A sample of the same size drawn from it with replacement, in ascending order."""
    return np.sort(ordered[rng.integers(0, len(ordered), len(ordered))])


def _front_level(noise: Noise, duration_ns: int, rng: np.random.Generator, level: Level | None) -> float:
    """Mean level of the front's core."""
    own = None if level is None else replace(level, value=level.front)
    return float(run_levels(noise, duration_ns, rng, own, FRONT_STRAYS)[0].mean())


# -- front and client ----------------------------------------------------------------------------------


def front_vector(costs: FrontCosts, noise: Noise, budget_ns: int) -> Ints:
    """The vector of `serve.policy.front`; a negative budget is unlimited."""
    vector = np.zeros(front.FRONT_PARAM_COUNT, np.int64)
    vector[front.FRONT_PARSE_NS] = _ns(costs.parse_us)
    vector[front.FRONT_PARSE_NS_PER_KIB] = _ns(costs.parse_us_per_kib)
    vector[front.FRONT_FINISH_BATCH_NS] = _ns(costs.finish_batch_us)
    vector[front.FRONT_FINISH_REQUEST_NS] = _ns(costs.finish_request_us)
    vector[front.FRONT_FINISH_NS_PER_KIB] = _ns(costs.finish_us_per_kib)
    vector[front.FRONT_DISPATCH_NS] = _ns(costs.dispatch_us)
    vector[front.FRONT_DISPATCH_NS_PER_KIB] = _ns(costs.dispatch_us_per_kib)
    vector[front.FRONT_DISPATCH_NS_PER_REQUEST] = _ns(costs.dispatch_us_per_request)
    vector[front.FRONT_REFUSE_NS] = _ns(costs.refuse_us)
    vector[front.FRONT_BUDGET_NS] = budget_ns
    vector[front.FRONT_BYTES_IN_PER_ROW] = costs.bytes_in_per_row
    vector[front.FRONT_BYTES_OUT_PER_ROW] = costs.bytes_out_per_row
    vector[front.FRONT_TIMER_LATE_NS] = _ns(noise.timer_late_us[0]) if noise.timer_late_us else 0
    return vector


FRONT_COSTS = (
    front.FRONT_PARSE_NS,
    front.FRONT_PARSE_NS_PER_KIB,
    front.FRONT_FINISH_BATCH_NS,
    front.FRONT_FINISH_REQUEST_NS,
    front.FRONT_FINISH_NS_PER_KIB,
    front.FRONT_DISPATCH_NS,
    front.FRONT_DISPATCH_NS_PER_KIB,
    front.FRONT_DISPATCH_NS_PER_REQUEST,
    front.FRONT_REFUSE_NS,
)
"""What of a front's vector takes CPU time."""


def front_at(vector: Ints, level: float) -> Ints:
    """A front's vector on a core of that level."""
    slower = vector.copy()
    for cost in FRONT_COSTS:
        slower[cost] = round(vector[cost] * level)
    return slower


def _ns(us: float) -> int:
    return round(us * 1000)


def client_draw(costs: ClientCosts, bytes_in_per_row: int) -> ClientDraw:
    """Draws what sending and receiving add to the server's latency, each from its measured quantiles.

    Sending takes longer by the request's bytes.
    Receiving may be negative (the client can read an answer before the front has stamped it); the
    two together are not.
    """
    send, receive = (_equally_likely_ns(quantiles) for quantiles in (costs.send_us, costs.receive_us))
    mask, shift = len(send) - 1, BITS

    row_ns = _ns(costs.send_us_per_kib * bytes_in_per_row / 1024)

    def draw(rng: np.random.Generator, rows: Ints) -> Ints:
        bits = uniform_bits(rng, len(rows))
        total: Ints = np.maximum(send[bits & mask] + rows * row_ns + receive[(bits >> shift) & mask], 0)
        return total

    return draw


def _equally_likely_ns(quantiles_us: Sequence[float]) -> Ints:
    """`2**BITS` equally likely ns from quantiles at even steps from 0 to 100 %; none: 0."""
    quantiles = np.sort(np.array(quantiles_us if len(quantiles_us) else [0.0], float)) * 1000
    at = (np.arange(2**BITS) + 0.5) / 2**BITS
    values: Ints = np.rint(np.interp(at, np.linspace(0, 1, len(quantiles)), quantiles)).astype(np.int64)
    return values
