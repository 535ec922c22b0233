"""What the router answers that is not an inference: its own health and metrics, and what its nodes say.

Metadata and configuration are one node's, word for word; statistics are the sums of all nodes in rotation, the index is
what any of them serves.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from serve.metrics import Metrics
from serve.policy.codes import OUTCOME_FULL, OUTCOME_LOST, REASON_NO_NODE, REASON_NODE
from serve.protocol import documents
from serve.protocol.answer import JSON_TYPE
from serve.protocol.errors import Refusal, refusal
from serve.protocol.listener import PACKAGE
from serve.proxy.forwarded import Forwarded
from serve.proxy.metrics import RouterCollector
from serve.proxy.upstream import Call, Reply, Upstream, request
from serve.proxy.watch import ask

if TYPE_CHECKING:
    from serve.proxy.front import RouterFront
    from serve.proxy.gateway import Gateway

log = logging.getLogger(__name__)


Gathered = Callable[[Forwarded, bytes], Awaitable[None]]


class Pages:
    """Answers to everything but inference."""

    def __init__(self, gateway: Gateway, front: RouterFront) -> None:
        self._gateway = gateway
        self._metrics = Metrics(RouterCollector(gateway, front))
        self._own: dict[str, Callable[[Forwarded], None]] = {
            "server": lambda exchange: _json(exchange, documents.server_metadata(version(PACKAGE))),
            "live": lambda exchange: _json(exchange, {"live": True}),
            "ready": self._ready,
            "model_ready": self._model_ready,
            "metrics": self._metrics_page,
        }
        self._gathered: dict[str, Gathered] = {
            "stats": self._stats,
            "index": self._index,
        }
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, exchange: Forwarded, body: bytes) -> None:
        """Answer a page, now or when nodes have."""
        assert exchange.route is not None
        kind = exchange.route.kind
        if kind in self._own:
            self._own[kind](exchange)
        elif kind in self._gathered:
            task = self._gateway.loop.create_task(self._guarded(self._gathered[kind], exchange, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._forward(exchange, body)

    async def _guarded(self, page: Gathered, exchange: Forwarded, body: bytes) -> None:
        try:
            await page(exchange, body)
        except Exception:
            log.exception("%s could not be answered", exchange.route)
            exchange.refuse(Refusal(500, "internal error; the router's log has it"))

    # -- its own -----------------------------------------------------------------------------------------

    def _ready(self, exchange: Forwarded) -> None:
        ready = self._gateway.ready and self._gateway.serving
        _json(exchange, {"ready": ready}, 200 if ready else 503)

    def _model_ready(self, exchange: Forwarded) -> None:
        assert exchange.route is not None and exchange.link is not None
        ready = self._gateway.ready and bool(exchange.link.router.rotation)
        _json(exchange, {"name": exchange.route.model, "ready": ready}, 200 if ready else 400)

    def _metrics_page(self, exchange: Forwarded) -> None:
        text, content_type = self._metrics.render()
        exchange.respond(200, f"Content-Type: {content_type}\r\n".encode(), [text])

    # -- the nodes' --------------------------------------------------------------------------------------

    def _nodes(self, exchange: Forwarded) -> list[Upstream]:
        """Nodes in rotation that have the model asked for, or any; none: that is answered."""
        assert exchange.route is not None
        model, watches = exchange.route.model, self._gateway.watches
        found = [w.upstream for w in watches if w.in_rotation and (not model or model in w.models)]
        if not found:
            exchange.refuse(refusal(OUTCOME_FULL, REASON_NO_NODE, self._gateway.retry_after_ns))
        return found

    def _forward(self, exchange: Forwarded, body: bytes) -> None:
        """One node's answer, word for word."""
        nodes = self._nodes(exchange)
        if not nodes:
            return
        assert exchange.route is not None
        method = exchange.route.method.encode()

        def done(reply: Reply | None) -> None:
            if reply is None:
                exchange.refuse(refusal(OUTCOME_LOST, REASON_NODE, 0))
            else:
                exchange.pass_on(reply)

        nodes[0].send(Call(request(nodes[0], method, exchange.target, exchange.fields, body), done))

    async def _gather(self, exchange: Forwarded, body: bytes) -> list[Any]:
        """The JSON that each node answers; those that do not answer, or with an error, are left out. Of all of them the
        first error is passed on."""
        assert exchange.route is not None
        nodes, method = self._nodes(exchange), exchange.route.method.encode()
        replies = await asyncio.gather(*(ask(node, method, exchange.target, body) for node in nodes))
        good = [json.loads(b"".join(reply.body)) for reply in replies if reply is not None and reply.status == 200]
        if nodes and not good:
            bad = next((reply for reply in replies if reply is not None), None)
            if bad is None:
                exchange.refuse(refusal(OUTCOME_LOST, REASON_NODE, 0))
            else:
                exchange.pass_on(bad)
        return good

    async def _stats(self, exchange: Forwarded, body: bytes) -> None:
        pages = await self._gather(exchange, body)
        if pages:
            _json(exchange, {"model_stats": summed(entry for page in pages for entry in page["model_stats"])})

    async def _index(self, exchange: Forwarded, body: bytes) -> None:
        pages = await self._gather(exchange, body)
        if pages:
            _json(exchange, united(entry for page in pages for entry in page))


def summed(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Statistics of several nodes: one entry a model and version, counts and times added, the latest instant."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        key = (entry["name"], entry["version"])
        found[key] = _added(found[key], entry) if key in found else entry
    return list(found.values())


def _added(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(one, dict):
        return {name: _added(one[name], other[name], name) if name in other else one[name] for name in one} | {
            name: value for name, value in other.items() if name not in one
        }
    if isinstance(one, list):
        named = {"batch_stats": "batch_size", "memory_usage": "type"}.get(key)
        if named is None:
            return one
        rows = {entry[named]: entry for entry in one}
        for entry in other:
            rows[entry[named]] = _added(rows[entry[named]], entry) if entry[named] in rows else entry
        return [rows[name] for name in sorted(rows)]
    if isinstance(one, int) and key not in ("batch_size", "id"):
        return max(one, other) if key == "last_inference" else one + other
    return one


def united(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The index of several nodes: a model is ready if it is on any of them."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        key = (entry["name"], entry.get("version", ""))
        if key not in found or entry.get("state") == "READY":
            found[key] = entry
    return list(found.values())


def _json(exchange: Forwarded, value: Any, status: int = 200) -> None:
    """Answer with JSON; with a status that is not 200 it says what is wrong under `error` as well."""
    if status != 200:
        value = {**value, "error": "not ready"}
    exchange.respond(status, JSON_TYPE, [json.dumps(value).encode()])
