"""Deployments whose autoscalers are named files of other projects: read, they are deployments like any other."""

from __future__ import annotations

from pathlib import Path

from serve.autoscaler import Manifest
from serve.deployment import Deployment, Replicas
from serve.errors import Fault, SpecError
from serve.files import resolve
from serve.manifests.read import read


def with_manifests(deployment: Deployment, named_in: Path) -> Deployment:
    """The deployment with its manifests read; their paths are relative to the file `named_in`.

    Raises
    ------
    SpecError : a file that cannot be read or asks for what is not simulated, bounds that are said twice; all at once.
    """
    models, faults = {}, []
    for name, model in deployment.models.items():
        try:
            replicas = _read(model.replicas, named_in, f"models.{name}.replicas")
            models[name] = model.model_copy(update={"replicas": replicas})
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)
    return deployment.model_copy(update={"models": models})


def _read(replicas: Replicas, named_in: Path, where: str) -> Replicas:
    manifest = replicas.autoscaler
    if not isinstance(manifest, Manifest):
        return replicas
    path = resolve(named_in, manifest.from_)
    said = {"min": replicas.min != 1, "max": replicas.max is not None}
    if faults := [
        Fault(str(named_in), f"{where}.{bound}", f"is {path}'s to say; leave it out")
        for bound, is_said in said.items()
        if is_said
    ]:
        raise SpecError(faults)
    found = read(path, manifest.name)
    begins = found.initial if found.initial is not None else replicas.count
    bounds = {"min": found.least, "max": found.most, "count": max(1, min(max(begins, found.least), found.most))}
    return replicas.model_copy(update={"autoscaler": found.autoscaler, **bounds})
