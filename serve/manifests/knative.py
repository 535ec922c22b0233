"""A Knative Service whose revisions are scaled by the KPA: annotations of its template."""

from __future__ import annotations

from typing import Any

from serve.manifests.node import Node, given

PREFIX = "autoscaling.knative.dev/"
_METRICS = {"concurrency": "concurrency", "rps": "rps"}
_DURATIONS = {"window": "stable_window", "scale-down-delay": "scale_down_delay"}
_CLASS = "kpa.autoscaling.knative.dev"


def knative(root: Node) -> tuple[dict[str, Any], int, int]:
    """(autoscaler, minimum, maximum) of a Service."""
    template = root.node("spec").node("template")
    all_annotations = template.node("metadata").node("annotations")
    annotations = _Annotations(all_annotations)
    if (kind := all_annotations.raw(f"{PREFIX}class")) not in (None, _CLASS):
        all_annotations.fault(f"{PREFIX}class", f"only {_CLASS} is simulated, got {kind!r}")
    found = given(
        kind="kpa",
        metric=all_annotations.word(f"{PREFIX}metric", _METRICS, "concurrency"),
        target=annotations.number("target"),
        concurrency=template.node("spec").whole("containerConcurrency"),
        utilization=annotations.share("target-utilization-percentage"),
        panic_window=annotations.share("panic-window-percentage"),
        panic_threshold=annotations.share("panic-threshold-percentage"),
        burst_capacity=annotations.number("target-burst-capacity"),
        initial_replicas=annotations.whole("initial-scale"),
        activation_replicas=annotations.whole("activation-scale"),
        pod_retention=annotations.text("scale-to-zero-pod-retention-period"),
        **{ours: annotations.text(theirs) for theirs, ours in _DURATIONS.items()},
    )
    found |= given(initial=found.get("initial_replicas"))
    most, least = annotations.whole("max-scale"), annotations.whole("min-scale") or 0
    all_annotations.refuse_others(*(name for name in all_annotations.names if not name.startswith(PREFIX)))
    if not most:
        all_annotations.fault(f"{PREFIX}max-scale", "is missing or 0: a simulation needs a bound")
    return found, least, most or 1


class _Annotations:
    """Values of our prefix."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def number(self, name: str) -> float | None:
        """A number, given as text."""
        return self._node.number(PREFIX + name)

    def whole(self, name: str) -> int | None:
        """A whole number, given as text."""
        return self._node.whole(PREFIX + name)

    def share(self, name: str) -> str | None:
        """A per cent figure, as a share of ours."""
        value = self.number(name)
        return None if value is None else f"{value:g}%"

    def text(self, name: str) -> str | None:
        """A duration of Go's, whose simple forms are ours: `60s`, `15m` becomes `15min`."""
        value = self._node.raw(PREFIX + name)
        if value is None:
            return None
        text = str(value)
        return f"{text[:-1]}min" if text.endswith("m") and text[:-1].isdigit() else text
