"""Whether a predictive autoscaler's table is that of its model's profile (rule 20)."""

from __future__ import annotations

from pathlib import Path

from serve.autoscaler import Predictive
from serve.deployment import Deployment
from serve.errors import Fault, SpecError
from serve.files import resolve, sha256


def check_tables(deployment: Deployment, named_in: Path) -> None:
    """SpecError with every table that was computed from another profile than its model now has; a table without a hash
    was written by hand. Paths are relative to the file `named_in`."""
    faults = []
    for name, model in deployment.models.items():
        scaler = model.replicas.autoscaler
        if (
            not isinstance(scaler, Predictive)
            or scaler.profile_sha256 is None
            or not isinstance(model.main.profile, str)
        ):
            continue
        profile = resolve(named_in, model.main.only_profile)
        if sha256(profile) != scaler.profile_sha256:
            what = f"is stale: {profile} has changed since it was computed; plan again, or leave it and the hash out"
            faults.append(Fault(str(named_in), f"models.{name}.replicas.autoscaler.capacity", what))
    if faults:
        raise SpecError(faults)
