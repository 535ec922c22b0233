"""Odd but legal values, several at once, through all of `forebay simulate`: an answer or a line, never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from forebay.cli import app
from tests.examples import SCENARIO_TEXT
from tests.profiles import Synthetic, write_profile

INTERACTIVE = "workload.classes.interactive"
NIGHTLY = "workload.classes.nightly"
DIGITS = "deployment.models.digits"

ODD: dict[str, list[Any]] = {
    "seed": [0, 2**62],
    "replications": [2, 3],
    "workload.duration": ["1ns", "1ms", "0.3s"],
    f"{INTERACTIVE}.arrivals": [
        {"poisson": "1e-6/s"},
        {"poisson": "5000/s"},
        {"constant": "100/s"},
        {"gamma": {"rate": "500/s", "cv": 100}},
        {"gamma": {"rate": "50/s", "cv": 0.01}},
        {"trace": {"file": "t.csv"}},
        {"trace": {"file": "t.csv", "scale": 1e6}},
        {"trace": {"file": "t.csv", "scale": 1e-6}},
        {"trace": {"file": "profile.yaml"}},
        {"weibull": {"rate": "500/s", "shape": 0.1}},
        {"mmpp": {"states": [{"rate": "0/s", "dwell": "1ms"}, {"rate": "5000/s", "dwell": "100d"}]}},
        {"diurnal": {"mean": "1e-6/s", "hours": [0, 1e9], "days": [0, 0, 0, 0, 0, 0, 1]}},
        {"sinusoid": {"mean": "500/s", "amplitude": "500/s", "period": "1ms", "offset": "100d", "cv": 100}},
        {"ramp": {"from": "5000/s", "to": "0/s", "over": "1ns"}},
        {"spike": {"base": "0/s", "peak": "500/s", "at": "100d", "for": "1ns"}},
        {"trend": {"rate": "5000/s", "growth": "x0.001", "per": "1s", "cv": 0.01}},
        {"counts": {"file": "t.csv", "interval": "1ns", "within": "uniform", "column": "rows"}},
        {"counts": {"file": "t.csv", "interval": "100d", "within": "even", "column": "rows", "scale": 1e6}},
        {"counts": {"file": "t.csv", "interval": "10ms", "within": "poisson"}},
        {"sessions": {"begin": {"poisson": "50/s"}, "requests": 10_000, "think": "100d"}},
        {"sum": [{"constant": "1e-6/s"}, {"trace": {"file": "t.csv"}}]},
        {"scaled": {"of": {"sum": [{"poisson": "5/s"}, {"closed": {"clients": 1}}]}, "by": "x1e-6"}},
        {"closed": {"clients": 300, "think": "1ms"}},
        {"closed": {"clients": 2, "think": "100d"}},
    ],
    f"{INTERACTIVE}.rows": [2, 17, 65536, {1: 0, 3: 1}, {1: 1e-300, 2: 1e300}, {16: 1, 32: 1}],
    f"{INTERACTIVE}.timeout": [None, "0ms", "1ns", "100d"],
    f"{INTERACTIVE}.patience": [None, "0ms", "1ns", "100d"],
    f"{NIGHTLY}.rows": [1, 64, {1: 1, 2: 2}],
    f"{DIGITS}.batching": [
        {},
        {"max_batch": 16, "window": "0ms"},
        {"max_batch": 65536},
        {"max_batch": 16, "window": "100d"},
    ],
    f"{DIGITS}.queue": [
        {"max_queue": 0, "priority_levels": 2},
        {"max_queue": "unbounded", "priority_levels": 64},
        {"max_queue": 1, "priority_levels": 2, "default_priority": 1, "default_timeout": "1ms"},
        {"max_queue": 2**62, "priority_levels": 2},
    ],
    f"{DIGITS}.replicas": [{"count": 2, "slots": 2}, {"count": 64}, {"count": 3, "threads": 2}, {"threads": 1024}],
    "deployment.pools.here": [{"cores": 1, "price": "0 USD/h"}, {"cores": 2, "price": "1e9 USD/h", "nodes": 3}],
    "deployment.front": [{"budget": "0ms"}, {"retry_after": "100us"}, {"budget": "100d", "retry_after": "100d"}],
    "slo": [{}, {"interactive.p99.9": "1ns"}, {"busy": "1%"}, {"goodput": "10/s"}, {"mean": "0"}],
    "expect": [[], ["nightly.goodput > 0/s", "cost_usd_per_1k < 1", "in_system in [0, 1]"]],
}
"""Values by path that the formats allow and nobody would write together."""

CHANGES = [(path, value) for path, values in ODD.items() for value in values]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("odd")
    costs = {"parse_us": 20.0, "finish_batch_us": 20.0, "finish_request_us": 5.0, "refuse_us": 20.0}
    write_profile(made, Synthetic(samples=0, busy=(0, 1), **costs), name="profile")  # type: ignore[arg-type]
    lines = "".join(f"{i / 50},{1 + i % 3}\n" for i in range(50))
    (made / "t.csv").write_text(f"arrival_s,rows\n{lines}")
    return made


def changed(changes: list[tuple[str, Any]]) -> dict[str, Any]:
    """The example, done in a moment, with some of its values changed."""
    data: dict[str, Any] = yaml.safe_load(
        SCENARIO_TEXT.replace("60s", "0.2s").replace("replications: 20", "replications: 2")
    )
    for path, value in changes:
        *parents, last = path.split(".")
        here = data
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = copy.deepcopy(value)
    return data


def answered(folder: Path, changes: list[tuple[str, Any]], as_json: bool) -> Result:
    """What the command makes of the example so changed; raises what it raises, if that is no exit."""
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(changed(changes), sort_keys=False))
    done = CliRunner().invoke(app, ["simulate", str(path), *(["--json"] if as_json else [])])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def right(done: Result, as_json: bool) -> bool:
    """Whether it is an answer, or exit 2 with a line that says why."""
    told = not as_json or json.loads(done.stdout)["schema_version"] == 1
    return told and (done.exit_code in (0, 1) or (done.exit_code == 2 and bool(done.stderr.strip())))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CHANGES), max_size=5), st.booleans())
def test_odd_values_give_an_answer_or_a_line(folder: Path, changes: list[tuple[str, Any]], as_json: bool) -> None:
    done = answered(folder, changes, as_json)
    assert right(done, as_json), done.output


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}={change[1]}"[:80])
def test_each_odd_value_alone_gives_an_answer_or_a_line(folder: Path, change: tuple[str, Any]) -> None:
    done = answered(folder, [change], as_json=True)
    assert right(done, as_json=True), done.output
