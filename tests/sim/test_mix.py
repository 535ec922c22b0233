"""Classes that share arrivals are one process: each request is of one of them, by weight, whatever the law."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import headroom
from planner.ruling import offered
from serve import files
from serve.deployment import Model
from serve.errors import SpecError
from sim.drawing import open_chunks
from sim.law_moments import dispersion, rate_rps
from sim.law_parts import moved
from sim.laws import Arrivals
from sim.mix import apart, law_of, with_laws
from sim.point_process import Ints, before_end, within
from sim.processes import process_of
from sim.rng import stream
from sim.scenario import Scenario, Workload
from sim.verdict import arrival_cv2, offered_rps
from sim.workload import SHARED, build
from tests.sim.point_processes import S
from ui.question import asked, knobs_of, open_rate_rps

BURSTS: dict[str, Any] = {"gamma": {"rate": "300/s", "cv": 3}}
MIX: dict[str, Any] = {
    "duration": "20s",
    "arrivals": BURSTS,
    "classes": {"a": {"weight": 3}, "own": {"arrivals": {"poisson": "50/s"}}, "b": {}, "c": {"weight": 2, "rows": 4}},
}


def workload(**changes: Any) -> Workload:
    """The mix above, changed."""
    return files.parse({**MIX, **changes}, Workload, "w")


def instants(of: Workload, chunk: int = 65_536) -> dict[str, Ints]:
    """The instants of each class in one replication."""
    model = Model.model_validate({"profile": "p.yaml", "backend": "emulated"})
    load = build(of, [model] * len(of.classes), Path())
    parts = list(open_chunks(load, 1, 0, chunk))
    at_ns = np.concatenate([part.arrival_ns for part in parts])
    class_ = np.concatenate([part.class_ for part in parts])
    return {name: at_ns[class_ == index] for index, name in enumerate(of.classes)}


def shared() -> Ints:
    """The instants that the classes share, drawn as nobody's."""
    draws = within(partial(stream, 1, 0, SHARED), "of")
    process = process_of(Arrivals.model_validate(BURSTS), Path(), 20 * S)
    return np.concatenate(list(before_end(process, draws, 20 * S, 1000)))


def test_each_request_is_of_one_class_by_weight() -> None:
    found = instants(workload())
    together = np.sort(np.concatenate([found[name] for name in "abc"]))
    assert np.array_equal(together, shared())
    counts, shares = np.array([len(found[name]) for name in "abc"]), np.array([3, 1, 2]) / 6
    error = np.sqrt(len(together) * shares * (1 - shares))
    assert (np.abs(counts - len(together) * shares) < 4.5 * error).all()
    assert (6.8 * error < 0.3 * len(together) * shares).all(), "a third more or less would be found"


def test_weights_move_no_instant_and_nothing_of_other_classes() -> None:
    found, other = instants(workload()), instants(workload(classes={**MIX["classes"], "a": {"weight": 0.5}}))
    assert np.array_equal(found["own"], other["own"])
    assert np.array_equal(np.sort(np.concatenate([other[name] for name in "abc"])), shared())
    assert len(other["a"]) < len(found["a"])


@settings(max_examples=10, deadline=None)
@given(chunk=st.integers(1, 500))
def test_the_size_of_a_chunk_changes_no_instant(chunk: int) -> None:
    whole, cut = instants(workload()), instants(workload(), chunk)
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)


def test_classes_that_share_nothing_draw_as_before() -> None:
    alone = workload(arrivals=None, classes={"own": MIX["classes"]["own"]})
    assert np.array_equal(instants(alone)["own"], instants(workload())["own"])


def test_a_class_by_itself_has_its_part_of_the_rate_and_of_the_dispersion() -> None:
    mix = workload()
    for name, share in (("a", 1 / 2), ("b", 1 / 6), ("c", 1 / 3)):
        law = law_of(mix, name)
        assert rate_rps(law) == pytest.approx(300 * share)
        assert dispersion(law) == pytest.approx(1 + 8 * share)
    assert offered_rps(mix) == pytest.approx(350)
    assert arrival_cv2(mix) == pytest.approx((300 * 9 + 50) / 350), (
        "of them together, not of parts that were independent"
    )
    load = offered(mix, [])
    assert (load.requests_per_s, load.rows_per_s) == (pytest.approx(350), pytest.approx(650))
    split = mix.model_copy(update={"arrivals": None, "classes": apart(mix)})
    assert files.parse(files.plain(split), Workload, "again") == split
    assert offered_rps(split) == pytest.approx(350)


def test_a_mix_is_scaled_moved_and_written_as_one() -> None:
    mix = workload()
    assert files.parse(files.plain(mix), Workload, "again") == mix
    assert "arrivals" not in files.plain(mix)["classes"]["a"]
    assert offered_rps(headroom.scaled(mix, 2)) == pytest.approx(700)
    traced = workload(arrivals={"trace": {"file": "t.csv"}})
    renamed = with_laws(traced, lambda law: moved(law, lambda file: f"../{file}"))
    assert renamed.arrivals is not None and renamed.arrivals.trace is not None
    assert renamed.arrivals.trace.file == "../t.csv"
    assert [path for path, _ in traced.laws] == ["arrivals", "classes.own.arrivals"]


def test_the_sliders_of_the_app_move_a_mix() -> None:
    pools = {"here": {"nodes": 1, "cores": 2, "price": "1 USD/h"}}
    deployment = {"models": {"m": {"profile": "p.yaml", "backend": "emulated"}}, "pools": pools}
    scenario = Scenario.model_validate({"workload": MIX, "deployment": deployment})
    knobs = knobs_of(scenario, "m")
    assert (knobs.rate_rps, knobs.cv) == (350, 3)
    assert open_rate_rps(asked(scenario, "m", knobs)) == pytest.approx(350)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arrivals": None}, "w: classes.a.arrivals: is missing; or give workload.arrivals, which classes share"),
        ({"classes": {"own": MIX["classes"]["own"]}}, "w: arrivals: are of no class"),
        ({"classes": {"a": {"weight": 0}}}, "w: classes.a.weight: must be >= 1e-06, got 0"),
        (
            {"classes": {"a": {"weight": 1, "arrivals": {"poisson": "1/s"}}}},
            "w: classes.a: takes either arrivals, which are its own, or weight, its share of workload.arrivals",
        ),
        ({"arrivals": {"closed": {"clients": 2}}}, "w: arrivals: must not be closed: its clients are of one class"),
        ({"arrivals": {"gamma": {"rate": "1/s"}}}, "w: arrivals.gamma.cv: is missing"),
        ({"arrivals": {"thinned": {"of": BURSTS, "keep": 2}}}, "w: arrivals.thinned.keep: must be <= 1, got 2"),
        ({"arrivals": {"trend": {"rate": "1/s", "growth": "x10", "per": "1s"}}}, "w: arrivals.trend: grows beyond"),
    ],
)
def test_what_is_no_mix_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        workload(**changes)
    assert str(caught.value).startswith(said), str(caught.value)
