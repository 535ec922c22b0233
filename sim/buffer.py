"""The reference's buffer (rule 16): attempts that wait at the router while there is no node for them."""

from __future__ import annotations

from serve.policy.codes import NEVER_NS
from serve.policy.scaling.metering import Counters, Gauges, Scrape
from serve.scheduler import Request


class Buffer:
    """First in (priority, arrival), first out; `rows_max` rows may wait."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._waiting: list[Request] = []
        self._rows = self._area_ns = self._changed_ns = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, attempt: Request, now_ns: int) -> bool:
        """An attempt waits from now on, if there is room for its rows."""
        if self._rows + attempt.rows > self._rows_max:
            return False
        self._pass(now_ns)
        attempt.payload.state.buffered = True
        attempt.payload.arrival_ns = now_ns
        self._waiting.append(attempt)
        self._rows += attempt.rows
        return True

    def remove(self, attempt: Request, now_ns: int) -> None:
        """It waits no longer."""
        self._pass(now_ns)
        attempt.payload.state.buffered = False
        self._waiting.remove(attempt)
        self._rows -= attempt.rows

    def pop(self, now_ns: int) -> Request:
        """The next one; its timeout has run meanwhile."""
        attempt = min(self._waiting, key=lambda waiting: waiting.priority)
        self.remove(attempt, now_ns)
        if attempt.timeout_ns < NEVER_NS:
            attempt.timeout_ns = max(0, attempt.timeout_ns - (now_ns - attempt.payload.arrival_ns))
        return attempt

    def scrape(self, now_ns: int) -> Scrape:
        """What is counted of it, now."""
        self._pass(now_ns)
        counters = Counters(ongoing_ns=self._area_ns, waiting_ns=self._area_ns)
        return Scrape(now_ns, counters, Gauges(len(self), len(self)))

    def _pass(self, now_ns: int) -> None:
        self._area_ns += len(self) * (now_ns - self._changed_ns)
        self._changed_ns = now_ns
