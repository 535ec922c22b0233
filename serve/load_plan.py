"""What a load generator sends: instants, rows and options of each request, and the bytes they become.

Pure: building a plan touches no socket and no clock. `serve.loadgen` replays it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.policy.codes import NEVER_NS
from serve.protocol.tensors import DATATYPES, join_strings

Ints = npt.NDArray[np.int64]

REQUESTS_MAX = 50_000_000
"""Most requests of one plan: a bound, far above what one process can send in an hour."""
DURATION_MAX_NS = 24 * 3600 * 10**9
CLOSED_FIRST_ID = 2**40
"""Wire ids of closed-loop requests start here, those of open ones at 0: `sim.plane.Closed` counts the same way."""
ID_DIGITS = 13
"""The id is written in a fixed width, so that every request of a form has the same Content-Length."""


@dataclass(frozen=True)
class InputData:
    """One input tensor: `data` holds example rows stacked along `batch_axis`; a request of k rows sends k of them."""

    name: str
    datatype: str
    data: npt.NDArray[Any]
    batch_axis: int = 0
    whole: bool = False  # the model's batch is fixed: every request sends all of `data`, and counts as one row

    @property
    def rows(self) -> int:
        """Example rows."""
        return 1 if self.whole else int(self.data.shape[self.batch_axis])

    def take(self, rows: int) -> npt.NDArray[Any]:
        """The first `rows` rows, examples repeated as often as needed."""
        if self.whole:
            return self.data
        index = np.arange(rows) % self.rows
        return np.take(self.data, index, axis=self.batch_axis)


@dataclass(frozen=True)
class Target:
    """One served model, and what to feed it."""

    model: str
    inputs: tuple[InputData, ...]


@dataclass(frozen=True)
class OpenLoad:
    """Requests at given instants, whatever the server does. Arrays of length n, sorted by `at_ns` (from the start)."""

    at_ns: Ints
    rows: Ints
    priority: Ints | None = None  # internal, 0 the highest; -1 or None: left to the deployment
    timeout_ns: Ints | None = None  # NEVER_NS or None: none sent
    patience_ns: Ints | None = None  # the client hangs up at `at_ns` + this; NEVER_NS or None: never
    target: Ints | None = None  # which model: 0 or None the plan's own, k its others[k - 1]
    first_id: int = 0  # wire id of the first request

    def __len__(self) -> int:
        return len(self.at_ns)


@dataclass(frozen=True)
class ClosedLoad:
    """Clients that wait for their answer, think, and send again, until `until_ns`.

    `first_ns` and `think_ns` are by client; request k of a client has index k * clients + client
    in `rows`, `priority` and `timeout_ns`, and wire id `first_id` + index. A client whose
    request was refused waits max(think time, Retry-After).
    """

    first_ns: Ints
    think_ns: Ints
    rows: Ints
    until_ns: int
    priority: Ints | None = None
    timeout_ns: Ints | None = None
    retry_after_ns: int = 10_000_000  # of a refusal that names none
    thinks_ns: Ints | None = None  # think time *before* request k * clients + client, in place of think_ns
    target: Ints | None = None  # as in OpenLoad, by request
    first_id: int = CLOSED_FIRST_ID

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.first_ns)


@dataclass(frozen=True)
class LoadPlan:
    """All that one run sends, as a rule to one model."""

    model: str
    inputs: tuple[InputData, ...]
    open: OpenLoad | None = None
    closed: ClosedLoad | None = None
    others: tuple[Target, ...] = ()  # further models that requests may name by `target`
    connections: int = 32  # opened and warmed before the start
    connections_max: int = 1024  # a request that finds this many in use waits in the generator, and is late
    grace_ns: int = 10 * 10**9  # how long after the last send an answer is waited for
    late_after_ns: int = 1_000_000  # a request sent later than this after its instant counts as late

    @property
    def targets(self) -> tuple[Target, ...]:
        """The models by the number that requests name them by."""
        return (Target(self.model, self.inputs), *self.others)


@dataclass(frozen=True)
class Form:
    """The bytes of a request up to its id and after it."""

    before: bytes
    after: bytes


@dataclass(frozen=True)
class Forms:
    """The distinct requests of a plan, and which one each request is."""

    forms: list[Form]
    open: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)


def faults(plan: LoadPlan) -> list[str]:
    """Everything that is wrong with a plan, each as a sentence; empty if it can be sent."""
    found = [fault for target in plan.targets for fault in _target_faults(target)]
    if plan.open is None and plan.closed is None:
        found.append("plan: neither open nor closed load given")
    if not 1 <= plan.connections <= plan.connections_max:
        found.append(f"connections: must be 1..{plan.connections_max} (connections_max), got {plan.connections}")
    return found + _open_faults(plan.open) + _closed_faults(plan.closed) + _number_faults(plan)


def _target_faults(target: Target) -> list[str]:
    if not target.inputs:
        return [f"model {target.model}: a request needs at least one input tensor"]
    return [
        f"inputs.{i.name}: no datatype {i.datatype!r}; one of {', '.join(DATATYPES)}"
        for i in target.inputs
        if i.datatype not in DATATYPES
    ] + [f"inputs.{i.name}: needs at least one example row" for i in target.inputs if not i.rows]


def _number_faults(plan: LoadPlan) -> list[str]:
    """Targets that do not exist, and ids that the two loads share or that do not fit the wire's field."""
    found = []
    spans = []
    for kind, load in (("open", plan.open), ("closed", plan.closed)):
        if load is None or not len(load.rows):
            continue
        spans.append((load.first_id, load.first_id + len(load.rows)))
        if load.target is not None and (np.min(load.target) < 0 or np.max(load.target) >= len(plan.targets)):
            found.append(f"{kind}.target: must be 0..{len(plan.targets) - 1}")
    if any(first < 0 or end > 10**ID_DIGITS for first, end in spans):
        found.append(f"first_id: ids must be >= 0 and below 10^{ID_DIGITS}")
    if len(spans) == 2 and max(first for first, _ in spans) < min(end for _, end in spans):
        found.append("first_id: the ids of the open and the closed load overlap")
    return found


def _open_faults(load: OpenLoad | None) -> list[str]:
    if load is None or not len(load):
        return []
    found = _column_faults("open", len(load), load.rows, load.priority, load.timeout_ns, load.patience_ns, load.target)
    if np.any(np.diff(load.at_ns) < 0) or load.at_ns[0] < 0:
        found.append("open.at_ns: must be sorted and >= 0")
    elif load.at_ns[-1] > DURATION_MAX_NS:
        found.append(f"open.at_ns: the last instant is past the bound of {DURATION_MAX_NS // 10**9} s")
    return found


def _closed_faults(load: ClosedLoad | None) -> list[str]:
    if load is None:
        return []
    columns = (load.priority, load.timeout_ns, load.thinks_ns, load.target)
    found = _column_faults("closed", len(load.rows), load.rows, *columns)
    if not load.clients or len(load.think_ns) != load.clients:
        found.append(
            f"closed: needs one first_ns and one think_ns per client, got {load.clients}, {len(load.think_ns)}"
        )
    elif len(load.rows) % load.clients:
        found.append(f"closed.rows: length must be a multiple of {load.clients} clients, got {len(load.rows)}")
    if not 0 < load.until_ns <= DURATION_MAX_NS:
        found.append(f"closed.until_ns: must be within (0, {DURATION_MAX_NS}], got {load.until_ns}")
    return found


def _column_faults(kind: str, count: int, rows: Ints, *columns: Ints | None) -> list[str]:
    found = []
    if count > REQUESTS_MAX:
        found.append(f"{kind}: {count} requests, more than the bound of {REQUESTS_MAX}")
    if len(rows) != count or any(c is not None and len(c) != count for c in columns):
        found.append(f"{kind}: every column needs {count} entries")
    if count and np.min(rows) < 1:
        found.append(f"{kind}.rows: must be >= 1, got {int(np.min(rows))}")
    return found


def build_forms(plan: LoadPlan, host: str) -> Forms:
    """The bytes of every distinct (target, rows, priority, timeout) of a plan that passed `faults`."""
    keys: dict[tuple[int, int, int, int], int] = {}
    opened = [] if plan.open is None else _form_ids(keys, plan.open)
    closed = [] if plan.closed is None else _form_ids(keys, plan.closed)
    tensors: dict[tuple[int, int], list[tuple[dict[str, Any], bytes]]] = {}
    forms = []
    same: dict[bytes, bytes] = {}  # models fed alike share their bytes, which may be megabytes
    for target, rows, priority, timeout_ns in keys:
        model, inputs = plan.targets[target].model, plan.targets[target].inputs
        if (target, rows) not in tensors:
            tensors[target, rows] = [binary_tensor(i, rows) for i in inputs]
        form = request_form(model, host, tensors[target, rows], priority, timeout_ns)
        forms.append(Form(form.before, same.setdefault(form.after, form.after)))
    return Forms(forms, opened, closed)


def _form_ids(keys: dict[tuple[int, int, int, int], int], load: OpenLoad | ClosedLoad) -> list[int]:
    """Number of each request's (target, rows, priority, timeout) in `keys`, which grows."""
    count = len(load.rows)
    columns = (
        np.zeros(count, np.int64) if load.target is None else load.target,
        load.rows,
        np.full(count, -1, np.int64) if load.priority is None else load.priority,
        np.full(count, NEVER_NS, np.int64) if load.timeout_ns is None else load.timeout_ns,
    )
    code = np.zeros(count, np.int64)
    for column in columns:
        values, index = np.unique(column, return_inverse=True)
        code = np.unique(code * len(values) + index, return_inverse=True)[1]
    firsts = np.unique(code, return_index=True)[1]
    distinct = zip(*(c[firsts].tolist() for c in columns), strict=True)
    numbers = [keys.setdefault((t, r, p, d), len(keys)) for t, r, p, d in distinct]
    return np.asarray(numbers, np.int64)[code].tolist() if count else []


def binary_tensor(tensor: InputData, rows: int) -> tuple[dict[str, Any], bytes]:
    """Header entry and bytes of one input of `rows` rows (OIP v2, binary tensor extension)."""
    taken = tensor.take(rows)
    datatype = DATATYPES[tensor.datatype]
    if datatype.width:
        body = np.ascontiguousarray(taken, dtype=datatype.dtype).tobytes()
    else:
        body = join_strings([s if isinstance(s, bytes) else str(s).encode() for s in taken.reshape(-1).tolist()])
    entry = {
        "name": tensor.name,
        "shape": list(taken.shape),
        "datatype": tensor.datatype,
        "parameters": {"binary_data_size": len(body)},
    }
    return entry, body


def request_form(
    model: str, host: str, tensors: Sequence[tuple[Mapping[str, Any], bytes]], priority: int, timeout_ns: int
) -> Form:
    """One infer request with room for an id of ID_DIGITS digits.

    `priority` is internal (0 the highest; on the wire Triton's numbers hold, one more; < 0: not sent),
    `timeout_ns` is rounded up to the wire's microseconds (NEVER_NS: not sent).
    """
    parameters: dict[str, Any] = {"binary_data_output": True}
    if priority >= 0:
        parameters["priority"] = priority + 1
    if timeout_ns != NEVER_NS:
        parameters["timeout"] = max(1, -(-timeout_ns // 1000))
    rest = json.dumps(
        {"parameters": parameters, "inputs": [entry for entry, _ in tensors]}, separators=(",", ":")
    ).encode()
    start, end = b'{"id":"', b'",' + rest[1:]
    header = len(start) + ID_DIGITS + len(end)
    body = b"".join(data for _, data in tensors)
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {host}\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {header}\r\nContent-Length: {header + len(body)}\r\n\r\n"
    ).encode()
    return Form(head + start, end + body)


def random_inputs(
    tensors: Sequence[tuple[str, str, Sequence[int]]], rows: int, seed: int, batch_axis: int = 0
) -> tuple[InputData, ...]:
    """`rows` random example rows of each (name, datatype, shape without the batch axis); -1 in a shape is an error.

    Floats are standard normal, integers 0..9, booleans fair, strings short: a stand-in, which a
    profile records as `random`, because some models take longer over some inputs than over others.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x10AD,))))
    made = []
    for name, datatype, shape in tensors:
        if any(n < 0 for n in shape):
            raise ValueError(f"input {name}: shape {list(shape)} varies; give its size with --shape {name}=...")
        full = [*shape[:batch_axis], rows, *shape[batch_axis:]]
        made.append(InputData(name, datatype, _random(generator, datatype, full), batch_axis))
    return tuple(made)


def whole_inputs(tensors: Sequence[tuple[str, str, Sequence[int]]], seed: int) -> tuple[InputData, ...]:
    """The inputs of a model whose batch is fixed, by (name, datatype, shape): every request sends all of them."""
    return tuple(replace(i, data=np.asarray(i.data[0]), whole=True) for i in random_inputs(tensors, 1, seed))


def _random(generator: np.random.Generator, datatype: str, shape: Sequence[int]) -> npt.NDArray[Any]:
    if datatype in ("FP16", "FP32", "FP64"):
        return generator.standard_normal(shape).astype(DATATYPES[datatype].dtype)
    if datatype == "BOOL":
        return generator.integers(0, 2, shape).astype(bool)
    if datatype == "BYTES":
        return generator.integers(0, 10, shape).astype(str).astype(object)
    # BF16 travels as bit patterns: 0x3F80 is 1.0, and what follows are its nearest neighbours.
    offset = 0x3F80 if datatype == "BF16" else 0
    return (generator.integers(0, 10, shape) + offset).astype(DATATYPES[datatype].dtype)
