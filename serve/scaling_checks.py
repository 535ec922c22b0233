"""What of a deployment's autoscalers this engine cannot run, told before anything starts."""

from __future__ import annotations

from serve.autoscaler import Idle, Predictive, SkyServe
from serve.deployment import Deployment, Model
from serve.errors import Fault, SpecError


def check_scaling(deployment: Deployment) -> None:
    """SpecError with all faults."""
    faults = [
        Fault("deployment", f"models.{name}.replicas.{field}", what)
        for name, model in deployment.models.items()
        for field, what in _faults(model)
    ]
    if faults:
        raise SpecError(faults)


def _faults(model: Model) -> list[tuple[str, str]]:
    scaler, found = model.replicas.autoscaler, []
    if isinstance(scaler, Idle | SkyServe):
        found.append(("autoscaler", f"kind {scaler.kind} is not run by the engine"))
    if isinstance(scaler, Predictive) and scaler.capacity is None:
        found.append(("autoscaler.capacity", "is missing: the rate that 1, 2, ... replicas carry; plan writes it"))
    if scaler is not None and model.replicas.min == 0:
        what = "must be at least 1: an engine has no router that holds what comes while there is no replica"
        found.append(("min", what))
    return found
