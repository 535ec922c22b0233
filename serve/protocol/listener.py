"""The listening socket, the connections that it hands out, and what they share.

An engine's is `serve.protocol.http`, a router's `serve.proxy.front`. A client's side is in
`serve.protocol.connection`.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import httptools

from serve.protocol import routes
from serve.protocol.connection import STALLED_S, Connection
from serve.protocol.errors import RequestError
from serve.protocol.exchange import Exchange

PACKAGE = "forebay"
BODY_BYTES_MAX = 64 * 2**20
ROUTES_KEPT = 4096
BACKLOG = 1024


class Listener:
    """The listening socket and its connections, in the running event loop.

    Life: `await start(host, port)`, then `await close()` once everything has been answered.
    """

    def __init__(self, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self.body_bytes_max = body_bytes_max
        self.length_digits = len(str(body_bytes_max))
        self.connections: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self.port = 0
        self._routes: dict[bytes, routes.Route] = {}
        self.responses: Counter[int] = Counter()
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def connection(self) -> Connection:
        """A client connects."""
        return Connection(self)

    def exchange(self, connection: Connection) -> Exchange:
        """A request begins to arrive on a connection."""
        raise NotImplementedError

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one, which `port` then says. OSError if the address is taken."""
        self._server = await self.loop.create_server(self.connection, host, port, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweep_stalled()

    async def close(self, grace_s: float = 5.0) -> None:
        """Stop listening, let answers under way leave for up to `grace_s`, and close every connection."""
        if self._server is not None:
            self._server.close()
        if self._sweep is not None:
            self._sweep.cancel()
        deadline_s = self.loop.time() + grace_s
        while self.connections and self.loop.time() < deadline_s:
            for connection in list(self.connections):
                if connection.transport is not None and connection.idle:
                    connection.transport.close()  # what was written still leaves
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @property
    def open_connections(self) -> int:
        """Number of clients connected."""
        return len(self.connections)

    def route(self, target: bytes) -> routes.Route:
        """The route of a target, kept; 404 or 400 if it has none."""
        route = self._routes.get(target)
        if route is None:
            route = routes.parse(_origin_form(target))
            if len(self._routes) >= ROUTES_KEPT:
                self._routes.clear()
            self._routes[target] = route
        return route

    def too_large(self) -> RequestError:
        """What a body over the limit is told."""
        return RequestError(413, f"the body is longer than {self.body_bytes_max} bytes")

    def _sweep_stalled(self) -> None:
        now_s = self.loop.time()
        for connection in list(self.connections):
            connection.give_up_if_stalled(now_s)
        self._sweep = self.loop.call_later(STALLED_S / 4, self._sweep_stalled)


def _origin_form(target: bytes) -> str:
    """Path and query of a target, which a proxy may have sent as a whole URL."""
    try:
        if not target.startswith(b"/"):
            target = httptools.parse_url(target).path or b"/"
        return target.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as error:
        raise RequestError(400, "the request's target is not a URL") from error
