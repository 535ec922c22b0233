"""The grammar of claims, their units and near misses, and the verdict by the confidence interval."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.vocabulary import METRICS
from sim import expect
from sim.expect import Expectation, judge, parse_bound, parse_expectation
from sim.result import ClassResult, Estimate, Result
from tests.examples import example

CLASSES = ("interactive", "nightly-2")

UNIT_EXAMPLES = {
    "s": ("50ms", 0.05),
    "1/s": ("90/min", 1.5),
    "share": ("1%", 0.01),
    "rows": ("4 rows", 4.0),
    "usd/h": ("0.35 USD/h", 0.35),
    "usd": ("0.002 USD", 0.002),
    "1": ("12.5", 12.5),
}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_takes_values_of_its_unit_only(name: str) -> None:
    text, inside = UNIT_EXAMPLES[METRICS[name].unit]
    claim = parse_expectation(f"{name} <= {text}", CLASSES)
    assert (claim.metric, claim.low, claim.high) == (name, -inf, pytest.approx(inside))
    for unit, (wrong, _) in UNIT_EXAMPLES.items():
        if unit != METRICS[name].unit and unit != "1":
            with pytest.raises(ValueError, match=f"the value of {name} must be .*, got '{wrong}'"):
                parse_expectation(f"{name} <= {wrong}", CLASSES)


@pytest.mark.parametrize(
    ("text", "class_", "metric", "low", "high", "open_"),
    [
        ("p99 < 50ms", None, "p99", -inf, 0.05, True),
        ("  p99.9<=1s ", None, "p99.9", -inf, 1.0, False),
        ("interactive.p99.9 > 1s", "interactive", "p99.9", 1.0, inf, True),
        ("nightly-2.goodput >= 100/s", "nightly-2", "goodput", 100.0, inf, False),
        ("busy in [0.5, 70%]", None, "busy", 0.5, 0.7, False),
        ("refused <= 0%", None, "refused", -inf, 0.0, False),
        ("queue_delay < 0", None, "queue_delay", -inf, 0.0, True),
    ],
)
def test_a_claim_reads_as_bounds_in_inside_units(
    text: str, class_: str | None, metric: str, low: float, high: float, open_: bool
) -> None:
    assert parse_expectation(text, CLASSES) == Expectation(text, class_, metric, low, pytest.approx(high), open_)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p98 < 5ms", "'p98' is not a metric; did you mean 'p99'?"),
        ("p99 < 50", "the value of p99 must be a duration with its unit, such as 5ms, 2s or 10min, got '50'"),
        (
            "throughput > 100",
            "the value of throughput must be a rate with its unit, such as 400/s or 90/min, got '100'",
        ),
        ("p99 == 5ms", "must read like 'p99 < 50ms', .*, got 'p99 == 5ms'"),
        ("p99", "must read like"),
        ("p99 < ", "must read like"),
        ("p99 in [1ms]", "must read like"),
        ("p99 in [1ms, 2ms, 3ms]", "must read like"),
        ("p99 in [2ms, 1ms]", r"lower end must come first, got \[2ms, 1ms\]"),
        ("interactve.p99 < 5ms", "'interactve' is not a request class; did you mean 'interactive'?"),
        ("interactive.p98 < 5ms", "'p98' is not a metric; did you mean 'p99'?"),
        ("interactive.busy < 1", "busy is a metric of the whole run; leave out 'interactive.'"),
        ("zzz.qqq < 1", "'zzz.qqq' is not a metric; known: mean, p50"),
        ("p99 < 1e999s", "the value of p99 must be a number below 1e15"),
        ("", "must read like"),
    ],
)
def test_what_cannot_be_read_says_what_would_do(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expectation(text, CLASSES)


def test_the_bound_of_a_rate_is_its_least_and_of_everything_else_its_most() -> None:
    assert parse_bound("goodput", "100/s", ()).low == 100.0
    assert parse_bound("p99", "50ms", ()).high == 0.05
    assert parse_bound("refused", 0.01, ()).high == 0.01


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("refused", "300%", "from 0% to 100%, got '300%'"),
        ("p99", "0ms", "above 0, got '0ms'"),
        ("goodput", "0/s", "above 0, got '0/s'"),
    ],
)
def test_a_bound_that_nothing_or_everything_keeps_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_bound(name, value, ())


def test_all_faults_of_a_list_are_told_with_their_places() -> None:
    claims, faults = expect.claims_of(["p99 < 5ms", "p98 < 5ms", "busy < lots"], CLASSES, "f.yaml")
    assert [claim.metric for claim in claims] == ["p99"]
    assert [str(fault).split(": ")[:2] for fault in faults] == [["f.yaml", "expect.1"], ["f.yaml", "expect.2"]]
    _, faults = expect.bounds_of({"p99": "5", "nope": 1}, CLASSES, "f.yaml")
    assert [fault.field for fault in faults] == ["slo.p99", "slo.nope"]


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, ci=(low, high), pi=None)


@pytest.mark.parametrize(
    ("text", "low", "high", "outcome"),
    [
        ("p99 < 50ms", 0.01, 0.049, "pass"),
        ("p99 < 50ms", 0.01, 0.05, "undecided"),
        ("p99 <= 50ms", 0.01, 0.05, "pass"),
        ("p99 < 50ms", 0.049, 0.06, "undecided"),
        ("p99 <= 50ms", 0.05, 0.06, "undecided"),
        ("p99 < 50ms", 0.05, 0.06, "fail"),
        ("p99 < 50ms", 0.051, 0.06, "fail"),
        ("p99 > 50ms", 0.051, 0.06, "pass"),
        ("p99 > 50ms", 0.01, 0.05, "fail"),
        ("p99 in [10ms, 50ms]", 0.01, 0.05, "pass"),
        ("p99 in [10ms, 50ms]", 0.009, 0.02, "undecided"),
        ("p99 in [10ms, 50ms]", 0.001, 0.06, "undecided"),
        ("p99 in [10ms, 50ms]", 0.001, 0.009, "fail"),
        ("refused <= 0%", 0.0, 0.0, "pass"),
        ("refused < 0%", 0.0, 0.0, "fail"),
        ("refused > 0%", 0.0, 0.0, "fail"),
    ],
)
def test_inside_passes_outside_fails_astride_is_undecided(text: str, low: float, high: float, outcome: str) -> None:
    assert judge(parse_expectation(text, ()), estimate((low + high) / 2, low, high)).outcome == outcome


def test_a_number_that_does_not_exist_fails_whatever_is_claimed() -> None:
    claim = parse_expectation("p99 > 0ms", ())
    assert judge(claim, None).outcome == "fail"
    assert judge(claim, Estimate(value=None, ci=None, pi=None)).outcome == "fail"


def test_a_number_without_an_interval_counts_as_exact() -> None:
    claim = parse_expectation("cost_usd_per_h <= 0.35 USD/h", ())
    assert judge(claim, Estimate(value=0.35, ci=None, pi=None)).outcome == "pass"


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["<", "<=", ">", ">=", "in"])
)
def test_a_verdict_never_contradicts_the_values_of_its_interval(
    a: float, b: float, c: float, d: float, operator: str
) -> None:
    low, high = sorted((a, b))
    text = f"busy in [{min(c, d):.9f}, {max(c, d):.9f}]" if operator == "in" else f"busy {operator} {c:.9f}"
    claim = parse_expectation(text, ())
    outcome = judge(claim, estimate(low, low, high)).outcome
    inside = [claim.holds(value) for value in (low, (low + high) / 2, high)]
    if outcome == "pass":
        assert all(inside)
    if outcome == "fail":
        assert not any(inside)
    if outcome == "undecided":
        assert not all(inside)


def runner(intervals: dict[int, tuple[float, float]], asked: list[int]) -> Result:
    """A simulation whose p99 has a known interval by replications; notes what it was asked."""
    low, high = intervals[asked[-1]]
    total = ClassResult(metrics={"p99": estimate((low + high) / 2, low, high)})
    result: Result = example("result")
    return result.model_copy(update={"replications": asked[-1], "total": total})


@pytest.mark.parametrize(
    ("intervals", "runs", "outcome"),
    [
        ({20: (0.01, 0.02)}, [20], "pass"),
        ({20: (0.06, 0.07)}, [20], "fail"),
        ({20: (0.04, 0.06), 40: (0.04, 0.049)}, [20, 40], "pass"),
        ({20: (0.04, 0.06), 40: (0.04, 0.06), 80: (0.04, 0.06), 100: (0.04, 0.06)}, [20, 40, 80, 100], "undecided"),
    ],
)
def test_replications_are_doubled_up_to_the_cap_while_a_claim_is_undecided(
    intervals: dict[int, tuple[float, float]], runs: list[int], outcome: str
) -> None:
    asked: list[int] = []

    def run(replications: int) -> Result:
        asked.append(replications)
        return runner(intervals, asked)

    checked = expect.check([parse_expectation("p99 < 50ms", ())], run, 20, cap=100)
    assert (asked, checked.outcome) == (runs, outcome)
    assert checked.result.replications == runs[-1]


def test_one_failing_claim_fails_the_scenario_without_more_replications() -> None:
    asked: list[int] = []

    def run(replications: int) -> Result:
        asked.append(replications)
        return runner({20: (0.04, 0.06)}, asked)

    claims = [parse_expectation(text, ()) for text in ("p99 < 50ms", "p99 < 10ms")]
    checked = expect.check(claims, run, 20)
    assert [judgement.outcome for judgement in checked.judgements] == ["undecided", "fail"]
    assert (checked.outcome, asked) == ("fail", [20])
