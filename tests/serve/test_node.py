"""The node apart from its engine; `tests/twin/test_live_node.py` holds all its decisions to the simulator's."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve.node import Node
from serve.policy.codes import NEVER_NS, REASON_WINDOW
from serve.scheduler import Batch, Scheduler, SchedulerSpec
from serve.served import LiveRequest, Statistics


@dataclass
class Port:
    """Keeps the batches that were sent."""

    sent: list[Batch] = field(default_factory=list)

    def send(self, batch: Batch, busy: int) -> None:
        self.sent.append(batch)

    def busy(self) -> int:
        return len(self.sent)


def test_a_window_that_ends_before_the_timer_is_set_still_wakes() -> None:
    now_ns = [0]
    port = Port()
    node = Node(Scheduler(SchedulerSpec(max_batch=4, window_ns=100), 1), Statistics(), port, lambda: now_ns[0])
    node.up(0)
    assert node.wake_ns == NEVER_NS
    now_ns[0] = 1000
    node.submit(LiveRequest(id=1, rows=1, arrival_ns=990))
    now_ns[0] = 1200  # a slow front: the window ends between its decision and its setting the timer
    assert node.wake_ns == 1100
    node.wake()
    assert [b.reason for b in port.sent] == [REASON_WINDOW]


def test_a_window_that_ends_while_no_slot_is_free_asks_for_no_timer() -> None:
    now_ns = [1000]
    node = Node(Scheduler(SchedulerSpec(max_batch=2, window_ns=100), 1), Statistics(), Port(), lambda: now_ns[0])
    node.up(0)
    node.submit(LiveRequest(id=1, rows=2, arrival_ns=1000))
    node.submit(LiveRequest(id=2, rows=1, arrival_ns=1000))
    now_ns[0] = 1100
    node.wake()
    assert node.wake_ns == NEVER_NS, "the end of the running batch is what wakes it, not a timer in a circle"
