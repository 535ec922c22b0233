"""What of a deployment and a workload cannot be simulated, or should be said of it."""

from __future__ import annotations

from collections.abc import Sequence

from serve.autoscaler import Idle, Kpa, Predictive, SkyServe
from serve.deployment import Deployment, Model
from serve.errors import Fault, SpecError
from serve.policy.retries import ATTEMPTS_MAX
from sim.scenario import Workload


def check_clients(deployment: Deployment, workload: Workload) -> None:
    """SpecError for clients' timeouts or keys without a router, no keys for affinity, or too many attempts."""
    router, faults = deployment.router, []
    for name, class_ in workload.classes.items():
        if class_.affinity is None and router is not None and router.policy == "affinity":
            faults.append(
                (f"workload.classes.{name}.affinity", "is missing, such as {keys: 1000}: the router goes by it")
            )
        if class_.affinity is not None and router is None:
            faults.append((f"workload.classes.{name}.affinity", "needs a router"))
        where = f"workload.classes.{name}.client"
        if class_.client is not None and router is None:
            faults.append((where, "needs a router, such as {policy: round_robin}, also before a single node"))
        elif class_.client is not None and router is not None:
            at_router = 1 + (router.retry.max if router.retry else 0) + (router.hedge is not None)
            attempts = (class_.client.retries + 1) * at_router
            if attempts > ATTEMPTS_MAX:
                faults.append(
                    (f"{where}.retries", f"make {attempts} attempts with the router's; at most {ATTEMPTS_MAX}")
                )
    if faults:
        raise SpecError([Fault("scenario", field, what) for field, what in faults])


def check_scaling(deployment: Deployment, names: Sequence[str]) -> None:
    """SpecError for what of the models that are asked for cannot be simulated."""
    faults = [fault for name in names for fault in _scaling_faults(deployment, name)]
    if len(names) > 1:
        what = f"kind idle cannot be simulated beside other models ({', '.join(names)}): keda, kpa and ray_serve can"
        faults += [
            (f"models.{name}.replicas.autoscaler.kind", what)
            for name in names
            if isinstance(deployment.models[name].replicas.autoscaler, Idle)
        ]
    if faults:
        raise SpecError([Fault("deployment", field, what) for field, what in faults])


def _scaling_faults(deployment: Deployment, name: str) -> list[tuple[str, str]]:
    """What of one model cannot be simulated."""
    model, faults = deployment.models[name], []
    where = f"models.{name}"
    scaler = model.replicas.autoscaler
    if isinstance(scaler, SkyServe):
        faults += _skyserve_faults(deployment, model, where)
    if scaler is not None and scaler.kind == "idle":
        faults += _idle_faults(model, where)
    if scaler is not None and len(model.all_versions) > 1 and scaler.kind in ("idle", "skyserve"):
        faults.append((f"{where}.replicas.autoscaler.kind", f"{scaler.kind} takes a model of one version"))
    single = len(model.all_versions) == 1 and isinstance(model.main.profile, str)
    if isinstance(scaler, Predictive) and scaler.capacity is None and not single:
        what = "is missing: it is computed only for a model of one version with one profile"
        faults.append((f"{where}.replicas.autoscaler.capacity", what))
    if len(model.all_versions) > 1 and deployment.router is None:
        faults.append(("router", f"is missing: it divides the traffic over versions ({', '.join(model.all_versions)})"))
    if scaler is not None and model.replicas.min == 0 and deployment.router is None:
        faults.append(("router", "is missing: it holds what comes while there is no replica (replicas.min: 0)"))
    if scaler is not None and model.replicas.min == 0 and scaler.kind in ("hpa", "target_tracking"):
        faults.append((f"{where}.replicas.min", f"must be at least 1: {scaler.kind} does not scale from zero"))
    by_arrivals = isinstance(scaler, Predictive) or (isinstance(scaler, Kpa) and scaler.metric == "rps")
    if scaler is not None and by_arrivals and model.queue.per == "fleet":
        what = f"kind {scaler.kind} goes by what arrives at replicas, which wait for it with queue.per: fleet"
        faults.append((f"{where}.replicas.autoscaler", f"{what}; queue.per: replica, or another kind"))
    if model.queue.per != "node" and deployment.router is None:
        faults.append(("router", f"is missing: engines of their own (queue.per: {model.queue.per}) need one"))
    return faults


def _skyserve_faults(deployment: Deployment, model: Model, where: str) -> list[tuple[str, str]]:
    """What SkyServe needs: its minimum to begin with, machines of both kinds to fall back, whole reports."""
    replicas, scaler, faults = model.replicas, model.replicas.autoscaler, []
    assert isinstance(scaler, SkyServe), "whoever calls has looked"
    first = max(1, replicas.min)
    if replicas.count != first:
        what = f"must be {first}: kind skyserve begins with replicas.min ({replicas.min}); got {replicas.count}"
        faults.append((f"{where}.replicas.count", what))
    if scaler.window % scaler.report:
        what = "must be a multiple of report, in which arrivals are counted"
        faults.append((f"{where}.replicas.autoscaler.window", what))
    if scaler.falls_back:
        pools = replicas.on or list(deployment.pools)
        for buy, use in (("spot", "its replicas"), ("on_demand", "its fallback")):
            if all(deployment.pools[pool].buy != buy for pool in pools):
                what = f"must name a pool of buy: {buy}, for {use} (kind skyserve); got {', '.join(pools)}"
                faults.append((f"{where}.replicas.on", what))
    return faults


def _idle_faults(model: Model, where: str) -> list[tuple[str, str]]:
    """What `idle` needs: one replica at most, and none if it is to go."""
    replicas, faults = model.replicas, []
    if replicas.min != 0:
        faults.append((f"{where}.replicas.min", f"must be 0, or kind idle never acts; got {replicas.min}"))
    if replicas.max != 1:
        faults.append((f"{where}.replicas.max", f"must be 1: kind idle has one come and go; got {replicas.max}"))
    if model.queue.per != "node":
        faults.append((f"{where}.queue.per", "must be node: kind idle drains a replica, not an engine"))
    return faults


def asked_models(deployment: Deployment, workload: Workload) -> list[str]:
    """The model that each class asks for; SpecError for one that is not deployed, or a bad priority."""
    only = next(iter(deployment.models)) if len(deployment.models) == 1 else None
    faults, names = [], []
    for class_name, class_ in workload.classes.items():
        where = f"workload.classes.{class_name}"
        name = class_.model or only
        if name not in deployment.models:
            known = ", ".join(deployment.models)
            faults.append(Fault("scenario", f"{where}.model", f"must be one of {known}, got {class_.model or 'none'}"))
            continue
        names.append(str(name))
        levels = deployment.models[name].queue.priority_levels
        if class_.priority >= levels:
            what = f"must be below the deployment's queue.priority_levels ({levels}), got {class_.priority}"
            faults.append(Fault("scenario", f"{where}.priority", what))
    if faults:
        raise SpecError(faults)
    return names


def core_warnings(deployment: Deployment) -> list[str]:
    """Single nodes that have fewer cores than the replicas' threads.

    No fault, since such a node runs; but its replicas then wait for each other, which nobody measured.
    """
    if deployment.node_count > 1:
        return []  # replicas are placed where there is room for them
    models = [(f"models.{name}.replicas", model.replicas) for name, model in deployment.models.items()]
    needed = sum(replicas.count * replicas.threads for _, replicas in models)
    asked = " + ".join(f"{replicas.count} x {replicas.threads}" for _, replicas in models)
    where = ", ".join(field for field, _ in models)
    return [
        f"{where}: {asked} (count x threads) need {needed} cores, but a node of pools.{name} has {pool.cores}: fewer "
        "replicas or threads, or more cores"
        for name, pool in deployment.pools.items()
        if pool.cores is not None and needed > pool.cores
    ]
