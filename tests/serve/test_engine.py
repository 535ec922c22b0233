"""The live engine in this process's event loop, with real replica processes and tiny models."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve import records
from serve.engine import OWN_IDS, Answer, Engine
from serve.errors import EngineError
from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_OK,
    REASON_DEADLINE,
    REASON_DEATH,
    REASON_DRAIN,
    REASON_DRAINING,
    REASON_FULL,
    REASON_IDLE,
    REASON_QUEUE,
    REASON_ROWS,
    REASON_WINDOW,
)
from serve.request_log import BATCH_COLUMNS, read_batches, read_requests
from serve.served import Arrays
from tests.profiles import Synthetic, write_profile
from tests.serve import models
from tests.serve.live import Kept, ask, deployment, in_loop, keep

pytestmark = pytest.mark.live


def rows_of(count: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(np.random.SeedSequence(seed))
    return random.standard_normal((count, width)).astype(np.float32)


def test_every_request_of_every_batch_gets_its_own_answer(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "model.onnx")
    direct = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    plan = deployment(
        batching={"max_batch": 7, "window": "1ms"},
        queue={"max_queue": "unbounded"},
        replicas={"count": 2, "slots": 2},
    )

    async def work() -> None:
        engine = Engine(plan, tmp_path, tmp_path / "log")
        await engine.start()
        try:
            for turn in range(20):
                counts = np.random.default_rng(np.random.SeedSequence(turn)).integers(1, 8, 60)
                inputs = [rows_of(int(n), 64, 1000 * turn + i) for i, n in enumerate(counts)]
                answers = await asyncio.gather(*(ask(engine, {"x": x}, len(x))[0] for x in inputs))
                for x, kept in zip(inputs, answers, strict=True):
                    assert kept.outcome == OUTCOME_OK
                    # Sums are ordered differently in batches of other sizes, hence not to the last bit.
                    np.testing.assert_allclose(
                        kept.outputs["y"].astype(float), direct.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5
                    )
        finally:
            await engine.close()

    in_loop(work)
    batches = dict(zip(BATCH_COLUMNS, read_batches(tmp_path / "log").T, strict=True))
    rows = read_requests(tmp_path / "log")
    assert len(rows) == 1200
    assert batches["rows"].sum() == rows[:, records.ROWS].sum()
    assert batches["rows"].max() == 7, "the load was to make full batches"
    assert set(batches["replica"]) == {0, 1}


def test_inputs_and_outputs_of_different_datatypes_keep_apart(tmp_path: Path) -> None:
    models.two_in_two_out(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(batching={"max_batch": 4, "window": "2ms"}), tmp_path)
        await engine.start()
        try:
            asked = []
            for i in range(8):
                inputs: Arrays = {"a": np.full((1, 3), i, np.float32), "k": np.array([[i, 100 * i]], np.int64)}
                asked.append(ask(engine, inputs, 1)[0])
            for i, kept in enumerate(await asyncio.gather(*asked)):
                np.testing.assert_array_equal(kept.outputs["doubled"], np.full((1, 3), 2 * i, np.float32))
                np.testing.assert_array_equal(kept.outputs["total"], [[101 * i]])
        finally:
            await engine.close()

    in_loop(work)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50)), min_size=1, max_size=30))
def test_requests_of_unlike_widths_share_batches_and_regions_grow(
    tmp_path: Path, shapes: list[tuple[int, int]]
) -> None:
    models.any_width(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(batching={"max_batch": 5, "window": "5ms"}), tmp_path)
        await engine.start()
        try:
            # The last is beyond any first guess at a region's size, of inputs and of outputs.
            sizes = [*shapes, (2, 200_000)]
            inputs = [rows_of(n, width, i) for i, (n, width) in enumerate(sizes)]
            answers = await asyncio.gather(*(ask(engine, {"x": x}, len(x))[0] for x in inputs))
            for x, kept in zip(inputs, answers, strict=True):
                np.testing.assert_array_equal(kept.outputs["y"], x + x)
        finally:
            await engine.close()

    in_loop(work)


def test_texts_of_any_length_come_back(tmp_path: Path) -> None:
    models.text(tmp_path / "model.onnx")
    words = [b"", b"a", "\u00e9t\u00e9".encode(), b"x" * 70_000, b"line\nline", b"\x00"]

    async def work() -> None:
        engine = Engine(deployment(batching={"max_batch": 3, "window": "1ms"}), tmp_path)
        await engine.start()
        try:
            inputs = [np.array([[a, b]], np.object_) for a in words for b in words]
            answers = await asyncio.gather(*(ask(engine, {"x": x}, 1)[0] for x in inputs))
            for x, kept in zip(inputs, answers, strict=True):
                assert kept.outputs["y"].tolist() == x.tolist()
        finally:
            await engine.close()

    in_loop(work)


@pytest.mark.parametrize("window", ["0ms", "1h"])
def test_only_the_request_that_the_model_fails_on_fails(tmp_path: Path, window: str) -> None:
    models.gather(tmp_path / "model.onnx")
    asked = [[0], [7], [2, 1], [1], [0, 9]]
    plan = deployment(batching={"max_batch": 7, "window": window})

    async def work() -> None:
        engine = Engine(plan, tmp_path)
        await engine.start()
        try:
            for _ in range(3):
                inputs = [np.array(x, np.int64).reshape(-1, 1) for x in asked]
                kept = await asyncio.gather(*(ask(engine, {"x": x}, len(x))[0] for x in inputs))
                assert [k.outcome == OUTCOME_OK for k in kept] == [True, False, True, True, False]
                assert all(
                    "out of data bounds" in kept[i].error and f"idx={n}" in kept[i].error for i, n in ((1, 7), (4, 9))
                )
                answers = [kept[i].outputs["y"].ravel().tolist() for i in (0, 2, 3)]
                assert answers == [[10], [30, 20], [20]]
        finally:
            await engine.close()

    in_loop(work)


def test_any_number_of_failures_can_be_told(tmp_path: Path) -> None:
    models.gather(tmp_path / "model.onnx")
    plan = deployment(batching={"max_batch": 250, "window": "1h"})

    async def work() -> None:
        engine = Engine(plan, tmp_path)
        await engine.start()
        try:
            inputs = [np.array([[i + 1]], np.int64) for i in range(250)]
            kept = await asyncio.gather(*(ask(engine, {"x": x}, 1)[0] for x in inputs))
            assert [k.outcome for k in kept] == [OUTCOME_OK] * 2 + [OUTCOME_FAILED] * 248
            assert all(k.error.startswith("InvalidArgument") for k in kept[2:])
        finally:
            await engine.close()

    in_loop(work)


def test_a_failure_among_requests_of_unlike_shapes_is_told_to_the_right_one(tmp_path: Path) -> None:
    models.rows_of_width_below_4(tmp_path / "model.onnx")
    widths = [3, 5, 3, 2, 5, 2]

    async def work() -> None:
        engine = Engine(deployment(batching={"max_batch": 6, "window": "1h"}), tmp_path)
        await engine.start()
        try:
            inputs = [np.full((1, w), i, np.float32) for i, w in enumerate(widths)]
            kept = await asyncio.gather(*(ask(engine, {"x": x}, 1)[0] for x in inputs))
            for x, width, found in zip(inputs, widths, kept, strict=True):
                assert found.outcome == (OUTCOME_OK if width < 4 else OUTCOME_FAILED)
                if width < 4:
                    assert found.outputs["y"].tolist() == [[x[0, 0]]]
        finally:
            await engine.close()

    in_loop(work)


def test_a_model_that_answers_too_many_rows_fails_the_batch_and_not_the_engine(tmp_path: Path) -> None:
    models.batch_lost_for_wide_rows(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(batching={"max_batch": 2}), tmp_path)
        await engine.start()
        try:
            bad = await ask(engine, {"x": np.ones((1, 4), np.float32)}, 1)[0]
            assert bad.outcome == OUTCOME_FAILED
            assert "has shape [4, 1] for 1 rows" in bad.error
            good = await ask(engine, {"x": np.ones((2, 1), np.float32)}, 2)[0]
            assert good.outputs["y"].tolist() == [[1], [1]]
        finally:
            await engine.close()

    in_loop(work)


def test_a_replica_killed_again_and_again_loses_and_mixes_up_nothing(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    plan = deployment(batching={"max_batch": 4}, queue={"max_queue": "unbounded"}, replicas={"count": 2, "slots": 2})

    async def client(engine: Engine, name: int, done: list[Kept], stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            x = np.full((1, 4), 10_000 * name + number, np.float32)
            kept = await ask(engine, {"x": x}, 1)[0]
            done.append(kept)
            if kept.outcome == OUTCOME_OK:
                np.testing.assert_array_equal(kept.outputs["y"], 2 * x + 1)

    async def work() -> None:
        engine = Engine(plan, tmp_path)
        await engine.start()
        try:
            stop = asyncio.Event()
            done: list[Kept] = []
            clients = [asyncio.ensure_future(client(engine, name, done, stop)) for name in range(1, 17)]
            for kill in range(4):
                served = engine.models["m"].scheduler.replicas[kill % 2]
                while not (served.up and served.batches):
                    await asyncio.sleep(0)
                os.kill(engine.pids("m")[kill % 2], signal.SIGKILL)
                while served.up:
                    await asyncio.sleep(0)
                while not served.up:
                    await asyncio.sleep(0.001)
            stop.set()
            await asyncio.gather(*clients)
        finally:
            await engine.close()
        assert engine.models["m"].statistics.deaths == 4
        wrong = [k for k in done if k.outcome != OUTCOME_OK and k.reason != REASON_DEATH]
        assert not wrong
        assert len(done) > 100

    in_loop(work)


def test_a_successor_killed_while_it_loads_gets_a_successor_too(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(), tmp_path)
        await engine.start()
        replica = engine.models["m"].scheduler.replicas[0]
        try:
            first = engine.pids("m")[0]
            os.kill(first, signal.SIGKILL)
            while engine.pids("m")[0] in (0, first):
                await asyncio.sleep(0)
            assert not replica.up
            second = engine.pids("m")[0]
            os.kill(second, signal.SIGKILL)
            while not replica.up:
                await asyncio.sleep(0.001)
            assert engine.pids("m")[0] not in (first, second)
            assert engine.models["m"].statistics.deaths == 1, "one that never was up cannot be missed"
            assert (await ask(engine, {"x": np.zeros((1, 4), np.float32)}, 1)[0]).outcome == OUTCOME_OK
        finally:
            await engine.close()

    in_loop(work)


def test_a_request_whose_replica_dies_twice_fails(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=3.6e6), name="profile")  # an hour a batch: nothing ends by itself
    plan = deployment(model={"backend": "emulated"})

    async def work() -> None:
        engine = Engine(plan, tmp_path, tmp_path / "log")
        await engine.start()
        try:
            answered, request = ask(engine, {"x": np.zeros((1, 4), np.float32)}, 1, id_=5)
            for death in (1, 2):
                while request.batch is None:
                    await asyncio.sleep(0.001)
                os.kill(engine.pids("m")[0], signal.SIGKILL)
                while request.deaths < death:
                    await asyncio.sleep(0.001)
                assert request.waiting == (death == 1)
            kept = await answered
            assert (kept.outcome, kept.reason) == (OUTCOME_FAILED, REASON_DEATH)
            assert "died 2 times" in kept.error
        finally:
            await engine.close()

    in_loop(work)
    (row,) = read_requests(tmp_path / "log")
    assert row[records.REQUEST] == 5
    assert row[records.DEATHS] == 2
    assert row[records.REPLICA] == -1


def test_bounds_priorities_deadlines_and_cancellation_hold_while_the_replica_is_busy(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    plan = deployment(batching={"max_batch": 2}, queue={"max_queue": 3, "priority_levels": 2})
    row = {"x": np.zeros((1, 4), np.float32)}

    async def work() -> None:
        engine = Engine(plan, tmp_path, tmp_path / "log")
        await engine.start()
        pid = engine.pids("m")[0]
        try:
            os.kill(pid, signal.SIGSTOP)
            first, _ = ask(engine, row, 1, id_=1)
            late, _ = ask(engine, row, 1, priority=1, timeout_ns=1_000_000, id_=2)
            gone, request = ask(engine, row, 1, priority=1, id_=3)
            low, _ = ask(engine, row, 1, priority=1, id_=4)
            full = await ask(engine, row, 1, priority=1, id_=5)[0]
            assert (full.outcome, full.reason) == (OUTCOME_FULL, REASON_QUEUE)
            assert "3 rows" in full.error
            high, _ = ask(engine, row, 1, id_=6)  # rows of lower priorities do not count against it
            large = await ask(engine, {"x": np.zeros((3, 4), np.float32)}, 3, id_=7)[0]
            assert (large.outcome, large.reason) == (OUTCOME_INVALID, REASON_ROWS)
            expired = await late
            assert (expired.outcome, expired.reason) == (OUTCOME_EXPIRED, REASON_DEADLINE)
            engine.cancel(engine.models["m"], request)
            os.kill(pid, signal.SIGCONT)
            assert [(await f).outcome for f in (first, high, low)] == [OUTCOME_OK] * 3
            assert not gone.done()
        finally:
            os.kill(pid, signal.SIGCONT)
            await engine.close()

    in_loop(work)
    rows = {int(r[records.REQUEST]): r for r in read_requests(tmp_path / "log")}
    assert rows[3][records.OUTCOME] == OUTCOME_CANCELLED
    assert rows[6][records.BATCH] == rows[4][records.BATCH], "priorities mix in a batch"
    assert all(
        r[records.ARRIVAL_NS] <= r[records.ENQUEUE_NS] <= r[records.ANSWERED_NS]
        for r in rows.values()
        if r[records.ENQUEUE_NS] > 0
    )


def test_a_window_holds_a_partial_batch_until_it_ends(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    plan = deployment(batching={"max_batch": 3, "window": "300ms"})
    row = {"x": np.zeros((1, 4), np.float32)}

    async def work() -> None:
        engine = Engine(plan, tmp_path, tmp_path / "log")
        await engine.start()
        try:
            assert (await ask(engine, row, 1, id_=0)[0]).reason == REASON_WINDOW
            answers = await asyncio.gather(*(ask(engine, row, 1, id_=i)[0] for i in (1, 2, 3)))
            assert {a.reason for a in answers} == {REASON_FULL}
        finally:
            await engine.close()

    in_loop(work)
    rows = read_requests(tmp_path / "log")
    waited_ns = rows[:, records.DISPATCH_NS] - rows[:, records.ENQUEUE_NS]
    assert waited_ns[0] >= 300_000_000
    assert waited_ns[1:].max() < 300_000_000
    for earlier, later in (
        ("ARRIVAL", "ENQUEUE"),
        ("ENQUEUE", "DISPATCH"),
        ("DISPATCH", "START"),
        ("START", "DONE"),
        ("DONE", "ANSWERED"),
    ):
        assert (rows[:, getattr(records, f"{earlier}_NS")] <= rows[:, getattr(records, f"{later}_NS")]).all()


def test_a_drain_answers_what_was_admitted_and_refuses_the_rest(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    plan = deployment(batching={"max_batch": 4, "window": "1h"})
    row = {"x": np.ones((1, 4), np.float32)}

    async def work() -> None:
        engine = Engine(plan, tmp_path)
        await engine.start()
        try:
            assert engine.ready
            waiting, _ = ask(engine, row, 1)
            engine.drain()
            assert not engine.ready
            refused: list[Kept] = []
            engine.refuse(
                engine.models["m"],
                reason=REASON_DRAINING,
                outcome=OUTCOME_DRAINING,
                arrival_ns=engine.iteration_ns(),
                reply=lambda answer: refused.append(keep(answer)),
            )
            assert "shutting down" in refused[0].error
            await engine.drained()
            assert (await waiting).reason == REASON_DRAIN
        finally:
            await engine.close()

    in_loop(work)


def test_a_drain_waits_for_the_successor_of_a_dead_replica(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(), tmp_path)
        await engine.start()
        try:
            os.kill(engine.pids("m")[0], signal.SIGSTOP)
            waiting, _ = ask(engine, {"x": np.ones((1, 4), np.float32)}, 1)
            os.kill(engine.pids("m")[0], signal.SIGKILL)
            engine.drain()
            await engine.drained()
            assert (await waiting).outcome == OUTCOME_OK
        finally:
            await engine.close()

    in_loop(work)


def test_a_reply_that_raises_costs_nobody_else_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models.affine(tmp_path / "model.onnx")
    row = {"x": np.ones((1, 4), np.float32)}

    def broken(answer: Answer) -> None:
        raise RuntimeError("front bug")

    async def work() -> None:
        engine = Engine(deployment(batching={"max_batch": 2, "window": "1h"}), tmp_path)
        await engine.start()
        try:
            engine.submit(
                engine.models["m"], row, 1, priority=0, timeout_ns=2**62, request_id=None, arrival_ns=1, reply=broken
            )
            assert (await ask(engine, row, 1)[0]).outcome == OUTCOME_OK
        finally:
            await engine.close()

    in_loop(work)
    assert str(OWN_IDS) in caplog.text


def test_all_arrivals_of_a_loop_iteration_have_its_stamp(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(front={"budget": "1ms"}), tmp_path)
        readers = [os.pipe() for _ in range(2)]
        stamps: list[int] = []
        both = engine.loop.create_future()

        def read(reader: int) -> None:
            engine.loop.remove_reader(reader)
            stamps.append(engine.iteration_ns())
            if len(stamps) == 2:
                both.set_result(None)

        for reader, writer in readers:
            os.write(writer, b"x")
            engine.loop.add_reader(reader, read, reader)
        await both
        assert stamps[0] == stamps[1]
        await asyncio.sleep(0.001)
        assert engine.iteration_ns() > stamps[0]
        assert engine.over_budget(engine.now_ns() - 1_500_000)
        assert not engine.over_budget(engine.now_ns())
        for fd in (fd for pair in readers for fd in pair):
            os.close(fd)
        await engine.close()

    in_loop(work)


@pytest.mark.parametrize(
    ("make", "parts", "words"),
    [
        pytest.param(lambda p: None, {}, "no such model file", id="there is no file"),
        pytest.param(lambda p: p.write_bytes(b"not a model"), {}, "onnxruntime cannot load it", id="it is no model"),
        pytest.param(
            lambda p: models.affine(p, batch=4),
            {"batching": {"max_batch": 8}},
            "fixed at 4.*max_batch: 1",
            id="its batch is fixed",
        ),
        pytest.param(
            models.batch_lost, {"batching": {"max_batch": 2}}, "does not follow the batch", id="it loses the batch"
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_in_plain_words(
    tmp_path: Path, make: object, parts: dict[str, object], words: str
) -> None:
    assert callable(make)
    make(tmp_path / "model.onnx")

    async def work() -> None:
        engine = Engine(deployment(**parts), tmp_path)  # type: ignore[arg-type]
        try:
            with pytest.raises(EngineError, match=words):
                await engine.start()
        finally:
            await engine.close()

    in_loop(work)


def test_more_replicas_than_the_machine_can_run_are_refused_before_any_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.engine.REPLICAS_PER_CORE_MAX", 1)
    most = len(os.sched_getaffinity(0))

    async def work() -> None:
        engine = Engine(deployment(replicas={"count": most + 1}), tmp_path)
        words = rf"models\.m\.replicas\.count {most + 1}: this machine runs at most {most} replicas \(1 a core\)"
        try:
            with pytest.raises(EngineError, match=words):
                await engine.start()
            assert set(engine.pids("m")) == {0}
        finally:
            await engine.close()

    in_loop(work)


def test_a_model_whose_batch_is_fixed_is_served_one_request_at_a_time(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx", batch=3)

    async def work() -> None:
        engine = Engine(deployment(), tmp_path)
        await engine.start()
        try:
            served = engine.models["m"]
            assert served.max_batch == 0
            assert served.inputs[0].shape == [3, 4]
            xs = [np.full((3, 4), i, np.float32) for i in range(5)]
            for x, kept in zip(xs, await asyncio.gather(*(ask(engine, {"x": x}, 1)[0] for x in xs)), strict=True):
                np.testing.assert_array_equal(kept.outputs["y"], 2 * x + 1)
                assert kept.reason in (REASON_IDLE, REASON_FULL)
        finally:
            await engine.close()

    in_loop(work)


def test_models_share_the_machine_but_not_their_queues(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(base_ms=1000), name="profile")
    models.affine(tmp_path / "model.onnx")
    emulated = deployment(model={"backend": "emulated"}, replicas={"count": 2}).models["m"]
    plan = deployment().model_copy(update={"models": {"m": deployment().models["m"], "slow": emulated}})
    row = {"x": np.ones((1, 4), np.float32)}

    async def work() -> None:
        engine = Engine(plan, tmp_path, tmp_path / "log")
        await engine.start()
        try:
            assert [len(parts) for parts in engine.started.values()] == [1, 2]
            slow = [ask(engine, row, 1, id_=i, model="slow")[0] for i in (1, 2)]
            quick = await ask(engine, row, 1, id_=3)[0]
            assert not any(f.done() for f in slow), "the other model's batches are still running"
            assert quick.outputs["y"].tolist() == [[3, 3, 3, 3]]
            assert [(await f).outputs["y"].tolist() for f in slow] == [[[0, 0]], [[0, 0]]]
        finally:
            await engine.close()

    in_loop(work)
    batches = [dict(zip(BATCH_COLUMNS, b, strict=True)) for b in read_batches(tmp_path / "log").tolist()]
    # The two slow ones end together: their order in the log is the machine's.
    assert sorted((b["queue"], b["replica"], b["busy"]) for b in batches) == [(0, 0, 2), (1, 0, 0), (1, 1, 1)]


def test_the_counters_say_what_the_log_says(tmp_path: Path) -> None:
    models.affine(tmp_path / "model.onnx")
    plan = deployment(batching={"max_batch": 3}, queue={"max_queue": 4})

    async def work() -> None:
        engine = Engine(plan, tmp_path, tmp_path / "log")
        await engine.start()
        try:
            asked = [ask(engine, {"x": np.zeros((1 + i % 3, 4), np.float32)}, 1 + i % 3)[0] for i in range(30)]
            await asyncio.gather(*asked)
        finally:
            await engine.close()
        counted = engine.models["m"].statistics
        rows, batches = read_requests(tmp_path / "log"), read_batches(tmp_path / "log")
        ok = rows[rows[:, records.OUTCOME] == OUTCOME_OK]
        outcomes = np.bincount(rows[:, records.OUTCOME], minlength=len(counted.outcomes))
        assert counted.outcomes == outcomes.tolist()
        assert outcomes[OUTCOME_FULL] > 0, "the load was to be too much"
        assert counted.drop_reasons[REASON_QUEUE] == outcomes[OUTCOME_FULL]
        assert (counted.requests, counted.rows) == (len(ok), ok[:, records.ROWS].sum())
        assert counted.success_ns == (ok[:, records.ANSWERED_NS] - ok[:, records.ARRIVAL_NS]).sum()
        assert counted.queue_ns == (ok[:, records.DISPATCH_NS] - ok[:, records.ENQUEUE_NS]).sum()
        assert sum(counted.latency_log2) == sum(counted.queue_log2) == len(ok)
        assert counted.batches == len(batches) == sum(counted.dispatch_reasons) == sum(counted.service_log2)
        sizes, counts = np.unique(batches[:, BATCH_COLUMNS.index("rows")], return_counts=True)
        assert {n: cell.count for n, cell in counted.by_rows.items()} == dict(zip(sizes, counts, strict=True))

    in_loop(work)
