"""The Profile: what was measured of one model on one machine, with its provenance.

The YAML holds the numbers that a person reads; the raw samples lie beside it in a parquet file
(one row a batch: threads, busy, rows, at_s, service_ns, and the parts of it), bound by its hash.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serve.spec import Name, Origin, SchemaVersion, Spec

Curve = tuple[float, float]


class Tensor(Spec):
    """One input or output: shape without the batch axis, -1 where it varies."""

    name: str
    datatype: str = Field(description="OIP datatype, such as FP32")
    shape: list[int]


class Machine(Spec):
    """Where it was measured."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    versions: dict[str, str] = Field(description="Python and the libraries that matter")


class ModelFacts(Spec):
    """The model that was measured."""

    file: str = Field(description="relative to this file")
    sha256: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    batch_axis: int | None = Field(description="axis along which requests are stacked; none: fixed batch")
    max_batch: int = Field(ge=1, description="largest batch measured")
    data: Literal["random", "given"] = Field(description="inputs it was measured with")


class ServiceCell(Spec):
    """Service time of one (threads, busy, rows): from the dispatch decision to the completion seen by the front."""

    threads: int = Field(ge=1)
    busy: int = Field(ge=0, description="other busy replicas of the machine")
    rows: int = Field(ge=1)
    samples: int
    mean_ms: float
    warm_ms: float | None = Field(
        None, description="the mean less what idleness of the replica added (cold_us); none: as the mean"
    )
    p50_ms: float
    p99_ms: float
    p99_pooled: bool = Field(description="true: fewer than 500 samples of its own, tail pooled over batch sizes")
    origin: Origin = "measured"

    @property
    def busy_ms(self) -> float:
        """Mean service time of a replica that is never idle."""
        return self.mean_ms if self.warm_ms is None else self.warm_ms


class FrontCosts(Spec):
    """Time of the front's jobs (rule 10): marginal, of a job that follows another at once."""

    parse_us: float
    parse_us_per_kib: float
    finish_batch_us: float
    finish_request_us: float
    finish_us_per_kib: float
    refuse_us: float
    dispatch_us: float = Field(0.0, description="handing a batch over to its replica")
    dispatch_us_per_kib: float = 0.0
    dispatch_us_per_request: float = Field(0.0, description="what each further request of the batch adds to it")
    bytes_in_per_row: int
    bytes_out_per_row: int
    unstamped_us_per_request: float = Field(
        0.0,
        description="CPU time of the front per request beyond its jobs (polling, messages): occupies, delays nobody",
    )
    unstamped_us_per_batch: float = Field(0.0, description="the same per batch")
    origin: Origin = "measured"


class ClientCosts(Spec):
    """What a client and a front that has to wake up add to the front's costs: quantiles at 0, 1, ..., 100 %."""

    send_us: list[float] = Field(description="intended instant to where a free front of these costs begins the parse")
    receive_us: list[float] = Field(description="where a front of these costs has answered to received")
    send_us_per_kib: float = Field(0.0, description="what each KiB of a request adds to that")
    cpu_us_per_request: float = Field(description="CPU that the load generator itself takes")
    origin: Origin = "measured"


class Startup(Spec):
    """Start of one replica, apart."""

    spawn_s: float
    load_s: float
    warmup_s: float
    memory_mib: float
    origin: Origin = "measured"


class Noise(Spec):
    """How well the machine repeats itself."""

    timer_late_us: list[float] = Field(description="p50, p99 lateness of a timer of the free front")
    wake_idle_us: list[float] = Field(description="p50, p99 of dispatch to begin of a replica idle for 5 ms or more")
    wake_busy_us: list[float] = Field(description="the same of one that worked within the last ms")
    loop_jitter_us: list[float] = Field(
        description="p50, p99 of a batch's end to the front's seeing it, whatever else it does"
    )
    repeat_cv: float = Field(
        description="coefficient of variation of the mean of the same work, window to window, beyond sampling"
    )
    level_series: list[float] = Field(
        description="means of successive windows relative to the whole, without sampling error: the machine's drift"
    )
    level_bin_s: float = Field(description="length of such a window")
    disturbed: bool = Field(description="true: a neighbour disturbed the run beyond what is usual")


class Samples(Spec):
    """The raw samples' file."""

    file: str
    sha256: str
    rows: int = Field(description="0: no such file; each cell is taken to be a lognormal of its p50 and p99")


class Profile(Spec):
    """Measured service times and overheads of one model on one machine."""

    schema_version: SchemaVersion = 1
    name: Name
    date: str
    backend: Literal["onnx", "emulated"] = "onnx"
    settings: dict[str, str] = Field(description="command line and settings of the measurement")
    machine: Machine
    model: ModelFacts
    service: list[ServiceCell]
    fit: dict[str, float] = Field(
        description="tau(rows) = base_ms + row_ms x rows at the fewest threads and busy 0, its relative error, and "
        "joining_us: what each further request of a batch adds to its rows' time"
    )
    cold_us: list[float] = Field(
        [],
        description="what a batch takes longer if its replica was idle for 0.26, 0.52, ... 134 ms; empty: nothing",
    )
    front: FrontCosts
    client: ClientCosts
    startup: Startup
    noise: Noise
    samples: Samples
    warnings: list[str] = []
