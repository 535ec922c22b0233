"""The router's listening socket: clients' requests are forwarded, a few pages are its own."""

from __future__ import annotations

import time

from serve.protocol.connection import Connection
from serve.protocol.listener import BODY_BYTES_MAX, Listener
from serve.proxy.forwarded import ClientConnection, Forwarded
from serve.proxy.gateway import Gateway
from serve.proxy.pages import Pages


class RouterFront(Listener):
    """A router's listening socket and its connections."""

    clock = staticmethod(time.monotonic_ns)

    def __init__(self, gateway: Gateway, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        super().__init__(body_bytes_max)
        self.gateway = gateway
        self.pages = Pages(gateway, self)

    def connection(self) -> ClientConnection:
        """A client connects."""
        return ClientConnection(self)

    def exchange(self, connection: Connection) -> Forwarded:
        """A request begins to arrive on a connection."""
        return Forwarded(self, connection)
