"""From a finished race to the Plan: what was chosen and why the runner-up lost, or which limit is hit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from planner import cost, headroom
from planner.plan import Considered, Headroom, Limit, LimitName, Plan, RunnerUp
from planner.race import Entry, Race, latency_step
from planner.slo import LATENCIES, LOSSES, latency_metric


def chosen_plan(race: Race, entries: Sequence[Entry], best: Entry, reach: Headroom | None) -> Plan:
    """The plan of the best candidate that holds the SLO."""
    result = best.result
    assert result is not None
    warnings = list(result.warnings)
    if result.verdict == "unresolved":
        warnings.append(f"unresolved: {result.verdict_reason}")
    return Plan(
        bounds=[str(b) for b in race.bounds],
        latency_metric=latency_metric(race.bounds).metric,
        settings=dict(best.candidate.settings),
        deployment=best.candidate.deployment,
        usd_per_h=race.usd(best),
        cores=race.cores(best),
        result=result,
        headroom=reach,
        runner_up=_runner_up(race, entries, best),
        candidates=len(entries),
        simulations=race.simulations,
        considered=[_considered(race, e) for e in entries],
        warnings=warnings,
    )


def infeasible_plan(race: Race, entries: Sequence[Entry]) -> Plan:
    """The plan of a race that nobody won: the limit, and the best that is possible."""
    nearest = _nearest(race, entries)
    limit = _ruled_out_limit(entries) if nearest is None else _limit(race, entries, nearest)
    return Plan(
        bounds=[str(b) for b in race.bounds],
        latency_metric=latency_metric(race.bounds).metric,
        limit=limit,
        candidates=len(entries),
        simulations=race.simulations,
        considered=[_considered(race, e) for e in entries],
    )


def _considered(race: Race, entry: Entry) -> Considered:
    latency = race.latency(entry)
    return Considered(
        settings=dict(entry.candidate.settings),
        fate=entry.fate,
        reason=entry.reason,
        replications=0 if entry.result is None else entry.result.replications,
        usd_per_h=None if entry.result is None else race.usd(entry),
        latency_s=None if latency == math.inf else latency,
    )


# -- the runner-up -------------------------------------------------------------------------------


def _runner_up(race: Race, entries: Iterable[Entry], best: Entry) -> RunnerUp | None:
    """The second best that holds; else the one that comes nearest to holding; None if there is no other."""
    others = [e for e in entries if e is not best and e.result is not None]
    holders = [e for e in others if e.fate == "holds"]
    if holders:
        second = min(holders, key=race.key)
        reason = f"holds the SLO too, but {_why_second(race, second, best)}"
        return RunnerUp(settings=dict(second.candidate.settings), reason=reason)
    losers = [e for e in others if e.fate in ("misses", "hopeless")]
    if not losers:
        return None
    nearest = min(losers, key=_miss)
    return RunnerUp(settings=dict(nearest.candidate.settings), reason=f"misses {nearest.reason}")


def _why_second(race: Race, second: Entry, best: Entry) -> str:
    against = f"{race.standing(second)} against {race.standing(best)}"
    if race.step(second) > race.step(best):
        return f"is dearer: {against}"
    if latency_step(race.latency(second)) > latency_step(race.latency(best)):
        return f"is slower at the same cost: {against}"
    ours, theirs = race.capacity(best), race.capacity(second)
    if theirs < ours:
        return f"has less capacity at the same cost and latency: {theirs:.4g} against {ours:.4g} rows/s at most"
    return "comes later among the choices, at the same cost, latency and capacity"


def _miss(entry: Entry) -> tuple[float, int]:
    """How badly the worst bound is missed."""
    return max((c.excess for c in entry.checks if not c.held), default=1.0), entry.candidate.index


# -- nothing holds -------------------------------------------------------------------------------


def _nearest(race: Race, entries: Sequence[Entry]) -> Entry | None:
    """The candidate of the least latency among those that can run, simulated in full; None if none can.

    If the load is beyond all that fit the cores, it is the one of the greatest capacity.
    """
    runnable = [e for e in entries if e.outside is None or e.outside.limit == "latency floor"]
    if not runnable:
        short = [e for e in entries if e.outside is not None and e.outside.limit == "capacity"]
        runnable = sorted(short, key=lambda e: (-race.capacity(e), e.candidate.index))[:1]
    fresh = [e for e in runnable if e.result is None]
    race.round(fresh, race.stages()[0], 0.9, 0.05)
    hopefuls = sorted(runnable, key=lambda e: _distance(race, e))[:3]
    for entry in hopefuls:
        if not entry.full:
            race.finish(entry)
    return min(hopefuls, key=lambda e: _distance(race, e), default=None)


def _distance(race: Race, entry: Entry) -> tuple[bool, float, int]:
    """Those that lose too many come last: their latency is that of the few they let in."""
    losing = any(not c.held for c in entry.checks if c.bound.metric in LOSSES)
    return losing, race.latency(entry), entry.candidate.index


def _ruled_out_limit(entries: Sequence[Entry]) -> Limit:
    """Every candidate is ruled out by its rows or the cores; the one that comes nearest speaks for all."""
    for name in ("cores", "rows"):
        found = [e for e in entries if e.outside is not None and e.outside.limit == name]
        if found:
            entry = min(found, key=lambda e: (-_max_batch(e) if name == "rows" else e.floor_step, e.candidate.index))
            reason = f"{entry.candidate}: {entry.outside.reason}" if entry.outside is not None else ""
            return Limit(limit=name, reason=reason, best_settings=None, best_latency_s=None, holds_rate_rps=None)
    raise AssertionError("no candidate was ruled out, and none was simulated")


def _max_batch(entry: Entry) -> int:
    return cost.only_model(entry.candidate.deployment)[1].batching.max_batch


def _limit(race: Race, entries: Sequence[Entry], nearest: Entry) -> Limit:
    reach = None
    name = _limit_name(nearest)
    if name not in ("latency floor", "cores"):
        workload = race.scenario.workload
        reach = headroom.find_below(lambda factor: race.breaks(nearest.candidate, factor), workload)
        if reach is None and name == "latency":
            name = "latency floor"  # not even an all but idle server holds it
    latency = race.latency(nearest)
    more_cores = any(e.outside is not None and e.outside.limit == "cores" for e in entries)
    hint = "; more replicas would need more cores" if more_cores and name in ("capacity", "latency") else ""
    why = nearest.reason if nearest.outside is None else f"{nearest.outside.reason}; {nearest.reason}"
    return Limit(
        limit=name,
        reason=f"{nearest.candidate}: {why}{hint}",
        best_settings=dict(nearest.candidate.settings),
        best_latency_s=None if latency == math.inf else latency,
        holds_rate_rps=None if reach is None else reach.rate_rps,
    )


def _limit_name(nearest: Entry) -> LimitName:
    """Which limit the nearest candidate hits."""
    if nearest.outside is not None:
        return nearest.outside.limit
    assert nearest.result is not None
    missed = {c.bound.metric for c in nearest.checks if not c.held}
    if nearest.result.verdict in ("unstable", "overloaded"):
        return "capacity"
    if missed & set(LATENCIES):
        return "latency"
    return "refusals" if missed & {*LOSSES, "goodput", "throughput"} else "other"
