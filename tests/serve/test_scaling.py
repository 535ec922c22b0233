"""A model's replicas set by a scaler under a clock of the test's own: the grid, what comes and goes, and the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve.autoscaler import Bounds
from serve.errors import SpecError
from serve.policy.codes import NEVER_NS
from serve.policy.scaling.decision import Decision
from serve.policy.scaling.metering import Counters, Gauges, Scrape
from serve.scaler import ReplicaView, Scaler
from serve.scaling import Scaling
from serve.scaling_log import SCALING_FILE, ScalingLog, replay
from tests.serve.test_scaler import scaler_of

S = 10**9
START_NS = 1000 * S
"""A monotonic clock has no zero of ours."""


class Script:
    """Wants so many replicas from so many seconds on; tells what it was asked."""

    scrape_ns = S // 2
    tick_ns = S

    def __init__(self, wanted: dict[int, int]) -> None:
        self._wanted = wanted
        self.told: list[tuple[str, float]] = []

    def scrape(self, now_ns: int, scrapes: dict[int, Scrape]) -> None:
        assert [scrape.at_ns for scrape in scrapes.values()] == [now_ns]
        self.told.append(("scrape", now_ns / S))

    def sample(self, now_ns: int, replicas: list[ReplicaView]) -> tuple[int, list[ReplicaView]]:
        self.told.append(("tick", now_ns / S))
        return now_ns, replicas

    def answer(self, sample: tuple[int, list[ReplicaView]]) -> Decision:
        begun = [at for at in self._wanted if at * S <= sample[0]]
        return Decision(self._wanted[max(begun)], "as written")

    def age_ns(self, now_ns: int) -> int:
        return 0


class Here:
    """A clock, and processes that do what they are told."""

    def __init__(self, wanted: dict[int, int] | Scaler, count: int = 1, most: int = 4, log: Any = None) -> None:
        self.now_ns = START_NS
        self.did: list[tuple[str, int]] = []
        self.script: Any = Script(wanted) if isinstance(wanted, dict) else wanted
        self.scaling = Scaling(
            "m", self.script, self, lambda: self.now_ns, count=count, most=most, drain_limit_ns=5 * S, log=log
        )

    def pass_until(self, seconds: float, late_ns: int = 0) -> None:
        """Wake it as often as it asks for."""
        end_ns = START_NS + round(seconds * S)
        while self.scaling.wake_ns + late_ns <= end_ns:
            self.now_ns = self.scaling.wake_ns + late_ns
            self.scaling.wake()
        self.now_ns = end_ns

    def scrape(self) -> Scrape:
        """From the second to the sixth minute five requests are there, and as many come each second."""
        loaded_ns = min(max(0, self.now_ns - START_NS - 60 * S), 300 * S)
        here = 5 * (0 < loaded_ns < 300 * S)
        counters = Counters(busy_ns=loaded_ns, arrivals=5 * loaded_ns // S, ongoing_ns=5 * loaded_ns)
        return Scrape(self.now_ns, counters, Gauges(ongoing=here, waiting=here))

    def start_replica(self, replica: int) -> None:
        self.did.append(("start", replica))

    def drain_replica(self, replica: int) -> None:
        self.did.append(("drain", replica))

    def stop_replica(self, replica: int) -> None:
        self.did.append(("stop", replica))

    def kill_replica(self, replica: int) -> None:
        self.did.append(("kill", replica))


def test_scrapes_and_ticks_lie_on_the_grid_the_scrape_first() -> None:
    here = Here({0: 1})
    here.pass_until(2, late_ns=S // 100)
    assert here.script.told == [("scrape", 0.5), ("scrape", 1.0), ("tick", 1.0), ("scrape", 1.5)]
    here.pass_until(2.01, late_ns=S // 100)
    assert here.script.told[-2:] == [("scrape", 2.0), ("tick", 2.0)]


def test_late_ticks_are_done_one_after_the_other_and_of_late_scrapes_the_last() -> None:
    here = Here({0: 1})
    here.now_ns += round(3.7 * S)
    here.scaling.wake()
    ticks = [("tick", 1.0), ("tick", 2.0), ("tick", 3.0)]
    assert here.script.told == [*ticks, ("scrape", 3.5)], "in the order of their instants"
    here.scaling.wake()
    assert len(here.script.told) == 4, "woken for nothing it does nothing"
    assert here.scaling.moves == (0, 0, 0)


def test_ticks_of_a_long_pause_are_left_out_and_counted() -> None:
    here = Here({0: 1})
    here.now_ns += 100 * S
    here.scaling.wake()
    assert here.script.told[:2] == [("tick", 81.0), ("tick", 82.0)]
    assert here.script.told[-2:] == [("scrape", 100.0), ("tick", 100.0)]
    assert here.scaling.moves == (0, 0, 80)


def test_more_are_started_and_fewer_go_starting_ones_first_then_the_highest() -> None:
    here = Here({0: 1, 2: 4, 4: 2, 6: 1}, count=1)
    here.pass_until(2)
    assert here.did == [("start", 1), ("start", 2), ("start", 3)]
    here.scaling.ready(1)
    here.scaling.ready(2)
    assert here.scaling.counted == 4
    here.pass_until(4)
    assert here.did[3:] == [("stop", 3), ("drain", 2)]
    here.scaling.left(2)
    here.pass_until(6)
    assert here.did[5:] == [("drain", 1)]
    assert (here.scaling.counted, here.scaling.wanted, here.scaling.moves) == (1, 1, (1, 2, 0))


def test_one_that_drains_is_never_revived_and_holds_its_number() -> None:
    here = Here({0: 2, 1: 1, 2: 2}, count=2, most=2)
    here.pass_until(2)
    assert here.did == [("drain", 1)], "there is no room beside it"
    here.scaling.left(1)
    here.pass_until(3)
    assert here.did == [("drain", 1), ("start", 1)]


def test_one_that_does_not_drain_in_time_is_killed() -> None:
    here = Here({0: 2, 1: 1}, count=2)
    here.pass_until(5.9)
    assert here.did == [("drain", 1)]
    here.pass_until(6)
    assert here.did == [("drain", 1), ("kill", 1)]
    here.pass_until(20)
    assert len(here.did) == 2


def test_a_frozen_scaling_decides_nothing_but_keeps_the_limit_of_what_drains() -> None:
    here = Here({0: 2, 1: 1, 2: 4}, count=2)
    here.pass_until(1)
    here.scaling.freeze()
    here.pass_until(20)
    assert here.did == [("drain", 1), ("kill", 1)]
    assert here.scaling.wake_ns == NEVER_NS


def test_a_dead_replica_starts_again_unless_it_was_to_go() -> None:
    here = Here({0: 2, 3: 1}, count=2)
    here.pass_until(1)
    assert here.scaling.died(0) and here.scaling.wants(0)
    views = here.script.sample(0, [])[1]
    here.pass_until(2)
    assert here.scaling.counted == 2, f"it still counts, {views}"
    here.scaling.ready(0)
    here.pass_until(3)
    assert here.did == [("drain", 1)]
    assert not here.scaling.died(1) and not here.scaling.wants(1)


def test_policies_are_told_instants_of_the_grid_and_replicas_as_they_are() -> None:
    seen = []
    here = Here({0: 3}, count=1)
    sample = here.script.sample
    here.script.sample = lambda now_ns, views: seen.append((now_ns // S, list(views))) or sample(now_ns, views)
    here.pass_until(1.5, late_ns=S // 10)
    here.scaling.ready(2)
    here.pass_until(2.5, late_ns=S // 10)
    up, starting = ReplicaView(0, 0, ready_ns=0), ReplicaView(0, S)
    assert seen == [(1, [up]), (2, [up, starting, ReplicaView(0, S, ready_ns=round(1.5 * S))])]


KINDS: list[dict[str, Any]] = [
    {"kind": "hpa", "cpu": 50, "ongoing": 2, "initial_delay": "0s"},
    {"kind": "keda", "triggers": [{"target": 1}]},
    {"kind": "kpa", "target": 2},
    {"kind": "ray_serve", "target_ongoing_requests": 1, "upscale_delay": "1s"},
    {"kind": "target_tracking", "metric": "ongoing", "target": 1},
    {"kind": "scheduled", "entries": {"Tue 22:20": 2, "Tue 22:18": 3}},
    {"kind": "predictive", "capacity": {1: "1/s"}},
]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings["kind"])
def test_a_log_replays_to_what_was_decided(tmp_path: Path, settings: dict[str, Any]) -> None:
    of, bounds, starts_ns = scaler_of(**settings)._of, Bounds(least=1, most=10), 1_700_000_000 * S
    scaler = Scaler(of, bounds, 1, starts_ns)
    log = ScalingLog(tmp_path / "log")
    here = Here(scaler, most=10, log=log.of("m", of, bounds, starts_ns))
    for minute in range(1, 11):
        here.pass_until(60 * minute, late_ns=12_345)
        for _, number in [did for did in here.did if did[0] == "start"]:
            here.scaling.ready(number)
        here.did.clear()
    log.close()
    logged = replay(tmp_path / "log" / SCALING_FILE)
    assert len(logged.ticks) == (600 * S - 12_345) // scaler.tick_ns
    assert logged.agreeing == len(logged.ticks)
    assert len({tick.logged.wanted for tick in logged.ticks}) > 1, "something was decided"
    assert {tick.late_ns for tick in logged.ticks} == {12_345}
    assert len(logged.start_ups_ns) == len([1 for _, event, _ in logged.replicas if event == "ready"]) > 0


def test_another_policy_would_not_replay_to_it(tmp_path: Path) -> None:
    scaler = scaler_of(kind="kpa", target=2)
    log = ScalingLog(tmp_path)
    here = Here(scaler, most=10, log=log.of("m", scaler._of, Bounds(least=1, most=10), 0))
    here.pass_until(90)
    log.close()
    path = tmp_path / SCALING_FILE
    path.write_text(path.read_text().replace('"target":2.0', '"target":1.0'))
    logged = replay(path)
    assert logged.agreeing < len(logged.ticks)


def test_a_cut_last_line_is_left_out_and_a_log_without_the_model_is_a_fault(tmp_path: Path) -> None:
    scaler = scaler_of(kind="kpa", target=2)
    log = ScalingLog(tmp_path)
    here = Here(scaler, log=log.of("m", scaler._of, Bounds(least=1, most=4), 0))
    here.pass_until(10)
    log.close()
    path = tmp_path / SCALING_FILE
    lines = path.read_text().splitlines()
    assert {json.loads(line)["model"] for line in lines} == {"m"}
    path.write_text("\n".join(lines))
    assert len(replay(path).ticks) == 4, "of five the last is cut"
    with pytest.raises(SpecError, match=r"must name one model that has begun \(none\), got other"):
        replay(path, "other")
    with pytest.raises(SpecError, match="cannot be read"):
        replay(tmp_path / "none.jsonl")
