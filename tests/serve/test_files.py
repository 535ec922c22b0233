"""Files in and out: round trips of every format, and every kind of fault as a line that names its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from serve import files, yaml_text
from serve.deployment import Deployment
from serve.errors import SpecError
from serve.profile import Profile
from serve.spec import Spec
from serve.units import Bytes, DurationNs, PriceUsdPerH, RateRps, Share
from sim.scenario import Scenario
from tests.examples import FORMATS, SCENARIO_TEXT, example


def faults_of(path: Path, kind: type[BaseModel] = Scenario) -> list[str]:
    """The lines that loading the file at `path` reports, without the file's name."""
    with pytest.raises(SpecError) as caught:
        files.load(path, kind)
    return [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults]


def written(folder: Path, text: str, name: str = "s.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_survives_a_round_trip(name: str, suffix: str, tmp_path: Path) -> None:
    model = example(name)
    path = tmp_path / f"file{suffix}"
    files.save(path, model)
    again = files.load(path, type(model))
    assert again == model
    assert files.to_text(again) == files.to_text(model)


def test_what_is_written_begins_with_the_schema_in_a_place_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    files.save(path, example("scenario"))
    first = path.read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert named != first
    assert (path.parent / named).resolve() == files.SCHEMAS / "scenario.json"


def test_the_schema_is_named_relative_to_a_file_in_the_checkout() -> None:
    inside = files.SCHEMAS.parent.parent / "out" / "tour" / "profile.yaml"
    first = files.to_text(example("profile"), inside).splitlines()[0]
    assert first.endswith("$schema=../../forebay/schemas/profile.json")


def test_fields_are_written_in_their_order_and_comments_above_their_key(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    files.save(
        path, example("scenario"), {"": "one\ntwo", "workload.duration": "how long", "deployment.pools": "where"}
    )
    lines = path.read_text().splitlines()
    assert lines[1:3] == ["# one", "# two"]
    assert lines[lines.index("  # how long") + 1].startswith("  duration:")
    assert lines[lines.index("  # where") + 1] == "  pools:"
    keys = list(files.read(path))
    assert keys == [key for key in Scenario.model_fields if key in keys]
    assert files.load(path, Scenario) == example("scenario")


def test_row_weights_keep_their_numbers_as_keys(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    files.save(path, example("scenario"))
    assert "{1: 0.8, 4: 0.2}" in path.read_text()


class Values(Spec):
    """One field for each unit, and texts that YAML might misread."""

    duration: DurationNs
    rate: RateRps
    size: Bytes
    price: PriceUsdPerH
    share: Share
    text: str
    number: float
    count: int


@given(
    st.integers(0, 2**53),
    st.floats(0, 1e12),
    st.integers(0, 10**15),
    st.floats(0, 1e6),
    st.integers(0, 10_000),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\u2028\u2029")),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**62), 2**62),
)
def test_any_value_survives_a_round_trip(
    duration_ns: int, rate: float, size: int, price: float, share: int, text: str, number: float, count: int
) -> None:
    values = Values.model_construct(
        duration=duration_ns,
        rate=rate,
        size=size,
        price=price,
        share=share / 10_000,
        text=text,
        number=number,
        count=count,
    )
    again = files.parse(yaml_text.parse("values", files.to_text(values))[0], Values, "values")
    # Decimal fractions of a unit are exact to the rounding of floats: a nanosecond for durations up to 52 days.
    assert abs(again.duration - duration_ns) <= duration_ns * 2**-52
    assert again.share == pytest.approx(share / 10_000, rel=1e-15)
    assert again.model_copy(update={"duration": duration_ns, "share": share / 10_000}) == values


@pytest.mark.parametrize(
    "text", ["yes", "on", "12:30", "2026-01-31", "1_000", "0x10", "1e3", "null", "~", "", " a", "#"]
)
def test_texts_that_look_like_something_else_stay_texts(text: str, tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    planned = example("deployment").model_copy(update={"planned_for": {"note": text}})
    files.save(path, planned)
    assert files.load(path, Deployment).planned_for == {"note": text}


def test_scalars_follow_yaml_1_2() -> None:
    assert files.parse_value("[on, 12:30, 2026-01-31, 1e3, .5, true, 007, ~]") == [
        *("on", "12:30", "2026-01-31"),
        *(1000.0, 0.5, True, 7, None),
    ]


def test_every_fault_of_a_file_is_a_line_with_its_place(tmp_path: Path) -> None:
    text = (
        SCENARIO_TEXT.replace("max_batch: 16", "max_batch: 0")
        .replace("60s", "60")
        .replace("window: 2ms", "windw: 2ms")
        .replace("price: 0.35 USD/h", "price: cheap")
        .replace("      profile: profile.yaml\n", "")
        .replace("backend: emulated", "backend: tensor")
        .replace("slots: 1", "slots: 1, slots: 2")
    )
    assert faults_of(written(tmp_path, text)) == [
        "deployment.models.digits.replicas.slots: line 15: appears twice in one mapping; keep one",
        "workload.duration: must be a duration with its unit, such as 5ms, 2s or 10min, got 60",
        "deployment.models.digits.profile: is missing (profile that `sim` draws from, relative to this file; "
        "or {machine type: profile})",
        "deployment.models.digits.backend: must be 'onnx' or 'emulated', got 'tensor' "
        "(emulated: holds its slot for a time drawn from the profile)",
        "deployment.models.digits.batching.max_batch: must be >= 1, got 0 "
        "(most rows in one batch; 1 switches batching off)",
        "deployment.models.digits.batching.windw: unknown key; did you mean 'window'?",
        "deployment.pools.here.price: must be a price per hour, such as 0.35 USD/h, got 'cheap'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("seed: 7", "seed: -1", "seed: must be >= 0, got -1"),
        ("seed: 7", "seed: 7.5", "seed: must be a whole number, got 7.5"),
        ("seed: 7", "schema_version: 2", "schema_version: must be 1, got 2"),
        ("seed: 7", "sed: 7", "sed: unknown key; did you mean 'seed'?"),
        ("replications: 20", "replications: 1", "replications: must be >= 2, got 1"),
        ("rows: 16", "rows: lots", "rows: must be a whole number or a mapping of keys to values, got 'lots'"),
        ("rows: 16", "rows: 0", "workload.classes.nightly.rows: must be >= 1, got 0"),
        ("rows: 16", "rows: {0: 1}", "workload.classes.nightly.rows.0: must be >= 1, got 0"),
        ("rows: 16", "rows: {2: 0}", "rows: needs a weight above 0, as in {1: 0.8, 4: 0.2}"),
        ("rows: 16", "rows: {2: -1}", "workload.classes.nightly.rows.2: must be >= 0, got -1"),
        ("poisson: 400/s", "poisson: 0/s", "arrivals.poisson: must be >= 1e-06, got '0/s'"),
        ("poisson: 400/s", "poisson: ", "arrivals: must name exactly one of poisson, constant,"),
        (
            "poisson: 400/s",
            "poisson: 400",
            "arrivals.poisson: must be a rate with its unit, such as 400/s or 90/min, got 400",
        ),
        ("poisson: 400/s", "poisson: 4/s, constant: 5/s", "must name exactly one of poisson, constant,"),
        ("think: 0s", "think: 1e999s", "think: must be a number below 1e15 in any unit, got '1e999s'"),
        ("max_queue: 256", "max_queue: some", "max_queue: must be a whole number or 'unbounded', got 'some'"),
        ("max_queue: 256", "max_queue: -1", "queue: max_queue must be >= 0 rows or 'unbounded'"),
        ("    digits:", "    Digits:", "deployment.models.Digits: must be a name of lower-case letters, digits"),
        ("slots: 1", "slots: 3", "replicas.slots: must be <= 2, got 3"),
        ("backend: emulated", "backend: emulate", "; did you mean 'emulated'?"),
        (
            "here: {nodes: 1, cores: 2, price: 0.35 USD/h}",
            "here: 3",
            "pools.here: must be a mapping of keys to values, got 3",
        ),
        ("- interactive.p99 < 50ms", "- 7", "expect.0: must be text, got 7"),
        ("count: 2", "count: 10000000000000000000000", "must be below 2^63"),
        ("count: 2", "count: !!python/name:os.system ''", "is not supported; write plain values"),
        ("count: 2", "count: 2, count: 3", "replicas.count: line 16: appears twice in one mapping; keep one"),
        ("count: 2", "? [a, b] : 2", "line 16: a key must be a word or a number"),
        (
            "slo: {p99: 50ms, refused: 0%}",
            "slo: &a {p99: 50ms}\nchoices: *a",
            "choices: line 19: aliases (*name) are not supported",
        ),
    ],
)
def test_a_fault_says_where_it_is_what_was_found_and_what_would_do(
    old: str, new: str, line: str, tmp_path: Path
) -> None:
    assert old in SCENARIO_TEXT
    lines = faults_of(written(tmp_path, SCENARIO_TEXT.replace(old, new, 1)))
    assert any(line in found for found in lines), lines


def test_a_key_that_cannot_be_printed_stays_on_its_line(tmp_path: Path) -> None:
    lines = faults_of(written(tmp_path, SCENARIO_TEXT + '"a\\nb": 1\n'))
    assert lines == [r"'a\nb': unknown key; known here: " + ", ".join(Scenario.model_fields)]


@pytest.mark.parametrize(("key", "found"), [("null", "nothing"), ("1.5", "1.5"), ("true", "true")])
def test_a_key_that_is_no_text_is_a_fault_as_is_what_lies_below_it(key: str, found: str, tmp_path: Path) -> None:
    text = SCENARIO_TEXT.replace("    nightly:", f"    {key}: {{arrivals: {{}}}}\n    nightly:")
    assert text != SCENARIO_TEXT
    above, below = faults_of(written(tmp_path, text))
    assert above.endswith(f": must be text, got {found}")
    assert "arrivals: must name exactly one of" in below


@pytest.mark.parametrize("deployment", ["7", "[a]", "", "true"])
def test_the_wrong_kind_of_deployment_is_one_fault_that_names_both_right_kinds(deployment: str, tmp_path: Path) -> None:
    head = SCENARIO_TEXT[: SCENARIO_TEXT.index("deployment:")]
    (line,) = faults_of(written(tmp_path, f"{head}deployment: {deployment}\n"))
    assert line.startswith("deployment: must be a mapping of keys to values or text, got ")


def test_a_deployment_that_is_a_path_is_accepted(tmp_path: Path) -> None:
    head = SCENARIO_TEXT[: SCENARIO_TEXT.index("deployment:")]
    assert files.load(written(tmp_path, f"{head}deployment: d.yaml\n"), Scenario).deployment == "d.yaml"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty; it must hold a mapping of keys to values"),
        (b"# only a comment\n", "is empty; it must hold a mapping of keys to values"),
        (b"[1]", "must hold a mapping of keys to values, got a list"),
        (b"5", "must hold a mapping of keys to values, got 5"),
        (b"\xff\xfe\x00", "is not UTF-8 text: byte 0 cannot be read"),
        (b"a: 1\nb: [1,\n", "line 3: while parsing a flow"),
        (b"a: 1\n\tb: 2\n", "line 2: "),
        (b"a: \x01\n", "is not YAML: "),
        (b"a: 1\n---\nb: 2\n", "line 2: "),
        (b"[" * 100_000, "nest"),
        (b"a: &a [*a]\n", "a.0: line 1: aliases (*name) are not supported"),
        (b"a: 1\na: 2\n", "a: line 2: appears twice"),
        (b"x" * (files.SIZE_LIMIT_BYTES + 1), "is larger than 16 MiB"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_what_is_no_mapping_in_yaml_is_a_fault(content: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    assert line in faults_of(path)[0]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "is empty"),
        ("{", "line 1: "),
        ('{"a": 1, "a": 2}', "a: appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "too long to read"),
        ("[1]", "must hold a mapping"),
        ('{"seed": NaN}', "seed: must be a"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_mapping_in_json_is_a_fault(content: str, line: str, tmp_path: Path) -> None:
    assert line in faults_of(written(tmp_path, content, "s.json"))[0]


def test_json_may_name_its_schema(tmp_path: Path) -> None:
    data = {"$schema": "anything", **files.plain(example("deployment"))}
    path = written(tmp_path, json.dumps(data), "d.json")
    assert files.load(path, Deployment) == example("deployment")


def test_a_missing_file_and_a_folder_are_faults(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "none.yaml") == ["there is no such file"]
    assert faults_of(tmp_path) == ["is a folder, not a file"]
    assert faults_of(tmp_path / "a\0b.yaml") == ["cannot be read: embedded null byte"]
    with pytest.raises(SpecError, match="there is no such file"):
        files.sha256(tmp_path / "none.yaml")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.yaml"
    files.save(path, example("deployment"))
    before = path.read_bytes()

    def torn(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", torn)
    with pytest.raises(SpecError, match=r"cannot be written: No space left on device"):
        files.save(path, example("deployment").model_copy(update={"planned_for": {"a": 1}}))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["d.yaml"]


def test_missing_folders_are_made_and_a_file_in_the_way_is_a_fault(tmp_path: Path) -> None:
    files.save(tmp_path / "a" / "b" / "d.yaml", example("deployment"))
    with pytest.raises(SpecError, match="cannot be written"):
        files.save(tmp_path / "a" / "b" / "d.yaml" / "e.yaml", example("deployment"))


def test_paths_are_relative_to_the_file_that_names_them() -> None:
    assert files.resolve(Path("out/tour/deployment.yaml"), "profile.yaml") == Path("out/tour/profile.yaml")
    assert files.resolve(Path("out/d.yaml"), "/srv/p.yaml") == Path("/srv/p.yaml")


def test_the_class_of_a_model_tells_its_format() -> None:
    class Planned(Deployment):
        """A kind of deployment."""

    assert [files.schema_name(kind) for kind in (Profile, Planned, Spec)] == ["profile", "deployment", None]


def test_a_file_of_another_format_is_named_by_its_own(tmp_path: Path) -> None:
    path = tmp_path / "result.yaml"
    files.save(path, example("result"))
    with pytest.raises(SpecError) as caught:
        files.load(path, Scenario)
    assert str(caught.value) == f"{path}: is a result, not a scenario"


def test_a_number_in_quotes_is_told_to_lose_them(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(SCENARIO_TEXT + "schema_version: '1'\n")
    with pytest.raises(SpecError, match="schema_version: must be 1, got '1'; write it without quotes"):
        files.load(path, Scenario)
