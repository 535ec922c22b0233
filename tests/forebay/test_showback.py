"""`forebay cost`: the bill as tables, in FOCUS columns, and what its flags refuse."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli import app
from forebay.showback import rows, showback_table, to_csv
from sim.result import Charge, Showback

SCENARIO = Path("scenarios/cost-zombie-model.yaml")
SHOWBACK = Showback(
    charge_period_start="2026-03-02T08:00:00Z",
    hours=2.0,
    charges=[
        Charge.model_validate(
            {
                "BilledCost": 1.0, "EffectiveCost": 1.0, "ListCost": 2.0, "ChargeCategory": "Usage",
                "PricingCategory": "Dynamic", "Tags": {"team": team}, "x_Kind": "spot", "x_Pool": "p", "x_Model": "m",
                "x_Class": class_, "x_UsefulCost": useful, "x_IdleCost": 1.0 - useful,
            }
        )
        for team, class_, useful in (("search", "a", 1.0), ("search", None, 0.0), ("ads", "b", 1.0))
    ],
)  # fmt: skip


def cells(by: str) -> list[list[str]]:
    table = showback_table(SHOWBACK, by)
    return [list(row) for row in zip(*(list(column.cells) for column in table.columns), strict=True)]  # type: ignore[arg-type]


def test_charges_are_put_together_and_shown_by_the_hour() -> None:
    assert cells("tag:team") == [
        ["ads", "1", "0.5", "0.5", "0", "0", "0", "0"],
        ["search", "2", "1", "0.5", "0", "0", "0.5", "0"],
        ["all", "3", "1.5", "1", "0", "0", "0.5", "0"],
    ]
    assert [row[0] for row in cells("class")] == ["-", "a", "b", "all"]


def test_every_row_of_a_spreadsheet_has_every_column() -> None:
    found = list(csv.DictReader(to_csv(SHOWBACK).splitlines()))
    assert len(found) == len(rows(SHOWBACK)) == 3
    assert found[0]["ChargePeriodEnd"] == "2026-03-02T10:00:00Z"
    assert json.loads(found[0]["Tags"]) == {"team": "search"}
    assert found[1]["x_Class"] == ""
    assert {row["BillingCurrency"] for row in found} == {"USD"}


def test_a_scenario_is_billed_from_the_terminal(tmp_path: Path) -> None:
    out = tmp_path / "charges.csv"
    asked = ["cost", str(SCENARIO), "--variant", "kept", "--replications", "2", "--csv", str(out), "--json"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    models = {charge["x_Model"] for charge in told["charges"]}
    assert models == {"digits", "last-years-digits"}
    assert len(list(csv.DictReader(out.read_text().splitlines()))) == len(told["charges"])


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--by", "owner"], "--by: must be one of model, class, pool, kind, tag:NAME, got 'owner'"),
        (["--by", "tag:"], "got 'tag:'"),
        ([], "name one with --variant"),
        (["--variant", "kept", "--csv", str(SCENARIO)], "cost-zombie-model.yaml"),
    ],
)
def test_what_cannot_be_done_is_told(flags: list[str], what: str) -> None:
    result = CliRunner().invoke(app, ["cost", str(SCENARIO), *flags])
    assert result.exit_code == 2
    assert what in result.stderr
