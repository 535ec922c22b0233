"""Stories of failures that leave a node standing, on both planes (rule 14): slow, hanging, cut off. Times in ms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.policy.routing import ROUTE_LEAST_OUTSTANDING, ROUTE_ROUND_ROBIN
from serve.records import DEATHS, OUTCOME, REASON, START_NS, Outcome, Reason
from sim.plane import Router, StopCode
from tests.sim.test_estate import ENGINES, MS, feed, nodes_of, plane_of, to_end


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_that_start_on_a_slow_node_take_longer_and_one_that_runs_does_not(engine: str) -> None:
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN))
    feed(plane, [0, 0, 0])
    plane.advance(5 * MS)
    plane.slow(0, 3000)
    plane.advance(25 * MS)
    plane.slow(0, 1000)
    assert to_end(plane) == ["0.0 n0 ok full 10", "1.0 n0 ok full 40", "2.0 n0 ok full 50"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_new_node_is_not_slow(engine: str) -> None:
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN))
    feed(plane, [20])
    plane.slow(0, 3000)
    plane.lose(0)
    plane.ready(0, 0)
    assert to_end(plane) == ["0.0 n0 ok full 30"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("at_ms", "killed_ms"), [(0, 25), (5, 25), (60, 95)])
def test_a_batch_that_hangs_never_ends_and_its_replica_is_killed(engine: str, at_ms: int, killed_ms: int) -> None:
    """The one that runs, or the next; it is put back, and waits for a replica."""
    plane = plane_of(engine, [replace(nodes_of(1)[0], batch_deadline_ns=25 * MS)], Router(ROUTE_ROUND_ROBIN))
    feed(plane, [0, 70])
    plane.advance(at_ms * MS)
    plane.hang(0, 0)
    stops = []
    while (stop := plane.advance(120 * MS)).code != StopCode.UNTIL:
        stops.append((stop.code, stop.at_ns // MS, stop.which, stop.node))
    assert (StopCode.DIED, killed_ms, 0, 0) in stops
    plane.ready(0, 0)
    to_end(plane)
    rows = plane.rows()
    dead = 1 if killed_ms == 95 else 0
    assert (rows[:, OUTCOME] == Outcome.OK).all()
    assert rows[:, DEATHS].tolist() == [1 - dead, dead]
    assert rows[dead, START_NS] == 120 * MS


@pytest.mark.parametrize("engine", ENGINES)
def test_what_crosses_a_cut_network_is_dropped_and_known_after_the_timeout(engine: str) -> None:
    """The first is on its way back, the second on its way there; the node worked for one of them."""
    router = Router(ROUTE_LEAST_OUTSTANDING, network_ns=1 * MS, retries=1, answer_timeout_ns=50 * MS)
    plane = plane_of(engine, nodes_of(2), router)
    feed(plane, [0, 5, 10])
    plane.advance(6 * MS)
    plane.cut(0, True)
    plane.advance(20 * MS)
    plane.cut(0, False)
    assert to_end(plane) == [
        "0.0 n0 lost partition 11",
        "0.1 n1 ok full 61",
        "1.0 n1 ok full 16",
        "2.0 n0 lost partition 11",
        "2.1 n0 ok full 71",
    ]
    rows = plane.rows()
    lost = rows[rows[:, REASON] == Reason.PARTITION]
    assert lost[:, START_NS].tolist() == [1 * MS, -1], "its time is known, and wasted"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cut_that_heals_in_time_is_not_noticed(engine: str) -> None:
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN, network_ns=1 * MS))
    feed(plane, [0])
    plane.advance(2 * MS)
    plane.cut(0, True)
    plane.advance(10 * MS)
    plane.cut(0, False)
    assert to_end(plane) == ["0.0 n0 ok full 11"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_node_that_takes_no_time_is_refused(engine: str) -> None:
    with pytest.raises(ValueError, match="per_mille must be at least 1, got 0"):
        plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN)).slow(0, 0)
