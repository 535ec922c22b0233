"""Outcomes of checked scenarios as JUnit XML, which every CI system draws: a file a suite, a claim a test case.

`undecided` becomes *skipped*; neither clock nor machine enters, so the same outcomes give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

CaseOutcome = Literal["pass", "fail", "undecided", "error"]

_TAGS = {"fail": "failure", "undecided": "skipped", "error": "error"}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One test case; `message` says what was found where it did not pass."""

    name: str
    outcome: CaseOutcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases of one file."""

    name: str
    cases: Sequence[Case]


def to_xml(suites: Sequence[Suite]) -> str:
    """The XML document."""
    root = ElementTree.Element("testsuites", {"name": "forebay check", **_counts([c for s in suites for c in s.cases])})
    for suite in suites:
        element = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite.name), **_counts(suite.cases)})
        for case in suite.cases:
            _add_case(element, suite.name, case)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(parent: ElementTree.Element, suite: str, case: Case) -> None:
    element = ElementTree.SubElement(parent, "testcase", {"classname": _clean(suite), "name": _clean(case.name)})
    if case.outcome in _TAGS:
        ElementTree.SubElement(element, _TAGS[case.outcome], {"message": _clean(case.message)})


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    outcomes = [case.outcome for case in cases]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("fail")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("undecided")),
    }


def _clean(text: str) -> str:
    """XML 1.0 has no control characters, not even escaped ones."""
    return _FORBIDDEN.sub("?", text)
