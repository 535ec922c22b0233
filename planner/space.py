"""The deployments that a plan searches: every combination of the choices, and what follows from the SLO."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from planner import cost
from planner.fastest import capacity_rows_per_s
from planner.slo import Bound, latency_limit_s, latency_limits_s
from serve.deployment import Deployment, front_budget_within_ns
from serve.errors import Fault, SpecError
from serve.faults import explain, near_miss
from serve.profile import Profile
from serve.units import format_duration
from sim.paths import nested
from sim.scenario import Scenario

SPACE_MAX = 20_000
"""Most candidates of one plan; more choices than that are a mistake or need a coarser list."""
WINDOWS_NS = (0, 1_000_000, 2_000_000, 5_000_000, 10_000_000)
REPLICAS_MAX = 64
Settings = tuple[tuple[str, Any], ...]

BOUGHT = (".type", ".provider", ".region", ".buy")
"""Settings of a pool that its cores and price follow from, which are looked up before candidates are made."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment of the space; `settings` are its choices as files write them, in the order of the choices."""

    index: int
    settings: Settings
    deployment: Deployment

    @property
    def replica_cores(self) -> int:
        """Replicas x threads."""
        return cost.replica_cores(self.deployment)

    def __str__(self) -> str:
        return ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in self.settings) or "as given"


# -- the choices ---------------------------------------------------------------------------------


def choices_of(
    scenario: Scenario, deployment: Deployment, profile: Profile, bounds: list[Bound]
) -> dict[str, list[Any]]:
    """The choices of a scenario as lists, or the default ones: window, max_batch, replicas, threads, slots.

    Raises
    ------
    SpecError : a path that the deployment lacks, a list that is empty or no range, threads that were not
        measured; all faults at once.
    """
    if not scenario.choices and cost.is_fleet(deployment):
        what = "is missing: of several nodes, a router or an autoscaler only what is named here is searched"
        raise SpecError.of("scenario", "choices", what)
    if not scenario.choices:
        return default_choices(deployment, profile, bounds)
    plain = deployment.model_dump(mode="json")
    choices: dict[str, list[Any]] = {}
    faults = [
        Fault("scenario", f"choices.{path}", f"lies inside {outer}, which is a choice too; search one of them")
        for path, outer in nested(scenario.choices)
    ]
    for path, given in scenario.choices.items():
        path = path.removeprefix("deployment.")
        try:
            if path.startswith("pools.") and path.endswith(BOUGHT):
                raise ValueError("what a pool buys is not searched; write its price, or plan each by itself")
            _find(plain, path)
            choices[path] = _values(given)
            _check_measured(path, choices[path], profile)
        except ValueError as fault:
            faults.append(Fault("scenario", f"choices.{path}", str(fault)))
    faults += _fixed_faults(deployment, choices, profile)
    if faults:
        raise SpecError(faults)
    return choices


def default_choices(deployment: Deployment, profile: Profile, bounds: list[Bound]) -> dict[str, list[Any]]:
    """What is searched when a scenario says nothing: windows below half the SLO, all sizes that were measured."""
    name, _ = cost.only_model(deployment)
    limit_s = latency_limit_s(bounds)
    windows = [w for w in WINDOWS_NS if limit_s is None or w == 0 or w / 1e9 < limit_s / 2]
    threads = sorted({cell.threads for cell in profile.service})
    cores = cost.cores_of(deployment)
    return {
        f"models.{name}.batching.window": [format_duration(w) for w in windows],
        f"models.{name}.batching.max_batch": powers_to(profile.model.max_batch),
        f"models.{name}.replicas.count": list(range(1, min(REPLICAS_MAX, max(1, cores // threads[0])) + 1)),
        f"models.{name}.replicas.threads": threads,
        f"models.{name}.replicas.slots": [1, 2],
    }


def powers_to(most: int) -> list[int]:
    """1, 2, 4, ... up to and with `most`."""
    powers = [1 << i for i in range(most.bit_length())]
    return powers if powers[-1] == most else [*powers, most]


def _values(given: list[Any] | str) -> list[Any]:
    """`[1, 2]` as it is, `1..4` as 1, 2, 3, 4."""
    if isinstance(given, list):
        if not given:
            raise ValueError("must list at least one value, got []")
        return list(given)
    matched = re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", given)
    if matched is None or int(matched[1]) > int(matched[2]):
        raise ValueError(f"must be a list such as [0ms, 2ms] or a range such as 1..4, got {given!r}")
    low, high = int(matched[1]), int(matched[2])
    if high - low >= SPACE_MAX:
        raise ValueError(f"must have at most {SPACE_MAX} values, got {given!r}")
    return list(range(low, high + 1))


def _check_measured(path: str, values: list[Any], profile: Profile) -> None:
    """Refuse threads and batches that the profile says nothing about."""
    if path.endswith(".replicas.threads"):
        known = sorted({cell.threads for cell in profile.service})
        missing = [v for v in values if v not in known]
        if missing:
            raise ValueError(f"the profile measured threads {known}, not {missing}; calibrate with --threads")
    if path.endswith(".batching.max_batch"):
        most = profile.model.max_batch
        larger = [v for v in values if isinstance(v, int) and v > most]
        if larger:
            raise ValueError(
                f"the profile measured batches up to {most} rows, not {max(larger)}; calibrate larger ones"
            )


def _fixed_faults(deployment: Deployment, choices: Mapping[str, Any], profile: Profile) -> list[Fault]:
    """The same of what the deployment fixes and no choice replaces."""
    name, model = cost.only_model(deployment)
    fixed = {
        f"models.{name}.replicas.threads": model.replicas.threads,
        f"models.{name}.batching.max_batch": model.batching.max_batch,
    }
    faults = []
    for path, value in fixed.items():
        try:
            if path not in choices:
                _check_measured(path, [value], profile)
        except ValueError as fault:
            faults.append(Fault("scenario", f"deployment.{path}", str(fault)))
    return faults


def _find(plain: Mapping[str, Any], path: str) -> None:
    """Check that a path leads to a value of the deployment."""
    here: Any = plain
    walked: list[str] = []
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            known = list(here) if isinstance(here, Mapping) else []
            raise ValueError(f"the deployment has no {'.'.join([*walked, key])}; {near_miss(key, known)}")
        here = here[key]
        walked.append(key)


# -- the candidates ------------------------------------------------------------------------------


def candidates(
    deployment: Deployment, choices: dict[str, list[Any]], profile: Profile, bounds: list[Bound]
) -> list[Candidate]:
    """Every combination of the choices, with `max_queue` and `front.budget` derived where they are no choice.

    Raises
    ------
    SpecError : more than SPACE_MAX combinations, or values that the deployment's schema refuses.
    """
    size = math.prod(len(values) for values in choices.values())
    if size > SPACE_MAX:
        raise SpecError.of(
            "scenario", "choices", f"{size} combinations, at most {SPACE_MAX} are searched; list fewer values"
        )
    return list(_build(deployment, choices, profile, bounds))


def _build(
    deployment: Deployment, choices: dict[str, list[Any]], profile: Profile, bounds: list[Bound]
) -> Iterator[Candidate]:
    for index, values in enumerate(itertools.product(*choices.values())):
        settings = tuple(zip(choices, values, strict=True))
        chosen = with_values(deployment, dict(settings))
        yield Candidate(index, settings, with_values(chosen, _derived(chosen, choices, profile, bounds)))


def with_values(deployment: Deployment, values: Mapping[str, Any]) -> Deployment:
    """The deployment with the values at these paths (which exist) replaced and all of it checked again."""
    plain = deployment.model_dump(mode="json")
    for path, value in values.items():
        *parents, last = path.removeprefix("deployment.").split(".")
        here = plain
        for key in parents:
            here = here[key]
        here[last] = value
    try:
        return Deployment.model_validate(plain)
    except ValidationError as fault:
        raise SpecError(explain("choices", Deployment, plain, fault)) from None


def _derived(
    deployment: Deployment, choices: Mapping[str, Any], profile: Profile, bounds: list[Bound]
) -> dict[str, Any]:
    """Settings that follow from the SLO: who could no longer be served in time is refused at once."""
    name, model = cost.only_model(deployment)
    limit_s = latency_limit_s(bounds)
    derived: dict[str, Any] = {}
    queue = f"models.{name}.queue.max_queue"
    if queue not in choices and not cost.is_fleet(deployment):
        if limit_s is not None:
            derived[queue] = max_queue_rows(deployment, profile, limit_s)
        elif model.queue.max_queue == "unbounded":
            derived[queue] = 256
    if "front.budget" not in choices and limit_s is not None:
        budget_ns = front_budget_within_ns(round(limit * 1e9) for limit in latency_limits_s(bounds))
        derived["front.budget"] = format_duration(budget_ns)
    return derived


def max_queue_rows(deployment: Deployment, profile: Profile, limit_s: float) -> int:
    """Rows that may wait so that the last of them can still be answered within `limit_s`.

    Those ahead leave at the rate of full batches; a queue longer than what leaves within the SLO
    only makes everybody late. At least two full batches, so that a burst of one is not refused.
    """
    model = cost.only_model(deployment)[1]
    rate = capacity_rows_per_s(deployment, profile)
    return max(2 * model.batching.max_batch, math.ceil(rate * limit_s))
