"""The live engine's own driver, under a fake clock, decides as the reference simulator does, to the nanosecond."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serve import records
from serve.batching import NOT_SERVED, POLICIES, triton_settings
from serve.policy.codes import NEVER_NS, POLICY_FOREBAY, POLICY_TF_SERVING, POLICY_TRITON
from serve.policy.front import FRONT_TIMER_LATE_NS
from serve.records import Rows
from serve.scheduler import SchedulerSpec
from sim import plane
from sim.reference import Reference
from tests.twin.live_node import TIMER_LATE_NS, World

SERVED = [kind for name, kind in POLICIES.items() if name not in NOT_SERVED]
SPAN_NS = 400  # of the arrivals; services take about as long as gaps, so that queues form


@st.composite
def nodes(draw: st.DrawFn) -> plane.Node:
    max_batch = draw(st.integers(1, 5))
    replicas = draw(st.integers(1, 3))
    policy = draw(st.sampled_from(SERVED))
    others = {POLICY_TRITON: triton_settings([draw(st.integers(1, max_batch))]), POLICY_TF_SERVING: (2,)}
    spec = SchedulerSpec(
        max_batch=max_batch,
        window_ns=draw(st.sampled_from([0, 0, 7, 30])),
        max_queue=draw(st.sampled_from([-1, 0, 2, 6])),
        priority_levels=draw(st.integers(1, 2)) if policy in (POLICY_FOREBAY, POLICY_TRITON) else 1,
        slots=draw(st.integers(1, 2)) if policy == POLICY_FOREBAY else 1,
        policy=policy,
        settings=others.get(policy, ()),
    )
    bits = 2
    cells = replicas * (max_batch + 1) << bits
    times = draw(st.lists(st.integers(1, 60), min_size=cells, max_size=cells))
    front = plane.free_front()
    front[FRONT_TIMER_LATE_NS] = TIMER_LATE_NS
    service = plane.Service(np.array(times, np.int64), bits, max_batch, replicas - 1)
    return plane.Node(spec, replicas, service, front=front)


@st.composite
def arrivals(draw: st.DrawFn, node: plane.Node) -> plane.Requests:
    n = draw(st.integers(1, 30))

    def column(values: st.SearchStrategy[int]) -> plane.Ints:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), np.int64)

    return plane.Requests(
        arrival_ns=np.sort(column(st.integers(1, SPAN_NS))),
        rows=column(st.integers(1, node.scheduler.max_batch)),
        class_=np.zeros(n, np.int64),
        priority=column(st.integers(0, node.scheduler.priority_levels - 1)),
        timeout_ns=column(st.sampled_from([NEVER_NS, NEVER_NS, 5, 40])),
        patience_ns=column(st.sampled_from([NEVER_NS, NEVER_NS, NEVER_NS, 3, 50])),
        client_ns=np.zeros(n, np.int64),
        draw=np.stack([column(st.integers(0, 2**62)) for _ in range(2)]),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[plane.Node, plane.Requests, int, int]:
    """A node, its requests, when replica 0 dies (0: never) and when the node drains (0: never)."""
    node = draw(nodes())
    requests = draw(arrivals(node))
    instants = st.sampled_from([0, 0, 50, 111, 200])
    return node, requests, draw(instants), draw(instants)


START_UP_NS = 35


def simulated(node: plane.Node, requests: plane.Requests, death_ns: int, drain_ns: int) -> Rows:
    reference = Reference(node, classes=1)
    for replica in range(node.replicas):
        reference.ready(replica)
    reference.feed(requests)
    reference.end_feed()
    control: list[tuple[int, Callable[[], None]]] = []
    if death_ns:
        control += [(death_ns, lambda: reference.kill(0)), (death_ns + START_UP_NS, lambda: reference.ready(0))]
    if drain_ns:
        control.append((drain_ns, reference.drain))
    for at_ns, act in sorted(control, key=lambda step: step[0]):
        while reference.advance(at_ns).at_ns < at_ns:
            pass
        act()
    while reference.advance(10**6).at_ns < 10**6:
        pass
    return reference.rows()


def live(node: plane.Node, requests: plane.Requests, death_ns: int, drain_ns: int) -> Rows:
    world = World(node, requests)
    if death_ns:
        world.kill(death_ns, 0, START_UP_NS)
    if drain_ns:
        world.drain(drain_ns)
    return world.play()


@settings(max_examples=600, deadline=None)
@given(cases())
def test_the_live_driver_and_the_reference_write_the_same_log(
    case: tuple[plane.Node, plane.Requests, int, int],
) -> None:
    expected, found = simulated(*case), live(*case)
    for i, name in enumerate(records.COLUMNS):
        np.testing.assert_array_equal(found[:, i], expected[:, i], err_msg=name)
