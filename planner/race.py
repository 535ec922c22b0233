"""The race: candidates simulated briefly, then in full, until none that is left can beat the best.

All simulations run the scenario's seed, so that candidates meet the same arrivals; nothing else is
random. What is told of the outcome is in `planner.explain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from planner import cost, fastest, headroom, ruling
from planner.plan import Fate, Headroom
from planner.ruling import Offered, Outside
from planner.slo import Bound, Check, check, estimate_of, hopeless, latency_metric, show
from planner.space import Candidate
from serve.profile import Profile
from sim.law_parts import transient
from sim.result import Result
from sim.scenario import Scenario

Evaluate = Callable[[Scenario], Result]
"""Simulates a scenario, whose deployment is no path."""
Progress = Callable[[str, float], None]
"""Told what is being done and which share of all is done; never goes back."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One round of the race: replications, and the share of the scenario's duration that each runs."""

    replications: int
    share: float


STAGES = (Stage(4, 0.25), Stage(8, 0.5))
"""Rounds before the full simulation."""
STAGE_REQUESTS_MIN = 500
"""Replications of a round are made longer to see so many requests, up to the scenario's duration."""
LATENCY_STEP = 0.01
"""Latencies within the same step of one per cent count as equal: simulations tell no finer."""

Key = tuple[int, float, float, int]
"""Order of candidates, best first: cost step, latency step, capacity (more is better), place among the choices."""


@dataclass(slots=True)
class Entry:
    """A candidate in the race."""

    candidate: Candidate
    floor_step: int  # the least that it can cost
    fate: Fate = "dearer"
    reason: str = ""
    outside: Outside | None = None
    result: Result | None = None
    checks: list[Check] = field(default_factory=list)
    full: bool = False

    @property
    def front_cores(self) -> float:
        """The front's busy cores by its last simulation."""
        assert self.result is not None
        return self.result.total.metrics["front_busy"].value or 0.0


@dataclass(slots=True)
class Race:
    """Simulates and compares candidates of one scenario."""

    scenario: Scenario
    profile: Profile
    bounds: list[Bound]
    load: Offered
    evaluate: Evaluate
    progress: Progress
    simulations: int = 0
    share: float = 0.0

    # -- what a candidate costs, and what rules it out ---------------------------------------------------

    def entry(self, candidate: Candidate) -> Entry:
        floor_cores = ruling.front_floor_cores(candidate, self.profile, self.load)
        entry = Entry(candidate, cost.cost_step(candidate.deployment, floor_cores))
        entry.outside = ruling.ruled_out(candidate, self.profile, self.scenario.workload, self.load, self.bounds)
        if entry.outside is not None:
            entry.fate, entry.reason = "ruled out", f"{entry.outside.limit}: {entry.outside.reason}"
        return entry

    def group_of(self, entry: Entry) -> int:
        """Entries of one group race each other, lower groups first."""
        return entry.candidate.replica_cores

    def step(self, entry: Entry) -> int:
        """Cost by its last simulation, in steps."""
        return max(entry.floor_step, cost.cost_step(entry.candidate.deployment, entry.front_cores))

    def usd(self, entry: Entry) -> float:
        """USD per hour by its last simulation, or at least."""
        return cost.usd_per_h(entry.candidate.deployment, 0.0 if entry.result is None else entry.front_cores)

    def cores(self, entry: Entry) -> float | None:
        """Cores that it takes by its last simulation; None: it is not paid by cores."""
        return entry.candidate.replica_cores + entry.front_cores

    def capacity(self, entry: Entry) -> float:
        """Rows per second that it serves at most, by the profile."""
        return fastest.capacity_rows_per_s(entry.candidate.deployment, self.profile)

    def cores_outside(self, candidate: Candidate, result: Result) -> Outside | None:
        """More cores than there are, by a simulation."""
        return ruling.cores_outside(candidate, result.total.metrics["front_busy"].value or 0.0)

    # -- the race ----------------------------------------------------------------------------------------

    def run(self, entries: list[Entry]) -> Entry | None:
        """The best that holds the SLO, groups of equal replica cores taken cheapest first; None if nothing does."""
        best: Entry | None = None
        groups = sorted({self.group_of(e) for e in entries})
        for number, which in enumerate(groups):
            group = [e for e in entries if self.group_of(e) == which]
            if best is not None:
                group = self._not_dearer(group, best)
            if group:
                best = self._race_group(group, best, number / len(groups), 1 / len(groups))
        return best

    def _not_dearer(self, group: list[Entry], best: Entry) -> list[Entry]:
        for entry in group:
            if entry.floor_step > self.step(best):
                entry.reason = f"costs at least {self.usd(entry):.4g} USD/h, more than what holds"
        return [e for e in group if e.floor_step <= self.step(best)]

    def _race_group(self, group: list[Entry], best: Entry | None, start: float, width: float) -> Entry | None:
        alive = group
        for number, stage in enumerate(self.stages()):
            self.round(self._contenders(alive), stage, start + width * 0.4 * number, width * 0.4)
            alive = [e for e in alive if e.fate != "hopeless"]
        alive.sort(key=self._promise)
        finished = 0
        for number, entry in enumerate(alive):
            # Two are always finished: whoever reads the plan wants to know why the second lost.
            if best is not None and finished >= 2 and not self._may_beat(entry, best):
                entry.reason = entry.reason or f"slower or dearer than what holds: {self.standing(entry)}"
                continue
            self.tell(f"simulating {entry.candidate}", start + width * (0.8 + 0.2 * number / len(alive)))
            self.finish(entry)
            finished += 1
            if entry.fate == "holds" and (best is None or self.key(entry) < self.key(best)):
                best = entry
        return best

    def _contenders(self, alive: list[Entry]) -> list[Entry]:
        """Those that may still beat the one that looks best; the others wait, in case it does not hold in full."""
        seen = [e for e in alive if e.result is not None]
        leader = min(seen, key=self._promise, default=None)
        if leader is None or not all(c.held for c in leader.checks):
            return alive
        return [e for e in alive if e is leader or self._may_beat(e, leader)]

    def stages(self) -> list[Stage]:
        """The rounds before the full simulation, their replications long enough to tell something.

        A part of a trace, or of a rate that changes over time, may be worse than the whole: they are never cut short.
        """
        workload = self.scenario.workload
        requests = self.load.requests_per_s * workload.duration / 1e9
        least = STAGE_REQUESTS_MIN / requests if requests else 0.0
        if any(transient(law) for _, law in workload.laws):
            least = 1.0
        return [Stage(s.replications, min(1.0, max(s.share, least))) for s in STAGES]

    def round(self, entries: list[Entry], stage: Stage, start: float, width: float) -> None:
        for number, entry in enumerate(entries):
            self.tell(f"racing {len(entries)} settings", start + width * number / len(entries))
            entry.result = self._simulate(entry.candidate, stage)
            entry.checks = [check(b, entry.result) for b in self.bounds]
            # A short run answers fewer per second: its last requests are still inside when it ends.
            missed = [b for b in self.bounds if hopeless(b, entry.result) and not (b.lower and stage.share < 1)]
            if missed:
                entry.fate = "hopeless"
                entry.reason = "; ".join(str(c) for c in entry.checks if c.bound in missed)

    def finish(self, entry: Entry) -> None:
        """The full simulation and its judgement, cores included."""
        entry.result = self._simulate(entry.candidate, None)
        entry.full = True
        entry.checks = [check(b, entry.result) for b in self.bounds]
        outside = self.cores_outside(entry.candidate, entry.result)
        missed = [str(c) for c in entry.checks if not c.held]
        if entry.result.verdict in ("unstable", "overloaded"):
            missed.append(f"{entry.result.verdict}: {entry.result.verdict_reason}")
        if outside is not None:
            entry.outside = entry.outside or outside
            missed.append(f"cores: {outside.reason}")
        entry.fate = "misses" if missed else "holds"
        entry.reason = "; ".join(missed) or self.standing(entry)

    def _simulate(self, candidate: Candidate, stage: Stage | None) -> Result:
        scenario = self.scenario.model_copy(update={"deployment": candidate.deployment})
        if stage is not None:
            duration = round(scenario.workload.duration * stage.share)
            workload = scenario.workload.model_copy(update={"duration": duration})
            scenario = scenario.model_copy(update={"workload": workload, "replications": stage.replications})
        self.simulations += 1
        return self.evaluate(scenario)

    # -- comparing ---------------------------------------------------------------------------------

    def latency(self, entry: Entry) -> float:
        estimate = None if entry.result is None else estimate_of(latency_metric(self.bounds), entry.result)
        return math.inf if estimate is None or estimate.value is None else estimate.value

    def key(self, entry: Entry) -> Key:
        return self.step(entry), latency_step(self.latency(entry)), -self.capacity(entry), entry.candidate.index

    def _promise(self, entry: Entry) -> tuple[int, Key]:
        """Likely holders first, then cheap, then fast."""
        if entry.result is None:
            return 0, (entry.floor_step, 0.0, 0.0, entry.candidate.index)
        return 0 if all(c.held for c in entry.checks) else 1, self.key(entry)

    def _may_beat(self, entry: Entry, best: Entry) -> bool:
        """Whether a full simulation could still put it before `best`: cheaper, or as cheap and perhaps faster."""
        if entry.result is None or self.step(entry) < self.step(best):
            return True
        if self.step(entry) > self.step(best) + 1:  # a short run may put the front one step off
            return False
        return self._may_be_as_fast(entry, best)

    def _may_be_as_fast(self, entry: Entry, best: Entry) -> bool:
        assert entry.result is not None, "not simulated"
        estimate = estimate_of(latency_metric(self.bounds), entry.result)
        if estimate is None or estimate.ci is None:
            return True
        return latency_step(estimate.ci[0]) <= latency_step(self.latency(best))

    def standing(self, entry: Entry) -> str:
        metric = latency_metric(self.bounds).metric
        latency = self.latency(entry)
        shown = "none" if latency == math.inf else show(metric, latency)
        return f"{self.usd(entry):.4g} USD/h, {metric} {shown}"

    # -- what is told ------------------------------------------------------------------------------

    def tell(self, what: str, share: float) -> None:
        self.share = max(self.share, min(1.0, share))
        self.progress(what, self.share)

    def headroom(self, best: Entry) -> Headroom | None:
        self.tell("looking for the rate at which the SLO breaks", 0.95)
        return headroom.find(lambda factor: self.breaks(best.candidate, factor), self.scenario.workload)

    def breaks(self, candidate: Candidate, factor: float) -> str:
        """What breaks when all open classes are scaled by `factor`; empty if nothing does."""
        workload = headroom.scaled(self.scenario.workload, factor)
        scenario = self.scenario.model_copy(update={"deployment": candidate.deployment, "workload": workload})
        self.simulations += 1
        result = self.evaluate(scenario)
        checks = [check(_scaled_bound(b, factor), result) for b in self.bounds]
        missed = [str(c) for c in checks if not c.held]
        outside = self.cores_outside(candidate, result)
        if outside is not None:
            missed.append(f"cores: {outside.reason}")
        if not missed and result.verdict in ("unstable", "overloaded"):
            missed.append(f"{result.verdict}: {result.verdict_reason}")
        return "; ".join(missed)


def latency_step(latency_s: float) -> float:
    """The step of LATENCY_STEP that a latency falls into."""
    if not 0 < latency_s < math.inf:
        return latency_s
    return math.floor(math.log(latency_s) / math.log1p(LATENCY_STEP))


def _scaled_bound(bound: Bound, factor: float) -> Bound:
    """At another rate, a bound on a rate means the same share of what is offered."""
    return Bound(bound.metric, bound.limit * factor, bound.class_, bound.implied) if bound.lower else bound
