"""Helpers for tests of the live engine: deployments of tiny models, and an engine in this process's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from serve.deployment import Deployment
from serve.engine import Answer, Engine
from serve.files import save
from serve.policy.codes import NEVER_NS
from serve.served import Array, Arrays, LiveRequest

PATIENCE_S = 30.0
"""How long a test waits for what must happen; no result depends on it."""


def deployment(file: str = "model.onnx", **parts: dict[str, Any]) -> Deployment:
    """One model called `m`; `parts` are its batching, queue, replicas, and fields of the model under `model`."""
    model: dict[str, Any] = {"file": file, "profile": "profile.yaml", **parts.pop("model", {})}
    front = parts.pop("front", {})
    return Deployment.model_validate(
        {"models": {"m": model | parts}, "pools": {"here": {"cores": 2, "price": "0 USD/h"}}, "front": front}
    )


def write(path: Path, what: Deployment) -> Path:
    """The deployment as a file."""
    save(path, what)
    return path


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine in a uvloop, as the engine does."""

    async def bounded() -> None:
        await asyncio.wait_for(work(), PATIENCE_S)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@dataclass
class Kept:
    """What is left of an answer once the engine has its memory back."""

    outcome: int
    reason: int
    error: str
    outputs: dict[str, Array] = field(default_factory=dict)


def keep(answer: Answer) -> Kept:
    """Copy an answer."""
    outputs = {name: np.array(array) for name, array in answer.outputs.items()}
    return Kept(answer.outcome, answer.reason, answer.error, outputs)


def ask(
    engine: Engine,
    inputs: Arrays,
    rows: int,
    *,
    priority: int = 0,
    timeout_ns: int = NEVER_NS,
    id_: int | None = None,
    model: str = "m",
) -> tuple[asyncio.Future[Kept], LiveRequest]:
    """Submit to a model: the answer to come, and the request."""
    answered: asyncio.Future[Kept] = engine.loop.create_future()

    def reply(answer: Answer) -> None:
        assert not answered.done(), "a request is answered once"
        answered.set_result(keep(answer))

    request = engine.submit(
        engine.models[model],
        inputs,
        rows,
        priority=priority,
        timeout_ns=timeout_ns,
        request_id=id_,
        arrival_ns=engine.iteration_ns(),
        reply=reply,
    )
    return answered, request
