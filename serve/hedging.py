"""When a request that is not answered yet is sent to a second node as well, sans-IO (rule 17)."""

from __future__ import annotations

from typing import NamedTuple

from serve.policy import recent, retries

P95 = -1
"""In place of a delay: the p95 of the last answers."""
PERCENT = 95


class Hedge(NamedTuple):
    """How long after an attempt its hedge is sent, if it has not been answered."""

    after_ns: int  # or P95
    answers: int = 1000  # that the p95 is of; from a tenth of them on there is one


class Hedging:
    """Knows how long the last answers took."""

    def __init__(self, rule: Hedge) -> None:
        self._rule = rule
        self._recent = [0] * int(recent.length(rule.answers))

    def answered(self, took_ns: int) -> None:
        """An attempt was answered ok, so long after it was sent."""
        if self._rule.after_ns == P95:
            recent.note(self._recent, self._rule.answers, took_ns)

    @property
    def after_ns(self) -> int:
        """How long after an attempt that is sent now a hedge is due; NEVER_NS: none will be."""
        p95_ns = recent.percentile_ns(self._recent, self._rule.answers, PERCENT)
        return int(retries.hedge_ns(self._rule.after_ns, p95_ns))
