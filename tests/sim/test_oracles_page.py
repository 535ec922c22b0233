"""docs/oracles.md shows what the code has: every case and claim, each within its bound, and the rules as coded."""

from __future__ import annotations

from pathlib import Path

from bench.oracles import COLUMNS, FULL
from tests.sim.oracle_cases import SERVICE_BITS, cases
from tests.sim.oracle_stats import RESOLVED, Z_BOUND

PAGE = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.count("|") == 8]


def test_every_case_and_claim_is_in_the_table() -> None:
    assert ROWS[0] == list(COLUMNS.values())
    shown = {(row[0], row[1]) for row in ROWS[2:]}
    wanted = {
        (case.name, claim.name)
        for case in cases()
        for claim in case.claims
        if claim.expected == claim.exact or claim.expected * FULL["fast"].count * FULL["fast"].replications >= RESOLVED
    }
    assert wanted <= shown
    assert {name for name, _ in shown} == {case.name for case in cases()}


def test_every_z_in_the_table_is_within_the_bound() -> None:
    values = [float(z) for row in ROWS[2:] for z in (row[4], row[6]) if z]
    assert len(values) > 200
    assert max(abs(z) for z in values) < Z_BOUND


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f"|z| = {Z_BOUND:.2f}" in PAGE
    assert f"fewer than {RESOLVED} requests" in PAGE
    assert f"{1 << SERVICE_BITS['fast']:,} slices" in PAGE
    assert f"({1 << SERVICE_BITS['reference']:,} on the reference)" in PAGE
