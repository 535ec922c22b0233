"""Arrival laws in files: they read back as written, and every bad parameter is told by its field."""

from __future__ import annotations

from typing import Any

import pytest

from serve import files
from serve.errors import SpecError
from sim.laws import Arrivals
from sim.scenario import Workload

SLOW, FAST = {"rate": "30/s", "dwell": "2s"}, {"rate": "150/s", "dwell": "500ms"}
SESSIONS: dict[str, Any] = {"begin": {"poisson": "5/s"}, "requests": 2.5, "think": "1s"}
HOURS = {"mean": "10/s", "hours": [1, 2]}
WAVE = {"mean": "10/s", "amplitude": "5/s", "period": "1d"}
SPIKE = {"base": "1/s", "peak": "9/s", "at": "0s", "for": "1s"}
TREND = {"rate": "10/s", "growth": "x1.1", "per": "1d"}
COUNTS = {"file": "c.csv", "interval": "1min", "within": "poisson"}
CLOSED = {"closed": {"clients": 1}}


def workload(arrivals: dict[str, Any], duration: str = "10s") -> Workload:
    """A workload of one class that arrives so."""
    return files.parse({"duration": duration, "classes": {"a": {"arrivals": arrivals}}}, Workload, "w")


@pytest.mark.parametrize(
    "arrivals",
    [
        {"weibull": {"rate": "400/s", "shape": 0.5}},
        {"mmpp": {"states": [SLOW, FAST], "next": [[0.0, 1.0], [0.5, 0.5]]}},
        {"diurnal": {**HOURS, "days": [1, 1, 1, 1, 1, 0, 0], "between": "step", "offset": "8h", "cv": 2}},
        {"sinusoid": WAVE},
        {"ramp": {"from": "0/s", "to": "10/s", "over": "1h"}},
        {"spike": {**SPIKE, "up": "1s", "down": "2s"}},
        {"trend": TREND},
        {"counts": {**COUNTS, "column": "n", "scale": 2}},
        {"sessions": SESSIONS},
        {"sum": [{"poisson": "1/s"}, {"scaled": {"of": {"sessions": SESSIONS}, "by": "x2"}}]},
        {"thinned": {"of": {"sessions": SESSIONS}, "keep": 0.25}},
        {"scaled": {"of": {"sum": [{"poisson": "1/s"}, {"constant": "2/s"}]}, "by": "x0.25"}},
    ],
    ids=lambda arrivals: next(iter(arrivals)),
)
def test_what_is_read_is_written_the_same(arrivals: dict[str, Any]) -> None:
    read = workload(arrivals)
    written = files.plain(read)
    assert files.parse(written, Workload, "again") == read
    (name,) = arrivals
    assert list(written["classes"]["a"]["arrivals"]) == [name], "what is not given is not written"


def test_words_of_python_are_keys_of_files() -> None:
    written = files.plain(workload({"ramp": {"from": "1/s", "to": "2/s", "over": "1s"}}))
    assert written["classes"]["a"]["arrivals"]["ramp"]["from"] == "1/s"
    assert "for" in files.plain(workload({"spike": SPIKE}))["classes"]["a"]["arrivals"]["spike"]


@pytest.mark.parametrize(
    ("arrivals", "field", "said"),
    [
        ({"weibull": {"rate": "1/s", "shape": 0}}, "weibull.shape", "must be >= 0.1, got 0"),
        ({"weibull": {"rate": "1/s", "shape": 1, "shap": 1}}, "weibull.shap", "unknown key; did you mean 'shape'?"),
        ({"weibull": {"rate": 5, "shape": 1}}, "weibull.rate", "must be a rate with its unit"),
        ({"mmpp": {"states": [SLOW]}}, "mmpp.states", "must be at least 2 entries long"),
        ({"mmpp": {"states": [{**SLOW, "rate": "0/s"}] * 2}}, "mmpp.states", "needs a rate of at least 1e-06/s"),
        ({"mmpp": {"states": [SLOW, {**FAST, "dwell": "1us"}]}}, "mmpp.states.1.dwell", "at least 1ms"),
        ({"mmpp": {"states": [SLOW, FAST], "next": [[0, 1]]}}, "mmpp.next", "must have 2 rows of 2 probabilities"),
        ({"mmpp": {"states": [SLOW, FAST], "next": [[0, 1], [1]]}}, "mmpp.next", "must have 2 rows of 2"),
        ({"mmpp": {"states": [SLOW, FAST], "next": [[0, 1], [0.5, 0.4]]}}, "mmpp.next", "got 0.9 in row 1"),
        ({"mmpp": {"states": [SLOW, FAST], "next": [[0, 1], [0, 1]]}}, "mmpp.next", "must lead from every state"),
        ({"mmpp": {"states": [SLOW, FAST], "next": [[0, 2], [1, 0]]}}, "mmpp.next.0.1", "must be <= 1, got 2"),
        ({"diurnal": {**HOURS, "hours": []}}, "diurnal.hours", "must be at least 1 entry long"),
        ({"diurnal": {**HOURS, "hours": [0, 0]}}, "diurnal.hours", "needs a weight above 0"),
        ({"diurnal": {**HOURS, "hours": [1, -1]}}, "diurnal.hours.1", "must be >= 0, got -1"),
        ({"diurnal": {**HOURS, "days": [1] * 6}}, "diurnal.days", "must be at least 7 entries long"),
        ({"diurnal": {**HOURS, "between": "cubic"}}, "diurnal.between", "must be 'linear' or 'step', got 'cubic'"),
        ({"diurnal": {**HOURS, "cv": 0}}, "diurnal.cv", "must be >= 0.01, got 0"),
        ({"sinusoid": {**WAVE, "amplitude": "20/s"}}, "sinusoid.amplitude", "at most the mean, 10/s, got '20/s'"),
        ({"sinusoid": {**WAVE, "period": "0s"}}, "sinusoid.period", "at least 1ms"),
        ({"ramp": {"to": "1/s", "over": "1s"}}, "ramp.from", "is missing"),
        ({"ramp": {"from": "0/s", "to": "0/s", "over": "1s"}}, "ramp.to", "unless `from` is, got '0/s'"),
        ({"ramp": {"from": "0/s", "to": "1/s", "over": "0s"}}, "ramp.over", "must be > 0, got 0"),
        ({"spike": {**SPIKE, "for": "0s"}}, "spike.for", "must be > 0, got 0"),
        ({"spike": {**SPIKE, "peak": "0/s"}}, "spike.peak", "must be >= 1e-06, got '0/s'"),
        ({"trend": {**TREND, "growth": 1.1}}, "trend.growth", "such as x1.5 or x0.2, got 1.1"),
        ({"trend": {**TREND, "growth": "x0"}}, "trend.growth", "must be >= 0.001, got 0.0"),
        ({"trend": {**TREND, "per": "1ms"}}, "trend.per", "at least 1s"),
        ({"counts": {"file": "c.csv", "interval": "1s"}}, "counts.within", "is missing (poisson: so many on average"),
        ({"counts": {**COUNTS, "within": "odd"}}, "counts.within", "must be 'poisson', 'uniform' or 'even', got 'odd'"),
        ({"sessions": {**SESSIONS, "lengths": "fixed"}}, "sessions.lengths", "got fixed with 2.5"),
        ({"sessions": {**SESSIONS, "requests": 0}}, "sessions.requests", "must be >= 1, got 0"),
        ({"sessions": {**SESSIONS, "begin": CLOSED}}, "sessions", "must not hold closed: its clients set their own"),
        (
            {"sessions": {**SESSIONS, "begin": {}}},
            "sessions.begin",
            "must name exactly one of poisson, constant, gamma",
        ),
        ({"sum": [{"poisson": "1/s"}]}, "sum", "must be at least 2 entries long"),
        ({"sum": [{"poisson": "1/s"}, CLOSED]}, "sum", "must not hold closed"),
        ({"sum": [{"poisson": "1/s"}, {"poisson": 3}]}, "sum.1.poisson", "must be a rate with its unit"),
        ({"scaled": {"of": {"poisson": "1/s"}, "by": 2}}, "scaled.by", "must be a factor with its x"),
        ({"scaled": {"of": CLOSED, "by": "x2"}}, "scaled", "must not hold closed"),
        ({"thinned": {"of": CLOSED, "keep": 0.5}}, "thinned", "must not hold closed"),
        ({"thinned": {"of": {"poisson": "1/s"}, "keep": 0}}, "thinned.keep", "must be >= 1e-06, got 0"),
        ({"poisson": "1/s", "ramp": {"from": "1/s", "to": "2/s", "over": "1s"}}, "", "got poisson, ramp"),
    ],
)
def test_a_bad_parameter_is_told_by_its_field(arrivals: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        workload(arrivals)
    (fault,) = caught.value.faults
    assert fault.field == f"classes.a.arrivals.{field}".rstrip(".")
    assert said in fault.message, fault.message


@pytest.mark.parametrize(
    ("arrivals", "duration", "said"),
    [
        ({"trend": {**TREND, "growth": "x10"}}, "9d", "classes.a.arrivals.trend: grows beyond 1e+09/s before the run"),
        (
            {"sum": [{"poisson": "1/s"}, {"mmpp": {"states": [SLOW, {**FAST, "dwell": "1ms"}]}}]},
            "1d",
            "classes.a.arrivals.sum.1.mmpp: may change its state 8.6e+07 times; at most 1e+07 are simulated",
        ),
    ],
)
def test_what_no_run_so_long_can_have_is_told(arrivals: dict[str, Any], duration: str, said: str) -> None:
    assert workload(arrivals)
    with pytest.raises(SpecError) as caught:
        workload(arrivals, duration)
    assert said in str(caught.value)


def test_what_is_given_as_nothing_is_not_given() -> None:
    assert Arrivals.model_validate({"poisson": "1/s", "sum": None, "scaled": None, "sessions": None}).poisson == 1
