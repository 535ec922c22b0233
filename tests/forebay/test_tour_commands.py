"""The commands that the tour prints can be pasted, whatever the folder is called."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forebay.tour import commands


def made(folder: Path, report: object) -> Any:
    return SimpleNamespace(
        path=lambda name: folder / name,
        load_share=0.6,
        capacity_rps=100.0,
        scenario=SimpleNamespace(slo={"p99": "10ms"}),
        report=report,
    )


def test_paths_with_spaces_are_quoted() -> None:
    printed = commands(made(Path("my tour"), object()))
    assert [shlex.split(line)[1] for line in printed] == ["calibrate", "new", "plan", "serve", "verify"]
    assert shlex.split(printed[0])[2:] == ["my tour/model.onnx", "-o", "my tour/profile.yaml"]


@pytest.mark.parametrize("report", [None, object()])
def test_a_deployment_that_was_not_written_is_not_served(report: object) -> None:
    assert ("serve" in " ".join(commands(made(Path("out"), report)))) is (report is not None)
