"""What a deployment costs: the cores that its replicas hold and its front is busy on, at the pool's price.

`price x (replicas x threads + the front's busy cores) / cores`. Costs are compared in steps of
CORES_STEP: the front's CPU is not known more finely, and a cheaper thousandth would otherwise buy
any latency that the SLO just allows.
"""

from __future__ import annotations

import math

from serve.deployment import Deployment, Model, Pool
from serve.errors import SpecError
from serve.profile import FrontCosts

CORES_STEP = 0.05
"""Cores; deployments whose cores fall into the same step cost the same, and latency decides."""


def only_model(deployment: Deployment) -> tuple[str, Model]:
    """The one model of a deployment; planning several together comes with packing."""
    if len(deployment.models) != 1:
        raise SpecError.of(
            "scenario", "deployment.models", f"plan takes exactly one model, got {', '.join(deployment.models)}"
        )
    return next(iter(deployment.models.items()))


def is_fleet(deployment: Deployment) -> bool:
    """Whether it is more than one node with a fixed number of replicas that clients reach themselves."""
    scaled = any(model.replicas.autoscaler is not None for model in deployment.models.values())
    return scaled or deployment.router is not None or deployment.node_count != 1 or len(deployment.pools) != 1


def only_pool(deployment: Deployment) -> Pool:
    """The one pool of a deployment."""
    if len(deployment.pools) != 1:
        raise SpecError.of(
            "scenario", "deployment.pools", f"plan takes exactly one pool, got {', '.join(deployment.pools)}"
        )
    if deployment.node_count != 1:
        raise SpecError.of("scenario", "deployment.pools", f"plan takes one node, got {deployment.node_count}")
    return next(iter(deployment.pools.values()))


def cores_of(deployment: Deployment) -> int:
    """Cores of its one node; they were looked up when the scenario was read."""
    cores = only_pool(deployment).cores
    assert cores is not None, "a pool without cores has a type"
    return cores


def replica_cores(deployment: Deployment) -> int:
    """Cores that the replicas hold: replicas x threads, whatever the backend."""
    replicas = only_model(deployment)[1].replicas
    return replicas.count * replicas.threads


def usd_per_h(deployment: Deployment, front_cores: float) -> float:
    """The planner's price of a deployment whose front is busy on `front_cores` cores."""
    pool = only_pool(deployment)
    assert pool.price is not None, "a pool without a price has a type"
    return pool.price * pool.most * (replica_cores(deployment) + front_cores) / cores_of(deployment)


def cost_step(deployment: Deployment, front_cores: float) -> int:
    """Cost in whole steps of CORES_STEP: equal steps count as equally cheap."""
    return math.floor((replica_cores(deployment) + front_cores) / CORES_STEP + 1e-9)


def front_floor_cores(
    front: FrontCosts, requests_per_s: float, rows_per_s: float, max_batch: int, lost: float
) -> float:
    """The least CPU that the front needs: full batches only, `lost` of the requests refused for nothing.

    Admissible: no simulation of a candidate that loses at most `lost` can find less.
    """
    kib_in, kib_out = front.bytes_in_per_row / 1024, front.bytes_out_per_row / 1024
    per_request_us = front.parse_us + front.finish_request_us
    per_batch_us = front.finish_batch_us + front.dispatch_us
    in_us_per_kib = front.parse_us_per_kib + front.dispatch_us_per_kib
    per_row_us = in_us_per_kib * kib_in + front.finish_us_per_kib * kib_out + per_batch_us / max_batch
    return (1 - lost) * (requests_per_s * per_request_us + rows_per_s * per_row_us) / 1e6
