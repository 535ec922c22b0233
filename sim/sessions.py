"""Sessions: each begins at an instant of some process and sends several requests, whatever the server does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.point_process import Draws, Ints, Process, before_end, whole_ns, within


@dataclass(frozen=True, slots=True)
class Clustered:
    """The requests of all sessions, in the order of their instants.

    The first request of a session comes as it begins, each further one a think time after the one before.
    """

    begins: Process
    requests_mean: float
    geometric: bool  # requests of a session: geometric from 1 on, else all as the mean
    think_ns: int  # mean
    exponential: bool  # think times: exponential, else all as the mean

    def instants(self, draws: Draws, duration_ns: int, chunk: int) -> Iterator[Ints]:
        """Those of the run; a request may go once no later session can precede it."""
        lengths, thinks = draws("lengths"), draws("thinks")
        waiting = np.zeros(0, np.int64)
        sessions = max(1, int(chunk / self.requests_mean))
        for begun in before_end(self.begins, within(draws, "begin"), duration_ns, sessions):
            fresh = self._requests(begun, lengths, thinks, duration_ns)
            waiting = np.sort(np.concatenate([waiting, fresh[fresh < duration_ns]]))
            ready = int(np.searchsorted(waiting, begun[-1]))
            if ready:
                yield waiting[:ready]
            waiting = waiting[ready:]
        if len(waiting):
            yield waiting

    def _requests(
        self, begun: Ints, lengths: np.random.Generator, thinks: np.random.Generator, duration_ns: int
    ) -> Ints:
        """Requests of sessions that begin at these instants, session by session; not all of those after the run."""
        numbers = self._lengths(lengths, len(begun))
        first = np.cumsum(numbers) - numbers
        pause_ns = np.zeros(int(numbers.sum()), np.int64)
        further = np.ones(len(pause_ns), bool)
        further[first] = False
        pause_ns[further] = np.minimum(self._thinks(thinks, len(pause_ns) - len(begun)), duration_ns)
        # Sums of whole ns may leave int64, and come back in the difference where a request lies in the run;
        # sums of floats tell which do.
        since_ns, roughly = np.cumsum(pause_ns), np.cumsum(pause_ns, dtype=np.float64)
        since_ns -= np.repeat(since_ns[first], numbers)
        roughly -= np.repeat(roughly[first], numbers)
        start_ns = np.repeat(begun, numbers)
        near = start_ns + roughly < 1.001 * duration_ns
        requests: Ints = start_ns[near] + since_ns[near]
        return requests

    def _lengths(self, rng: np.random.Generator, sessions: int) -> Ints:
        if self.geometric:
            return rng.geometric(1 / self.requests_mean, sessions)
        return np.full(sessions, round(self.requests_mean), np.int64)

    def _thinks(self, rng: np.random.Generator, count: int) -> Ints:
        if self.exponential:
            return whole_ns(rng.standard_exponential(count) * self.think_ns)
        return np.full(count, self.think_ns, np.int64)

    def requests(self, duration_ns: int) -> float:
        """All requests of the sessions that begin in the run, also those that come after it."""
        return self.begins.requests(duration_ns) * self.requests_mean
