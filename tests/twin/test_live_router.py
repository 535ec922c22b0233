"""The live router and the reference simulator's decide alike: same nodes, same retries at the same instants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.policy.codes import OUTCOME_CANCELLED
from sim.plane import Estate
from sim.reference import Reference
from tests.twin.cases import FEATURES, Case, draw_estate, run
from tests.twin.live_router import World, recorded

ALL_BUT_DEADLINES = sum(1 << i for i, name in enumerate(FEATURES) if name != "deadlines")
"""A request that leaves the simulator's buffer too late expires at its node, live in the buffer."""


def live_case(family: int, seed: int) -> Case:
    """A random estate with what a live router has: no true state, and clients that do not ask again; in most, no node
    is in rotation for a while."""
    case = draw_estate(family, seed, 60, ALL_BUT_DEADLINES)
    assert isinstance(case.what, Estate) and case.what.router is not None
    router = replace(case.what.router, true_state=False, client_retries=(), silent=())
    rotations = [act for act in case.acts if act[1] == "rotate"]
    acts = [(*act[:2], 0, 0) if act is rotations[seed % 2] else act for act in case.acts]
    return replace(case, what=replace(case.what, router=router), acts=acts)


@pytest.mark.parametrize("family", range(6))
def test_the_live_router_takes_every_decision_of_the_reference(family: int) -> None:
    told = {"retried": 0, "gone": 0, "rotated": 0, "buffered": 0, "hedged": 0}
    policies = set()
    for seed in range(60):
        case = live_case(family, seed)
        assert isinstance(case.what, Estate) and case.what.router is not None
        with recorded() as simulated:
            run(Reference(case.what, case.classes, case.closed), case)
        live = World(case.what).replay(simulated.events)
        assert live.sent == simulated.sent, f"{family=} {seed=}"
        # The live router has nobody to tell that a client went.
        assert live.settled == [s for s in simulated.settled if s[2] != OUTCOME_CANCELLED], f"{family=} {seed=}"
        policies.add(case.what.router.policy)
        kinds = [event[1] for event in simulated.events]
        told["retried"] += kinds.count("retry")
        told["hedged"] += kinds.count("hedge")
        told["gone"] += kinds.count("gone")
        told["rotated"] += kinds.count("rotate")
        arrived = {event[2]: event[0] for event in simulated.events if event[1] == "arrive"}
        told["buffered"] += sum(attempt == 0 and at > arrived[number] for at, number, attempt, _ in live.sent)
    assert policies == set(range(7)) and min(told.values()) > 20, f"the cases must meet everything: {told}"
