"""Ray Serve's policy, decision by decision, against the functions of the `ray` wheel itself (2.54.0).

Its `DeploymentAutoscalingState` decides, with its own configuration, cold start, factors, bounds and counters; only
where the requests are counted is replaced by the number drawn.
"""

from __future__ import annotations

import random
import sys
import warnings
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from serve import autoscaler as files
from serve.policy.scaling.metering import Counters, Gauges, Scrape
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.policy.scaling.ray_serve import RayServe, RayServeSample, RayServeSettings
from serve.scaler import ReplicaView, Scaler

SEQUENCES = 10_000
DELAYS_TENTHS = (0, 0, 1, 2, 3, 4, 6, 7, 9)
"""Delays in loops; upstream's division of floats truncates some of them."""


@pytest.fixture(scope="module")
def ray_serve() -> SimpleNamespace:
    """What of the wheel is compared with, without the web server that `ray.serve` itself would import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="ray is not installed: pip install -c constraints.txt -e '.[dev]'")
        package = ModuleType("ray.serve")
        package.__path__ = [f"{folder}/serve" for folder in ray.__path__]
        sys.modules.setdefault("ray.serve", package)
        from ray.serve._private.autoscaling_state import DeploymentAutoscalingState
        from ray.serve._private.common import DeploymentID, TimeStampedValue
        from ray.serve._private.metrics_utils import time_weighted_average
        from ray.serve.autoscaling_policy import _apply_autoscaling_config
        from ray.serve.config import AutoscalingConfig
    return SimpleNamespace(
        state=DeploymentAutoscalingState,
        id=DeploymentID("model", "app"),
        value=TimeStampedValue,
        average=time_weighted_average,
        apply=_apply_autoscaling_config,
        config=AutoscalingConfig,
    )


def test_the_wheel_is_the_one_whose_rules_are_restated(ray_serve: SimpleNamespace) -> None:
    import ray

    assert ray.__version__ == "2.54.0"
    ours, theirs = RayServeSettings(), ray_serve.config()
    assert ours.target_ongoing_requests == theirs.get_target_ongoing_requests()
    assert ours.upscale_delay_ns == theirs.upscale_delay_s * SECOND_NS
    assert ours.downscale_delay_ns == theirs.downscale_delay_s * SECOND_NS
    assert (ours.min_replicas, ours.max_replicas) == (theirs.min_replicas, theirs.max_replicas)
    file = files.RayServe(kind="ray_serve")
    assert (file.look_back, file.push) == (30 * SECOND_NS, 10 * SECOND_NS)
    assert (theirs.look_back_period_s, theirs.metrics_interval_s) == (30.0, 10.0)


def _drawn_settings(rng: random.Random) -> RayServeSettings:
    least = rng.choice((0, 0, 1, 1, 2, 3))
    factors = {
        name: rng.choice((None, None, 0.1, 0.5, 0.9, 1.0, 1.3, 3.0))
        for name in ("upscaling_factor", "downscaling_factor")
    }
    factors |= {
        name: rng.choice((None, None, None, 0.3, 2.0))
        for name in ("upscale_smoothing_factor", "downscale_smoothing_factor")
    }
    return RayServeSettings(
        min_replicas=least,
        max_replicas=max(1, least + rng.choice((0, 1, 2, 7, 30))),
        target_ongoing_requests=rng.choice((0.5, 1.0, 1.7, 2.0, 3.3, 10.0)),
        smoothing_factor=rng.choice((1.0, 1.0, 1.0, 0.6, 1.9)),
        upscale_delay_ns=rng.choice(DELAYS_TENTHS) * SECOND_NS // 10,
        downscale_delay_ns=rng.choice(DELAYS_TENTHS) * SECOND_NS // 10,
        downscale_to_zero_delay_ns=rng.choice((None, *(tenths * SECOND_NS // 10 for tenths in DELAYS_TENTHS))),
        **factors,
    )


def _their_state(ray_serve: SimpleNamespace, settings: RayServeSettings) -> Any:
    """The wheel's autoscaler of one deployment, as `register` leaves it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older names of the factors are deprecated
        config = ray_serve.config(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing_requests,
            smoothing_factor=settings.smoothing_factor,
            upscaling_factor=settings.upscaling_factor,
            downscaling_factor=settings.downscaling_factor,
            upscale_smoothing_factor=settings.upscale_smoothing_factor,
            downscale_smoothing_factor=settings.downscale_smoothing_factor,
            upscale_delay_s=settings.upscale_delay_ns / SECOND_NS,
            downscale_delay_s=settings.downscale_delay_ns / SECOND_NS,
            downscale_to_zero_delay_s=None
            if settings.downscale_to_zero_delay_ns is None
            else settings.downscale_to_zero_delay_ns / SECOND_NS,
        )
    state = ray_serve.state(ray_serve.id)
    state._config, state._policy_state = config, {}
    state._policy = ray_serve.apply(config.policy.get_policy())
    state.record_autoscaling_metrics = lambda *_: None
    state._create_deployment_snapshot = lambda **_: None
    return state


@pytest.mark.parametrize("part", range(10))
def test_every_decision_of_random_sequences_is_the_wheels(ray_serve: SimpleNamespace, part: int) -> None:
    """Load, replicas that come late, die or are set by somebody else, and what the policy itself set."""
    acted = 0
    for number in range(part, SEQUENCES, 10):
        rng = random.Random(f"ray-serve/{number}")
        settings = _drawn_settings(rng)
        ours, theirs = RayServe(settings), _their_state(ray_serve, settings)
        target = running = rng.randint(settings.min_replicas, settings.max_replicas)
        ongoing = 0.0
        for loop in range(rng.randint(5, 40)):
            if rng.random() < 0.2:  # else it stays a while: delays must be able to end
                ongoing = rng.choice((0.0, float(rng.randint(0, 40)), rng.uniform(0.0, 60.0)))
            running = rng.choice((running, running, running, target, max(0, running - 1)))
            theirs._running_replicas = range(running)
            theirs.get_total_num_requests = lambda value=ongoing: value
            wanted = theirs.get_decision_num_replicas(target)
            decision = ours.decide(RayServeSample(loop, running, target, ongoing))
            assert decision.wanted == wanted, (number, loop, settings)
            assert ours.counter == theirs._policy_state.get("__decision_counters", 0), (number, loop, settings)
            acted += wanted != target
            target = wanted if rng.random() < 0.98 else rng.randint(settings.min_replicas, settings.max_replicas)
    assert acted > 1_000, "sequences that decide nothing compare nothing"


def test_the_mean_over_pushes_is_the_wheels_time_weighted_average(ray_serve: SimpleNamespace) -> None:
    """Pushes at fixed instants, each valid until the next, the last until now."""
    autoscaler = files.RayServe(kind="ray_serve")
    for number in range(300):
        rng = random.Random(f"ray-window/{number}")
        scaler = Scaler(autoscaler, files.Bounds(least=1, most=9), threads=1)
        pushes = []
        for push in range(1, rng.randint(2, 9)):
            at_ns, ongoing = push * autoscaler.push, rng.randint(0, 50)
            scaler.scrape(at_ns, {0: Scrape(at_ns, Counters(), Gauges(ongoing=ongoing))})
            pushes.append((at_ns, ongoing))
        now_ns = pushes[-1][0] + rng.randint(1, 99) * autoscaler.loop
        seen: list[RayServeSample] = []
        scaler._policy = SimpleNamespace(decide=seen.append)
        scaler.decide(now_ns, [ReplicaView(0, 0, 0)])
        series = [ray_serve.value(at / SECOND_NS, n) for at, n in pushes if at > now_ns - autoscaler.look_back]
        expected = ray_serve.average(series, last_window_s=(now_ns - pushes[-1][0]) / SECOND_NS)
        assert seen[0].ongoing == pytest.approx(expected, rel=1e-9)
