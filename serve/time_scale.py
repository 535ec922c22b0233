"""A deployment whose control runs faster by one factor, so that an hour's ramp takes minutes.

Every time constant of scaling is divided: of autoscalers, their scrapes and ticks, of starting, probing, propagating
and draining, and of machines that come and go. What carries requests stays as it is: rates, capacities, windows of
batches, timeouts, the network.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from pydantic import PlainSerializer

from serve.autoscaler import Direction, HpaScaling, RateLimit
from serve.deployment import Deployment, Replicas
from serve.errors import SpecError
from serve.policy.scaling import hpa_rates
from serve.spec import Spec
from serve.units import format_duration

_REFUSED = {
    "scheduled": "kind scheduled goes by the time of the week, which no time scale shortens",
    "manifest": "is another project's file: read it first (serve.manifests.deployed)",
}


def faster(deployment: Deployment, time_scale: float) -> Deployment:
    """The deployment with its control's time constants divided by `time_scale` (above 0), to the nearest ns.

    Raises
    ------
    SpecError : a schedule, which goes by the time of the week; a manifest that has not been read.
    """
    models = {
        name: model.model_copy(update={"replicas": _replicas(name, model.replicas, time_scale)})
        for name, model in deployment.models.items()
    }
    pools = {name: _only(pool, time_scale, "provision", "empty_after") for name, pool in deployment.pools.items()}
    router = deployment.router and _only(deployment.router, time_scale, "probe", "propagation")
    return deployment.model_copy(update={"models": models, "pools": pools, "router": router})


def _replicas(model: str, replicas: Replicas, time_scale: float) -> Replicas:
    scaler = replicas.autoscaler
    if scaler is not None and scaler.kind in _REFUSED:
        raise SpecError.of("deployment", f"models.{model}.replicas.autoscaler", _REFUSED[scaler.kind])
    found: Replicas = _only(replicas, time_scale, "start_up", "drain_limit")
    said = _said(scaler) if isinstance(scaler, HpaScaling) else scaler
    return found.model_copy(update={"autoscaler": said and _divided(said, time_scale)})


def _only(spec: Any, time_scale: float, *fields: str) -> Any:
    """With these durations divided, where they are said."""
    said = {field: value for field in fields if (value := getattr(spec, field)) is not None}
    return spec.model_copy(
        update={f: round(v / time_scale) if isinstance(v, int) else _divided(v, time_scale) for f, v in said.items()}
    )


def _divided(value: Any, time_scale: float) -> Any:
    """A spec with all its durations divided, those of its parts too."""
    if isinstance(value, list):
        return [_divided(each, time_scale) for each in value]
    if not isinstance(value, Spec):
        return value
    update = {}
    for name, field in type(value).model_fields.items():
        now = getattr(value, name)
        if isinstance(now, int) and (_tells_time(field.metadata) or _holds_duration(field.annotation)):
            update[name] = round(now / time_scale)
        else:
            update[name] = _divided(now, time_scale)
    return value.model_copy(update=update)


def _tells_time(metadata: Any) -> bool:
    return any(isinstance(each, PlainSerializer) and each.func is format_duration for each in metadata)


def _holds_duration(annotation: Any) -> bool:
    """Whether a type is a duration, or may be one beside None."""
    if get_origin(annotation) is Annotated:
        return _tells_time(annotation.__metadata__)
    return any(_holds_duration(each) for each in get_args(annotation))


def _said(scaler: HpaScaling) -> HpaScaling:
    """With what its directions leave to upstream's defaults said, so that it is divided too."""
    if scaler.behavior is None:
        return scaler
    both = (("scale_up", scaler.scale_up, hpa_rates.UP_RULES), ("scale_down", scaler.scale_down, hpa_rates.DOWN_RULES))
    return scaler.model_copy(update={name: _direction(said or Direction(), rules) for name, said, rules in both})


def _direction(said: Direction, default: hpa_rates.ScalingRules) -> Direction:
    limits = said.limits or [
        RateLimit(period=format_duration(p.period_ns), **{p.kind.lower(): p.value}) for p in default.policies
    ]
    window_ns = default.window_ns if said.window is None else said.window
    return said.model_copy(update={"window": window_ns, "limits": limits})
