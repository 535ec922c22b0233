"""`forebay workload fit`: numbers and lines for people, one object for programs, faults as lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from forebay.cli import app
from forebay.fitting import fit_file
from serve import files
from serve.records import ARRIVAL_NS, ROWS, empty_rows
from serve.request_log import REQUESTS_FILE, RequestLog
from sim.burstiness import of_instants
from sim.scenario import RequestClass

BURSTY = np.cumsum(np.random.default_rng(7).gamma(0.25, 0.04 / 0.25, 40_000))
"""25 requests a second, cv 2, for about half an hour; in seconds."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bursty trace."""
    path = tmp_path_factory.mktemp("trace") / "t.csv"
    path.write_text("arrival_s\n" + "".join(f"{at:.9f}\n" for at in BURSTY))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["workload", "fit", *(str(argument) for argument in arguments)])


def told(done: Result) -> dict[str, Any]:
    """The object on stdout of a verb that went well."""
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_help_and_the_flags_of_every_verb() -> None:
    listed = CliRunner().invoke(app, ["workload", "--help"]).stdout
    assert " fit " in listed
    for flag in ("--json", "--seed", "TRACE"):
        assert flag in run("--help").stdout


def test_json_has_the_measures_and_the_fits_best_first(trace: Path) -> None:
    found = told(run(trace, "--json"))
    measured = of_instants(np.rint(BURSTY * 1e9).astype(np.int64))
    assert found["schema_version"] == 1
    assert found["rate_rps"] == pytest.approx(measured.rate_rps)
    assert found["gap_cv"] == pytest.approx(measured.gap_cv)
    assert [scale["idc"] for scale in found["scales"]] == pytest.approx([scale.idc for scale in measured.scales])
    assert next(iter(found["fits"][0]["arrivals"])) == "gamma"
    gains = {next(iter(fit["arrivals"])): fit["gain_over_poisson"] for fit in found["fits"]}
    assert gains["gamma"] == max(gains.values()) > 0 == gains["poisson"]
    for scale in found["scales"]:
        assert scale["idc_of_best_law"] == pytest.approx(scale["idc"], rel=0.75), "the law scatters as the trace does"


def test_the_lines_for_people_can_be_pasted(trace: Path) -> None:
    done = run(trace)
    assert done.exit_code == 0, done.output
    for word in ("39,999 requests", "cv of the gaps", "IDC", "peak/mean", "better than Poisson"):
        assert word in done.stdout, word
    lines = done.stdout[done.stdout.index("arrivals:") :]
    class_ = files.parse(files.parse_value(lines), RequestClass, "pasted")
    assert class_.arrivals.gamma is not None
    assert class_.arrivals.gamma.cv == pytest.approx(2, rel=0.1)


def test_the_seed_draws_the_fitted_law_anew(trace: Path) -> None:
    def drawn(*seed: object) -> list[float]:
        return [scale["idc_of_best_law"] for scale in told(run(trace, "--json", *seed))["scales"]]

    assert drawn() == drawn("--seed", 0) != drawn("--seed", 5)


def test_the_engines_log_is_a_trace(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    rows = empty_rows(500)
    rows[:, ARRIVAL_NS] = np.rint(BURSTY[:500] * 1e9) + 1e15
    rows[:, ROWS] = 1
    for row in rows.tolist():
        log.request(row)
    log.close()
    assert fit_file(tmp_path / REQUESTS_FILE, 0).measured.requests == 499


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when\n1\n", "arrival_s: must be a column of a trace, got columns when"),
        ("arrival_s\n1\n2\n", "arrival_s: needs at least 100 instants that are not all one, got 2"),
    ],
)
def test_what_cannot_be_fitted_is_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    done = run(path)
    assert (done.exit_code, done.stderr) == (2, f"{path}: {said}\n")
    done = run(path, "--json")
    assert json.loads(done.stdout)["errors"][0]["message"] == said.partition(": ")[2]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "none.csv")
    assert done.exit_code == 2
    assert "none.csv: cannot be read as a trace" in done.stderr


# -- counts ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bursty trace, counted in 10 s each, in a column of its own, as rates by second."""
    path = tmp_path_factory.mktemp("counts") / "c.csv"
    counts = np.bincount((BURSTY // 10).astype(int))
    path.write_text("rate_per_s\n" + "".join(f"{count / 10}\n" for count in counts[:-1]))
    return path


def test_counts_are_fitted_by_their_interval(counted: Path) -> None:
    found = told(run(counted, "--interval", "10s", "--column", "rate_per_s", "--scale", 10, "--json"))
    assert found["requests"] == pytest.approx(40_000, rel=0.01)
    assert found["rate_rps"] == pytest.approx(25, rel=0.05)
    assert (found["gap_cv"], found["held_out_in"]) == (None, "interval")
    assert [scale["scale_s"] for scale in found["scales"]] == [10, 30]
    assert found["scales"][0]["idc"] == pytest.approx(4, rel=0.5)
    assert next(iter(found["fits"][0]["arrivals"])) == "gamma"
    assert found["replay"]["counts"]["scale"] == 10
    assert all(scale["idc_of_best_law"] is not None for scale in found["scales"])


def test_the_lines_that_replay_counts_can_be_pasted(counted: Path) -> None:
    done = run(counted, "--interval", "10s", "--column", "rate_per_s", "--scale", 10)
    assert done.exit_code == 0, done.output
    assert "nats per interval" in done.stdout
    fitted, replayed = (f"arrivals:{part}" for part in done.stdout.split("arrivals:")[1:])
    best = files.parse(files.parse_value(fitted.partition("The counts")[0]), RequestClass, "pasted").arrivals
    again = files.parse(files.parse_value(replayed), RequestClass, "pasted").arrivals
    assert best is not None and best.gamma is not None
    assert again is not None and again.counts is not None
    assert (again.counts.column, again.counts.interval, again.counts.scale) == ("rate_per_s", 10 * 10**9, 10)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--column", "n"], "--column: is of counts: give their --interval too, such as 1min"),
        (["--interval", "0s"], "--interval: must be longer than nothing, got '0s'"),
        (["--interval", "ten"], "--interval: must be a duration"),
        (["--interval", "10s"], "count: must be a column of the counts, got columns rate_per_s"),
        (["--interval", "10s", "--scale", "0"], "--scale: must be from 1e-06 to 1e+06, got 0"),
        (
            ["--interval", "10s", "--column", "rate_per_s", "--scale", "1e-6"],
            "rate_per_s: needs at least 100 intervals",
        ),
    ],
)
def test_what_is_wrong_with_counts_is_told(counted: Path, flags: list[str], said: str) -> None:
    done = run(counted, *flags)
    assert done.exit_code == 2
    assert said in done.stderr


def test_counts_that_are_taken_for_a_trace_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("count\n1\n")
    assert "requests counted by interval are `counts`, and for a fit need --interval" in run(path).stderr
