"""The balancer: which node each request is sent to, and what the router knows of the nodes, sans-IO (rule 17).

It knows only its own: what it sent, and what nodes told with their answers. `sim.reference` drives it under SimPy's
clock; it reads no clock and opens no socket, so that a live router can drive it too: what takes an instant is handed
the one at which it is called.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve.ejection import Ejection, Ejector
from serve.hedging import Hedge, Hedging
from serve.policy import retries, routing
from serve.policy.codes import NEVER_NS

_OUTSTANDING = (routing.ROUTE_LEAST_OUTSTANDING, routing.ROUTE_P2C)
_TOLD = (routing.ROUTE_SHORTEST_QUEUE, routing.ROUTE_LEAST_WORK)


class Balancer:
    """Of nodes numbered from 0, all of them in rotation until `rotate`.

    A router sends an attempt by `send`, hears of it by `forget`, `hear`, `judge` and `answered`, and then may `retry`
    it; `hedge_after_ns` after it was sent it may `hedge` it. Both are *extra*: they keep within one budget. With
    `credit_rows` above 0 only nodes with fewer rows outstanding are candidates (`queue.per: fleet`).
    """

    def __init__(
        self,
        policy: int,
        nodes: int,
        retries_max: int = 0,
        budget_percent: int = 20,
        ejection: Ejection | None = None,
        hedge: Hedge | None = None,
        credit_rows: int = 0,
    ) -> None:
        self.policy = policy
        self.outstanding = [0] * nodes
        self._credit_rows, self._rows = credit_rows, [0] * nodes
        self.extra = 0  # retries and hedges under way, retries that wait for their turn included
        self._retries_max, self._budget_percent = retries_max, budget_percent
        self._told = [0] * nodes
        self._rotation = list(range(nodes))
        self._ejector = None if ejection is None else Ejector(nodes, ejection)
        self._hedging = None if hedge is None else Hedging(hedge)
        self._turn = 0

    def rotate(self, nodes: Sequence[int]) -> None:
        """From now on only these are in rotation."""
        for node in set(nodes).difference(self._rotation):
            if self._ejector is not None:
                self._ejector.enter(node)
        self._rotation = sorted(nodes)

    @property
    def has_nodes(self) -> bool:
        """Whether any node is in rotation."""
        return bool(self._rotation)

    def candidates(self, now_ns: int) -> Sequence[int]:
        """Nodes in rotation that are not ejected and have credit left, in the order of their ids."""
        left = self._rotation if self._ejector is None else self._ejector.left(self._rotation, now_ns)
        if self._credit_rows == 0:
            return left
        return [node for node in left if self._rows[node] < self._credit_rows]

    def send(self, route: int, now_ns: int, besides: int = routing.NOBODY, rows: int = 1) -> int:
        """The node of an attempt of so many rows that is sent now, another one than `besides`; NOBODY if there is no
        candidate.

        `route` is its draw, or, for affinity, what is kept together (`serve.policy.routing.choose`).
        """
        score = self.outstanding if self.policy in _OUTSTANDING else self._told
        nodes = [node for node in self.candidates(now_ns) if node != besides]
        node = routing.choose(self.policy, nodes, len(nodes), score, self._turn, route, route)
        self._turn += 1
        if node != routing.NOBODY:
            self.outstanding[node] += 1
            self._rows[node] += rows
        return int(node)

    def forget(self, node: int, extra: bool, rows: int = 1) -> None:
        """An attempt there is outstanding no longer: it was answered, or nobody waits for it."""
        self.outstanding[node] -= 1
        self._rows[node] -= rows
        self.end(extra)

    def end(self, extra: bool) -> None:
        """An attempt has come to its end, or will not be made; whether it was a retry or hedge."""
        self.extra -= extra

    def retry(self, outcome: int, made: int) -> bool:
        """Whether to retry after an attempt that ended so, beyond the retries `made`; one is then under way."""
        if made >= self._retries_max or not retries.retryable(outcome) or not self._within_budget():
            return False
        self.extra += 1
        return True

    @property
    def hedge_after_ns(self) -> int:
        """How long after an attempt that is sent now its hedge is due; NEVER_NS: there will be none."""
        return NEVER_NS if self._hedging is None else self._hedging.after_ns

    def hedge(self, route: int, now_ns: int, besides: int, rows: int = 1) -> int:
        """The node of a hedge, not that of its attempt; it is then under way. NOBODY if there must be none."""
        if not self._within_budget():
            return routing.NOBODY
        node = self.send(route, now_ns, besides, rows)
        self.extra += node != routing.NOBODY
        return node

    def _within_budget(self) -> bool:
        return bool(retries.within_budget(self.extra, sum(self.outstanding), self._budget_percent))

    def answered(self, took_ns: int) -> None:
        """An attempt that was waited for was answered ok, so long after it was sent."""
        if self._hedging is not None:
            self._hedging.answered(took_ns)

    def hear(self, node: int, told: int) -> None:
        """What a node says of itself (`serve.policy.routing.reported`)."""
        if self.policy in _TOLD:
            self._told[node] = told

    def judge(self, node: int, outcome: int, now_ns: int) -> bool:
        """A node's answer to an attempt that was still waited for; whether it is ejected for it."""
        return self._ejector is not None and self._ejector.hear(node, outcome, self._rotation, now_ns)
