"""What the live router costs: the way through it and back, and its CPU time per request.

    python -m bench.router [--rounds N] [--requests N]

Two engines of a small model behind the router; wrong requests are asked of the router and of an engine itself in turn
(`serve.proxy.crossing`), round by round. Writes bench/results/router.json and the table in docs/router.md: a measured
value for the `router.network` of simulations of one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import report
from serve import machine
from serve.launch import launch
from serve.proxy.crossing import Crossing, crossing
from tests.serve.models import mlp

PAGE = report.DOCS / "router.md"
POLICIES = ("round_robin", "p2c", "shortest_queue")
COLUMNS = {
    "policy": "policy",
    "rounds": "rounds",
    "direct_us": "an engine itself, us",
    "routed_us": "through the router, us",
    "network_us": "`network`, us",
    "network_low_us": "lowest round",
    "network_high_us": "highest round",
    "cpu_us": "CPU of the router, us a request",
}


def deployment(folder: Path, policy: str) -> Path:
    """Two nodes, an engine each, written to a file."""
    mlp(folder / "mlp.onnx", width=64, hidden=64, outputs=10)
    content = {
        "schema_version": 1,
        "models": {"mlp": {"file": "mlp.onnx", "profile": "none.yaml", "replicas": {"count": 2}}},
        "pools": {"here": {"nodes": 2, "cores": 1, "price": "0 USD/h"}},
        "router": {"policy": policy},
    }
    path = folder / f"{policy}.json"
    path.write_text(json.dumps(content))
    return path


def measure(policy: str, rounds: int, requests: int) -> tuple[list[Crossing], float]:
    """So many rounds in front of one fleet; and the cores that strangers took meanwhile."""
    with tempfile.TemporaryDirectory() as name, launch(deployment(Path(name), policy), fleet=True) as live:
        node = live.started["nodes"][0]["url"]
        before = machine.cpu_times(time.monotonic(), [os.getpid()])
        found = [crossing(live.url, live.pid, node, "mlp", requests) for _ in range(rounds)]
        return found, before.strangers_share(machine.cpu_times(time.monotonic(), [os.getpid()]))


def row_of(policy: str, found: Sequence[Crossing]) -> dict[str, Any]:
    """Medians over the rounds."""
    network_us = [each.network_us for each in found]
    return {
        "policy": policy,
        "rounds": len(found),
        "direct_us": median(each.direct_us for each in found),
        "routed_us": median(each.routed_us for each in found),
        "network_us": median(network_us),
        "network_low_us": min(network_us),
        "network_high_us": max(network_us),
        "cpu_us": median(each.cpu_us for each in found),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.router", description="What the live router costs.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each policy (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=1000, help="each way in a round (default: %(default)s)")
    told = parser.parse_args(arguments)
    found = {policy: measure(policy, told.rounds, told.requests) for policy in POLICIES}
    rows = [row_of(policy, crossings) for policy, (crossings, _) in found.items()]
    strangers_cores = max(cores for _, cores in found.values())
    head = report.provenance(rounds=told.rounds, requests=told.requests, strangers_cores=strangers_cores)
    print(report.save("router", head, rows))
    how = f"Other programs took {strangers_cores:.2f} cores meanwhile."
    text = f"{report.told(head)} {how}\n\n{report.table(rows, COLUMNS)}"
    report.splice(PAGE, "router", text)
    print(text)


if __name__ == "__main__":
    main()
