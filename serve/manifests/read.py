"""From a manifest's text to an autoscaler of ours, with its bounds and what of it has no meaning here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from serve.autoscaler import Autoscaler
from serve.errors import Fault, SpecError
from serve.manifests.knative import knative
from serve.manifests.kubernetes import hpa, keda
from serve.manifests.node import Node
from serve.manifests.ray import ray

Reader = Callable[[Node], tuple[dict[str, Any], int, int]]

KINDS: dict[tuple[str, str], Reader] = {
    ("autoscaling", "HorizontalPodAutoscaler"): hpa,
    ("keda.sh", "ScaledObject"): keda,
    ("serving.knative.dev", "Service"): knative,
}
"""Readers by API group and kind."""

_AUTOSCALER: TypeAdapter[Any] = TypeAdapter(Autoscaler)


@dataclass(frozen=True, slots=True)
class Imported:
    """An autoscaler (one of the models of `serve.autoscaler`) with the bounds that its file gives."""

    autoscaler: Any
    least: int
    most: int
    initial: int | None = None
    """Replicas to begin with, if the file says so."""


def read(path: Path, name: str | None = None) -> Imported:
    """The autoscaler that a file describes; `name` picks one of several objects, or of a Ray file's deployments.

    Raises
    ------
    SpecError : it cannot be read, is of no kind that is known, or asks for what is not simulated; all faults at once.
    """
    documents = _documents(path)
    faults: list[Fault] = []
    if len(documents) == 1 and "applications" in documents[0]:
        found = ray(Node(str(path), "", documents[0], faults), name)
    else:
        document, reader = _object(path, documents, name)
        found = reader(Node(str(path), "", document, faults))
    if faults:
        raise SpecError(faults)
    fields, least, most = found
    initial = fields.pop("initial", None)
    try:
        return Imported(_AUTOSCALER.validate_python(fields), least, most, initial)
    except ValidationError as error:
        told = [Fault(str(path), ".".join(map(str, each["loc"][1:])), each["msg"]) for each in error.errors()]
        raise SpecError(told) from None


def _documents(path: Path) -> list[Mapping[str, Any]]:
    try:
        documents = [d for d in yaml.safe_load_all(path.read_text()) if d is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError.of(path, "", f"cannot be read as YAML: {error}") from None
    if not documents or not all(isinstance(d, Mapping) for d in documents):
        raise SpecError.of(path, "", "must hold one mapping, or several, each a manifest")
    return documents


def _object(path: Path, documents: list[Mapping[str, Any]], name: str | None) -> tuple[Mapping[str, Any], Reader]:
    """The one document that describes an autoscaler, of that name if there is one, and its reader."""
    found = []
    for document in documents:
        reader = KINDS.get((str(document.get("apiVersion")).split("/")[0], str(document.get("kind"))))
        metadata = document.get("metadata")
        called = metadata.get("name") if isinstance(metadata, Mapping) else None
        if reader is not None and (name is None or called == name):
            found.append((document, reader))
    if len(found) != 1:
        kinds = ", ".join(kind for _, kind in KINDS)
        which = f" called {name!r}" if name else ""
        raise SpecError.of(path, "", f"must hold one {kinds} or Ray Serve config{which}, got {len(found)}")
    return found[0]
