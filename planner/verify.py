"""Verification: the same arrivals simulated and replayed against the live engine, side by side.

The prediction comes first and is written down before the engine starts. Then the arrivals are
replayed, open loop, at their instants, twice or more: what two live runs differ by is the noise that no
prediction can beat. Latency is the client's, from the *intended* instant; the same warm-up is cut on
both sides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from planner import compare
from planner.arrivals import Arrivals, draw
from planner.joined import batch_counts, batch_shares_between
from planner.live_run import Replayed, measured_run
from planner.look import look
from planner.report import Prediction, Report, Run
from planner.scaled_run import scaling_metrics
from planner.slo import parse_slo
from planner.subject import Subject, read_subject
from serve import files, machine
from serve.errors import SpecError
from serve.launch import Live
from serve.load_plan import LoadPlan
from serve.loadgen import LoadGenerator
from serve.records import Rows
from serve.scratch import scratch
from serve.units import format_duration

if TYPE_CHECKING:
    from sim.level import Level
    from sim.result import Result
    from sim.workload import Given

Progress = Callable[[str, float], None]
"""Told what is being done and which share of all is done."""

PRIMER_NS = 1_000_000_000
"""A live run is preceded by this much of its own arrivals, whose answers are not counted: first calls are slow."""
LATE_SHARE_MAX = 0.01
SPOT_CHECK_S = 8.0
"""How long the machine is looked at before a prediction: its speed drifts by several per cent over minutes."""


def verify(
    deployment_path: Path,
    *,
    url: str | None = None,
    seed: int | None = None,
    repeats: int = 2,
    progress: Progress | None = None,
    prediction_path: Path | None = None,
    log_dir: Path | None = None,
    spot_check_s: float = SPOT_CHECK_S,
) -> Report:
    """Hold a deployment's prediction against the live engine.

    Parameters
    ----------
    deployment_path : as `forebay plan` writes it, `planned_for` inside.
    url : of an engine that already runs it; none: it is started and stopped here.
    seed : of the arrivals; none: the one that it was planned with.
    repeats : live runs of the same arrivals; two or more show the noise floor.
    prediction_path : where the prediction is written down before the first live run; none: beside the deployment.
    log_dir : where the engine's logs are kept; none: nowhere.
    spot_check_s : how long to measure, before the prediction, how fast the machine is now relative to the profile;
        0: the prediction rests on the profile alone. Not done with a `url`.

    Raises
    ------
    ValueError : `repeats` below 1.
    SpecError : a deployment that says not what it was planned for.
    EngineError, LoadError : the engine did not start, or could not be reached.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    tell = progress or (lambda what, share: None)
    subject = read_subject(deployment_path, seed)
    arrivals = draw(
        subject.planned.workload, subject.deployment.models[subject.name], deployment_path.parent, subject.seed
    )
    if arrivals.empty:
        what = f"no request arrives in {format_duration(arrivals.duration_ns)} by seed {subject.seed}; lengthen it"
        raise SpecError.of(deployment_path, "planned_for.workload.duration", what)
    level = None
    if spot_check_s > 0 and url is None:
        tell("looking how fast the machine is", 0.02)
        level = look(subject, spot_check_s)
    tell("simulating", 0.04)
    prediction = predict_first(subject, arrivals, prediction_path, level)
    with _folder(log_dir) as logs:
        replayed = replay_live(subject, arrivals, url, repeats, tell, logs)
        tell("comparing", 0.97)
        runs = _measured(subject, arrivals, replayed, None if url is not None else logs, prediction.result.warmup_s)
    report = build_report(subject, prediction, runs, joined=url is not None)
    tell("done", 1.0)
    return report


def _predicted(
    subject: Subject,
    given: dict[str, Given],
    replications: int,
    level: Level | None = None,
    warmup_s: float | None = None,
) -> Result:
    from sim.simulate import predict

    return predict(
        subject.deployment,
        subject.planned.workload,
        base=subject.path.parent,
        seed=subject.seed,
        replications=replications,
        slo=subject.planned.slo,
        given=given,
        level=level,
        warmup_s=warmup_s,
    )


def predict_first(
    subject: Subject, arrivals: Arrivals, path: Path | None = None, level: Level | None = None
) -> Prediction:
    """Simulate the arrivals that are about to be replayed, and write the prediction down."""
    replications = max(20, subject.planned.replications)
    result = _predicted(subject, arrivals.given(), replications, level)
    rehearsed = None
    if subject.emulated:
        draws = arrivals.given(arrivals.emulated_draws())
        rehearsed = _predicted(subject, draws, replications, level, result.warmup_s)
    prediction = Prediction(
        deployment_sha256=files.sha256(subject.path),
        date=now_text(),
        seed=subject.seed,
        arrivals_sha256=arrivals.sha256,
        level=None if level is None else level.value,
        cold=None if level is None else level.cold,
        late_us=level.late_ns / 1000 if level is not None and subject.emulated else None,
        front_level=None if level is None else level.front,
        result=result,
        rehearsed=rehearsed,
    )
    files.save(path or subject.path.with_name(f"{subject.path.stem}.prediction.yaml"), prediction)
    return prediction


# -- the live runs -------------------------------------------------------------------------------


def replay_live(
    subject: Subject, arrivals: Arrivals, url: str | None, repeats: int, tell: Progress, logs: Path
) -> list[Replayed]:
    """Replay the arrivals `repeats` times against the engine at `url`, or one that is started for it.

    One that sets its own replicas is started for each run, as the prediction begins anew with `count`.
    """
    if url is not None and subject.scaled:
        what = "an engine that sets its own replicas is started for each run; verify starts it itself"
        raise SpecError.of("--url", "", what)
    if url is not None:
        return _replays(subject, arrivals, url, None, range(repeats), repeats, tell)
    tell("starting the engine", 0.05)
    if not subject.scaled:
        with subject.launch(logs) as live:
            return _replays(subject, arrivals, live.url, live, range(repeats), repeats, tell)
    found = []
    for number in range(repeats):
        with subject.launch(_folder_of_run(logs, number)) as live:
            found += _replays(subject, arrivals, live.url, live, range(number, number + 1), repeats, tell)
    return found


def _folder_of_run(logs: Path, number: int) -> Path:
    """Where an engine of its own for one run has its logs."""
    return logs / f"run-{number + 1}"


def _replays(
    subject: Subject,
    arrivals: Arrivals,
    url: str,
    live: Live | None,
    numbers: range,
    repeats: int,
    tell: Progress,
) -> list[Replayed]:
    """These of all the runs; primed first, but where the primer would be load that an autoscaler sees."""
    plan = arrivals.plan(subject.name, subject.inputs())
    cpus = None if live is None else subject.generator_cores
    with LoadGenerator(url, cpus=cpus) as generator:
        if not subject.scaled:
            generator.replay(arrivals.plan(subject.name, plan.inputs, PRIMER_NS))
        return [
            _replay(generator, plan, url, subject.name, live, _live_progress(tell, live, number, repeats, arrivals))
            for number in numbers
        ]


def _live_progress(
    tell: Progress, live: Live | None, number: int, repeats: int, arrivals: Arrivals
) -> Callable[[float], None]:
    def told(seconds: float) -> None:
        if live is not None:
            live.check()
        share = min(1.0, seconds * 1e9 / arrivals.duration_ns)
        tell(f"live run {number + 1} of {repeats}", 0.1 + 0.85 * (number + share) / repeats)

    return told


def _replay(
    generator: LoadGenerator, plan: LoadPlan, url: str, model: str, live: Live | None, told: Callable[[float], None]
) -> Replayed:
    """One replay, with the fronts' CPU time (engines of ours) or the server's batch statistics around it."""
    if live is None:
        before = batch_counts(url, model)
        client = generator.replay(plan, told)
        return Replayed(client, None, batch_shares=batch_shares_between(before, batch_counts(url, model)))
    ours = [os.getpid()]  # and our children: engine, replicas, generator
    before_s, begun = _cpu_s(live), machine.cpu_times(time.monotonic(), ours)
    client = generator.replay(plan, told)
    ended = machine.cpu_times(time.monotonic(), ours)
    front_s, router_s = (after - before for after, before in zip(_cpu_s(live), before_s, strict=True))
    span_s = ended.at_s - begun.at_s
    return Replayed(
        client,
        front_s / len(live.fronts) / span_s,
        router_s / span_s if live.routed else None,
        strangers_cores=begun.strangers_share(ended),
    )


def _cpu_s(live: Live) -> tuple[float, float]:
    """CPU time so far of all fronts, and of the router."""
    router_s = machine.process_cpu_s(live.pid) if live.routed else 0.0
    return sum(map(machine.process_cpu_s, live.fronts)), router_s


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with scratch() as folder:
        yield folder


def _logged(logs: Path) -> Rows:
    from serve.request_log import read_requests  # pyarrow is slow to import

    return read_requests(logs)


# -- from rows to the report ---------------------------------------------------------------------


def _measured(
    subject: Subject, arrivals: Arrivals, replayed: list[Replayed], logs: Path | None, warmup_s: float
) -> list[Run]:
    """The runs, by the logs of their engines; None: only the client saw them."""
    rows = None if logs is None or subject.scaled else _logged(logs)
    runs = []
    for number, each in enumerate(replayed):
        scaling = None
        if logs is not None and subject.scaled:
            folder = _folder_of_run(logs, number)
            rows, scaling = _logged(folder), partial(scaling_metrics, folder, subject.name)
        run = measured_run(
            arrivals,
            each,
            rows,
            replicas=subject.replicas,
            slo=subject.planned.slo,
            warmup_s=warmup_s,
            scaling=scaling,
        )
        runs.append(run)
    return runs


def build_report(subject: Subject, prediction: Prediction, runs: list[Run], joined: bool) -> Report:
    """The report of finished runs."""
    bounds = parse_slo(subject.planned.slo, tuple(subject.planned.workload.classes))
    here = machine.describe()
    rows = compare.compare(prediction.result, runs, prediction.rehearsed)
    batch_tv, batch_tv_noise = compare.batch_distance(prediction.rehearsed or prediction.result, runs)
    checks = compare.check_bounds(bounds, runs)
    faults = compare.prediction_faults(rows, batch_tv, batch_tv_noise)
    verdict, reason = compare.verdict(checks, faults)
    needed = cores_needed(subject, runs)
    return Report(
        deployment=str(subject.path),
        deployment_sha256=prediction.deployment_sha256,
        date=now_text(),
        machine=here,
        started="joined" if joined else "launched",
        seed=subject.seed,
        duration_s=subject.planned.workload.duration / 1e9,
        warmup_s=prediction.result.warmup_s,
        level=prediction.level,
        cold=prediction.cold,
        late_us=prediction.late_us,
        front_level=prediction.front_level,
        predicted=prediction.result,
        rehearsed=prediction.rehearsed,
        runs=runs,
        comparisons=rows,
        batch_tv=batch_tv,
        batch_tv_noise=batch_tv_noise,
        bounds=checks,
        cores=here.cores,
        cores_needed=needed,
        oversubscribed=needed > here.cores,
        slo_met=all(c.held for c in checks),
        prediction_ok=not faults,
        verdict=verdict,
        verdict_reason=reason,
        warnings=_warnings(subject, runs, needed, here.cores),
    )


def cores_needed(subject: Subject, runs: list[Run]) -> float:
    """Cores that replicas, fronts, router and load generator want together, as the runs showed."""
    fronts = max(((run.front_cores or 0.0) * subject.nodes + (run.router_cores or 0.0) for run in runs), default=0.0)
    return subject.replica_cores + fronts + max(run.loadgen_cores for run in runs)


def _warnings(subject: Subject, runs: list[Run], needed: float, cores: int) -> list[str]:
    found = [
        f"the profile was measured elsewhere: {line}"
        for line in machine.differences(subject.profile.machine, machine.describe())
    ]
    planned_sha = subject.deployment.models[subject.name].profile_sha256
    if planned_sha is not None and planned_sha != files.sha256(subject.profile_path):
        found.append(f"{subject.profile_path.name} has changed since the deployment was planned")
    if subject.nodes > 1 and not subject.emulated:
        found.append(
            f"{subject.nodes} nodes share this machine and slow each other, which the prediction does not know"
        )
    if needed > cores:
        found.append(
            f"replicas, front and load generator want {needed:.2f} cores of {cores}: they slow each other down"
        )
    strangers = max(run.strangers_cores or 0.0 for run in runs)
    if strangers > machine.STRANGERS_MAX:
        found.append(
            f"disturbed: other processes, or the hypervisor, took {strangers:.2f} cores during a live run; "
            "verify again on a quiet machine"
        )
    late = max(run.late_share for run in runs)
    if late > LATE_SHARE_MAX:
        found.append(f"the load generator sent {late:.1%} of the requests late; it may have been the bottleneck")
    return found


def now_text() -> str:
    """This instant, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
