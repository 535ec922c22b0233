"""The router's Prometheus metrics, read from its counters when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.metrics import FrontView, by_label, gauge
from serve.policy.codes import OUTCOME_PENDING
from serve.records import Outcome

if TYPE_CHECKING:
    from serve.proxy.gateway import Gateway


class RouterCollector(Collector):
    """Reads the counters of every model's router, by node."""

    def __init__(self, gateway: Gateway, front: FrontView) -> None:
        self._gateway = gateway
        self._front = front

    def collect(self) -> Iterator[Metric]:
        """One family a metric, one sample a model and node."""
        gateway = self._gateway
        yield gauge("ready", "whether every model has a node, and the router takes requests",
                    float(gateway.ready and gateway.serving))  # fmt: skip
        yield gauge("draining", "whether the router answers what it has and takes no more", float(gateway.draining))
        yield gauge("http_connections", "clients connected", float(self._front.open_connections))
        yield by_label("http_responses", "HTTP responses", "code", self._front.responses)
        in_rotation = GaugeMetricFamily("forebay_node_in_rotation", "whether requests are sent there", labels=["node"])
        connections = GaugeMetricFamily("forebay_node_connections", "connections kept with it", labels=["node"])
        for watch in gateway.watches:
            in_rotation.add_metric([watch.upstream.name], float(watch.in_rotation))
            connections.add_metric([watch.upstream.name], len(watch.upstream.connections))
        yield from (in_rotation, connections)
        yield from self._of_nodes()
        yield from self._of_models()

    def _of_nodes(self) -> Iterator[Metric]:
        labels = ["model", "node"]
        outstanding = GaugeMetricFamily("forebay_node_outstanding", "attempts sent and not answered", labels=labels)
        attempts = CounterMetricFamily("forebay_node_attempts", "attempts sent", labels=labels)
        retries = CounterMetricFamily("forebay_node_retries", "of them retries", labels=labels)
        hedges = CounterMetricFamily("forebay_node_hedges", "of them hedges", labels=labels)
        ejections = CounterMetricFamily("forebay_node_ejections", "times that it was left alone", labels=labels)
        ended = CounterMetricFamily(
            "forebay_node_outcomes", "attempts by what became of them", labels=[*labels, "outcome"]
        )
        for model, link in self._gateway.links.items():
            for watch, counts in zip(self._gateway.watches, link.router.counts, strict=True):
                key = [model, watch.upstream.name]
                outstanding.add_metric(key, link.router.balancer.outstanding[watch.upstream.number])
                attempts.add_metric(key, counts.sent)
                retries.add_metric(key, counts.retries)
                hedges.add_metric(key, counts.hedges)
                ejections.add_metric(key, counts.ejections)
                for outcome in Outcome:
                    if outcome != OUTCOME_PENDING:
                        ended.add_metric([*key, outcome.name.lower()], counts.outcomes[outcome])
        yield from (outstanding, attempts, retries, hedges, ejections, ended)

    def _of_models(self) -> Iterator[Metric]:
        buffered = GaugeMetricFamily("forebay_buffered_requests", "requests that wait for a node", labels=["model"])
        retrying = GaugeMetricFamily("forebay_retries_in_flight", "retries and hedges under way", labels=["model"])
        refused = CounterMetricFamily(
            "forebay_no_node", "requests refused for want of a node and of room to wait", labels=["model"]
        )
        for model, link in self._gateway.links.items():
            buffered.add_metric([model], len(link.router.buffered))
            retrying.add_metric([model], link.router.balancer.extra)
            refused.add_metric([model], link.router.refused)
        yield from (buffered, retrying, refused)
