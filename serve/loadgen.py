"""The load generator: replays a plan against a live server from a process of its own.

Latency counts from the instant a request was *meant* to be sent, so that a generator that falls
behind cannot hide the server's delays (late sends are counted). Instants are CLOCK_MONOTONIC, the
engine's own clock, so rows of both join by request id. What to send is in `serve.load_plan`, the
sending loop in `serve.load_client`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt

from serve import children
from serve.errors import EngineError
from serve.load_client import STATUS_CANCELLED, STATUS_NONE, Done, Job
from serve.load_plan import ClosedLoad, InputData, Ints, LoadPlan, build_forms, faults, random_inputs, whole_inputs

__all__ = [
    "STATUS_CANCELLED",
    "STATUS_NONE",
    "ClientRows",
    "LoadError",
    "LoadGenerator",
    "closed_loop",
    "inputs_of",
    "replay",
]

Progress = Callable[[float], None]
"""Told the seconds replayed so far, about four times a second."""

READY_TIMEOUT_S = 30.0

# Not `-m`: a module run as __main__ would pickle its results under a name that the parent does not know.
# Ctrl-C reaches every process of a terminal; it is the parent that ends this one.
_CHILD = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from serve.load_client import main; main(sys.argv[1:])"
)


class LoadError(EngineError):
    """The server could not be reached, or the plan cannot be sent."""


@dataclass(frozen=True)
class ClientRows:
    """What the client saw, by request in order of intended instant; int64 ns of CLOCK_MONOTONIC, -1: never.

    `request` is the id that the server was told: 0, 1, ... for the open load, CLOSED_FIRST_ID and
    up for closed loops. `status` is HTTP's, or STATUS_NONE (never answered), or STATUS_CANCELLED.
    """

    request: Ints
    intended_ns: Ints
    sent_ns: Ints
    received_ns: Ints
    status: Ints
    start_ns: int  # instant zero of the plan
    end_ns: int
    cpu_s: float  # CPU time of the generator while it replayed
    connections: int  # open at the end
    late_after_ns: int

    def __len__(self) -> int:
        return len(self.request)

    @property
    def latency_ns(self) -> Ints:
        """Received - intended of every request answered 200."""
        ok = self.status == 200
        return np.asarray(self.received_ns[ok] - self.intended_ns[ok], np.int64)

    @property
    def late(self) -> int:
        """Number of requests sent more than `late_after_ns` after their instant, or never."""
        sent = np.where(self.sent_ns < 0, np.iinfo(np.int64).max, self.sent_ns)
        return int(np.count_nonzero(sent - self.intended_ns > self.late_after_ns))

    @property
    def late_share(self) -> float:
        """Share of requests that were late."""
        return self.late / len(self) if len(self) else 0.0

    @property
    def cpu_share(self) -> float:
        """Cores that the generator took while it replayed."""
        return self.cpu_s * 1e9 / max(1, self.end_ns - self.start_ns)

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of `serve.records.CLIENT_COLUMNS`, for a parquet file or a join."""
        return {
            "request": self.request,
            "intended_ns": self.intended_ns,
            "sent_ns": self.sent_ns,
            "received_ns": self.received_ns,
            "status": self.status,
        }


class LoadGenerator:
    """A load generator's process, for one or more replays against one server; a context manager.

    Parameters
    ----------
    url : such as http://127.0.0.1:8000.
    cpus : cores that the process may run on; none: any.
    allow_remote : whether the server may be on another machine than this.

    Raises
    ------
    LoadError if the address will not do, or the process does not start.
    """

    def __init__(self, url: str, *, cpus: Sequence[int] | None = None, allow_remote: bool = False) -> None:
        self.host, self.port = address_of(url, allow_remote)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                children.python("-c", _CHILD, str(theirs.fileno()), self.host, str(self.port)),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=children.environment(),
                stdout=sys.stderr if sys.stderr is not None and _has_fd(sys.stderr) else subprocess.DEVNULL,
            )
            self._pipe = Pipe(ours.detach())
        if cpus is not None:
            os.sched_setaffinity(self._process.pid, cpus)

    @property
    def pid(self) -> int:
        """Process id of the generator."""
        return self._process.pid

    def replay(self, plan: LoadPlan, progress: Progress | None = None) -> ClientRows:
        """Send the plan and wait for its end; LoadError if it is faulty or the server cannot be reached."""
        if found := faults(plan):
            raise LoadError("; ".join(found))
        try:
            self._pipe.send(self._job(plan, progress is not None))
            while (answer := self._pipe.recv())[0] == "progress":
                if progress is not None:
                    progress(answer[1] / 1e9)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise LoadError(f"the load generator {_ended(self._process.wait(5))}") from error
        if answer[0] == "error":
            raise LoadError(f"http://{self.host}:{self.port}: {answer[1]}")
        done: Done = answer[1]
        return ClientRows(**{f: getattr(done, f) for f in Done.__dataclass_fields__}, late_after_ns=plan.late_after_ns)

    def _job(self, plan: LoadPlan, progress: bool) -> Job:
        forms = build_forms(plan, f"{self.host}:{self.port}")
        none = np.zeros(0, np.int64)
        opened, closed = plan.open, plan.closed
        return Job(
            forms=forms.forms,
            open_at_ns=none if opened is None else opened.at_ns,
            open_form=forms.open,
            open_patience_ns=None if opened is None else opened.patience_ns,
            closed_first_ns=none if closed is None else closed.first_ns,
            closed_think_ns=none if closed is None else closed.think_ns,
            closed_thinks_ns=None if closed is None else closed.thinks_ns,
            closed_form=forms.closed,
            closed_until_ns=0 if closed is None else closed.until_ns,
            retry_after_ns=10_000_000 if closed is None else closed.retry_after_ns,
            open_first_id=0 if opened is None else opened.first_id,
            closed_first_id=0 if closed is None else closed.first_id,
            connections=plan.connections,
            connections_max=plan.connections_max,
            grace_ns=plan.grace_ns,
            progress=progress,
        )

    def close(self) -> None:
        """End the process: it leaves when its pipe closes."""
        self._pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> LoadGenerator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def replay(
    url: str,
    plan: LoadPlan,
    *,
    progress: Progress | None = None,
    cpus: Sequence[int] | None = None,
    allow_remote: bool = False,
) -> ClientRows:
    """Replay one plan against the server at `url`, in a process that ends with it; raises LoadError."""
    with LoadGenerator(url, cpus=cpus, allow_remote=allow_remote) as generator:
        return generator.replay(plan, progress)


def closed_loop(
    url: str,
    model: str,
    inputs: Sequence[InputData],
    *,
    clients: int,
    duration_s: float,
    think_s: float = 0.0,
    rows: int = 1,
    requests_max: int = 300_000,
    progress: Progress | None = None,
    cpus: Sequence[int] | None = None,
) -> ClientRows:
    """`clients` clients that each send, wait, think and send again for `duration_s`: how saturation is measured.

    All start at once; a plan of other clients is built from `load_plan.ClosedLoad`. Raises LoadError.
    """
    turns = max(1, requests_max // clients)
    load = ClosedLoad(
        first_ns=np.zeros(clients, np.int64),
        think_ns=np.full(clients, round(think_s * 1e9), np.int64),
        rows=np.full(turns * clients, rows, np.int64),
        until_ns=round(duration_s * 1e9),
    )
    plan = LoadPlan(model, tuple(inputs), closed=load, connections=clients, connections_max=max(1024, clients))
    return replay(url, plan, progress=progress, cpus=cpus)


def inputs_of(
    url: str,
    model: str,
    *,
    rows: int = 64,
    seed: int = 0,
    shapes: dict[str, Sequence[int]] | None = None,
    allow_remote: bool = False,
) -> tuple[InputData, ...]:
    """Random inputs of a served model, from the metadata that the server gives of it.

    `shapes` gives the sizes (without the batch axis) of inputs that vary. Of a model whose batch is fixed a request
    sends the whole, which is one row. Raises LoadError.
    """
    host, port = address_of(url, allow_remote)
    metadata = _get_json(f"http://{host}:{port}/v2/models/{quote(model)}")
    tensors = metadata.get("inputs", [])
    batched = all(t["shape"] and t["shape"][0] < 0 for t in tensors)
    cut = 1 if batched else 0
    asked = [(t["name"], t["datatype"], (shapes or {}).get(t["name"], t["shape"][cut:])) for t in tensors]
    try:
        return random_inputs(asked, rows, seed) if batched else whole_inputs(asked, seed)
    except ValueError as error:
        raise LoadError(f"{url}, model {model}: {error}") from error


def address_of(url: str, allow_remote: bool = False) -> tuple[str, int]:
    """Host (as an address) and port of an http URL; LoadError unless it is this machine or `allow_remote`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError as error:
        raise LoadError(f"{url!r}: {error}") from error
    if parts.scheme != "http" or not parts.hostname:
        raise LoadError(f"{url!r}: must be an http URL such as http://127.0.0.1:8000")
    try:
        host = str(socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise LoadError(f"{url!r}: {error}") from error
    if not allow_remote and not ipaddress.ip_address(host).is_loopback:
        raise LoadError(f"{url!r}: is another machine ({host}); load is sent to 127.0.0.1 only unless told otherwise")
    return host, port


def _get_json(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=READY_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise LoadError(f"{url}: {error.code} {error.read(200).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise LoadError(f"{url}: {error}") from error


def _ended(status: int) -> str:
    """What an exit status of a child says: negative is the signal that killed it."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _has_fd(stream: Any) -> bool:
    """Whether a stream is a real file that a child can write to (under pytest it may not be)."""
    try:
        return isinstance(stream.fileno(), int)
    except (OSError, ValueError, AttributeError):
        return False
