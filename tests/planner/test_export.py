"""A plan's Deployment file: complete, readable again, its paths valid where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import export
from planner.search import plan
from serve import files
from serve.deployment import Deployment
from serve.errors import SpecError
from sim.result import Result
from sim.scenario import PlannedFor
from tests.planner.worlds import World, scenario, write_profile


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the made-up profile."""
    write_profile(tmp_path)
    return tmp_path


def test_the_file_reads_back_as_what_was_written(base: Path) -> None:
    question = scenario(400, {"p99": "20ms"})
    found = plan(question, base=base, evaluate=World())
    out = base / "deeper" / "deployment.yaml"
    written = export.write(found, question, out, base=base)
    read = files.load(out, Deployment)
    assert read == written
    assert (out.parent / read.models["m"].profile).resolve() == (base / "profile.yaml").resolve()
    assert (out.parent / str(read.models["m"].file)).resolve() == (base / "m.onnx").resolve()
    assert read.models["m"].profile_sha256 == files.sha256(base / "profile.yaml")


def test_what_it_was_planned_for_and_its_prediction_are_inside(base: Path) -> None:
    question = scenario(400, {"p99": "20ms"})
    found = plan(question, base=base, evaluate=World())
    export.write(found, question, base / "d.yaml", base=base)
    read = files.load(base / "d.yaml", Deployment)
    planned_for = PlannedFor.model_validate(read.planned_for)
    assert planned_for.workload == question.workload
    assert planned_for.slo == {"p99": "20ms"}
    assert planned_for.seed == 3
    assert Result.model_validate(read.prediction) == found.result


def test_a_deployment_in_a_file_of_its_own_is_planned_relative_to_that_file(base: Path) -> None:
    inline = scenario(400, {"p99": "20ms"})
    assert isinstance(inline.deployment, Deployment)
    sub = base / "sub"
    sub.mkdir()
    files.save(sub / "start.yaml", export.rebased(inline.deployment, base, sub))
    named = inline.model_copy(update={"deployment": "sub/start.yaml"})
    assert plan(named, base=base, evaluate=World()) == plan(inline, base=base, evaluate=World())


def test_a_traces_path_moves_with_the_file(base: Path) -> None:
    classes = {"all": {"arrivals": {"trace": {"file": "trace.csv"}}}}
    question = scenario(slo={"p99": "1s"}, classes=classes)
    found = plan(question, base=base, evaluate=World())
    written = export.write(found, question, base / "deeper" / "d.yaml", base=base)
    moved = PlannedFor.model_validate(written.planned_for).workload.classes["all"].arrivals.trace
    assert moved is not None
    assert moved.file == "../trace.csv"


def test_the_head_of_the_file_says_why(base: Path) -> None:
    question = scenario(400, {"p99": "20ms"})
    export.write(plan(question, base=base, evaluate=World()), question, base / "d.yaml", base=base)
    head = [line for line in (base / "d.yaml").read_text().splitlines() if line.startswith("# ")]
    assert any(line.startswith("# Planned for p99 <= 20ms") for line in head)
    assert any(line.startswith("# Runner-up: ") for line in head)
    assert any(line.startswith("# Headroom: ") for line in head)


def test_an_infeasible_plan_writes_nothing_and_explains_itself(base: Path) -> None:
    question = scenario(100, {"p99": "1ms"})
    found = plan(question, base=base, evaluate=World())
    with pytest.raises(SpecError, match="nothing holds"):
        export.write(found, question, base / "d.yaml", base=base)
    assert not (base / "d.yaml").exists()
    assert any("best possible p99" in line for line in export.why(found))
