"""Who is in rotation: a node's readiness, asked at intervals, and its lost connections (rules 14, 15 and 17)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

from serve.proxy.upstream import Call, Reply, Upstream, request

log = logging.getLogger(__name__)

TIMEOUT_S = 1.0
"""A node that does not say in that time that it is ready is not (as in Kubernetes' probes)."""
AFTER_LOSS_S = 0.1
"""A node whose connection was lost is asked at once whether it is still there; afterwards at intervals."""


class Watch:
    """Of one node. It enters the rotation when a probe finds it ready; leaves it at once when a connection is lost,
    and `propagation_s` after it was found, or said itself, not to be ready.

    `turned` is called after each change of `in_rotation`.
    """

    def __init__(self, upstream: Upstream, probe_s: float, propagation_s: float, turned: Callable[[], None]) -> None:
        self.upstream = upstream
        self.in_rotation = False
        self.models: frozenset[str] = frozenset()  # that it serves, as it said when it entered
        self._probe_s, self._propagation_s, self._turned = probe_s, propagation_s, turned
        self._loop = asyncio.get_running_loop()
        self._leaving: asyncio.TimerHandle | None = None
        self._poked = asyncio.Event()
        self._complained = False
        upstream.lost = self.lost

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self._probe()
            # One that is about to leave is asked again before it does.
            pause_s = self._probe_s if self._leaving is None else min(self._probe_s, self._propagation_s / 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, AFTER_LOSS_S)):
                    await self._poked.wait()
                await asyncio.sleep(AFTER_LOSS_S)
            self._poked.clear()

    async def _probe(self) -> None:
        reply = await ask(self.upstream, b"GET", b"/v2/health/ready")
        if reply is None or reply.status != 200:
            self._not_ready()
        elif self.in_rotation:
            self._stay()
        else:
            await self._enter()

    async def _enter(self) -> None:
        index = await ask(self.upstream, b"POST", b"/v2/repository/index")
        if index is None or index.status != 200:
            return
        try:
            self.models = frozenset(entry["name"] for entry in json.loads(b"".join(index.body)))
        except (ValueError, KeyError, TypeError):
            log.warning("%s: does not say which models it serves", self.upstream.name)
            return
        self._turn(True, f"is ready, and serves {', '.join(sorted(self.models))}")

    def lost(self) -> None:
        """A connection of it was lost (rule 14), or could not be opened."""
        if self.in_rotation:
            self._poked.set()
            self._turn(False, "closed a connection")

    def draining(self) -> None:
        """It refused a request because it shuts down."""
        self._not_ready()

    def _not_ready(self) -> None:
        if self.in_rotation and self._leaving is None:
            self._leaving = self._loop.call_later(self._propagation_s, self._turn, False, "is not ready")
        elif not self.in_rotation and not self._complained:
            self._complained = True
            log.warning("node %d (%s) is not ready yet", self.upstream.number, self.upstream.name)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _turn(self, in_rotation: bool, why: str) -> None:
        self._stay()
        self.in_rotation = in_rotation
        level, way = (logging.INFO, "in") if in_rotation else (logging.WARNING, "out of")
        log.log(level, "node %d (%s) %s: %s rotation", self.upstream.number, self.upstream.name, why, way)
        self._turned()


async def ask(upstream: Upstream, method: bytes, target: bytes, body: bytes = b"") -> Reply | None:
    """One request to a node, waited for; None if it was lost, or takes too long."""
    answered: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
    call = Call(request(upstream, method, target, (), body), answered.set_result)
    upstream.send(call)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await answered
    except TimeoutError:
        call.cancel()
        return None
