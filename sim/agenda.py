"""The slow clock's agenda: what control does, each at its instant, in the written order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import IntEnum

from serve.policy.codes import NEVER_NS


class Order(IntEnum):
    """Order of control's events at one instant; among equals they come as they were asked for."""

    FAILURE = 0
    HEAL = 1
    NOTICE = 2
    MACHINE = 3
    READY = 4
    SCRAPE = 5
    TICK = 6
    ROLLOUT = 7
    ROTATE = 8
    LEAVE = 9


class Agenda:
    """Events that are yet to come."""

    def __init__(self) -> None:
        self._events: list[tuple[int, int, int, Callable[[], None]]] = []
        self._asked = 0

    @property
    def next_ns(self) -> int:
        """Instant of the next event; NEVER_NS if there is none."""
        return self._events[0][0] if self._events else NEVER_NS

    def at(self, at_ns: int, order: Order, act: Callable[[], None]) -> None:
        """Do something at an instant."""
        self._asked += 1
        heapq.heappush(self._events, (at_ns, order, self._asked, act))

    def act(self, at_ns: int) -> None:
        """Do all that is to be done at an instant, which has come."""
        while self.next_ns == at_ns:
            heapq.heappop(self._events)[3]()
