"""One request and its answer, as its connection sees them: answered in the connection's order.

Its bytes come from and go to `serve.protocol.connection`; what becomes of the request is decided by who
derives from this: the engine's front (`serve.protocol.inference`) or the router (`serve.proxy.forwarded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from serve.policy.codes import REASON_NONE
from serve.protocol import answer
from serve.protocol.errors import Refusal, RequestError
from serve.protocol.routes import GET, Route
from serve.protocol.tensors import Buffer

if TYPE_CHECKING:
    from serve.protocol.connection import Connection


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "__weakref__",
        "arrival_ns",
        "connection",
        "data",
        "head_only",
        "keep_alive",
        "refused",
        "route",
        "tells",
        "wants_continue",
    )

    def __init__(self, connection: Connection, arrival_ns: int) -> None:
        self.connection = connection
        self.arrival_ns = arrival_ns
        self.keep_alive = True
        self.head_only = False
        self.wants_continue = False
        self.tells = False  # the answer is to say what load there is (`serve.protocol.orca`)
        self.refused = REASON_NONE
        self.route: Route | None = None
        self.data: bytes | None = None  # the whole response, once there is one

    def begin(self, target: bytes, method: str) -> None:
        """The header is there: its route, and whether it is refused at once. RequestError: 400, 404, 405."""
        route = self.route = self.connection.front.route(target)
        if method != route.method and not (self.head_only and route.method == GET):
            raise RequestError(405, f"{target.decode('latin-1'):.200} takes {route.method}, not {method}")

    def complete(self, body: bytes, header_length: int | None) -> None:
        """All of the request is there."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """The client has gone (rule 7)."""
        raise NotImplementedError

    # -- the answer ----------------------------------------------------------------------------------

    def refuse(self, what: Refusal) -> None:
        """Answer with an error."""
        fields, body = answer.refused(what)
        if what.status == 405 and self.route is not None:
            fields += b"Allow: %s\r\n" % self.route.method.encode()
        self.respond(what.status, fields, body)

    def respond(self, status: int, fields: bytes, body: Sequence[Buffer]) -> None:
        """Answer; the parts of `body` are copied before this returns."""
        self.connection.front.responses[status] += 1
        self.data = answer.response(status, fields, body, keep_alive=self.keep_alive, head_only=self.head_only)
        self.connection.flush()
