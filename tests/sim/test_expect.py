"""The grammar of claims, their units and near misses, and the verdict by the confidence interval."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.vocabulary import METRICS
from sim import claims
from sim.claims import Expectation, Operand, parse_bound, parse_expectation
from sim.expect import judge, verdict
from sim.questions import Done, Question
from sim.result import ClassResult, Estimate, Result, Simulated
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
    "count": ("3", 3.0),
    "node-h": ("4 node-h", 4.0),
    "kWh": ("1.5 kWh", 1.5),
    "kg": ("2 kg", 2.0),
}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_takes_values_of_its_unit_only(name: str) -> None:
    text, inside = UNIT_EXAMPLES[METRICS[name].unit]
    claim = parse_expectation(f"{name} <= {text}", CLASSES)
    assert (claim.of.metric, claim.low, claim.high) == (name, -inf, pytest.approx(inside))
    for unit, (wrong, _) in UNIT_EXAMPLES.items():
        if unit != METRICS[name].unit and unit not in ("1", "count"):
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
    assert parse_expectation(text, CLASSES) == Expectation(
        text, Operand(metric, class_), low, pytest.approx(high), open_
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p98 < 5ms", "'p98' is not a metric; did you mean 'p99'?"),
        ("p99 < 50", "the value of p99 must be a duration with its unit, such as 5ms, 2s or 10min, got '50'"),
        (
            "throughput > 100",
            "the value of throughput must be a rate with its unit, such as 400/s or 90/min, got '100'",
        ),
        ("p99 = 5ms", "must read like 'p99 < 50ms', .*, got 'p99 = 5ms'"),
        ("p99 < busy", "p99 and busy have different units"),
        ("p99 < p98", "'p98' is not a metric; did you mean 'p99'?"),
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
    found, faults = claims.claims_of(["p99 < 5ms", "p98 < 5ms", "busy < lots"], CLASSES, "f.yaml")
    assert [claim.of.metric for claim in found] == ["p99"]
    assert [str(fault).split(": ")[:2] for fault in faults] == [["f.yaml", "expect.1"], ["f.yaml", "expect.2"]]
    _, faults = claims.bounds_of({"p99": "5", "nope": 1}, CLASSES, "f.yaml")
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
    assert verdict(parse_expectation(text, ()), low, high) == outcome


def test_a_number_that_does_not_exist_fails_whatever_is_claimed() -> None:
    for metrics in ({}, {"p99": Estimate(value=None, ci=None, pi=None)}):
        for text in ("p99 > 0ms", "p99 > p50"):
            assert judge(parse_expectation(text, ()), {None: simulated(metrics)}).outcome == "fail"


def test_a_number_without_an_interval_counts_as_exact() -> None:
    claim = parse_expectation("cost_usd_per_h <= 0.35 USD/h", ())
    metrics = {"cost_usd_per_h": Estimate(value=0.35, ci=None, pi=None)}
    assert judge(claim, {None: simulated(metrics)}).outcome == "pass"


def test_variants_are_compared_replication_by_replication() -> None:
    """Their own intervals overlap widely, but in every replication one is the faster."""
    wide = estimate(0.05, 0.02, 0.08)
    one, other = np.array([0.02, 0.05, 0.08]), np.array([0.021, 0.0515, 0.0813])
    both = {"a": simulated({"p99": wide}, {"p99": one}), "b": simulated({"p99": wide}, {"p99": other})}
    assert [
        judge(parse_expectation(text, (), ("a", "b")), both).outcome
        for text in ("a.p99 < b.p99", "b.p99 < a.p99", "a.p99 == b.p99")
    ] == ["pass", "fail", "fail"]


def test_the_cheaper_variant_is_the_one_of_the_lower_bill() -> None:
    costs = {"spot": 0.2, "reserved": 0.3}
    both = {
        name: simulated({"cost_usd_per_h": estimate(usd, usd, usd)}, {"cost_usd_per_h": np.full(3, usd)})
        for name, usd in costs.items()
    }
    assert judge(parse_expectation("spot cheaper_than reserved", (), costs), both).outcome == "pass"
    assert judge(parse_expectation("reserved cheaper_than spot", (), costs), both).outcome == "fail"


def test_a_metric_must_name_its_variant_where_there_are_some() -> None:
    with pytest.raises(ValueError, match="'p99' must begin with a variant; known: p2c, random"):
        parse_expectation("p99 < 5ms", (), ("p2c", "random"))
    with pytest.raises(ValueError, match=r"'rndom\.p99' must begin with a variant; did you mean 'random'\?"):
        parse_expectation("rndom.p99 < 5ms", (), ("p2c", "random"))
    claim = parse_expectation("p2c.interactive.p99 < 5ms", CLASSES, ("p2c", "random"))
    assert claim.of == Operand("p99", "interactive", "p2c")


@pytest.mark.parametrize(("lost", "outcome"), [([0.0, 0.0, 0.0], "pass"), ([0.0, 1.0, 0.0], "fail")])
def test_a_count_must_hold_in_every_replication(lost: list[float], outcome: str) -> None:
    mean = sum(lost) / 3
    one = {None: simulated({"lost": estimate(mean, 0.0, 2 * mean)}, {"lost": np.array(lost)})}
    assert judge(parse_expectation("lost == 0", ()), one).outcome == outcome


def simulated(metrics: dict[str, Estimate], samples: dict[str, np.ndarray] | None = None) -> Simulated:
    """A simulation of which only some metrics of all requests are known."""
    result: Result = example("result")
    result = result.model_copy(update={"total": ClassResult(metrics=metrics)})
    return Simulated(result, {(None, name): values for name, values in (samples or {}).items()})


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["<", "<=", ">", ">=", "in"])
)
def test_a_verdict_never_contradicts_the_values_of_its_interval(
    a: float, b: float, c: float, d: float, operator: str
) -> None:
    low, high = sorted((a, b))
    text = f"busy in [{min(c, d):.9f}, {max(c, d):.9f}]" if operator == "in" else f"busy {operator} {c:.9f}"
    claim = parse_expectation(text, ())
    outcome = verdict(claim, low, high)
    inside = [claim.holds(value) for value in (low, (low + high) / 2, high)]
    if outcome == "pass":
        assert all(inside)
    if outcome == "fail":
        assert not any(inside)
    if outcome == "undecided":
        assert not all(inside)


def decided(question: Question, intervals: dict[int, tuple[float, float]], cap: int = 160) -> list[int]:
    """Do the jobs of a question on the p99, whose interval by replications is known; how many those were."""
    asked = []
    while jobs := question.next_jobs(cap):
        [job] = jobs
        asked.append(job.replications)
        low, high = intervals[job.replications]
        one = simulated({"p99": estimate((low + high) / 2, low, high)})
        result = one.result.model_copy(update={"replications": job.replications})
        question.take(job, Done(replace(one, result=result), (), 0.5))
    return asked


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
    question = Question(example("scenario"), Path(), [parse_expectation("p99 < 50ms", ())])
    assert decided(question, intervals, cap=100) == runs
    assert [judgement.outcome for judgement in question.judgements] == [outcome]
    assert question.results[None].replications == runs[-1] and question.core_s == 0.5 * len(runs)


def test_one_failing_claim_fails_the_scenario_without_more_replications() -> None:
    claims_ = [parse_expectation(text, ()) for text in ("p99 < 50ms", "p99 < 10ms")]
    question = Question(example("scenario"), Path(), claims_)
    assert decided(question, {20: (0.04, 0.06)}) == [20]
    assert [judgement.outcome for judgement in question.judgements] == ["undecided", "fail"]


def test_what_cannot_be_simulated_is_not_tried_again() -> None:
    question = Question(example("scenario"), Path(), [parse_expectation("p99 < 50ms", ())])
    question.take(question.next_jobs()[0], Done(None, ("p.yaml: is gone",), 0.0))
    assert question.next_jobs() == [] and question.judgements == [] and question.errors == ("p.yaml: is gone",)


def test_a_claim_may_say_why_its_bound_is_where_it_is() -> None:
    claim = parse_expectation("p99 < 50ms  because users leave, because they do", CLASSES)
    assert (claim.text, claim.because) == ("p99 < 50ms", "users leave, because they do")
    assert replace(claim, because=None) == parse_expectation("p99 < 50ms", CLASSES)
    assert claims.without_reason(" p99 < 50ms because x ") == "p99 < 50ms"
    with pytest.raises(ValueError, match="must be a duration"):
        parse_expectation("p99 < 50msbecause x", CLASSES)
