"""An engine that was already running: batch sizes by its statistics, outcomes by the client's statuses."""

from __future__ import annotations

import numpy as np

from planner.joined import batch_shares_between, counts_of, rows_of_client
from serve.loadgen import STATUS_NONE, ClientRows
from serve.policy.codes import OUTCOME_FULL, OUTCOME_LOST, OUTCOME_OK
from serve.records import ANSWERED_NS, ARRIVAL_NS, OUTCOME


def statistics(**counts: int) -> dict[str, object]:
    """A statistics answer with so many batches of each size, such as n2=5."""
    batches = [{"batch_size": int(k[1:]), "compute_infer": {"count": n, "ns": 1}} for k, n in counts.items()]
    return {"model_stats": [{"name": "m", "version": "1", "batch_stats": batches}]}


def test_batches_between_two_readings() -> None:
    before, after = counts_of(statistics(n1=10, n2=5)), counts_of(statistics(n1=13, n2=5, n4=1))
    assert batch_shares_between(before, after) == {1: 0.75, 4: 0.25}
    assert batch_shares_between(after, after) == {}


def test_a_clients_rows_have_outcome_and_latency() -> None:
    def column(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    client = ClientRows(
        request=column(0, 1, 2),
        intended_ns=column(100, 200, 300),
        sent_ns=column(101, 201, 301),
        received_ns=column(150, 260, -1),
        status=column(200, 503, STATUS_NONE),
        start_ns=0,
        end_ns=1000,
        cpu_s=0.0,
        connections=1,
        late_after_ns=1000,
    )
    rows = rows_of_client(client)
    assert rows[:, OUTCOME].tolist() == [OUTCOME_OK, OUTCOME_FULL, OUTCOME_LOST]
    assert rows[0, ANSWERED_NS] - rows[0, ARRIVAL_NS] == 50
