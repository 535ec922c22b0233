"""docs/rulebook.md is true: twelve rules, and every function, file and test that it names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rulebook.md").read_text()
RULES = re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
DEFINED = {
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
}


def test_the_rules_are_there_in_order() -> None:
    """Those of one node, and of an estate those that are driven."""
    assert [number for number, _ in RULES] == [*(str(i) for i in range(1, 13)), "13", "14", "15", "16", "17", "18"]


@pytest.mark.parametrize(("number", "text"), RULES, ids=[f"rule {number}" for number, _ in RULES])
def test_a_rule_says_what_decides_it_and_what_holds_it(number: str, text: str) -> None:
    assert re.findall(r"^Decided by", text, re.MULTILINE)
    assert re.findall(r"`test_\w+`", text)


def test_the_tests_named_exist() -> None:
    assert sorted(set(re.findall(r"`(test_\w+)`", PAGE)) - DEFINED) == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(serve\.[\w.]+)`", PAGE))))
def test_the_functions_named_exist(name: str) -> None:
    parts = name.split(".")
    depth = next(i for i in range(len(parts), 0, -1) if (ROOT / Path(*parts[:i])).with_suffix(".py").exists())
    found: object = importlib.import_module(".".join(parts[:depth]))
    for part in parts[depth:]:
        found = getattr(found, part)
    assert callable(found)


def test_the_files_named_exist() -> None:
    named = set(re.findall(r"\b(?:serve|sim|tests|docs)/[\w/]+\.py", PAGE)) | set(re.findall(r"\((\w+\.md)\)", PAGE))
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "docs" / name).exists()]
    assert missing == []
