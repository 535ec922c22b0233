"""What the nodes of a deployment bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from serve.deployment import Deployment
from serve.fleet import Place


def usd_per_h(deployment: Deployment, places: Sequence[Place]) -> float:
    """Price per hour of all nodes that are there, whether they work or idle: those that hold replicas, and those that
    there always are."""
    holding = Counter(place.pool for place in places)
    return sum(max(pool.least, holding[name]) * pool.price for name, pool in deployment.pools.items())
