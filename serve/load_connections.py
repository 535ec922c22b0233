"""The load generator's keep-alive connections: opened and warmed ahead, one request at a time on each."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time

import httptools

READ_BYTES = 1 << 18
SO_TIMESTAMPNS = 35
"""Linux: have recvmsg say when the kernel received what it returns (CLOCK_REALTIME, `struct timespec`)."""
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
WARM_TIMEOUT_S = 10.0


class Connection:
    """One keep-alive connection; as httptools' protocol it hears of its answer."""

    __slots__ = ("broken", "complete", "out", "parser", "request", "retry_after_s", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.parser = httptools.HttpResponseParser(self)
        self.request = -1  # its index in the client's columns
        self.out = b""  # what the socket would not take yet
        self.complete = False
        self.broken = False
        self.retry_after_s = 0.0

    def receive(self) -> tuple[bytes, int]:
        """What has arrived, and when the kernel received the last of it, in ns of CLOCK_MONOTONIC.

        The kernel's instant does not depend on when this process gets to run, which is the load
        generator's own business and no latency of the server.
        """
        data, ancillary, _, _ = self.sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES)
        now_ns = time.monotonic_ns()
        for _, kind, value in ancillary:
            if kind == SO_TIMESTAMPNS:
                seconds, ns = _TIMESPEC.unpack(value)
                return data, now_ns - max(0, time.time_ns() - (seconds * 1_000_000_000 + ns))
        return data, now_ns

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only a refusal's Retry-After matters; ours says it in whole seconds, then in ms, and the last wins."""
        unit_s = {b"retry-after": 1.0, b"retry-after-ms": 1e-3}.get(name.lower()) if len(name) in (11, 14) else None
        if unit_s is not None:
            try:
                self.retry_after_s = float(value) * unit_s
            except ValueError:
                self.retry_after_s = 0.0

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self.complete = True
        self.broken = not self.parser.should_keep_alive()


class Connections:
    """All connections to one server, and which of them are free; `epoll` hears of their answers."""

    def __init__(self, address: tuple[str, int], epoll: select.epoll) -> None:
        self.address = address
        self.by_fd: dict[int, Connection] = {}
        self.free: list[Connection] = []
        self._epoll = epoll

    def __len__(self) -> int:
        return len(self.by_fd)

    def open(self) -> Connection:
        """A new connection; the handshake goes on while we do (a send before its end waits for EPOLLOUT)."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        code = sock.connect_ex(self.address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            raise OSError(code, f"cannot connect to {self.address[0]}:{self.address[1]}: {os.strerror(code)}")
        connection = Connection(sock)
        self.by_fd[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return connection

    def close(self, connection: Connection) -> None:
        """Forget a connection, in use or free."""
        del self.by_fd[connection.sock.fileno()]
        self._epoll.unregister(connection.sock.fileno())
        connection.sock.close()
        if connection in self.free:
            self.free.remove(connection)

    def push(self, connection: Connection, data: bytes) -> None:
        """Send what the socket takes now; the rest when it is writable. Raises OSError if the connection is lost."""
        try:
            count = connection.sock.send(data)
        except BlockingIOError:
            count = 0
        if count < len(data) or connection.out:
            connection.out = data[count:]
            mask = select.EPOLLIN | select.EPOLLOUT if connection.out else select.EPOLLIN
            self._epoll.modify(connection.sock.fileno(), mask)

    def warm(self, count: int) -> None:
        """Have `count` connections open that the server has answered on once. Raises OSError."""
        for _ in range(count - len(self.by_fd)):
            self.free.append(self._warm_one())

    def _warm_one(self) -> Connection:
        connection = self.open()
        try:
            self._ask(connection)
        except httptools.HttpParserError as error:
            self.close(connection)
            raise ConnectionError(f"{self._host} does not speak HTTP: {error}") from error
        except OSError:
            self.close(connection)
            raise
        return connection

    def _ask(self, connection: Connection) -> None:
        """One exchange, waiting for it: the server has accepted the connection and keeps it alive."""
        connection.sock.settimeout(WARM_TIMEOUT_S)
        connection.sock.sendall(f"GET /v2/health/live HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        while not connection.complete:
            data = connection.sock.recv(READ_BYTES)
            if not data:
                raise ConnectionError(f"{self._host} closed a connection before it had answered /v2/health/live")
            connection.parser.feed_data(data)
        if connection.broken:
            raise ConnectionError(f"{self._host} does not keep connections alive, which a replay needs")
        connection.complete = False
        connection.sock.setblocking(False)

    @property
    def _host(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"
