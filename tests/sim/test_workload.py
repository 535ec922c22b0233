"""Workloads: every law has its rate *and* its variability, and no draw depends on what is not its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serve.deployment import Model
from serve.policy.codes import NEVER_NS
from sim.drawing import closed_chunks, closed_clients, open_chunks
from sim.plane import Requests
from sim.scenario import Workload
from sim.workload import Given, Load, build

S = 10**9
COLUMNS = ("arrival_ns", "rows", "class_", "priority", "timeout_ns", "patience_ns", "client_ns")


def load_of(classes: dict[str, Any], duration: str = "10s", **options: Any) -> Load:
    model = Model.model_validate(
        {"file": "m.onnx", "profile": "p.yaml", "queue": {"priority_levels": 3, "default_timeout": "700ms"}}
    )
    workload = Workload.model_validate({"duration": duration, "classes": classes})
    return build(workload, [model] * len(workload.classes), Path(), **options)


def drawn(load: Load, seed: int = 1, replication: int = 0, chunk: int = 65_536) -> Requests:
    chunks = list(open_chunks(load, seed, replication, chunk))
    ids = [c.first_id for c in chunks]
    assert ids == list(np.cumsum([0] + [len(c) for c in chunks[:-1]])), "ids count up over the chunks"
    columns: dict[str, Any] = {name: np.concatenate([getattr(c, name) for c in chunks]) for name in COLUMNS}
    return Requests(**columns, draw=np.concatenate([c.draw for c in chunks], axis=1))


def equal(one: Requests, other: Requests) -> bool:
    names = (*COLUMNS, "draw")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


POISSON = {"a": {"arrivals": {"poisson": "1000/s"}}}


@pytest.mark.parametrize(
    ("arrivals", "cv"),
    [
        ({"poisson": "1000/s"}, 1.0),
        ({"gamma": {"rate": "1000/s", "cv": 3}}, 3.0),
        ({"gamma": {"rate": "1000/s", "cv": 0.5}}, 0.5),
    ],
    ids=["poisson", "bursty gamma", "regular gamma"],
)
def test_rate_and_variability(arrivals: dict[str, Any], cv: float) -> None:
    gaps = np.diff(drawn(load_of({"a": {"arrivals": arrivals}}, "200s")).arrival_ns) / S
    error = cv / np.sqrt(len(gaps))
    assert abs(gaps.mean() * 1000 - 1) < 4 * error
    shape = cv**-2
    law = stats.gamma(shape, scale=1 / (1000 * shape))
    # The squared gap's own standard error, from the law's moments.
    error2 = np.sqrt(law.moment(4) - law.moment(2) ** 2) / np.sqrt(len(gaps))
    assert abs((gaps**2).mean() - law.moment(2)) < 4 * error2


def test_poisson_counts_have_the_variance_of_their_mean() -> None:
    arrival_ns = drawn(load_of(POISSON, "400s")).arrival_ns
    counts = np.bincount(arrival_ns // (S // 10), minlength=4000)
    dispersion = counts.var(ddof=1) / counts.mean()
    assert abs(dispersion - 1) < 4 * np.sqrt(2 / len(counts))


def test_gaps_are_exponential_to_the_tail() -> None:
    gaps = np.diff(drawn(load_of(POISSON, "50s")).arrival_ns) / S
    assert stats.kstest(gaps, "expon", args=(0, 1 / 1000)).pvalue > 1e-3
    assert gaps.max() > 8 / 1000, "nobody clipped the tail"


def test_constant_gaps_keep_the_rate_exactly() -> None:
    arrival_ns = drawn(load_of({"a": {"arrivals": {"constant": "3/s"}}}, "1000s")).arrival_ns
    assert len(arrival_ns) == 2999, "one every third of a second, the first after one gap, the last before the end"
    assert np.abs(arrival_ns - np.arange(1, 3000) * S / 3).max() <= 0.5
    assert set(np.diff(arrival_ns)) <= {333_333_333, 333_333_334}


def test_rows_follow_their_weights() -> None:
    rows = drawn(load_of({"a": {"arrivals": {"poisson": "1000/s"}, "rows": {1: 8, 4: 1, 7: 1}}}, "60s")).rows
    counts = [int((rows == r).sum()) for r in (1, 4, 7)]
    assert sum(counts) == len(rows)
    assert stats.chisquare(counts, np.array([0.8, 0.1, 0.1]) * len(rows)).pvalue > 1e-3


def test_patience_is_exponential_with_the_mean_given() -> None:
    patience = drawn(load_of({"a": {"arrivals": {"poisson": "1000/s"}, "patience": "30ms"}}, "20s")).patience_ns / S
    assert stats.kstest(patience, "expon", args=(0, 0.03)).pvalue > 1e-3


def test_limits_come_from_the_class_then_from_the_deployment() -> None:
    load = load_of(
        {
            "a": {"arrivals": {"poisson": "10/s"}, "timeout": "50ms", "priority": 2},
            "b": {"arrivals": {"poisson": "10/s"}},
        }
    )
    requests = drawn(load)
    mine = requests.class_ == 0
    assert set(requests.timeout_ns[mine]) == {50_000_000}
    assert set(requests.timeout_ns[~mine]) == {700_000_000}
    assert set(requests.priority[mine]) == {2}
    assert set(requests.priority[~mine]) == {0}
    assert set(requests.patience_ns) == {NEVER_NS}


THREE = {
    "a": {"arrivals": {"poisson": "300/s"}, "rows": {1: 1, 2: 1}, "patience": "1s"},
    "b": {"arrivals": {"constant": "100/s"}},
    "c": {"arrivals": {"gamma": {"rate": "200/s", "cv": 4}}, "rows": {3: 1, 5: 2}},
}


@settings(max_examples=40, deadline=None)
@given(chunk=st.integers(1, 700), names=st.sets(st.sampled_from("abc"), min_size=1), seed=st.integers(0, 3))
def test_the_size_of_a_chunk_changes_no_value(chunk: int, names: set[str], seed: int) -> None:
    load = load_of({name: THREE[name] for name in sorted(names)}, "2s")
    assert equal(drawn(load, seed, chunk=chunk), drawn(load, seed))


@settings(max_examples=30, deadline=None)
@given(chunk=st.integers(1, 40), data=st.data())
def test_ties_across_chunks_keep_the_order_of_the_classes(chunk: int, data: st.DataObject) -> None:
    instants = st.lists(st.integers(0, 6), min_size=0, max_size=60).map(lambda v: np.array(sorted(v), np.int64) * S)
    met = {name: data.draw(instants, label=name) for name in "abc"}
    given_ = {name: Given(at, np.full(len(at), 2, np.int64)) for name, at in met.items()}
    load = load_of(THREE, "5s", given=given_)
    expected = sorted((int(at), i) for i, name in enumerate("abc") for at in met[name] if at < 5 * S)
    chunks = list(open_chunks(load, 0, 0, chunk))
    assert [(int(a), int(c)) for q in chunks for a, c in zip(q.arrival_ns, q.class_, strict=True)] == expected


def test_classes_superpose_and_each_keeps_its_own_draws() -> None:
    together = drawn(load_of(THREE))
    assert (np.diff(together.arrival_ns) >= 0).all()
    for index, name in enumerate(THREE):
        alone = drawn(load_of({name: THREE[name]}))
        mine = together.class_ == index
        assert np.array_equal(together.arrival_ns[mine], alone.arrival_ns), "another class moved this one's arrivals"
        assert np.array_equal(together.rows[mine], alone.rows)
        assert np.array_equal(together.draw[:, mine], alone.draw)
        assert np.array_equal(together.patience_ns[mine], alone.patience_ns)


@pytest.mark.parametrize("column", ["arrival_ns", "draw"])
def test_changing_the_rows_moves_nothing_else(column: str) -> None:
    one = drawn(load_of({"a": {"arrivals": {"poisson": "500/s"}, "rows": 1}}))
    other = drawn(load_of({"a": {"arrivals": {"poisson": "500/s"}, "rows": {1: 1, 9: 1}}}))
    assert np.array_equal(getattr(one, column), getattr(other, column))


def test_replications_and_seeds_differ() -> None:
    load = load_of(POISSON, "1s")
    firsts = {int(drawn(load, seed, replication).arrival_ns[0]) for seed in range(5) for replication in range(5)}
    assert len(firsts) == 25


def test_arrivals_end_before_the_end_of_the_load() -> None:
    assert drawn(load_of(POISSON, "3s")).arrival_ns.max() < 3 * S
    assert len(list(open_chunks(load_of({"a": {"arrivals": {"poisson": "1/h"}}}, "1ms"), 0, 0))) == 0


def test_fixed_arrivals_replace_what_the_workload_says() -> None:
    at, rows = np.array([5, 5, 9], np.int64), np.array([1, 2, 3], np.int64)
    requests = drawn(load_of(POISSON, given={"a": Given(at, rows)}))
    assert requests.arrival_ns.tolist() == [5, 5, 9]
    assert requests.rows.tolist() == [1, 2, 3]


def test_a_class_that_a_live_run_did_not_meet_has_no_requests() -> None:
    at = np.array([5], np.int64)
    requests = drawn(load_of(THREE, given={"b": Given(at, at)}))
    assert requests.class_.tolist() == [1]
    assert closed_clients(load_of({"c": {"arrivals": {"closed": {"clients": 2}}}}, given={})) is not None


def test_fixed_arrivals_meet_other_luck_in_each_replication() -> None:
    at = np.arange(50, dtype=np.int64)
    load = load_of(POISSON, given={"a": Given(at, np.ones(50, np.int64))})
    assert not np.array_equal(drawn(load, 0, 0).draw, drawn(load, 0, 1).draw)


def test_long_loads_do_not_overflow() -> None:
    requests = drawn(load_of({"a": {"arrivals": {"poisson": "1/d"}}}, "3000d"))
    assert (np.diff(requests.arrival_ns) > 0).all()
    assert 2700 < len(requests) < 3300


def closed_load() -> Load:
    return load_of(
        {
            "a": {"arrivals": {"closed": {"clients": 2, "think": "5ms"}}, "rows": {1: 1, 2: 1}},
            "b": {"arrivals": {"closed": {"clients": 3}}, "rows": 7, "priority": 1},
        }
    )


def test_closed_clients_are_numbered_by_class() -> None:
    closed = closed_clients(closed_load())
    assert closed is not None
    assert closed.class_.tolist() == [0, 0, 1, 1, 1]
    assert closed.think_ns.tolist() == [5_000_000, 5_000_000, 0, 0, 0]
    assert closed_clients(load_of(POISSON)) is None


def test_closed_requests_come_turn_by_turn() -> None:
    first = next(closed_chunks(closed_load(), 0, 0, chunk=20))
    assert first.class_.tolist() == [0, 0, 1, 1, 1] * 4
    assert set(first.rows[first.class_ == 1]) == {7}
    assert set(first.rows[first.class_ == 0]) <= {1, 2}


@given(chunk=st.integers(1, 60))
def test_the_size_of_a_chunk_changes_no_closed_value(chunk: int) -> None:
    def first_fifty(size: int) -> np.ndarray:
        chunks, rows = closed_chunks(closed_load(), 3, 1, size), np.zeros((0, 2), np.int64)
        while len(rows) < 50:
            part = next(chunks)
            assert part.first_id == len(rows)
            rows = np.concatenate([rows, np.column_stack([part.rows, part.draw[0]])])
        return rows[:50]

    assert np.array_equal(first_fifty(chunk), first_fifty(1000))


def test_client_overhead_has_its_own_stream() -> None:
    draw: Callable[[np.random.Generator, Any], Any] = lambda rng, rows: rng.integers(0, 100, len(rows))  # noqa: E731
    plain, with_client = drawn(load_of(POISSON)), drawn(load_of(POISSON, client_ns=draw))
    assert np.array_equal(plain.draw, with_client.draw)
    assert not plain.client_ns.any()
    assert 40 < with_client.client_ns.mean() < 60
