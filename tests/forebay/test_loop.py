"""The verbs one after the other, on a live engine with an emulated model: new, plan, serve, load, verify, check.

Nothing is said here of how fast the machine is: only that each step takes what the last one wrote.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forebay.cli import app
from planner.report import Report
from serve import files
from serve.deployment import Deployment
from tests.profiles import Synthetic, write_profile

pytestmark = pytest.mark.live


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(done: Result, *codes: int) -> Result:
    """The verb ended with one of the exit codes, by default 0, and said nothing untoward."""
    assert done.exit_code in (codes or (0,)), (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first half of the loop has run: profile, scenario, deployment."""
    made = tmp_path_factory.mktemp("loop")
    write_profile(made, Synthetic(base_ms=2.0, row_ms=0.2, noise_cv=0.02), name="toy")
    slo = ("--slo", "p99<500ms,failed<100%,refused<100%,expired<100%")
    ok(run("new", made / "toy.yaml", "--rate", "60/s", *slo, "-o", made / "s.yaml"))
    text = (made / "s.yaml").read_text().replace("duration: 1min", "duration: 2s")
    (made / "s.yaml").write_text(text.replace("[1, 2, 4, 8, 16]", "[1, 8]").replace("1..2", "[1]"))
    ok(run("plan", made / "s.yaml", "-o", made / "d.yaml"))
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """An engine that serves the planned deployment; told to stop at the end, it drains and exits 0."""
    command = [sys.executable, "-m", "forebay", "serve", str(folder / "d.yaml"), "--http-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        try:
            ready = json.loads(engine.stdout.readline())
            assert ready["schema_version"] == 1
            yield str(ready["url"])
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(30) == 0
        finally:
            engine.kill()


def test_the_plan_is_a_deployment_with_its_question_and_prediction_inside(folder: Path) -> None:
    planned = files.load(folder / "d.yaml", Deployment)
    assert planned.planned_for is not None and planned.planned_for["slo"]["p99"] == "500ms"
    assert planned.prediction is not None and planned.models["toy"].profile == "toy.yaml"
    assert planned.models["toy"].profile_sha256 == files.sha256(folder / "toy.yaml")


def test_load_by_rate_asks_the_only_model_and_counts_every_request(url: str) -> None:
    told = json.loads(ok(run("load", url, "--rate", "50/s", "--duration", "1s", "--json")).stdout)
    assert (told["schema_version"], told["model"]) == (1, "toy")
    assert told["requests"] > 20
    lost = sum(told["metrics"][metric] for metric in ("refused", "expired", "cancelled", "failed"))
    assert told["answered"] == round(told["requests"] * (1 - lost))


def test_load_by_scenario_is_held_to_its_slo(folder: Path, url: str) -> None:
    done = ok(run("load", url, "--scenario", folder / "s.yaml"), 0, 1)
    assert "p99 <= 500ms" in done.stdout and "the load generator took" in done.stdout


def test_load_of_an_unknown_model_is_a_line(url: str) -> None:
    done = run("load", url, "--rate", "50/s", "--duration", "1s", "--model", "tov")
    assert done.exit_code == 2 and "unknown model 'tov'" in done.stderr


def test_verify_joins_a_running_engine_and_writes_a_report(folder: Path, url: str) -> None:
    ok(run("verify", folder / "d.yaml", "--url", url, "--repeats", 1, "-o", folder / "joined.yaml"), 0, 1)
    report = files.load(folder / "joined.yaml", Report)
    assert (report.started, len(report.runs)) == ("joined", 1)


def test_verify_starts_its_own_engine_and_its_exit_code_is_the_verdict(folder: Path) -> None:
    done = ok(run("verify", folder / "d.yaml", "--repeats", 1, "-o", folder / "r.yaml", "--json"), 0, 1)
    told = json.loads(done.stdout)
    assert done.exit_code == (0 if told["verdict"] == "ok" else 1)
    assert told["started"] == "launched" and told["comparisons"]


def test_every_file_that_was_written_is_valid(folder: Path) -> None:
    (folder / "r.yaml").unlink(missing_ok=True)
    done = ok(run("check", folder / "toy.yaml", folder / "s.yaml", folder / "d.yaml", "--json"))
    assert [file["outcome"] for file in json.loads(done.stdout)["files"]] == ["valid"] * 3
