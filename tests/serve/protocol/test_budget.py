"""Rule 10 at the front: who is refused from the header alone, under a clock of the test's own."""

import numpy as np

from serve.policy.codes import OUTCOME_FULL, REASON_FRONT
from tests.serve.protocol.client import binary_request, infer
from tests.serve.protocol.stub_engine import StubEngine, served_model
from tests.serve.protocol.tape import converse

REQUEST = infer(*binary_request(np.ones((1, 4), np.float32)))
MS = 1_000_000


class ClockedEngine(StubEngine):
    """Every request costs a millisecond; the budget is four and a half. An iteration begins when told."""

    def __init__(self) -> None:
        super().__init__(served_model())
        self.clock_ns = self.iteration_began_ns = 0

    def begin_iteration(self, after_ns: int) -> None:
        self.clock_ns += after_ns
        self.iteration_began_ns = self.clock_ns

    def iteration_ns(self) -> int:
        return self.iteration_began_ns

    def over_budget(self, arrival_ns: int) -> bool:
        return self.clock_ns - arrival_ns > 4.5 * MS

    def submit(self, *args, **kwargs):
        self.clock_ns += MS
        return super().submit(*args, **kwargs)


def test_what_one_iteration_cannot_read_within_the_budget_is_refused():
    replies, _, engine = converse([REQUEST * 8], engine=ClockedEngine())
    assert [r.status for r in replies] == [200] * 5 + [503] * 3
    assert engine.refused == [(OUTCOME_FULL, REASON_FRONT, "")] * 3


def test_the_next_iteration_starts_afresh():
    engine = ClockedEngine()

    def go_on(connection):
        engine.begin_iteration(after_ns=0)
        connection.data_received(REQUEST * 5)

    replies, _, _ = converse([REQUEST * 6], go_on, engine)
    assert [r.status for r in replies] == [200] * 5 + [503] + [200] * 5


def test_a_client_that_sends_slowly_is_not_refused_for_it_and_its_arrival_is_its_first_byte():
    engine = ClockedEngine()

    def rest(connection):
        for byte in REQUEST[1:]:
            engine.begin_iteration(after_ns=10 * MS)
            connection.data_received(bytes([byte]))

    (reply,), _, _ = converse([REQUEST[:1]], rest, engine)
    assert reply.status == 200
    assert engine.submitted[0].arrival_ns == 0
