"""The live engine: one event loop that drives a scheduler per model and its replica processes.

Read `serve.node` first (what happens to a request, sans-IO), then this file (the clock, the sockets
and the processes around it), then `serve.replica` (the other end of the socket).
"""

from __future__ import annotations

import time
from pathlib import Path

from serve.deployment import Deployment
from serve.policy.codes import OUTCOME_INVALID
from serve.served import Answer, Arrays, LiveRequest, Reply, Served, Statistics

__all__ = ["Answer", "Engine", "LiveRequest", "Served", "Statistics"]


class Engine:
    """All models of a deployment on this machine, driven by one event loop.

    Life: `await start()`, then fronts call `submit` from the loop, then `drain()`, `await drained()`,
    `await close()`.
    """

    models: dict[str, Served]
    retry_after_ns: int
    draining: bool
    drain_ns: int  # instant of the drain: what arrived before it is still admitted

    def __init__(self, deployment: Deployment, folder: Path, log_dir: Path | None = None) -> None:
        raise NotImplementedError

    # -- what a front calls -------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Every replica had loaded and warmed up, and the engine does not drain."""
        raise NotImplementedError

    @staticmethod
    def now_ns() -> int:
        """CLOCK_MONOTONIC, the clock of every stamp."""
        return time.monotonic_ns()

    def iteration_ns(self) -> int:
        """Arrival stamp: when the loop iteration that is running now began to read."""
        raise NotImplementedError

    def over_budget(self, arrival_ns: int) -> bool:
        """Rule 10: whether a request that arrived then is refused from its header alone, before its parse."""
        raise NotImplementedError

    def submit(
        self,
        served: Served,
        inputs: Arrays,
        rows: int,
        *,
        priority: int,
        timeout_ns: int,
        request_id: int | None,
        arrival_ns: int,
        reply: Reply,
    ) -> LiveRequest:
        """Enqueue a parsed request (rule 1) and run rule 3. `reply` may be called before this returns.

        Parameters
        ----------
        inputs : one array a model input, dtype as in NUMPY_OF_DATATYPE, C order, the rows along the
            first axis (whole shape if the model's batch is fixed); kept until the batch has been sent.
        rows : >= 1; more than max_batch is answered `invalid`.
        priority : inside number, 0 is the highest, below `priority_levels`.
        timeout_ns : NEVER_NS for none.
        request_id : numeric id of the client, or None.
        arrival_ns : what `iteration_ns()` said when the request's first byte was read.
        """
        raise NotImplementedError

    def cancel(self, request: LiveRequest) -> None:
        """Rule 7: the client hung up. A waiting request is dropped; `reply` is not called any more."""
        raise NotImplementedError

    def refuse(
        self,
        served: Served | None,
        *,
        reason: int,
        arrival_ns: int,
        reply: Reply,
        outcome: int = OUTCOME_INVALID,
        error: str = "",
        rows: int = 1,
        request_id: int | None = None,
    ) -> None:
        """A refuse job: count, log and answer a request that never reached the scheduler.

        Reasons: REASON_FRONT (outcome full), REASON_DRAINING (outcome draining), else invalid.
        """
        raise NotImplementedError

    # -- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Spawn, load and warm every replica. Raises EngineError naming the model and what is wrong."""
        raise NotImplementedError

    def drain(self) -> None:
        """Rule 12: not ready; what arrives from now on is refused, what is inside is answered."""
        raise NotImplementedError

    async def drained(self) -> None:
        """Return when everything that was admitted has been answered."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop the replicas and write the logs."""
        raise NotImplementedError
