"""Simultaneous events are handled in the written order, whatever the order in which they were scheduled."""

import random

import pytest

from serve.policy import codes
from sim.clock import Clock

ORDER = ["ENDED", "FRONT", "CONTROL", "ANSWERED", "ARRIVAL", "DELIVERED", "GIVEN_UP", "CANCEL", "WINDOW", "DEADLINE"]
CLASSES = [getattr(codes, f"EVENT_{name}") for name in ORDER]


@pytest.mark.parametrize("seed", range(5))
def test_class_comes_before_index_before_scheduling(seed: int) -> None:
    clock, log = Clock(), []
    events = [(class_, index) for class_ in CLASSES for index in (0, 7, 2**39 + 5)]
    shuffled = random.Random(seed).sample(events, len(events))
    for class_, index in shuffled:
        clock.at(10, class_, index, lambda c, i: log.append((c, i)), class_, index)
    for _ in events:
        clock.step()
    assert log == events
    assert clock.now_ns == 10


def test_an_event_created_at_the_current_instant_joins_the_order_at_once() -> None:
    clock, log = Clock(), []

    def arrival() -> None:
        log.append("arrival")
        clock.at(clock.now_ns, codes.EVENT_ENDED, 0, log.append, "ended")

    clock.at(3, codes.EVENT_DEADLINE, 0, log.append, "deadline")
    clock.at(3, codes.EVENT_ARRIVAL, 1, arrival)
    for _ in range(3):
        clock.step()
    assert log == ["arrival", "ended", "deadline"]
