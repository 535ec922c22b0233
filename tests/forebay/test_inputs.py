"""Scenarios are checked against their deployment and their files before anything runs; nothing breaks the reader."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.inputs import load_deployment, load_scenario
from serve import files
from serve.errors import SpecError
from sim.scenario import Scenario
from tests.examples import SCENARIO_TEXT, example
from tests.profiles import Synthetic, write_profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scenario's profile and its deployment in a file of its own."""
    made = tmp_path_factory.mktemp("inputs")
    write_profile(made, Synthetic(samples=0), name="profile")
    files.save(made / "deployment.yaml", example("deployment"))
    return made


def faults_of(folder: Path, text: str) -> list[str]:
    path = folder / "s.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_scenario(path)
    return [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_a_right_scenario_is_read(folder: Path) -> None:
    (folder / "right.yaml").write_text(SCENARIO_TEXT)
    assert load_scenario(folder / "right.yaml") == example("scenario")


def test_its_deployment_may_be_a_file(folder: Path) -> None:
    head = SCENARIO_TEXT[: SCENARIO_TEXT.index("deployment:")]
    (folder / "named.yaml").write_text(f"{head}deployment: deployment.yaml\n")
    assert load_scenario(folder / "named.yaml").deployment == "deployment.yaml"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "model: digits, arrivals: {poi",
            "model: digit, arrivals: {poi",
            "classes.interactive.model: is not in the dep",
        ),
        ("priority: 1", "priority: 2", "nightly.priority: must be below the model's priority_levels (2), got 2"),
        ("profile: profile.yaml", "profile: none.yaml", "models.digits.profile: there is no such file: "),
        ("{poisson: 400/s}", "{trace: {file: t.csv}}", "arrivals.trace.file: there is no such file: "),
        ("interactive.p99 < 50ms", "p98 < 50ms", "expect.0: 'p98' is not a metric; did you mean 'p99'?"),
        ("p99: 50ms", "p99: 50", "slo.p99: the value of p99 must be a duration"),
        ("60s", "1000000h", "workload.duration: at these rates and 20 replications makes 2.9e+13 requests"),
    ],
)
def test_parts_that_do_not_fit_together_are_faults(folder: Path, old: str, new: str, line: str) -> None:
    assert old in SCENARIO_TEXT
    (found,) = faults_of(folder, SCENARIO_TEXT.replace(old, new, 1))
    assert line in found


def test_a_class_whose_requests_never_fit_is_a_fault_unless_plan_may_change_the_batch(folder: Path) -> None:
    text = SCENARIO_TEXT.replace("rows: 16", "rows: {16: 0, 20: 1}")
    assert faults_of(folder, text) == ["workload.classes.nightly.rows: must fit the model's max_batch (16), got 20"]
    (folder / "chosen.yaml").write_text(text + "  models.digits.batching.max_batch: [16, 32]\n")
    assert load_scenario(folder / "chosen.yaml").choices


def test_claims_are_told_beside_the_faults_of_the_format(folder: Path) -> None:
    text = SCENARIO_TEXT.replace("max_batch: 16", "max_batch: 0").replace("interactive.p99 < 50ms", "p98 < 5ms")
    fields = [line.split(": ")[0] for line in faults_of(folder, text.replace("p99: 50ms", "p99: 50"))]
    assert fields == ["deployment.models.digits.batching.max_batch", "expect.0", "slo.p99"]
    for odd in ("expect: 7", "expect: [7]", "slo: [a]", "slo: {p99: [1]}", "workload: 7", "workload: {classes: 7}"):
        broken = SCENARIO_TEXT.split("expect:")[0].replace("slo: {p99: 50ms, refused: 0%}\n", "") + f"{odd}\n"
        assert faults_of(folder, broken)


def test_faults_of_a_deployment_in_a_file_name_that_file(folder: Path) -> None:
    head = SCENARIO_TEXT[: SCENARIO_TEXT.index("deployment:")]
    (folder / "bad.yaml").write_text("models: {}\n")
    lines = faults_of(folder, f"{head}deployment: bad.yaml\nexpect: [p98 < 5ms]\n")
    assert [line.split(": ")[0] for line in lines] == [str(folder / "bad.yaml")] * 2 + ["expect.0"]


def test_a_class_must_say_which_of_several_models_it_asks_for(folder: Path) -> None:
    text = SCENARIO_TEXT.replace("{model: digits, arrivals: {poi", "{arrivals: {poi")
    two = text.replace("  pools:", "    letters: {profile: profile.yaml, backend: emulated}\n  pools:")
    assert faults_of(folder, two) == [
        "workload.classes.interactive.model: is missing; the deployment has digits, letters"
    ]


def test_a_deployment_to_serve_needs_its_model_file(folder: Path) -> None:
    text = (folder / "deployment.yaml").read_text().replace("backend: emulated", "backend: onnx")
    (folder / "onnx.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"models\.digits\.file: there is no such file: .*model\.onnx"):
        load_deployment(folder / "onnx.yaml")


# -- fuzz ------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["5ms", "-5ms", "1e999s", "400/s", "0/s", "1%", "unbounded", "1..4", "{}", "p99 < 5ms", "\x00", "a.b"]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 3)), st.integers(0, 3), max_size=2),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


ORIGINAL = files.plain(example("scenario"))
PLACES = list(places(ORIGINAL))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The example with up to four values replaced, removed or put under another key."""
    data = copy.deepcopy(ORIGINAL)
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=4)):
        here: Any = data
        for key in path[:-1]:
            here = here[key] if isinstance(here, dict) and key in here else None
        if not isinstance(here, dict) or path[-1] not in here:
            continue
        change = draw(st.sampled_from(["replace", "remove", "rename", "add"]))
        if change in ("remove", "rename"):
            taken = here.pop(path[-1])
        if change == "rename":
            here[draw(JUNK.filter(lambda k: not isinstance(k, (list, dict))))] = taken
        if change == "replace":
            here[path[-1]] = draw(JUNK)
        if change == "add":
            here[draw(st.text(max_size=6))] = draw(JUNK)
    return data


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
def test_no_mutated_scenario_breaks_the_reader(folder: Path, data: dict[str, Any]) -> None:
    path = folder / "fuzz.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        scenario = load_scenario(path)
    except SpecError as error:
        assert error.faults
        assert all("\n" not in str(fault) and fault.message for fault in error.faults), str(error)
    else:
        assert files.parse(files.plain(scenario), Scenario, "again") == scenario


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, len(SCENARIO_TEXT)),
    st.integers(0, 40),
    st.one_of(st.binary(max_size=6), st.text("{}[]:-&*!%@`'\"\n\t #|>?,", max_size=6)),
)
def test_no_torn_text_breaks_the_reader(folder: Path, at: int, cut: int, patch: bytes | str) -> None:
    path = folder / "torn.yaml"
    raw = SCENARIO_TEXT.encode()
    path.write_bytes(raw[:at] + (patch.encode() if isinstance(patch, str) else patch) + raw[at + cut :])
    try:
        load_scenario(path)
    except SpecError as error:
        assert error.faults
        assert all("\n" not in str(fault) for fault in error.faults), str(error)
