"""Comparisons: what counts as a good enough prediction, and what a report says of it."""

from __future__ import annotations

from typing import Any

import pytest

from planner import compare
from planner.report import Run
from planner.slo import parse_slo
from tests.planner.worlds import estimate, result, scenario


def run(batch_rows: dict[int, float] | None = None, **metrics: float) -> Run:
    """A live run with these metrics."""
    return Run(
        metrics=dict(metrics),
        requests=1000,
        answered=1000,
        batch_rows=batch_rows or {},
        reasons={},
        refusals={},
        late_share=0.0,
        loadgen_cores=0.1,
        front_cores=0.1,
        latency_cdf_s=[0.0, 1.0],
    )


def predicted(batch_rows: dict[int, float] | None = None, **metrics: Any) -> Any:
    """A Result with these estimates."""
    made = result(scenario(), metrics)
    return made if batch_rows is None else made.model_copy(update={"batch_rows": batch_rows})


@pytest.mark.parametrize(
    ("forecast", "width", "runs", "ok"),
    [
        pytest.param(0.0104, 0.0, (0.0100, 0.0100), True, id="within-five-per-cent"),
        pytest.param(0.0107, 0.0, (0.0100, 0.0100), False, id="beyond-five-per-cent"),
        pytest.param(0.0107, 0.1, (0.0100, 0.0100), True, id="beyond-but-covered-by-the-interval"),
        pytest.param(0.0119, 0.0, (0.0090, 0.0110), True, id="beyond-but-the-runs-differ-as-much"),
        pytest.param(0.0130, 0.0, (0.0090, 0.0110), False, id="beyond-even-the-noise"),
        pytest.param(0.0080, 0.1, (0.0100, 0.0100), False, id="below-the-interval"),
    ],
)
def test_a_p99_is_accepted_if_covered_or_within_tolerance_or_noise(
    forecast: float, width: float, runs: tuple[float, float], ok: bool
) -> None:
    row = compare.comparison("p99", predicted(p99=estimate(forecast, width)), [run(p99=v) for v in runs])
    assert row.ok is ok


def test_a_latency_is_predicted_for_one_run_and_a_rehearsal_knows_that_run() -> None:
    skewed = predicted(mean=estimate(0.030, 0.5) | {"typical": 0.010}, busy=estimate(0.5) | {"typical": 0.4})
    runs = [run(mean=0.011, busy=0.5)]
    assert compare.comparison("mean", skewed, runs).predicted == 0.010
    assert compare.comparison("busy", skewed, runs).predicted == 0.5
    row = compare.comparison("mean", skewed, runs, predicted(mean=estimate(0.0111)))
    assert row.predicted == 0.0111
    assert row.interval == skewed.total.metrics["mean"].pi, "the interval does not know the draws"


def test_errors_are_relative_to_the_median_of_the_runs() -> None:
    runs = [run(mean=v) for v in (0.010, 0.012, 0.050)]
    row = compare.comparison("mean", predicted(mean=estimate(0.009)), runs)
    assert row.measured == 0.012
    assert row.error == pytest.approx(-0.25)
    assert row.noise == pytest.approx(0.040 / 0.012)


def test_metrics_that_nobody_knows_are_left_out_and_others_are_shown_without_judgement() -> None:
    rows = compare.compare(predicted(mean=estimate(0.01), busy=estimate(0.5)), [run(mean=0.01)])
    assert [r.metric for r in rows] == ["mean", "busy"]
    assert rows[1].ok is None
    assert rows[1].measured is None


def test_an_unstable_prediction_against_a_measured_latency_is_no_good() -> None:
    row = compare.comparison("p99", predicted(p99=estimate(None)), [run(p99=0.01)])
    assert row.ok is False


def test_batch_distances_are_to_the_runs_together_and_between_them() -> None:
    runs = [run({1: 1.0}), run({1: 0.8, 2: 0.2})]
    distance, between = compare.batch_distance(predicted({1: 0.5, 2: 0.5}), runs)
    assert distance == pytest.approx(0.4)
    assert between == pytest.approx(0.2)
    assert compare.batch_distance(predicted(), [run()]) == (None, None)


def test_bounds_are_judged_by_the_median_run_and_of_a_class_by_the_class() -> None:
    bounds = parse_slo({"p99": "10ms", "throughput": "90/s"}, ())
    runs = [run(p99=0.009, throughput=v, refused=0.0, expired=0.0, failed=0.0) for v in (80.0, 91.0, 92.0)]
    checks = {c.metric: c for c in compare.check_bounds(bounds, runs)}
    assert checks["p99"].held
    assert checks["throughput"].held
    assert not compare.check_bounds(parse_slo({"a.p99": "10ms"}, ("a",)), runs)[0].held


@pytest.mark.parametrize(
    ("p99", "forecast", "expected"),
    [
        (0.009, 0.009, "ok"),
        (0.011, 0.011, "slo missed"),
        (0.009, 0.005, "prediction off"),
        (0.011, 0.005, "slo missed and prediction off"),
    ],
)
def test_the_verdict_names_both_kinds_of_fault(p99: float, forecast: float, expected: str) -> None:
    runs = [run(p99=p99, refused=0.0, expired=0.0, failed=0.0)]
    checks = compare.check_bounds(parse_slo({"p99": "10ms"}, ()), runs)
    rows = compare.compare(predicted(p99=estimate(forecast)), runs)
    found, reason = compare.verdict(checks, compare.prediction_faults(rows, None, None))
    assert found == expected
    assert ("measured 11ms" in reason) == ("slo" in expected)
