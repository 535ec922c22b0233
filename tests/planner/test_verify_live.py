"""The closed loop on a live engine of emulated replicas: verify starts it, replays, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import pytest

from planner import export
from planner.report import Prediction
from planner.search import plan
from planner.verify import verify
from serve import files
from serve.deployment import Deployment
from serve.errors import EngineError, SpecError
from serve.launch import launch
from serve.records import NODE
from serve.request_log import read_requests
from sim.scenario import Scenario
from tests.profiles import Synthetic, write_profile

pytestmark = pytest.mark.live


def processes() -> set[psutil.Process]:
    """All that this one has started; other tests of its may have left a pool of workers."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """The file that plan writes for one emulated replica: 1.5 s of Poisson arrivals beside a closed loop."""
    write_profile(tmp_path, Synthetic(noise_cv=0.1))
    classes = {
        "open": {"arrivals": {"poisson": "100/s"}},
        "looped": {"arrivals": {"closed": {"clients": 2, "think": "50ms"}}},
    }
    question = Scenario.model_validate(
        {
            "seed": 1,
            "workload": {"duration": "1500ms", "classes": classes},
            "deployment": {
                "models": {"toy": {"profile": "toy.yaml", "backend": "emulated"}},
                "pools": {"here": {"cores": 2, "price": "1 USD/h"}},
            },
            "slo": {"p99": "10s", "throughput": "10/s"},
            "choices": {"models.toy.batching.max_batch": [8]},
        }
    )
    path = tmp_path / "out" / "d.yaml"
    export.write(plan(question, base=tmp_path), question, path, base=tmp_path)
    return path


def test_verify_starts_the_engine_replays_twice_and_leaves_nothing(deployed: Path, tmp_path: Path) -> None:
    told: list[float] = []
    before = processes()
    report = verify(deployed, progress=lambda _, share: told.append(share), log_dir=tmp_path / "logs")
    assert [run.requests for run in report.runs] == [run.answered for run in report.runs]
    assert set(report.runs[0].classes) == {"open", "looped"}
    assert report.runs[0].classes["open"]["arrival_rate"] == report.runs[1].classes["open"]["arrival_rate"]
    assert sum(report.runs[0].batch_rows.values()) == pytest.approx(1.0)
    assert set(report.runs[0].reasons) <= {"idle", "full"}
    assert report.slo_met
    assert report.rehearsed is not None and report.rehearsed.warmup_s == report.predicted.warmup_s
    assert report.started == "launched"
    assert told == sorted(told) and told[-1] == 1.0
    assert not processes() - before


def test_the_prediction_is_written_down_before_the_engine_starts(
    deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(Exception):
        """Raised where the engine would start."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise Started

    monkeypatch.setattr("planner.verify.look", lambda *_: None)  # which starts an engine of its own
    monkeypatch.setattr("planner.subject.launch", refuse)
    with pytest.raises(Started):
        verify(deployed)
    written = files.load(deployed.with_name("d.prediction.yaml"), Prediction)
    assert written.result.total.metrics["p99"].value is not None
    assert written.deployment_sha256 == files.sha256(deployed)


def test_a_running_engine_is_joined_and_goes_on(deployed: Path) -> None:
    with launch(deployed) as live:
        report = verify(deployed, url=live.url, repeats=1)
        assert live.process.poll() is None
    assert report.started == "joined"
    assert sum(report.runs[0].batch_rows.values()) == pytest.approx(1.0)
    assert "busy" not in report.runs[0].metrics
    assert report.runs[0].requests == report.runs[0].answered


def test_an_engine_that_dies_ends_the_run_at_once_and_says_how(deployed: Path) -> None:
    def kill(what: str, share: float) -> None:
        engine = [child for child in psutil.Process().children() if "serve.engine" in child.cmdline()]
        if what.startswith("live run") and engine:
            engine[0].kill()

    with pytest.raises(EngineError, match="the engine was killed by signal 9 while it was needed"):
        verify(deployed, progress=kill, spot_check_s=0.0)


def test_a_load_without_a_request_is_refused(deployed: Path) -> None:
    planned = files.read(deployed)
    del planned["planned_for"]["workload"]["classes"]["looped"]
    planned["planned_for"]["workload"]["classes"]["open"]["arrivals"]["poisson"] = "0.001/s"
    path = deployed.with_name("quiet.json")
    path.write_text(json.dumps(planned))
    with pytest.raises(SpecError, match=r"workload\.duration: no request arrives in 1\.5s by seed 1; lengthen it"):
        verify(path)


def test_a_package_of_ours_in_the_folder_is_not_taken_for_us(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "__init__.py").write_text("raise SystemExit('another package called serve')")
    monkeypatch.chdir(tmp_path)
    with launch(deployed) as live:
        assert live.started["url"] == live.url


def test_a_fleet_is_verified_behind_its_router(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=20.0, noise_cv=0.1))
    deployment = {
        "models": {"toy": {"profile": "toy.yaml", "backend": "emulated", "replicas": {"count": 2}}},
        "pools": {"here": {"nodes": 2, "cores": 1, "price": "1 USD/h"}},
        "router": {"policy": "round_robin"},
        "planned_for": {
            "workload": {"duration": "1500ms", "classes": {"all": {"arrivals": {"poisson": "60/s"}}}},
            "slo": {},
            "seed": 1,
        },
    }
    path = tmp_path / "d.yaml"
    files.save(path, Deployment.model_validate(deployment))
    before = processes()
    report = verify(path, repeats=1, spot_check_s=1.0, log_dir=tmp_path / "logs")
    (run,) = report.runs
    rows = read_requests(tmp_path / "logs")
    assert run.requests == run.answered > 0
    assert run.router_cores is not None and run.router_cores > 0 and run.front_cores is not None
    assert 0.4 < np.mean(rows[:, NODE]) < 0.6 and set(rows[:, NODE]) == {0, 1}
    busy = run.metrics["busy"]
    assert busy is not None and busy > 0
    assert report.late_us is not None and report.started == "launched"
    assert not processes() - before
