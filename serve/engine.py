"""The live engine: one event loop that drives a scheduler per model and its replica processes.

Read `serve.node` first (what happens to a request, sans-IO), then this file (the clock and the timer
around it) and `serve.model_engine` (the processes), then `serve.replica` (the other end of the channel).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from serve import affinity
from serve.clock import TimerFd, set_timer_slack
from serve.deployment import Deployment
from serve.errors import EngineError
from serve.handle import Started
from serve.model_engine import ModelEngine
from serve.policy.codes import NEVER_NS, OUTCOME_INVALID
from serve.policy.front import over_budget
from serve.scaling import Scaling
from serve.scaling_checks import check_scaling
from serve.scaling_log import ScalingLog
from serve.served import Answer, Arrays, LiveRequest, Reply, Served, Statistics

if TYPE_CHECKING:
    from serve.request_log import RequestLog

__all__ = ["Answer", "Engine", "LiveRequest", "ModelEngine", "Served", "Statistics"]

REPLICAS_PER_CORE_MAX = 32
"""More are a slip of the pen, and would take the machine's memory before anybody could stop them."""
OWN_IDS = 2**62
"""Ids of requests whose client named none count up from here."""


class _Timed(Protocol):
    """What the timer wakes."""

    @property
    def wake_ns(self) -> int:
        """When `wake` must be called if nothing happens before."""

    def wake(self) -> None:
        """Do what is due."""


class Engine:
    """All models of a deployment on this machine, driven by the running event loop.

    Life: `await start()`, then fronts call `submit` from the loop, then `drain()`, `await drained()`,
    `await close()`.
    """

    def __init__(self, deployment: Deployment, folder: Path, log_dir: Path | None = None) -> None:
        """`folder` is what the deployment's paths are relative to; `log_dir` gets the logs, if given.

        Raises
        ------
        SpecError : an autoscaler that this engine cannot run.
        """
        check_scaling(deployment)
        self.deployment = deployment
        self.folder = folder
        self.log = None if log_dir is None else _open_log(log_dir)
        scaled = any(model.replicas.autoscaler is not None for model in deployment.models.values())
        self.scaling_log = ScalingLog(log_dir) if scaled and log_dir is not None else None
        self.loop = asyncio.get_running_loop()
        self.models: dict[str, Served] = {}
        self.retry_after_ns = deployment.front.retry_after
        self.budget_ns = deployment.front_budget_ns()
        self.draining = False
        self.drain_ns = NEVER_NS  # instant of the drain: what arrived before it is still admitted
        self._closing = False
        self._started = False
        self._drained = self.loop.create_future()
        self._iteration_ns = 0
        self._rested_ns = 0  # when the loop last had done all that there was to do
        self._next_id = OWN_IDS
        cores, self.front_cores = affinity.layout_of(deployment, affinity.here())
        self._engines = {
            name: ModelEngine(self, name, config, queue, cores[name])
            for queue, (name, config) in enumerate(deployment.models.items())
        }
        self._nodes = {name: engine.node for name, engine in self._engines.items()}
        self._schedulers = [engine.scheduler for engine in self._engines.values()]
        self._scalings: list[Scaling] = []
        self._timed: list[_Timed] = list(self._nodes.values())
        self._timer = TimerFd()
        self._armed_ns = NEVER_NS

    # -- what a front calls ------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Every replica has loaded and warmed up, and the engine does not drain."""
        return self._started and not self.draining

    @staticmethod
    def now_ns() -> int:
        """CLOCK_MONOTONIC, the clock of every stamp."""
        return time.monotonic_ns()

    def iteration_ns(self) -> int:
        """Arrival stamp: when the loop iteration that is running now began to read.

        The first to ask in an iteration sets the stamp. What it schedules to clear it runs in the
        next iteration, before that one polls its sockets.
        """
        if not self._iteration_ns:
            self._iteration_ns = time.monotonic_ns()
            self.loop.call_soon(self._clear_iteration)
        return self._iteration_ns

    def _clear_iteration(self) -> None:
        self._iteration_ns = 0
        self._rested_ns = time.monotonic_ns()

    def slept_at(self, at_ns: int) -> bool:
        """Whether the loop had nothing to do at `at_ns` nor since, until what calls this now woke it."""
        first = not self._iteration_ns
        self.iteration_ns()
        return first and self._rested_ns <= at_ns

    def over_budget(self, arrival_ns: int) -> bool:
        """Rule 10: whether a request that arrived then is refused from its header alone, before its parse."""
        return bool(over_budget(arrival_ns, time.monotonic_ns(), self.budget_ns))

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
        inputs : one array a model input, dtype as in NUMPY_OF_DATATYPE, the rows along the first
            axis (whole shape if the model's batch is fixed); kept until the batch has been answered.
        rows : >= 1; more than max_batch is answered `invalid`.
        priority : inside number, 0 is the highest, below `priority_levels`.
        timeout_ns : NEVER_NS for none.
        request_id : numeric id of the client, or None.
        arrival_ns : what `iteration_ns()` said when the request's first byte was read.
        """
        request = LiveRequest(
            id=self._own_id() if request_id is None else request_id,
            rows=rows,
            priority=priority,
            timeout_ns=timeout_ns,
            inputs=inputs,
            reply=reply,
            arrival_ns=arrival_ns,
        )
        self._nodes[served.name].submit(request)
        self._arm()
        return request

    def cancel(self, served: Served, request: LiveRequest) -> None:
        """Rule 7: the client hung up. A waiting request is dropped; `reply` is not called any more."""
        self._nodes[served.name].cancel(request)
        self.settle()

    def refuse(
        self,
        served: Served,
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
        request_id = self._own_id() if request_id is None else request_id
        request = LiveRequest(id=request_id, rows=rows, reply=reply, arrival_ns=arrival_ns)
        self._nodes[served.name].refuse(request, outcome, reason, error)

    def _own_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Spawn, load and warm the replicas that it begins with. Raises EngineError naming the model and the fault."""
        self._check_count()
        set_timer_slack()
        self.loop.add_reader(self._timer.fd, self._timer_fired)
        for engine in self._engines.values():
            for replica in range(engine.config.replicas.count):
                engine.spawn(replica)
                await asyncio.sleep(0)  # a signal to stop is heard between two of many
        await asyncio.gather(*(engine.first_start for engine in self._engines.values()))
        for name, engine in self._engines.items():
            handle = engine.handles[0]
            assert handle is not None and handle.facts is not None
            if engine.config.replicas.autoscaler is not None:
                self._scalings.append(engine.begin_scaling())
            self.models[name] = engine.served(handle.facts)
        self._started = True
        self._timed += self._scalings
        self._arm()

    def _check_count(self) -> None:
        most = REPLICAS_PER_CORE_MAX * len(os.sched_getaffinity(0))
        counts = {name: len(engine.handles) for name, engine in self._engines.items()}
        if sum(counts.values()) > most:
            scaled = {name for name, model in self.deployment.models.items() if model.replicas.autoscaler is not None}
            fields = {name: "max" if name in scaled else "count" for name in counts}
            asked = ", ".join(f"models.{name}.replicas.{fields[name]} {count}" for name, count in counts.items())
            raise EngineError(f"{asked}: this machine runs at most {most} replicas ({REPLICAS_PER_CORE_MAX} a core)")

    @property
    def started(self) -> dict[str, list[Started]]:
        """Start-up parts of the replicas that are up now, by model, in order of their ids."""
        return {
            name: [h.started for h in engine.handles if h is not None and h.started is not None]
            for name, engine in self._engines.items()
        }

    def pids(self, model: str) -> list[int]:
        """Process ids of a model's replicas, in order of their ids; 0 where there is none now."""
        return [0 if handle is None else handle.pid for handle in self._engines[model].handles]

    def drain(self) -> None:
        """Rule 12: not ready; what arrives from now on is refused, what is inside is answered."""
        if self.draining:
            return
        self.draining = True
        self.drain_ns = self.now_ns()
        for scaling in self._scalings:
            scaling.freeze()
        for node in self._nodes.values():
            node.drain()
        self.settle()

    async def drained(self) -> None:
        """Return when the engine drains and everything that was admitted has been answered."""
        await asyncio.shield(self._drained)

    async def close(self) -> None:
        """Stop the replicas and write the logs; requests that still wait are lost."""
        self._closing = True
        for engine in self._engines.values():
            for handle in engine.handles:
                if handle is not None:
                    handle.stop()
        self.loop.remove_reader(self._timer.fd)
        self._timer.close()
        for log in (self.log, self.scaling_log):
            if log is not None:
                log.close()

    # -- what the models' engines call ---------------------------------------------------------------------

    def running(self) -> int:
        """Replicas that compute now."""
        return sum(scheduler.running for scheduler in self._schedulers)

    def later(self, delay_s: float, call: Callable[[int], None], argument: int) -> None:
        """Call in a while, unless the engine has closed by then."""
        self.loop.call_later(delay_s, lambda: None if self._closing else call(argument))

    def settle(self) -> None:
        """After any event: set the timer, and notice the end of a drain."""
        self._arm()
        if self.draining and not self._drained.done() and all(node.idle for node in self._nodes.values()):
            self._drained.set_result(None)

    def _arm(self) -> None:
        """Have the timer fire no later than the next window or deadline ends, or a scrape or tick is due.

        One that is set for an earlier instant is left alone: it finds nothing due and asks again,
        which costs less than a system call for each batch.
        """
        wake_ns = min(timed.wake_ns for timed in self._timed)
        if wake_ns < self._armed_ns:
            self._armed_ns = wake_ns
            self._timer.arm(wake_ns)

    def _timer_fired(self) -> None:
        self._timer.clear()
        self._armed_ns = NEVER_NS
        for timed in self._timed:
            timed.wake()
        self.settle()


def _open_log(folder: Path) -> RequestLog:
    from serve.request_log import RequestLog  # pyarrow is slow to import, and most engines keep no log

    return RequestLog(folder)


def main() -> None:
    """Serve a deployment from the command line: `python -m serve.engine DEPLOYMENT`."""
    import_module("serve.run").main()


if __name__ == "__main__":
    main()
