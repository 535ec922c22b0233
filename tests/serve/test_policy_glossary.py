"""docs/glossary.md explains every outcome and reason of the code, and no word twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.records import Outcome, Reason

PAGE = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()


@pytest.mark.parametrize("name", sorted({member.name.lower() for kind in (Outcome, Reason) for member in kind}))
def test_every_outcome_and_reason_is_explained(name: str) -> None:
    assert f"| `{name}` |" in PAGE


def test_no_word_is_explained_twice_in_a_table() -> None:
    tables = [part for part in PAGE.split("\n\n") if part.startswith("| ")]
    for table in tables:
        words = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
        explained = [word for word in words if word]
        assert sorted(explained) == sorted(set(explained)) != []
    assert len(tables) == 7
