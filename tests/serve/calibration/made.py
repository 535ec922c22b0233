"""Logs of a made-up launch, request by request: what the pure parts of calibration are tested on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from serve import records
from serve.calibration.rig import QUEUES, Logs, Span
from serve.loadgen import ClientRows
from serve.policy.codes import OUTCOME_FULL, OUTCOME_OK
from serve.request_log import BATCH_COLUMNS

US = 1000
MS = 1_000_000


@dataclass
class Made:
    """Collects batches and refusals; `logs()` is what a launch would have left."""

    requests: list[list[int]] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    client: list[tuple[int, int, int, int]] = field(default_factory=list)

    def batch(
        self,
        dispatch_ns: int,
        *,
        rows: tuple[int, ...] = (1,),
        wake: int = 50 * US,
        compute: int = 1 * MS,
        notice: int = 40 * US,
        finish: int = 4 * US,
        parse: int = 30 * US,
        parse_following: int = 10 * US,
        first_answer: int = 60 * US,
        answer: int = 12 * US,
        send: int = 80 * US,
        receive: int = 70 * US,
        busy: int = 0,
        replica: int = 0,
        queue: str = "solo",
        queued: int = 0,
    ) -> int:
        """A batch of one request per entry of `rows`, read in one iteration `queued` before its dispatch; its end."""
        number = len(self.batches)
        begin, end = dispatch_ns + wake, dispatch_ns + wake + compute
        seen = end + notice
        finished = seen + finish
        enqueue = dispatch_ns - queued - parse_following * (len(rows) - 1)
        arrival = enqueue - parse
        at = finished
        for place, size in enumerate(rows):
            at += first_answer if place == 0 else answer
            self._request(
                queue,
                size,
                arrival,
                enqueue + place * parse_following,
                dispatch_ns,
                end,
                at,
                send,
                receive,
                number,
                replica,
            )
        code = QUEUES.index(queue)
        values = {
            "batch": number, "queue": code, "replica": replica, "threads": 1, "rows": sum(rows), "busy": busy,
            "reason": 3, "dispatch_ns": dispatch_ns, "start_ns": dispatch_ns, "begin_ns": begin, "end_ns": end,
            "seen_ns": seen, "finished_ns": finished,
        }  # fmt: skip
        self.batches.append([values[name] for name in BATCH_COLUMNS])
        return at

    def refusal(self, enqueue_ns: int, took: int = 90 * US, rows: int = 2) -> None:
        """A request that found the null model's queue full."""
        row = self._row("null", rows, OUTCOME_FULL, enqueue_ns - 30 * US, enqueue_ns)
        row[records.ANSWERED_NS] = enqueue_ns + took
        self._keep(row, enqueue_ns - 100 * US, enqueue_ns + took + 50 * US, 503)

    def logs(self, front_cpu_s: float = 0.0) -> Logs:
        """Everything so far as one launch of one replay."""
        logs = Logs(1, {"models": {}}, 100.0)
        logs.requests = np.array(self.requests, np.int64).reshape(-1, records.ROW_WIDTH)
        logs.batches = np.array(self.batches, np.int64).reshape(-1, len(BATCH_COLUMNS))
        ids, intended, received, status = np.array(self.client, np.int64).T
        span = ClientRows(
            request=ids,
            intended_ns=intended,
            sent_ns=intended + US,
            received_ns=received,
            status=status,
            start_ns=int(intended.min()),
            end_ns=int(received.max()),
            cpu_s=len(ids) * 40e-6,
            connections=1,
            late_after_ns=MS,
        )
        logs.spans = [Span(span, front_cpu_s)]
        return logs

    def _request(self, queue, rows, arrival, enqueue, dispatch, done, answered, send, receive, batch, replica):
        row = self._row(queue, rows, OUTCOME_OK, arrival, enqueue)
        row[records.DISPATCH_NS] = row[records.START_NS] = dispatch
        row[records.DONE_NS], row[records.ANSWERED_NS] = done, answered
        row[records.BATCH], row[records.REPLICA] = batch, replica
        self._keep(row, arrival - send, answered + receive, 200)

    def _row(self, queue, rows, outcome, arrival, enqueue):
        row = records.empty_rows(1)[0]
        row[records.QUEUE], row[records.ROWS], row[records.OUTCOME] = QUEUES.index(queue), rows, outcome
        row[records.ARRIVAL_NS], row[records.ENQUEUE_NS] = arrival, enqueue
        return row

    def _keep(self, row, intended, received, status):
        row[records.REQUEST] = len(self.requests)
        self.client.append((len(self.requests), intended, received, status))
        self.requests.append(row.tolist())
