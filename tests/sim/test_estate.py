"""Stories of an estate: nodes behind a router, on both planes (rules 14 and 17). Times in ms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from serve.ejection import Ejection
from serve.hedging import Hedge
from serve.policy.codes import NEVER_NS
from serve.policy.routing import ROUTE_LEAST_OUTSTANDING, ROUTE_P2C, ROUTE_ROUND_ROBIN
from serve.records import ANSWERED_NS, ATTEMPT, CAUSE, DISPATCH_NS, NODE, OUTCOME, REASON, REQUEST, Outcome, Reason
from serve.scheduler import SchedulerSpec
from sim.dataplane import DataPlane
from sim.plane import BUFFER, Estate, Node, Plane, Requests, Router, Service, StopCode, Tally
from sim.reference import Reference
from sim.tally import SUM_CLIENT_S, SUM_LATENCY_S

MS = 1_000_000
ENGINES = ("reference", "fast")


def nodes_of(count: int, max_queue: int = -1) -> tuple[Node, ...]:
    """Nodes with one replica each that takes 10 ms for anything; their front takes no time."""
    service = Service(np.full(2, 10 * MS), 0, 1, 0)
    return (Node(SchedulerSpec(1, max_queue=max_queue), 1, service),) * count


def plane_of(engine: str, nodes: Sequence[Node], router: Router) -> Plane:
    """A plane whose replicas are all up."""
    estate = Estate(tuple(nodes), router)
    plane: Plane = Reference(estate, 1) if engine == "reference" else DataPlane(estate, 1, keep="both", metered=True)
    for node in range(len(nodes)):
        plane.ready(0, node)
    return plane


def feed(plane: Plane, arrivals_ms: Sequence[float], patience_ms: float | None = None) -> None:
    """Requests of one row at some instants, and no more."""
    arrival_ns = (np.array(arrivals_ms) * MS).astype(np.int64)
    same = np.zeros(len(arrival_ns), np.int64)
    never = same + NEVER_NS
    patience_ns = never if patience_ms is None else same + round(patience_ms * MS)
    plane.feed(Requests(arrival_ns, same + 1, same, same, never, patience_ns, same, same.reshape(1, -1)))
    plane.end_feed()


def to_end(plane: Plane) -> list[str]:
    """One line an attempt: request.attempt, node, outcome, reason, instant in ms at which it left its node."""
    while plane.advance(10_000 * MS).code != StopCode.UNTIL:
        pass
    return [
        f"{row[REQUEST]}.{row[ATTEMPT]} n{row[NODE]} {Outcome(row[OUTCOME]).name} {Reason(row[REASON]).name} "
        f"{row[ANSWERED_NS] / MS:g}".lower()
        for row in plane.rows()
    ]


def latency_ms(tally: Tally) -> float:
    """Sum of the latencies of ok requests."""
    return float(tally.sums[0, 0, SUM_LATENCY_S]) * 1e3


@pytest.mark.parametrize("engine", ENGINES)
def test_the_network_is_crossed_twice(engine: str) -> None:
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_ROUND_ROBIN, network_ns=3 * MS))
    feed(plane, [0, 1])
    assert to_end(plane) == ["0.0 n0 ok full 13", "1.0 n1 ok full 14"]
    assert latency_ms(plane.tally()) == pytest.approx(32)
    assert plane.tally().sums[0, 0, SUM_CLIENT_S] * 1e3 == pytest.approx(12), "what the network adds"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_outstanding_is_known_when_the_answer_has_come_back(engine: str) -> None:
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_LEAST_OUTSTANDING, network_ns=3 * MS))
    feed(plane, [0, 1, 16, 16.5])  # the first answer is back at 16, the second at 17
    assert [line[:6] for line in to_end(plane)] == ["0.0 n0", "1.0 n1", "2.0 n0", "3.0 n0"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_lost_node_held_is_lost_and_retried_elsewhere(engine: str) -> None:
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_LEAST_OUTSTANDING, network_ns=1 * MS, retries=1))
    feed(plane, [0, 0, 2, 2])
    plane.advance(5 * MS)
    plane.lose(0)
    plane.rotate([1])
    assert to_end(plane) == [
        "0.0 n0 lost node 5",
        "0.1 n1 ok full 31",
        "1.0 n1 ok full 11",
        "2.0 n0 lost node 5",
        "2.1 n1 ok full 41",
        "3.0 n1 ok full 21",
    ]
    assert plane.tally().outcomes[0, 0].tolist() == [4, 0, 0, 0, 0, 0, 0, 0]
    assert latency_ms(plane.tally()) == pytest.approx(32 + 12 + (42 - 2) + (22 - 2))
    rows = plane.rows()
    assert (rows[rows[:, OUTCOME] == Outcome.LOST][:, DISPATCH_NS] == -1).all(), "what its batches did is not told"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_lost_node_that_stays_in_rotation_loses_what_comes_until_a_new_one_is_ready(engine: str) -> None:
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN))
    feed(plane, [0, 20, 40])
    plane.advance(5 * MS)
    plane.lose(0)
    plane.advance(30 * MS)
    plane.ready(0, 0)
    assert to_end(plane) == ["0.0 n0 lost node 5", "1.0 n0 lost node 20", "2.0 n0 ok full 50"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_node_is_tried_again_within_the_budget(engine: str) -> None:
    """Five at once on a node that holds one: three retries are always allowed, the others must do without."""
    plane = plane_of(engine, nodes_of(1, max_queue=0), Router(ROUTE_P2C, MS, retries=1, budget_percent=0))
    feed(plane, [0] * 5)
    lines = to_end(plane)
    assert [line for line in lines if ".1" in line] == [f"{i}.1 n0 full queue 3" for i in (1, 2, 3)]
    assert plane.tally().outcomes[0, 0, [Outcome.OK, Outcome.FULL]].tolist() == [1, 4]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_gave_up_is_forgotten_at_once_and_its_node_hears_of_it_later(engine: str) -> None:
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN, network_ns=2 * MS))
    feed(plane, [0, 0], patience_ms=9)
    lines = to_end(plane)
    assert lines == ["0.0 n0 cancelled client 12", "1.0 n0 cancelled client 11"]
    assert plane.tally().outcomes[0, 0, Outcome.CANCELLED] == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_what_comes_while_there_is_no_node_waits_for_one(engine: str) -> None:
    """By priority, then in order; up to so many rows; and who gives up leaves."""
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN, buffer_rows=2))
    plane.rotate([])
    feed(plane, [0, 1, 2])
    stops = []
    while (stop := plane.advance(30 * MS)).code != StopCode.UNTIL:
        stops.append((stop.code, stop.which, stop.node))
    assert stops == [(StopCode.NO_REPLICA, 0, BUFFER)], "told once, of the first"
    assert plane.scrape(BUFFER).gauges.waiting == 2
    assert plane.scrape(BUFFER).counters.waiting_ns == (30 + 29) * MS
    plane.rotate([0])
    assert to_end(plane) == ["0.0 n0 ok full 40", "1.0 n0 ok full 50"]
    assert plane.tally().drop_reasons[0, 0, Reason.NO_NODE] == 1
    assert latency_ms(plane.tally()) == pytest.approx(40 + 49)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_queue_at_the_router_gives_to_whoever_is_free_and_no_more_than_fits(engine: str) -> None:
    """Two nodes of credit 1, 1 ms away, on turn; up to two rows wait, and the last one is refused."""
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_ROUND_ROBIN, 1 * MS, buffer_rows=2, credits=(1,)))
    plane.advance(0)
    plane.slow(0, 3000)
    feed(plane, [0, 0, 1, 2, 3, 40])
    assert to_end(plane) == [
        "0.0 n0 ok full 31",
        "1.0 n1 ok full 11",
        "2.0 n1 ok full 23",
        "3.0 n1 ok full 35",
        "5.0 n1 ok full 51",
    ]
    assert plane.tally().drop_reasons[0, 0, Reason.NO_NODE] == 1
    assert latency_ms(plane.tally()) == pytest.approx(32 + 12 + 23 + 34 + 12)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_gives_up_at_the_router_leaves_its_place_there_and_at_its_node_its_credit(engine: str) -> None:
    """The first works on after its client has gone at 5 and holds its replica; the third comes as soon as the router
    knows, the second has gone at 6."""
    plane = plane_of(engine, nodes_of(1), Router(ROUTE_ROUND_ROBIN, buffer_rows=9, credits=(1,)))
    feed(plane, [0, 1, 4], patience_ms=5)
    assert to_end(plane)[0].startswith("0.0 n0 cancelled client")
    assert plane.tally().outcomes[0, 0, Outcome.CANCELLED] == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_node_in_rotation_requests_are_refused(engine: str) -> None:
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_ROUND_ROBIN))
    plane.rotate([])
    feed(plane, [0, 1])
    assert to_end(plane) == []
    assert plane.tally().drop_reasons[0, 0, Reason.NO_NODE] == 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("silent", "first"), [(False, "cancelled client 9"), (True, "ok full 20")])
def test_a_client_that_waited_long_enough_asks_again(engine: str, silent: bool, first: str) -> None:
    """Two at once on one replica: the second gives up at 9, and asks again; its node works on if nobody tells it."""
    router = Router(ROUTE_ROUND_ROBIN, client_retries=(1,), silent=(silent,), network_ns=0)
    plane = plane_of(engine, nodes_of(1), router)
    feed(plane, [0, 1], patience_ms=8)
    lines = to_end(plane)
    assert lines[0].startswith("0.0 n0 ") and lines[1].startswith("0.1 n0 ")
    assert f"1.0 n0 {first}" in lines
    causes = plane.rows()[:, CAUSE].tolist()
    assert causes == [0, 2, 0, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_latency_of_a_request_runs_from_its_first_try(engine: str) -> None:
    router = Router(ROUTE_ROUND_ROBIN, network_ns=0, client_retries=(2,))
    plane = plane_of(engine, nodes_of(2), router)
    plane.advance(0)
    plane.kill(0, 0)  # the first node takes requests that nobody serves
    feed(plane, [0], patience_ms=15)
    assert to_end(plane) == ["0.0 n0 cancelled client 15", "0.1 n1 ok full 25"]
    assert latency_ms(plane.tally()) == pytest.approx(25)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_node_that_fails_in_a_row_is_left_alone_for_a_while(engine: str) -> None:
    """Its replica is down and nothing may wait there: two refusals, 50 ms without it, two, 100 ms."""
    router = Router(ROUTE_ROUND_ROBIN, ejection=Ejection(failures=2, base_ns=50 * MS, percent=50))
    plane = plane_of(engine, nodes_of(2, max_queue=0), router)
    plane.kill(0, 0)
    feed(plane, range(0, 300, 15))
    refused = [int(line.split(".")[0]) * 15 for line in to_end(plane) if "n0 full" in line]
    assert refused == [0, 30, 90, 120, 240, 270]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hedge_wins_and_the_slower_attempt_is_called_back(engine: str) -> None:
    """The first node's replica is down: the second is asked after 4 ms, heard at 16, the first told at 17."""
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_ROUND_ROBIN, network_ns=1 * MS, hedge=Hedge(4 * MS)))
    plane.kill(0, 0)
    feed(plane, [0])
    assert to_end(plane) == ["0.0 n0 cancelled client 17", "0.1 n1 ok full 15"]
    assert plane.tally().wasted_rows[0, 0] == 0, "it had only waited"


@pytest.mark.parametrize("engine", ENGINES)
def test_when_one_of_two_attempts_fails_the_other_one_is_waited_for(engine: str) -> None:
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_ROUND_ROBIN, hedge=Hedge(4 * MS), retries=1))
    feed(plane, [0])
    plane.advance(6 * MS)
    plane.lose(0)
    assert to_end(plane) == ["0.0 n0 lost node 6", "0.1 n1 ok full 14"]
    tally = plane.tally()
    assert tally.outcomes[0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert tally.hedges[0, 0] == 1
    assert latency_ms(tally) == pytest.approx(14)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_computed_for_nobody_is_counted(engine: str) -> None:
    plane = plane_of(engine, nodes_of(2), Router(ROUTE_ROUND_ROBIN, hedge=Hedge(4 * MS)))
    feed(plane, [0])
    assert to_end(plane) == ["0.0 n0 ok full 10", "0.1 n1 cancelled client 14"]
    assert plane.tally().wasted_rows[0, 0] == 1
