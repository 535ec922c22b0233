"""docs/ci.md: the examples are YAML of the shape that each CI system reads, and run a command that there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from forebay.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def commands(node: Any) -> list[str]:
    """Every line that begins with forebay, wherever it lies."""
    if isinstance(node, dict):
        return [line for value in node.values() for line in commands(value)]
    if isinstance(node, list):
        return [line for value in node for line in commands(value)]
    return [node] if isinstance(node, str) and node.startswith("forebay ") else []


def test_github_reads_its_workflow() -> None:
    workflow = BLOCKS[0]
    on = workflow.get("on", workflow.get(True))  # YAML 1.1 takes the key for true
    assert set(on) == {"push", "pull_request"}
    [job] = workflow["jobs"].values()
    assert isinstance(job["runs-on"], str)
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert all("@" in step["uses"] for step in job["steps"] if "uses" in step)


def test_gitlab_reads_its_job() -> None:
    [job] = BLOCKS[1].values()
    assert {"image", "script", "artifacts", "cache", "variables"} == set(job)
    assert all(isinstance(line, str) for line in job["script"])
    assert job["artifacts"]["reports"]["junit"] in job["script"][-1]


@pytest.mark.parametrize("block", range(2))
def test_what_they_run_is_a_verb_with_flags_that_it_has(block: int) -> None:
    [line] = commands(BLOCKS[block])
    words = shlex.split(line.split(">")[0])
    verb = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    known = {flag for parameter in verb.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
