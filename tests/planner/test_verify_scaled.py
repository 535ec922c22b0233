"""verify of an engine that sets its own replicas: one for each run, and what its log tells beside the prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import export
from planner.scaled_run import scaling_metrics
from planner.search import plan
from planner.verify import verify
from serve.autoscaler import Bounds, Scheduled
from serve.errors import SpecError
from serve.policy.scaling.scheduled import ScheduledSample
from serve.roster import Step
from serve.scaling_log import ScalingLog
from sim.scenario import Scenario
from tests.profiles import Synthetic, write_profile

S = 10**9


def deployed(folder: Path) -> Path:
    """The file that plan writes for one node whose emulated replicas an HPA sets: 5 s, with a step of the load."""
    write_profile(folder, Synthetic(noise_cv=0.1))
    hpa = {"kind": "hpa", "interval": "500ms", "scrape": "250ms", "down_window": "1s", "cpu_initialization": "0s"}
    step = {"base": "20/s", "peak": "200/s", "at": "1s", "for": "2s", "up": "100ms", "down": "100ms"}
    question = Scenario.model_validate(
        {
            "seed": 1,
            "workload": {"duration": "5s", "classes": {"all": {"arrivals": {"spike": step}}}},
            "deployment": {
                "models": {
                    "toy": {
                        "profile": "toy.yaml",
                        "backend": "emulated",
                        "replicas": {"start_up": "300ms", "max": 3, "autoscaler": {**hpa, "cpu": 30}},
                    }
                },
                "pools": {"here": {"cores": 4, "price": "1 USD/h"}},
            },
            "slo": {"p99": "30s", "throughput": "1/s"},
            "choices": {"models.toy.batching.max_batch": [4]},
        }
    )
    path = folder / "out" / "d.yaml"
    export.write(plan(question, base=folder), question, path, base=folder)
    return path


def test_what_a_log_says_of_a_span(tmp_path: Path) -> None:
    log = ScalingLog(tmp_path)
    model = log.of("m", Scheduled(kind="scheduled", entries={"Mon 00:00": 1}), Bounds(least=1, most=9), 0)
    model.begin(100 * S)
    for at_s, counted, applied in ((10, 1, 3), (20, 3, 3), (30, 3, 2)):
        model.tick(Step(at_s * S, applied, "", counted, counted), ScheduledSample(at_s * S, counted), None, 0, applied)
    log.close()
    whole = scaling_metrics(tmp_path, "m", 100 * S, 140 * S)
    assert whole == {"replicas": pytest.approx((10 + 3 * 20 + 2 * 10) / 40), "scale_ups": 1.0, "scale_downs": 1.0}
    assert scaling_metrics(tmp_path, "m", 115 * S, 125 * S) == {"replicas": 3.0, "scale_ups": 0.0, "scale_downs": 0.0}


@pytest.mark.live
def test_an_engine_for_each_run_and_its_replicas_beside_the_prediction(tmp_path: Path) -> None:
    path = deployed(tmp_path)
    report = verify(path, spot_check_s=0, log_dir=tmp_path / "logs")
    assert all(run.answered > 0.9 * run.requests > 0 for run in report.runs)
    assert sorted(each.name for each in (tmp_path / "logs").iterdir()) == ["run-1", "run-2"]
    rows = {row.metric: row for row in report.comparisons}
    replicas = rows["replicas"]
    assert replicas.predicted is not None and replicas.measured is not None
    assert 1.0 < replicas.predicted < 3.0 and 1.0 < replicas.measured < 3.0
    assert all(run.metrics["scale_ups"] for run in report.runs), "the step brings replicas, in each run from one on"
    assert report.predicted.total.metrics["scale_ups"].value
    assert report.warmup_s == 0


@pytest.mark.live
def test_an_engine_that_runs_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--url: an engine that sets its own replicas is started for each run"):
        verify(deployed(tmp_path), url="http://127.0.0.1:9", prediction_path=tmp_path / "p.yaml")
