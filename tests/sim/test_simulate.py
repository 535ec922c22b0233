"""simulate: the whole way from a Scenario to a Result."""

import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.errors import ProfileError, SpecError
from serve.files import save, to_text
from sim import paths
from sim.capacity import capacity_rps
from sim.drawing import open_chunks
from sim.prepare import prepare
from sim.result import Result
from sim.scenario import Scenario
from sim.simulate import predict, simulate
from sim.workload import Given
from tests.profiles import Synthetic, write_profile

ENGINES = ("reference", "fast")


def scenario(
    classes: dict[str, Any] | None = None,
    duration: str = "2s",
    batching: dict[str, Any] | None = None,
    queue: dict[str, Any] | None = None,
    replicas: dict[str, Any] | None = None,
    **more: Any,
) -> Scenario:
    model = {
        "file": "m.onnx",
        "profile": "toy.yaml",
        "batching": {"max_batch": 8, "window": "1ms"} if batching is None else batching,
        "queue": queue or {},
        "replicas": replicas or {},
    }
    data: dict[str, Any] = {
        "seed": 3,
        "replications": 6,
        "workload": {"duration": duration, "classes": classes or {"a": {"arrivals": {"poisson": "300/s"}}}},
        "deployment": {"models": {"m": model}, "pools": {"here": {"nodes": 1, "cores": 4, "price": "1 USD/h"}}},
    }
    return Scenario.model_validate(data | more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_profile(tmp_path, BUSY)
    return tmp_path


BUSY = Synthetic(
    noise_cv=0.2,
    busy=(0, 1),
    parse_us=30,
    finish_batch_us=20,
    finish_request_us=10,
    refuse_us=10,
    send_us=(50, 80),
    receive_us=(30, 60),
    level_series=(0.98, 1.0, 1.01, 1.01),
)
STEADY = Synthetic()


def value(result: Result, metric: str, class_: str | None = None) -> float:
    part = result.total if class_ is None else result.classes[class_]
    found = part.metrics[metric].value
    assert found is not None
    return found


# -- both engines, same bytes ------------------------------------------------------------------------------


MIXED = {
    "a": {"arrivals": {"poisson": "200/s"}, "rows": {1: 3, 4: 1}, "timeout": "30ms"},
    "b": {"arrivals": {"gamma": {"rate": "80/s", "cv": 3}}, "priority": 1, "patience": "100ms"},
}


def test_both_engines_give_the_same_result(folder: Path) -> None:
    question = scenario(MIXED, queue={"max_queue": 16, "priority_levels": 2}, replicas={"count": 2, "slots": 2})
    slow, fast = (simulate(question, base=folder, engine=e) for e in ("reference", "fast"))
    one, other = json.loads(slow.model_dump_json()), json.loads(fast.model_dump_json())
    one["engine"] = "fast"
    numbers = [{k: v for k, v in flat(each).items() if isinstance(v, float)} for each in (one, other)]
    others = [{k: v for k, v in flat(each).items() if not isinstance(v, float)} for each in (one, other)]
    assert others[0] == others[1]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)


def flat(data: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path."""
    if isinstance(data, dict):
        return {k: v for name, part in data.items() for k, v in flat(part, f"{path}.{name}").items()}
    if isinstance(data, list):
        return {k: v for i, part in enumerate(data) for k, v in flat(part, f"{path}.{i}").items()}
    return {path: data}


@pytest.mark.parametrize("engine", ENGINES)
def test_same_file_and_seed_same_bytes(folder: Path, engine: Any) -> None:
    one, other = (
        to_text(simulate(scenario(MIXED, queue={"priority_levels": 2}), base=folder, engine=engine)) for _ in "ab"
    )
    assert one == other


def test_same_bytes_in_processes_that_hash_and_thread_differently(folder: Path) -> None:
    question = scenario(MIXED, queue={"priority_levels": 2})
    save(folder / "scenario.yaml", question)
    program = """
import os, sys
from pathlib import Path
from serve.files import load, to_text
from sim.scenario import Scenario
from sim.simulate import simulate
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])
folder = Path(sys.argv[1])
sys.stdout.write(to_text(simulate(load(folder / "scenario.yaml", Scenario), base=folder)))
"""
    said = set()
    for seed, cores in (("1", "1"), ("2", "4")):
        command = [sys.executable, "-c", program, str(folder), cores]
        ended = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        said.add(ended.stdout)
    assert said == {to_text(simulate(question, base=folder))}


def test_another_seed_gives_other_numbers(folder: Path) -> None:
    one = simulate(scenario(), base=folder)
    other = simulate(scenario(seed=4), base=folder)
    assert value(one, "mean") != value(other, "mean")
    assert one.scenario_sha256 != other.scenario_sha256


def test_the_first_replications_do_not_change_when_more_follow(folder: Path) -> None:
    few, many = (simulate(scenario(), base=folder, replications=n) for n in (3, 12))
    assert few.requests < many.requests
    assert value(few, "p50") == pytest.approx(value(many, "p50"), rel=0.1)


# -- a result that can be known -----------------------------------------------------------------------------


def test_lone_requests_take_what_the_profile_says(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    result = simulate(scenario({"a": {"arrivals": {"constant": "10/s"}}}, batching={"max_batch": 8}), base=tmp_path)
    for metric in ("mean", "p50", "p99", "p99.9", "compute"):
        assert value(result, metric) == pytest.approx(0.0025, rel=0.004), metric
    assert value(result, "busy") == pytest.approx(0.025, rel=0.06)
    assert result.batch_rows == {1: 1.0}
    assert result.reasons == {"idle": 1.0}
    assert result.refusals == {}


def test_a_window_at_low_load_is_pure_added_latency(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    constant = {"a": {"arrivals": {"constant": "10/s"}}}
    result = simulate(scenario(constant, batching={"max_batch": 8, "window": "7ms"}), base=tmp_path)
    assert value(result, "mean") == pytest.approx(0.0025 + 0.007)
    assert value(result, "queue_delay") == pytest.approx(0.007)
    assert result.reasons == {"window": 1.0}


def test_front_and_client_are_in_the_latency(tmp_path: Path) -> None:
    costs = Synthetic(parse_us=100, finish_batch_us=50, finish_request_us=25, send_us=(300, 300), receive_us=(200, 200))
    write_profile(tmp_path, costs)
    result = simulate(scenario({"a": {"arrivals": {"constant": "10/s"}}}, batching={}), base=tmp_path)
    assert value(result, "front_delay") == pytest.approx(100e-6)
    assert value(result, "answer_delay") == pytest.approx(75e-6)
    assert value(result, "client_delay") == pytest.approx(500e-6)
    assert value(result, "mean") == pytest.approx(0.0025 + 675e-6)
    assert value(result, "front_busy") == pytest.approx(175e-6 * 10, rel=0.06)


def test_work_of_the_front_beside_its_jobs_occupies_it_and_delays_nobody(tmp_path: Path) -> None:
    question = scenario({"a": {"arrivals": {"constant": "10/s"}}}, batching={})
    write_profile(tmp_path, Synthetic(parse_us=100))
    lean = simulate(question, base=tmp_path)
    write_profile(tmp_path, Synthetic(parse_us=100, unstamped_us=40))
    fat = simulate(question, base=tmp_path)
    assert value(fat, "front_busy") - value(lean, "front_busy") == pytest.approx(80e-6 * 9.5)
    assert value(fat, "mean") == value(lean, "mean")


def test_cost_is_the_nodes_price_over_what_was_answered(folder: Path) -> None:
    result = simulate(scenario(), base=folder)
    assert value(result, "cost_usd_per_h") == 1.0
    assert value(result, "cost_usd_per_1k") == pytest.approx(1000 / (value(result, "throughput") * 3600), rel=0.01)


def test_parts_of_the_mean_add_up(folder: Path) -> None:
    result = simulate(scenario(MIXED, queue={"priority_levels": 2}), base=folder)
    names = ("front_delay", "queue_delay", "slot_delay", "compute", "answer_delay", "client_delay")
    for class_ in (None, "a", "b"):
        assert sum(value(result, name, class_) for name in names) == pytest.approx(value(result, "mean", class_))


def test_intervals_hold_the_value_and_pi_is_of_one_run(folder: Path) -> None:
    result = simulate(scenario(), base=folder, replications=20)
    for name in ("mean", "p50", "p95", "p99", "throughput", "busy"):
        estimate = result.total.metrics[name]
        assert estimate.ci is not None and estimate.pi is not None and estimate.value is not None
        assert estimate.ci[0] < estimate.value < estimate.ci[1]
        assert estimate.pi[0] < estimate.value < estimate.pi[1]


def test_longer_runs_narrow_the_prediction_interval(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(noise_cv=0.2))
    widths = []
    for duration in ("1s", "9s"):
        pi = simulate(scenario(duration=duration, seed=5), base=tmp_path, replications=20).total.metrics["mean"].pi
        assert pi is not None
        widths.append(math.log(pi[1] / pi[0]))
    assert 2 < widths[0] / widths[1] < 4.5


def test_a_machine_that_drifts_widens_the_prediction_interval(tmp_path: Path) -> None:
    widths = []
    for name, series in (("calm", (1.0,)), ("moody", (0.8, 0.85, 1.0, 1.15, 1.2))):
        (tmp_path / name).mkdir()
        write_profile(tmp_path / name, Synthetic(noise_cv=0.2, level_series=series, level_bin_s=2.0))
        pi = simulate(scenario(duration="4s"), base=tmp_path / name, replications=20).total.metrics["mean"].pi
        assert pi is not None
        widths.append(math.log(pi[1] / pi[0]))
    assert widths[1] > 2 * widths[0]


# -- verdicts -------------------------------------------------------------------------------------------------


def test_capacity_of_full_batches(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    result = simulate(scenario(replicas={"count": 3}), base=tmp_path)
    assert result.capacity_rps == pytest.approx(3 * 8 / 0.006, rel=0.01)


def test_capacity_counts_what_fits_of_large_requests(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    threes = {"a": {"arrivals": {"poisson": "10/s"}, "rows": 3}}
    result = simulate(scenario(threes), base=tmp_path)
    assert result.capacity_rps == pytest.approx(2 / 0.005, rel=0.01), "two requests of 3 rows fit into 8"


def test_capacity_of_a_slow_front_is_the_fronts(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(parse_us=900, finish_request_us=100))
    result = simulate(scenario(), base=tmp_path)
    assert result.capacity_rps == pytest.approx(1000, rel=0.02)


UNBOUNDED = {"max_queue": "unbounded"}
HIGH = {"a": {"arrivals": {"poisson": "2000/s"}}}
"""Above the 1,333/s that full batches of 8 in 6 ms allow."""


def test_above_capacity_without_bound_is_unstable_and_has_no_percentiles(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    result = simulate(scenario(HIGH, queue=UNBOUNDED), base=tmp_path)
    assert result.verdict == "unstable"
    assert "2000/s offered, capacity 1333/s" in result.verdict_reason
    for part in (result.total, result.classes["a"]):
        for metric in ("mean", "p50", "p99", "p99.9"):
            assert part.metrics[metric].value is None
            assert part.metrics[metric].pi is None
    assert result.latency_cdf_s == []
    assert value(result, "throughput") == pytest.approx(1333, rel=0.02), "what it answers, not what it is sent"
    assert value(result, "busy") > 0.95


@pytest.mark.parametrize(
    ("changes", "share"),
    [({"queue": {"max_queue": 40}}, "refused"), ({"queue": UNBOUNDED | {"default_timeout": "20ms"}}, "expired")],
    ids=["bounded queue", "deadlines"],
)
def test_above_capacity_with_a_bound_is_overloaded(tmp_path: Path, changes: dict[str, Any], share: str) -> None:
    write_profile(tmp_path, STEADY)
    result = simulate(scenario(HIGH, **changes), base=tmp_path)
    assert result.verdict == "overloaded"
    assert value(result, share) == pytest.approx(1 / 3, abs=0.03)
    assert value(result, "p99") < 0.1
    assert value(result, "throughput") == pytest.approx(1333, rel=0.03)


def test_patience_bounds_a_queue_too(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    impatient = {"a": {"arrivals": {"poisson": "2000/s"}, "patience": "30ms"}}
    result = simulate(scenario(impatient, queue=UNBOUNDED), base=tmp_path)
    assert result.verdict == "overloaded"
    assert value(result, "cancelled") > 0.2


def test_below_capacity_is_stable_once_it_is_long_enough(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    short = simulate(scenario(duration="1s"), base=tmp_path)
    assert short.verdict == "unresolved"
    assert any("lengthen workload.duration" in w for w in short.warnings)
    long = simulate(scenario(duration="40s"), base=tmp_path)
    assert long.verdict == "stable"
    assert long.warmup_s <= 20


def test_closed_loops_are_stable_and_obey_the_interactive_law(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(noise_cv=0.4, send_us=(100, 100)))
    closed = {"a": {"arrivals": {"closed": {"clients": 12, "think": "10ms"}}}}
    result = simulate(scenario(closed, duration="20s"), base=tmp_path)
    assert result.verdict == "stable"
    assert result.capacity_rps is None
    assert result.warmup_s == 0
    assert value(result, "throughput") * (value(result, "mean") + 0.010) == pytest.approx(12, rel=0.005)


def test_an_open_class_beside_closed_clients_is_drained(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    both = {"a": {"arrivals": {"poisson": "50/s"}}, "b": {"arrivals": {"closed": {"clients": 20}}, "rows": 4}}
    result = simulate(scenario(both), base=tmp_path)
    assert value(result, "arrival_rate", "a") == pytest.approx(50, rel=0.2)
    assert value(result, "throughput", "a") == pytest.approx(value(result, "arrival_rate", "a"), rel=1e-9)
    assert value(result, "throughput", "b") > 300


@pytest.mark.parametrize(
    ("burst_end_s", "verdict"), [(1.0, "recovered"), (3.99, "not recovered")], ids=["early burst", "burst at the end"]
)
def test_a_burst_recovers_or_not(tmp_path: Path, burst_end_s: float, verdict: str) -> None:
    write_profile(tmp_path, STEADY)
    calm = np.arange(0, 4, 0.01)
    burst = np.linspace(burst_end_s - 0.3, burst_end_s, 800)
    instants = np.sort(np.concatenate([calm, burst]))
    (tmp_path / "burst.csv").write_text("arrival_s\n" + "\n".join(f"{t:.6f}" for t in instants) + "\n")
    trace = {"a": {"arrivals": {"trace": {"file": "burst.csv"}}}}
    result = simulate(scenario(trace, duration="4s", queue=UNBOUNDED), base=tmp_path)
    assert result.verdict == verdict
    assert result.requests == 6 * len(instants)
    assert result.warmup_s == 0


def test_a_load_without_a_single_request_has_no_latency_and_no_verdict_against_it(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    (tmp_path / "late.csv").write_text("arrival_s\n50\n")
    for arrivals in ({"trace": {"file": "late.csv"}}, {"poisson": "1/d"}):
        result = simulate(scenario({"a": {"arrivals": arrivals}}), base=tmp_path)
        assert result.requests == 0
        assert result.verdict in ("recovered", "unresolved")
        assert result.total.metrics["p99"].value is None
        assert value(result, "throughput") == value(result, "busy") == 0
        assert result.batch_rows == result.reasons == result.refusals == {}
        assert result.latency_cdf_s == []


# -- same instants as a live run -----------------------------------------------------------------------------------


def given_of(folder: Path, question: Scenario) -> dict[str, Given]:
    setup = prepare(question.deployment, question.workload, {}, question.seed, folder, folder)  # type: ignore[arg-type]
    chunks = list(open_chunks(setup.load, question.seed, 0))
    return {"a": Given(*(np.concatenate([getattr(c, name) for c in chunks]) for name in ("arrival_ns", "rows")))}


def test_given_instants_leave_only_service_and_level_to_chance(folder: Path) -> None:
    question = scenario(duration="4s")
    met = given_of(folder, question)
    known = predict(question.deployment, question.workload, base=folder, seed=3, replications=20, given=met)  # type: ignore[arg-type]
    drawn = predict(question.deployment, question.workload, base=folder, seed=3, replications=20)  # type: ignore[arg-type]
    assert known.total.metrics["arrival_rate"].pi is not None
    assert np.ptp(known.total.metrics["arrival_rate"].pi) == 0
    widths = [np.log(np.divide(*r.total.metrics["mean"].pi[::-1])) for r in (known, drawn)]  # type: ignore[index]
    assert 0 < widths[0] < widths[1]


def test_given_draws_leave_an_emulated_run_nothing_but_its_front_and_clients(folder: Path) -> None:
    question = paths.apply(scenario(duration="2s"), {"models.m.backend": "emulated"})
    met = given_of(folder, question)
    draw = np.arange(len(met["a"].rows), dtype=np.int64)
    widths = {}
    for name, given in {"known": {"a": replace(met["a"], draw=draw)}, "drawn": met}.items():
        result = predict(question.deployment, question.workload, base=folder, seed=3, replications=20, given=given)  # type: ignore[arg-type]
        interval = result.total.metrics["compute"].pi
        assert interval is not None
        widths[name] = interval[1] - interval[0]
    assert widths["known"] < 1e-9 < widths["drawn"]


def test_a_known_warm_up_is_cut_whatever_the_rule_says(folder: Path) -> None:
    question = scenario(duration="4s")
    known = predict(question.deployment, question.workload, base=folder, seed=3, replications=2, warmup_s=1.0)  # type: ignore[arg-type]
    assert known.warmup_s == pytest.approx(1.0, abs=0.02)


def test_two_deployments_meet_the_same_requests(folder: Path) -> None:
    one, two = (
        simulate(scenario(duration="1s"), base=folder, overrides={"models.m.replicas.count": n}) for n in (1, 2)
    )
    assert one.requests == two.requests
    assert value(one, "mean") > value(two, "mean"), "under the same luck more replicas are never slower here"


# -- goodput, front budget, overrides, files --------------------------------------------------------------------------


def test_goodput_counts_what_met_the_slo(tmp_path: Path) -> None:
    write_profile(tmp_path, STEADY)
    question = scenario({"a": {"arrivals": {"constant": "10/s"}}}, batching={}, slo={"p99": "2ms"})
    assert value(simulate(question, base=tmp_path), "goodput") == 0
    loose = simulate(question, base=tmp_path, overrides={"slo": {"p50": "1ms", "p99": "3ms"}})
    assert value(loose, "goodput") == value(loose, "throughput") > 0


def test_a_front_over_its_budget_refuses_from_the_header(tmp_path: Path) -> None:
    write_profile(tmp_path, Synthetic(parse_us=600, finish_request_us=100, refuse_us=50))
    result = simulate(scenario(HIGH, slo={"p99": "50ms"}), base=tmp_path)
    assert value(result, "refused") > 0.1
    assert result.refusals["front"] > 0.1
    assert value(result, "front_delay") < 0.006, "a tenth of the SLO and one parse"
    free = simulate(scenario(HIGH), base=tmp_path)
    assert "front" not in free.refusals


def test_overrides_ask_another_question(folder: Path) -> None:
    plain_ = simulate(scenario(), base=folder)
    wide = simulate(scenario(), base=folder, overrides={"models.m.batching.window": "20ms"})
    assert value(wide, "mean") > value(plain_, "mean") + 0.005
    assert wide.scenario_sha256 != plain_.scenario_sha256


def test_a_deployment_may_lie_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write_profile(tmp_path / "d", STEADY)
    inside = scenario()
    save(tmp_path / "d" / "deployment.yaml", inside.deployment)  # type: ignore[arg-type]
    outside = inside.model_copy(update={"deployment": "d/deployment.yaml"})
    assert simulate(outside, base=tmp_path) == simulate(inside, base=tmp_path / "d")


def test_progress_is_told_after_each_replication(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    simulate(scenario(duration="100ms"), base=folder, progress=lambda done, of: told.append((done, of)))
    assert told == [(i, 6) for i in range(1, 7)]


def test_results_rest_on_their_weakest_number(folder: Path) -> None:
    assert simulate(scenario(duration="100ms"), base=folder).origin == "assumed"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"batching": {"max_batch": 64}}, ProfileError, "max_batch 64 is beyond the 16 rows"),
        ({"replicas": {"threads": 2}}, ProfileError, r"replicas\.threads 2 was not measured"),
        (
            {"classes": {"a": {"arrivals": {"poisson": "1/s"}, "model": "other"}}},
            SpecError,
            r"workload\.classes\.a\.model: must be one of m, got other",
        ),
        (
            {"classes": {"a": {"arrivals": {"poisson": "1/s"}, "priority": 1}}},
            SpecError,
            r"workload\.classes\.a\.priority: must be below the deployment's queue\.priority_levels \(1\), got 1",
        ),
        ({"slo": {"p98": "1ms"}}, SpecError, r"slo\.p98: 'p98' is not a metric"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(
    folder: Path, changes: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        simulate(scenario(**changes), base=folder)


def test_use_beyond_the_measured_neighbours_is_in_the_warnings(folder: Path) -> None:
    result = simulate(scenario(replicas={"count": 4}, duration="100ms"), base=folder)
    (warning,) = (warning for warning in result.warnings if "up to 3 busy neighbours, 1 were measured" in warning)
    assert warning.startswith(f"{folder}/"), "the profile's file"


def test_capacity_does_not_depend_on_the_seed_by_much(folder: Path) -> None:
    found = []
    for seed in range(4):
        question = scenario({"a": {"arrivals": {"poisson": "1/s"}, "rows": {1: 1, 5: 1}}}, seed=seed)
        setup = prepare(question.deployment, question.workload, {}, seed, folder, folder)  # type: ignore[arg-type]
        found.append(capacity_rps(setup, "fast"))
    assert np.ptp(found) / np.mean(found) < 0.03


def test_who_is_interrupted_does_not_wait_for_what_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, ended = threading.Event(), []

    def run(setup: object, number: int, engine: str) -> int:
        if number > 0:
            release.wait(30)
            ended.append(number)
        return number

    def interrupted(done: int, count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.simulate.run", run)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(KeyboardInterrupt):
        simulate(scenario(), base=folder, progress=interrupted)
    assert ended == []
    release.set()


@pytest.mark.parametrize(("policy", "told"), [("tf_serving", 1), ("torchserve", 1), ("triton", 0)])
def test_a_result_says_that_a_policy_was_not_held_against_its_engine(folder: Path, policy: str, told: int) -> None:
    result = simulate(scenario(batching={"policy": policy, "max_batch": 8, "window": "2ms"}), base=folder)
    assert sum("batching.policy: unchecked" in warning for warning in result.warnings) == told


@pytest.mark.parametrize("policy", ["triton", "tf_serving", "torchserve", "mosec", "litserve", "ray_serve"])
def test_both_engines_say_the_same_under_another_engines_policy(folder: Path, policy: str) -> None:
    one = scenario(batching={"policy": policy, "max_batch": 8, "window": "2ms"}, replicas={"count": 2})
    slow, fast = (flat(json.loads(simulate(one, base=folder, engine=e).total.model_dump_json())) for e in ENGINES)
    assert slow == pytest.approx(fast, rel=1e-9)
