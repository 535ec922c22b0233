"""One version of a model as it is served: how long its batches take on which machines, and where replicas can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve.batching import UNCHECKED
from serve.deployment import Model, Version
from serve.errors import ProfileError
from serve.files import sha256
from serve.fleet import Place
from serve.scheduler import SchedulerSpec
from sim.level import Level
from sim.plane import Ints, Node, Service
from sim.service import Drawn, Law, Measured, front_at


@dataclass(frozen=True, slots=True)
class Kind:
    """What calibration measured of a version on one kind of machine."""

    path: Path
    measured: Measured
    law: Law
    front: Ints

    def on(self, drawn: Drawn, machine: Drawn) -> Drawn:
        """What was drawn for it, on a machine whose level takes the path of another model's replicas there."""
        if self.law.exact:
            return replace(drawn, front_level=machine.front_level)
        service = replace(drawn.service, levels=machine.service.levels, level_bin_ns=machine.service.level_bin_ns)
        return Drawn(service, machine.level_shift, machine.front_level)


@dataclass(frozen=True, slots=True)
class Serving:
    """A version of a deployment's model, with what calibration measured of it."""

    name: str
    version_name: str
    model: Model
    kinds: tuple[Kind, ...]
    kind_of: Mapping[str, int]
    """By pool."""
    spec: SchedulerSpec
    places: tuple[Place, ...]
    count: int
    """Replicas that are there at first."""
    retry_after_ns: int

    @property
    def label(self) -> str:
        """What it is called among all versions of all models."""
        return self.name if len(self.model.all_versions) == 1 else f"{self.name}.{self.version_name}"

    @property
    def version(self) -> Version:
        """As the deployment says it."""
        return self.model.all_versions[self.version_name]

    @property
    def main(self) -> Kind:
        """That of its first node."""
        return self.kind(self.places[0].pool)

    def kind(self, pool: str) -> Kind:
        """That of a pool's machines."""
        return self.kinds[self.kind_of[pool]]

    @property
    def most(self) -> int:
        """Replicas that there is a place for."""
        return sum(place.replicas for place in self.places)

    @property
    def per_replica(self) -> bool:
        """Whether each replica has an engine of its own."""
        return self.model.queue.per != "node"

    def node(self, kind: Kind, drawn: Drawn, replicas: int) -> Node:
        """A node with so many replicas."""
        front = front_at(kind.front, drawn.front_level)
        expected_ns, deadline_ns = row_ns(drawn.service, self.spec), batch_deadline_ns(drawn.service, self.spec)
        return Node(self.spec, replicas, drawn.service, front, self.retry_after_ns, expected_ns, deadline_ns)

    def nodes(self, drawn: Drawn, place: Place) -> list[Node]:
        """Its nodes on one machine."""
        count = self.node_count(place)
        return [self.node(self.kind(place.pool), drawn, place.replicas // count)] * count

    def node_count(self, place: Place) -> int:
        """How many nodes it has on one machine: one, or one a replica."""
        return place.replicas if self.per_replica else 1

    @property
    def warnings(self) -> list[str]:
        """What a result says of its numbers."""
        found = []
        for kind in self.kinds:
            found += [f"{kind.path}: {warning}" for warning in kind.law.warnings]
            found += [*kind.measured.profile.warnings, *self._changed(kind.path)]
        return [*found, *self._unchecked()]

    def _changed(self, path: Path) -> list[str]:
        """That the profile is not the one that the deployment was planned with."""
        if self.version.profile_sha256 is None or sha256(path) == self.version.profile_sha256:
            return []
        return [f"{path}: is not the profile that the deployment was planned with (profile_sha256 differs)"]

    def _unchecked(self) -> list[str]:
        """That no measurement of the real engine stands behind its batching policy."""
        policy = self.model.batching.policy
        return [f"models.{self.name}.batching.policy: unchecked: {UNCHECKED[policy]}"] if policy in UNCHECKED else []


BATCH_DEADLINE_LEAST_NS = 10**9
BATCH_DEADLINE_FACTOR = 20
"""A batch hangs if it takes so many times the p99 of a full one, and a second at least (rule 19)."""


def batch_deadline_ns(service: Service, spec: SchedulerSpec) -> int:
    """After so long a batch is taken to hang."""
    cell = (service.pressure_max * (service.rows_max + 1) + spec.max_batch) << service.bits
    p99_ns = float(np.quantile(service.table[cell : cell + (1 << service.bits)], 0.99))
    return max(BATCH_DEADLINE_LEAST_NS, round(BATCH_DEADLINE_FACTOR * p99_ns * float(service.levels.max())))


def row_ns(service: Service, spec: SchedulerSpec) -> int:
    """What a row of a full batch is expected to take of a replica without neighbours."""
    cell = spec.max_batch << service.bits
    return int(service.table[cell : cell + (1 << service.bits)].mean() / spec.max_batch)


def law_of(path: Path, measured: Measured, model: Model, rows_mean: float, beside: int, level: Level | None) -> Law:
    """Service times of a model's replicas, up to `beside` of which, or of other models, share a machine.

    Raises
    ------
    ProfileError : by the profile's file, where they were not measured.
    """
    try:
        law = measured.law(model.replicas.threads, beside, model.batching.max_batch, model.backend, rows_mean)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from None
    return replace(law, level=level)


def fronts_warning(served: Sequence[Serving]) -> list[str]:
    """What is simplified where several models share a machine."""
    nodes = {(place.node, serving.name) for serving in served for place in serving.places}
    if len({node for node, _ in nodes}) == len(nodes):
        return []
    return ["models that share a machine are simulated with a front each: as one engine a model, not one for all"]
