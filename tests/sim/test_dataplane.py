"""The data plane's own promises: chunks change nothing, memory is flat, misuse is refused, stops are told."""

import dataclasses

import numpy as np
import pytest

from serve.policy.codes import NEVER_NS
from serve.policy.front import FRONT_PARAM_COUNT
from serve.policy.service import COLD_KNOTS
from serve.scheduler import SchedulerSpec
from sim import layout as ly
from sim.dataplane import DataPlane
from sim.plane import Closed, Node, Plane, Requests, Service, Stop, StopCode
from sim.reference import Reference
from sim.tally import Tally

END_NS = 10**12
MS = 1_000_000


def node(max_batch: int = 8, replicas: int = 4, **spec: int) -> Node:
    """tau(k) = 0.5 k + 2 ms, no front."""
    table = np.array([500_000 * k + 2 * MS for k in range(max_batch + 1)], np.int64)
    return Node(SchedulerSpec(max_batch, **spec), replicas, Service(table, 0, max_batch, 0))


def requests(arrival_ns: list[int] | np.ndarray, **columns: int) -> Requests:
    """Requests of one row each, or of what `columns` says of all of them."""
    arrival = np.asarray(arrival_ns, np.int64)
    default = {"rows": 1, "class_": 0, "priority": 0, "timeout_ns": NEVER_NS, "patience_ns": NEVER_NS, "client_ns": 0}
    full = {name: np.full(len(arrival), value, np.int64) for name, value in {**default, **columns}.items()}
    return Requests(arrival, draw=np.zeros((1, len(arrival)), np.int64), **full)  # type: ignore[arg-type]


def poisson(count: int, rate_rps: float) -> Requests:
    """Arrivals at random."""
    gaps = np.random.default_rng(5).exponential(1e9 / rate_rps, count)
    return requests(np.cumsum(gaps).astype(np.int64))


def part(whole: Requests, low: int, high: int) -> Requests:
    """Some of the requests."""
    names = [f.name for f in dataclasses.fields(Requests) if f.name != "first_id"]
    return Requests(**{name: getattr(whole, name)[..., low:high] for name in names})


def serve(plane: Plane, whole: Requests, chunk: int, replicas: int = 4) -> None:
    """Feed in chunks of one size and run to the end."""
    for replica in range(replicas):
        plane.ready(replica)
    low = 0
    while plane.advance(END_NS).code == StopCode.STARVED:
        if low < len(whole):
            plane.feed(part(whole, low, low + chunk))
        else:
            plane.end_feed()
        low += chunk


def same(a: Tally, b: Tally) -> bool:
    """Whether two tallies are equal, to the bit."""
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Tally))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_size_of_chunks_changes_no_bit(chunk: int) -> None:
    whole = poisson(1000, 3000)
    planes = [DataPlane(node(), 1, keep="both", time_bins=4, bin_ns=80 * MS) for _ in range(2)]
    serve(planes[0], whole, chunk)
    serve(planes[1], whole, 1000)
    assert np.array_equal(planes[0].rows(), planes[1].rows())
    assert same(planes[0].tally(), planes[1].tally())


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    def bytes_held(count: int) -> int:
        plane = DataPlane(node(), 1, pool=16)
        serve(plane, poisson(count, 2000), 5000)
        memory = plane._memory
        return sum(array.nbytes for array in (memory.rows, memory.pool, memory.q, plane._t, plane._x, plane._out))

    assert bytes_held(200_000) == bytes_held(20_000)


def test_the_pool_grows_with_those_present_and_loses_nobody() -> None:
    plane = DataPlane(node(replicas=1), 1, keep="rows", pool=2)
    whole = requests(np.zeros(100, np.int64))
    serve(plane, whole, 100, replicas=1)
    assert plane.capacity >= 100
    assert plane.rows()[:, 0].tolist() == list(range(100))


def test_a_finished_batch_is_what_the_rules_say() -> None:
    plane = DataPlane(node(max_batch=2, replicas=1), 1, keep="both")
    serve(plane, requests([0, 0, 0, MS]), 4, replicas=1)
    answered_ms = (plane.rows()[:, -1] / MS).tolist()
    assert answered_ms == [2.5, 5.5, 5.5, 8.0]
    assert plane.tally().batch_rows.tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("build", [Reference, DataPlane])
class TestStops:
    """`advance` comes back where control must react."""

    def test_without_a_replica(self, build: type) -> None:
        plane = build(node(), 1)
        plane.feed(requests([5, 9]))
        plane.end_feed()
        assert plane.advance(END_NS) == Stop(StopCode.NO_REPLICA, 5, 0)
        plane.ready(0)
        assert plane.advance(END_NS) == Stop(StopCode.UNTIL, END_NS)

    def test_when_what_was_fed_runs_out(self, build: type) -> None:
        plane = build(node(), 1)
        assert plane.advance(END_NS) == Stop(StopCode.STARVED, 0)
        plane.ready(0)
        plane.feed(requests([5]))
        assert plane.advance(END_NS) == Stop(StopCode.STARVED, 5)

    def test_when_a_draining_replica_has_finished(self, build: type) -> None:
        plane = build(node(), 1)
        plane.ready(0)
        plane.ready(1)
        plane.feed(requests([5]))
        plane.end_feed()
        assert plane.advance(10) == Stop(StopCode.UNTIL, 10)
        plane.drain_replica(1)  # idle: drained on the spot
        plane.drain_replica(0)
        assert plane.advance(END_NS) == Stop(StopCode.DRAINED, 10, 1)
        assert plane.advance(END_NS) == Stop(StopCode.DRAINED, 5 + 2_500_000, 0)
        assert plane.advance(END_NS) == Stop(StopCode.UNTIL, END_NS)

    def test_when_a_request_dies_once_too_often(self, build: type) -> None:
        plane = build(node(max_deaths=1), 1)
        plane.ready(0)
        plane.feed(requests([5]))
        plane.end_feed()
        plane.advance(10)
        plane.kill(0)
        assert plane.advance(END_NS) == Stop(StopCode.FAILED, 10, 0)

    def test_when_a_client_has_nothing_more_to_send(self, build: type) -> None:
        plane = build(node(), 1, Closed(np.zeros(1, np.int64), np.array([7])))
        plane.ready(0)
        plane.end_feed()
        plane.feed_closed(requests([3]))
        assert plane.advance(END_NS) == Stop(StopCode.STARVED, 3 + 2_500_000 + 7)
        plane.feed_closed(requests([0]))
        assert plane.advance(END_NS) == Stop(StopCode.STARVED, 3 + 2 * (2_500_000 + 7))


@pytest.mark.parametrize("build", [Reference, DataPlane])
class TestMisuse:
    """What cannot be simulated is refused before it gives nonsense."""

    def test_a_table_too_small_for_the_batches(self, build: type) -> None:
        small = dataclasses.replace(node(), scheduler=SchedulerSpec(9))
        with pytest.raises(ValueError, match=r"rows_max \(8\) is below max_batch \(9\)"):
            build(small, 1)

    def test_an_unknown_class(self, build: type) -> None:
        with pytest.raises(ValueError, match=r"class must be in \[0, 1\)"):
            build(node(), 1).feed(requests([0], class_=1))

    def test_an_unknown_priority(self, build: type) -> None:
        with pytest.raises(ValueError, match=r"priority must be in \[0, 1\)"):
            build(node(), 1).feed(requests([0], priority=1))

    def test_arrivals_out_of_order(self, build: type) -> None:
        with pytest.raises(ValueError, match="in order"):
            build(node(), 1).feed(requests([3, 2]))

    def test_a_client_without_a_first_request(self, build: type) -> None:
        closed = Closed(np.zeros(2, np.int64), np.zeros(2, np.int64))
        with pytest.raises(ValueError, match="each of 2 clients"):
            build(node(), 1, closed).feed_closed(requests([0]))

    def test_time_bins_without_width(self, build: type) -> None:
        with pytest.raises(ValueError, match="got 2 and 0"):
            build(node(), 1, time_bins=2, bin_ns=0)

    def test_closed_requests_without_clients(self, build: type) -> None:
        with pytest.raises(ValueError, match="without closed-loop clients"):
            build(node(), 1).feed_closed(requests([0]))


def test_what_was_not_kept_is_not_read() -> None:
    with pytest.raises(ValueError, match="keeps no rows"):
        DataPlane(node(), 1).rows()
    with pytest.raises(ValueError, match="keeps no tally"):
        DataPlane(node(), 1, keep="rows").tally()


def test_an_unknown_replica_is_refused() -> None:
    with pytest.raises(ValueError, match=r"replica must be in \[0, 4\), got 4"):
        DataPlane(node(), 1).ready(4)


def test_no_two_fields_of_the_layout_share_a_place() -> None:
    names = [name for name in vars(ly) if name.isupper()]  # in the order of definition
    scalars = [getattr(ly, name) for name in names[names.index("NOW_NS") : names.index("FRONT")]]
    assert len(set(scalars)) == len(scalars)
    assert max(scalars) < ly.FRONT
    assert ly.FRONT + FRONT_PARAM_COUNT <= ly.COLD
    assert ly.COLD + COLD_KNOTS <= ly.HEAPS
    assert ly.HEAPS + ly.HEAP_WIDTH * ly.HEAP_COUNT <= ly.LEVEL
