"""Nodes that are left alone for a while because they failed again and again, sans-IO (rule 17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serve.policy import retries


class Ejection(NamedTuple):
    """When a node is ejected, and for how long."""

    failures: int  # in a row
    base_ns: int  # of the first ejection, twice that of the second, ...
    percent: int  # of the nodes in rotation that may be ejected at a time; one always


class Ejector:
    """Of nodes numbered from 0, in rotation or not; instants are whoever asks's, in ns, and never go back."""

    def __init__(self, nodes: int, rule: Ejection) -> None:
        self._rule = rule
        self._failures = [0] * nodes  # since the last answer that was none
        self._ejections = [0] * nodes
        self._until_ns = [0] * nodes

    def enter(self, node: int) -> None:
        """A node comes into rotation: it is another one than what had its number before."""
        self._failures[node] = self._ejections[node] = self._until_ns[node] = 0

    def left(self, rotation: Sequence[int], now_ns: int) -> list[int]:
        """Those of a rotation that are not ejected; if all are, there is nothing better than all of them."""
        return [node for node in rotation if self._until_ns[node] <= now_ns] or list(rotation)

    def hear(self, node: int, outcome: int, rotation: Sequence[int], now_ns: int) -> bool:
        """An answer of a node; whether that ejects it."""
        verdict = retries.judged(outcome)
        if verdict == 0 or self._until_ns[node] > now_ns:
            return False
        self._failures[node] = self._failures[node] + 1 if verdict > 0 else 0
        if self._failures[node] < self._rule.failures:
            return False
        self._failures[node] = 0
        out = sum(self._until_ns[other] > now_ns for other in rotation)
        if out >= retries.ejections_max(len(rotation), self._rule.percent):
            return False
        self._ejections[node] += 1
        self._until_ns[node] = now_ns + retries.ejected_ns(self._rule.base_ns, self._ejections[node])
        return True
