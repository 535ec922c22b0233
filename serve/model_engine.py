"""One model of the live engine: its node, and the processes of its replicas, which a scaling may set."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from serve import fleet
from serve.autoscaler import Bounds
from serve.backends import Facts, Settings
from serve.deployment import Model
from serve.errors import EngineError
from serve.handle import Handle
from serve.node import Completion, Node
from serve.policy.scaling.metering import Scrape
from serve.scaler import Scaler
from serve.scaling import Scaling
from serve.scheduler import Batch, Scheduler
from serve.served import Served, Statistics

if TYPE_CHECKING:
    from serve.engine import Engine

_logger = logging.getLogger(__name__)

RESPAWN_FIRST_S = 0.1
RESPAWN_LAST_S = 10.0
"""Pause before the successor of a replica that died while it started; doubled each time, up to the last."""


class ModelEngine:
    """One model: its node, and a handle for each of its replicas, None where there is no process."""

    def __init__(self, engine: Engine, name: str, config: Model, queue: int, cores: list[list[int]]) -> None:
        most = fleet.most(engine.deployment, name)
        self.name = name
        self.config = config
        self.handles: list[Handle | None] = [None] * most
        self.statistics = Statistics()
        self.scheduler = Scheduler(config.scheduler_spec(), most)
        self.node = Node(
            self.scheduler,
            self.statistics,
            port=self,
            clock=engine.now_ns,
            log=engine.log,
            queue=queue,
            threads=config.replicas.threads,
        )
        self._engine = engine
        self._cores = cores
        self._settings = Settings(
            backend=config.backend,
            file=None if config.main.file is None else str(engine.folder / config.main.file),
            profile=str(engine.folder / config.main.only_profile),
            threads=config.replicas.threads,
            max_batch=config.batching.max_batch,
            batch_axis=config.batch_axis,
            profile_sha256=config.main.profile_sha256,
        )
        self._pauses_s = [0.0] * most
        self.first_start: asyncio.Future[None] = engine.loop.create_future()
        self.scaling: Scaling | None = None

    def begin_scaling(self) -> Scaling:
        """From now on an autoscaler sets the number of replicas; those that it begins with are up."""
        replicas, log = self.config.replicas, self._engine.scaling_log
        assert replicas.autoscaler is not None
        bounds, starts_ns = Bounds(least=replicas.min, most=len(self.handles)), time.time_ns()
        self.scaling = Scaling(
            self.name,
            Scaler(replicas.autoscaler, bounds, replicas.threads, starts_ns),  # type: ignore[arg-type]  # as checked
            self,
            self._engine.now_ns,
            count=replicas.count,
            most=len(self.handles),
            drain_limit_ns=replicas.drain_limit,
            log=log and log.of(self.name, replicas.autoscaler, bounds, starts_ns),  # type: ignore[arg-type]
        )
        return self.scaling

    # -- the node's port -------------------------------------------------------------------------------

    def send(self, batch: Batch, busy: int) -> None:
        """Give the batch to its replica."""
        handle = self.handles[batch.replica]
        assert handle is not None
        handle.send(batch, busy)

    def busy(self) -> int:
        """Replicas of the machine, of any model, that compute now."""
        return self._engine.running()

    # -- the scaling's port ----------------------------------------------------------------------------

    def scrape(self) -> Scrape:
        """What the queue counts, now."""
        return self.scheduler.scrape(self._engine.now_ns())

    def start_replica(self, replica: int) -> None:
        """Have a process of this number."""
        self._pauses_s[replica] = 0.0
        self.spawn(replica)

    def drain_replica(self, replica: int) -> None:
        """Give it nothing more; it goes when it has nothing left."""
        self.scheduler.drain_replica(replica)
        self._let_go_if_empty(replica)

    def stop_replica(self, replica: int) -> None:
        """End one that is not up yet, or waits to be started again."""
        self._end_process(replica)

    def kill_replica(self, replica: int) -> None:
        """End one with what it has (rule 8)."""
        self._end_process(replica)
        self.node.died(replica)
        self.scheduler.retire(replica)
        self._engine.settle()

    def _let_go_if_empty(self, replica: int) -> None:
        standing = self.scheduler.replicas[replica]
        if self.handles[replica] is None or standing.batches or not standing.draining:
            return
        self._end_process(replica)
        self.node.retire(replica)
        assert self.scaling is not None, "nobody else drains a replica"
        self.scaling.left(replica)

    def _end_process(self, replica: int) -> None:
        handle, self.handles[replica] = self.handles[replica], None
        if handle is not None:
            _logger.info("%s: replica %d (pid %d) goes", self.name, replica, handle.pid)
            handle.dismiss()

    # -- replicas ----------------------------------------------------------------------------------------

    def spawn(self, replica: int) -> None:
        """Start a process for this replica; if the system has no room for one, try again later."""
        engine = self._engine
        try:
            self.handles[replica] = Handle(
                replica,
                self._settings.model_copy(update={"cores": self._cores[replica]}),
                self.config.replicas.slots,
                self,
                engine.loop,
                engine.now_ns,
                engine.slept_at,
            )
        except OSError as error:
            if not self.first_start.done():
                raise EngineError(f"{self.name}: replica {replica} cannot be started: {error}") from error
            _logger.error("%s: replica %d cannot be started: %s", self.name, replica, error)
            engine.later(RESPAWN_LAST_S, self._respawn, replica)

    def _respawn(self, replica: int) -> None:
        """Start it again, unless it is not wanted any more, or somebody has."""
        if self.handles[replica] is None and (self.scaling is None or self.scaling.wants(replica)):
            self.spawn(replica)

    def replica_ready(self, handle: Handle) -> None:
        """A replica has loaded and warmed up."""
        assert handle.facts is not None
        _logger.info("%s: replica %d is up (pid %d)", self.name, handle.replica, handle.pid)
        self._pauses_s[handle.replica] = 0.0
        self.node.up(handle.replica)
        if self.scaling is not None:
            self.scaling.ready(handle.replica)
        if not self.first_start.done() and sum(r.up for r in self.scheduler.replicas) == self.config.replicas.count:
            for note in handle.facts.notes:
                _logger.info("%s: %s", self.name, note)
            self.first_start.set_result(None)
        self._engine.settle()

    def replica_done(self, handle: Handle, done: Completion) -> None:
        """A replica has ended a batch."""
        self.node.completed(done)
        if self.scheduler.replicas[handle.replica].draining:  # once the handle is done with the batch's memory
            self._engine.later(0.0, self._let_go_if_empty, handle.replica)
        self._engine.settle()

    def replica_gone(self, handle: Handle, error: str) -> None:
        """A replica's process is dead: rule 8, and a successor with the same id, unless it was to go."""
        replica = handle.replica
        if not self.first_start.done():
            text = error or f"replica {replica} (pid {handle.pid}) died while it started"
            self.first_start.set_exception(EngineError(f"{self.name}: {text}"))
            return
        pause_s = self._pauses_s[replica]
        _logger.warning("%s: replica %d (pid %d) is dead; %s", self.name, replica, handle.pid, error or "starting anew")
        self.handles[replica] = None
        if self.scheduler.replicas[replica].up:
            self.node.died(replica)
        else:
            self._pauses_s[replica] = min(max(2 * pause_s, RESPAWN_FIRST_S), RESPAWN_LAST_S)
        if self.scaling is None or self.scaling.died(replica):
            self._engine.later(self._pauses_s[replica], self._respawn, replica)
        else:
            self.scheduler.retire(replica)
            self.scaling.left(replica)
        self._engine.settle()

    def served(self, facts: Facts) -> Served:
        """What fronts see."""
        return Served(
            name=self.name,
            versions=["1"],
            platform=facts.platform,
            backend=self.config.backend,
            inputs=facts.inputs,
            outputs=facts.outputs,
            max_batch=facts.max_batch,
            config=self.config,
            scheduler=self.scheduler,
            statistics=self.statistics,
            scaling=self.scaling,
            device=facts.device,
        )
