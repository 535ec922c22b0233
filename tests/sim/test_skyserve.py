"""SkyServe's autoscaler simulated: replicas on spot machines, on-demand ones while spot is not ready, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve.errors import SpecError
from sim.history import History
from sim.scenario import Engine
from tests.profiles import Synthetic, write_profile
from tests.sim.test_rollouts import metric, played

S = 10**9


def document(folder: Path, supply: str = "0,4", seconds: int = 300, **autoscaler: Any) -> dict[str, Any]:
    """Four replicas on spot machines, of which `supply` says how many can be had from when on; on-demand ones take 30 s
    to be there, and all replicas 10 s to start."""
    lines = [line.split(",") for line in supply.split()]
    ends = [start for start, _ in lines[1:]] + [str(10 * seconds)]
    rows = [f"{start},{end},{count}" for (start, count), end in zip(lines, ends, strict=True)]
    (folder / "spot.csv").write_text("\n".join(["start_s,end_s,available", *rows]) + "\n")
    profile = write_profile(folder, Synthetic())
    return {
        "seed": 5,
        "replications": 2,
        "workload": {"duration": f"{seconds}s", "classes": {"all": {"arrivals": {"poisson": "40/s"}}}},
        "deployment": {
            "models": {
                "m": {
                    "backend": "emulated",
                    "profile": str(profile),
                    "batching": {"max_batch": 1},
                    "queue": {"per": "replica", "max_queue": 64},
                    "replicas": {
                        "count": 4,
                        "min": 4,
                        "max": 4,
                        "start_up": "10s",
                        "on": ["spot", "spill"],
                        "autoscaler": {"kind": "skyserve", **autoscaler},
                    },
                }
            },
            "pools": {
                "spot": {
                    "nodes": {"max": 4},
                    "cores": 1,
                    "price": "0.1 USD/h",
                    "zone": "b",
                    "buy": "spot",
                    "retry": "20s",
                    "provision": "10s",
                },
                "spill": {"nodes": {"max": 4}, "cores": 1, "price": "0.3 USD/h", "provision": "30s"},
            },
            "router": {"policy": "least_outstanding", "probe": "1s", "propagation": "1s", "retry": {"max": 2}},
        },
        "world": {"spot": {"b": {"trace": str(folder / "spot.csv"), "from": "0s", "notice": "10s"}}},
    }


def wants(history: History) -> list[tuple[int, int, int]]:
    """Ticks that changed something: instant in s, replicas wanted, and set before."""
    return [(step.at_ns // S, step.wanted, step.counted) for step in history.models[0].steps if step.change]


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_on_demand_comes_when_spot_is_taken_back_and_goes_when_it_is_there_again(
    tmp_path: Path, engine: Engine
) -> None:
    asked = document(tmp_path, "0,4 60,1 180,4", dynamic_ondemand_fallback=True)
    result, history, setup = played(asked, engine)
    assert (metric(result, "reclaims"), metric(result, "lost"), metric(result, "refused")) == (3, 0, 0)
    assert wants(history) == [(60, 7, 4), (200, 4, 7)], "four on spot, three of which fall back"
    spilled = [lease for lease in history.leases if setup.hosts[lease.machine].pool == "spill"]
    assert [(lease.there_ns // S, lease.ready_ns // S) for lease in spilled] == [(90, 100)] * 3  # type: ignore[operator]
    assert all(lease.gone_ns is not None and lease.gone_ns < 300 * S for lease in spilled), "empty for a minute"
    back = [lease for lease in history.leases if lease.there_ns > 100 * S]
    assert [(setup.hosts[lease.machine].pool, lease.there_ns // S) for lease in back] == [("spot", 190)] * 3


def test_both_engines_take_the_same_course(tmp_path: Path) -> None:
    asked = document(tmp_path, "0,4 60,1 180,4", base_ondemand_fallback_replicas=1, dynamic_ondemand_fallback=True)
    fast, reference = (played(asked, engine)[1] for engine in ("fast", "reference"))
    assert fast == reference


def test_the_base_is_on_demand_from_the_start(tmp_path: Path) -> None:
    _, history, setup = played(document(tmp_path, base_ondemand_fallback_replicas=1))
    assert [setup.hosts[lease.machine].pool for lease in history.leases] == ["spot"] * 3 + ["spill"]
    assert wants(history) == []


def test_without_fallback_the_kind_is_the_pools_choice(tmp_path: Path) -> None:
    _, history, setup = played(document(tmp_path, "0,1 180,4"))
    assert [setup.hosts[lease.machine].pool for lease in history.leases] == ["spot"] + ["spill"] * 3
    assert {step.wanted for step in history.models[0].steps} == {4}


def test_replicas_follow_the_rate_after_their_delay_and_the_last_ones_are_added(tmp_path: Path) -> None:
    asked = document(tmp_path, target="15/s", upscale_delay="60s", overprovision=1)
    asked["deployment"]["models"]["m"]["replicas"] |= {"count": 1, "min": 1}
    _, history, _ = played(asked)
    assert wants(history) == [(20, 2, 1), (80, 4, 2)], "40/s of 15/s are three; seen at 40, 60 and 80 s"


def test_from_none_it_looks_every_five_seconds_and_counts_what_waits_at_the_router(tmp_path: Path) -> None:
    asked = document(tmp_path, target="15/s", downscale_delay="20s", report="5s", window="5s")
    asked["deployment"]["models"]["m"]["replicas"] |= {"count": 1, "min": 0}
    asked["workload"]["classes"]["all"] = {
        "arrivals": {"spike": {"base": "0/s", "peak": "10/s", "at": "102s", "for": "99s"}}
    }
    _, history, _ = played(asked)
    ticks = [step.at_ns // S for step in history.models[0].steps]
    assert ticks[:4] == [5, 10, 15, 20]
    assert wants(history)[:2] == [(5, 0, 1), (105, 1, 0)]


@pytest.mark.parametrize(
    ("replicas", "fault"),
    [
        ({"count": 5, "max": 5}, r"replicas\.count: must be 4: kind skyserve begins with replicas\.min \(4\); got 5"),
        ({"on": ["spot"]}, r"replicas\.on: must name a pool of buy: on_demand, for its fallback .*; got spot"),
        ({"on": ["spill"]}, r"replicas\.on: must name a pool of buy: spot, for its replicas .*; got spill"),
        (
            {"autoscaler": {"kind": "skyserve", "window": "50s"}},
            r"autoscaler\.window: must be a multiple of report, in which arrivals are counted",
        ),
    ],
)
def test_what_cannot_fall_back_is_refused_by_name(tmp_path: Path, replicas: dict[str, Any], fault: str) -> None:
    asked = document(tmp_path, dynamic_ondemand_fallback=True)
    asked["deployment"]["models"]["m"]["replicas"] |= replicas
    with pytest.raises(SpecError, match=fault):
        played(asked)
