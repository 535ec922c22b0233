"""The gateway: a router per model over the same nodes, and what runs between them and HTTP.

A deployment's models may be on different nodes: each node says which it serves when it enters the rotation. Each
model has a `serve.router.Router` of its own, whose candidates are the nodes in rotation that serve it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b

from serve.deployment import Deployment, Model
from serve.errors import EngineError
from serve.policy.codes import (
    NEVER_NS,
    OUTCOME_DRAINING,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_LOST,
    OUTCOME_OK,
    REASON_NODE,
    REASON_NONE,
)
from serve.policy.routing import DRAW_BITS, ROUTE_LEAST_WORK, ROUTE_SHORTEST_QUEUE
from serve.protocol import orca
from serve.proxy.forwarded import Forwarded
from serve.proxy.upstream import Call, Reply, Upstream, request
from serve.proxy.watch import Watch
from serve.router import A, Attempt, Needs, Routed, Router, Settings, settings_of
from serve.routing import Router as RouterSpec

log = logging.getLogger(__name__)

_ASK_LOAD = orca.ASKED + b": TEXT\r\n"


class Link:
    """The port of one model's router: HTTP calls to the nodes."""

    def __init__(self, gateway: Gateway, model: Model, settings: Settings, nodes: int) -> None:
        self.router = Router(settings, nodes, self, time.monotonic_ns)
        self._defaults = Needs(1, model.queue.default_priority, model.timeout_ns)
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._asks = (_ASK_LOAD,) if settings.policy in (ROUTE_SHORTEST_QUEUE, ROUTE_LEAST_WORK) else ()

    def send(self, attempt: Attempt) -> None:
        """Send an attempt to its node."""
        exchange: Forwarded = attempt.request.payload
        upstream = self._gateway.upstreams[attempt.node]
        data = request(upstream, b"POST", exchange.target, [*exchange.fields, *self._asks], exchange.body)
        attempt.call = Call(data, partial(self._ended, attempt))
        upstream.send(attempt.call)

    def _ended(self, attempt: Attempt, reply: Reply | None) -> None:
        attempt.call = None
        if reply is None:
            self.router.ended(attempt, OUTCOME_LOST, REASON_NODE)
        else:
            if reply.draining:
                self._gateway.watches[attempt.node].draining()
            self.router.ended(attempt, outcome_of(reply), REASON_NONE, reply.load, reply)
        self._gateway.settle()

    def needs(self, body: bytes, header_length: int | None) -> Needs:
        """What the buffer asks of a request with this body."""
        return needs_of(body, header_length, self._defaults)

    def cancel(self, attempt: Attempt) -> None:
        """Close the connection of an attempt."""
        attempt.call.cancel()

    def later(self, delay_ns: int, call: Callable[[A], None], about: A) -> asyncio.TimerHandle:
        """Call in a while."""
        return self._loop.call_later(delay_ns / 1e9, call, about)


class Gateway:
    """Nodes, their watches, and a router for each model, in the running event loop.

    Life: `start()`, `await ready_nodes(...)`, then `drain()`, `await drained()`, `close()`.

    Parameters
    ----------
    deployment : whose models are served, by its router's settings.
    row_ns : what a row is expected to take, by model (`settings_of`).
    addresses : (host, port) of each node, in the order of their numbers.
    seed : of the draws of random, p2c and backoff.
    """

    def __init__(
        self,
        deployment: Deployment,
        row_ns: Mapping[str, int],
        addresses: Sequence[tuple[str, int]],
        seed: int = 0,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.retry_after_ns = deployment.front.retry_after
        timing = deployment.router or RouterSpec()
        probe_s, propagation_s = timing.probe / 1e9, timing.propagation / 1e9
        self.upstreams = [Upstream(number, *address) for number, address in enumerate(addresses)]
        self.watches = [Watch(upstream, probe_s, propagation_s, self._turned) for upstream in self.upstreams]
        self.links = {
            name: Link(self, model, settings_of(deployment, name, row_ns.get(name, 1)), len(addresses))
            for name, model in deployment.models.items()
        }
        self.by_key = deployment.router is not None and deployment.router.policy == "affinity"
        self.draining = False
        self.drain_ns = NEVER_NS
        self._draw = random.Random(seed)
        self._drained = self.loop.create_future()
        self._entered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- nodes -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the nodes."""
        self._tasks = [self.loop.create_task(watch.run()) for watch in self.watches]

    def _turned(self) -> None:
        for name, link in self.links.items():
            link.router.rotate(self.nodes_of(name))
        self._entered.set()
        self.settle()

    def nodes_of(self, model: str) -> list[int]:
        """Nodes in rotation that serve a model."""
        return [n for n, watch in enumerate(self.watches) if watch.in_rotation and model in watch.models]

    @property
    def serving(self) -> bool:
        """Whether every model has a node in rotation."""
        return all(link.router.rotation for link in self.links.values())

    async def entered(self, every: bool) -> None:
        """Return when every model has a node in rotation; `every`: when all nodes are."""
        while not (self.draining or (self.serving and (not every or all(watch.in_rotation for watch in self.watches)))):
            self._entered.clear()
            await self._entered.wait()
            self._check_models()

    def _check_models(self) -> None:
        """EngineError if all nodes are in rotation, and one of the models is on none of them."""
        if all(watch.in_rotation for watch in self.watches):
            missing = [name for name, link in self.links.items() if not link.router.rotation]
            known = sorted(set().union(*(watch.models for watch in self.watches)))
            if missing:
                raise EngineError(f"no node serves {', '.join(missing)}; they serve {', '.join(known) or 'nothing'}")

    # -- requests ----------------------------------------------------------------------------------------

    def infer(self, link: Link, exchange: Forwarded) -> Routed:
        """Send an inference whose body is there."""
        bits = self._draw.getrandbits(2 * DRAW_BITS) if exchange.key is None else key_bits(exchange.key)
        routed = Routed(bits, exchange.ended, exchange.needs, exchange)
        link.router.arrive(routed)
        return routed

    # -- life --------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return not self.draining

    def drain(self) -> None:
        """Rule 12: what arrives from now on is refused, as is what waits for a node; what nodes have is answered."""
        if self.draining:
            return
        self.draining, self.drain_ns = True, time.monotonic_ns()
        self._entered.set()
        for link in self.links.values():
            link.router.drain()
        self.settle()

    def settle(self) -> None:
        """Notice the end of a drain."""
        if self.draining and not self._drained.done() and not any(link.router.present for link in self.links.values()):
            self._drained.set_result(None)

    async def drained(self) -> None:
        """Return when the router drains and everything that was inside has been answered."""
        await asyncio.shield(self._drained)

    def close(self) -> None:
        """Stop watching, and close every connection to nodes."""
        for task in self._tasks:
            task.cancel()
        for upstream in self.upstreams:
            upstream.lost = lambda: None
            upstream.close()


def key_bits(key: bytes) -> int:
    """What affinity hashes nodes with, of a request's key: 62 bits, the same in every process."""
    return int.from_bytes(blake2b(key, digest_size=8).digest()) >> 2


def outcome_of(reply: Reply) -> int:
    """What became of an attempt, by its node's answer (rule 1's statuses)."""
    status = reply.status
    if status == 503:
        return OUTCOME_DRAINING if reply.draining else OUTCOME_FULL
    if status == 504:
        return OUTCOME_EXPIRED
    if status >= 500:
        return OUTCOME_FAILED
    return OUTCOME_INVALID if status >= 400 else OUTCOME_OK


def needs_of(body: bytes, header_length: int | None, defaults: Needs) -> Needs:
    """Rows, priority and timeout of a request that must wait, read from its body as far as it can be read: whether
    it is right is for its node to say."""
    text = body if header_length is None else body[:header_length]
    try:
        asked = json.loads(text)
        parameters = asked.get("parameters", {})
        rows = int(asked["inputs"][0]["shape"][0])
        priority, timeout_us = int(parameters.get("priority", 0)), int(parameters.get("timeout", 0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return defaults
    return Needs(
        max(rows, 1),
        priority - 1 if priority > 0 else defaults.priority,
        timeout_us * 1000 if timeout_us > 0 else defaults.timeout_ns,
    )
