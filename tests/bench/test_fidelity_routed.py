"""Cells of fleets: what they are, and the profile that their nodes are emulated by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import fidelity_routed as routed
from serve import files
from serve.deployment import Deployment
from serve.fleet import engines_of
from serve.profile import Profile
from serve.profile_samples import ServiceTimes, load_samples
from tests.profiles import Synthetic, write_profile


def test_the_cells_are_four_emulated_nodes_behind_two_policies() -> None:
    cells = routed.cells()
    assert len({cell.name for cell in cells}) == len({cell.seed for cell in cells}) == len(cells) == 4
    assert {cell.fleet.router for cell in cells} == {"p2c", "round_robin"}
    for cell in cells:
        made = replace(cell.fleet, network_us=41.7234).deployment(Path("/p.yaml"), Path("/none.onnx"), None)  # type: ignore[call-arg]
        assert isinstance(made, Deployment) and made.router is not None
        assert (made.router.network, made.router.network_origin) == (41_723, "measured")
        assert [engine.models["digits"].replicas.count for engine in engines_of(made)] == [1] * 4


def test_the_profile_has_made_up_times_and_a_measured_front(tmp_path: Path) -> None:
    measured = write_profile(tmp_path, Synthetic(parse_us=12.5, send_us=(3.0,)), name="measured")
    path = routed.with_service(measured, tmp_path)
    made = files.load(path, Profile)
    assert (made.front.parse_us, made.client.send_us, made.model.max_batch) == (12.5, [3.0], 4)
    assert {cell.origin for cell in made.service} == {"assumed"}
    times = ServiceTimes(load_samples(files.bound(path, "samples", made.samples)), 1)
    assert times.service_ns(4, 0, 0.5) == pytest.approx(40e6 / 1.04**0.5, rel=0.02)  # a lognormal's median
