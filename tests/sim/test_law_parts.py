"""Laws within laws: each part has its path, scaling and moving reach all of them, means and dispersions are exact."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.deployment import Model
from sim import paths
from sim.drawing import open_chunks
from sim.law_moments import dispersion, expected_requests, rate_rps, weibull_cv
from sim.law_parts import files, moved, parts, scaled, transient, unscaled
from sim.laws import Arrivals
from sim.scenario import Scenario, Workload
from sim.workload import Load, build

S = 10**9
TRACE = {"trace": {"file": "t.csv"}}
COUNTS = {"counts": {"file": "c.csv", "interval": "1s", "within": "even"}}
MMPP = {"mmpp": {"states": [{"rate": "0/s", "dwell": "3s"}, {"rate": "40/s", "dwell": "1s"}]}}
NESTED = {
    "sum": [
        {"poisson": "2/s"},
        {"scaled": {"of": {"sessions": {"begin": TRACE, "requests": 2, "think": "1s"}}, "by": "x3"}},
        COUNTS,
    ]
}


def law(arrivals: dict[str, Any]) -> Arrivals:
    return Arrivals.model_validate(arrivals)


def load_of(arrivals: dict[str, Any], base: Path, duration: str = "10s") -> Load:
    model = Model.model_validate({"file": "m.onnx", "profile": "p.yaml"})
    workload = Workload.model_validate({"duration": duration, "classes": {"a": {"arrivals": arrivals}}})
    return build(workload, [model] * len(workload.classes), base)


def test_every_part_has_its_path() -> None:
    assert [path for path, _ in parts(law(NESTED))] == [
        "arrivals",
        "arrivals.sum.0",
        "arrivals.sum.1",
        "arrivals.sum.1.scaled.of",
        "arrivals.sum.1.scaled.of.sessions.begin",
        "arrivals.sum.2",
    ]
    assert files(law(NESTED)) == [
        ("arrivals.sum.1.scaled.of.sessions.begin.trace.file", "t.csv"),
        ("arrivals.sum.2.counts.file", "c.csv"),
    ]


def test_files_move_wherever_they_are_named() -> None:
    changed = moved(law(NESTED), lambda name: f"../{name}")
    assert [name for _, name in files(changed)] == ["../t.csv", "../c.csv"]
    assert moved(changed, lambda name: name.removeprefix("../")) == law(NESTED)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"poisson": "2/s"}, {"poisson": "5/s"}),
        ({"constant": "2/s"}, {"constant": "5/s"}),
        ({"gamma": {"rate": "2/s", "cv": 3}}, {"gamma": {"rate": "5/s", "cv": 3}}),
        ({"weibull": {"rate": "2/s", "shape": 3}}, {"weibull": {"rate": "5/s", "shape": 3}}),
        (TRACE, {"trace": {"file": "t.csv", "scale": 2.5}}),
        (COUNTS, {"counts": {"file": "c.csv", "interval": "1s", "within": "even", "scale": 2.5}}),
        (MMPP, {"mmpp": {"states": [{"rate": "0/s", "dwell": "3s"}, {"rate": "100/s", "dwell": "1s"}]}}),
        ({"diurnal": {"mean": "2/s", "hours": [1, 2]}}, {"diurnal": {"mean": "5/s", "hours": [1, 2]}}),
        (
            {"sinusoid": {"mean": "2/s", "amplitude": "1/s", "period": "1h"}},
            {"sinusoid": {"mean": "5/s", "amplitude": "2.5/s", "period": "1h"}},
        ),
        ({"ramp": {"from": "2/s", "to": "4/s", "over": "1s"}}, {"ramp": {"from": "5/s", "to": "10/s", "over": "1s"}}),
        (
            {"spike": {"base": "2/s", "peak": "4/s", "at": "1s", "for": "1s"}},
            {"spike": {"base": "5/s", "peak": "10/s", "at": "1s", "for": "1s"}},
        ),
        (
            {"trend": {"rate": "2/s", "growth": "x2", "per": "1d"}},
            {"trend": {"rate": "5/s", "growth": "x2", "per": "1d"}},
        ),
        ({"closed": {"clients": 2}}, {"closed": {"clients": 2}}),
    ],
    ids=lambda arrivals: next(iter(arrivals)),
)
def test_scaling_multiplies_rates_and_nothing_else(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert scaled(law(before), 2.5) == law(after)
    if "closed" not in before:
        assert unscaled(law({"scaled": {"of": before, "by": "x2.5"}})) == law(after)


def test_every_law_is_one_that_scaling_knows() -> None:
    """A law that scaling passed over would make a plan's headroom endless."""
    known = {"gamma", "weibull", "trace", "diurnal", "sinusoid", "ramp", "spike", "trend", "counts"}
    known |= {"poisson", "constant", "mmpp", "closed", "sum", "scaled", "sessions", "thinned"}
    assert set(Arrivals.model_fields) == known


def test_a_law_is_transient_if_any_part_is() -> None:
    assert transient(law(NESTED))
    assert transient(law({"scaled": {"of": {"ramp": {"from": "1/s", "to": "2/s", "over": "1s"}}, "by": "x2"}}))
    assert not transient(law({"sum": [{"poisson": "1/s"}, MMPP]}))
    assert not transient(law({"closed": {"clients": 1}}))


@pytest.mark.parametrize(
    ("arrivals", "rate", "limit"),
    [
        ({"weibull": {"rate": "2/s", "shape": 0.5}}, 2.0, 5.0),
        (MMPP, 10.0, 1 + 2 * 300 / (10 * (1 + 1 / 3))),
        ({"sessions": {"begin": {"constant": "2/s"}, "requests": 5, "think": "1s"}}, 10.0, 4.0),
        ({"sum": [{"constant": "3/s"}, {"gamma": {"rate": "1/s", "cv": 2}}]}, 4.0, 1.0),
        ({"scaled": {"of": {"poisson": "3/s"}, "by": "x2"}}, 6.0, 1.0),
        ({"sum": [{"poisson": "3/s"}, TRACE]}, None, None),
        ({"sessions": {"begin": TRACE, "requests": 5, "think": "1s"}}, None, None),
        ({"ramp": {"from": "1/s", "to": "2/s", "over": "1s"}}, None, None),
        ({"closed": {"clients": 1}}, None, None),
    ],
)
def test_rates_and_dispersions_of_stationary_laws(
    arrivals: dict[str, Any], rate: float | None, limit: float | None
) -> None:
    for found, wanted in ((rate_rps(law(arrivals)), rate), (dispersion(law(arrivals)), limit)):
        assert found is None if wanted is None else found == pytest.approx(wanted)


def test_weibull_variability_is_that_of_its_moments() -> None:
    assert weibull_cv(1.0) == pytest.approx(1.0)
    assert weibull_cv(2.0) == pytest.approx(math.sqrt(4 / math.pi - 1))


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ({"poisson": "3/s"}, 30.0),
        ({"ramp": {"from": "0/s", "to": "4/s", "over": "5s"}}, 30.0),
        ({"scaled": {"of": {"sum": [{"poisson": "1/s"}, {"constant": "2/s"}]}, "by": "x2"}}, 60.0),
        ({"sessions": {"begin": {"poisson": "1/s"}, "requests": 4, "think": "1s"}}, 40.0),
        (NESTED, 20.0),
        ({"closed": {"clients": 3}}, 0.0),
    ],
)
def test_requests_to_be_expected(arrivals: dict[str, Any], expected: float) -> None:
    assert expected_requests(law(arrivals), 10 * S) == pytest.approx(expected)


# -- in a workload -----------------------------------------------------------------------------------------


def test_a_scaled_trace_keeps_its_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,rows\n1,3\n2,4\n")
    load = load_of({"scaled": {"of": TRACE, "by": "x2"}}, tmp_path)
    (requests,) = open_chunks(load, 0, 0)
    assert requests.arrival_ns.tolist() == [S // 2, S]
    assert requests.rows.tolist() == [3, 4]


def test_a_class_weighs_what_it_is_expected_to_send(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s\n1\n2\n")
    (tmp_path / "c.csv").write_text("count\n5\n7\n")
    spike = {"spike": {"base": "1/s", "peak": "11/s", "at": "2s", "for": "1s"}}
    for arrivals, weight in ((spike, 2.0), (MMPP, 10.0), ({"sum": [TRACE, {"poisson": "1/s"}]}, 1.2), (COUNTS, 1.2)):
        assert load_of(arrivals, tmp_path).sources[0].weight == pytest.approx(weight)


def test_requests_of_a_rate_that_ends_end(tmp_path: Path) -> None:
    load = load_of({"ramp": {"from": "50/s", "to": "0/s", "over": "2s"}}, tmp_path)
    at_ns = np.concatenate([chunk.arrival_ns for chunk in open_chunks(load, 0, 0, chunk=7)])
    assert 20 < len(at_ns) < 90
    assert at_ns.max() < 2 * S


def test_settings_reach_into_laws() -> None:
    arrivals: dict[str, Any] = {"sum": [{"ramp": {"from": "1/s", "to": "2/s", "over": "1s"}}, {"poisson": "1/s"}]}
    scenario = Scenario.model_validate(
        {
            "workload": {"duration": "1s", "classes": {"a": {"arrivals": arrivals}}},
            "deployment": {
                "models": {"m": {"file": "m.onnx", "profile": "p.yaml"}},
                "pools": {"here": {"cores": 2, "price": "0 USD/h"}},
            },
        }
    )
    place = "workload.classes.a.arrivals.sum"
    changed = paths.apply(scenario, {f"{place}.0.ramp.from": "0.5/s", f"{place}.1": {"constant": "9/s"}})
    members = changed.workload.classes["a"].arrivals.sum
    assert members is not None and members[0].ramp is not None
    assert (members[0].ramp.from_, members[1].constant) == (0.5, 9.0)
