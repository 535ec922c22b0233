"""Fidelity of fleets: emulated nodes behind the live router, predicted and run as the other cells are.

    python -m bench.fidelity_routed [--again] [--tables]

Four nodes of one replica each, on this machine. Their service times are made up, and long, so that two cores carry
router, fronts and load generator easily: a lognormal of 20 ms and 5 ms a row (cv 0.2); front, client and the
machine's noise are those that digits was calibrated with. Just before each prediction the way through the router is
measured (`serve.proxy.crossing`), which is the deployment's `router.network`. Writes
bench/results/fidelity_routed.json and a table of docs/fidelity.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench import fidelity, fidelity_table, report
from bench.fidelity import Cell, Fleet, Grid, note
from bench.fidelity_models import CACHE, MODELS, FidelityModel
from planner.verify import now_text
from serve import files, machine
from serve.deployment import Deployment
from serve.launch import launch
from serve.profile import Profile
from serve.proxy.crossing import crossing
from tests.profiles import Synthetic, write_profile

NODES = 4
MODEL = FidelityModel("digits", 4)
SERVICE = Synthetic(base_ms=20.0, row_ms=5.0, rows=(1, 2, 3, 4), noise_cv=0.2, samples=2000)
POINTS = (("p2c", 0.6), ("p2c", 0.8), ("round_robin", 0.6), ("round_robin", 0.8))
"""Policy and load of each cell."""
GRID = Grid("routed", (MODEL,), (0,), ((NODES, True),), (0.6, 0.8), ("poisson",), 24.0, 6.0, 60)
CROSSINGS = 500


@dataclass(frozen=True, slots=True)
class RoutedFleet(Fleet):
    """Nodes of one replica each behind a router, whose way to them takes so long."""

    policy: str = "p2c"
    network_us: float = 0.0

    @property
    def router(self) -> str:
        """Policy of the router."""
        return self.policy

    @property
    def name(self) -> str:
        """Unique among the fleets."""
        return f"{self.model.name}-n{self.replicas}e-{self.policy}"

    def deployment(self, profile: Path, file: Path, planned_for: dict[str, Any] | None = None) -> Deployment:
        """What is served; paths are absolute."""
        return Deployment.model_validate(
            {
                "models": {
                    self.model.name: {
                        "profile": str(profile),
                        "backend": "emulated",
                        "batching": {"max_batch": self.model.max_batch, "window": f"{self.window_ms}ms"},
                        "queue": {"max_queue": fidelity.QUEUE_ROWS},
                        "replicas": {"count": self.replicas},
                    }
                },
                "pools": {"here": {"nodes": self.replicas, "cores": 1, "price": "0 USD/h"}},
                "router": {
                    "policy": self.policy,
                    "network": f"{round(self.network_us * 1000)}ns",
                    "network_origin": "measured",
                },
                "planned_for": planned_for,
            }
        )


def cells() -> list[Cell]:
    """All cells."""
    return [Cell(RoutedFleet(MODEL, NODES, True, policy=policy), load, "poisson") for policy, load in POINTS]


def with_service(calibrated: Path, folder: Path) -> Path:
    """A profile of the made-up service times, all else as in a calibrated one."""
    measured = files.load(calibrated, Profile)
    path = write_profile(folder, SERVICE, name="fleet")
    facts = measured.model.model_copy(update={"max_batch": max(SERVICE.rows), "batch_axis": 0})
    kept = {name: getattr(measured, name) for name in ("machine", "front", "client", "startup", "noise")}
    made = files.load(path, Profile).model_copy(update={**kept, "model": facts, "date": measured.date})
    files.save(path, made)
    return path


def network_us(fleet: RoutedFleet, profile: Path) -> float:
    """The way from the router to a node, and the same back, of this fleet on this machine now."""
    path = CACHE / "cells" / f"{fleet.name}-crossing.yaml"
    files.save(path, fleet.deployment(profile, path))
    with launch(path, fleet=True) as live:
        node = live.started["nodes"][0]["url"]
        return crossing(live.url, live.pid, node, fleet.model.name, CROSSINGS).network_us


def run_grid(again: bool = False) -> list[dict[str, Any]]:
    """Run what is missing; the newest run of each cell."""
    profile = with_service(fidelity.calibrated(MODELS[0], GRID.budget_s, again), CACHE / "profiles")
    done = []
    for cell in cells():
        kept = None if again else fidelity.latest(cell, files.sha256(profile))
        if kept is None:
            assert isinstance(cell.fleet, RoutedFleet)
            capacity = fidelity.capacity_rps(cell.fleet, profile, GRID)
            way_us = network_us(cell.fleet, profile)
            measured = replace(cell, fleet=replace(cell.fleet, network_us=way_us))
            kept = fidelity.run_cell(measured, profile, capacity, GRID, {"network_us": way_us})
        note(f"{cell.name}: {fidelity.in_short(kept['row'])}")
        done.append(kept)
    return done


def write_results(kept: Sequence[dict[str, Any]]) -> Path:
    """bench/results/fidelity_routed.json, and the generated part of docs/fidelity.md."""
    rows = [k["row"] for k in kept]
    head = report.provenance(
        schema_version=1,
        set=GRID.name,
        versions=machine.describe().versions,
        last_run=max((k["date"] for k in kept), default=now_text()),
        duration_s=GRID.duration_s,
        disturbed=sorted({k["row"]["model"] for k in kept if k["disturbed"]}),
        summary=fidelity_table.summary(rows),
    )
    path = report.save("fidelity_routed", head, rows)
    way_us = [k["network_us"] for k in kept]
    runs = [run for k in kept for run in k["report"]["runs"]]
    how = (
        f"The way to a node took {min(way_us):.0f} to {max(way_us):.0f} us; the router {_cores(runs, 'router_cores')}, "
        f"a front {_cores(runs, 'front_cores')} of a core (medians); strangers at most "
        f"{max(run['strangers_cores'] or 0.0 for run in runs):.2f} cores."
    )
    text = f"\n{report.told(head)} {how}\n\n{fidelity_table.markdown(rows, head)}\n"
    report.splice(report.DOCS / "fidelity.md", "fidelity_routed", text)
    return path


def _cores(runs: Sequence[dict[str, Any]], name: str) -> str:
    return f"{median(run[name] for run in runs):.3f}"


def main(argv: Iterable[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--again", action="store_true", help="calibrate and run again what is there")
    parser.add_argument("--tables", action="store_true", help="run nothing, write json and table of what is there")
    options = parser.parse_args(None if argv is None else list(argv))
    kept = [k for cell in cells() if (k := fidelity.latest(cell))] if options.tables else run_grid(options.again)
    if not kept:
        raise SystemExit("no cell has been run yet")
    note(f"written: {write_results(kept)}, docs/fidelity.md")


if __name__ == "__main__":
    main()
