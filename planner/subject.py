"""What is verified: a deployment, what it was planned for, and the profile of its only model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from planner import cost
from serve import affinity, files
from serve.capacity_table import check_tables
from serve.deployment import Deployment, check_single
from serve.errors import SpecError
from serve.fleet import most
from serve.launch import Live, launch
from serve.load_plan import InputData, random_inputs, whole_inputs
from serve.manifests import with_manifests
from serve.profile import Profile
from serve.scaling_checks import check_scaling
from sim.scenario import PlannedFor

INPUT_ROWS = 64
"""Example rows of each input, which requests take in turn."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A deployment, what it was planned for, and the profile of its only model."""

    path: Path
    deployment: Deployment
    name: str
    planned: PlannedFor
    profile: Profile
    seed: int

    @property
    def profile_path(self) -> Path:
        """Where the profile lies."""
        return files.resolve(self.path, self.deployment.models[self.name].main.only_profile)

    @property
    def scaled(self) -> bool:
        """Whether the engine sets the number of its replicas."""
        return self.deployment.models[self.name].replicas.autoscaler is not None

    @property
    def replicas(self) -> int:
        """Number of replicas, the most of them where the engine sets it."""
        return most(self.deployment, self.name)

    @property
    def emulated(self) -> bool:
        """Whether its replicas only take the time that a model would."""
        return self.deployment.models[self.name].backend == "emulated"

    @property
    def replica_cores(self) -> int:
        """Cores that replicas can be busy on: none if they are emulated."""
        return 0 if self.emulated else self.replicas * self.deployment.models[self.name].replicas.threads

    @property
    def routed(self) -> bool:
        """Whether a router stands before its nodes, which is then launched with them."""
        return self.deployment.router is not None

    @property
    def nodes(self) -> int:
        """Nodes that there are."""
        return self.deployment.node_count

    @property
    def generator_cores(self) -> list[int]:
        """Where a load generator runs beside an engine of ours on this machine; beside a fleet anywhere."""
        cores = affinity.here()
        return cores if self.routed else affinity.generator_of(self.deployment, cores)

    def launch(self, log_dir: Path | None = None) -> AbstractContextManager[Live]:
        """Serve it while the block runs: its only node, or all of them behind the router."""
        return launch(self.path, log_dir=log_dir, fleet=self.routed)

    def inputs(self) -> tuple[InputData, ...]:
        """Random example rows of the shapes that were calibrated; of a fixed batch the whole, which is one row."""
        facts = self.profile.model
        tensors = [(t.name, t.datatype, t.shape) for t in facts.inputs]
        if facts.batch_axis is not None:
            return random_inputs(tensors, INPUT_ROWS, self.seed, facts.batch_axis)
        return whole_inputs(tensors, self.seed)


def read_subject(path: Path, seed: int | None = None) -> Subject:
    """The deployment to verify; SpecError if it lacks what it was planned for."""
    deployment = with_manifests(files.load(path, Deployment), path)
    check_single(deployment, "verify")
    check_tables(deployment, path)
    name, model = cost.only_model(deployment)
    if model.replicas.autoscaler is not None and (deployment.router is not None or deployment.node_count != 1):
        what = "sets the replicas of a fleet, which is not verified yet: simulate it, or set a count"
        raise SpecError.of(path, f"models.{name}.replicas.autoscaler", what)
    check_scaling(deployment)
    if deployment.planned_for is None:
        raise SpecError.of(
            path, "planned_for", "is missing: verify replays the workload in it; `forebay plan` writes it"
        )
    planned = files.parse(deployment.planned_for, PlannedFor, f"{path}: planned_for")
    profile = files.load(files.resolve(path, model.main.only_profile), Profile)
    return Subject(path, deployment, name, planned, profile, planned.seed if seed is None else seed)
