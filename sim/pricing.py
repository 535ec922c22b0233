"""What a deployment is billed by: its price book."""

from __future__ import annotations

from serve.deployment import Deployment
from sim.billing.prices import PriceBook, TypePrice


def book_of(deployment: Deployment) -> PriceBook:
    """The prices of a deployment's pools; the nodes of a pool are a type of their own."""
    return PriceBook({name: TypePrice(pool.price) for name, pool in deployment.pools.items()})
