"""Closed forms and embedded chains of queueing theory: the exact results that the simulators are held against.

Rates are per unit of time and times in that unit; `lam` is the arrival rate, `mu` the service rate of
one server, `c` the number of servers. `sf` is the probability of exceeding `t`. Symbols are those of
the source named in each docstring.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import integrate, optimize, stats

Floats = npt.NDArray[np.float64]


def quantile(sf: Callable[[float], float], p: float) -> float:
    """The `t` that a law with this tail exceeds with probability 1 - p; 0 if it is 0 with more than p.

    >>> round(quantile(lambda t: math.exp(-t), 0.99), 6)
    4.60517
    """
    tail = 1 - p
    if sf(0.0) <= tail:
        return 0.0
    above = 1.0
    while sf(above) > tail:
        above *= 2
    return float(optimize.brentq(lambda t: sf(t) - tail, 0.0, above, xtol=1e-12))


# -- many servers, exponential service ---------------------------------------------------------------


def erlang_b(c: int, a: float) -> float:
    """Share lost of `a` erlangs offered to `c` servers without a queue (Erlang 1917; any service law).

    >>> round(erlang_b(8, 6.4), 6), round(erlang_b(10, 8.0), 6)
    (0.144394, 0.121661)
    """
    blocked = 1.0
    for k in range(1, c + 1):
        blocked = a * blocked / (k + a * blocked)
    return blocked


@dataclass(frozen=True)
class MMc:
    """M/M/c (Erlang 1917).

    >>> q = MMc(8, 6.4)
    >>> round(q.p_wait, 6), round(q.wait_mean, 6), round(q.sojourn_mean, 6)
    (0.457645, 0.286028, 1.286028)
    >>> [round(quantile(q.sojourn_sf, p), 6) for p in (0.5, 0.95, 0.99, 0.999)]
    [0.986334, 3.508443, 5.152182, 7.469719]
    """

    c: int
    lam: float
    mu: float = 1.0

    @property
    def rho(self) -> float:
        """Share of time that a server is busy."""
        return self.lam / (self.c * self.mu)

    @property
    def p_wait(self) -> float:
        """Erlang C: the probability of having to wait."""
        blocked = erlang_b(self.c, self.lam / self.mu)
        return blocked / (1 - self.rho * (1 - blocked))

    @property
    def theta(self) -> float:
        """Rate of the exponential wait of those who wait."""
        return self.c * self.mu - self.lam

    @property
    def wait_mean(self) -> float:
        """Mean wait in the queue."""
        return self.p_wait / self.theta

    @property
    def sojourn_mean(self) -> float:
        """Mean time from arrival to completion."""
        return self.wait_mean + 1 / self.mu

    def wait_sf(self, t: float) -> float:
        """Tail of the wait."""
        return self.p_wait * math.exp(-self.theta * t)

    def sojourn_sf(self, t: float) -> float:
        """Tail of the sojourn: wait and service are independent."""
        mu, theta, waits = self.mu, self.theta, self.p_wait
        if math.isclose(theta, mu):
            return (1 - waits) * math.exp(-mu * t) + waits * (1 + mu * t) * math.exp(-mu * t)
        both = (theta * math.exp(-mu * t) - mu * math.exp(-theta * t)) / (theta - mu)
        return (1 - waits) * math.exp(-mu * t) + waits * both


@dataclass(frozen=True)
class MMcK:
    """M/M/c/K: at most `k` in the system, others are lost (textbook birth-death chain).

    >>> q = MMcK(8, 16, 7.6)
    >>> round(q.p_block, 6), round(q.served, 6), round(q.wait_mean, 6), round(quantile(q.wait_sf, 0.99), 6)
    (0.059838, 7.145232, 0.341589, 1.533469)
    >>> round(MMcK(4, 4, 3.2).p_block, 6) == round(erlang_b(4, 3.2), 6) == 0.228145
    True
    """

    c: int
    k: int
    lam: float
    mu: float = 1.0

    @cached_property
    def p(self) -> Floats:
        """Stationary probabilities of 0..k in the system."""
        weights = [1.0]
        for n in range(1, self.k + 1):
            weights.append(weights[-1] * self.lam / (min(n, self.c) * self.mu))
        return np.array(weights, float) / sum(weights)

    @property
    def p_block(self) -> float:
        """Share lost."""
        return float(self.p[-1])

    @property
    def served(self) -> float:
        """Completions per unit of time."""
        return self.lam * (1 - self.p_block)

    @property
    def wait_mean(self) -> float:
        """Mean wait of those let in."""
        waiting = sum((n - self.c) * self.p[n] for n in range(self.c, self.k + 1))
        return float(waiting / self.served)

    def wait_sf(self, t: float) -> float:
        """Tail of the wait of those let in: Erlang of one stage for each completion waited for."""
        met = self.p[self.c : self.k] / (1 - self.p_block)
        stages = np.arange(1, self.k - self.c + 1)
        return float(met @ stats.poisson.cdf(stages - 1, self.c * self.mu * t)) if len(met) else 0.0


@dataclass(frozen=True)
class Impatient:
    """M/M/c+G: each waits at most for its patience (Zeltyn and Mandelbaum 2005, section 4).

    `h(x)` is the integral of the patience's tail from 0 to x, `patience_sf` that tail, `kink` where
    the integrals are split: where the tail is not smooth. Erlang-A is `exponential`, a deadline `fixed`.

    >>> q = Impatient.exponential(8, 8.0, theta=0.5)
    >>> round(q.p_abandon, 6), round(q.wait_mean, 6), round(q.p_wait, 6)
    (0.116014, 0.232029, 0.623531)
    >>> round(Impatient.fixed(4, 3.2, patience=1e-9).p_abandon, 6) == round(erlang_b(4, 3.2), 6)
    True
    """

    c: int
    lam: float
    h: Callable[[float], float]
    patience_sf: Callable[[float], float]
    kink: float
    mu: float = 1.0

    @classmethod
    def exponential(cls, c: int, lam: float, theta: float, mu: float = 1.0) -> Impatient:
        """Patience exponential with rate `theta` (Palm's Erlang-A)."""
        return cls(c, lam, lambda x: -math.expm1(-theta * x) / theta, lambda x: math.exp(-theta * x), 5 / mu, mu)

    @classmethod
    def fixed(cls, c: int, lam: float, patience: float, mu: float = 1.0) -> Impatient:
        """All have the same patience: a deadline (M/M/c+D, Barrer 1957)."""
        return cls(c, lam, lambda x: min(x, patience), lambda x: float(x < patience), patience, mu)

    def _j(self, weight: Callable[[float], float], start: float = 0.0) -> float:
        """J(start) of the source: the integral of weight(x) exp(lam h(x) - c mu x) from `start` on."""

        def density(x: float) -> float:
            return weight(x) * math.exp(self.lam * self.h(x) - self.c * self.mu * x)

        far = max(start, self.kink)
        near = integrate.quad(density, start, far, epsabs=1e-13)[0] if start < self.kink else 0.0
        return float(near + integrate.quad(density, far, math.inf, epsabs=1e-13)[0])

    @cached_property
    def _norm(self) -> float:
        """epsilon + lam J: the weight of all states relative to that of c - 1 busy servers."""
        a = self.lam / self.mu
        return 1 / erlang_b(self.c - 1, a) + self.lam * self._j(lambda _: 1.0)

    @property
    def p_wait(self) -> float:
        """Probability of finding all servers busy."""
        return self.lam * self._j(lambda _: 1.0) / self._norm

    @property
    def p_abandon(self) -> float:
        """Share that leaves unserved."""
        return (1 + (self.lam - self.c * self.mu) * self._j(lambda _: 1.0)) / self._norm

    @property
    def wait_mean(self) -> float:
        """Mean wait of all, served or not."""
        return self.lam * self._j(self.h) / self._norm

    def wait_sf(self, t: float) -> float:
        """Tail of the wait of all, served or not."""
        return self.lam * self.patience_sf(t) * self._j(lambda _: 1.0, t) / self._norm


# -- one server, or constant service -------------------------------------------------------------------


@dataclass(frozen=True)
class MDc:
    """M/D/c with service time `d` (Crommelin 1932; waiting law of Franx 2001, whose terms are all positive).

    >>> q = MDc(1, 0.8)
    >>> round(q.wait_mean, 6), [round(quantile(q.wait_sf, p), 6) for p in (0.5, 0.9, 0.95, 0.99, 0.999)]
    (2.0, [1.27594, 5.011511, 6.620325, 10.355887, 15.700268])
    >>> q = MDc(8, 6.4)
    >>> round(q.wait_mean, 6), round(q.wait_sf(0), 6), round(quantile(q.wait_sf, 0.99), 5)
    (0.151954, 0.433795, 1.1696)
    """

    c: int
    lam: float
    d: float = 1.0

    @cached_property
    def p(self) -> Floats:
        """Stationary number in system, from the slot chain N(t + d) = max(N(t) - c, 0) + Poisson(lam d)."""
        load = self.lam * self.d
        size = self.c + int(60 / (1 - load / self.c)) + 60
        arrivals = stats.poisson.pmf(np.arange(size), load)
        chain = np.zeros((size, size))
        for n in range(size):
            left = max(n - self.c, 0)
            chain[n, left:] = arrivals[: size - left]
            chain[n, -1] += 1 - chain[n].sum()
        return stationary(chain)

    @property
    def wait_mean(self) -> float:
        """Mean wait, by Little's law."""
        waiting = np.maximum(np.arange(len(self.p)) - self.c, 0)
        return float(waiting @ self.p / self.lam)

    def wait_sf(self, t: float) -> float:
        """Tail of the wait."""
        slots = int(t // self.d)
        rest = self.lam * ((slots + 1) * self.d - t)
        highest = (slots + 1) * self.c - 1
        cumulated = np.cumsum(self.p)[np.minimum(self.c + highest - np.arange(highest + 1), len(self.p) - 1)]
        return float(1 - stats.poisson.pmf(np.arange(highest + 1), rest) @ cumulated)


@dataclass(frozen=True)
class MG1:
    """M/G/1 by the first three moments of its service time (Pollaczek 1930, Khinchine 1932).

    >>> gamma = MG1(0.7, 1.0, 5.0, 45.0)  # SCV 4
    >>> round(gamma.wait_mean, 6), round(gamma.wait_sd, 6)
    (5.833333, 8.308296)
    >>> lognormal = MG1(0.7, 1.0, 2.0, 8.0)  # SCV 1
    >>> round(lognormal.wait_mean, 6), round(lognormal.wait_sd, 6)
    (2.333333, 3.41565)
    """

    lam: float
    m1: float
    m2: float
    m3: float

    @property
    def wait_mean(self) -> float:
        """Mean wait."""
        return self.lam * self.m2 / (2 * (1 - self.lam * self.m1))

    @property
    def wait_square_mean(self) -> float:
        """Second moment of the wait."""
        return 2 * self.wait_mean**2 + self.lam * self.m3 / (3 * (1 - self.lam * self.m1))

    @property
    def wait_sd(self) -> float:
        """Standard deviation of the wait."""
        return math.sqrt(self.wait_square_mean - self.wait_mean**2)


@dataclass(frozen=True)
class GIM1:
    """GI/M/1 from the Laplace transform of its gaps (Kendall 1953): the wait is exponential but for an atom at 0.

    >>> q = GIM1.constant(0.8)
    >>> round(q.sigma, 6), round(q.wait_mean, 6), round(q.sojourn_mean, 6), round(quantile(q.sojourn_sf, 0.99), 6)
    (0.62863, 1.692731, 2.692731, 12.400484)
    >>> round(GIM1.gamma(0.8, cv=1.0).sigma, 6)
    0.8
    """

    transform: Callable[[float], float]
    mu: float = 1.0

    @classmethod
    def constant(cls, lam: float, mu: float = 1.0) -> GIM1:
        """D/M/1: gaps all 1 / lam."""
        return cls(lambda s: math.exp(-s / lam), mu)

    @classmethod
    def gamma(cls, lam: float, cv: float, mu: float = 1.0) -> GIM1:
        """Gaps with a Gamma law of mean 1 / lam and this coefficient of variation."""
        shape = cv**-2
        return cls(lambda s: (1 + s / (shape * lam)) ** -shape, mu)

    @cached_property
    def sigma(self) -> float:
        """Probability of having to wait: the root in (0, 1) of sigma = transform(mu (1 - sigma))."""
        return float(optimize.brentq(lambda x: x - self.transform(self.mu * (1 - x)), 0.0, 1 - 1e-9, xtol=1e-14))

    @property
    def wait_mean(self) -> float:
        """Mean wait."""
        return self.sigma / (self.mu * (1 - self.sigma))

    @property
    def sojourn_mean(self) -> float:
        """Mean time from arrival to completion."""
        return 1 / (self.mu * (1 - self.sigma))

    def wait_sf(self, t: float) -> float:
        """Tail of the wait."""
        return self.sigma * math.exp(-self.mu * (1 - self.sigma) * t)

    def sojourn_sf(self, t: float) -> float:
        """Tail of the sojourn."""
        return math.exp(-self.mu * (1 - self.sigma) * t)


@dataclass(frozen=True)
class Neighbours:
    """Two servers; a service lasts exp(mu_alone) if it starts beside an idle server, else exp(mu_beside).

    The rate stays what it was at the start, so a state is the number in system and, of the one or two in
    service, how many started alone (at most one can have). A finite chain, cut at `size`.

    >>> q = Neighbours(1.6, 1.0, 1.0)  # M/M/2
    >>> round(q.p_wait, 6), round(q.wait_mean, 6)
    (0.711111, 1.777778)
    """

    lam: float
    mu_alone: float
    mu_beside: float
    size: int = 200

    @cached_property
    def p(self) -> Floats:
        """Stationary law: [number in system, started alone (0 or 1)]."""
        rates = np.zeros((2 * self.size, 2 * self.size))

        def add(n: int, alone: int, to: int, to_alone: int, rate: float) -> None:
            rates[2 * n + alone, 2 * to + to_alone] += rate

        for n in range(self.size):
            for alone in (0, 1):
                if n + 1 < self.size:
                    add(n, alone, n + 1, 1 if n == 0 else alone, self.lam)
                beside = min(n, 2) - alone
                if n >= 1 and alone:  # whoever follows it starts beside the other
                    add(n, 1, n - 1, 0, self.mu_alone)
                if n >= 1 and beside > 0:
                    add(n, alone, n - 1, alone, beside * self.mu_beside)
        np.fill_diagonal(rates, -rates.sum(axis=1))
        law: Floats = stationary(np.eye(2 * self.size) + rates / -rates.min()).reshape(self.size, 2)
        return law

    @property
    def p_wait(self) -> float:
        """Probability of finding both servers busy."""
        return float(self.p[2:].sum())

    @property
    def wait_mean(self) -> float:
        """Mean wait, by Little's law."""
        return float(np.maximum(np.arange(self.size) - 2, 0) @ self.p.sum(axis=1) / self.lam)


# -- priorities and closed loops -------------------------------------------------------------------------


def cobham(lams: tuple[float, ...], c: int = 1, mu: float = 1.0) -> list[float]:
    """Mean wait by priority, non-preemptive, exponential service of one rate (Cobham 1954).

    >>> [round(w, 6) for w in cobham((0.3, 0.4))]
    [1.0, 3.333333]
    """
    queue = MMc(c, sum(lams), mu)
    residual = queue.p_wait / (c * mu)
    loads = [sum(lams[:k]) / (c * mu) for k in range(len(lams) + 1)]
    return [residual / ((1 - above) * (1 - own)) for above, own in itertools.pairwise(loads)]


@dataclass(frozen=True)
class MachineRepair:
    """`n` clients that think for `z` and queue for `c` servers of rate `mu` (any law of thinking with this mean).

    >>> q = MachineRepair(10, 1, 4.0)
    >>> round(q.throughput, 6), round(q.response_mean, 6)
    (0.994692, 6.053359)
    >>> q = MachineRepair(32, 4, 1.0, mu=4.0)
    >>> round(q.throughput, 6), round(q.response_mean, 6)
    (15.990853, 1.001144)
    """

    n: int
    c: int
    z: float
    mu: float = 1.0

    @cached_property
    def p(self) -> Floats:
        """Stationary probabilities of 0..n at the servers."""
        weights = [1.0]
        for k in range(1, self.n + 1):
            weights.append(weights[-1] * (self.n - k + 1) / self.z / (min(k, self.c) * self.mu))
        return np.array(weights) / sum(weights)

    @property
    def throughput(self) -> float:
        """Completions per unit of time."""
        return float(np.minimum(np.arange(self.n + 1), self.c) @ self.p * self.mu)

    @property
    def response_mean(self) -> float:
        """Mean time at the servers, by n = throughput x (response + thinking)."""
        return self.n / self.throughput - self.z


# -- batches -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BulkService:
    """M/M^[1,b]/1: takes min(waiting, b) when free, exponential whatever the size (Bailey 1954, Neuts 1967).

    >>> q = BulkService(8, 6.4)
    >>> round(q.r, 6), round(q.p_idle, 6), round(q.wait_mean, 6), round(q.batch_mean, 6)
    (0.950175, 0.007725, 2.95671, 6.449825)
    >>> round(quantile(q.wait_sf, 0.99), 5), round(quantile(q.sojourn_sf, 0.99), 5)
    (13.69905, 14.91733)
    >>> round(BulkService(1, 0.8).wait_mean, 6)
    4.0
    """

    b: int
    lam: float
    mu: float = 1.0

    @cached_property
    def r(self) -> float:
        """Root in (0, 1) of mu r^(b+1) - (lam + mu) r + lam = 0: the queue beside a busy server is geometric."""
        lam, mu, b = self.lam, self.mu, self.b
        # Dividing the root r = 1 out leaves lam = mu (r + r^2 + ... + r^b), which is monotone.
        return float(optimize.brentq(lambda r: mu * sum(r**k for k in range(1, b + 1)) - lam, 0.0, 1.0, xtol=1e-15))

    @property
    def p_idle(self) -> float:
        """Share of time that the server is idle."""
        p10 = 1 / (self.mu / self.lam + 1 / (1 - self.r))
        return p10 * self.mu / self.lam

    @property
    def batch_mean(self) -> float:
        """Mean size of a batch."""
        return self.lam / (self.mu * (1 - self.p_idle))

    @property
    def theta(self) -> float:
        """Rate of the exponential wait of those who wait."""
        return self.mu * (1 - self.r**self.b)

    @property
    def wait_mean(self) -> float:
        """Mean wait."""
        return (1 - self.p_idle) / self.theta

    def wait_sf(self, t: float) -> float:
        """Tail of the wait."""
        return (1 - self.p_idle) * math.exp(-self.theta * t)

    def sojourn_sf(self, t: float) -> float:
        """Tail of the sojourn: wait and service are independent."""
        mu, theta = self.mu, self.theta
        both = (theta * math.exp(-mu * t) - mu * math.exp(-theta * t)) / (theta - mu)
        return self.p_idle * math.exp(-mu * t) + (1 - self.p_idle) * both


@dataclass(frozen=True)
class GreedyBatching:
    """Takes everything waiting when free; a batch of k lasts alpha k + tau0 (Inoue 2021, arXiv 1912.06322).

    The whole law of the sojourn is exact. An arrival either finds the server idle and rides alone, or
    comes U(0, tau_k) before the end of a batch of k and rides in the next one with Poisson(lam tau_k)
    others; the three parts are independent.

    >>> q = GreedyBatching(0.4, 0.5, 2.0)
    >>> round(q.p_idle_met, 5), round(q.sojourn_mean, 4), round(q.batch_mean, 5), round(q.busy, 4)
    (0.23929, 3.9739, 1.42677, 0.7607)
    >>> [round(quantile(q.sojourn_sf, p), 4) for p in (0.5, 0.95, 0.99, 0.999)]
    [3.9511, 5.9913, 6.9207, 8.0406]
    >>> q = GreedyBatching(0.8, 0.5, 2.0)
    >>> round(q.sojourn_mean, 4), [round(quantile(q.sojourn_sf, p), 4) for p in (0.5, 0.95, 0.99, 0.999)]
    (5.6538, [5.5022, 8.6279, 10.2186, 12.2025])
    """

    lam: float
    alpha: float
    tau0: float
    size: int = 80  # batches larger than this have no weight worth the name

    @cached_property
    def tau(self) -> Floats:
        """Time of a batch by its size, 0 unused."""
        return np.asarray(self.alpha * np.arange(self.size + 1) + self.tau0, np.float64)

    @cached_property
    def pi(self) -> Floats:
        """Stationary law of the size of a batch, from K' = max(1, Poisson(lam tau_K)); index 0 is 0."""
        chain = np.zeros((self.size, self.size))
        for k in range(1, self.size + 1):
            chain[k - 1] = stats.poisson.pmf(np.arange(1, self.size + 1), self.lam * self.tau[k])
            chain[k - 1, 0] += math.exp(-self.lam * self.tau[k])
            chain[k - 1, -1] += 1 - chain[k - 1].sum()
        return np.concatenate([[0.0], stationary(chain)])

    @cached_property
    def _cycle(self) -> Floats:
        """Mean time of a batch of k and of the idle time after it."""
        cycle: Floats = self.tau + np.exp(-self.lam * self.tau) / self.lam
        return cycle

    @property
    def p_idle_met(self) -> float:
        """Probability that an arrival finds the server idle."""
        return float(self.pi @ np.exp(-self.lam * self.tau) / self.lam / (self.pi @ self._cycle))

    @property
    def busy(self) -> float:
        """Share of time that the server works."""
        return 1 - self.p_idle_met

    @property
    def batch_mean(self) -> float:
        """Mean size of a batch."""
        return float(self.pi @ np.arange(self.size + 1))

    @property
    def sojourn_mean(self) -> float:
        """Mean time from arrival to completion."""
        met = self.pi * self.tau / (self.pi @ self._cycle)
        during = self.tau / 2 + self.alpha * (1 + self.lam * self.tau) + self.tau0
        return float(self.p_idle_met * (self.alpha + self.tau0) + met @ during)

    @cached_property
    def _mixture(self) -> tuple[Floats, Floats, Floats]:
        """Weights, starts and widths of the uniform laws that an arrival during a batch is a mixture of."""
        met = self.pi * self.tau / (self.pi @ self._cycle)
        others = np.arange(self.size)
        joined = stats.poisson.pmf(others[None, :], self.lam * self.tau[:, None])
        weights = met[:, None] * joined
        starts = np.broadcast_to(self.alpha * (1 + others) + self.tau0, weights.shape)
        widths = np.broadcast_to(self.tau[:, None], weights.shape)
        heavy = weights > 1e-15
        return weights[heavy], starts[heavy], widths[heavy]

    def sojourn_sf(self, t: float) -> float:
        """Tail of the sojourn."""
        weights, starts, widths = self._mixture
        later = weights @ np.clip(1 - (t - starts) / widths, 0, 1)
        return float(later + self.p_idle_met * (t < self.alpha + self.tau0))


@dataclass(frozen=True)
class CappedBatching:
    """Takes min(waiting, b) when free; a batch of k lasts alpha k + tau0: the chain of the queue at completions.

    >>> q = CappedBatching(0.6, 0.5, 2.0, b=8)
    >>> round(q.sojourn_mean, 4), round(q.batch_mean, 4), round(q.busy, 4)
    (4.7599, 1.9663, 0.9103)
    """

    lam: float
    alpha: float
    tau0: float
    b: int
    size: int = 400  # longest queue that the chain holds

    @cached_property
    def _queue(self) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
        """Law of the queue at completions, the batch that follows each of its states, and its time."""
        length = np.arange(self.size)
        batch = np.minimum(np.maximum(length, 1), self.b)
        tau = self.alpha * batch + self.tau0
        chain = np.zeros((self.size, self.size))
        for n in length:
            left = max(n - batch[n], 0)
            chain[n, left:] = stats.poisson.pmf(np.arange(self.size - left), self.lam * tau[n])
            chain[n, -1] += 1 - chain[n].sum()
        return stationary(chain), batch, tau

    @property
    def batch_pmf(self) -> Floats:
        """Law of the size of a batch, by size from 0 to b."""
        pi, batch, _ = self._queue
        return np.asarray(np.bincount(batch, weights=pi, minlength=self.b + 1), np.float64)

    @property
    def batch_mean(self) -> float:
        """Mean size of a batch."""
        return float(self.batch_pmf @ np.arange(self.b + 1))

    @property
    def cycle_mean(self) -> float:
        """Mean time from completion to completion."""
        pi, _, tau = self._queue
        return float(pi @ tau + pi[0] / self.lam)

    @property
    def busy(self) -> float:
        """Share of time that the server works."""
        pi, _, tau = self._queue
        return float(pi @ tau / self.cycle_mean)

    @property
    def sojourn_mean(self) -> float:
        """Mean time from arrival to completion: the mean number present over the rate (Little)."""
        pi, batch, tau = self._queue
        left = np.maximum(np.arange(self.size) - batch, 0)
        present = (left + batch) * tau + self.lam * tau**2 / 2
        return float(pi @ present / self.cycle_mean / self.lam)


@dataclass(frozen=True)
class FullBatches:
    """M/M^[b,b]/1: only full batches leave, exponential service whatever the size.

    A request waits for its batch to fill, then the batch waits as in GI/M/1 with Erlang(b) gaps.

    >>> q = FullBatches(8, 6.4)
    >>> round(q.sigma, 6), round(q.formation_mean, 6), round(q.queue_mean, 6), round(q.sojourn_mean, 6)
    (0.664399, 0.546875, 1.979729, 3.526604)
    """

    b: int
    lam: float
    mu: float = 1.0

    @cached_property
    def sigma(self) -> float:
        """Probability that a full batch has to wait."""
        return GIM1(lambda s: (self.lam / (self.lam + s)) ** self.b, self.mu).sigma

    @property
    def formation_mean(self) -> float:
        """Mean wait of a request for its batch to fill."""
        return (self.b - 1) / (2 * self.lam)

    @property
    def queue_mean(self) -> float:
        """Mean wait of a full batch."""
        return self.sigma / (self.mu * (1 - self.sigma))

    @property
    def sojourn_mean(self) -> float:
        """Mean time from arrival to completion."""
        return self.formation_mean + self.queue_mean + 1 / self.mu


@dataclass(frozen=True)
class WindowAlone:
    """A window with an instance always free: the first of a batch opens it; it closes after `t` or at `b` requests.

    >>> q = WindowAlone(0.2, 5.0, 8)
    >>> round(q.batch_mean, 6), round(q.wait_mean, 6), round(q.batch_rate, 7), round(q.p_full, 6)
    (1.999989, 3.749788, 0.1000006, 8.3e-05)
    >>> q = WindowAlone(2.0, 5.0, 8)
    >>> round(q.batch_mean, 6), round(q.wait_mean, 6), round(q.batch_rate, 7), round(q.p_full, 6)
    (7.75987, 1.706829, 0.2577363, 0.869859)
    """

    lam: float
    t: float
    b: int

    @property
    def batch_pmf(self) -> Floats:
        """Law of the size of a batch, by size from 0 to b."""
        sizes = np.concatenate([[0.0], stats.poisson.pmf(np.arange(self.b), self.lam * self.t)])
        sizes[-1] = self.p_full
        return sizes

    @property
    def p_full(self) -> float:
        """Share of batches that leave full."""
        return float(stats.poisson.sf(self.b - 2, self.lam * self.t))

    @property
    def batch_mean(self) -> float:
        """Mean size of a batch."""
        return float(self.batch_pmf @ np.arange(self.b + 1))

    @property
    def batch_rate(self) -> float:
        """Batches per unit of time."""
        return self.lam / self.batch_mean

    @property
    def wait_mean(self) -> float:
        """Mean wait for the window: the integral of its tail."""
        return float(integrate.quad(self.wait_sf, 0, self.t, epsabs=1e-12)[0])

    def wait_sf(self, t: float) -> float:
        """Tail of the wait: those per batch, first and later ones, that are still waiting `t` after they came."""
        if t >= self.t or self.b == 1:
            return 0.0
        first = float(stats.poisson.cdf(self.b - 2, self.lam * t))

        def open_later(u: float) -> float:
            return float(self.lam * stats.poisson.cdf(self.b - 3, self.lam * (u + t)))

        later = integrate.quad(open_later, 0, self.t - t, epsabs=1e-12)[0]
        return (first + float(later)) / self.batch_mean


def stationary(chain: Floats) -> Floats:
    """Stationary law of a Markov chain's transition matrix, by a linear solve."""
    size = len(chain)
    equations = chain.T - np.eye(size)
    equations[-1] = 1.0
    law: Floats = np.linalg.solve(equations, np.eye(size)[-1])
    law = np.maximum(law, 0.0)
    return law / float(law.sum())


# -- arrivals that change over time ------------------------------------------------------------------


@dataclass(frozen=True)
class MMPPM1:
    """MMPP of two states before one exponential server of rate 1: a quasi-birth-death chain, solved by its matrix R.

    Latouche and Ramaswami, Introduction to Matrix Analytic Methods in Stochastic Modeling (1999), chapter 6.
    """

    rates: tuple[float, float]
    leaves: tuple[float, float]  # rate at which each state is left for the other

    @cached_property
    def _levels(self) -> tuple[Floats, Floats]:
        """(probabilities of an empty queue by state, R)."""
        lam = np.diag(self.rates)
        switch = np.array([[-self.leaves[0], self.leaves[0]], [self.leaves[1], -self.leaves[1]]])
        stay = switch - lam - np.eye(2)
        r = np.zeros((2, 2))
        while True:
            following = (lam + r @ r) @ np.linalg.inv(-stay)
            if np.abs(following - r).max() < 1e-14:
                break
            r = following
        # Balance of the empty level, with one equation replaced by all probabilities adding up to 1.
        equations = (switch - lam + r).T
        equations[1] = np.linalg.inv(np.eye(2) - r) @ np.ones(2)
        return np.linalg.solve(equations, [0.0, 1.0]), r

    @property
    def load(self) -> float:
        """Mean arrivals in a service."""
        share = self.leaves[1] / sum(self.leaves)
        return share * self.rates[0] + (1 - share) * self.rates[1]

    @property
    def sojourn_mean(self) -> float:
        """By Little's law from the mean number in system."""
        empty, r = self._levels
        beyond = np.linalg.inv(np.eye(2) - r)
        return float(empty @ r @ beyond @ beyond @ np.ones(2)) / self.load

    @property
    def p_wait(self) -> float:
        """Share of the arrivals that find the server busy."""
        empty, _ = self._levels
        return 1 - float(empty @ np.array(self.rates)) / self.load
