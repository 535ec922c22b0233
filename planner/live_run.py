"""A live run measured: from the client's and the engine's rows to the Run of a Report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.arrivals import Arrivals
from planner.joined import rows_of_client
from planner.report import Run
from serve.loadgen import ClientRows
from serve.records import ARRIVAL_NS, CLIENT_COLUMNS, Rows
from sim.measured import Measurement, measure_live
from sim.measures import DELAYS
from sim.scenario import Slo
from sim.slo import bounds, limits_ns

SERVER_ONLY = frozenset({"batch_mean", "busy", "front_busy", "in_system", *DELAYS})
"""Metrics that only the engine's own log can tell."""


Scaling = Callable[[int, int], dict[str, float]]
"""Metrics of a span of CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One live replay: what the client saw, and what else was noted meanwhile."""

    client: ClientRows
    front_cores: float | None  # of a fleet's fronts on average
    router_cores: float | None = None
    batch_shares: dict[int, float] | None = None  # by the server's own statistics, where its log is not ours
    strangers_cores: float | None = None  # that others took meanwhile; none: an engine that is not ours is among them


def measured_run(
    arrivals: Arrivals,
    replayed: Replayed,
    rows: Rows | None,
    *,
    replicas: int,
    slo: Slo,
    warmup_s: float = 0.0,
    scaling: Scaling | None = None,
) -> Run:
    """One live run measured, its warm-up cut. `rows`: the engine's own log; none: only the client saw it. `scaling`
    tells of a span what an engine did that sets its own replicas, whose mean then counts instead of `replicas`."""
    client = replayed.client
    start_ns = client.start_ns + round(warmup_s * 1e9)
    end_ns = client.start_ns + arrivals.duration_ns
    table = client.table()
    columns = np.column_stack([table[c] for c in CLIENT_COLUMNS])
    mine = rows_of_client(client) if rows is None else rows[_within(rows, client.start_ns, client.end_ns)]
    front_cores = replayed.front_cores
    scaled = {} if scaling is None else scaling(start_ns, end_ns)
    measured = measure_live(
        arrivals.with_classes(mine),
        columns,
        classes=arrivals.names,
        replicas=scaled.get("replicas", replicas),
        start_ns=start_ns,
        end_ns=end_ns,
        slo_ns=limits_ns(bounds(slo, arrivals.names), arrivals.names),
        front_busy_s=None if front_cores is None else front_cores * (end_ns - start_ns) / 1e9,
    )
    run = _run_of(measured, replayed, served=rows is not None)
    return run.model_copy(update={"metrics": run.metrics | scaled}) if scaled else run


def _within(rows: Rows, start_ns: int, end_ns: int) -> Any:
    return (rows[:, ARRIVAL_NS] >= start_ns) & (rows[:, ARRIVAL_NS] <= end_ns)


def _run_of(measured: Measurement, replayed: Replayed, served: bool) -> Run:
    """A measured run as a Report holds it; without the server's log (`served` false) some metrics are unknown."""
    answered = 1.0 - sum(measured.total.get(k, 0.0) for k in ("refused", "expired", "cancelled", "failed"))
    return Run(
        metrics=_known(measured.total, served),
        classes={name: _known(part, served) for name, part in measured.classes.items()},
        requests=measured.requests,
        answered=round(measured.requests * answered) if measured.requests else 0,
        batch_rows=measured.batch_rows if served else (replayed.batch_shares or {}),
        reasons=measured.reasons if served else {},
        refusals=measured.refusals,
        late_share=replayed.client.late_share,
        loadgen_cores=replayed.client.cpu_share,
        front_cores=replayed.front_cores,
        router_cores=replayed.router_cores,
        strangers_cores=replayed.strangers_cores,
        latency_cdf_s=measured.latency_cdf_s,
    )


def _known(values: dict[str, float], served: bool) -> dict[str, float | None]:
    """What was seen; None where it is not defined."""
    seen = {name: value for name, value in values.items() if served or name not in SERVER_ONLY}
    return {name: value if math.isfinite(value) else None for name, value in seen.items()}
