"""The slow clock's failures: what a fleet goes through when replicas, machines and networks fail (rules 14, 15, 19)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from serve.policy.codes import NEVER_NS
from serve.policy.routing import ROUTE_ROUND_ROBIN
from serve.records import ARRIVAL_NS, DEATHS, NODE, OUTCOME, REASON, START_NS, Outcome, Reason
from serve.scheduler import SchedulerSpec
from sim.control import Control, ModelPlan
from sim.dataplane import DataPlane
from sim.failing import Act, Failing, instants
from sim.fleet import FleetPlan, Timing
from sim.machines import Machine, slots_of
from sim.plane import Estate, Node, Requests, Router, Service
from sim.spot import Market, Supply

S = 10**9
MS = 10**6
TIMING = Timing(start_up_ns=5 * S, probe_ns=3 * S, propagation_ns=2 * S, detect_ns=10 * S, replace_ns=20 * S)


def played(
    failing: Failing,
    *,
    nodes: int = 2,
    count: int | None = None,
    seconds: int = 100,
    machines: Sequence[Machine] | None = None,
    markets: dict[str, Market] | None = None,
    retries: int = 1,
) -> tuple[Control, DataPlane]:
    """Twenty requests a second, of 40 ms each, on nodes of one replica of which some fail."""
    node = Node(SchedulerSpec(1), 1, Service(np.full(2, 40 * MS), 0, 1, 0), batch_deadline_ns=2 * S)
    router = Router(ROUTE_ROUND_ROBIN, MS, retries=retries, budget_percent=100, answer_timeout_ns=S)
    estate = Estate((node,) * nodes, router)
    plane = DataPlane(estate, 1, keep="both")
    arrival_ns = np.arange(0, seconds * S, S // 20)
    same = np.zeros(len(arrival_ns), np.int64)
    never = same + NEVER_NS
    plane.feed(Requests(arrival_ns, same + 1, same, same, never, never, same, same.reshape(1, -1)))
    plane.end_feed()
    control = Control(
        plane,
        plane.advance,
        [ModelPlan([FleetPlan(TIMING, slots_of(estate), per_replica=True)], count or nodes)],
        machines or [Machine(provision_ns=30 * S)] * nodes,
        routed=True,
        failing=failing,
        markets=markets,
    )
    control.run((seconds + 5) * S)
    return control, plane


def served_by(plane: DataPlane, node: int) -> tuple[float, float]:
    """The longest gap in s between two requests that a node answered: from and to when."""
    rows = plane.rows()
    at_s = np.sort(rows[(rows[:, NODE] == node) & (rows[:, OUTCOME] == Outcome.OK)][:, ARRIVAL_NS]) / S
    widest = int(np.argmax(np.diff(at_s)))
    return float(at_s[widest]), float(at_s[widest + 1])


def test_a_replica_that_crashes_is_back_after_its_start_up_and_a_probe() -> None:
    control, plane = played(Failing([Act(20 * S + 20 * MS, "crash", replica=0)]))
    rows = plane.rows()
    waited = rows[(rows[:, NODE] == 0) & (rows[:, START_NS] > 20 * S)]
    assert waited[:, START_NS].min() / S == pytest.approx(25.12, abs=0.001), "0.1 s of backoff, 5 s of start-up"
    sent_s = rows[rows[:, NODE] == 0][:, ARRIVAL_NS] / S
    assert not ((sent_s > 22.03) & (sent_s < 28.12)).any(), "out of rotation from 22.02 to 28.12"
    assert (rows[:, OUTCOME] == Outcome.OK).all()
    assert rows[:, DEATHS].max() == 1
    assert control.history.deaths_ns == [20 * S + 20 * MS]
    assert control.history.under_target(0, 100 * S) == pytest.approx(0.051, abs=1e-6)


def test_one_that_keeps_crashing_waits_ever_longer_and_begins_anew_when_it_was_steady() -> None:
    at_s = [10, 15.5, 21, 95]
    control, _ = played(Failing([Act(round(at * S), "crash", replica=0) for at in at_s]), seconds=110)
    ready_s = [up.ready_ns / S for up in control.history.fleets[0].ups[0]]
    assert ready_s == [0, 15.1, 20.7, 26.4, 100.1]


def test_a_replica_that_hangs_is_killed_and_started_again() -> None:
    control, plane = played(Failing([Act(20 * S, "hang", replica=1)]))
    assert len(control.history.deaths_ns) == 1
    assert control.history.deaths_ns[0] / S == pytest.approx(22, abs=0.1), "the batch deadline after its start"
    assert (plane.rows()[:, OUTCOME] == Outcome.OK).all()


def test_a_lost_machine_is_noticed_replaced_and_provisioned() -> None:
    """Lost at 10, known at 20, replaced at 40, there at 70, ready at 75, probed at 78."""
    control, plane = played(Failing([Act(10 * S, "lose", (1,))]))
    rows = plane.rows()
    lost = rows[rows[:, REASON] == Reason.NODE]
    assert lost[:, ARRIVAL_NS].max() / S == pytest.approx(20, abs=0.1), "it is sent requests until that is known"
    start_s, end_s = served_by(plane, 1)
    assert (start_s, end_s) == (pytest.approx(10, abs=0.1), pytest.approx(78, abs=0.1))
    leases = control.history.leases
    assert [(lease.machine, lease.there_ns // S, lease.gone_ns) for lease in leases] == [
        (0, 0, None),
        (1, 0, 10 * S),
        (1, 70, None),
    ]
    assert control.history.losses_ns == [10 * S]


def test_a_machine_that_is_back_before_it_is_replaced_starts_its_replicas_again() -> None:
    control, plane = played(Failing([Act(10 * S, "lose", (1,), heal_ns=25 * S)]))
    start_s, end_s = served_by(plane, 1)
    assert (start_s, end_s) == (pytest.approx(10, abs=0.1), pytest.approx(33, abs=0.1)), "back, started, probed"
    assert [count for _, count in control.history.fleets[0].present] == [2]


def test_what_was_on_a_machine_that_stays_away_goes_elsewhere_if_there_is_room() -> None:
    machines = [Machine(), Machine(), Machine(fixed=False, provision_ns=2 * S)]
    failing = Failing([Act(10 * S, "lose", (1,), heal_ns=90 * S)])
    control, plane = played(failing, nodes=3, count=2, machines=machines)
    rows = plane.rows()
    assert rows[rows[:, NODE] == 2][:, ARRIVAL_NS].min() / S == pytest.approx(50, abs=0.1), "10 + 10 + 20 + 2 + 5 + 3"
    assert control.history.fleets[0].present == [(0, 2), (40 * S, 1), (40 * S, 2)]


def test_a_zone_is_lost_in_one_instant_in_the_order_of_nodes() -> None:
    control, plane = played(Failing([Act(10 * S, "lose", (0, 1), heal_ns=40 * S)]), nodes=3)
    assert control.history.losses_ns == [10 * S] * 2
    assert served_by(plane, 2)[1] - served_by(plane, 2)[0] < 0.2


@pytest.mark.parametrize("heals_s", [15, 40])
def test_a_machine_that_is_cut_off_is_known_to_be_after_a_while_and_works_on(heals_s: int) -> None:
    control, plane = played(Failing([Act(10 * S, "cut", (0,), heal_ns=heals_s * S)]))
    rows = plane.rows()
    dropped = rows[rows[:, REASON] == Reason.PARTITION]
    known_s, back_s = min(heals_s, 20), heals_s if heals_s < 20 else heals_s + 3
    assert dropped[:, ARRIVAL_NS].max() / S == pytest.approx(known_s, abs=0.5)
    first_s = rows[(rows[:, NODE] == 0) & (rows[:, OUTCOME] == Outcome.OK) & (rows[:, ARRIVAL_NS] > 11 * S)]
    assert first_s[:, ARRIVAL_NS].min() / S == pytest.approx(back_s, abs=0.6)
    assert control.history.losses_ns == []


def test_a_slow_machine_is_slow_until_it_heals() -> None:
    _, plane = played(Failing([Act(10 * S, "slow", (0,), heal_ns=20 * S, per_mille=3000)]))
    rows = plane.rows()
    took_ms = (rows[:, -2] - rows[:, START_NS]) / MS
    slowed = rows[took_ms > 100][:, START_NS] / S
    assert slowed.min() >= 10 and slowed.max() < 20 and len(slowed) > 20


# -- spot ----------------------------------------------------------------------------------------------------

SPOT = Machine(fixed=False, provision_ns=2 * S, pool="spot")
BASE = Machine(fixed=False, provision_ns=2 * S, pool="base")


def market(**more: object) -> dict[str, Market]:
    """A spot market of notices of 8 s."""
    return {"spot": Market(np.random.default_rng(1), notice_ns=8 * S, retry_ns=30 * S, **more)}  # type: ignore[arg-type]


def test_what_runs_on_a_machine_that_is_taken_back_moves_within_the_notice() -> None:
    supply = Supply((0, 30 * S, 60 * S), (2, 1, 2))
    machines = [SPOT, SPOT, BASE]
    control, plane = played(Failing(), nodes=3, count=2, machines=machines, markets=market(supply=supply))
    leases = [(one.machine, one.there_ns // S, one.reclaimed) for one in control.history.leases]
    assert leases in ([(0, 0, False), (1, 0, True), (2, 24, False)], [(0, 0, True), (1, 0, False), (2, 24, False)])
    assert (plane.rows()[:, OUTCOME] == Outcome.OK).all(), "nothing is lost: it left at 24, and was drained"
    assert control.history.reclaims_ns == [30 * S] and control.history.losses_ns == []
    rows = plane.rows()
    assert rows[rows[:, NODE] == 2][:, ARRIVAL_NS].min() / S == pytest.approx(32, abs=0.1), "22 + 2 + 5 + 3"


def test_one_that_is_taken_back_untold_is_lost() -> None:
    supply = Supply((0, 30 * S), (2, 1))
    machines = [SPOT, SPOT, BASE]
    markets = market(supply=supply, no_notice=1.0)
    control, plane = played(Failing(), nodes=3, count=2, machines=machines, markets=markets, retries=0)
    assert (plane.rows()[:, REASON] == Reason.NODE).sum() > 50
    assert control.history.reclaims_ns == [30 * S]
    assert [one.there_ns // S for one in control.history.leases] == [0, 0, 62], "10 to notice, 20, 2 to provision"


def test_a_machine_that_cannot_be_had_is_waited_for_and_then_had_elsewhere() -> None:
    machines, supply = [SPOT, SPOT, BASE], Supply((0, 50 * S), (1, 2))
    control, _ = played(Failing(), nodes=3, count=2, machines=machines, markets=market(supply=supply))
    assert [(one.machine, one.there_ns // S) for one in control.history.leases] == [(0, 0), (2, 0)]
    patient = market(supply=supply, patience_ns=10 * S)
    control, _ = played(Failing(), nodes=3, count=2, machines=machines, markets=patient)
    assert [(one.machine, one.there_ns // S) for one in control.history.leases] == [(0, 0), (2, 12)]
    alone = market(supply=supply)
    control, _ = played(Failing(), nodes=2, machines=[SPOT, SPOT], markets=alone)
    assert [(one.machine, one.there_ns // S) for one in control.history.leases] == [(0, 0), (1, 62)], (
        "asked at 0, 30, 60"
    )


def test_machines_that_live_for_a_drawn_time_are_followed_by_others() -> None:
    control, _ = played(Failing(), nodes=1, machines=[SPOT], markets=market(lifetime_ns=lambda machine: 40 * S))
    assert [(one.there_ns // S, (one.gone_ns or 0) // S) for one in control.history.leases] == [
        (0, 40),
        (42, 82),
        (84, 0),
    ]


def test_instants_of_failures_have_the_mean_gap() -> None:
    drawn = instants(np.random.default_rng(3), 7e9)
    at_ns = np.array([next(drawn) for _ in range(4000)])
    assert np.diff(at_ns).mean() == pytest.approx(7e9, rel=0.05)
    assert np.diff(at_ns).std() == pytest.approx(7e9, rel=0.05)
