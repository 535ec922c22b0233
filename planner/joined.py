"""What can be known of an engine that was already running: its batch statistics, and the client's own view."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from serve.loadgen import STATUS_CANCELLED, ClientRows
from serve.policy.codes import (
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILED,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_LOST,
    OUTCOME_OK,
)
from serve.records import (
    ANSWERED_NS,
    ARRIVAL_NS,
    DISPATCH_NS,
    DONE_NS,
    ENQUEUE_NS,
    OUTCOME,
    REQUEST,
    START_NS,
    Rows,
    empty_rows,
)

TIMEOUT_S = 10.0

OUTCOME_OF_STATUS = {
    200: OUTCOME_OK,
    400: OUTCOME_INVALID,
    500: OUTCOME_FAILED,
    503: OUTCOME_FULL,
    504: OUTCOME_EXPIRED,
    STATUS_CANCELLED: OUTCOME_CANCELLED,
}
"""Outcome that an HTTP status stands for (rule 1); any other counts as lost."""


def rows_of_client(client: ClientRows) -> Rows:
    """Request rows with what the client knows: outcome, and the whole latency between intended and received."""
    rows = empty_rows(len(client))
    rows[:, REQUEST] = client.request
    rows[:, OUTCOME] = [OUTCOME_OF_STATUS.get(int(s), OUTCOME_LOST) for s in client.status]
    answered = rows[:, OUTCOME] == OUTCOME_OK
    for column in (ARRIVAL_NS, ENQUEUE_NS, DISPATCH_NS, START_NS):
        rows[:, column] = client.intended_ns
    for column in (DONE_NS, ANSWERED_NS):
        rows[answered, column] = client.received_ns[answered]
    return rows


def batch_counts(url: str, model: str) -> dict[int, int]:
    """Batches by their rows since the server loaded the model, by its statistics endpoint."""
    with urllib.request.urlopen(f"{url.rstrip('/')}/v2/models/{quote(model)}/stats", timeout=TIMEOUT_S) as answer:
        return counts_of(json.load(answer))


def counts_of(statistics: Mapping[str, Any]) -> dict[int, int]:
    """Batches by rows in a statistics answer (OIP v2 statistics extension), all versions together."""
    counts: dict[int, int] = {}
    for version in statistics["model_stats"]:
        for batch in version.get("batch_stats", []):
            rows = int(batch["batch_size"])
            counts[rows] = counts.get(rows, 0) + int(batch["compute_infer"]["count"])
    return counts


def batch_shares_between(before: Mapping[int, int] | None, after: Mapping[int, int]) -> dict[int, float]:
    """Share of the batches between two readings by their rows; empty if there were none."""
    fresh = {rows: count - (before or {}).get(rows, 0) for rows, count in sorted(after.items())}
    total = float(np.sum(list(fresh.values())))
    return {rows: count / total for rows, count in fresh.items() if count} if total else {}
