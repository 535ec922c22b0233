"""The simulations behind the claims of scenarios: every variant a job of its own, repeated with more replications as
long as a claim is undecided, the jobs of many scenarios side by side on all cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.errors import ForebayError, SpecError
from sim import workers
from sim.claims import Expectation
from sim.expect import Judgement, judge
from sim.result import Result, Simulated
from sim.scenario import Scenario
from sim.simulate import simulate_variant

REPLICATIONS_CAP = 160
"""Replications are doubled at most up to here to decide a claim; what is open then is reported as undecided."""


@dataclass(frozen=True, slots=True)
class Job:
    """One simulation: a variant of a scenario whose file lies in `base`."""

    scenario: Scenario
    base: Path
    variant: str | None
    changes: Mapping[str, Any] | None
    replications: int


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job: what was simulated, or the lines that say why it could not be."""

    simulated: Simulated | None
    errors: tuple[str, ...]
    core_s: float


@dataclass(slots=True)
class Question:
    """Claims on a scenario as it stands, or with `changes` made, and what has been simulated to judge them."""

    scenario: Scenario
    base: Path
    claims: Sequence[Expectation]
    changes: Mapping[str, Any] | None = None
    replications: int = 0
    simulated: dict[str | None, Simulated] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    core_s: float = 0.0

    @property
    def results(self) -> dict[str | None, Result]:
        """By variant; None of a scenario without variants."""
        return {name: each.result for name, each in self.simulated.items()}

    @property
    def judgements(self) -> list[Judgement]:
        """Of each claim, on what was simulated last."""
        return [judge(claim, self.simulated) for claim in self.claims] if self.simulated else []

    def next_jobs(self, cap: int = REPLICATIONS_CAP) -> list[Job]:
        """What is to be simulated now: nothing if all is decided, cannot be simulated, or the cap is reached."""
        if self.errors or (self.simulated and not self._open) or self.replications >= cap:
            return []
        twice = min(2 * self.replications, cap)
        self.replications = twice if self.simulated else self.scenario.replications
        names: list[str | None] = [*self.scenario.variants] or [None]
        return [Job(self.scenario, self.base, name, self.changes, self.replications) for name in names]

    def take(self, job: Job, done: Done) -> None:
        """Note what came of one of its jobs."""
        self.core_s += done.core_s
        if done.simulated is None:
            self.errors += tuple(line for line in done.errors if line not in self.errors)
        else:
            self.simulated[job.variant] = done.simulated

    @property
    def _open(self) -> bool:
        """Where a claim fails, what the others come to changes nothing."""
        outcomes = {judgement.outcome for judgement in self.judgements}
        return "undecided" in outcomes and "fail" not in outcomes


def answer(questions: Sequence[Question], progress: Callable[[float], None] = lambda share: None) -> None:
    """Simulate until every question is decided, or has reached the cap.

    `progress` is told the share of the jobs known of that are done.
    """
    known = done = 0
    while waiting := [(question, job) for question in questions for job in question.next_jobs()]:
        known += len(waiting)
        for number, came in workers.unordered(run, [job for _, job in waiting]):
            waiting[number][0].take(waiting[number][1], came)
            done += 1
            progress(done / known)


def run(job: Job) -> Done:
    """Do one job; errors are lines, since not every exception survives the way between processes."""
    began = time.process_time()
    try:
        simulated = simulate_variant(job.scenario, job.base, job.variant, job.replications, job.changes)
    except SpecError as error:
        return Done(None, tuple(str(fault) for fault in error.faults), time.process_time() - began)
    except ForebayError as error:
        return Done(None, (str(error),), time.process_time() - began)
    return Done(simulated, (), time.process_time() - began)
