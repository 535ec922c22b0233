"""Ray Serve's config file: the `autoscaling_config` of one of its deployments."""

from __future__ import annotations

from typing import Any

from serve.manifests.node import Node, given


def ray(root: Node, name: str | None) -> tuple[dict[str, Any], int, int]:
    """(autoscaler, minimum, maximum) of the deployment of that name; without one, of the only one autoscaled."""
    deployments = [d for application in root.nodes("applications") for d in application.nodes("deployments")]
    scaled = [d for d in deployments if d.raw("autoscaling_config") is not None]
    chosen = [d for d in scaled if name is None or d.raw("name") == name]
    if len(chosen) != 1:
        names = ", ".join(str(d.raw("name")) for d in scaled) or "none"
        wanted = "say which with name" if name is None else f"there is not one {name!r}"
        root.fault("applications", f"{wanted}; deployments with an autoscaling_config: {names}")
        return {"kind": "ray_serve"}, 1, 1
    config = chosen[0].node("autoscaling_config")
    smoothing = config.number("smoothing_factor")
    up, down = config.number("upscale_smoothing_factor"), config.number("downscale_smoothing_factor")
    found = given(
        kind="ray_serve",
        target_ongoing_requests=config.number("target_ongoing_requests"),
        upscaling_factor=_first(config.number("upscaling_factor"), up, smoothing),
        downscaling_factor=_first(config.number("downscaling_factor"), down, smoothing),
        upscale_delay=config.seconds("upscale_delay_s"),
        downscale_delay=config.seconds("downscale_delay_s"),
        downscale_to_zero_delay=config.seconds("downscale_to_zero_delay_s"),
        look_back=config.seconds("look_back_period_s"),
        push=config.seconds("metrics_interval_s"),
        initial=config.whole("initial_replicas"),
    )
    least, most = config.whole("min_replicas"), config.whole("max_replicas")
    config.refuse_others()
    return found, 1 if least is None else least, most or 1


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
