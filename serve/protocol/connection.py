"""One client's connection: requests read with httptools, answers written in the order asked.

The callbacks of transport and parser. What becomes of one request is its `Exchange`'s concern; the
listening socket is `serve.protocol.listener`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from serve.policy.codes import REASON_NONE
from serve.protocol import orca
from serve.protocol.errors import Refusal, RequestError, brief
from serve.protocol.exchange import Exchange

if TYPE_CHECKING:
    from serve.protocol.listener import Listener

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 64 * 2**10
PIPELINED_MAX = 256
"""Requests of one connection that may be unanswered before no more is read from it."""
STALLED_S = 60.0
"""A request that began to arrive is given up when nothing came of it for so long."""
LINGER_S = 5.0
"""How long a client that sent what cannot be read may take to notice."""


class Connection(asyncio.Protocol):
    """One client's connection: the callbacks of the transport and of httptools' parser."""

    def __init__(self, front: Listener) -> None:
        self.front = front
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._pending: deque[Exchange] = deque()
        self._reading: Exchange | None = None  # the request whose bytes are arriving
        self._closing = False  # nothing more is read: an error ended the conversation
        self._given_up = False  # that error was the client's, who may still be sending
        self._paused = False
        self._writable = True
        self._target = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_head = False  # the header of `_reading` is not complete
        self._head_bytes = 0  # of it, apart from the first chunk's
        self._header_length: int | None = None
        self._problem: RequestError | None = None
        self._progress_s = 0.0  # loop time when bytes of an unfinished request last came

    # -- transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.front.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Rule 7: a client that hung up cancels what it still waited for."""
        self.front.connections.discard(self)
        self.transport = None
        self._closing = True
        self._reading = None
        del self._parser  # it refers to us by its callbacks
        for exchange in self._pending:
            exchange.hang_up()
        self._pending.clear()

    def eof_received(self) -> bool:
        """A client that shuts its side is taken to have hung up: close, which cancels."""
        return False

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more of its requests."""
        self._writable = False
        self._regulate()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable = True
        self._regulate()

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests, or of a part of one."""
        if self._closing:
            return
        unfinished = self._reading if self._in_head else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._close_when_answered()  # what follows is not HTTP/1: the answer is the last one
        except httptools.HttpParserCallbackError:
            log.exception("a request could not be read")
            self._give_up(RequestError(500, "internal error; the server's log has it"))
        except httptools.HttpParserError as error:
            self._give_up(RequestError(400, f"not an HTTP request: {error}"))
        if self._reading is not None:
            self._keep_in_bounds(unfinished, len(data))
        if len(self._pending) >= PIPELINED_MAX:
            self._regulate()

    def _keep_in_bounds(self, unfinished: Exchange | None, size: int) -> None:
        """A request is still arriving: note when, and bound a header that never ends."""
        self._progress_s = self.front.loop.time()
        if self._in_head and self._reading is unfinished:
            self._head_bytes += size
            if self._head_bytes > HEAD_BYTES_MAX:
                self._give_up(RequestError(431, f"the header is longer than {HEAD_BYTES_MAX} bytes"))

    # -- parser --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._closing:
            return
        self._target = b""
        self._in_head = True
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0
        self._header_length = None
        self._problem = None
        self._reading = self.front.exchange(self)

    def on_url(self, target: bytes) -> None:
        """A piece of the request's target."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        parse = _HEADERS.get(len(name))
        if parse is not None and self._reading is not None:
            try:
                parse(self, name.lower(), value)
            except RequestError as error:
                self._problem = self._problem or error

    def on_headers_complete(self) -> None:
        """The header is there: route it, and refuse it now if rule 10 or the drain says so."""
        exchange = self._reading
        self._in_head = False
        if exchange is None or self._closing:
            return
        self._pending.append(exchange)
        exchange.keep_alive = self._parser.should_keep_alive()
        method = self._parser.get_method().decode("ascii")
        exchange.head_only = method == "HEAD"
        try:
            exchange.begin(self._target, method)
        except RequestError as error:
            self._problem = self._problem or error
        if self._problem is not None and self._problem.status == 413:
            self._give_up(self._problem)
        elif exchange.wants_continue:
            self._continue()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        exchange = self._reading
        if exchange is None or self._closing:
            return
        exchange.wants_continue = False
        self._body_bytes += len(data)
        if self._body_bytes > self.front.body_bytes_max:
            self._give_up(self.front.too_large())
        elif exchange.refused == REASON_NONE and self._problem is None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        exchange, self._reading = self._reading, None
        if exchange is None or self._closing:
            return
        exchange.wants_continue = False
        self._closing = not exchange.keep_alive
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if self._problem is not None:
            exchange.refuse(Refusal(self._problem.status, str(self._problem)))
        else:
            exchange.complete(body, self._header_length)

    # -- headers that matter -------------------------------------------------------------------------

    def _on_header_length(self, name: bytes, value: bytes) -> None:
        if name == b"inference-header-content-length":
            length = _count(name, value)
            if self._header_length not in (None, length):
                both = f"{self._header_length} and {length}"
                raise RequestError(400, f"Inference-Header-Content-Length is given twice, {both}")
            self._header_length = length

    def _on_content_length(self, name: bytes, value: bytes) -> None:
        short = len(value) < self.front.length_digits  # the parser has seen to it that it is a number
        if not short and name == b"content-length" and _count(name, value) > self.front.body_bytes_max:
            raise self.front.too_large()

    def _on_content_encoding(self, name: bytes, value: bytes) -> None:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise RequestError(400, f"Content-Encoding {brief(value.decode('latin-1'))} is not supported")

    def _on_expect(self, name: bytes, value: bytes) -> None:
        if name == b"expect" and self._reading is not None:
            if value.strip().lower() != b"100-continue":
                raise RequestError(400, f"Expect {brief(value.decode('latin-1'))} is not supported")
            self._reading.wants_continue = True

    def _on_load_metrics(self, name: bytes, value: bytes) -> None:
        if name == orca.ASKED and self._reading is not None:
            self._reading.tells = value.strip().lower() == orca.TEXT

    # -- answers -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the answers whose turn has come."""
        pending, transport = self._pending, self.transport
        while pending and transport is not None and pending[0].data is not None:
            exchange = pending.popleft()
            transport.write(cast(bytes, exchange.data))
            if not exchange.keep_alive:
                pending.clear()
                self._close(transport)
                return
        if pending and pending[0].wants_continue:
            self._continue()
        if self._paused:
            self._regulate()

    def _close(self, transport: asyncio.Transport) -> None:
        """Close, once the client has had time to read why.

        To close on a client that still sends would reset the connection, and take the answer with it.
        So where an error ended the conversation, only our side is shut and what comes is thrown away.
        """
        self._closing = True
        if self._given_up:
            transport.write_eof()
            self.front.loop.call_later(LINGER_S, transport.abort)
        else:
            transport.close()

    def _continue(self) -> None:
        """Tell a client that waits for it to send its body; only when no earlier answer is outstanding."""
        exchange = self._pending[0]
        if exchange is self._reading and exchange.wants_continue and self.transport is not None:
            exchange.wants_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _give_up(self, error: RequestError) -> None:
        """Answer an error after which the bytes that follow cannot be understood: then close."""
        if self._closing:
            return
        self._closing = self._given_up = True
        exchange = self._reading or self.front.exchange(self)
        self._reading = None
        self._body = []
        if not self._pending or self._pending[-1] is not exchange:
            self._pending.append(exchange)
        exchange.keep_alive = False
        exchange.refuse(Refusal(error.status, str(error)))

    def _close_when_answered(self) -> None:
        self._closing = True
        if self._pending:
            self._pending[-1].keep_alive = False
        elif self.transport is not None:
            self.transport.close()

    def _regulate(self) -> None:
        """Read on only while the client reads its answers and has few requests unanswered."""
        pause = not self._closing and (not self._writable or len(self._pending) >= PIPELINED_MAX)
        if pause != self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def give_up_if_stalled(self, now_s: float) -> None:
        """Close a connection whose request began to arrive but does not go on."""
        if self._reading is not None and now_s - self._progress_s > STALLED_S:
            self._give_up(RequestError(400, f"the request did not arrive within {STALLED_S:.0f} s"))

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return not self._pending and self._reading is None


_HEADERS: dict[int, Callable[[Connection, bytes, bytes], None]] = {
    len(b"inference-header-content-length"): Connection._on_header_length,
    len(b"content-length"): Connection._on_content_length,
    len(b"content-encoding"): Connection._on_content_encoding,
    len(b"expect"): Connection._on_expect,
    len(orca.ASKED): Connection._on_load_metrics,
}
"""By the length of the name, so that the many fields that we ignore cost one look-up."""


def _count(name: bytes, value: bytes) -> int:
    text = value.strip()
    if not text.isdigit() or len(text) > 18:
        raise RequestError(400, f"{name.decode()} must be a number of bytes, got {brief(value.decode('latin-1'))}")
    return int(text)
