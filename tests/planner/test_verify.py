"""Verification's own parts, with made-up rows; the live loop has its test in test_verify_live."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner import export, verify
from planner.arrivals import draw
from planner.live_run import SERVER_ONLY, Replayed, measured_run
from planner.plots import plot
from planner.report import Prediction, Report, facts
from planner.search import plan
from planner.subject import read_subject
from serve import files
from serve.errors import SpecError
from serve.loadgen import ClientRows
from serve.policy.codes import OUTCOME_OK, REASON_IDLE
from serve.records import (
    ANSWERED_NS,
    ARRIVAL_NS,
    BATCH,
    DISPATCH_NS,
    DONE_NS,
    ENQUEUE_NS,
    OUTCOME,
    REASON,
    REPLICA,
    REQUEST,
    ROWS,
    START_NS,
    Rows,
    empty_rows,
)
from sim.result import Result
from tests.planner.worlds import World, scenario, write_profile

ZERO_NS = 10**12
SERVICE_NS = 5_000_000


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A planned deployment's file."""
    write_profile(tmp_path)
    question = scenario(400, {"p99": "20ms"}, {"models.m.replicas.count": [1]})
    export.write(plan(question, base=tmp_path, evaluate=World()), question, tmp_path / "d.yaml", base=tmp_path)
    return tmp_path / "d.yaml"


def live(at_ns: np.ndarray[tuple[int], np.dtype[np.int64]], start_ns: int = ZERO_NS) -> tuple[ClientRows, Rows]:
    """A replay in which each request is served alone in 5 ms, half a ms of which is the client's."""
    count = len(at_ns)
    intended = at_ns + start_ns
    client = ClientRows(
        request=np.arange(count),
        intended_ns=intended,
        sent_ns=intended + 100_000,
        received_ns=intended + SERVICE_NS,
        status=np.full(count, 200),
        start_ns=start_ns,
        end_ns=int(intended[-1]) + 10**9,
        cpu_s=1.0,
        connections=4,
        late_after_ns=1_000_000,
    )
    rows = empty_rows(count)
    rows[:, REQUEST] = rows[:, BATCH] = np.arange(count)
    rows[:, ROWS], rows[:, REPLICA], rows[:, OUTCOME], rows[:, REASON] = 1, 0, OUTCOME_OK, REASON_IDLE
    for column in (ARRIVAL_NS, ENQUEUE_NS, DISPATCH_NS, START_NS):
        rows[:, column] = intended + 300_000
    for column in (DONE_NS, ANSWERED_NS):
        rows[:, column] = intended + SERVICE_NS - 200_000
    return client, rows


def report_of(path: Path, served: bool = True, strangers_cores: float | None = None) -> Report:
    """The report of two made-up runs, whose engine log is at hand if `served`."""
    subject = read_subject(path)
    arrivals = draw(subject.planned.workload, subject.deployment.models["m"], path.parent, subject.seed)
    assert arrivals.open is not None
    first, rows_first = live(arrivals.open.arrival_ns)
    second, rows_second = live(arrivals.open.arrival_ns, 2 * ZERO_NS)
    rows = np.concatenate([rows_first, rows_second]) if served else None
    prediction = Prediction(
        deployment_sha256=files.sha256(path),
        date="2026-01-01T00:00:00Z",
        seed=subject.seed,
        arrivals_sha256=arrivals.sha256,
        result=files.parse(subject.deployment.prediction, Result, "d"),
    )
    shares = None if served else {1: 1.0}
    runs = [
        measured_run(
            arrivals,
            Replayed(c, 0.25 if served else None, batch_shares=shares, strangers_cores=strangers_cores),
            rows,
            replicas=subject.replicas,
            slo=subject.planned.slo,
            warmup_s=1.0,
        )
        for c in (first, second)
    ]
    return verify.build_report(subject, prediction, runs, joined=not served)


def test_each_run_is_measured_from_its_own_rows_without_its_warm_up(planned: Path) -> None:
    report = report_of(planned)
    subject = read_subject(planned)
    arrivals = draw(subject.planned.workload, subject.deployment.models["m"], planned.parent, subject.seed)
    assert arrivals.open is not None
    counted = int((arrivals.open.arrival_ns >= 10**9).sum())
    for run in report.runs:
        assert run.requests == run.answered == counted
        assert run.metrics["p99"] == pytest.approx(0.005)
        assert run.metrics["client_delay"] == pytest.approx(0.0005)
        assert run.metrics["compute"] == pytest.approx(0.0045)
        assert run.batch_rows == {1: 1.0}
        assert run.reasons == {"idle": 1.0}
        assert run.late_share == 0.0
        assert run.metrics["front_busy"] == pytest.approx(0.25)


def test_a_joined_engine_tells_what_the_client_and_its_statistics_know(planned: Path) -> None:
    (run, _) = report_of(planned, served=False).runs
    assert run.metrics["p99"] == pytest.approx(0.005)
    assert "busy" not in run.metrics
    assert run.batch_rows == {1: 1.0}
    for part in (run.metrics, *run.classes.values()):
        assert "p99" in part and not SERVER_ONLY & set(part), "only the engine's log tells these"


def test_a_report_reads_back_and_its_exit_code_follows_the_verdict(planned: Path, tmp_path: Path) -> None:
    report = report_of(planned)
    files.save(tmp_path / "report.yaml", report)
    assert files.load(tmp_path / "report.yaml", Report) == report
    assert report.exit_code == (0 if report.verdict == "ok" else 1)
    assert report.slo_met


def test_a_report_counts_the_cores_of_everybody(planned: Path) -> None:
    report = report_of(planned)
    assert report.cores_needed == pytest.approx(1 + 0.25 + report.runs[0].loadgen_cores)


def test_a_changed_profile_is_named(planned: Path) -> None:
    profile = planned.parent / "profile.yaml"
    profile.write_text(profile.read_text() + "# changed\n")
    assert any("has changed since" in warning for warning in report_of(planned).warnings)


def test_a_disturbed_run_is_named(planned: Path) -> None:
    assert not any("disturbed" in warning for warning in report_of(planned, strangers_cores=0.1).warnings)
    assert any("took 0.60 cores during a live run" in w for w in report_of(planned, strangers_cores=0.6).warnings)


def test_a_deployment_that_was_never_planned_is_refused(planned: Path) -> None:
    text = planned.read_text()
    planned.write_text(text[: text.index("planned_for:")])
    with pytest.raises(SpecError, match="planned_for"):
        read_subject(planned)


def test_the_facts_beside_the_table_name_batches_reasons_and_the_generator(planned: Path) -> None:
    told = "\n".join(facts(report_of(planned)))
    assert "the first 0 s cut" in told
    assert "total variation 0.000, between runs 0.000" in told
    assert "measured idle 100.0%" in told
    assert "0.00% of the requests sent late" in told


def test_the_picture_is_a_png(planned: Path, tmp_path: Path) -> None:
    plot(report_of(planned), tmp_path / "deeper" / "report.png")
    assert (tmp_path / "deeper" / "report.png").read_bytes().startswith(b"\x89PNG")
