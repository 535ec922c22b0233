"""`forebay check`: the lessons in scenarios/ hold and break when their point is taken away; exit codes and reports."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from forebay.checking import check_file, exit_code, files_of
from forebay.cli import app
from forebay.updating import proposal_of
from serve import files
from serve.errors import ProfileError
from sim.scenario import Scenario
from sim.service import Measured
from sim.simulate import simulate_in_full
from tests.examples import SCENARIO_TEXT, example
from tests.profiles import Synthetic, write_profile

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LESSONS = sorted(SCENARIOS.glob("*.yaml"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *(str(argument) for argument in arguments)])


CORE_S_MAX = 12.0
"""Core-seconds that a lesson may take, all replications, variants and its contrast together."""


@pytest.mark.slow
def test_every_lesson_holds_breaks_and_is_strict(tmp_path: Path) -> None:
    """What CI runs, its JUnit read by a parser of somebody else's."""
    done = run(SCENARIOS, "--strict", "--junit", tmp_path / "j.xml", "--json")
    told = {Path(each["file"]).name: each for each in json.loads(done.stdout)["files"]}
    wrong = {
        name: [claim["expected"] for claim in each["expectations"] if claim["outcome"] != "pass"] + each["lax"]
        for name, each in told.items()
    }
    assert {name: lines for name, lines in wrong.items() if lines} == {}
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in LESSONS} <= told.keys() and len(LESSONS) >= 24
    suites = ElementTree.parse(tmp_path / "j.xml").getroot().findall("testsuite")
    cases = [case for suite in suites for case in suite.findall("testcase")]
    assert len(suites) == len(told) and not [case for case in cases if len(case)]


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS[:: max(len(LESSONS) // 3, 1)], ids=lambda path: path.stem)
def test_a_lesson_is_cheap_enough_to_run_on_every_commit(path: Path) -> None:
    assert check_file(path, named=True).core_s < CORE_S_MAX


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_begins_with_what_it_teaches(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ") and len(first.split()) > 8


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_says_what_takes_its_point_away(path: Path) -> None:
    scenario = files.load(path, Scenario)
    assert scenario.contrast is not None


def test_a_contrast_that_changes_nothing_is_a_failure(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(path.read_text() + "contrast: {set: {models.digits.queue.max_queue: 255}, fails: p50 < 1s}\n")
    checked = check_file(path, named=True)
    last = checked.judgements[-1]
    assert (checked.outcome, last.outcome) == ("fail", "fail")
    assert last.expectation.text == "not p50 < 1s, with models.digits.queue.max_queue = 255"


# -- the verb --------------------------------------------------------------------------------------

SMALL = SCENARIO_TEXT.replace("60s", "1s").replace("replications: 20", "replications: 4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a scenario that passes, a scenario without claims, a profile and a file that is not ours."""
    write_profile(tmp_path, Synthetic(samples=0), name="profile")
    claims = "expect: [p50 < 1s, busy > 1%, interactive.refused <= 0%]\n"
    (tmp_path / "a.yaml").write_text(SMALL.replace("expect:\n  - interactive.p99 < 50ms\n", claims))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.json").write_text(files.to_json(example("deployment")))
    (tmp_path / "sub" / "other.yaml").write_text("hello: world\n")
    return tmp_path


def variant(folder: Path, claim: str) -> Path:
    path = folder / "variant.yaml"
    path.write_text(SMALL.replace("interactive.p99 < 50ms", claim))
    return path


def test_folders_are_searched_and_every_file_of_ours_is_checked(folder: Path) -> None:
    done = run(folder, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["schema_version"] == 1
    assert [(Path(f["file"]).name, f["format"], f["outcome"]) for f in told["files"]] == [
        ("a.yaml", "scenario", "pass"),
        ("profile.yaml", "profile", "valid"),
        ("b.json", "deployment", "valid"),
    ]
    assert [claim["outcome"] for claim in told["files"][0]["expectations"]] == ["pass"] * 3


def test_people_see_expected_beside_simulated(folder: Path) -> None:
    done = run(folder)
    assert "busy > 1%" in done.stdout and "1 pass, 2 valid" in done.stdout


def test_a_claim_that_fails_exits_1_and_is_a_failure_in_junit(folder: Path) -> None:
    junit = folder / "out" / "junit.xml"
    assert run(variant(folder, "p50 > 1s"), folder / "profile.yaml", "--junit", junit).exit_code == 1
    root = ElementTree.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")


def test_an_undecided_claim_warns_and_fails_only_under_strict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = files.load(variant(folder, "p50 > 0ms"), Scenario)
    simulated = simulate_in_full(base, folder)
    result = simulated.result
    p50 = result.total.metrics["p50"].value
    wide = result.total.metrics["p50"].model_copy(update={"ci": (0.0, 1.0)})
    fake = result.model_copy(update={"total": result.total.model_copy(update={"metrics": {"p50": wide}})})
    monkeypatch.setattr(
        "sim.questions.simulate_variant",
        lambda *asked: replace(simulated, result=fake.model_copy(update={"replications": asked[3]})),
    )
    path = variant(folder, f"p50 < {p50 * 1e3:.6f}ms")
    done = run(path)
    assert done.exit_code == 0 and f"warning: {path}: undecided after 160 replications" in done.stderr
    assert run(path, "--strict").exit_code == 1
    run(path, "--junit", folder / "j.xml")
    assert ElementTree.parse(folder / "j.xml").getroot().get("skipped") == "1"


def test_strict_wants_a_contrast_and_bounds_that_are_near_or_say_why_not(folder: Path) -> None:
    path = variant(folder, "p50 < 60s")
    done = run(path, "--strict", "--junit", folder / "j.xml")
    assert done.exit_code == 1 and run(path).exit_code == 0
    lax = [line for line in done.stderr.splitlines() if line.startswith("lax: ")]
    assert len(lax) == 2 and "has no contrast" in lax[0] and "p50 < 60s: lies more than 25% from the" in lax[1]
    failed = ElementTree.parse(folder / "j.xml").getroot().findall(".//failure")
    assert len(failed) == 1 and "has no contrast" in str(failed[0].get("message"))
    variant(folder, "p50 < 60s because nobody minds")
    with path.open("a") as file:
        file.write("contrast: {set: {models.digits.replicas.count: 1}, fails: p50 < 60s}\n")
    done = run(path, "--strict")
    assert "lax" not in done.stderr and done.exit_code == 1, "its contrast does not break it"


def test_an_update_shows_a_diff_and_writes_nothing_without_somebody_to_ask(folder: Path) -> None:
    path = variant(folder, "p50 > 1s")
    before = path.read_text()
    done = run(path, "--update")
    assert done.exit_code == 1 and path.read_text() == before
    assert "-  - p50 > 1s" in done.stderr and "+  - p50 > " in done.stderr and "nothing was written" in done.stderr
    again = run(folder / "a.yaml", "--update")
    assert "nothing to update" not in done.stderr and again.exit_code == 0


def test_a_bound_that_is_moved_holds_and_is_strict(folder: Path) -> None:
    path = variant(folder, "p50 > 1s\n  - throughput in [1/s, 2/s]\n  - busy < interactive.refused")
    proposal = proposal_of(check_file(path, named=True))
    assert proposal is not None
    assert [line.split(":")[0] for line in proposal.left] == ["busy < interactive.refused"]
    path.write_text(proposal.text.replace("  - busy < interactive.refused\n", ""))
    checked = check_file(path, named=True)
    assert checked.outcome == "pass" and not any("lies more than" in line for line in checked.lax)
    assert proposal_of(checked) is None


def test_many_simulations_go_to_processes_and_say_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (folder / f"c{number}.yaml").write_text((folder / "a.yaml").read_text().replace("seed: 7", f"seed: {number}"))
    together = run(folder, "--json", "--jobs", "1").stdout
    monkeypatch.setattr("sim.workers.TOGETHER", 1)
    assert run(folder, "--json").stdout == together


def test_bad_input_exits_2_after_everything_else_was_checked(folder: Path) -> None:
    (folder / "0.yaml").write_text("workload: 7\nexpect: []\n")
    done = run(folder, "--junit", folder / "j.xml")
    assert done.exit_code == 2
    assert f"{folder}/0.yaml: workload: must be a mapping of keys to values, got 7" in done.stderr
    assert "1 error, 1 pass, 2 valid" in done.stdout
    assert ElementTree.parse(folder / "j.xml").getroot().get("errors") == "1"


def test_a_file_that_is_named_must_be_one_of_ours(folder: Path) -> None:
    done = run(folder / "sub" / "other.yaml")
    assert done.exit_code == 2 and "other.yaml: is none of profile, scenario, deployment, result, report" in done.stderr
    empty = folder / "empty"
    empty.mkdir()
    assert run(empty).exit_code == 2


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_profile_needs_the_samples_that_it_was_made_from(tmp_path: Path, damage: str) -> None:
    path = write_profile(tmp_path, Synthetic(), name="sampled")
    assert run(path).exit_code == 0
    samples = tmp_path / "sampled.parquet"
    samples.unlink() if damage == "gone" else samples.write_bytes(b"PAR1")
    done = run(path)
    field = (
        "samples.file: there is no such file" if damage == "gone" else "samples.sha256: sampled.parquet is not the file"
    )
    assert done.exit_code == 2 and field in done.stderr


@pytest.mark.parametrize("broken", ["half", "empty", "columns", "text", "rows"])
def test_samples_that_cannot_be_read_are_told_even_if_their_hash_is_right(tmp_path: Path, broken: str) -> None:
    path = write_profile(tmp_path, Synthetic(), name="sampled")
    samples = tmp_path / "sampled.parquet"
    before, table = samples.read_bytes(), parquet.read_table(samples)
    if broken in ("half", "empty"):
        samples.write_bytes(before[: len(before) // 2] if broken == "half" else b"")
    else:
        other = {
            "columns": table.drop_columns(["rows"]),
            "text": table.set_column(0, table.column_names[0], pa.array(["x"] * len(table))),
            "rows": table.slice(0, 0),
        }
        parquet.write_table(other[broken], samples)
    hashes = [hashlib.sha256(content).hexdigest() for content in (before, samples.read_bytes())]
    path.write_text(path.read_text().replace(*hashes))
    done = run(path)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"{path}: samples.file: {samples}: ") and "calibrate again" in done.stderr
    with pytest.raises(ProfileError, match="calibrate again"):
        Measured.load(path)


def test_same_file_and_seed_same_verdict_and_bytes(folder: Path) -> None:
    first, again = (run(folder / "a.yaml", "--json").stdout for _ in range(2))
    assert first == again
    assert run(folder / "a.yaml", "--json", "--seed", 8).stdout != first


def test_files_come_in_the_order_of_their_names_within_each_argument(folder: Path) -> None:
    found = [path.name for path, _ in files_of([folder / "sub", folder / "a.yaml"])]
    assert found == ["b.json", "other.yaml", "a.yaml"]


def test_the_exit_code_of_nothing_is_0() -> None:
    assert exit_code([], strict=True) == 0
