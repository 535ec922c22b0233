"""The load generator's own process: an epoll loop over keep-alive connections, woken by a timerfd.

Started by `serve.loadgen`, which talks to it over a socket pair: jobs in, results out; when that pair
closes, because the parent is done or dead, the process ends. It knows no tensors: a job brings the
finished bytes of each form of request. Plain epoll, not asyncio, because it should cost few
microseconds a request and never sit between a due instant and its send.
"""

from __future__ import annotations

import contextlib
import gc
import select
import time
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from multiprocessing.connection import Connection as Pipe

import httptools
import numpy as np

from serve import clock
from serve.load_connections import Connection, Connections
from serve.load_plan import ID_DIGITS, Form, Ints
from serve.policy.codes import NEVER_NS

LEAD_NS = 5_000_000
"""From the start of a replay to instant zero: time to arm the timer."""
PROGRESS_NS = 250_000_000
STATUS_NONE = 0
"""Status of a request that was never answered."""
STATUS_CANCELLED = 499
"""Status of a request whose client hung up (nginx's number, which Triton's client knows too)."""


@dataclass(frozen=True)
class Job:
    """One replay: see `serve.load_plan` for the meaning of each."""

    forms: list[Form]
    open_at_ns: Ints
    open_form: list[int]
    open_patience_ns: Ints | None
    closed_first_ns: Ints
    closed_think_ns: Ints
    closed_thinks_ns: Ints | None
    closed_form: list[int]
    closed_until_ns: int
    retry_after_ns: int
    open_first_id: int
    closed_first_id: int
    connections: int
    connections_max: int
    grace_ns: int
    progress: bool


@dataclass(frozen=True)
class Done:
    """What became of a job: int64 arrays by request in order of intended instant; CPU of this process while it ran."""

    request: Ints
    intended_ns: Ints
    sent_ns: Ints
    received_ns: Ints
    status: Ints
    start_ns: int
    end_ns: int
    cpu_s: float
    connections: int


class Client:
    """Sends the requests of one job and stamps what happens to them."""

    def __init__(self, address: tuple[str, int], pipe: Pipe) -> None:
        self.pipe = pipe
        self.epoll = select.epoll()
        self.timer = clock.TimerFd()
        self.armed_ns = NEVER_NS
        self.epoll.register(self.timer.fd, select.EPOLLIN)
        self.epoll.register(pipe.fileno(), select.EPOLLHUP | select.EPOLLRDHUP)
        self.connections = Connections(address, self.epoll)

    # -- one job -----------------------------------------------------------------------------------

    def run(self, job: Job) -> Done:
        """Replay a job to its end: every request answered, or given up after the grace time."""
        self._begin(job)
        cpu_ns = time.process_time_ns()
        self.arm()
        while self.unsent() or self.in_flight:
            events = self.epoll.poll(0.5)
            now_ns = time.monotonic_ns()
            if now_ns >= self.due_ns:
                now_ns = self.fire(now_ns)
            for fd, mask in events:
                if fd == self.timer.fd:
                    self.timer.clear()
                    self.armed_ns = NEVER_NS
                    self.arm()
                else:
                    self._event(fd, mask)
            if now_ns > self.last_due_ns + job.grace_ns and not self.unsent():
                break
            self._report(now_ns)
        return self._end(time.process_time_ns() - cpu_ns)

    def _begin(self, job: Job) -> None:
        self.connections.warm(job.connections)
        self.job = job
        self.ids: list[int] = []
        self.client_of: list[int] = []  # closed-loop client of a request, -1: open load
        self.intended: list[int] = []
        self.sent: list[int] = []
        self.received: list[int] = []
        self.status: list[int] = []
        self.queue: deque[tuple[int, Form]] = deque()
        self.next_open = 0
        self.in_flight = 0
        self.clients = len(job.closed_first_ns)
        self.turn = [0] * self.clients  # requests that a client has sent
        self.start_ns = time.monotonic_ns() + LEAD_NS
        self.open_at = (job.open_at_ns + self.start_ns).tolist()
        self.thinking = sorted((int(t) + self.start_ns, c) for c, t in enumerate(job.closed_first_ns))
        self.until_ns = self.start_ns + job.closed_until_ns
        self.hang_ups: list[tuple[int, int]] = []
        self.connection_of: dict[int, Connection] = {}
        self.last_due_ns = self.start_ns
        self.reported_ns = self.start_ns
        self.due_ns = NEVER_NS

    def _end(self, cpu_ns: int) -> Done:
        for connection in [c for c in self.connections.by_fd.values() if c.request >= 0]:
            self.connections.close(connection)
        order = np.argsort(np.asarray(self.intended, np.int64), kind="stable")
        return Done(
            request=np.asarray(self.ids, np.int64)[order],
            intended_ns=np.asarray(self.intended, np.int64)[order],
            sent_ns=np.asarray(self.sent, np.int64)[order],
            received_ns=np.asarray(self.received, np.int64)[order],
            status=np.asarray(self.status, np.int64)[order],
            start_ns=self.start_ns,
            end_ns=time.monotonic_ns(),
            cpu_s=cpu_ns / 1e9,
            connections=len(self.connections),
        )

    def _report(self, now_ns: int) -> None:
        if self.job.progress and now_ns - self.reported_ns > PROGRESS_NS:
            self.reported_ns = now_ns
            self.pipe.send(("progress", max(0, now_ns - self.start_ns)))

    # -- what is due ---------------------------------------------------------------------------------

    def unsent(self) -> bool:
        """Whether a request is still to be sent."""
        return self.next_open < len(self.open_at) or bool(self.thinking) or bool(self.queue)

    def arm(self) -> None:
        """Find the next due instant and have the timer wake us by then."""
        due_ns = self.open_at[self.next_open] if self.next_open < len(self.open_at) else NEVER_NS
        if self.thinking and self.thinking[0][0] < due_ns:
            due_ns = self.thinking[0][0]
        if self.hang_ups and self.hang_ups[0][0] < due_ns:
            due_ns = self.hang_ups[0][0]
        self.due_ns = due_ns
        # A timer set for an earlier instant is left alone: it wakes us to set the later one, if still needed.
        if due_ns < self.armed_ns:
            self.armed_ns = due_ns
            self.timer.arm(due_ns)

    def fire(self, now_ns: int) -> int:
        """Do everything that is due by `now_ns`; returns the time after it."""
        while self.next_open < len(self.open_at) and self.open_at[self.next_open] <= now_ns:
            self._fire_open(self.next_open)
            self.next_open += 1
            now_ns = time.monotonic_ns()
        while self.thinking and self.thinking[0][0] <= now_ns:
            self._fire_closed(*heappop(self.thinking))
            now_ns = time.monotonic_ns()
        while self.hang_ups and self.hang_ups[0][0] <= now_ns:
            self._hang_up(heappop(self.hang_ups)[1])
        self.arm()
        return now_ns

    def _fire_open(self, number: int) -> None:
        intended_ns = self.open_at[number]
        index = self._new_request(self.job.open_first_id + number, intended_ns)
        self._send(index, self.job.forms[self.job.open_form[number]])
        if self.job.open_patience_ns is not None:
            patience_ns = int(self.job.open_patience_ns[number])
            if patience_ns < NEVER_NS:
                heappush(self.hang_ups, (intended_ns + patience_ns, index))

    def _fire_closed(self, due_ns: int, client: int) -> None:
        number = self.turn[client] * self.clients + client
        if due_ns >= self.until_ns or number >= len(self.job.closed_form):
            return
        self.turn[client] += 1
        index = self._new_request(self.job.closed_first_id + number, due_ns, client)
        self._send(index, self.job.forms[self.job.closed_form[number]])

    def _new_request(self, request: int, intended_ns: int, client: int = -1) -> int:
        self.ids.append(request)
        self.client_of.append(client)
        self.intended.append(intended_ns)
        self.sent.append(-1)
        self.received.append(-1)
        self.status.append(STATUS_NONE)
        self.last_due_ns = max(self.last_due_ns, intended_ns)
        self.in_flight += 1
        return len(self.ids) - 1

    # -- sending -------------------------------------------------------------------------------------

    def _send(self, index: int, form: Form) -> None:
        if self.connections.free:
            self._send_on(self.connections.free.pop(), index, form)
        elif len(self.connections) < self.job.connections_max:
            self._send_on_new(index, form)
        else:
            self.queue.append((index, form))

    def _send_on_new(self, index: int, form: Form) -> None:
        try:
            connection = self.connections.open()
        except OSError:
            self._give_up(index, STATUS_NONE)
        else:
            self._send_on(connection, index, form)

    def _send_on(self, connection: Connection, index: int, form: Form) -> None:
        connection.request = index
        connection.complete = False
        connection.retry_after_s = 0.0
        if self.job.open_patience_ns is not None:
            self.connection_of[index] = connection
        data = b"%s%0*d%s" % (form.before, ID_DIGITS, self.ids[index], form.after)
        self.sent[index] = time.monotonic_ns()
        self._push(connection, data)

    def _push(self, connection: Connection, data: bytes) -> None:
        try:
            self.connections.push(connection, data)
        except OSError:
            self._lost(connection)

    # -- what comes back -----------------------------------------------------------------------------

    def _event(self, fd: int, mask: int) -> None:
        connection = self.connections.by_fd.get(fd)
        if connection is None:
            if fd == self.pipe.fileno():
                raise EOFError("the parent has gone")
            return
        if connection.out and mask & select.EPOLLOUT:
            self._push(connection, connection.out)
        if mask & ~select.EPOLLOUT and fd in self.connections.by_fd:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data, received_ns = connection.receive()
            if data:
                connection.parser.feed_data(data)
        except BlockingIOError:
            return
        except (OSError, httptools.HttpParserError):
            data = b""
        if not data:
            self._lost(connection)
        elif connection.complete:
            self._answered(connection, received_ns)

    def _answered(self, connection: Connection, received_ns: int) -> None:
        index, connection.request = connection.request, -1
        connection.complete = False
        status = connection.parser.get_status_code()
        retry_after_ns = int(connection.retry_after_s * 1e9) or self.job.retry_after_ns
        if connection.broken:
            self.connections.close(connection)
            self._use_room()
        elif self.queue:
            self._send_on(connection, *self.queue.popleft())
        else:
            self.connections.free.append(connection)
        self.received[index] = received_ns
        self._settle(index, received_ns, status, 0 if status == 200 else retry_after_ns)
        if received_ns >= self.due_ns:
            self.fire(received_ns)

    def _give_up(self, index: int, status: int) -> None:
        """A request that will get no answer."""
        self._settle(index, time.monotonic_ns(), status, self.job.retry_after_ns)

    def _settle(self, index: int, now_ns: int, status: int, pause_ns: int) -> None:
        """A request is over; the closed-loop client that sent it, if any, thinks for `pause_ns` at least."""
        self.status[index] = status
        self.connection_of.pop(index, None)
        self.in_flight -= 1
        if self.client_of[index] >= 0:
            self._think(self.client_of[index], now_ns, pause_ns)

    def _think(self, client: int, now_ns: int, at_least_ns: int) -> None:
        """A closed-loop client goes on after `now_ns`, unless its next request would be due too late."""
        number = self.turn[client] * self.clients + client
        if number >= len(self.job.closed_form):
            return
        thinks = self.job.closed_thinks_ns
        think_ns = int(self.job.closed_think_ns[client] if thinks is None else thinks[number])
        due_ns = now_ns + max(think_ns, at_least_ns)
        if due_ns < self.until_ns:
            heappush(self.thinking, (due_ns, client))
            self.arm()

    def _lost(self, connection: Connection) -> None:
        """The server closed the connection: a request in flight on it stays unanswered."""
        index, connection.request = connection.request, -1
        self.connections.close(connection)
        if index >= 0:
            self._give_up(index, STATUS_NONE)
        self._use_room()

    def _hang_up(self, index: int) -> None:
        """The client's patience is over: it closes the connection, which is how HTTP cancels."""
        connection = self.connection_of.get(index)
        if connection is not None:
            connection.request = -1
            self.connections.close(connection)
            self._give_up(index, STATUS_CANCELLED)
            self._use_room()
            return
        queued = next((entry for entry in self.queue if entry[0] == index), None)
        if queued is not None:
            self.queue.remove(queued)
            self._give_up(index, STATUS_CANCELLED)

    def _use_room(self) -> None:
        """A connection has gone: a request that waited for one may open another."""
        if self.queue and len(self.connections) < self.job.connections_max:
            self._send_on_new(*self.queue.popleft())


def serve_parent(pipe: Pipe, address: tuple[str, int]) -> None:
    """Run jobs until the parent closes its end; a failed job is answered with its error."""
    clock.set_timer_slack()
    clock.yield_to_others()
    client = Client(address, pipe)
    gc.freeze()
    gc.disable()
    while True:
        job = pipe.recv()
        try:
            pipe.send(("done", client.run(job)))
        except OSError as error:
            pipe.send(("error", str(error)))
        gc.collect()


def main(argv: list[str]) -> None:
    """Entry of the child process: FD of the pipe, HOST, PORT. It ends when the pipe's other end has gone."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve_parent(Pipe(int(argv[0])), (argv[1], int(argv[2])))
