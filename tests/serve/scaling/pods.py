"""Pods as the HPA's calculator sees them: what the tests of the HPA share."""

from __future__ import annotations

from serve.policy.scaling.hpa_replicas import Pod, Readiness
from serve.policy.scaling.nanoseconds import SECOND_NS

NOW = 100_000 * SECOND_NS
READINESS = Readiness(cpu_initialization_ns=120 * SECOND_NS, initial_delay_ns=10 * SECOND_NS)
"""The controller's flags in upstream's tests."""


def pods_of(requests: list[int], **marks: tuple[int, ...]) -> tuple[Pod, ...]:
    """Pods that have been ready for long, apart from those whose index is marked: hot, unready, pending, ..."""

    def is_(word: str, index: int) -> bool:
        return index in marks.get(word, ())

    return tuple(
        Pod(
            started_ns=NOW if is_("hot", index) else 0,
            ready_changed_ns=NOW if is_("hot", index) else 0,
            ready=not is_("unready", index),
            pending=is_("pending", index),
            finished=is_("failed", index),
            deleting=is_("deleting", index),
            request_milli=request,
        )
        for index, request in enumerate(requests)
    )
