"""A node as the router reaches it: kept connections, one request at a time on each, answers read whole.

Connections are opened when none is free and kept until the node closes them. One that the node closes, in use or not,
says that the node may be gone: `lost` is called.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools

from serve.protocol import orca
from serve.protocol.answer import DRAINING
from serve.protocol.orca import Load

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        orca.TOLD,
        DRAINING.lower(),
    )
)
"""Fields of an answer that are between router and node (RFC 9110, 7.6.1), or that the router writes itself."""


@dataclass(slots=True)
class Reply:
    """A node's whole answer."""

    status: int
    fields: list[bytes] = field(default_factory=list)  # lines, each with its end, but those of HOP_BY_HOP
    body: list[bytes] = field(default_factory=list)
    load: Load | None = None
    draining: bool = False


class Call:
    """A request on its way to a node. `done` is called once, with None if the connection was lost, unless cancelled."""

    __slots__ = ("connection", "data", "done")

    def __init__(self, data: Sequence[bytes], done: Callable[[Reply | None], None]) -> None:
        self.data = data
        self.done: Callable[[Reply | None], None] | None = done
        self.connection: NodeConnection | None = None

    def cancel(self) -> None:
        """The answer is not waited for: the connection is closed, which tells the node (rule 7)."""
        self.done = None
        if self.connection is not None:
            self.connection.close()

    def end(self, reply: Reply | None) -> None:
        """Tell of the answer."""
        done, self.done, self.connection = self.done, None, None
        if done is not None:
            done(reply)


def request(upstream: Upstream, method: bytes, target: bytes, fields: Sequence[bytes], body: bytes) -> list[bytes]:
    """The bytes of a request, in parts; `fields` are header lines, each with its end."""
    head = b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (method, target, upstream.name.encode())
    return [head, *fields, b"Content-Length: %d\r\n\r\n" % len(body), body]


class Upstream:
    """One node, by its number among the router's."""

    def __init__(self, number: int, host: str, port: int) -> None:
        self.number, self.host, self.port = number, host, port
        self.lost: Callable[[], None] = lambda: None
        self.free: list[NodeConnection] = []
        self.connections: set[NodeConnection] = set()
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Address, as metrics and logs show it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def send(self, call: Call) -> None:
        """Send a request on a free connection, or on a new one; its end is never told before this returns."""
        if self.free:
            self.free.pop().begin(call)
            return
        task = self._loop.create_task(self._open(call))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, call: Call) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self._loop.create_connection(lambda: NodeConnection(self), self.host, self.port)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log.error("%s: no more connections can be opened: %s", self.name, error)
            else:
                self.lost()
            call.end(None)
            return
        if call.done is None:
            connection.rest()
        else:
            connection.begin(call)

    def close(self) -> None:
        """Close every connection, in use or not."""
        for task in list(self._opening):
            task.cancel()
        for connection in list(self.connections):
            connection.close()


class NodeConnection(asyncio.Protocol):
    """One kept connection: the callbacks of the transport and of httptools' parser."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._call: Call | None = None
        self._reply = Reply(0)
        self._complete = self._keeps = self._closed = False

    def begin(self, call: Call) -> None:
        """Send a request; nothing else is under way here."""
        assert self._call is None
        self._call, call.connection = call, self
        self._reply, self._complete = Reply(0), False
        if self._transport is None or self._transport.is_closing():
            self._upstream._loop.call_soon(self._gone)
        else:
            self._transport.writelines(call.data)

    def rest(self) -> None:
        """Nothing is under way: the next request may have it."""
        self._call = None
        self._upstream.free.append(self)

    def close(self) -> None:
        """End it; nobody is told."""
        self._call, self._closed = None, True
        if self in self._upstream.free:
            self._upstream.free.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def _gone(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.end(None)

    # -- transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed; by the node, unless we did it."""
        self._transport = None
        self._upstream.connections.discard(self)
        if self in self._upstream.free:
            self._upstream.free.remove(self)
        if not self._closed:
            self._upstream.lost()
            self._gone()

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            log.warning("%s: not an HTTP answer: %s", self._upstream.name, error)
            if self._transport is not None:
                self._transport.abort()
            return
        if self._complete:
            self._answered()

    def _answered(self) -> None:
        call, self._call, self._complete = self._call, None, False
        if not self._keeps:
            self.close()
        elif call is not None:
            self.rest()
        if call is not None:
            call.end(self._reply)

    # -- parser --------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the answer's header."""
        key = name.lower()
        if key not in HOP_BY_HOP:
            self._reply.fields.append(b"%s: %s\r\n" % (name, value))
        elif key == orca.TOLD:
            self._reply.load = orca.read(value)
        elif key == DRAINING.lower():
            self._reply.draining = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._reply.body.append(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._reply.status, self._keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._complete = True
