"""The tour: the whole loop on a real model, on this machine, ending in predicted beside measured.

    model -> calibrate -> new -> plan -> verify          (each step is also a verb of its own)

What was made before is used again only if nothing that matters has changed since, and a short spot
check agrees; the reason for each new measurement is kept for the reader.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from forebay.starter import COMMENTS, starter
from planner.plan import Plan
from planner.report import Report
from serve import files, machine
from serve.errors import SpecError
from serve.profile import Profile
from serve.units import format_duration, format_rate, parse_duration_ns
from sim.result import Result
from sim.scenario import Scenario, Workload

Progress = Callable[[str, float], None]
"""Told what is being done and which share of that step is done."""

LOAD_SHARES = (0.6, 0.5, 0.4, 0.3)
"""Shares of predicted capacity tried as the rate, first to last, until a plan holds the SLO."""
SLO_FACTOR = 3.0
"""The SLO on p99, in p99 service times of a single row."""
RUN = "15s"
"""Length of a live run."""
BUDGET_S = 60.0
MAX_BATCH = 16
"""Batches are measured up to so many rows, if the model takes as many."""
SPOT_CHECK_S = 5.0


@dataclass(frozen=True, slots=True)
class Tour:
    """What the tour made, and why it measured anew."""

    folder: Path
    accuracy: (
        float | None
    )  # of the digits model, on digits it had not seen; none: a model of the user's, or made before
    remeasured: str  # why the profile is new; empty: the old one was used again
    profile: Profile
    scenario: Scenario
    load_share: float
    capacity_rps: float
    plan: Plan
    result: Result | None
    report: Report | None
    notes: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Path of one of the tour's files."""
        return self.folder / name


def tour(folder: Path, *, model: Path | None = None, seed: int = 0, progress: Progress) -> Tour:
    """Run the loop in `folder`, on `model` or on the digits classifier that is trained there.

    Raises
    ------
    SpecError, EngineError : the folder or the user's model cannot be used, or the engine does not run here.
    """
    from planner.export import write
    from planner.plots import plot
    from planner.verify import verify

    _make(folder)
    notes: list[str] = []
    accuracy = _model(folder, model, progress)
    profile, remeasured = _profile(folder, seed, progress)
    scenario, share, capacity_rps, found = _plan(folder, profile, seed, progress, notes)
    report = None
    if found.feasible:
        write(found, scenario, folder / "deployment.yaml", base=folder)
        files.save(folder / "result.yaml", _required(found.result))
        report = verify(
            folder / "deployment.yaml",
            progress=lambda what, done: progress(f"verify: {what}", done),
            log_dir=folder / "logs",
        )
        files.save(folder / "report.yaml", report)
        plot(report, folder / "report.png")
    return Tour(
        folder, accuracy, remeasured, profile, scenario, share, capacity_rps, found, found.result, report, notes
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError.of(
            "--output", "", f"must be a folder, or a place for one: {folder}: {error.strerror}"
        ) from None


def _required(result: Result | None) -> Result:
    assert result is not None, "a feasible plan carries its result"
    return result


# -- the model ------------------------------------------------------------------------------------


def _model(folder: Path, given: Path | None, progress: Progress) -> float | None:
    """Put the model into the folder; its accuracy if it was trained just now."""
    target = folder / "model.onnx"
    if given is not None:
        from serve.calibration.subject import inspect

        if not given.is_file():
            raise SpecError.of(str(given), "", "no such model file; give the path of an .onnx file")
        if not (target.exists() and files.sha256(given) == files.sha256(target)):
            inspect(given, MAX_BATCH, False, None, None, 0)  # what cannot be served replaces nothing
            shutil.copyfile(given, target)
        return None
    from forebay import digits

    # The digits model is a function of its source alone: trained anew it gives the same bytes.
    progress("train the digits classifier", 0.0)
    trained = digits.train()
    digits.export_onnx(trained, target)
    progress("train the digits classifier", 1.0)
    return trained.accuracy


# -- the profile ----------------------------------------------------------------------------------


def _profile(folder: Path, seed: int, progress: Progress) -> tuple[Profile, str]:
    """The profile in the folder if it still holds, else a new one and why."""
    from serve.benchmark import calibrate

    path = folder / "profile.yaml"
    profile, reason = _known_profile(folder, path, progress)
    if profile is not None:
        return profile, ""
    made = calibrate(
        folder / "model.onnx",
        out=path,
        budget_s=BUDGET_S,
        max_batch=MAX_BATCH,
        seed=seed,
        progress=lambda done, what: progress(f"calibrate: {what}", done),
    )
    return made, reason


def _known_profile(folder: Path, path: Path, progress: Progress) -> tuple[Profile | None, str]:
    if not path.exists():
        return None, "there was no profile yet"
    try:
        profile = files.load(path, Profile)
    except SpecError as error:
        return None, f"the old profile cannot be read: {error.faults[0].message}"
    if profile.model.sha256 != files.sha256(folder / "model.onnx"):
        return None, "the model has changed"
    try:
        files.bound(path, "samples", profile.samples)
    except SpecError:
        return None, "the profile's samples are missing or were changed"
    if changed := machine.differences(profile.machine, machine.describe()):
        return None, "; ".join(changed)
    return _spot_checked(path, profile, progress)


def _spot_checked(path: Path, profile: Profile, progress: Progress) -> tuple[Profile | None, str]:
    from serve.benchmark import spot_check

    progress("spot check of the profile", 0.0)
    check = spot_check(path, seconds=SPOT_CHECK_S)
    progress("spot check of the profile", 1.0)
    return (profile, "") if check.agrees else (None, f"the spot check disagrees: {check.why}")


# -- the scenario and the plan --------------------------------------------------------------------


def _plan(
    folder: Path, profile: Profile, seed: int, progress: Progress, notes: list[str]
) -> tuple[Scenario, float, float, Plan]:
    """The scenario at the largest load share whose SLO a plan holds, written down, and that plan."""
    from planner.search import plan

    path = folder / "scenario.yaml"
    slo = {"p99": format_duration(round(SLO_FACTOR * single_row_p99_ms(profile) * 100) * 10_000)}
    capacity_rps = best_capacity_rps(profile, folder)
    for share in LOAD_SHARES:
        scenario = _scenario(profile, folder, path, share * capacity_rps, slo, seed)
        files.save(path, scenario, COMMENTS)
        found = plan(scenario, base=folder, progress=lambda what, done: progress(f"plan: {what}", done))
        if found.feasible:
            return scenario, share, capacity_rps, found
        notes.append(f"no setting holds p99 < {slo['p99']} at {share:.0%} of capacity; tried less load")
    return scenario, share, capacity_rps, found


def single_row_p99_ms(profile: Profile) -> float:
    """p99 service time of one row, alone on the machine, at the fewest threads measured."""
    return min((c.threads, c.busy, c.rows, c.p99_ms) for c in profile.service)[3]


def best_capacity_rps(profile: Profile, folder: Path) -> float:
    """Highest predicted capacity over the batch sizes that `choices` offers, one replica."""
    from sim.simulate import simulate

    path = folder / "scenario.yaml"
    asked = starter(profile, folder / "profile.yaml", path, 1.0, {})
    asked = asked.model_copy(update={"workload": _workload(asked, 10**9)})
    batch = f"models.{profile.name}.batching.max_batch"
    sizes = asked.choices[batch]
    results = (simulate(asked, base=folder, replications=2, overrides={batch: size}) for size in sizes)
    return max(result.capacity_rps or 0.0 for result in results)


def _scenario(profile: Profile, folder: Path, path: Path, rate_rps: float, slo: dict[str, str], seed: int) -> Scenario:
    asked = starter(profile, folder / "profile.yaml", path, float(round(rate_rps)), slo)
    return asked.model_copy(update={"seed": seed, "workload": _workload(asked, parse_duration_ns(RUN))})


def _workload(scenario: Scenario, duration_ns: int) -> Workload:
    return scenario.workload.model_copy(update={"duration": duration_ns})


def commands(made: Tour) -> list[str]:
    """The five commands that redo each step; where no setting holds the SLO, those up to the plan."""

    def at(name: str) -> str:
        return shlex.quote(str(made.path(name)))

    rate = format_rate(float(round(made.load_share * made.capacity_rps)))
    slo = f"p99<{made.scenario.slo['p99']}"
    planning = [
        f"forebay calibrate {at('model.onnx')} -o {at('profile.yaml')}",
        f"forebay new {at('profile.yaml')} --rate {rate} --slo '{slo}' -o {at('scenario.yaml')}",
        f"forebay plan {at('scenario.yaml')} -o {at('deployment.yaml')}",
    ]
    serving = [
        f"forebay serve {at('deployment.yaml')} --http-port 8000",
        f"forebay verify {at('deployment.yaml')} -o {at('report.yaml')}",
    ]
    return planning if made.report is None else planning + serving
