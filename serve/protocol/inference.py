"""One request to the engine and its answer: found a route, submitted or refused, answered.

What a request means is in `serve.protocol.routes` and `serve.protocol.oip`, which know no sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serve.policy.codes import (
    OUTCOME_DRAINING,
    OUTCOME_FULL,
    OUTCOME_INVALID,
    OUTCOME_OK,
    REASON_DRAINING,
    REASON_FRONT,
    REASON_NONE,
)
from serve.protocol import answer, oip, orca, routes
from serve.protocol.errors import Refusal, RequestError, refusal
from serve.protocol.exchange import Exchange
from serve.protocol.tensors import Buffer
from serve.served import Answer, LiveRequest

if TYPE_CHECKING:
    from serve.protocol.connection import Connection
    from serve.protocol.http import HttpFront

log = logging.getLogger(__name__)


class Inference(Exchange):
    """One request to the engine, which may also be for a page, and its answer."""

    __slots__ = ("entry", "front", "live", "plan", "request_id")

    def __init__(self, front: HttpFront, connection: Connection) -> None:
        super().__init__(connection, front.engine.iteration_ns())
        self.front = front
        self.entry: routes.Entry | None = None
        self.plan: oip.Plan | None = None
        self.request_id = ""
        self.live: LiveRequest | None = None

    # -- the request ---------------------------------------------------------------------------------

    def begin(self, target: bytes, method: str) -> None:
        """The header is there: its route, and whether rule 10 or the drain refuses it. RequestError: 400, 404, 405."""
        super().begin(target, method)
        route = self.route
        assert route is not None
        if route.kind == "infer":
            engine = self.front.engine
            self.entry = self.front.site.entry(route)
            if engine.draining and self.arrival_ns > engine.drain_ns:
                self.refused = REASON_DRAINING
            elif engine.over_budget(engine.iteration_ns()):  # not `arrival_ns`: a slow sender is not our delay
                self.refused = REASON_FRONT

    def complete(self, body: bytes, header_length: int | None) -> None:
        """Submit an inference; answer anything else."""
        if self.entry is not None:
            self._infer(self.entry, body, header_length)
        else:
            self._page(body)

    def _infer(self, entry: routes.Entry, body: bytes, header_length: int | None) -> None:
        """The body of an inference is there: submit it, or have the engine count why not."""
        if self.refused != REASON_NONE:
            outcome = OUTCOME_DRAINING if self.refused == REASON_DRAINING else OUTCOME_FULL
            self._turn_away(entry, outcome, self.refused)
            return
        try:
            inference = oip.read(entry.cache, body, header_length)
        except RequestError as error:
            self._turn_away(entry, OUTCOME_INVALID, error.reason, str(error))
            return
        plan = self.plan = inference.plan
        self.request_id = inference.id
        live = self.front.engine.submit(
            entry.served,
            inference.arrays,
            plan.rows,
            priority=plan.priority,
            timeout_ns=plan.timeout_ns,
            request_id=_number(inference.id),
            arrival_ns=self.arrival_ns,
            reply=self.answered,
        )
        if self.data is None:
            self.live = live

    def _turn_away(self, entry: routes.Entry, outcome: int, reason: int, error: str = "") -> None:
        self.front.engine.refuse(
            entry.served,
            reason=reason,
            arrival_ns=self.arrival_ns,
            reply=self.answered,
            outcome=outcome,
            error=error,
        )

    def _page(self, body: bytes) -> None:
        """Anything but an inference is there: answer it."""
        assert self.route is not None
        try:
            page = self.front.site.page(self.route, body)
            self.respond(page.status, page.fields, [page.body])
        except RequestError as error:
            self.refuse(Refusal(error.status, str(error)))
        except Exception:
            log.exception("%s could not be answered", self.route)
            self.refuse(Refusal(500, "internal error; the server's log has it"))

    def hang_up(self) -> None:
        """Rule 7: what it still waited for is cancelled."""
        if self.live is not None and self.entry is not None and self.data is None:
            self.front.engine.cancel(self.entry.served, self.live)
        self.live = None

    # -- the answer ----------------------------------------------------------------------------------

    def answered(self, what: Answer) -> None:
        """The engine's reply: write the response, or keep it until those before it have left."""
        self.live = None  # it refers to us by its `reply`: no cycles for the collector
        try:
            if what.outcome == OUTCOME_OK:
                self._write_outputs(what)
            else:
                retry_after_ns = self.front.engine.retry_after_ns
                self.refuse(refusal(what.outcome, what.reason, retry_after_ns, what.error))
        except RequestError as error:
            self.refuse(Refusal(error.status, str(error)))
        except Exception:
            log.exception("the answer to a request of %s could not be written", self.route)
            self.refuse(Refusal(500, "internal error; the server's log has it"))

    def _write_outputs(self, what: Answer) -> None:
        assert self.entry is not None and self.plan is not None
        fields, parts = answer.inference(self.entry.signature, self.plan, self.request_id, what.outputs)
        self.respond(200, fields, parts)

    def respond(self, status: int, fields: bytes, body: Sequence[Buffer]) -> None:
        """Answer, and say what load there is if that was asked for."""
        if self.tells and self.entry is not None:
            fields += orca.field(orca.load_of(self.entry.served))
        super().respond(status, fields, body)


def _number(request_id: str) -> int | None:
    """An id that is a number, for joining the request log with a load generator's."""
    return int(request_id) if len(request_id) <= 18 and request_id.isascii() and request_id.isdigit() else None
