"""Other projects' autoscalers, read as they are; the examples are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.autoscaler import Hpa, Keda, Kpa, RayServe
from serve.errors import SpecError
from serve.manifests import Imported, read

S = 10**9

# kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale-walkthrough, and .../horizontal-pod-autoscale
HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: php-apache}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: php-apache}
  minReplicas: 1
  maxReplicas: 10
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
    - {type: Pods, pods: {metric: {name: requests_in_flight}, target: {type: AverageValue, averageValue: 500m}}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - {type: Percent, value: 100, periodSeconds: 15}
        - {type: Pods, value: 4, periodSeconds: 60}
      selectPolicy: Min
status: {observedGeneration: 1}
"""

SECOND = "    - {type: Pods, pods: {metric: {name: inflight}, target: {type: AverageValue, averageValue: 1}}}"

# keda.sh/docs, scalers/prometheus
KEDA = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: prometheus-scaledobject}
spec:
  scaleTargetRef: {name: my-deployment}
  minReplicaCount: 0
  maxReplicaCount: 20
  pollingInterval: 15
  cooldownPeriod: 120
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus:9090
        query: sum(queue_length{deployment="my-deployment"})
        threshold: '100.50'
        activationThreshold: '5.5'
"""

# knative.dev/docs/serving/autoscaling
KNATIVE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: helloworld-go, namespace: default}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
        autoscaling.knative.dev/target: "200"
        autoscaling.knative.dev/target-utilization-percentage: "80"
        autoscaling.knative.dev/window: 40s
        autoscaling.knative.dev/panic-window-percentage: "20.0"
        autoscaling.knative.dev/panic-threshold-percentage: "150.0"
        autoscaling.knative.dev/scale-down-delay: 15m
        autoscaling.knative.dev/min-scale: "0"
        autoscaling.knative.dev/max-scale: "3"
        other.example.com/note: anything
    spec:
      containerConcurrency: 50
      containers: [{image: ghcr.io/knative/helloworld-go:latest}]
"""

# docs.ray.io/en/latest/serve/advanced-guides/advanced-autoscaling
RAY = """
applications:
  - name: default
    import_path: resnet:app
    deployments:
      - name: Model
        max_ongoing_requests: 5
        autoscaling_config:
          target_ongoing_requests: 2
          min_replicas: 0
          initial_replicas: 0
          max_replicas: 200
          upscale_delay_s: 3
          downscale_delay_s: 60
          smoothing_factor: 0.5
          upscaling_factor: 0.3
          metrics_interval_s: 2
          look_back_period_s: 10
      - {name: Other, num_replicas: 2}
"""


def imported(folder: Path, text: str, name: str | None = None) -> Imported:
    path = folder / "manifest.yaml"
    path.write_text(text)
    return read(path, name)


def test_an_hpa(tmp_path: Path) -> None:
    found = imported(tmp_path, HPA)
    assert (found.least, found.most) == (1, 10)
    assert isinstance(found.autoscaler, Hpa)
    assert (found.autoscaler.cpu, found.autoscaler.ongoing, found.autoscaler.waiting) == (50, 0.5, None)
    down = found.autoscaler.scale_down
    assert down is not None and down.limits is not None and found.autoscaler.scale_up is None
    assert (down.window, down.select) == (300 * S, "min")
    assert [(limit.pods, limit.percent, limit.period) for limit in down.limits] == [
        (None, 100, 15 * S),
        (4, None, 60 * S),
    ]


def test_an_hpa_without_metrics_has_upstreams(tmp_path: Path) -> None:
    text = HPA[: HPA.index("  metrics:")]
    assert imported(tmp_path, text).autoscaler.cpu == 80


def test_a_scaled_object(tmp_path: Path) -> None:
    found = imported(tmp_path, KEDA)
    assert (found.least, found.most) == (0, 20)
    assert isinstance(found.autoscaler, Keda)
    (trigger,) = found.autoscaler.triggers
    assert (trigger.metric, trigger.target, trigger.activation) == ("waiting", 100.5, 5.5)
    assert (found.autoscaler.polling, found.autoscaler.cooldown) == (15 * S, 120 * S)


def test_a_knative_service(tmp_path: Path) -> None:
    found = imported(tmp_path, KNATIVE)
    assert (found.least, found.most) == (0, 3)
    assert isinstance(found.autoscaler, Kpa)
    kpa = found.autoscaler
    assert (kpa.target, kpa.concurrency, kpa.utilization) == (200, 50, 0.8)
    assert (kpa.stable_window, kpa.panic_window, kpa.panic_threshold) == (40 * S, 0.2, 1.5)
    assert kpa.scale_down_delay == 900 * S


def test_a_ray_serve_config(tmp_path: Path) -> None:
    for name in (None, "Model"):
        found = imported(tmp_path, RAY, name)
        assert (found.least, found.most) == (0, 200)
        assert isinstance(found.autoscaler, RayServe)
        ray = found.autoscaler
        assert (ray.upscaling_factor, ray.downscaling_factor) == (0.3, 0.5)
        assert (ray.upscale_delay, ray.downscale_delay, ray.look_back, ray.push) == (3 * S, 60 * S, 10 * S, 2 * S)


def test_one_of_several_documents_is_picked_by_name(tmp_path: Path) -> None:
    other = HPA.replace("php-apache", "second").replace("maxReplicas: 10", "maxReplicas: 7")
    with pytest.raises(SpecError, match="got 2"):
        imported(tmp_path, f"{HPA}---{other}")
    assert imported(tmp_path, f"{HPA}---{other}", "second").most == 7


@pytest.mark.parametrize(
    ("text", "old", "new", "told"),
    [
        (HPA, "maxReplicas: 10", "maxReplica: 10", "spec.maxReplicas: is missing"),
        (HPA, "maxReplicas: 10", "maxReplicas: ten", "spec.maxReplicas: must be a number, got 'ten'"),
        (HPA, "name: cpu", "name: memory", "spec.metrics.0: only CPU utilisation"),
        (HPA, "500m", "half", "averageValue: must be a quantity such as 500m or 10, got 'half'"),
        (HPA, "selectPolicy: Min", "selectPolicy: Least", "must be one of Max, Min, Disabled, got 'Least'"),
        (HPA, "HorizontalPodAutoscaler", "VerticalPodAutoscaler", "got 0"),
        (KEDA, "pollingInterval", "pollInterval", "spec.pollInterval: is unknown, or not simulated"),
        (
            KEDA,
            "triggers:",
            "advanced: {scalingModifiers: {formula: a + b}}\n  triggers:",
            "scalingModifiers: is unknown",
        ),
        (
            HPA,
            "  behavior:",
            "    - {type: Pods, pods: {metric: {name: inflight}, target: {type: AverageValue, averageValue: 1}}}\n"
            "  behavior:",
            "spec.metrics.2: is a second metric of ongoing",
        ),
        (KNATIVE, "other.example.com", "autoscaling.knative.dev", "dev/note: is unknown, or not simulated"),
        (KEDA, "type: prometheus", "type: cron", "spec.triggers.0: only prometheus triggers"),
        (KNATIVE, 'max-scale: "3"', 'max-scale: "0"', "max-scale: is missing or 0"),
        (KNATIVE, "class: kpa", "class: hpa", "only kpa.autoscaling.knative.dev is simulated"),
        (RAY, "upscale_delay_s", "upscale_delay", "autoscaling_config.upscale_delay: is unknown"),
        (RAY, "max_replicas: 200", "max_replicas: 1.5", "must be a whole number, got 1.5"),
        (RAY, "target_ongoing_requests: 2", "target_ongoing_requests: 0", "target_ongoing_requests: "),
        ("a: [", "", "", "cannot be read as YAML"),
        ("3", "", "", "must hold one mapping"),
    ],
)
def test_what_is_not_simulated_is_named(tmp_path: Path, text: str, old: str, new: str, told: str) -> None:
    with pytest.raises(SpecError, match=told.replace("(", r"\(")):
        imported(tmp_path, text.replace(old, new, 1))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    broken = HPA.replace("name: cpu", "name: memory").replace("500m", "half").replace("maxReplicas: 10", "other: 1")
    with pytest.raises(SpecError) as told:
        imported(tmp_path, broken)
    assert len(told.value.faults) >= 4
