"""JUnit XML of checked scenarios: counts, tags, and text that XML cannot hold."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from sim.junit import Case, Suite, to_xml

SUITES = [
    Suite("a.yaml", [Case("p99 < 5ms", "pass"), Case("p50 < 1ms", "fail", "simulated 2")]),
    Suite("b.yaml", [Case("busy < 0.5", "undecided", "simulated 0.5"), Case("is valid", "error", "a\nb")]),
]


def test_outcomes_become_the_tags_that_ci_systems_know() -> None:
    root = ElementTree.fromstring(to_xml(SUITES))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    tags = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert tags == {"p99 < 5ms": [], "p50 < 1ms": ["failure"], "busy < 0.5": ["skipped"], "is valid": ["error"]}
    assert [suite.get("name") for suite in root] == ["a.yaml", "b.yaml"]


@given(st.text(), st.text())
def test_any_text_gives_xml_that_can_be_read(name: str, message: str) -> None:
    case = next(ElementTree.fromstring(to_xml([Suite(name, [Case(name, "fail", message)])])).iter("testcase"))
    assert len(case.get("name", "")) == len(name)
