"""The search: the cheapest deployment that holds the SLO, then the fastest among the equally cheap.

Best first: candidates are ruled out by bounds that need no simulation (`planner.space`), the rest
are taken by the least that they can cost, and raced: short simulations drop what even the near end of
its confidence interval puts beyond the SLO, the survivors run in full, in the order of promise, until
none that is left can beat what was found. All run the same seed, so they meet the same arrivals.
Nothing here is random beside that seed: same scenario, same plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from planner import cost, export, headroom, space
from planner.plan import Considered, Fate, Headroom, Limit, LimitName, Plan, RunnerUp
from planner.slo import LATENCIES, LOSSES, Bound, Check, check, estimate_of, hopeless, latency_metric, parse_slo, show
from planner.space import Candidate, Offered, Outside
from serve.deployment import Deployment
from serve.files import load
from serve.profile import Profile
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
"""A round whose replications would see fewer requests is skipped: it could not tell anything."""
REPLICATIONS_MIN = 20
"""`pi` rests on at least as many replications."""
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

    @property
    def step(self) -> int:
        """Cost by its last simulation, in steps."""
        return max(self.floor_step, cost.cost_step(self.candidate.deployment, self.front_cores))


def plan(scenario: Scenario, *, base: Path, progress: Progress | None = None, evaluate: Evaluate | None = None) -> Plan:
    """The cheapest deployment among the scenario's choices that holds its SLO at its rate.

    Parameters
    ----------
    scenario : what arrives, the SLO, the deployment to start from, and `choices`.
    base : folder that the scenario's paths are relative to.
    progress : told how far the search is.
    evaluate : simulates a scenario in place of `sim.simulate`.

    Raises
    ------
    SpecError : an SLO, a choice or a deployment that cannot be planned for; all faults at once.
    """
    deployment, profile = inputs(scenario, base)
    bounds = parse_slo(scenario.slo, tuple(scenario.workload.classes))
    choices = space.choices_of(scenario, deployment, profile, bounds)
    search = Search(
        scenario=scenario.model_copy(update={"replications": max(REPLICATIONS_MIN, scenario.replications)}),
        profile=profile,
        bounds=bounds,
        load=space.offered(scenario.workload, bounds),
        evaluate=evaluate or simulator(base),
        progress=progress or (lambda what, share: None),
    )
    return search.run(space.candidates(deployment, choices, profile, bounds))


def inputs(scenario: Scenario, base: Path) -> tuple[Deployment, Profile]:
    """The deployment that a scenario names or holds, its paths relative to `base`, and its model's profile."""
    deployment = scenario.deployment
    if isinstance(deployment, str):
        path = base / deployment
        deployment = export.rebased(load(path, Deployment), path.parent, base)
    _, model = cost.only_model(deployment)
    return deployment, load(base / model.profile, Profile)


def simulator(base: Path) -> Evaluate:
    """Evaluates by the fast simulator."""
    from sim.simulate import simulate

    return lambda scenario: simulate(scenario, base=base)


@dataclass(slots=True)
class Search:
    """One search: `run` is called once."""

    scenario: Scenario
    profile: Profile
    bounds: list[Bound]
    load: Offered
    evaluate: Evaluate
    progress: Progress
    simulations: int = 0
    share: float = 0.0

    def run(self, candidates: Sequence[Candidate]) -> Plan:
        """Search the candidates."""
        entries = [self._entry(c) for c in candidates]
        best = self._race([e for e in entries if e.outside is None])
        if best is None:
            return self._infeasible(entries)
        best.fate, best.reason = "chosen", "; ".join(str(c) for c in best.checks)
        reach = self._headroom(best)
        self._tell("done", 1.0)
        return self._plan(entries, best, reach)

    # -- the race ----------------------------------------------------------------------------------

    def _entry(self, candidate: Candidate) -> Entry:
        floor_cores = space.front_floor_cores(candidate, self.profile, self.load)
        entry = Entry(candidate, cost.cost_step(candidate.deployment, floor_cores))
        entry.outside = space.ruled_out(candidate, self.profile, self.scenario.workload, self.load, self.bounds)
        if entry.outside is not None:
            entry.fate, entry.reason = "ruled out", f"{entry.outside.limit}: {entry.outside.reason}"
        return entry

    def _race(self, entries: list[Entry]) -> Entry | None:
        """The best that holds the SLO, groups of equal replica cores taken cheapest first; None if nothing does."""
        best: Entry | None = None
        groups = sorted({e.candidate.replica_cores for e in entries})
        for number, cores in enumerate(groups):
            group = [e for e in entries if e.candidate.replica_cores == cores]
            if best is not None:
                group = self._not_dearer(group, best)
            if group:
                best = self._race_group(group, best, number / len(groups), 1 / len(groups))
        return best

    def _not_dearer(self, group: list[Entry], best: Entry) -> list[Entry]:
        for entry in group:
            if entry.floor_step > best.step:
                entry.reason = f"costs at least {self._usd(entry.candidate, 0.0):.4g} USD/h, more than what holds"
        return [e for e in group if e.floor_step <= best.step]

    def _race_group(self, group: list[Entry], best: Entry | None, start: float, width: float) -> Entry | None:
        alive = group
        for number, stage in enumerate(self._stages()):
            self._round(alive, stage, start + width * 0.4 * number, width * 0.4)
            alive = [e for e in alive if e.fate != "hopeless"]
        alive.sort(key=self._promise)
        finished = 0
        for number, entry in enumerate(alive):
            # Two are always finished: whoever reads the plan wants to know why the second lost.
            if best is not None and finished >= 2 and not self._may_beat(entry, best):
                entry.reason = entry.reason or f"slower or dearer than what holds: {self._standing(entry)}"
                continue
            self._tell(f"simulating {entry.candidate}", start + width * (0.8 + 0.2 * number / len(alive)))
            self._finish(entry)
            finished += 1
            if entry.fate == "holds" and (best is None or self._key(entry) < self._key(best)):
                best = entry
        return best

    def _stages(self) -> list[Stage]:
        """The rounds that see enough requests to tell something; closed loops and traces run them all."""
        duration_s = self.scenario.workload.duration / 1e9
        rate = self.load.requests_per_s
        return [s for s in STAGES if rate == 0.0 or rate * duration_s * s.share >= STAGE_REQUESTS_MIN]

    def _round(self, entries: list[Entry], stage: Stage, start: float, width: float) -> None:
        for number, entry in enumerate(entries):
            self._tell(f"racing {len(entries)} settings", start + width * number / len(entries))
            entry.result = self._simulate(entry.candidate, stage)
            entry.checks = [check(b, entry.result) for b in self.bounds]
            missed = [b for b in self.bounds if hopeless(b, entry.result)]
            if missed:
                entry.fate = "hopeless"
                entry.reason = "; ".join(str(c) for c in entry.checks if c.bound in missed)

    def _finish(self, entry: Entry) -> None:
        """The full simulation and its judgement, cores included."""
        entry.result = self._simulate(entry.candidate, None)
        entry.full = True
        entry.checks = [check(b, entry.result) for b in self.bounds]
        outside = space.cores_outside(entry.candidate, entry.front_cores)
        missed = [str(c) for c in entry.checks if not c.held]
        if entry.result.verdict in ("unstable", "overloaded"):
            missed.append(f"{entry.result.verdict}: {entry.result.verdict_reason}")
        if outside is not None:
            entry.outside = outside
            missed.append(f"cores: {outside.reason}")
        entry.fate = "misses" if missed else "holds"
        entry.reason = "; ".join(missed) or self._standing(entry)

    def _simulate(self, candidate: Candidate, stage: Stage | None) -> Result:
        scenario = self.scenario.model_copy(update={"deployment": candidate.deployment})
        if stage is not None:
            duration = round(scenario.workload.duration * stage.share)
            workload = scenario.workload.model_copy(update={"duration": duration})
            scenario = scenario.model_copy(update={"workload": workload, "replications": stage.replications})
        self.simulations += 1
        return self.evaluate(scenario)

    # -- comparing ---------------------------------------------------------------------------------

    def _latency(self, entry: Entry) -> float:
        estimate = None if entry.result is None else estimate_of(latency_metric(self.bounds), entry.result)
        return math.inf if estimate is None or estimate.value is None else estimate.value

    def _key(self, entry: Entry) -> Key:
        candidate = entry.candidate
        capacity = space.capacity_rows_per_s(candidate.deployment, self.profile)
        return entry.step, latency_step(self._latency(entry)), -capacity, candidate.index

    def _promise(self, entry: Entry) -> tuple[int, Key]:
        """Likely holders first, then cheap, then fast."""
        if entry.result is None:
            return 0, (entry.floor_step, 0.0, 0.0, entry.candidate.index)
        return 0 if all(c.held for c in entry.checks) else 1, self._key(entry)

    def _may_beat(self, entry: Entry, best: Entry) -> bool:
        """Whether a full simulation could still put it before `best`: cheaper, or as cheap and perhaps faster."""
        if entry.result is None or entry.step < best.step:
            return True
        if entry.step > best.step + 1:  # a short run may put the front one step off
            return False
        estimate = estimate_of(latency_metric(self.bounds), entry.result)
        if estimate is None or estimate.ci is None:
            return True
        return latency_step(estimate.ci[0]) <= latency_step(self._latency(best))

    def _usd(self, candidate: Candidate, front_cores: float) -> float:
        return cost.usd_per_h(candidate.deployment, front_cores)

    def _standing(self, entry: Entry) -> str:
        metric = latency_metric(self.bounds).metric
        latency = self._latency(entry)
        shown = "none" if latency == math.inf else show(metric, latency)
        return f"{self._usd(entry.candidate, entry.front_cores):.4g} USD/h, {metric} {shown}"

    # -- what is told ------------------------------------------------------------------------------

    def _tell(self, what: str, share: float) -> None:
        self.share = max(self.share, min(1.0, share))
        self.progress(what, self.share)

    def _headroom(self, best: Entry) -> Headroom | None:
        self._tell("looking for the rate at which the SLO breaks", 0.95)
        return headroom.find(lambda factor: self._breaks(best.candidate, factor), self.scenario.workload)

    def _breaks(self, candidate: Candidate, factor: float) -> str:
        """What breaks when all open classes are scaled by `factor`; empty if nothing does."""
        workload = headroom.scaled(self.scenario.workload, factor)
        scenario = self.scenario.model_copy(update={"deployment": candidate.deployment, "workload": workload})
        self.simulations += 1
        result = self.evaluate(scenario)
        checks = [check(_scaled_bound(b, factor), result) for b in self.bounds]
        missed = [str(c) for c in checks if not c.held]
        outside = space.cores_outside(candidate, result.total.metrics["front_busy"].value or 0.0)
        if outside is not None:
            missed.append(f"cores: {outside.reason}")
        if not missed and result.verdict in ("unstable", "overloaded"):
            missed.append(f"{result.verdict}: {result.verdict_reason}")
        return "; ".join(missed)

    def _plan(self, entries: list[Entry], best: Entry, reach: Headroom | None) -> Plan:
        result = best.result
        assert result is not None
        return Plan(
            bounds=[str(b) for b in self.bounds],
            latency_metric=latency_metric(self.bounds).metric,
            settings=dict(best.candidate.settings),
            deployment=best.candidate.deployment,
            usd_per_h=self._usd(best.candidate, best.front_cores),
            cores=best.candidate.replica_cores + best.front_cores,
            result=result,
            headroom=reach,
            runner_up=self._runner_up(entries, best),
            candidates=len(entries),
            simulations=self.simulations,
            considered=[self._considered(e) for e in entries],
            warnings=list(result.warnings),
        )

    def _runner_up(self, entries: Iterable[Entry], best: Entry) -> RunnerUp | None:
        """The second best that holds; else the one that comes nearest to holding; None if there is no other."""
        others = [e for e in entries if e is not best and e.result is not None]
        holders = sorted((e for e in others if e.fate == "holds"), key=self._key)
        if holders:
            second = holders[0]
            reason = f"holds the SLO too, but {self._why_second(second, best)}"
            return RunnerUp(settings=dict(second.candidate.settings), reason=reason)
        losers = [e for e in others if e.fate in ("misses", "hopeless")]
        if not losers:
            return None
        nearest = min(losers, key=_nearness)
        return RunnerUp(settings=dict(nearest.candidate.settings), reason=f"misses {nearest.reason}")

    def _why_second(self, second: Entry, best: Entry) -> str:
        against = f"{self._standing(second)} against {self._standing(best)}"
        if second.step > best.step:
            return f"is dearer: {against}"
        if latency_step(self._latency(second)) > latency_step(self._latency(best)):
            return f"is slower at the same cost: {against}"
        ours, theirs = (space.capacity_rows_per_s(e.candidate.deployment, self.profile) for e in (best, second))
        if theirs < ours:
            return f"has less capacity at the same cost and latency: {theirs:.4g} against {ours:.4g} rows/s at most"
        return "comes later among the choices, at the same cost, latency and capacity"

    def _considered(self, entry: Entry) -> Considered:
        latency = self._latency(entry)
        return Considered(
            settings=dict(entry.candidate.settings),
            fate=entry.fate,
            reason=entry.reason,
            replications=0 if entry.result is None else entry.result.replications,
            usd_per_h=None if entry.result is None else self._usd(entry.candidate, entry.front_cores),
            latency_s=None if latency == math.inf else latency,
        )

    # -- nothing holds -----------------------------------------------------------------------------

    def _infeasible(self, entries: list[Entry]) -> Plan:
        nearest = self._nearest(entries)
        return Plan(
            bounds=[str(b) for b in self.bounds],
            latency_metric=latency_metric(self.bounds).metric,
            limit=self._outside_limit(entries) if nearest is None else self._limit(entries, nearest),
            candidates=len(entries),
            simulations=self.simulations,
            considered=[self._considered(e) for e in entries],
        )

    def _nearest(self, entries: list[Entry]) -> Entry | None:
        """The candidate of the least latency among those that fit the cores and the load, simulated in full."""
        runnable = [e for e in entries if e.outside is None or e.outside.limit == "latency floor"]
        fresh = [e for e in runnable if e.result is None]
        if self._stages():
            self._round(fresh, self._stages()[0], 0.9, 0.05)
        hopefuls = sorted(runnable, key=lambda e: (_losing(e), self._latency(e), e.candidate.index))[:3]
        for entry in hopefuls:
            if not entry.full:
                floor = entry.outside
                self._finish(entry)
                entry.outside = entry.outside or floor
        return min(hopefuls, key=lambda e: (_losing(e), self._latency(e), e.candidate.index), default=None)

    def _outside_limit(self, entries: list[Entry]) -> Limit:
        """Every candidate is ruled out by rows, cores or capacity; the latter counts if cores leave any candidate."""
        reasons = [e.outside for e in entries if e.outside is not None]
        for name in ("capacity", "cores", "rows"):
            found = [r for r in reasons if r.limit == name]
            if found:
                reason = found[-1].reason if name == "rows" else self._most(entries, name)
                return Limit(limit=name, reason=reason, best_settings=None, best_latency_s=None, holds_rate_rps=None)
        raise AssertionError("no candidate was ruled out, and none was simulated")

    def _most(self, entries: list[Entry], name: str) -> str:
        """The reason of the candidate that comes nearest: of the highest capacity, or of the fewest cores."""
        found = [e for e in entries if e.outside is not None and e.outside.limit == name]
        if name == "cores":
            entry = min(found, key=lambda e: (e.floor_step, e.candidate.index))
        else:
            entry = max(found, key=lambda e: space.capacity_rows_per_s(e.candidate.deployment, self.profile))
        assert entry.outside is not None
        return f"{entry.candidate}: {entry.outside.reason}"

    def _limit(self, entries: list[Entry], nearest: Entry) -> Limit:
        reach = None
        name = self._limit_name(nearest)
        if name not in ("latency floor", "cores"):
            reach = headroom.find_below(lambda factor: self._breaks(nearest.candidate, factor), self.scenario.workload)
            if reach is None and name == "latency":
                name = "latency floor"  # not even an all but idle server holds it
        latency = self._latency(nearest)
        more_cores = any(e.outside is not None and e.outside.limit == "cores" for e in entries)
        hint = "; more replicas would need more cores" if more_cores and name in ("capacity", "latency") else ""
        return Limit(
            limit=name,
            reason=f"{nearest.candidate}: {nearest.reason}{hint}",
            best_settings=dict(nearest.candidate.settings),
            best_latency_s=None if latency == math.inf else latency,
            holds_rate_rps=None if reach is None else reach.rate_rps,
        )

    def _limit_name(self, nearest: Entry) -> LimitName:
        """Which limit the nearest candidate hits."""
        if nearest.outside is not None:
            return "cores" if nearest.outside.limit == "cores" else "latency floor"
        assert nearest.result is not None
        missed = {c.bound.metric for c in nearest.checks if not c.held}
        if nearest.result.verdict in ("unstable", "overloaded"):
            return "capacity"
        if missed & set(LATENCIES):
            return "latency"
        return "refusals" if missed & {*LOSSES, "goodput", "throughput"} else "other"


def latency_step(latency_s: float) -> float:
    """The step of LATENCY_STEP that a latency falls into."""
    if not 0 < latency_s < math.inf:
        return latency_s
    return math.floor(math.log(latency_s) / math.log1p(LATENCY_STEP))


def _nearness(entry: Entry) -> tuple[float, int]:
    worst = max((c.excess for c in entry.checks if not c.held), default=1.0)
    return worst, entry.candidate.index


def _losing(entry: Entry) -> bool:
    """Whether it refuses or drops more than may be: its latency is then that of the few it lets in."""
    return any(not c.held for c in entry.checks if c.bound.metric in LOSSES)


def _scaled_bound(bound: Bound, factor: float) -> Bound:
    """At another rate, a bound on a rate means the same share of what is offered."""
    return Bound(bound.metric, bound.limit * factor, bound.class_, bound.implied) if bound.lower else bound
