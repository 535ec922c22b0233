"""The engine's loop of scaling beside the simulator's: told the same scrapes, it takes the same steps."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.deployment import Deployment
from serve.policy.codes import NEVER_NS
from serve.policy.scaling.metering import Scrape
from serve.roster import Step
from serve.scaling import Scaling
from serve.time_scale import faster
from sim import replication
from sim.control import Control
from sim.fleet import Fleet
from sim.model_plans import model_plans
from sim.prepare import prepare
from sim.scenario import Workload
from sim.setup import Setup
from sim.workload import Given
from tests.profiles import Synthetic, write_profile

MS, S = 10**6, 10**9
START_UP_NS = 1_234_567_890
SECONDS = 90
KINDS: dict[str, dict[str, Any]] = {
    "hpa": {"kind": "hpa", "cpu": 70, "ongoing": 3},
    "hpa with an age": {"kind": "hpa", "cpu": 70, "age": "7s"},
    "keda": {"kind": "keda", "triggers": [{"target": 2}], "polling": "15s"},
    "kpa": {"kind": "kpa", "target": 1.2},
    "ray_serve": {"kind": "ray_serve", "target_ongoing_requests": 0.8},
    "target_tracking": {"kind": "target_tracking", "metric": "ongoing", "target": 1},
    "predictive": {"kind": "predictive", "capacity": {1: "20/s", 2: "45/s", 3: "70/s"}},
}


class Heard(Control):
    """The simulator's control; what it scraped and when replicas went is kept."""

    last: Heard

    def __init__(self, plane: Any, advance: Any, models: Any, *rest: Any, **more: Any) -> None:
        Heard.last = self
        self.scrapes: dict[int, Scrape] = {}
        self.went: list[tuple[int, int]] = []
        scaler = models[0].scaler
        scrape = scaler.scrape
        scaler.scrape = lambda now_ns, found: (self.scrapes.update({now_ns: found[0]}), scrape(now_ns, found))
        super().__init__(plane, advance, models, *rest, **more)


class Replayed:
    """The engine's loop under a virtual clock, with processes that take as long as the simulator's."""

    def __init__(self, setup: Setup, heard: Heard) -> None:
        replicas, scaler = setup.first.model.replicas, model_plans(setup, 0)[0].scaler
        assert scaler is not None
        self.now_ns, self.heard = 0, heard
        self.steps: list[Step] = []
        self.draining: set[int] = set()
        self.events: list[tuple[int, int, int, str, int]] = []
        self.running: dict[int, int] = {}
        self.scaling = Scaling(
            "m",
            scaler,
            self,
            lambda: self.now_ns,
            count=replicas.count,
            most=setup.first.most,
            drain_limit_ns=NEVER_NS // 2,
            log=self,  # type: ignore[arg-type]
        )
        for at_ns, number in heard.went:
            self.push(at_ns, 2, "left", number)

    def push(self, at_ns: int, order: int, what: str, number: int) -> None:
        heapq.heappush(self.events, (at_ns, order, len(self.events), what, number))

    def run(self, until_ns: int) -> None:
        while min(self.events[0][0] if self.events else NEVER_NS, self.scaling.wake_ns) <= until_ns:
            if self.events and self.events[0][:2] < (self.scaling.wake_ns, 1):
                self.now_ns, _, born, what, number = heapq.heappop(self.events)
                if what == "left" and number in self.draining:
                    self.draining.remove(number)
                    self.scaling.left(number)
                elif what == "ready" and self.running.get(number) == born:
                    self.scaling.ready(number)
            else:
                self.now_ns = self.scaling.wake_ns
                self.scaling.wake()

    # -- its port and its log --------------------------------------------------------------------------

    def scrape(self) -> Scrape:
        return self.heard.scrapes[self.now_ns]

    def start_replica(self, replica: int) -> None:
        self.running[replica] = len(self.events)
        self.push(self.now_ns + START_UP_NS, 0, "ready", replica)

    def drain_replica(self, replica: int) -> None:
        self.draining.add(replica)

    def stop_replica(self, replica: int) -> None:
        self.running.pop(replica)

    def kill_replica(self, replica: int) -> None:
        raise AssertionError("nothing hangs")

    def begin(self, began_ns: int) -> None:
        assert began_ns == 0

    def tick(self, step: Step, *told: Any) -> None:
        self.steps.append(step)

    def replica(self, event: str, number: int, at_ns: int) -> None:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_loops_take_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    profile = write_profile(tmp_path, Synthetic(base_ms=40, row_ms=0, noise_cv=0.3, rows=(1,), busy=range(6)))
    replicas = {"max": 6, "start_up": f"{20 * START_UP_NS}ns", "autoscaler": KINDS[kind]}
    model = {"profile": str(profile), "backend": "emulated", "queue": {"max_queue": "unbounded"}, "replicas": replicas}
    content = {"models": {"m": model}, "pools": {"here": {"cores": 6, "price": "1 USD/h"}}}
    deployment = faster(Deployment.model_validate(content), 20)
    rng = np.random.default_rng(np.random.SeedSequence(7))
    at_s = np.sort(rng.uniform(0, SECONDS, 9000))
    at_s = at_s[rng.uniform(0, 100, 9000) < np.interp(at_s, [0, 10, 30, 40, 60, 90], [5, 5, 95, 95, 5, 5])]
    at_ns = np.asarray(at_s * S, np.int64)
    given = {"all": Given(at_ns, np.ones(len(at_ns), np.int64))}
    classes = {"all": {"arrivals": {"poisson": "9/s"}}}
    workload = Workload.model_validate({"duration": f"{SECONDS}s", "classes": classes})
    setup = prepare(deployment, workload, {}, 1, tmp_path, tmp_path, given)
    monkeypatch.setattr(replication, "Control", Heard)
    gone = Fleet.gone

    def note_gone(self: Fleet, replica: Any) -> None:
        Heard.last.went.append((self.plane.now_ns, replica.number))
        gone(self, replica)

    monkeypatch.setattr(Fleet, "gone", note_gone)
    history = replication.run(setup, 0, "fast").history
    assert history is not None
    until_ns = SECONDS * S
    steps = [step for step in history.models[0].steps if step.at_ns <= until_ns]
    live = Replayed(setup, Heard.last)
    live.run(until_ns)
    assert live.steps == steps
    assert {step.change > 0 for step in steps} == {True, False}, "something was decided"
    assert max(step.counted for step in steps) >= 3
