"""Point processes: the instants at which requests arrive, in chunks whose size changes no value.

A process draws from streams named by their purpose (`gaps`, `states`, ...), each from its beginning on,
so that the n-th draw of a stream belongs to the n-th request, state or session whatever the chunk.
Instants are whole ns from the start of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, int], Ints]
Draws = Callable[[str], np.random.Generator]
"""The stream of one purpose, from its beginning."""

SPAN_MAX_NS = float(2**61)
"""Longer spans would leave int64; no run lasts 73 years."""

_SUM_MAX_NS = 2**62


class Process(Protocol):
    """How requests of a class arrive in a run that begins at 0."""

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Ascending instants, about `chunk` at a time, at least all before `duration_ns`; perhaps endless."""

    def requests(self, duration_ns: int) -> float:
        """Requests to be expected in a run so long."""


def whole_ns(spans_ns: npt.NDArray[np.float64]) -> Ints:
    """Spans rounded to whole ns, so that sums of them do not depend on the order of the addition."""
    return np.rint(np.minimum(spans_ns, SPAN_MAX_NS)).astype(np.int64)


def before_end(process: Process, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
    """The instants of a process before the end of the run, in chunks that are not empty."""
    for instants in process.instants(draws, duration_ns, chunk):
        cut = int(np.searchsorted(instants, duration_ns))
        if cut:
            yield instants[:cut]
        if cut < len(instants):
            return


def within(draws: Draws, part: str) -> Draws:
    """The streams of a part of a process, apart from those of all others."""
    return lambda purpose: draws(f"{part}.{purpose}")


@dataclass(frozen=True, slots=True)
class Fixed:
    """Instants that are given, in ascending order."""

    at_ns: Ints

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """They themselves."""
        for start in range(0, len(self.at_ns), chunk):
            yield self.at_ns[start : start + chunk]

    def requests(self, duration_ns: int) -> float:
        """Those before the end of the run."""
        return float(np.searchsorted(self.at_ns, duration_ns))


@dataclass(frozen=True, slots=True)
class Periodic:
    """Equal gaps, the first request after one gap."""

    period_ns: float

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Multiples of the period, each rounded by itself; endless."""
        numbers = np.arange(1, chunk + 1)
        while True:
            # Later ones would leave int64; no run lasts so long.
            yield np.rint(np.minimum(numbers * self.period_ns, _SUM_MAX_NS)).astype(np.int64)
            numbers = numbers + chunk

    def requests(self, duration_ns: int) -> float:
        """One each period."""
        return duration_ns / self.period_ns


@dataclass(frozen=True, slots=True)
class Renewal:
    """Independent gaps of one law, the first request after one gap."""

    gaps: Draw  # the next gaps, in ns
    rate_rps: float

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Sums of the gaps; endless."""
        rng, last_ns = draws("gaps"), 0
        count = max(1, min(chunk, _SUM_MAX_NS // duration_ns))  # the sum of so many clipped gaps fits int64
        while True:
            clipped = np.minimum(self.gaps(rng, count), duration_ns)
            yield (instants := last_ns + np.cumsum(clipped))
            last_ns = int(instants[-1])

    def requests(self, duration_ns: int) -> float:
        """By the mean gap."""
        return self.rate_rps * duration_ns * 1e-9


@dataclass(frozen=True, slots=True)
class Superposed:
    """Several processes side by side, each with streams of its own."""

    members: tuple[Process, ...]

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """The instants of all members in one order."""
        return merged(
            [
                member.instants(within(draws, str(number)), duration_ns, chunk)
                for number, member in enumerate(self.members)
            ]
        )

    def requests(self, duration_ns: int) -> float:
        """Those of all members."""
        return sum(member.requests(duration_ns) for member in self.members)


@dataclass(frozen=True, slots=True)
class Thinned:
    """The part of a process whose requests draw a number of [low, high) out of [0, 1).

    Parts of one process with the same streams share its requests out: none comes in two parts that do not overlap.
    """

    of: Process
    low: float
    high: float

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """The instants of the part before the end of the run; a chunk may be empty."""
        numbers = draws("part")
        for instants in before_end(self.of, within(draws, "of"), duration_ns, chunk):
            drawn = numbers.random(len(instants))
            yield instants[(drawn >= self.low) & (drawn < self.high)]

    def requests(self, duration_ns: int) -> float:
        """The share of them all."""
        return (self.high - self.low) * self.of.requests(duration_ns)


def merged(feeds: Sequence[Iterator[Ints]]) -> Iterator[Ints]:
    """Ascending arrays from several feeds as arrays of one, holding about a chunk of each feed.

    What lies at or before every feed's last instant so far may go: nothing earlier can follow.
    """
    held = {i: first for i, feed in enumerate(feeds) if (first := _next(feed)) is not None}
    while held:
        horizon = min(int(own[-1]) for own in held.values())
        cuts = {i: int(np.searchsorted(own, horizon, side="right")) for i, own in held.items()}
        yield np.sort(np.concatenate([held[i][:cut] for i, cut in cuts.items()]))
        for i, cut in cuts.items():
            rest = held[i][cut:] if cut < len(held[i]) else _next(feeds[i])
            if rest is None:
                del held[i]
            else:
                held[i] = rest


def _next(feed: Iterator[Ints]) -> Ints | None:
    """The next array of a feed that is not empty; None at its end."""
    return next((chunk for chunk in feed if len(chunk)), None)
