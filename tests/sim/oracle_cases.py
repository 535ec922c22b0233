"""The oracle cases: queues that are solved exactly, as nodes that both planes simulate, with their exact claims.

A case says what arrives and what serves; a claim is a statistic of one replication whose expectation
is known exactly. Time is in units of the oracles (a mean service time, mostly), `UNIT_NS` long. A
quantile is held to by the share of requests above its exact value, whose expectation is exact at any
run length, while an empirical quantile is biased.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from serve import records
from serve.policy.codes import NEVER_NS, OUTCOME_CANCELLED, OUTCOME_EXPIRED, OUTCOME_FULL
from serve.policy.front import FRONT_BUDGET_NS, FRONT_PARSE_NS
from serve.records import Rows
from serve.scheduler import SchedulerSpec
from sim.plane import Closed, Node, Plane, Requests, Service, StopCode, free_front
from sim.reference import Reference
from sim.rng import stream, uniform_bits
from tests.sim import oracles

Engine = Literal["fast", "reference"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

UNIT_NS = 10**6
Tail = Callable[[float], float]
QUANTILES = (0.5, 0.95, 0.99, 0.999)
SERVICE_BITS = {"fast": 16, "reference": 12}
"""log2 of the entries of a service law's table: the reference makes a list of it for every run."""


def _ns(units: npt.NDArray[np.floating[Any]]) -> Ints:
    return np.asarray(np.rint(units * UNIT_NS), np.int64)


# -- service laws, as tables of equally likely values ------------------------------------------------


@dataclass(frozen=True)
class Law:
    """A service law with what its table needs: `biased` is its size-biased version, times in units."""

    law: Any  # a frozen scipy distribution, or the constant itself
    biased: Any = None

    def slices(self, bits: int) -> Floats:
        """The law cut into 2**bits equally likely slices, each at its conditional mean: the mean is exact."""
        if self.biased is None:
            return np.array([float(self.law)])
        edges = self.law.ppf(np.linspace(0, 1, (1 << bits) + 1))
        return np.asarray(np.diff(self.biased.cdf(edges)) * self.law.mean() * (1 << bits), np.float64)


def constant(span: float) -> Law:
    """Every batch takes as long."""
    return Law(span)


def gamma(mean: float, scv: float = 1.0) -> Law:
    """Gamma law with this squared coefficient of variation; 1 is exponential."""
    shape = 1 / scv
    return Law(stats.gamma(shape, scale=mean / shape), stats.gamma(shape + 1, scale=mean / shape))


def lognormal(mean: float, scv: float) -> Law:
    """Lognormal law with this squared coefficient of variation."""
    sigma = float(np.sqrt(np.log1p(scv)))
    scale = mean / np.sqrt(1 + scv)
    return Law(stats.lognorm(sigma, scale=scale), stats.lognorm(sigma, scale=scale * np.exp(sigma**2)))


@cache
def service_table(laws: tuple[Law, ...], bits: int, beside: tuple[Law, ...] = ()) -> Service:
    """A table with one law for each number of rows, 1 and up; `beside` are those beside a busy neighbour, if others."""
    bits = 0 if all(law.biased is None for law in laws + beside) else bits
    pressures = (laws, beside) if beside else (laws,)
    cells = []
    for of_pressure in pressures:
        cells += [np.zeros(1 << bits), *(np.broadcast_to(law.slices(bits), 1 << bits) for law in of_pressure)]
    return Service(_ns(np.concatenate(cells)), bits, rows_max=len(laws), pressure_max=len(pressures) - 1)


# -- claims -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One replication without its warm-up: rows, the size of the batch that each rode in, and the time it spans."""

    rows: Rows
    riders: Ints
    span: float


Times = Callable[[Sample], Floats]


@dataclass(frozen=True)
class Claim:
    """An exact result on some values of a replication, such as its waits.

    `statistic` of a replication's values has expectation `expected`. `exact` and `shown` (of the values
    of all replications together) are the same thing as a reader wants to see it: a quantile, not the
    share of requests above it.
    """

    name: str
    values: Times
    expected: float
    statistic: Callable[[Floats], float]
    exact: float
    shown: Callable[[Floats], float]


def _mean(values: Floats) -> float:
    return float(values.mean())


def _units(span_ns: Ints) -> Floats:
    return np.asarray(span_ns / UNIT_NS, np.float64)


def waits(sample: Sample) -> Floats:
    """From enqueue to start of service, of those served."""
    served = sample.rows[sample.rows[:, records.START_NS] >= 0]
    return _units(served[:, records.START_NS] - served[:, records.ENQUEUE_NS])


def stays(sample: Sample) -> Floats:
    """From enqueue to start of service or to leaving unserved, of all."""
    rows = sample.rows
    end = np.where(rows[:, records.START_NS] >= 0, rows[:, records.START_NS], rows[:, records.ANSWERED_NS])
    return _units(end - rows[:, records.ENQUEUE_NS])


def sojourns(sample: Sample) -> Floats:
    """From arrival to answer, of those served."""
    served = sample.rows[sample.rows[:, records.START_NS] >= 0]
    return _units(served[:, records.ANSWERED_NS] - served[:, records.ARRIVAL_NS])


def front_sojourns(sample: Sample) -> Floats:
    """From arrival to the end of the parse."""
    return _units(sample.rows[:, records.ENQUEUE_NS] - sample.rows[:, records.ARRIVAL_NS])


def of_priority(priority: int, times: Times) -> Times:
    """The times of the requests of one priority."""

    def chosen(sample: Sample) -> Floats:
        return times(replace(sample, rows=sample.rows[sample.rows[:, records.PRIORITY] == priority]))

    return chosen


def mean_claim(what: str, exact: float, values: Times) -> Claim:
    """The mean of some values, such as times, or ones and zeros for a share."""
    return Claim(what, values, exact, _mean, exact, _mean)


def square_claim(what: str, exact: float, times: Times) -> Claim:
    """The mean square of some times, shown as its root."""

    def square(values: Floats) -> float:
        return float(np.square(values).mean())

    return Claim(f"rms {what}", times, exact, square, math.sqrt(exact), lambda values: math.sqrt(square(values)))


def tail_claims(what: str, sf: Tail, times: Times, quantiles: tuple[float, ...] = QUANTILES) -> list[Claim]:
    """Quantiles of some times."""

    def one(p: float) -> Claim:
        exact = oracles.quantile(sf, p)
        return Claim(
            f"p{100 * p:g} {what}",
            times,
            sf(exact),
            lambda values: float((values > exact).mean()),
            exact,
            lambda values: float(np.quantile(values, p)),
        )

    return [one(p) for p in quantiles]


def unserved(outcome: int) -> Times:
    """One for each request with this outcome that was never dispatched, else zero."""

    def values(sample: Sample) -> Floats:
        rows = sample.rows
        found = (rows[:, records.OUTCOME] == outcome) & (rows[:, records.DISPATCH_NS] < 0)
        return np.asarray(found, np.float64)

    return values


def batch_claim(mean: float) -> Claim:
    """The mean batch, by batches per request: that mean is unbiased, where a mean over batches is not."""

    def per_batch(sample: Sample) -> Floats:
        return np.asarray(1 / sample.riders, np.float64)

    return Claim("mean batch", per_batch, 1 / mean, _mean, mean, lambda values: 1 / _mean(values))


def full_claim(share: float, batch_mean: float, b: int) -> Claim:
    """The share of batches that are full, by full batches per request."""

    def riders(sample: Sample) -> Floats:
        return np.asarray(sample.riders, np.float64)

    def per_request(values: Floats) -> float:
        return float((values == b).mean() / b)

    return Claim(
        "full batches",
        riders,
        share / batch_mean,
        per_request,
        share,
        lambda values: per_request(values) / float((1 / values).mean()),
    )


# -- cases --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A queue with exact results; times in units.

    `lams` has a Poisson rate for each priority class; `gap_cv` makes the gaps Gamma (0: constant) for
    one class. `patience` is the mean of an exponential patience, `timeout` a deadline. `clients` makes
    it a closed loop that thinks for `think`. `law` names the times whose whole law is known, and its tail.
    """

    name: str
    claims: list[Claim]
    limits: SchedulerSpec
    laws: tuple[Law, ...]
    lams: tuple[float, ...] = ()
    gap_cv: float = 1.0
    replicas: int = 1
    patience: float | None = None
    timeout: float | None = None
    clients: int = 0
    think: float = 0.0
    parse: float = 0.0
    law: tuple[Times, Tail] | None = None
    response: float = 0.0  # of a closed loop, about
    beside: tuple[Law, ...] = ()  # service laws beside a busy neighbour, if other than `laws`

    def node(self, engine: Engine) -> Node:
        """The node that is this queue."""
        front = free_front()
        front[FRONT_PARSE_NS] = round(self.parse * UNIT_NS)
        front[FRONT_BUDGET_NS] = -1
        return Node(self.limits, self.replicas, service_table(self.laws, SERVICE_BITS[engine], self.beside), front)

    def requests(self, replication: int, count: int) -> Requests:
        """What arrives in one replication; a closed loop's first requests are sent one think time apart."""
        mine = f"oracle {self.name}"
        arrival = self._arrivals(stream(0, replication, mine, "gaps"), count)
        shares = np.array(self.lams or (1.0,)) / sum(self.lams or (1.0,))
        priority = stream(0, replication, mine, "priority").choice(len(shares), count, p=shares)
        never = np.full(count, NEVER_NS)
        patience = never
        if self.patience is not None:
            patience = _ns(stream(0, replication, mine, "patience").exponential(self.patience, count))
        return Requests(
            arrival_ns=arrival,
            rows=np.ones(count, np.int64),
            class_=np.zeros(count, np.int64),
            priority=priority.astype(np.int64),
            timeout_ns=never if self.timeout is None else np.full(count, round(self.timeout * UNIT_NS)),
            patience_ns=patience,
            client_ns=np.zeros(count, np.int64),
            draw=uniform_bits(stream(0, replication, mine, "service"), count)[None, :],
        )

    def _arrivals(self, rng: np.random.Generator, count: int) -> Ints:
        if self.clients:
            return _ns(np.arange(count) % self.clients * (self.think / self.clients))
        mean = 1 / sum(self.lams)
        if self.gap_cv == 0:
            gaps = np.full(count, mean)
        elif self.gap_cv == 1:
            gaps = rng.exponential(mean, count)
        else:
            gaps = rng.gamma(self.gap_cv**-2, mean * self.gap_cv**2, count)
        return _ns(np.cumsum(gaps))

    def closed(self) -> Closed | None:
        """The closed loop's clients, if it is one."""
        if not self.clients:
            return None
        think = np.full(self.clients, round(self.think * UNIT_NS))
        return Closed(class_=np.zeros(self.clients, np.int64), think_ns=think)

    def sample(self, engine: Engine, replication: int, count: int, warmup: int) -> Sample:
        """Simulate one replication of `count` requests, of which the first `warmup` are not counted."""
        plane = build(engine, self.node(engine), self.closed())
        requests = self.requests(replication, count)
        for replica in range(self.replicas):
            plane.ready(replica)
        if self.clients:
            return self._closed_sample(plane, requests, warmup)
        plane.feed(requests)
        plane.end_feed()
        stop = plane.advance(2**60)
        assert stop.code == StopCode.UNTIL, f"{self.name} stopped at {stop}"
        rows = plane.rows()
        assert len(rows) == count, "conservation: all that arrived have left"
        span = (rows[-1, records.ARRIVAL_NS] - rows[warmup, records.ARRIVAL_NS]) / UNIT_NS
        return Sample(rows[warmup:], _riders(rows)[warmup:], float(span))

    def _closed_sample(self, plane: Plane, requests: Requests, warmup: int) -> Sample:
        """A closed loop runs for a time in which no client can be expected to use up its requests."""
        each = len(requests) / self.clients
        end_ns = round(0.7 * each * UNIT_NS * (self.think + self.response))
        begin_ns = end_ns * warmup // len(requests)
        plane.end_feed()
        plane.feed_closed(requests)
        stop = plane.advance(end_ns)
        assert stop.code == StopCode.UNTIL, f"{self.name} stopped at {stop}"
        rows = plane.rows()
        counted = (rows[:, records.ANSWERED_NS] >= begin_ns) & (rows[:, records.ANSWERED_NS] < end_ns)
        return Sample(rows[counted], _riders(rows)[counted], (end_ns - begin_ns) / UNIT_NS)


def build(engine: Engine, node: Node, closed: Closed | None) -> Plane:
    """A plane that keeps rows."""
    if engine == "reference":
        return Reference(node, 1, closed)
    from sim.dataplane import DataPlane

    return DataPlane(node, 1, closed, keep="rows")


def _riders(rows: Rows) -> Ints:
    """How many requests rode in the batch of each (0: it rode in none)."""
    batch = rows[:, records.BATCH] + 1
    return np.where(batch > 0, np.bincount(batch)[batch], 0)


# -- the list -------------------------------------------------------------------------------------------


def limits(max_batch: int = 1, window: float = 0.0, max_queue: int = -1, priority_levels: int = 1) -> SchedulerSpec:
    """The queue's limits; the window in units."""
    return SchedulerSpec(max_batch, round(window * UNIT_NS), max_queue, priority_levels)


EXPONENTIAL = gamma(1.0)


def _many_servers(c: int, rho: float) -> Case:
    queue = oracles.MMc(c, c * rho)
    claims = [
        mean_claim("mean wait", queue.wait_mean, waits),
        *tail_claims("wait", queue.wait_sf, waits, (0.99,)),
        mean_claim("mean sojourn", queue.sojourn_mean, sojourns),
        *tail_claims("sojourn", queue.sojourn_sf, sojourns),
    ]
    law = (sojourns, queue.sojourn_sf)
    return Case(f"M/M/{c}, rho {rho}", claims, limits(), (EXPONENTIAL,), (queue.lam,), replicas=c, law=law)


def _constant_service(c: int, rho: float) -> Case:
    queue = oracles.MDc(c, c * rho)
    claims = [mean_claim("mean wait", queue.wait_mean, waits), *tail_claims("wait", queue.wait_sf, waits)]
    law = (waits, queue.wait_sf)
    return Case(f"M/D/{c}, rho {rho}", claims, limits(), (constant(1.0),), (queue.lam,), replicas=c, law=law)


def _general_service(name: str, law: Law, rho: float) -> Case:
    m1, m2, m3 = (float(law.law.moment(k)) for k in (1, 2, 3))
    queue = oracles.MG1(rho, m1, m2, m3)
    claims = [mean_claim("mean wait", queue.wait_mean, waits), square_claim("wait", queue.wait_square_mean, waits)]
    return Case(f"M/G/1, {name}, rho {rho}", claims, limits(), (law,), (rho,))


def _gaps(name: str, queue: oracles.GIM1, lam: float, cv: float) -> Case:
    claims = [
        mean_claim("mean wait", queue.wait_mean, waits),
        mean_claim("mean sojourn", queue.sojourn_mean, sojourns),
        *tail_claims("sojourn", queue.sojourn_sf, sojourns),
    ]
    return Case(f"{name}, rho {lam}", claims, limits(), (EXPONENTIAL,), (lam,), gap_cv=cv)


def _bounded(c: int, k: int, lam: float, name: str, law: Law = EXPONENTIAL) -> Case:
    queue = oracles.MMcK(c, k, lam)
    claims = [mean_claim("refused", queue.p_block, unserved(OUTCOME_FULL))]
    if k > c:
        claims.append(mean_claim("mean wait", queue.wait_mean, waits))
        claims += tail_claims("wait", queue.wait_sf, waits, (0.95, 0.99))
    return Case(name, claims, limits(max_queue=k - c), (law,), (lam,), replicas=c)


def _impatient() -> Case:
    theta = 0.5
    queue = oracles.Impatient.exponential(8, 8.0, theta)
    claims = [
        mean_claim("abandoned", queue.p_abandon, unserved(OUTCOME_CANCELLED)),
        mean_claim("mean wait", queue.wait_mean, stays),
        *tail_claims("wait", queue.wait_sf, stays, (0.95, 0.99)),
    ]
    return Case("Erlang-A, 8 servers", claims, limits(), (EXPONENTIAL,), (8.0,), replicas=8, patience=1 / theta)


def _deadline() -> Case:
    queue = oracles.Impatient.fixed(2, 2.2, 1.5)
    claims = [
        mean_claim("expired", queue.p_abandon, unserved(OUTCOME_EXPIRED)),
        mean_claim("mean wait", queue.wait_mean, stays),
        *tail_claims("wait", queue.wait_sf, stays, (0.5,)),
    ]
    return Case("M/M/2+D, deadline 1.5", claims, limits(), (EXPONENTIAL,), (2.2,), replicas=2, timeout=1.5)


def neighbours() -> Case:
    """Two replicas that slow each other: services are 1.5 times as long if they start beside a busy one."""
    queue = oracles.Neighbours(1.0, 1.0, 1 / 1.5)
    waiting = lambda sample: np.asarray(waits(sample) > 0, np.float64)  # noqa: E731
    claims = [mean_claim("mean wait", queue.wait_mean, waits), mean_claim("waited", queue.p_wait, waiting)]
    case = Case("Two neighbours, lam 1", claims, limits(), (EXPONENTIAL,), (1.0,), replicas=2)
    return replace(case, beside=(gamma(1.5),))


def _priorities(c: int, lams: tuple[float, ...]) -> Case:
    claims = [
        mean_claim(f"mean wait, priority {k}", wait, of_priority(k, waits))
        for k, wait in enumerate(oracles.cobham(lams, c))
    ]
    text = ", ".join(f"{lam:g}" for lam in lams)
    spec = limits(priority_levels=len(lams))
    return Case(f"Priorities on {c} (lam {text})", claims, spec, (EXPONENTIAL,), lams, replicas=c)


def _closed_loop(n: int, c: int, z: float, service: float) -> Case:
    queue = oracles.MachineRepair(n, c, z, 1 / service)
    claims = [
        mean_claim("throughput", queue.throughput, lambda sample: np.array([len(sample.rows) / sample.span])),
        mean_claim("mean response", queue.response_mean, sojourns),
    ]
    case = Case(f"Closed loop, {n} clients on {c}", claims, limits(), (gamma(service),), replicas=c)
    return replace(case, clients=n, think=z, response=queue.response_mean)


def _bulk(b: int, lam: float) -> Case:
    queue = oracles.BulkService(b, lam)
    claims = [
        mean_claim("mean wait", queue.wait_mean, waits),
        *tail_claims("wait", queue.wait_sf, waits, (0.99,)),
        *tail_claims("sojourn", queue.sojourn_sf, sojourns),
        batch_claim(queue.batch_mean),
    ]
    law = (sojourns, queue.sojourn_sf)
    return Case(f"Bulk service, b {b}, lam {lam}", claims, limits(b), (EXPONENTIAL,) * b, (lam,), law=law)


def _full_only(b: int, lam: float) -> Case:
    queue = oracles.FullBatches(b, lam)
    claims = [mean_claim("mean sojourn", queue.sojourn_mean, sojourns), batch_claim(b)]
    return Case(f"Full batches only, b {b}", claims, limits(b, window=1e9), (EXPONENTIAL,) * b, (lam,))


def _greedy(lam: float, alpha: float = 0.5, tau0: float = 2.0, b: int = 64) -> Case:
    queue = oracles.GreedyBatching(lam, alpha, tau0)
    claims = [
        mean_claim("mean sojourn", queue.sojourn_mean, sojourns),
        *tail_claims("sojourn", queue.sojourn_sf, sojourns),
        batch_claim(queue.batch_mean),
        mean_claim("found idle", queue.p_idle_met, lambda sample: np.asarray(waits(sample) == 0, np.float64)),
    ]
    laws = tuple(constant(alpha * k + tau0) for k in range(1, b + 1))
    return Case(f"Greedy batching, lam {lam}", claims, limits(b), laws, (lam,), law=(sojourns, queue.sojourn_sf))


def _capped(lam: float, b: int, alpha: float = 0.5, tau0: float = 2.0) -> Case:
    queue = oracles.CappedBatching(lam, alpha, tau0, b)
    claims = [
        mean_claim("mean sojourn", queue.sojourn_mean, sojourns),
        batch_claim(queue.batch_mean),
        full_claim(float(queue.batch_pmf[b]), queue.batch_mean, b),
    ]
    laws = tuple(constant(alpha * k + tau0) for k in range(1, b + 1))
    return Case(f"Greedy batching, cap {b}, lam {lam}", claims, limits(b), laws, (lam,))


def _window(lam: float, t: float = 5.0, b: int = 8) -> Case:
    queue = oracles.WindowAlone(lam, t, b)
    claims = [
        mean_claim("mean wait", queue.wait_mean, waits),
        *tail_claims("wait", queue.wait_sf, waits, (0.5,)),
        batch_claim(queue.batch_mean),
        full_claim(queue.p_full, queue.batch_mean, b),
    ]
    return Case(f"Window alone, lam {lam}", claims, limits(b, t), (constant(10.0),) * b, (lam,), replicas=40)


def _front(rho: float) -> Case:
    queue = oracles.MDc(1, rho)
    name = f"Front alone, M/D/1, rho {rho}"
    claims = [
        mean_claim("mean front delay", 1 + queue.wait_mean, front_sojourns),
        *tail_claims("front delay", lambda t: queue.wait_sf(t - 1) if t >= 1 else 1.0, front_sojourns),
    ]
    return Case(name, claims, limits(), (constant(0.0),), (rho,), parse=1.0)


def cases() -> list[Case]:
    """All of them, in the order of the table in the documentation."""
    return [
        _many_servers(1, 0.8),
        _many_servers(8, 0.8),
        _constant_service(1, 0.8),
        _constant_service(4, 0.8),
        _general_service("gamma SCV 4", gamma(1.0, 4.0), 0.7),
        _general_service("lognormal SCV 1", lognormal(1.0, 1.0), 0.7),
        _gaps("D/M/1", oracles.GIM1.constant(0.8), 0.8, 0.0),
        _gaps("GI/M/1, gamma gaps cv 3", oracles.GIM1.gamma(0.6, 3.0), 0.6, 3.0),
        _bounded(8, 16, 7.6, "M/M/8/16, lam 7.6"),
        _bounded(4, 4, 3.2, "Erlang B, 4 servers"),
        _bounded(4, 4, 3.2, "Erlang B, lognormal service", lognormal(1.0, 1.0)),
        _impatient(),
        _deadline(),
        _priorities(1, (0.3, 0.4)),
        _priorities(4, (1.0, 1.2, 1.0)),
        _closed_loop(10, 1, 4.0, 1.0),
        _closed_loop(32, 4, 1.0, 0.25),
        _bulk(8, 6.4),
        _full_only(8, 6.4),
        _greedy(0.4),
        _greedy(0.8),
        _capped(0.6, 8),
        _capped(1.2, 8),
        _window(0.2),
        _window(1.0),
        _window(2.0),
        _front(0.8),
    ]
