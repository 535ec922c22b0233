"""One request that the router forwards, and its answer; and the client's connection that it came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from serve.policy.codes import OUTCOME_DRAINING, REASON_DRAINING, REASON_NONE
from serve.protocol import orca
from serve.protocol.connection import Connection
from serve.protocol.errors import RequestError, brief, refusal
from serve.protocol.exchange import Exchange
from serve.router import Ended, Needs, Routed

if TYPE_CHECKING:
    from serve.proxy.front import RouterFront
    from serve.proxy.gateway import Link
    from serve.proxy.upstream import Reply

NOT_FORWARDED = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        orca.ASKED,
    )
)
"""Fields of a request that are between client and router (RFC 9110, 7.6.1), or that the router writes itself."""


KEY = b"forebay-affinity"
"""Field of a request: what belongs together. A router of policy affinity sends what has one key to one node."""


class Forwarded(Exchange):
    """One request to the router, which may also be for a page, and its answer."""

    __slots__ = ("body", "fields", "front", "header_length", "key", "link", "routed", "target")

    def __init__(self, front: RouterFront, connection: Connection) -> None:
        super().__init__(connection, front.clock())
        self.front = front
        self.target = b""
        self.fields: list[bytes] = []  # lines of the header, each with its end, but those of NOT_FORWARDED
        self.body = b""
        self.header_length: int | None = None
        self.key: bytes | None = None
        self.link: Link | None = None
        self.routed: Routed | None = None

    def begin(self, target: bytes, method: str) -> None:
        """The header is there: which model it is for, and whether the drain refuses it. RequestError: 400, 404, 405."""
        super().begin(target, method)
        self.target = target
        assert self.route is not None
        if self.route.model:
            self.link = self.front.gateway.links.get(self.route.model)
            if self.link is None:
                known = ", ".join(self.front.gateway.links)
                raise RequestError(404, f"unknown model {brief(self.route.model)}; served: {known}")
        gateway = self.front.gateway
        if self.route.kind == "infer" and gateway.draining and self.arrival_ns > gateway.drain_ns:
            self.refused = REASON_DRAINING

    def complete(self, body: bytes, header_length: int | None) -> None:
        """Send an inference to a node; have anything else answered."""
        assert self.route is not None
        if self.route.kind != "infer":
            self.front.pages.answer(self, body)
        elif self.refused != REASON_NONE:
            self.refuse(refusal(OUTCOME_DRAINING, REASON_DRAINING, self.front.gateway.retry_after_ns))
        else:
            assert self.link is not None
            self.body, self.header_length = body, header_length
            routed = self.front.gateway.infer(self.link, self)
            if self.data is None:
                self.routed = routed

    def hang_up(self) -> None:
        """Rule 7: the node that has it learns of it."""
        routed, self.routed = self.routed, None
        if routed is not None and self.link is not None and self.data is None:
            self.link.router.give_up(routed)
            self.front.gateway.settle()

    def needs(self) -> Needs:
        """Rows, priority and timeout, of a request that has to wait for a node."""
        assert self.link is not None
        return self.link.needs(self.body, self.header_length)

    def ended(self, ended: Ended) -> None:
        """The router's last word: the node's own answer, or why there is none."""
        self.routed = None
        if ended.answer is None:
            retry_after_ns = self.front.gateway.retry_after_ns
            self.refuse(refusal(ended.outcome, ended.reason, retry_after_ns))
        else:
            self.pass_on(ended.answer)

    def pass_on(self, reply: Reply) -> None:
        """Answer with a node's answer."""
        fields = b"".join(reply.fields)
        if self.tells and reply.load is not None:
            fields += orca.field(reply.load)
        self.respond(reply.status, fields, reply.body)


class ClientConnection(Connection):
    """A client's connection to the router: keeps the header fields that nodes are to see."""

    def __init__(self, front: RouterFront) -> None:
        super().__init__(front)
        self.by_key = front.gateway.by_key

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        super().on_header(name, value)
        key = name.lower()
        if self._reading is not None and key not in NOT_FORWARDED:
            exchange = cast(Forwarded, self._reading)
            exchange.fields.append(b"%s: %s\r\n" % (name, value))
            if key == KEY and self.by_key:
                exchange.key = value
