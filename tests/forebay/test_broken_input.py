"""What a newcomer gets wrong on the command line: each is told in lines, by exit code 2, before any work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay import cli
from forebay.cli import app
from forebay.loading import Loaded
from tests.examples import SCENARIO_TEXT, example
from tests.profiles import Synthetic, write_profile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a profile and a scenario."""
    monkeypatch.chdir(tmp_path)
    write_profile(tmp_path, Synthetic(samples=0), name="profile")
    (tmp_path / "s.yaml").write_text(SCENARIO_TEXT)
    return tmp_path


def refused(*arguments: str) -> str:
    """What stderr says of arguments that must be refused."""
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 2, ran.output
    return ran.stderr


@pytest.mark.parametrize("verb", ["simulate", "plan", "verify", "calibrate"])
def test_an_output_that_cannot_be_written_is_told_before_the_work(folder: Path, verb: str) -> None:
    assert refused(verb, "s.yaml", "-o", ".") == ".: cannot be written: is a folder, not a file\n"


@pytest.mark.parametrize("rate", ["1e-30/s", "0/s", "1e10/s"])
def test_a_rate_beyond_what_scenarios_take(folder: Path, rate: str) -> None:
    said = refused("new", "profile.yaml", "--rate", rate, "--slo", "p99<1s", "-o", "n.yaml")
    assert said == f"--rate: must be from 1e-06/s to 1e+09/s, got {rate!r}\n"


@pytest.mark.parametrize(
    ("slo", "said"),
    [
        ([""], "--slo: must say what has to hold, such as 'p99<100ms', got nothing\n"),
        (["p99<1s", "p99<2s"], "--slo: bounds p99 twice, by 1s and 2s; keep one\n"),
    ],
)
def test_an_slo_that_says_nothing_or_two_things(folder: Path, slo: list[str], said: str) -> None:
    flags = [flag for text in slo for flag in ("--slo", text)]
    assert refused("new", "profile.yaml", "--rate", "5/s", *flags, "-o", "n.yaml") == said
    assert not (folder / "n.yaml").exists()


def test_a_value_inside_another_that_is_set(folder: Path) -> None:
    said = refused("simulate", "s.yaml", "--set", "models.digits=1", "--set", "models.digits.profile=2")
    assert said == "--set: models.digits.profile: lies inside models.digits, which is set too; set one of them\n"


def test_usage_errors_are_json_too() -> None:
    for arguments in (["simulate", "--json"], ["simulate", "s", "--json", "--seed", "x"], ["nothing", "--json"]):
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code == 2
        told = json.loads(ran.stdout)
        assert told["schema_version"] == 1
        assert len(told["errors"]) == 1
        assert told["errors"][0]["message"] in ran.stderr


def edited(folder: Path, edit: Callable[[str], str]) -> None:
    text = edit(SCENARIO_TEXT)
    assert text != SCENARIO_TEXT
    (folder / "s.yaml").write_text(text)


def test_choices_inside_one_another_are_told_of_the_file(folder: Path) -> None:
    choices = "choices:\n  models.digits: [1]\n  models.digits.profile: [2]\n"
    edited(folder, lambda text: text[: text.index("choices:")] + choices)
    said = refused("plan", "s.yaml", "-o", "d.yaml")
    assert "s.yaml: choices.models.digits.profile: lies inside models.digits, which is a choice too" in said
    assert not (folder / "d.yaml").exists()


def test_weights_too_large_to_add(folder: Path) -> None:
    edited(folder, lambda text: text.replace("{1: 0.8, 4: 0.2}", "{1: 1e308, 4: 1e308}"))
    assert "rows: has weights whose sum is too large" in refused("simulate", "s.yaml")


def test_a_deployment_that_is_not_there_is_told_of_the_field(folder: Path) -> None:
    start, end = SCENARIO_TEXT.index("deployment:"), SCENARIO_TEXT.index("slo:")
    edited(folder, lambda text: f"{text[:start]}deployment: nope.yaml\n{text[end:]}")
    assert refused("simulate", "s.yaml") == "s.yaml: deployment: nope.yaml: there is no such file\n"


def test_a_folder_in_place_of_a_profile_is_called_one(folder: Path) -> None:
    edited(folder, lambda text: text.replace("profile: profile.yaml", "profile: /tmp"))
    assert "profile: is a folder, not a file: /tmp" in refused("simulate", "s.yaml")


def test_claims_beside_one_that_is_no_text_are_told_too(folder: Path) -> None:
    edited(folder, lambda text: text.replace("expect:\n", "expect:\n  - 5\n  - p98 < 5ms\n"))
    said = refused("simulate", "s.yaml")
    assert "s.yaml: expect.0: must be text, got 5" in said
    assert "s.yaml: expect.1: 'p98' is not a metric" in said


def test_sigterm_leaves_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(prog_name: str) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            assert any(tmp_path.iterdir())
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(cli, "app", verb)
    monkeypatch.setattr("os._exit", sys.exit)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 128 + signal.SIGTERM
    assert not any(tmp_path.iterdir())


def test_a_full_disk_behind_stdout_is_told_in_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "forebay", "schema", "scenario"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (
        2,
        "cannot be written: No space left on device; make room, or write elsewhere\n",
    )


@pytest.mark.parametrize(
    ("url", "flags", "said"),
    [
        ("http://127.0.0.1:1", ["--rate", "1e9/s", "--duration", "1000h"], "rate and duration make 3.6e+15 requests"),
        ("http://127.0.0.1:1", ["--rate", "1e-30/s"], "--rate: must be from 1e-06/s to 1e+09/s, got '1e-30/s'"),
        ("", ["--rate", "5/s"], "http"),
        ("http://192.0.2.1", ["--rate", "5/s"], "192.0.2.1"),
    ],
)
def test_load_is_refused_before_anybody_is_asked(
    url: str, flags: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.loading.only_model", lambda url: pytest.fail(f"{url} was asked"))
    assert said in refused("load", url, *flags)


def main_of(verb: str) -> list[str]:
    """A command that runs the front door with one verb's work replaced by lines of Python."""
    return [sys.executable, "-c", f"import sys, threading\nfrom forebay import cli\n{verb}\ncli.main()"]


@pytest.mark.parametrize("code", [130, 143])
def test_who_is_interrupted_does_not_wait_for_threads(code: int) -> None:
    verb = (
        "def app(prog_name):\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        f"    sys.exit({code})\n"
        "cli.app = app"
    )
    ran = subprocess.run(main_of(verb), capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


@pytest.mark.parametrize(
    "arguments",
    [["schema", "scenario"], ["schema", "scenario", "--json"], ["check", "s.yaml"], ["--help"], ["plan", "--help"]],
    ids=" ".join,
)
def test_who_reads_stdout_may_leave(folder: Path, arguments: list[str]) -> None:
    edited(folder, lambda text: text[: text.index("expect:")])
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as gone:
        command = [sys.executable, "-m", "forebay", *arguments]
        ran = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False, cwd=folder)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [["check"], ["simulate", "--engine", "reference", "--replications", "2"]])
def test_replicas_that_ask_for_more_cores_than_a_node_has_are_told(folder: Path, arguments: list[str]) -> None:
    edited(folder, lambda text: text.replace("60s", "100ms").replace("count: 2", "count: 3"))
    ran = CliRunner().invoke(app, [*arguments, "s.yaml", "--json"])
    asked = "3 x 1 (count x threads) need 3 cores, but a node of pools.here has 2"
    warning = f"models.digits.replicas: {asked}: fewer replicas or threads, or more cores"
    if arguments == ["check"]:
        warning = f"s.yaml: {warning}"
    assert ran.exit_code in (0, 1), ran.output
    told = json.loads(ran.stdout)
    assert warning in (told["files"][0] if arguments == ["check"] else told)["warnings"]
    if arguments == ["check"]:
        assert ran.stderr == f"warning: {warning}\n"


def test_cores_are_counted_with_what_is_set(folder: Path) -> None:
    flags = ["--engine", "reference", "--replications", "2"]
    edited(folder, lambda text: text.replace("60s", "100ms"))
    assert "need" not in CliRunner().invoke(app, ["simulate", "s.yaml", *flags]).stderr
    ran = CliRunner().invoke(app, ["simulate", "s.yaml", *flags, "--set", "models.digits.replicas.count=4"])
    assert "warning: models.digits.replicas: 4 x 1 (count x threads) need 4 cores" in ran.stderr


@pytest.mark.parametrize(("answered", "code"), [(0, 1), (1, 0)])
def test_load_exits_1_if_nothing_was_answered(answered: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = example("report").runs[0].model_copy(update={"answered": answered})
    monkeypatch.setattr("forebay.loading.send", lambda *_: Loaded("m", ran, [], {"200": answered}))
    assert CliRunner().invoke(app, ["load", "http://127.0.0.1:1", "--rate", "5/s"]).exit_code == code


@pytest.mark.parametrize("expect", [True, False])
def test_check_reads_the_traces_of_a_scenario(folder: Path, expect: bool) -> None:
    (folder / "t.csv").write_text("arrival_s,rows\n0.5,1\nsoon,1\n1.5,none\n")
    edited(folder, lambda text: text.replace("{poisson: 400/s}, rows: {1: 0.8, 4: 0.2}", "{trace: {file: t.csv}}"))
    if not expect:
        text = (folder / "s.yaml").read_text()
        (folder / "s.yaml").write_text(text[: text.index("expect:")])
    assert [line.partition(": ")[2] for line in refused("check", "s.yaml").splitlines()] == [
        "line 3, arrival_s: must be a number, got 'soon'",
        "line 4, rows: must be a number, got 'none'",
    ]


@pytest.mark.parametrize("rows", ["32", "{1: 0.8, 32: 0.2}"])
def test_plan_tells_of_rows_that_no_chosen_batch_takes(folder: Path, rows: str) -> None:
    choices = "choices:\n  models.digits.batching.max_batch: [1, 16]\n"
    until_claims = SCENARIO_TEXT[: SCENARIO_TEXT.index("expect:")]
    edited(folder, lambda _: until_claims.replace("{1: 0.8, 4: 0.2}", rows) + choices)
    ran = CliRunner().invoke(app, ["plan", "s.yaml", "-o", "d.yaml"])
    assert ran.exit_code == 1, ran.output
    assert "The limit is rows: max_batch 16: requests have up to 32 rows, max_batch is 16" in ran.stdout
    assert not (folder / "d.yaml").exists()


@pytest.mark.parametrize("output", ["s.yaml", "s.yaml/inside", "/proc/inside"])
def test_a_tour_needs_a_folder(folder: Path, output: str) -> None:
    assert refused("tour", "-o", output).startswith(f"--output: must be a folder, or a place for one: {output}: ")


def test_a_tour_of_a_broken_model_leaves_the_one_before(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"the one before")
    (folder / "broken.onnx").write_bytes(b"no model")
    assert refused("tour", "--model", "broken.onnx", "-o", ".").startswith("broken.onnx: ")
    assert (folder / "model.onnx").read_bytes() == b"the one before"
