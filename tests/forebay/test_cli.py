"""The front door: exit codes, one JSON object on stdout, faults as lines on stderr, and a quick --help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from forebay import calibrating
from forebay.cli import app
from forebay.formats import FORMATS, json_schema
from serve import files
from serve.errors import EngineError, ProfileError, SpecError
from sim.scenario import Scenario
from tests.examples import SCENARIO_TEXT, example
from tests.profiles import Synthetic, write_profile

VERBS = ("tour", "calibrate", "new", "simulate", "plan", "serve", "route", "load", "verify", "check", "schema")
SMALL = (
    SCENARIO_TEXT.replace("60s", "1s")
    .replace("replications: 20", "replications: 2")
    .replace("refused: 0%", "refused: 10%")
    .replace("poisson: 400/s", "poisson: 40/s")
    .replace("clients: 4, think: 0s", "clients: 1, think: 20ms")
)
"""The example, but done in a moment."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a profile and a small scenario."""
    write_profile(tmp_path, Synthetic(samples=0), name="profile")
    (tmp_path / "s.yaml").write_text(SMALL)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_verb_is_there_and_has_json_and_seed() -> None:
    listed = run("--help").stdout
    assert [verb for verb in VERBS if f" {verb} " not in listed] == []
    for verb in VERBS:
        told = run(verb, "--help").stdout
        assert "--json" in told and "--seed" in told, verb


def test_a_simulation_on_one_thread_and_a_fault_of_jobs(folder: Path) -> None:
    assert run("simulate", folder / "s.yaml", "--jobs", 1).exit_code in (0, 1)
    for wrong in ("0", "-1", "two", "2000"):
        told = run("simulate", folder / "s.yaml", f"--jobs={wrong}")
        assert told.exit_code == 2 and "--jobs: must be from 1 to 1024, or ray" in told.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from forebay.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'numba', 'pydantic', 'yaml', 'scipy', 'pandas', 'simpy', 'onnx', 'onnxruntime', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "forebay", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: forebay " in done.stdout


def test_a_file_with_five_faults_gives_five_lines_and_exit_2(folder: Path) -> None:
    path = folder / "bad.yaml"
    path.write_text(
        SMALL.replace("max_batch: 16", "max_batch: 0")
        .replace("duration: 1s", "duration: 1")
        .replace("window: 2ms", "windw: 2ms")
        .replace("price: 0.35 USD/h", "price: cheap")
        .replace("seed: 7", "seed: -7")
    )
    done = run("simulate", path)
    lines = done.stderr.splitlines()
    assert done.exit_code == 2
    assert [line.split(": ")[:2] for line in lines] == [
        [str(path), "seed"],
        [str(path), "workload.duration"],
        [str(path), "deployment.models.digits.batching.max_batch"],
        [str(path), "deployment.models.digits.batching.windw"],
        [str(path), "deployment.pools.here.price"],
    ]
    assert "must be >= 1, got 0" in lines[2] and "did you mean 'window'?" in lines[3]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("simulate",),
        ("simulate", "none.yaml"),
        ("simulate", "none.yaml", "--replications", "1"),
        ("simulate", "none.yaml", "--unknown"),
        ("plan", "none.yaml", "-o", "d.yaml"),
        ("check", "none.yaml"),
        ("schema", "scenari"),
        ("schema", "all"),
        ("serve", "none.yaml"),
        ("serve", "none.yaml", "--fleet"),
        ("route", "none.yaml"),
        ("route", "none.yaml", "--node", "http://127.0.0.1:1"),
        ("verify", "none.yaml", "-o", "r.yaml"),
        ("load", "http://127.0.0.1:1"),
        ("load", "http://127.0.0.1:1", "--rate", "4"),
        ("load", "http://127.0.0.1:1", "--rate", "4/s", "--duration", "4"),
        ("load", "http://127.0.0.1:1", "--rate", "4/s"),
        ("load", "ftp://x", "--rate", "4/s", "--model", "m"),
        ("new", "none.yaml", "--rate", "4/s", "--slo", "p99<1s", "-o", "s.yaml"),
    ],
)
def test_bad_input_exits_2_with_a_line_and_no_traceback(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.strip()
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_with_json_faults_are_an_object_on_stdout_too(tmp_path: Path) -> None:
    done = run("simulate", tmp_path / "none.yaml", "--json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)
    assert told["schema_version"] == 1
    assert told["errors"] == [{"file": str(tmp_path / "none.yaml"), "field": "", "message": "there is no such file"}]


@pytest.mark.parametrize("error", [ProfileError("calibrate again"), EngineError("it died")])
def test_other_errors_of_ours_are_lines_too(error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("sim.simulate.simulate_in_full", fails)
    done = run("simulate", folder / "s.yaml", "--json")
    assert (done.exit_code, done.stderr) == (2, f"{error}\n")
    assert json.loads(done.stdout)["errors"] == [{"message": str(error)}]


def test_a_bug_is_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("sim.simulate.simulate_in_full", fails)
    assert isinstance(run("simulate", folder / "s.yaml").exception, AssertionError)


def test_ctrl_c_exits_130_quietly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt  # what Python makes of Ctrl-C; a signal of our own could come a line later

    monkeypatch.setattr("sim.simulate.simulate_in_full", interrupted)
    done = run("simulate", folder / "s.yaml")
    assert (done.exit_code, done.output) == (130, "")


# -- schema ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_schemas_that_editors_read_are_current(name: str) -> None:
    shipped = json.loads((files.SCHEMAS / f"{name}.json").read_text())
    assert shipped == json_schema(name), "run: forebay schema all -o forebay/schemas"


def test_the_schemas_accept_what_the_reader_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the app's charts")
    for name in FORMATS:
        validator = jsonschema.Draft202012Validator(json_schema(name))
        validator.check_schema(validator.schema)
        validator.validate(json.loads(files.to_json(example(name))))
    scenario = jsonschema.Draft202012Validator(json_schema("scenario"))
    for path in (Path(__file__).parents[2] / "scenarios").glob("*.yaml"):
        scenario.validate(json.loads(json.dumps(files.read(path))))


def test_defaults_in_the_schemas_are_written_as_files_write_them() -> None:
    parts = json_schema("deployment")["$defs"]
    assert parts["Batching"]["properties"]["window"]["default"] == "0ms"
    assert parts["Front"]["properties"]["retry_after"]["default"] == "10ms"


def test_schema_prints_the_schema_or_an_object_around_it() -> None:
    assert json.loads(run("schema", "scenario").stdout) == json_schema("scenario")
    told = json.loads(run("schema", "scenario", "--json").stdout)
    assert (told["schema_version"], told["schema"]) == (1, json_schema("scenario"))


def test_schema_writes_one_or_all_and_says_so_to_programs(tmp_path: Path) -> None:
    assert run("schema", "result", "-o", tmp_path / "r.json").stdout == ""
    assert json.loads((tmp_path / "r.json").read_text()) == json_schema("result")
    told = json.loads(run("schema", "all", "-o", tmp_path / "all", "--json").stdout)
    assert told["written"] == [str(tmp_path / "all" / f"{name}.json") for name in FORMATS]
    assert all(json.loads(Path(file).read_text()) == json_schema(Path(file).stem) for file in told["written"])


# -- calibrate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--budget", "60"), "--budget: must be a duration with its unit, such as 5ms, 2s or 10min, got '60'"),
        (("--budget", "5ms"), "--budget: must be at least 1s, got '5ms'"),
        (("--threads", "1,x"), "--threads: must be numbers of threads such as 1,2, got '1,x'"),
        (("--shape", "x=3"), "--shape: must be NAME=1x3x48x192, the batch axis (1) first, got 'x=3'"),
        (("--shape", "3x4"), "--shape: must be NAME=1x3x48x192, the batch axis (1) first, got '3x4'"),
        (("--data", "none.npz"), "none.npz: there is no such file"),
        (("--data", "profile.yaml"), "must be an .npz file with one array for each input of the model"),
        ((), "none.onnx"),
    ],
)
def test_calibrate_says_what_is_wrong_with_its_input(
    folder: Path, flags: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run("calibrate", "none.onnx", *flags, "-o", "p.yaml")
    assert done.exit_code == 2 and line in done.stderr, done.output
    assert not (folder / "p.yaml").exists()


def test_shapes_lose_their_batch_axis_and_arrays_keep_their_names(tmp_path: Path) -> None:
    assert calibrating.shapes_of(["x=1x3x48", "y:0=1"]) == {"x": (3, 48), "y:0": ()}
    assert calibrating.threads_of("2, 1,2") == (1, 2)
    np.savez(tmp_path / "in.npz", x=np.ones((5, 3)), y=np.zeros(5))
    assert {name: array.shape for name, array in calibrating.data_of(tmp_path / "in.npz").items()} == {
        "x": (5, 3),
        "y": (5,),
    }
    np.save(tmp_path / "in.npy", np.ones(3))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    for bad in ("in.npy", "pickled.npz"):
        with pytest.raises(SpecError, match=r"must be an \.npz file"):
            calibrating.data_of(tmp_path / bad)


# -- new -------------------------------------------------------------------------------------------


def test_new_writes_a_commented_scenario_that_can_be_read(folder: Path) -> None:
    path = folder / "sub" / "n.yaml"
    flags = ("--rate", "400/s", "--slo", "p99<100ms, refused<1%", "--slo", "throughput>300/s", "--seed", 3)
    done = run("new", folder / "profile.yaml", *flags, "-o", path)
    assert done.exit_code == 0, done.output
    made = files.load(path, Scenario)
    assert made.slo == {"p99": "100ms", "refused": "1%", "throughput": "300/s"}
    assert (made.seed, made.workload.classes["requests"].arrivals.poisson) == (3, 400.0)
    model = made.deployment.models["profile"]  # type: ignore[union-attr]
    assert (path.parent / model.profile).resolve() == (folder / "profile.yaml").resolve()
    assert "  # What it runs on." in path.read_text()


@pytest.mark.parametrize(
    ("rate", "slo", "line"),
    [
        ("400", "p99<100ms", "--rate: must be a rate with its unit, such as 400/s or 90/min, got '400'"),
        ("0/s", "p99<100ms", "--rate: must be from 1e-06/s to 1e+09/s, got '0/s'"),
        ("4/s", "p98<100ms", "--slo: 'p98' is not a metric; did you mean 'p99'?"),
        ("4/s", "p99>100ms", "--slo: p99 is bounded from above (<), got 'p99>100ms'"),
        ("4/s", "p99", "--slo: must read like 'p99<100ms' or 'throughput>300/s', got 'p99'"),
    ],
)
def test_new_says_what_is_wrong_with_its_flags(folder: Path, rate: str, slo: str, line: str) -> None:
    done = run("new", folder / "profile.yaml", "--rate", rate, "--slo", slo, "-o", folder / "n.yaml")
    assert (done.exit_code, done.stderr.strip()) == (2, line)


# -- simulate --------------------------------------------------------------------------------------

REFERENCE = ("--engine", "reference")


def test_simulate_prints_a_result_and_writes_it(folder: Path) -> None:
    done = run("simulate", folder / "s.yaml", *REFERENCE, "-o", folder / "r.yaml", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    written = files.load(folder / "r.yaml", FORMATS["result"])
    assert told["schema_version"] == 1 and told["total"] == files.plain(written)["total"]
    assert [claim["expected"] for claim in told["expectations"]] == ["interactive.p99 < 50ms"]
    assert [bound["held"] for bound in told["slo"]] == [True] * len(told["slo"])


def test_simulate_for_people_shows_metrics_the_slo_and_the_claims(folder: Path) -> None:
    done = run("simulate", folder / "s.yaml", *REFERENCE)
    for word in (
        "interactive.p99",
        "cost_usd_per_1k",
        "queue_delay",
        "p99 <= 50ms",
        "interactive.p99 < 50ms",
        "capacity",
    ):
        assert word in done.stdout or word == "capacity", word


def test_simulate_exits_1_if_a_claim_or_the_slo_is_not_met(folder: Path) -> None:
    slow = "models.digits.batching.window=200ms"
    assert run("simulate", folder / "s.yaml", *REFERENCE, "--set", slow).exit_code == 1


def test_set_and_seed_change_the_question(folder: Path) -> None:
    def p50(*flags: object) -> float:
        value = json.loads(run("simulate", folder / "s.yaml", *REFERENCE, "--json", *flags).stdout)
        return float(value["total"]["metrics"]["p50"]["value"])

    assert p50() == p50() != p50("--seed", 8)
    assert p50("--set", "models.digits.batching.window=20ms") > p50() + 0.002


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("window", "--set: must be PATH=VALUE, got 'window'"),
        ("models.digits.batching.windw=5ms", "did you mean 'window'?"),
        ("models.digits.batching.window=5", "must be a duration with its unit"),
        ("models.digits.batching={a: *x}", "--set: models.digits.batching: line 1: "),
    ],
)
def test_a_setting_that_leads_nowhere_is_a_fault(folder: Path, setting: str, line: str) -> None:
    done = run("simulate", folder / "s.yaml", "--set", setting)
    assert done.exit_code == 2 and line in done.stderr, done.stderr


# -- what must not be lost, or passed over in silence ------------------------------------------------


@pytest.mark.parametrize("verb", ["simulate", "plan"])
def test_a_file_is_not_written_over_itself(folder: Path, verb: str) -> None:
    before = (folder / "s.yaml").read_text()
    done = run(verb, folder / "s.yaml", "-o", folder / "s.yaml")
    assert done.exit_code == 2
    assert "is what is read" in done.output
    assert (folder / "s.yaml").read_text() == before


def test_new_does_not_write_over_the_profile(folder: Path) -> None:
    before = (folder / "profile.yaml").read_text()
    done = run("new", folder / "profile.yaml", "--rate", "10/s", "--slo", "p99<1s", "-o", folder / "profile.yaml")
    assert (done.exit_code, (folder / "profile.yaml").read_text()) == (2, before)


def test_a_seed_that_no_file_can_hold_is_refused(folder: Path) -> None:
    assert run("simulate", folder / "s.yaml", "--seed", 2**63).exit_code == 2
    assert run("simulate", folder / "s.yaml", "--seed", 2**63 - 1).exit_code == 0


@pytest.mark.parametrize(
    ("setting", "code"), [('expect=["p99 < 1ns"]', 1), ('expect=["p99 < 1h"]', 0), ('expect=["bogus"]', 2)]
)
def test_claims_that_are_set_are_judged(folder: Path, setting: str, code: int) -> None:
    assert run("simulate", folder / "s.yaml", "--set", setting).exit_code == code


def test_why_requests_were_not_answered_is_told(folder: Path) -> None:
    done = run("simulate", folder / "s.yaml", "--set", "workload.classes.interactive.rows=99")
    assert "not answered ok, by reason: rows" in done.stdout
