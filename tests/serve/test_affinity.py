"""Cores: replicas have their own where one is left over for the front, and nobody is confined where none is."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from serve.affinity import generator_of, keep_to, layout, layout_of
from serve.deployment import Deployment


@given(cores=st.sets(st.integers(0, 63), min_size=1, max_size=16), threads=st.lists(st.integers(1, 4), max_size=6))
def test_no_core_is_given_twice_and_the_front_has_one(cores: set[int], threads: list[int]) -> None:
    shares = layout(sorted(cores), threads)
    if sum(threads) < len(cores):
        given_out = [core for own in (*shares.replicas, shares.front) for core in own]
        assert sorted(given_out) == sorted(cores)
        assert [len(own) for own in shares.replicas] == threads
        assert shares.front
    else:
        assert all(own == sorted(cores) for own in (*shares.replicas, shares.front))


def deployment(**replicas: object) -> Deployment:
    real = {"file": "m.onnx", "profile": "p.yaml", "replicas": replicas}
    emulated = {"profile": "p.yaml", "backend": "emulated", "replicas": {"count": 8}}
    pools = {"here": {"cores": 4, "price": "0 USD/h"}}
    return Deployment.model_validate({"models": {"real": real, "thought": emulated}, "pools": pools})


def test_emulated_replicas_take_no_core_but_keep_off_the_fronts() -> None:
    cores, front = layout_of(deployment(count=1, threads=2), [0, 1, 2, 3])
    assert cores["real"] == [[2, 3]]
    assert cores["thought"] == [[2, 3]] * 8
    assert front == [0, 1]


def test_emulated_replicas_alone_leave_all_cores_but_one_to_the_front() -> None:
    only = deployment()
    only = only.model_copy(update={"models": {"thought": only.models["thought"]}})
    assert layout_of(only, [0, 1, 2]) == ({"thought": [[2]] * 8}, [0, 1])
    assert layout_of(only, [0]) == ({"thought": [[0]] * 8}, [0])


def test_a_load_generator_keeps_off_replicas_that_compute_and_off_the_front_beside_emulated_ones() -> None:
    assert generator_of(deployment(count=1, threads=2), [0, 1, 2, 3]) == [0, 1]
    only = deployment()
    only = only.model_copy(update={"models": {"thought": only.models["thought"]}})
    assert generator_of(only, [0, 1]) == [1]
    assert generator_of(only, [0]) == [0]


def test_affinity_none_confines_nobody() -> None:
    cores, front = layout_of(deployment(count=1, affinity="none"), [0, 1, 2])
    assert (cores["real"], front) == ([[0, 1, 2]], [0, 1, 2])


def test_a_process_keeps_to_its_cores_and_one_that_is_gone_is_no_error() -> None:
    core = max(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        keep_to(child.pid, [core])
        assert os.sched_getaffinity(child.pid) == {core}
        child.communicate(b"\n")
    keep_to(child.pid, [core])
