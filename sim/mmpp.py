"""Markov-modulated Poisson processes: the chain of states, its moments, and requests at the rates of its path.

Source: W. Fischer and K. Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook",
Performance Evaluation 18(2), 1993.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sim.curves import Floats, RateCurve
from sim.laws import Mmpp
from sim.point_process import Draws, Ints, whole_ns
from sim.time_change import TimeChanged

BLOCK = 1024
"""Stays in states that are drawn at a time."""


@dataclass(frozen=True, slots=True)
class Chain:
    """States with their rates and mean dwell times; `next` is by row the law of the state after each."""

    rate_rps: Floats  # (n,)
    dwell_s: Floats  # (n,)
    next: Floats  # (n, n)

    @classmethod
    def of(cls, law: Mmpp) -> Chain:
        """The chain that a scenario states; without transitions its states follow in turn."""
        count = len(law.states)
        following = np.roll(np.eye(count), 1, axis=1) if law.next is None else np.array(law.next)
        following = following / following.sum(axis=1, keepdims=True)
        rates = np.array([state.rate for state in law.states])
        return cls(rates, np.array([state.dwell * 1e-9 for state in law.states]), following)

    @property
    def generator(self) -> Floats:
        """(n, n) rates of the changes of state, per second."""
        return np.asarray((self.next - np.eye(len(self.next))) / self.dwell_s[:, np.newaxis], np.float64)

    @property
    def shares(self) -> Floats:
        """Share of time in each state."""
        equations = self.generator.T.copy()
        equations[-1] = 1.0
        law: Floats = np.linalg.solve(equations, np.eye(len(equations))[-1])
        law = np.maximum(law, 0.0)
        return law / float(law.sum())

    @property
    def mean_rps(self) -> float:
        """Mean rate."""
        return float(self.shares @ self.rate_rps)

    @property
    def dispersion(self) -> float:
        """Variance over mean of the counts of long times: 1 + 2 / rate x the integral of the rate's autocovariance.

        The integral is p R D r, with p the shares, R and r the rates, and D the chain's deviation matrix
        (1 p - Q)^-1 - 1 p.
        """
        shares, rates = self.shares, self.rate_rps
        ones = np.outer(np.ones(len(shares)), shares)
        deviation = np.linalg.solve(ones - self.generator, rates) - ones @ rates
        return 1 + 2 * float((shares * rates) @ deviation) / self.mean_rps

    def path(self, draws: Draws, duration_ns: int) -> RateCurve:
        """The rate over a run, which begins in a state by the shares of time, as if it had gone on for ever."""
        states, dwells = draws("states"), draws("dwells")
        edges = [_edges(row) for row in self.next]
        state, until_ns = bisect_right(_edges(self.shares), states.random()), 0
        visited, ends_ns = [], []
        while until_ns < duration_ns:
            walked, state = _walk(edges, state, states.random(BLOCK).tolist())
            spans_ns = whole_ns(dwells.standard_exponential(BLOCK) * (self.dwell_s[walked] * 1e9))
            ends = until_ns + np.cumsum(np.minimum(spans_ns, duration_ns))
            # Up to the first end beyond the run; later sums may leave int64.
            beyond = ends >= duration_ns
            count = int(np.argmax(beyond)) + 1 if beyond.any() else BLOCK
            visited.append(walked[:count])
            ends_ns.append(ends[:count])
            until_ns = int(ends[count - 1])
        return _curve(self.rate_rps[np.concatenate(visited)], np.concatenate(ends_ns))


def _edges(law: Floats) -> list[float]:
    """Cumulative probabilities, the last of them exactly 1."""
    return [*(np.cumsum(law) / law.sum())[:-1].tolist(), 1.0]


def _walk(edges: Sequence[Sequence[float]], state: int, chances: Sequence[float]) -> tuple[Ints, int]:
    """As many states as there are chances, from `state` on, and the one after them."""
    walked = np.zeros(len(chances), np.int64)
    for number, chance in enumerate(chances):
        walked[number] = state
        state = bisect_right(edges[state], chance)
    return walked, state


def _curve(rates: Floats, ends_ns: Ints) -> RateCurve:
    """Rates that each last until their end, without those that have no length."""
    lasting = np.diff(ends_ns, prepend=0) > 0
    return RateCurve.of(np.concatenate([[0], ends_ns[lasting]]), rates[lasting], rates[lasting])


@dataclass(frozen=True, slots=True)
class Modulated:
    """A Poisson process at the rate of a chain's state; each run has a path of its own."""

    chain: Chain

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Those of the run."""
        return TimeChanged(self.chain.path(draws, duration_ns)).instants(draws, duration_ns, chunk)

    def requests(self, duration_ns: int) -> float:
        """By the mean rate."""
        return self.chain.mean_rps * duration_ns * 1e-9
