"""What holds exactly on every run, to the nanosecond: conservation, Little's law, closed loops, order, D/D queues."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from serve import records
from serve.policy.codes import NEVER_NS, OUTCOME_OK
from serve.records import Rows
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import Closed, Node, Requests, Service, StopCode, Tally
from sim.reference import Reference
from sim.rng import stream, uniform_bits
from tests.sim.oracle_cases import UNIT_NS, Case, Engine, cases, constant, gamma, limits, service_table

Ints = npt.NDArray[np.int64]

ENGINES = pytest.mark.parametrize("engine", ["fast", "reference"])
OPEN = [case for case in cases() if not case.clients]
CLOSED = [case for case in cases() if case.clients]
COUNT: dict[Engine, int] = {"fast": 20_000, "reference": 800}


def _plane(engine: Engine, node: Node, closed: Closed | None = None) -> DataPlane | Reference:
    return Reference(node, 1, closed) if engine == "reference" else DataPlane(node, 1, closed, keep="both")


def _run(engine: Engine, case: Case, count: int, node: Node | None = None) -> tuple[Rows, Tally]:
    """Rows and tally of one replication of an open case, all of it; on another node if given."""
    plane = _plane(engine, node or case.node(engine))
    for replica in range((node or case.node(engine)).replicas):
        plane.ready(replica)
    plane.feed(case.requests(0, count))
    plane.end_feed()
    assert plane.advance(2**60).code == StopCode.UNTIL
    return plane.rows(), plane.tally()


@ENGINES
@pytest.mark.parametrize("case", OPEN, ids=[case.name for case in OPEN])
def test_requests_are_conserved_and_littles_law_holds_on_every_run(engine: Engine, case: Case) -> None:
    """Arrivals = all that left, once each; their stays add up to the integral of the number present."""
    rows, tally = _run(engine, case, COUNT[engine])
    assert rows[:, records.REQUEST].tolist() == list(range(COUNT[engine]))
    assert int(tally.outcomes.sum()) == COUNT[engine]
    assert np.bincount(rows[:, records.OUTCOME], minlength=8).tolist() == tally.outcomes.sum(axis=(0, 1)).tolist()
    stays_s = float((rows[:, records.ANSWERED_NS] - rows[:, records.ARRIVAL_NS]).sum()) / 1e9
    assert float(tally.in_system_s.sum()) == pytest.approx(stays_s, rel=1e-9)


@ENGINES
@pytest.mark.parametrize("case", OPEN, ids=[case.name for case in OPEN])
def test_no_replica_idles_while_a_request_may_leave_and_equals_start_in_order(engine: Engine, case: Case) -> None:
    """Rule 5's invariant, one slot: whoever waited without a window found every replica busy. Rule 2: no overtaking."""
    rows, _ = _run(engine, case, COUNT[engine])
    ridden = rows[rows[:, records.START_NS] >= 0]
    for priority in np.unique(ridden[:, records.PRIORITY]):
        mine = ridden[ridden[:, records.PRIORITY] == priority]
        assert np.all(np.diff(mine[:, records.START_NS]) >= 0)
    if case.limits.window_ns or case.parse:  # with a front that works, a slot is held until its finish
        return
    first = np.unique(ridden[:, records.BATCH], return_index=True)[1]
    starts = np.sort(ridden[first, records.START_NS])
    ends = np.sort(ridden[first, records.DONE_NS])
    waited = ridden[ridden[:, records.START_NS] > ridden[:, records.ENQUEUE_NS]]
    at = waited[:, records.ENQUEUE_NS]
    running = np.searchsorted(starts, at, side="right") - np.searchsorted(ends, at, side="right")
    assert (len(waited) > 0) == (case.limits.max_queue != 0)
    assert np.all(running == case.replicas)


@ENGINES
@pytest.mark.parametrize("case", CLOSED, ids=[case.name for case in CLOSED])
def test_a_closed_loop_is_a_chain_of_thinking_and_waiting(engine: Engine, case: Case) -> None:
    """N = X (R + Z) exactly: each client's cycles of response and thinking tile its time without a gap."""
    closed = case.closed()
    assert closed is not None
    plane = _plane(engine, case.node(engine), closed)
    for replica in range(case.replicas):
        plane.ready(replica)
    plane.end_feed()
    plane.feed_closed(case.requests(0, COUNT[engine]))
    stop = plane.advance(2**60)
    assert stop.code == StopCode.STARVED, "it ran until a client had used up its requests"
    rows = plane.rows()
    client = (rows[:, records.REQUEST] - closed.first_id) % case.clients
    for one in range(case.clients):
        mine = rows[client == one]
        assert len(mine) > 10
        assert np.array_equal(mine[1:, records.ARRIVAL_NS], mine[:-1, records.ANSWERED_NS] + closed.think_ns[one])


@ENGINES
def test_one_more_replica_delays_nobody(engine: Engine) -> None:
    """Common random numbers: each request keeps its arrival and its service time, so first come first served
    starts everybody at least as early (a coupling that holds for any law)."""
    case = next(case for case in OPEN if case.name == "M/G/1, gamma SCV 4, rho 0.7")
    starts = []
    for replicas in (1, 2, 3, 5):
        node = Node(case.limits, replicas, service_table(case.laws, 12))
        starts.append(_run(engine, case, COUNT[engine], node)[0][:, records.START_NS])
    for fewer, more in itertools.pairwise(starts):
        assert np.all(more <= fewer)
        assert np.any(more < fewer)


# -- constant arrivals and constant service: exact to the nanosecond -----------------------------------------


def _constant(arrival_ns: Ints, rows: int = 1) -> Requests:
    never = np.full(len(arrival_ns), NEVER_NS)
    zeros = np.zeros(len(arrival_ns), np.int64)
    return Requests(arrival_ns, zeros + rows, zeros, zeros, never, never, zeros, zeros[None, :])


def _served(engine: Engine, spec: SchedulerSpec, replicas: int, batch_ns: list[int], arrival_ns: Ints) -> Rows:
    service = Service(np.array([0, *batch_ns]), bits=0, rows_max=len(batch_ns), pressure_max=0)
    plane = _plane(engine, Node(spec, replicas, service))
    for replica in range(replicas):
        plane.ready(replica)
    plane.feed(_constant(arrival_ns))
    plane.end_feed()
    assert plane.advance(2**60).code == StopCode.UNTIL
    rows = plane.rows()
    assert np.all(rows[:, records.OUTCOME] == OUTCOME_OK)
    return rows


@ENGINES
@pytest.mark.parametrize(("c", "gap_ns", "service_ns"), [(1, 1000, 999), (1, 1000, 1000), (3, 1000, 2999)])
def test_nobody_waits_in_a_d_d_c_queue_with_room_to_spare(engine: Engine, c: int, gap_ns: int, service_ns: int) -> None:
    """At full load too: a batch ends before the arrival of the same instant."""
    rows = _served(engine, limits(), c, [service_ns], np.arange(1, 500) * gap_ns)
    assert np.array_equal(rows[:, records.START_NS], rows[:, records.ARRIVAL_NS])
    assert np.array_equal(rows[:, records.ANSWERED_NS], rows[:, records.ARRIVAL_NS] + service_ns)


@ENGINES
@pytest.mark.parametrize("c", [1, 2, 5])
def test_an_overloaded_d_d_c_queue_grows_by_the_excess(engine: Engine, c: int) -> None:
    """Request n of a burst at one instant starts after n // c services."""
    rows = _served(engine, limits(), c, [777], np.zeros(300, np.int64))
    assert np.array_equal(rows[:, records.START_NS], np.arange(300) // c * 777)
    assert np.array_equal(rows[:, records.REPLICA], np.arange(300) % c)


@ENGINES
def test_saturated_throughput_is_replicas_x_batch_over_batch_time(engine: Engine) -> None:
    """The first two of a burst leave alone, since each event is handled to its end before the next."""
    rows = _served(engine, limits(max_batch=8), 2, [1000 + 100 * k for k in range(1, 9)], np.zeros(1602, np.int64))
    assert int(rows[:, records.DONE_NS].max()) == 1100 + 1600 // (2 * 8) * 1800


@ENGINES
def test_a_window_under_constant_arrivals_makes_equal_batches(engine: Engine) -> None:
    """Gap 300, window 1000: arrivals 0, 300, 600, 900 leave at 1000; the next, at 1200, opens a new window."""
    rows = _served(engine, limits(max_batch=8, window=1000 / UNIT_NS), 4, [50] * 8, np.arange(400) * 300)
    assert np.array_equal(rows[:, records.BATCH], np.arange(400) // 4)
    assert np.array_equal(rows[:, records.DISPATCH_NS], np.arange(400) // 4 * 1200 + 1000)


@ENGINES
def test_a_window_due_exactly_at_an_arrival_takes_it_along(engine: Engine) -> None:
    """Gap 500, window 1000: the third arrival comes at the instant of the window's end, and before it."""
    rows = _served(engine, limits(max_batch=8, window=1000 / UNIT_NS), 4, [50] * 8, np.arange(300) * 500)
    assert np.array_equal(rows[:, records.BATCH], np.arange(300) // 3)
    assert np.array_equal(rows[:, records.DISPATCH_NS], np.arange(300) // 3 * 1500 + 1000)


@ENGINES
def test_busy_time_is_the_sum_of_service_times(engine: Engine) -> None:
    """Utilisation law: busy time = batches x their time, whatever the arrivals."""
    table = service_table((constant(0.5), gamma(1.0)), 10)
    count = 500
    arrival = np.cumsum(stream(0, 0, "busy", "gaps").integers(0, 2 * UNIT_NS, count))
    requests = _constant(arrival)
    plane = _plane(engine, Node(limits(max_batch=2), 2, table))
    plane.ready(0)
    plane.ready(1)
    draws = uniform_bits(stream(0, 0, "busy", "service"), count)[None, :]
    plane.feed(
        Requests(
            arrival, requests.rows, requests.class_, requests.priority, requests.timeout_ns, requests.patience_ns,
            requests.client_ns, draws,
        )
    )  # fmt: skip
    plane.end_feed()
    plane.advance(2**60)
    rows = plane.rows()
    first = np.unique(rows[:, records.BATCH], return_index=True)[1]
    worked_ns = (rows[first, records.DONE_NS] - rows[first, records.START_NS]).sum()
    assert float(plane.tally().busy_s.sum()) == pytest.approx(worked_ns / 1e9, rel=1e-12)
    assert int(plane.tally().batch_rows.sum()) == len(first)
