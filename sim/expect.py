"""What a scenario expects of its Result: the verdict of each claim of `sim.claims`.

A claim is judged by the estimate's `ci`: wholly inside the bounds it passes, wholly outside it fails, and where the
interval straddles a bound it is undecided: `sim.questions` then runs more replications, up to a cap. Two metrics are
compared replication by replication, since variants meet the same arrivals; a count must be inside the bounds in every
replication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serve.vocabulary import METRICS
from sim.claims import Expectation, Operand
from sim.intervals import Floats, Shifts, ci
from sim.result import Estimate, Simulated

Outcome = Literal["pass", "fail", "undecided"]

Variants = Mapping[str | None, Simulated]
"""What was simulated, by variant; None of a scenario that has none."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A claim beside what was simulated."""

    expectation: Expectation
    estimate: Estimate | None
    """None where the Result has no such metric; of two metrics, of their difference."""
    outcome: Outcome


def estimate_of(claim: Expectation, simulated: Variants) -> Estimate | None:
    """The estimate that a claim speaks of; None if the Result has none."""
    one = _estimate(claim.of, simulated)
    if claim.than is None or one is None:
        return one
    other = _estimate(claim.than, simulated)
    if other is None or one.value is None or other.value is None:
        return None
    return _difference(_sample(claim.of, simulated), _sample(claim.than, simulated))


def _estimate(of: Operand, simulated: Variants) -> Estimate | None:
    result = simulated[of.variant].result
    part = result.part(of.class_)
    return None if part is None else part.metrics.get(of.metric)


def _sample(of: Operand, simulated: Variants) -> Floats:
    return simulated[of.variant].samples[of.class_, of.metric]


def _difference(one: Floats, other: Floats) -> Estimate:
    """Of two metrics, replication by replication; undefined unless both are in all of them."""
    sample = one - other
    if not np.isfinite(sample).all():
        return Estimate(value=None, ci=None, pi=None)
    return Estimate(value=float(sample.mean()), ci=ci(sample, Shifts.none(len(sample))), pi=None)


def judge(claim: Expectation, simulated: Variants) -> Judgement:
    """The verdict of a claim. What does not exist, such as the p99 of an unstable queue, fails."""
    estimate = estimate_of(claim, simulated)
    if estimate is None or estimate.value is None:
        return Judgement(claim, estimate, "fail")
    if claim.than is None and METRICS[claim.of.metric].unit == "count":
        each = [claim.holds(float(value)) for value in _sample(claim.of, simulated)]
        return Judgement(claim, estimate, "pass" if all(each) else "fail")
    return Judgement(claim, estimate, verdict(claim, *(estimate.ci or (estimate.value, estimate.value))))


def verdict(claim: Expectation, low: float, high: float) -> Outcome:
    """Whether an interval lies inside a claim's bounds, outside, or across one."""
    if claim.holds(low) and claim.holds(high):
        return "pass"
    if high < claim.low or low > claim.high or (claim.open_ and (high <= claim.low or low >= claim.high)):
        return "fail"
    return "undecided"
