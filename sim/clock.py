"""SimPy's clock in integer nanoseconds, with the written order of simultaneous events as its priority."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy

PRIORITY_STRIDE = 2**80
"""SimPy priority of an event: (class + 1) * stride + index, index < stride; a plain timeout has priority 1."""


class Clock:
    """The only way into SimPy's queue."""

    def __init__(self) -> None:
        self._env = simpy.Environment(initial_time=0)

    @property
    def now_ns(self) -> int:
        """Instant of the last event."""
        return int(self._env.now)

    def at(self, at_ns: int, class_: int, index: int, call: Callable[..., None], *args: Any) -> None:
        """Schedule `call(*args)` as an event of this class (EVENT_* of `serve.policy.codes`) and index."""
        event = simpy.Event(self._env)
        event._ok, event._value = True, None
        event.callbacks.append(lambda _: call(*args))
        priority: Any = (class_ + 1) * PRIORITY_STRIDE + index
        self._env.schedule(event, priority, at_ns - self._env.now)

    def step(self) -> None:
        """Handle the next event."""
        self._env.step()
