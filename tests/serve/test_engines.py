"""Other engines' batching policies as stories, each of which tells it apart from ours."""

from __future__ import annotations

import pytest

from serve.batching import Batching, triton_settings
from serve.deployment import Model
from serve.policy import codes
from tests.serve.scheduling import Desk

MS = 1_000_000


def desk(policy: str, replicas: int = 1, max_queue: int = -1, **batching: object) -> Desk:
    """A scheduler under a policy, as a file would set it up; instants are in ns."""
    batching = {"policy": policy, **batching}
    spec = Model.model_validate({"file": "m.onnx", "profile": "p.yaml", "batching": batching}).scheduler_spec()
    names = ("max_batch", "window_ns", "priority_levels", "slots", "policy", "settings")
    return Desk(replicas, max_queue=max_queue, **{name: getattr(spec, name) for name in names})


def test_triton_lets_a_preferred_size_leave_before_its_delay_has_passed() -> None:
    triton = desk("triton", max_batch=8, window="5ms", preferred=[2, 4])
    triton.arrives(1).at(1).arrives(2)
    assert triton.log == ["1 full r0: 1 2"]
    for i in range(3, 9):  # the instance is busy: six wait, of which the largest preferred size leaves
        triton.arrives(i)
    triton.at(10).ends(0)
    assert triton.log[1:] == ["10 full r0: 3 4 5 6"]


def test_triton_lets_whatever_fits_leave_once_its_delay_has_passed() -> None:
    triton = desk("triton", max_batch=8, window="5ms", preferred=[4])
    triton.arrives(1).arrives(2).arrives(3)
    assert triton.log == [] and triton.scheduler.window_due_ns == 5 * MS
    triton.at(5 * MS).runs()
    assert triton.log == [f"{5 * MS} window r0: 1 2 3"]
    for i in range(4, 10):
        triton.arrives(i)
    triton.at(20 * MS).ends(0)  # the oldest has waited for too long: not four of the six, but all
    assert triton.log[1:] == [f"{20 * MS} full r0: 4 5 6 7 8 9"]


def test_triton_counts_its_delay_from_the_oldest_of_the_batch_not_of_the_queue() -> None:
    levels = {"window_ns": 10, "priority_levels": 2, "policy": codes.POLICY_TRITON}
    triton = Desk(1, max_batch=2, settings=triton_settings([2]), **levels)
    triton.arrives(1, rows=2).at(1).arrives(2, rows=2, priority=1).at(2).arrives(3, rows=1, priority=0)
    triton.at(12).ends(0)  # ours would let 3 leave in full: more rows wait than fit
    assert triton.log == ["0 full r0: 1", "12 full r0: 3"]
    later = Desk(1, max_batch=4, settings=triton_settings([4]), **levels)
    later.arrives(1, rows=4).at(1).arrives(2, rows=1, priority=1).at(9).arrives(3, rows=1)
    assert later.at(10).ends(0) and later.log[1:] == []
    assert later.scheduler.window_due_ns == 11, "the oldest is in the batch here"


def test_tf_serving_bounds_its_queue_in_batches() -> None:
    tf_serving = desk("tf_serving", max_batch=4, max_enqueued_batches=2)
    tf_serving.arrives(1)
    tf_serving.arrives(2, rows=3).arrives(3, rows=3)  # two batches, though seven of eight rows would do
    tf_serving.arrives(4, rows=2)
    assert tf_serving.log == ["0 idle r0: 1", "0 drop 4: full (queue)"]
    tf_serving.arrives(5, rows=1)
    tf_serving.at(7).ends(0)
    assert tf_serving.log[2:] == ["7 full r0: 2"]


def test_torchserve_waits_from_when_a_worker_polled_however_old_the_job_is() -> None:
    torchserve = desk("torchserve", max_batch=4, window="5ms")
    for i in range(1, 5):
        torchserve.arrives(i)
    torchserve.at(MS).arrives(5)
    torchserve.at(20 * MS).ends(0)  # ours would let the 19 ms old request leave at once
    assert torchserve.log == ["0 full r0: 1 2 3 4"]
    assert torchserve.scheduler.window_due_ns == 25 * MS
    torchserve.at(22 * MS).arrives(6).at(25 * MS).runs()
    assert torchserve.log[1:] == [f"{25 * MS} window r0: 5 6"]


def test_mosec_workers_take_tasks_in_turn_each_for_a_batch_of_its_own() -> None:
    mosec = desk("mosec", replicas=2, max_batch=4, window="5ms")
    for i in range(1, 5):
        mosec.at(i * MS).arrives(i)
    mosec.at(6 * MS).runs().at(7 * MS).runs()
    assert mosec.log == [f"{6 * MS} window r0: 1 3", f"{7 * MS} window r1: 2 4"]
    mosec.at(8 * MS).arrives(5).at(20 * MS).ends(1)  # the wait begins with the worker's first task
    assert mosec.scheduler.window_due_ns == 25 * MS


def test_litserves_rounds_run_whether_anything_comes_or_not() -> None:
    litserve = desk("litserve", max_batch=4, window="10ms")
    litserve.at(27 * MS).arrives(1)
    assert litserve.scheduler.window_due_ns == 30 * MS, "the third round since the worker came up"
    litserve.at(30 * MS).runs().at(35 * MS).arrives(2).at(44 * MS).ends(0)
    assert litserve.log == [f"{30 * MS} window r0: 1"]
    assert litserve.scheduler.window_due_ns == 54 * MS, "a round begins when the worker is free"
    litserve.at(45 * MS).arrives(3).arrives(4).arrives(5)
    assert litserve.log[1:] == [f"{45 * MS} full r0: 2 3 4 5"]


def test_ray_closes_its_batches_before_the_one_that_runs_has_ended() -> None:
    ray = desk("ray_serve", max_batch=4, window="5ms", max_ongoing=4)
    ray.arrives(1).at(5 * MS).runs()
    ray.at(6 * MS).arrives(2).at(8 * MS).arrives(3).at(11 * MS).runs()
    ray.at(12 * MS).arrives(4).arrives(5).at(17 * MS).runs()
    assert ray.log == [
        f"{5 * MS} window r0: 1",
        f"{11 * MS} window r0 second slot: 2 3",
        f"{17 * MS} window r0 second slot: 4",
    ]  # 5 waits: the replica has four already
    ray.at(30 * MS).ends(0)
    assert ray.log[3:] == [f"{30 * MS} start r0: 2 3"]
    assert ray.scheduler.window_due_ns == 35 * MS, "which 5 now gathers for"


def test_what_a_worker_has_pulled_still_waits() -> None:
    mosec = desk("mosec", replicas=2, max_queue=2, max_batch=4, window="5ms")
    mosec.arrives(1, timeout_ns=2).arrives(2).arrives(3)
    assert mosec.log == ["0 drop 3: full (queue)"]
    mosec.at(2).deadline(1).at(3).cancels(2)
    assert mosec.log[1:] == ["2 drop 1: expired (deadline)", "3 drop 2: cancelled (client)"]
    assert mosec.scheduler.waiting_rows == 0


@pytest.mark.parametrize("policy", ["mosec", "litserve", "ray_serve"])
def test_what_a_dead_worker_had_pulled_goes_to_another(policy: str) -> None:
    workers = desk(policy, replicas=2, max_batch=4, window="5ms")
    workers.at(MS).arrives(1).dies(0).at(20 * MS).runs()
    assert [line.split(":")[0].split()[1:] for line in workers.log] == [["window", "r1"]]


def test_a_setting_of_another_policy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="preferred: belongs to policy triton, not to forebay"):
        Batching(max_batch=4, preferred=[2])
    with pytest.raises(ValueError, match="sizes must be from 1 to max_batch"):
        Batching(policy="triton", max_batch=4, preferred=[8])
    with pytest.raises(ValueError, match="maxBatchDelay is at least 1ms"):
        Batching(policy="torchserve", max_batch=4)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"queue": {"priority_levels": 2}}, "queue.priority_levels: mosec knows no priorities, got 2"),
        ({"replicas": {"slots": 2}}, "replicas.slots: must be 1 under batching.policy mosec, got 2"),
    ],
)
def test_what_an_engine_does_not_know_is_refused(part: dict[str, object], fault: str) -> None:
    model = {"file": "m.onnx", "profile": "p.yaml", "batching": {"policy": "mosec", "max_batch": 4}, **part}
    with pytest.raises(ValueError, match=fault):
        Model.model_validate(model)
