"""A connection without sockets: fed with bytes in the test's own order, its answers kept on a tape."""

import asyncio
from collections.abc import Callable

from serve.protocol.connection import Connection
from serve.protocol.http import HttpFront
from tests.serve.protocol.client import Replies, Reply
from tests.serve.protocol.stub_engine import StubEngine, served_model


class Tape:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        assert not self.closed, "wrote after closing"
        self.written += data

    def close(self) -> None:
        self.closed = True

    write_eof = abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def converse(
    chunks: list[bytes],
    then: Callable[[Connection], None] | None = None,
    engine: StubEngine | None = None,
) -> tuple[list[Reply], Tape, StubEngine]:
    """Feed the chunks to a new connection, then call `then` with it: its replies, the transport and the engine."""
    engine, tape = engine or StubEngine(served_model()), Tape()

    async def run() -> None:
        connection = Connection(HttpFront(engine, body_bytes_max=10_000))
        connection.connection_made(tape)
        for chunk in chunks:
            connection.data_received(chunk)
        if then is not None:
            then(connection)
        connection.connection_lost(None)

    asyncio.run(run())
    replies = Replies()
    replies.feed(tape.written)
    return replies.done, tape, engine
