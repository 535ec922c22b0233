"""What the nodes of a deployment bill."""

from __future__ import annotations

from serve.deployment import Deployment


def usd_per_h(deployment: Deployment) -> float:
    """Price of all nodes per hour: what is billed, whether they work or idle."""
    return sum(pool.nodes * pool.price for pool in deployment.pools.values())
