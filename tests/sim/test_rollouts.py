"""Versions of a model, rollouts between them, and several models that are scaled at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serve.errors import SpecError
from sim.history import History
from sim.prepare import prepare
from sim.replication import run
from sim.result import Result
from sim.scenario import Engine, Scenario
from sim.setup import Setup
from sim.simulate import simulate
from tests.profiles import Synthetic, write_profile

S = 10**9


def document(
    folder: Path, versions: Mapping[str, Mapping[str, Any]], *, rate: str = "200/s", seconds: int = 120, **changes: Any
) -> dict[str, Any]:
    """A model of which v1 takes 2.5 ms a row and v2 20 ms, four replicas with queues of their own."""
    quick = str(write_profile(folder, Synthetic(), name="quick"))
    slow = str(write_profile(folder, Synthetic(base_ms=19.5), name="slow"))
    replicas = {"count": 4, "start_up": "5s", **changes.pop("replicas", {})}
    return {
        "seed": 5,
        "replications": 2,
        "workload": {"duration": f"{seconds}s", "classes": {"all": {"arrivals": {"poisson": rate}}}},
        "deployment": {
            "models": {
                "m": {
                    "backend": "emulated",
                    "versions": {
                        name: {"profile": slow if name.startswith("slow") else quick, **more}
                        for name, more in versions.items()
                    },
                    "batching": {"max_batch": 1},
                    "queue": {"per": "replica", "max_queue": 8},
                    "replicas": replicas,
                }
            },
            "pools": {"here": {"nodes": 8, "cores": 1, "price": "0.1 USD/h"}},
            "router": {"policy": "round_robin", "probe": "1s", "propagation": "1s"},
        },
        **changes,
    }


def played(asked: dict[str, Any], engine: Engine = "fast") -> tuple[Result, History, Setup]:
    """The result of a scenario, and what its first replication did."""
    scenario = Scenario.model_validate(asked)
    setup = prepare(
        scenario.deployment,  # type: ignore[arg-type]
        scenario.workload,
        scenario.slo,
        scenario.seed,
        Path(),
        Path(),
        world=scenario.world,
        events=scenario.events,
    )
    history = run(setup, 0, engine).history
    return simulate(scenario, engine=engine), history or History(), setup


def metric(result: Result, name: str, part: str | None = None) -> float:
    found = result.part(part)
    assert found is not None
    value = found.metrics[name].value
    assert value is not None
    return value


def rollout(to: str = "v2", at: str = "30s", **settings: Any) -> list[dict[str, Any]]:
    return [{"at": at, "rollout": {"model": "m", "to": to, **settings}}]


def most(history: History, group: int) -> int:
    return max(count for _, count in history.fleets[group].present)


# -- versions that share the traffic ---------------------------------------------------------------------


def test_versions_have_their_share_of_requests_and_metrics_of_their_own(tmp_path: Path) -> None:
    result, _, setup = played(document(tmp_path, {"v1": {"traffic": "75%"}, "slow": {"traffic": "25%"}}, rate="40/s"))
    assert [serving.count for serving in setup.served] == [3, 1]
    assert metric(result, "arrival_rate", "m.slow") == pytest.approx(0.25 * metric(result, "arrival_rate"), rel=0.1)
    assert metric(result, "compute", "m.v1") == pytest.approx(0.0025, rel=0.01)
    assert metric(result, "compute", "m.slow") == pytest.approx(0.020, rel=0.01)
    together = sum(metric(result, "throughput", f"m.{version}") for version in ("v1", "slow"))
    assert together == pytest.approx(metric(result, "throughput", "all")), "a class has what its versions have"


def test_a_version_without_traffic_is_not_there(tmp_path: Path) -> None:
    result, _, setup = played(document(tmp_path, {"v1": {}, "slow": {}}))
    assert [serving.version_name for serving in setup.served] == ["v1"]
    assert result.capacity_rps == pytest.approx(1600, rel=0.01)


def test_capacity_is_the_rate_at_which_the_first_version_is_full(tmp_path: Path) -> None:
    result, _, _ = played(document(tmp_path, {"v1": {"traffic": "50%"}, "slow": {"traffic": "50%"}}, rate="40/s"))
    assert result.capacity_rps == pytest.approx(2 * 100, rel=0.01), "two slow replicas answer 100/s, half of all"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"versions": {"v1": {"profile": "a", "traffic": "50%"}, "v2": {"profile": "a"}}},
            "must add up to 100%, got 50%",
        ),
        ({"versions": {"v1": {"profile": "a"}}, "profile": "b"}, "takes either versions, or file and profile"),
        ({}, "Field required"),
    ],
)
def test_versions_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    asked = document(tmp_path, {"v1": {}})
    model = asked["deployment"]["models"]["m"]
    del model["versions"]
    asked["deployment"]["models"]["m"] = {**model, **changes}
    with pytest.raises(ValueError, match=fault):
        Scenario.model_validate(asked)


# -- rolling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_rolling_update_replaces_replica_by_replica_and_loses_nothing(tmp_path: Path, engine: Engine) -> None:
    asked = document(tmp_path, {"v1": {}, "v2": {}}, events=rollout(surge=1, unavailable=0))
    result, history, _ = played(asked, engine)
    assert (metric(result, "rollouts"), metric(result, "rollbacks"), metric(result, "lost")) == (1, 0, 0)
    assert metric(result, "refused") == 0
    old, new = (fleet.present for fleet in history.fleets)
    assert old[-1][1] == 0 and new[-1][1] == 4
    assert most(history, 1) == 4
    at_once = sorted([*((at, 0, count) for at, count in old), *((at, 1, count) for at, count in new)])
    counts, together = [0, 0], []
    for _, fleet, count in at_once:
        counts[fleet] = count
        together.append(sum(counts))
    assert max(together) <= 6, "four, one more that comes, and one that drains still"
    first, *_ = (ups[0].ready_ns for ups in history.fleets[1].ups.values())
    assert first == 35 * S, "asked for at 30, up 5 s later"
    assert history.rollouts[0].at_ns > 50 * S, "four of them, one after another"


def test_requests_go_to_versions_by_their_replicas_in_rotation(tmp_path: Path) -> None:
    asked = document(tmp_path, {"v1": {}, "slow": {}}, rate="40/s", events=rollout("slow", surge=1, unavailable=0))
    result, history, _ = played(asked)
    done_s = history.rollouts[0].at_ns / S
    share = metric(result, "arrival_rate", "m.slow") / metric(result, "arrival_rate")
    after = (120 - done_s) / 120
    assert after < share < after + (done_s - 36) / 120, "some of those that came meanwhile, and all from then on"


def test_a_rollout_whose_replicas_never_count_is_taken_back(tmp_path: Path) -> None:
    asked = document(tmp_path, {"v1": {}, "v2": {}}, events=rollout(min_ready="60s", progress="20s"), seconds=200)
    result, history, _ = played(asked)
    assert metric(result, "rollbacks") == 1
    assert "no replica became available within 20 s" in history.rollouts[0].given_up
    assert history.fleets[0].present[-1][1] == 4 and history.fleets[1].present[-1][1] == 0
    assert metric(result, "failed") == 0


def test_a_single_node_takes_a_new_version_too_without_the_cores(tmp_path: Path) -> None:
    asked = document(tmp_path, {"v1": {}, "v2": {}}, events=rollout())
    asked["deployment"]["models"]["m"]["queue"] = {"per": "node", "max_queue": 8}
    asked["deployment"]["pools"]["here"] = {"nodes": 1, "cores": 2, "price": "0.1 USD/h"}
    result, history, _ = played(asked)
    assert metric(result, "rollouts") == 1 and most(history, 1) == 4


def test_the_last_old_replica_stays_until_a_new_one_counts(tmp_path: Path) -> None:
    events = rollout(surge="100%", unavailable="100%")
    result, history, _ = played(document(tmp_path, {"v1": {}, "v2": {}}, events=events))
    assert metric(result, "rollouts") == 1 and metric(result, "refused") < 0.1
    left = [at for at, count in history.fleets[0].present if count == 0]
    assert left and left[0] > 36 * S, "the new ones are in rotation at 36"


def test_requests_that_nobody_will_ever_serve_are_told(tmp_path: Path) -> None:
    scaler = {"kind": "keda", "triggers": [{"target": 1, "activation": 100}], "polling": "5s", "cooldown": "10s"}
    asked = document(
        tmp_path,
        {"v1": {}},
        rate="1/min",
        seconds=300,
        replicas={"min": 0, "max": 1, "count": 0 + 1, "autoscaler": scaler},
    )
    with pytest.raises(SpecError, match="requests wait for a replica after the load has ended, and none comes"):
        played(asked)


def test_what_fits_nowhere_waits_until_an_old_replica_has_gone(tmp_path: Path) -> None:
    asked = document(tmp_path, {"v1": {}, "v2": {}}, events=rollout(surge=1, unavailable=1))
    asked["deployment"]["pools"]["here"]["nodes"] = 4
    result, history, _ = played(asked)
    assert metric(result, "rollouts") == 1
    assert history.fleets[1].present[-1][1] == 4 and most(history, 1) == 4


# -- blue/green and canaries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_blue_green_flips_all_traffic_when_the_new_ones_are_there(tmp_path: Path, engine: Engine) -> None:
    asked = document(tmp_path, {"v1": {}, "slow": {}}, rate="40/s", events=rollout("slow", kind="blue_green"))
    result, history, _ = played(asked, engine)
    share = metric(result, "arrival_rate", "m.slow") / metric(result, "arrival_rate")
    assert share == pytest.approx((120 - 36) / 120, abs=0.02), "asked for at 30, up at 35, in rotation at 36"
    old = history.fleets[0].present
    assert old[0] == (0, 4) and 66 * S < old[1][0] < 70 * S, "they stay for 30 s more, and drain"
    assert metric(result, "rollouts") == 1 and metric(result, "lost") == 0


def test_a_canary_has_its_shares_one_after_another(tmp_path: Path) -> None:
    steps = [{"traffic": "25%", "for": "20s"}, {"traffic": "50%", "for": "20s"}]
    asked = document(tmp_path, {"v1": {}, "slow": {}}, rate="40/s", events=rollout("slow", kind="canary", steps=steps))
    result, history, _ = played(asked)
    share = metric(result, "arrival_rate", "m.slow") / metric(result, "arrival_rate")
    first, second, whole = 20 + 6, 20 + 6, 120 - (36 + 20 + 6 + 20 + 6)
    assert share == pytest.approx((0.25 * first + 0.5 * second + whole) / 120, abs=0.03)
    assert [count for _, count in history.fleets[1].present if count] == [1, 2, 3, 4] or most(history, 1) == 4
    assert metric(result, "rollouts") == 1


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_canary_that_fails_is_taken_back(tmp_path: Path, engine: Engine) -> None:
    steps = [{"traffic": "25%", "for": "10min"}]
    events = rollout("slow", kind="canary", steps=steps, abort="5%")
    result, history, _ = played(document(tmp_path, {"v1": {}, "slow": {}}, rate="400/s", events=events), engine)
    assert metric(result, "rollbacks") == 1 and "requests failed, over 5.0%" in history.rollouts[0].given_up
    assert history.rollouts[0].at_ns <= 50 * S
    assert history.fleets[0].present[-1][1] == 4 and history.fleets[1].present[-1][1] == 0
    assert metric(result, "refused", "m.slow") > 0.05 and metric(result, "refused", "m.v1") == 0


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        ({"model": "m", "to": "v9"}, r"events\.0\.rollout\.to: must be one of v1, v2, got 'v9'"),
        ({"model": "n", "to": "v2"}, r"events\.0\.rollout\.model: must be one of m, got 'n'"),
    ],
)
def test_rollouts_of_what_there_is_not_are_refused(tmp_path: Path, event: dict[str, Any], fault: str) -> None:
    with pytest.raises(SpecError, match=fault):
        played(document(tmp_path, {"v1": {}, "v2": {}}, events=[{"at": "30s", "rollout": event}]))


def test_steps_belong_to_canaries(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps: are those of kind canary"):
        Scenario.model_validate(document(tmp_path, {"v1": {}, "v2": {}}, events=rollout(kind="canary")))


# -- scaled at the same time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_an_autoscaler_sets_the_replicas_of_all_versions_together(tmp_path: Path, engine: Engine) -> None:
    scaled = {"count": 1, "max": 4, "autoscaler": {"kind": "keda", "triggers": [{"target": 1}], "polling": "5s"}}
    versions = {"v1": {"traffic": "50%"}, "slow": {"traffic": "50%"}}
    result, history, _ = played(document(tmp_path, versions, rate="150/s", replicas=scaled), engine)
    assert metric(result, "scale_ups") >= 1
    wanted = max(step.wanted for step in history.models[0].steps)
    assert wanted > 1 and [most(history, group) for group in (0, 1)] == [-(-wanted // 2)] * 2


def two_scaled(folder: Path, nodes: int) -> dict[str, Any]:
    """Two models on the same machines, each scaled by what waits for it: one is asked for first, then the other."""
    asked = document(folder, {"v1": {}}, seconds=240)
    model = asked["deployment"]["models"]["m"]
    scaler = {"kind": "hpa", "cpu": 60, "interval": "5s", "down_window": "10s"}
    replicas = {"count": 1, "max": 4, "start_up": "5s", "autoscaler": scaler}
    model = {**model, "replicas": replicas}
    asked["deployment"]["models"] = {"one": model, "other": model}
    asked["deployment"]["pools"]["here"]["nodes"] = nodes
    early = {"spike": {"base": "20/s", "peak": "800/s", "at": "20s", "for": "60s"}}
    late = {"spike": {"base": "20/s", "peak": "800/s", "at": "140s", "for": "60s"}}
    asked["workload"]["classes"] = {
        "a": {"model": "one", "arrivals": early},
        "b": {"model": "other", "arrivals": late},
    }
    return asked


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_two_models_scale_on_the_same_machines_in_turn(tmp_path: Path, engine: Engine) -> None:
    _, history, _ = played(two_scaled(tmp_path, 5), engine)
    assert [most(history, group) for group in (0, 1)] == [4, 4], "five machines do for both, one after the other"
    both = sorted({at for fleet in history.fleets for at, _ in fleet.present})

    def there(group: int, at_ns: int) -> int:
        return [count for at, count in history.fleets[group].present if at <= at_ns][-1]

    assert max(there(0, at) + there(1, at) for at in both) <= 5


def test_both_engines_take_the_same_course(tmp_path: Path) -> None:
    asked = {**two_scaled(tmp_path, 5), "events": [{"at": "60s", "fail": {"node": "here/1"}}]}
    fast, slow = played(asked, "fast"), played(asked, "reference")
    assert fast[1] == slow[1]
    assert fast[0].requests == slow[0].requests and fast[0].batch_rows == slow[0].batch_rows


def test_machines_that_are_lost_take_the_replicas_of_every_model(tmp_path: Path) -> None:
    asked = two_scaled(tmp_path, 5)
    asked["events"] = [{"at": "30s", "fail": {"node": f"here/{number}"}} for number in range(5)]
    result, history, _ = played(asked)
    assert metric(result, "node_losses") == 5
    assert len(history.losses_ns) == 5
    assert metric(result, "failed", "a") > 0


def test_start_ups_are_drawn_each_from_its_law(tmp_path: Path) -> None:
    law = {"lognormal": {"median": "8s", "sigma": 0.5}}
    asked = document(tmp_path, {"v1": {}, "v2": {}}, events=rollout(surge=4), replicas={"start_up": law}, seconds=300)
    _, history, _ = played(asked)
    took_s = [ups[0].ready_ns / S - 30 for ups in history.fleets[1].ups.values()]
    assert len(set(took_s)) == 4 and all(2 < each < 32 for each in took_s)
