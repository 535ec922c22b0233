"""What load a server has, told with an answer to who asks for it: Open Request Cost Aggregation's header fields.

A client (here a router, rule 17) sends `endpoint-load-metrics-format: TEXT`, the answer then has
`endpoint-load-metrics: TEXT named_metrics.ongoing_requests=3, ...`. Sources: the ORCA load report of
CNCF's xDS (xds/data/orca/v3) and its header encoding, as Envoy reads it and Triton and vLLM write it.
"""

from __future__ import annotations

from dataclasses import dataclass

from serve.served import Served

ASKED = b"endpoint-load-metrics-format"
TOLD = b"endpoint-load-metrics"
TEXT = b"text"
_PREFIX = b"named_metrics."


@dataclass(frozen=True, slots=True)
class Load:
    """What `serve.policy.routing.reported` goes by."""

    ongoing_requests: int  # enqueued, and of no batch that is finished
    ongoing_rows: int
    replicas_up: int  # that take batches


def load_of(served: Served) -> Load:
    """The load of a model now."""
    scheduler = served.scheduler
    available = sum(replica.up and not replica.draining for replica in scheduler.replicas)
    return Load(scheduler.ongoing_requests, scheduler.ongoing_rows, available)


def field(load: Load) -> bytes:
    """The header field, with its line end."""
    parts = (load.ongoing_requests, load.ongoing_rows, load.replicas_up)
    return (
        b"endpoint-load-metrics: TEXT named_metrics.ongoing_requests=%d, named_metrics.ongoing_rows=%d, "
        b"named_metrics.replicas_up=%d\r\n" % parts
    )


def read(value: bytes) -> Load | None:
    """The load that a field's value tells; None if it is not one of ours."""
    form, _, text = value.strip().partition(b" ")
    if form.lower() != TEXT:
        return None
    told = dict(part.strip().removeprefix(_PREFIX).partition(b"=")[::2] for part in text.split(b","))
    try:
        return Load(*(int(told[name]) for name in (b"ongoing_requests", b"ongoing_rows", b"replicas_up")))
    except (KeyError, ValueError):
        return None
