"""What docs/files.md and docs/cli.md say is true: examples load, faults read as printed, flags and metrics exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli import app
from forebay.inputs import load_scenario
from serve import files, units
from serve.errors import SpecError
from serve.vocabulary import METRICS
from sim.laws import Arrivals
from sim.scenario import Scenario
from tests.profiles import Synthetic, write_profile

DOCS = Path(__file__).parents[2] / "docs"
FILES = (DOCS / "files.md").read_text()
CLI = (DOCS / "cli.md").read_text()
EXAMPLE = re.search(r"```yaml\n(.*?)```", FILES, re.DOTALL)[1]  # type: ignore[index]
VERBS = dict(re.findall(r"## `forebay (\w+)[^\n]*\n(.*?)(?=\n## |\Z)", CLI, re.DOTALL))
GROUPS = {
    str(group.name): [command.name or command.callback.__name__ for command in group.typer_instance.registered_commands]  # type: ignore[union-attr]
    for group in app.registered_groups
}
"""Verbs that have verbs of their own, with these."""
LAWS = re.findall(r"^\| `(\w+: [^`]+)` \|", FILES.partition("### Arrivals")[2], re.MULTILINE)


def test_the_example_scenario_is_right(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(samples=0), name="profile")
    path = tmp_path / "s.yaml"
    path.write_text(EXAMPLE)
    assert load_scenario(path).choices


def test_the_faults_shown_are_what_is_printed(tmp_path: Path) -> None:
    shown = re.findall(r"^ +burst\.yaml: (.*)$", FILES, re.MULTILINE)
    path = tmp_path / "burst.yaml"
    path.write_text(
        EXAMPLE.replace("60s", "60").replace("max_batch: 16", "max_batch: 0").replace("window: 2ms", "windw: 2ms")
    )
    with pytest.raises(SpecError) as caught:
        files.load(path, Scenario)
    assert [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults] == shown


@pytest.mark.parametrize(
    ("unit", "parse"),
    [
        ("duration", units.parse_duration_ns),
        ("rate", units.parse_rate_rps),
        ("size", units.parse_bytes),
        ("price", units.parse_price_usd_per_h),
        ("share", units.parse_share),
        ("factor", units.parse_factor),
    ],
)
def test_the_values_shown_have_their_unit(unit: str, parse) -> None:  # type: ignore[no-untyped-def]
    (row,) = re.findall(rf"^ *\| {unit} \|(.*)\|$", FILES, re.MULTILINE)
    shown = re.findall(r"`([^`]+)`", row)
    assert shown
    for text in shown:
        assert parse(int(text) if text == "0" else text) >= 0


def test_every_law_of_arrivals_is_shown_and_can_be_read() -> None:
    shown = [files.parse(files.parse_value(f"{{{law}}}"), Arrivals, law) for law in LAWS]
    assert {name for law in shown for name in law.model_fields_set} == set(Arrivals.model_fields)


def test_the_metrics_shown_are_the_vocabulary() -> None:
    shown = re.findall(r"^\| `([a-z0-9_.]+)` \| ([^|]+) \| (.*) \|$", FILES, re.MULTILINE)
    wanted = [(m.name, m.unit, m.meaning + ("" if m.per_class else " (whole run)")) for m in METRICS.values()]
    assert [row for row in shown if row[0] in METRICS] == wanted


def test_every_verb_is_described() -> None:
    listed = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert set(VERBS) == listed | set(GROUPS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_described_is_a_flag_of_its_verb(verb: str) -> None:
    commands = [[verb, inner] for inner in GROUPS.get(verb, [])] or [[verb]]
    told = "".join(CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).stdout for command in commands)
    assert [flag for flag in re.findall(r"`(--?[a-z-]+)", VERBS[verb]) if flag not in told] == []


def test_the_settings_shown_can_be_read() -> None:
    from forebay.settings import overrides_of

    shown = re.findall(r"--set '?(models[^`']+|workload[^`']+)", CLI)
    assert len(overrides_of(shown)) == len(shown) == 2
