"""HorizontalPodAutoscaler (autoscaling/v2) and KEDA's ScaledObject (keda.sh/v1alpha1)."""

from __future__ import annotations

from typing import Any

from serve.manifests.node import Node, given

ONGOING, WAITING = "ongoing", "waiting"
_WORDS = {
    ONGOING: ("ongoing", "in_flight", "inflight", "concurren", "active_requests"),
    WAITING: ("waiting", "queue", "pending", "backlog"),
}
"""What a metric's name or query says if it counts requests enqueued and not answered, or not dispatched."""

_DIRECTIONS = {"scale_up": "scaleUp", "scale_down": "scaleDown"}
_SELECT = {"Max": "max", "Min": "min", "Disabled": "disabled"}
_RATES = {"Pods": "pods", "Percent": "percent"}
_HOW = "only CPU utilisation and metrics of requests in flight or waiting are simulated"


def metric_of(text: str) -> str | None:
    """Which of our metrics a name or a query means; None if none, or either, could be meant."""
    meant = [metric for metric, words in _WORDS.items() if any(word in text.lower() for word in words)]
    return meant[0] if len(meant) == 1 else None


def hpa(root: Node) -> tuple[dict[str, Any], int, int]:
    """(autoscaler, minimum, maximum) of a HorizontalPodAutoscaler."""
    spec = root.node("spec")
    found: dict[str, Any] = {"kind": "hpa"}
    metrics = spec.nodes("metrics")
    if not metrics:
        found["cpu"] = 80  # upstream's SetDefaults_HorizontalPodAutoscaler
    for metric in metrics:
        target = _metric(metric)
        for name in target.keys() & found.keys():
            metric.fault("", f"is a second metric of {name}, of which one is simulated")
        found |= target
    found |= _behavior(spec.node("behavior"))
    least, most = spec.whole("minReplicas") or 1, _most(spec, "maxReplicas", None)
    spec.refuse_others("scaleTargetRef")
    return found, least, most


def _metric(metric: Node) -> dict[str, Any]:
    """One metric's target, under its name of ours."""
    kind = metric.raw("type")
    if kind in ("Resource", "ContainerResource"):
        part = metric.node(kind[0].lower() + kind[1:])
        part.raw("container")
        target = part.node("target")
        percent = target.whole("averageUtilization")
        if part.raw("name") == "cpu" and target.raw("type") == "Utilization" and percent is not None:
            return {"cpu": percent}
    elif kind == "Pods":
        part = metric.node("pods")
        name, target = part.node("metric").raw("name"), part.node("target")
        value, ours = target.quantity("averageValue"), metric_of(str(name))
        if ours is not None and target.raw("type") == "AverageValue" and value is not None:
            return {ours: value}
    metric.fault("", f"{_HOW}, got type {kind!r}")
    return {}


def _behavior(node: Node) -> dict[str, Any]:
    return {ours: _direction(node.node(theirs)) for ours, theirs in _DIRECTIONS.items() if node.raw(theirs) is not None}


def _direction(node: Node) -> dict[str, Any]:
    limits = [_limit(policy) for policy in node.nodes("policies")]
    found = given(
        window=node.seconds("stabilizationWindowSeconds"),
        limits=limits or None,
        select=node.word("selectPolicy", _SELECT, "max"),
    )
    node.refuse_others()
    return found


def _limit(policy: Node) -> dict[str, Any]:
    kind = policy.word("type", _RATES, "pods")
    return given(**{kind: policy.whole("value")}, period=policy.seconds("periodSeconds"))


def _most(node: Node, name: str, default: int | None) -> int:
    """The maximum, which must be there unless it has a default."""
    most = node.whole(name)
    if node.raw(name) is None and default is None:
        node.fault(name, "is missing")
    return most or default or 1


def keda(root: Node) -> tuple[dict[str, Any], int, int]:
    """(autoscaler, minimum, maximum) of a ScaledObject."""
    spec = root.node("spec")
    triggers = [_trigger(trigger) for trigger in spec.nodes("triggers")]
    if not triggers:
        spec.fault("triggers", "is missing")
    found = given(
        kind="keda",
        triggers=[trigger for trigger in triggers if trigger],
        idle_replicas=spec.whole("idleReplicaCount"),
        polling=spec.seconds("pollingInterval"),
        cooldown=spec.seconds("cooldownPeriod"),
        initial_cooldown=spec.seconds("initialCooldownPeriod"),
    )
    advanced = spec.node("advanced")
    config = advanced.node("horizontalPodAutoscalerConfig")
    found |= _behavior(config.node("behavior"))
    config.refuse_others("name")
    advanced.refuse_others("restoreToOriginalReplicaCount")
    least, most = spec.whole("minReplicaCount") or 0, _most(spec, "maxReplicaCount", 100)
    spec.refuse_others("scaleTargetRef")
    return found, least, most


def _trigger(trigger: Node) -> dict[str, Any] | None:
    kind, metadata = trigger.raw("type"), trigger.node("metadata")
    if trigger.raw("metricType") not in (None, "AverageValue"):
        trigger.fault("metricType", "only AverageValue is simulated")
    ours = metric_of(f"{metadata.raw('metricName')} {metadata.raw('query')}") if kind == "prometheus" else None
    if ours is None:
        trigger.fault("", f"only prometheus triggers on requests in flight or waiting are simulated, got type {kind!r}")
        return None
    threshold = metadata.number("threshold")
    if threshold is None:
        metadata.fault("threshold", "is missing")
        return None
    return given(metric=ours, target=threshold, activation=metadata.number("activationThreshold"))
