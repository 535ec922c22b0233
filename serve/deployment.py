"""The Deployment: what to run. The same schema is served, simulated and searched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from serve.autoscaler import Autoscaler, Manifest, SkyServe
from serve.batching import POLICIES, SLOTS_UNBOUNDED, Batching
from serve.costs import Buy, Commitment, Costs, MachineType, Region
from serve.draws import Exponential, Lognormal
from serve.errors import Fault, SpecError
from serve.policy.codes import NEVER_NS
from serve.routing import Router
from serve.scheduler import SchedulerSpec
from serve.spec import Name, Origin, SchemaVersion, Spec
from serve.units import Bytes, DurationNs, PriceUsdPerH, Share, format_share, parse_duration_ns

FRONT_SHARE = 10
"""The front's budget, where a deployment sets none, is one so manieth of the p99 SLO (rule 10)."""


class Queue(Spec):
    """Rule 1: who may wait."""

    per: Literal["node", "replica", "fleet"] = Field(
        "node",
        description="the replicas of a node share a queue, or each has an engine of its own; fleet: and requests wait "
        "at the router until one has room",
    )
    max_queue: int | Literal["unbounded"] = Field(
        256, description="rows that may wait; 0 is a loss system; unbounded only in scenarios"
    )
    priority_levels: int = Field(1, ge=1, le=64, description="number of priorities; 0 is the highest")
    default_priority: int = Field(0, ge=0, description="priority of a request that names none")
    default_timeout: DurationNs | None = Field(
        None, description="timeout of a request that names none; none: waits as long as it takes"
    )

    @model_validator(mode="after")
    def _levels(self) -> Queue:
        if isinstance(self.max_queue, int) and self.max_queue < 0:
            raise ValueError("max_queue must be >= 0 rows or 'unbounded'")
        if self.default_priority >= self.priority_levels:
            raise ValueError(
                f"default_priority must be below priority_levels ({self.priority_levels}), got {self.default_priority}"
            )
        return self


class StartUp(Spec):
    """What a replica's start-up is drawn from, each time that one starts."""

    lognormal: Lognormal | None = None
    exponential: Exponential | None = None

    @model_validator(mode="after")
    def _one(self) -> StartUp:
        if (self.lognormal is None) == (self.exponential is None):
            raise ValueError("takes either lognormal or exponential")
        return self


class Replicas(Spec):
    """The processes that run a model."""

    count: int = Field(1, ge=1, le=4096, description="number of replicas")
    threads: int = Field(1, ge=1, le=1024, description="compute threads of each")
    memory: Bytes | None = Field(None, description="of each, which its node must have; none: it is not looked at")
    accelerators: int = Field(0, ge=0, description="of each, which no other replica uses")
    accelerator_memory: Bytes | None = Field(
        None, description="of each, of all that its node's accelerators have; none: it is not looked at"
    )
    affinity: Literal["auto", "none"] = Field(
        "auto",
        description="auto: each replica has cores of its own, as many as threads, if that leaves one to the front",
    )
    slots: int = Field(1, ge=1, le=2, description="batches a replica holds: 2 lets a full batch wait inside it")
    autoscaler: Autoscaler | None = Field(None, description="sets their number; `count` is where it begins")
    min: int = Field(1, ge=0, description="fewest that an autoscaler may set; 0: a router holds what comes meanwhile")
    max: int | None = Field(None, ge=1, le=4096, description="most that it may set; none: what there is room for")
    start_up: Annotated[DurationNs, Field(ge=0)] | StartUp | None = Field(
        None, description="from wanting one to its being ready, or what that is drawn from; none: as calibrated"
    )
    drain_limit: DurationNs = Field(
        30_000_000_000, ge=0, description="how long one that goes may take over what it has", validate_default=False
    )
    on: list[Name] | None = Field(
        None, min_length=1, description="pools that may hold them, in the order of preference; none: all"
    )

    @field_validator("autoscaler", mode="before")
    @classmethod
    def _from_a_file(cls, value: Any) -> Any:
        """`{from: hpa.yaml}` has no kind: the file says it."""
        if isinstance(value, Mapping) and "from" in value and "kind" not in value:
            return {"kind": "manifest", **value}
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Replicas:
        most = self.count if self.max is None else self.max
        if isinstance(self.autoscaler, Manifest):
            return self  # its file has the bounds
        if self.autoscaler is not None and not self.min <= self.count <= most:
            raise ValueError(f"count must be from min ({self.min}) to max ({self.max}), got {self.count}")
        return self

    @property
    def most(self) -> int | None:
        """Most that an autoscaler may set, with what SkyServe adds beyond its maximum; none: what there is room for."""
        beyond = self.autoscaler.overprovision if isinstance(self.autoscaler, SkyServe) else 0
        return None if self.max is None else self.max + beyond

    @property
    def on_demand(self) -> int | None:
        """Of the first replicas those that are to be on demand, the others on spot; none: as pools come."""
        if isinstance(self.autoscaler, SkyServe) and self.autoscaler.falls_back:
            return min(self.autoscaler.base_ondemand_fallback_replicas, self.count)
        return None


Profiles = str | dict[MachineType, str]
"""A profile's file, or one by machine type."""


class Version(Spec):
    """One version of a model: what it is, and its share of the traffic."""

    file: str | None = Field(
        None, description="model file that `serve` loads, relative to this file; not needed by an emulated model"
    )
    profile: Profiles = Field(
        description="profile that `sim` draws from, relative to this file; or {machine type: profile}"
    )
    profile_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="hash of that profile when this was planned"
    )
    traffic: Share | None = Field(
        None, ge=0, le=1, description="of the model's requests; none: all for the first version, if no other has any"
    )

    @property
    def only_profile(self) -> str:
        """Its profile, where it has one for all machine types: see `check_single`."""
        assert isinstance(self.profile, str), "a profile by machine type"
        return self.profile

    @property
    def profiles(self) -> dict[str, str]:
        """All its profiles, by where in the version they are named."""
        if isinstance(self.profile, str):
            return {"profile": self.profile}
        return {f"profile.{type_}": profile for type_, profile in self.profile.items()}

    def profile_on(self, type_: str | None) -> str | None:
        """Its profile on machines of a type; none: it has none there."""
        return self.profile if isinstance(self.profile, str) else self.profile.get(type_ or "")


class Model(Spec):
    """One model of a deployment."""

    tags: dict[str, str] = Field({}, description="free words by name, such as team, for the bill")
    versions: dict[Name, Version] | None = Field(
        None, min_length=1, description="in place of file and profile: versions by name, which share the traffic"
    )
    file: str | None = Field(
        None, description="model file that `serve` loads, relative to this file; not needed by an emulated model"
    )
    profile: Profiles | None = Field(
        None,
        validate_default=True,
        description="profile that `sim` draws from, relative to this file; or {machine type: profile}",
    )
    profile_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="hash of that profile when this was planned"
    )
    backend: Literal["onnx", "emulated"] = Field(
        "onnx", description="emulated: holds its slot for a time drawn from the profile"
    )
    batch_axis: Literal["auto", "first", "none"] = Field(
        "auto", description="axis along which requests are stacked; auto: the first, if it is dynamic everywhere"
    )
    batching: Batching = Batching()
    queue: Queue = Queue()
    replicas: Replicas = Replicas()

    @field_validator("profile", mode="after")
    @classmethod
    def _profiled(cls, profile: Profiles | None, info: ValidationInfo) -> Profiles | None:
        if profile is None and info.data.get("versions", cls) is None:
            raise PydanticKnownError("missing")
        return profile

    @model_validator(mode="after")
    def _file(self) -> Model:
        if self.versions is not None and (self.profile, self.file, self.profile_sha256) != (None, None, None):
            raise ValueError("takes either versions, or file and profile, which are those of a single one")
        lack = [name for name, version in self.all_versions.items() if version.file is None]
        if self.backend != "emulated" and lack:
            raise ValueError(f"{self.path_to(lack[0])}file is needed unless backend is emulated")
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-9):
            raise ValueError(f"versions: their traffic must add up to 100%, got {format_share(sum(self.shares))}")
        return self

    @property
    def all_versions(self) -> dict[str, Version]:
        """Its versions by name; `v1` is the only one where none are named."""
        if self.versions is not None:
            return dict(self.versions)
        assert self.profile is not None, "neither versions nor a profile"
        return {"v1": Version(file=self.file, profile=self.profile, profile_sha256=self.profile_sha256)}

    def path_to(self, version: str) -> str:
        """What paths to a version's fields begin with, within the model."""
        return "" if self.versions is None else f"versions.{version}."

    @property
    def shares(self) -> list[float]:
        """Of the traffic, by version."""
        given = [version.traffic for version in self.all_versions.values()]
        if any(given):
            return [share or 0.0 for share in given]
        return [1.0, *[0.0] * (len(given) - 1)]

    def share_of(self, version: str) -> float:
        """Of the traffic, one version's."""
        return dict(zip(self.all_versions, self.shares, strict=True))[version]

    @property
    def main(self) -> Version:
        """The version with most of the traffic, the first of equals."""
        return list(self.all_versions.values())[self.shares.index(max(self.shares))]

    @model_validator(mode="after")
    def _engine(self) -> Model:
        policy, faults = self.batching.policy, []
        if policy != "forebay" and self.replicas.slots > 1:
            faults.append(f"replicas.slots: must be 1 under batching.policy {policy}, got {self.replicas.slots}")
        if policy not in ("forebay", "triton") and self.queue.priority_levels > 1:
            faults.append(f"queue.priority_levels: {policy} knows no priorities, got {self.queue.priority_levels}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def scheduler_spec(self) -> SchedulerSpec:
        """The limits that the scheduler of this model is built with."""
        batching, max_queue = self.batching, self.queue.max_queue
        bounded = max_queue != "unbounded" and batching.policy != "tf_serving"
        rows = int(max_queue) if bounded else -1
        if bounded and self.credit_rows > 0:
            rows = max(rows, self.credit_rows + batching.max_batch)  # what is too much is refused at the router
        return SchedulerSpec(
            max_batch=batching.max_batch,
            window_ns=batching.window,
            max_queue=rows,
            priority_levels=self.queue.priority_levels,
            slots=SLOTS_UNBOUNDED if batching.policy == "ray_serve" else self.replicas.slots,
            policy=POLICIES[batching.policy],
            settings=batching.settings,
        )

    @property
    def credit_rows(self) -> int:
        """Rows that may be outstanding at an engine before others wait at the router; 0: any number."""
        if self.queue.per != "fleet":
            return 0
        if self.batching.policy == "ray_serve":
            return self.batching.settings[0]
        return self.replicas.slots * self.batching.max_batch

    @property
    def timeout_ns(self) -> int:
        """Timeout of a request that names none; NEVER_NS if it has none."""
        return NEVER_NS if self.queue.default_timeout is None else self.queue.default_timeout


class Front(Spec):
    """Rule 10: the process that reads requests and writes answers."""

    budget: DurationNs | None = Field(
        None,
        description="longest wait for the parse before a request is refused from its header; none: a tenth of the p99 "
        "SLO that it was planned for, else unlimited",
    )
    retry_after: DurationNs = Field(
        10_000_000, ge=100_000, description="told to refused clients", validate_default=False
    )


class NodeRange(Spec):
    """Nodes that come when replicas need them, and go when they hold none."""

    min: int = Field(0, ge=0, le=10_000)
    max: int = Field(ge=1, le=10_000)

    @model_validator(mode="after")
    def _ordered(self) -> NodeRange:
        if self.min > self.max:
            raise ValueError(f"min must not be above max, got {self.min} and {self.max}")
        return self


class Pool(Spec):
    """Nodes of one kind."""

    nodes: Annotated[int, Field(ge=1, le=10_000)] | NodeRange = Field(
        1, description="number of nodes, or {min, max} where an autoscaler's replicas bring them"
    )
    provision: DurationNs = Field(
        90_000_000_000, ge=0, description="from asking for a node to having it", validate_default=False
    )
    empty_after: DurationNs = Field(
        60_000_000_000, ge=0, description="how long a node may hold no replica before it goes", validate_default=False
    )
    type: MachineType | None = Field(
        None, description="machine type by its provider's name, of which the price list knows cores and prices"
    )
    provider: Name | None = Field(None, description="none: the one that has the type")
    region: Region | None = Field(None, description="none: the one that the price list has the type in")
    zone: Region | None = Field(
        None, description="what fails together, and where spot machines come from; none: not known"
    )
    buy: Buy = Field("on_demand", description="how its nodes are bought; spot: its provider may take them back")
    patience: DurationNs = Field(
        0,
        ge=0,
        description="how long a spot node that cannot be had is waited for before the next pool is asked",
        validate_default=False,
    )
    retry: DurationNs = Field(
        180_000_000_000,
        ge=0,
        description="how long the pool is then passed over (Karpenter: 3min)",
        validate_default=False,
    )
    refund_first_hour: bool | None = Field(
        None, description="whether spot that is taken back within its first hour is free; none: as the provider does"
    )
    cores: int | None = Field(None, ge=1, description="cores of one node; may be left out where its type is known")
    memory: Bytes | None = Field(None, description="memory of one node; may be left out where its type is known")
    accelerators: int | None = Field(
        None, ge=0, description="accelerators of one node; none: as its type has, else none"
    )
    accelerator_memory: Bytes | None = Field(
        None, description="memory of one accelerator; may be left out where its type is known"
    )
    price: PriceUsdPerH | None = Field(
        None, ge=0, description="price of one node as it is bought; may be left out where its type is known"
    )
    price_origin: Origin | None = Field(
        None, description="where the price comes from; none: assumed, or as the price list says"
    )
    tags: dict[str, str] = Field({}, description="free words by name, such as team, for the bill")

    @model_validator(mode="after")
    def _known(self) -> Pool:
        missing = [name for name in ("cores", "price") if getattr(self, name) is None]
        if missing and self.type is None:
            raise ValueError(f"{', '.join(missing)}: is missing; or name a type that has it, such as c7i.xlarge")
        return self

    @property
    def most(self) -> int:
        """Nodes that there can be."""
        return self.nodes.max if isinstance(self.nodes, NodeRange) else self.nodes

    @property
    def least(self) -> int:
        """Nodes that there always are."""
        return self.nodes.min if isinstance(self.nodes, NodeRange) else self.nodes


class Deployment(Spec):
    """What `forebay serve` runs, `forebay simulate` simulates and `forebay plan` writes."""

    schema_version: SchemaVersion = 1
    models: dict[Name, Model] = Field(min_length=1)
    pools: dict[Name, Pool] = Field(min_length=1)
    front: Front = Front()
    router: Router | None = Field(None, description="needed where there are several nodes")
    prices: str | None = Field(
        None, description="price file that is laid over the shipped price list, relative to this file"
    )
    commitments: dict[Name, Commitment] = Field({}, description="paid over on-demand nodes, used or not")
    costs: Costs = Field(Costs(), description="what is paid beside nodes, and what they draw")
    planned_for: dict[str, Any] | None = Field(None, description="workload, SLO and seed that this was planned for")
    prediction: dict[str, Any] | None = Field(None, description="what the simulator says of it")

    @property
    def node_count(self) -> int:
        """Nodes of all pools, as many as there can be."""
        return sum(pool.most for pool in self.pools.values())

    @model_validator(mode="after")
    def _fleet(self) -> Deployment:
        faults = []
        if self.node_count > 1 and self.router is None:
            faults.append(f"router: is missing: {self.node_count} nodes need one, such as {{policy: p2c}}")
        if self.costs.cross_zone and (self.router is None or self.router.zone is None):
            faults.append("router.zone: is missing: costs.cross_zone is of traffic between it and nodes elsewhere")
        zoneless = [name for name, pool in self.pools.items() if pool.zone is None] if self.costs.cross_zone else []
        faults += [f"pools.{name}.zone: is missing: costs.cross_zone asks for it" for name in zoneless]
        for name, model in self.models.items():
            unknown = [pool for pool in model.replicas.on or () if pool not in self.pools]
            if unknown:
                known = ", ".join(self.pools)
                faults.append(f"models.{name}.replicas.on: must name pools ({known}), got {', '.join(unknown)}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @field_validator("planned_for")
    @classmethod
    def _slo_read(cls, planned_for: Any) -> Any:
        """The engine itself reads no more of it than these bounds; who reads all of it gives it a type of its own."""
        slo = planned_for.get("slo", {}) if isinstance(planned_for, dict) else {}
        if not isinstance(slo, dict):
            raise ValueError(f"slo: must map metrics to bounds, such as p99: 50ms, got {slo!r}")
        for key, bound in slo.items():
            try:
                p99_bounds_ns({key: bound})
            except ValueError as fault:
                raise ValueError(f"slo.{key}: {fault}") from None
        return planned_for

    def front_budget_ns(self, slo: Mapping[str, Any] | None = None) -> int:
        """Rule 10's budget: its own, else the share of the p99 that it was planned for; -1: unlimited.

        `slo` is what it is asked to hold where it was planned for nothing yet, as in a scenario.
        """
        if self.front.budget is not None:
            return self.front.budget
        asked = slo if self.planned_for is None else self.planned_for.get("slo")
        return front_budget_within_ns(p99_bounds_ns(asked or {}))


def check_single(deployment: Deployment, what: str) -> None:
    """SpecError for models of several versions, or with a profile for each machine type, which `what` cannot take."""
    faults = []
    for name, model in deployment.models.items():
        if len(model.all_versions) > 1:
            known = ", ".join(model.all_versions)
            faults.append(Fault("deployment", f"models.{name}.versions", f"{what} takes one version, got {known}"))
        elif not isinstance(model.main.profile, str):
            where = f"models.{name}.{model.path_to(next(iter(model.all_versions)))}profile"
            message = f"{what} takes one profile, got one for each of {', '.join(model.main.profile)}"
            faults.append(Fault("deployment", where, message))
    if faults:
        raise SpecError(faults)


def with_profiles(model: Model, profile: Callable[[str], str], file: Callable[[str], str] | None = None) -> Model:
    """The model with other names for the files that it is in."""

    def moved(old: Any) -> dict[str, Any]:
        profiles = old.profile
        if isinstance(profiles, dict):
            profiles = {type_: profile(name) for type_, name in profiles.items()}
        elif profiles is not None:
            profiles = profile(profiles)
        return {"profile": profiles, "file": old.file if file is None or old.file is None else file(old.file)}

    if model.versions is None:
        return model.model_copy(update=moved(model))
    versions = {name: version.model_copy(update=moved(version)) for name, version in model.versions.items()}
    return model.model_copy(update={"versions": versions})


def p99_bounds_ns(slo: Mapping[str, Any]) -> list[int]:
    """The bounds of an SLO on the p99, of all requests and of classes; ValueError if one is no duration."""
    return [
        parse_duration_ns(0 if bound == "0" else bound)
        for key, bound in slo.items()
        if key == "p99" or key.endswith(".p99")
    ]


def front_budget_within_ns(limits_ns: Iterable[int]) -> int:
    """Longest wait for the parse that the strictest of some bounds on latency allows; -1, unlimited, without any."""
    return min((limit_ns // FRONT_SHARE for limit_ns in limits_ns), default=-1)
