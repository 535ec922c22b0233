"""Nodes that answer as a test says, and a router in front of them, all in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from serve.deployment import Deployment
from serve.files import parse
from serve.proxy.front import RouterFront
from serve.proxy.gateway import Gateway
from tests.serve.live import in_loop

INDEX = b'[{"name": "m", "version": "1", "state": "READY"}]'


@dataclass
class Message:
    """A request or an answer, as it came."""

    first: str
    fields: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first.split()[1])

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


async def read(stream: asyncio.StreamReader) -> Message:
    """The next message; IncompleteReadError if there is none."""
    head = (await stream.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Message(head[0], fields, await stream.readexactly(int(fields.get("content-length", 0))))


def answer(status: int = 200, body: bytes = b"{}", *fields: str) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status} Whatever", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Script = Callable[[Message], "bytes | Awaitable[bytes | None] | None"]
"""What a node says to a request; None: it closes the connection."""


@dataclass
class Node:
    """A server: health and index as `ready` says, everything else as the script does."""

    script: Script = lambda _: answer()
    ready: bool = True
    port: int = 0
    seen: list[Message] = field(default_factory=list)
    connections: int = 0
    hung_up: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> Node:
        """Listen, on the port that it had before if there is one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (said := await self._answer(await read(reader), reader)) is not None:
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def _answer(self, message: Message, reader: asyncio.StreamReader) -> bytes | None:
        target = message.first.split()[1]
        if target == "/v2/health/ready":
            return answer(200 if self.ready else 503)
        if target == "/v2/repository/index":
            return answer(200, INDEX)
        self.seen.append(message)
        said = self.script(message)
        if said is None or isinstance(said, bytes):
            return said
        waiting, gone = asyncio.ensure_future(said), asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            self.hung_up += 1
            waiting.cancel()
            return None
        gone.cancel()
        await asyncio.wait((gone,))
        return waiting.result()

    async def stop(self) -> None:
        """Listen no more; connections that are open stay."""
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)


def deployment(**router: Any) -> Deployment:
    """A model `m` behind a router, whose probes and rotations take no time worth waiting for."""
    data = {
        "models": {"m": {"backend": "emulated", "profile": "p.yaml", "queue": {"max_queue": 2, "priority_levels": 2}}},
        "pools": {"here": {"nodes": 2, "cores": 2, "price": "0 USD/h"}},
        "router": {"policy": "round_robin", "probe": "20ms", "propagation": "0s"} | router,
    }
    return parse(data, Deployment, "d.yaml")


class Client:
    """One kept connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, target: str, body: bytes | None = None, *fields: str) -> None:
        """A request: POST if there is a body."""
        lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/1.1", "Host: router", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    async def ask(self, target: str, body: bytes | None = None, *fields: str) -> Message:
        """A request and its answer."""
        self.send(target, body, *fields)
        return await read(self.reader)

    async def infer(self, body: bytes = b"{}") -> Message:
        """An inference of `m`."""
        return await self.ask("/v2/models/m/infer", body)


@dataclass
class Site:
    """A router over some nodes."""

    gateway: Gateway
    front: RouterFront
    nodes: tuple[Node, ...]
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        """Another client."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.front.port))
        self.clients.append(client)
        return client

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that nobody tells of."""
        while not true():
            await asyncio.sleep(0.001)

    async def rotation(self, *nodes: int) -> None:
        """Wait until just these are in rotation."""
        await self.until(lambda: self.gateway.links["m"].router.rotation == nodes)

    async def close(self) -> None:
        """End it."""
        for client in self.clients:
            client.writer.close()
        self.gateway.close()
        await self.front.close(0.0)


_open: list[Site] = []


def play(story: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine in a loop of its own, and end the sites that it made, and their nodes."""

    async def whole() -> None:
        try:
            await story()
        finally:
            for made in _open:
                await made.close()
            for node in {id(node): node for made in _open for node in made.nodes}.values():
                await node.stop()
                await _open[0].until(lambda node=node: node.connections == 0)
            _open.clear()

    in_loop(whole)


async def site(*nodes: Node, wait: bool = True, **router: Any) -> Site:
    """A router in front of these nodes; all that are ready are in rotation, if `wait`."""
    gateway = Gateway(deployment(**router), {}, [("127.0.0.1", node.port) for node in nodes])
    front = RouterFront(gateway)
    await front.start("127.0.0.1", 0)
    gateway.start()
    made = Site(gateway, front, nodes)
    _open.append(made)
    if wait:
        await made.rotation(*(number for number, node in enumerate(nodes) if node.ready))
    return made
