"""The scheduler against a slow independent model, and its invariants, over random event sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.policy.codes import NEVER_NS
from serve.scheduler import Batch, Decision, Drop, Request, Scheduler, SchedulerSpec
from tests.serve.scheduling import SlowModel, decided

SPECS = st.builds(
    SchedulerSpec,
    max_batch=st.integers(1, 5),
    window_ns=st.sampled_from([0, 0, 1, 3, 8]),
    max_queue=st.sampled_from([-1, 0, 1, 4, 7]),
    priority_levels=st.integers(1, 3),
    slots=st.integers(1, 2),
    max_deaths=st.sampled_from([-1, 1, 2, 2]),
)

# An event is (ns since the last one, kind, two free choices); the race reads the choices as it needs
# them. A coarse clock makes ties common, arrivals and ends are common, control is rare.
KINDS = ["arrive"] * 8 + ["end"] * 6 + ["finish"] * 3 + ["timer"] * 2 + ["cancel", "cancel", "kill", "up", "up"]
EVENTS = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 5]), st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99)),
    min_size=10,
    max_size=80,
)


class Race:
    """Scheduler and slow model side by side under one clock; each event is told to both, the answers compared."""

    def __init__(self, spec: SchedulerSpec, replicas: int) -> None:
        self.spec = spec
        self.scheduler = Scheduler(spec, replicas)
        self.model = SlowModel(spec, replicas)
        self.now_ns = 0
        self.requests: list[Request] = []
        self.batches: list[Batch] = []
        self.pending: list[Batch] = []  # ended, their finish not yet done, oldest first
        self.gone: Counter[int] = Counter()  # times each request was answered or dropped
        self.newcomer: int | None = None
        for replica in range(replicas):
            self.scheduler.up(replica)

    def tell(self, dt_ns: int, kind: str, a: int, b: int, run: bool = True) -> None:
        """One event `dt_ns` later, then, unless the front is said to be busy, rule 3."""
        self.now_ns += dt_ns
        getattr(self, kind)(a, b)
        if run or kind == "arrive":  # a newcomer is always judged at the end of its own parse
            self.run()

    def arrive(self, a: int, b: int) -> None:
        """A request of 0..max_batch + 1 rows (mostly valid), sometimes with a timeout."""
        rows = a % 7 if a % 5 == 0 else 1 + a % self.spec.max_batch
        timeout_ns = NEVER_NS if b % 2 else b % 9
        request = Request(len(self.requests), rows, b % self.spec.priority_levels, timeout_ns)
        self.requests.append(request)
        drop = self.scheduler.offer(request, self.now_ns)
        self._compare(drop, self.model.offer(request, self.now_ns))
        self.newcomer = None if drop else request.id

    def end(self, a: int, b: int) -> None:
        """A running replica ends its batch; half of the times the slot is freed in the same breath."""
        running = [replica.id for replica in self.scheduler.replicas if replica.running is not None]
        if not running:
            return
        index = running[a % len(running)]
        batch = self.scheduler.replicas[index].running
        assert batch is not None
        started = self.scheduler.ended(index, self.now_ns)
        assert self.model.ended(index) == (
            [] if started is None else [f"start r{index}: {' '.join(str(r.id) for r in started.requests)}"]
        )
        assert (batch.ended_ns, started is None or started.start_ns == self.now_ns) == (self.now_ns, True)
        self.gone.update(r.id for r in batch.requests)
        self.pending.append(batch)
        if b % 2:
            self.finish(0, 0)

    def finish(self, a: int, b: int) -> None:
        """The front does the oldest finish job."""
        if self.pending:
            batch = self.pending.pop(0)
            if batch.incarnation == self.scheduler.replicas[batch.replica].incarnation:
                self.model.finished(batch.replica)
            self.scheduler.finished(batch, self.now_ns)

    def timer(self, a: int, b: int) -> None:
        """The next timer, if it is due within a few ns: a deadline's own event, or the window's run."""
        due = self.scheduler.wake_ns(self.now_ns)
        if due - self.now_ns > 10:
            return
        self.now_ns = max(self.now_ns, due)
        if due == self.scheduler.next_deadline_ns:
            waiting = [r for r in self.requests if r.waiting and r.deadline_ns == due]
            request = min(waiting, key=lambda r: r.id)
            self._compare(self.scheduler.deadline(request, due), self.model.deadline(request.id, due))

    def cancel(self, a: int, b: int) -> None:
        """A client gives up, whatever became of its request."""
        valid = [r for r in self.requests if r.number >= 0]
        if valid:
            request = valid[a % len(valid)]
            self._compare(self.scheduler.cancel(request, self.now_ns), self.model.cancel(request.id, self.now_ns))

    def kill(self, a: int, b: int) -> None:
        """A replica dies, running, idle or down."""
        index = a % len(self.scheduler.replicas)
        self._compare(self.scheduler.died(index, self.now_ns), self.model.died(index, self.now_ns))

    def up(self, a: int, b: int) -> None:
        """A dead replica's successor is ready; rarely, one is retired or the node drains instead."""
        index = a % len(self.scheduler.replicas)
        self.scheduler.up(index)
        self.model.replicas[index].up = True
        if b == 0:
            self.scheduler.drain()
            self.model.draining = True
        if b == 1:
            self.scheduler.drain_replica(index)
            self.model.replicas[index].draining = True

    def run(self) -> None:
        """Rule 3 on both sides; then the invariants that hold after each event."""
        decision = self.scheduler.run(self.now_ns)
        expected = self.model.run(self.now_ns, self.newcomer)
        self.newcomer = None
        self._compare(decision, expected)
        self.batches += decision.batches
        self.check_batches(decision.batches)
        self.check_state()

    def check_batches(self, batches: list[Batch]) -> None:
        """Rule 2: at most max_batch rows, and nobody who waits should have left before one who left."""
        for batch in batches:
            assert 1 <= sum(r.rows for r in batch.requests) == batch.rows <= self.spec.max_batch
            order = [(r.priority, r.number) for r in batch.requests]
            assert order == sorted(order)
            assert all((r.priority, r.number) > order[-1] for r in self.requests if r.waiting)

    def check_state(self) -> None:
        """Rule 5's invariant, the counters, the next wake, and conservation."""
        scheduler = self.scheduler
        waiting = [r for r in self.requests if r.waiting]
        assert self.model.may_leave(self.now_ns) is None, "a batch that may leave coexists with a slot that may take it"
        assert not scheduler.may_dispatch(self.now_ns), "nor does the scheduler itself see one"
        assert (scheduler.waiting_requests, scheduler.waiting_rows) == (len(waiting), sum(r.rows for r in waiting))
        assert all(r.deadline_ns >= self.now_ns for r in waiting)
        assert scheduler.wake_ns(self.now_ns) >= self.now_ns
        assert scheduler.next_deadline_ns == min((r.deadline_ns for r in waiting), default=NEVER_NS)
        assert self.places() == Counter(range(len(self.requests))), "each request is in one place, once"
        assert all(len(replica.batches) <= self.spec.slots for replica in scheduler.replicas)

    def places(self) -> Counter[int]:
        """By request, in how many places it is or was: waiting, in a batch that runs or will, answered, dropped."""
        batches = [batch for replica in self.scheduler.replicas for batch in replica.batches if batch.ended_ns < 0]
        held = [request for batch in batches for request in batch.requests]
        return Counter(r.id for r in [*held, *(r for r in self.requests if r.waiting)]) + self.gone

    def _compare(self, decision: Decision | Drop | list[Drop] | None, expected: list[str]) -> None:
        assert decided(decision, self.now_ns) == expected
        for drop in self._drops(decision):
            self.gone[drop.request.id] += 1

    @staticmethod
    def _drops(decision: Decision | Drop | list[Drop] | None) -> Iterator[Drop]:
        if isinstance(decision, Decision):
            yield from decision.drops
        elif isinstance(decision, Drop):
            yield decision
        else:
            yield from decision or []


@settings(max_examples=600, deadline=None)
@given(spec=SPECS, replicas=st.integers(1, 3), events=EVENTS)
def test_the_scheduler_decides_as_the_slow_model_after_every_event(
    spec: SchedulerSpec, replicas: int, events: list[tuple[int, str, int, int]]
) -> None:
    """A front that costs nothing: rule 3 runs after each event."""
    race = Race(spec, replicas)
    for event in events:
        race.tell(*event)
    assert race.places() == Counter(range(len(race.requests)))


@settings(max_examples=250, deadline=None)
@given(spec=SPECS, replicas=st.integers(1, 3), events=st.lists(st.tuples(EVENTS.map(lambda e: e[:3]), st.booleans())))
def test_the_scheduler_decides_as_the_slow_model_behind_a_busy_front(
    spec: SchedulerSpec, replicas: int, events: list[tuple[list[tuple[int, str, int, int]], bool]]
) -> None:
    """Several events pass before rule 3 is run: timers are late, and expiry begins each run."""
    race = Race(spec, replicas)
    for burst, run in events:
        for event in burst:
            race.tell(*event, run=run)
    race.run()
    assert race.places() == Counter(range(len(race.requests)))


@settings(max_examples=300, deadline=None)
@given(spec=SPECS, replicas=st.integers(1, 3), events=EVENTS)
def test_a_drained_node_answers_or_drops_everything_it_admitted(
    spec: SchedulerSpec, replicas: int, events: list[tuple[int, str, int, int]]
) -> None:
    """Rule 12: whatever happened before, once replicas are up and end their batches the node runs empty."""
    race = Race(spec, replicas)
    for event in events:
        race.tell(*event)
    for replica in race.scheduler.replicas:
        replica.draining = race.model.replicas[replica.id].draining = False
        race.up(replica.id, 2)
    race.up(0, 0)
    race.run()
    while race.scheduler.in_flight:
        race.tell(1, "end", 0, 0)
        race.tell(0, "finish", 0, 0)
    assert race.scheduler.waiting_requests == 0
    assert race.gone == Counter(range(len(race.requests)))


@pytest.mark.parametrize("seed", range(40))
def test_long_random_histories_agree_with_the_slow_model(seed: int) -> None:
    """Queues and put-backs that hypothesis' short histories seldom build up."""
    rng = np.random.default_rng(seed)
    spec = SchedulerSpec(
        max_batch=int(rng.integers(2, 9)),
        window_ns=int(rng.choice([0, 2, 6])),
        max_queue=int(rng.choice([-1, 12, 30])),
        priority_levels=int(rng.integers(1, 5)),
        slots=int(rng.integers(1, 3)),
    )
    race = Race(spec, int(rng.integers(1, 5)))
    for _ in range(400):
        kind = str(rng.choice(KINDS))
        race.tell(int(rng.choice([0, 0, 1, 3])), kind, int(rng.integers(100)), int(rng.integers(2, 100)))
    assert race.places() == Counter(range(len(race.requests)))
