"""Keys of requests: Zipf's law, and that what a router keeps together stays so."""

from __future__ import annotations

import numpy as np
import pytest

from serve.errors import SpecError
from serve.policy.routing import DRAW_MASK, ROUTE_AFFINITY, choose
from sim.checks import check_clients
from sim.keys import Keys
from sim.scenario import Scenario


def test_the_hottest_keys_follow_zipfs_law() -> None:
    drawn = Keys(1, 0, "class", 50, 1.2).draw(200_000)
    counts = np.sort(np.unique(drawn, return_counts=True)[1])[::-1]
    shares = np.arange(1, 51) ** -1.2
    assert len(counts) == 50
    assert counts[:5] / 200_000 == pytest.approx(shares[:5] / shares.sum(), rel=0.03)


def test_keys_are_drawn_alike_however_many_at_a_time_and_anew_in_each_replication() -> None:
    whole, parts = Keys(1, 0, "class", 1000, 0.0), Keys(1, 0, "class", 1000, 0.0)
    assert whole.draw(300).tolist() == [*parts.draw(100), *parts.draw(200)]
    assert not set(Keys(1, 0, "class", 1000, 0.0).draw(300)) & set(Keys(1, 1, "class", 1000, 0.0).draw(300))


def test_alike_keys_are_spread_over_the_nodes() -> None:
    keys, nodes = np.unique(Keys(3, 0, "class", 20_000, 0.0).draw(50_000)), np.arange(8)
    chosen = [choose(ROUTE_AFFINITY, nodes, 8, nodes, 0, int(key), int(key)) for key in keys]
    counts = np.bincount(chosen, minlength=8)
    assert counts.min() > 0.9 * len(keys) / 8
    assert (keys & DRAW_MASK).max() > 2**30, "a retry's backoff is drawn by the same number"


def scenario(policy: str, affinity: str = "", router: bool = True) -> Scenario:
    routed = {"router": {"policy": policy}} if router else {}
    return Scenario.model_validate(
        {
            "workload": {
                "duration": "1s",
                "classes": {"a": {"arrivals": {"poisson": "1/s"}} | ({"affinity": {"keys": 10}} if affinity else {})},
            },
            "deployment": {
                "models": {"m": {"profile": "p.yaml", "file": "m.onnx"}},
                "pools": {"here": {"cores": 1, "price": "0 USD/h"}},
            }
            | routed,
        }
    )


def test_affinity_asks_for_keys_and_keys_for_a_router() -> None:
    for asked, field in ((scenario("affinity"), "is missing"), (scenario("", "yes", router=False), "needs a router")):
        with pytest.raises(SpecError, match=f"workload.classes.a.affinity: {field}"):
            check_clients(asked.deployment, asked.workload)  # type: ignore[arg-type]
    for fine in (scenario("affinity", "yes"), scenario("p2c", "yes"), scenario("p2c")):
        check_clients(fine.deployment, fine.workload)  # type: ignore[arg-type]
