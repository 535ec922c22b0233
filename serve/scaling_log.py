"""The log of scaling: a JSON line for what every tick saw and decided, and for every replica that came or went.

A model's first line, `begin`, has what its policy is built with, so that the log alone replays: `replay` feeds a
policy of its own the samples, and what it decides must be what was decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter

from serve.autoscaler import Autoscaler as AnyAutoscaler
from serve.autoscaler import Bounds
from serve.errors import EngineError, SpecError
from serve.files import plain
from serve.policy.scaling.decision import Decision
from serve.roster import Step
from serve.scaler import Autoscaler, policy_of, sample_type

SCALING_FILE = "scaling.jsonl"
SCHEMA_VERSION = 1

_AUTOSCALER: TypeAdapter[Any] = TypeAdapter(AnyAutoscaler)


class ScalingLog:
    """The file of a folder, which is made if need be; EngineError if it cannot be. Lines are there as they happen."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = (folder / SCALING_FILE).open("w", buffering=1)
        except OSError as error:
            raise EngineError(f"{folder}: logs cannot be written there: {error.strerror or error}") from error

    def of(self, model: str, autoscaler: Autoscaler, bounds: Bounds, starts_ns: int) -> ModelLog:
        """One model's part; `starts_ns` is the Unix time at which it begins."""
        told = {"autoscaler": plain(autoscaler), "bounds": plain(bounds), "starts_ns": starts_ns}
        return ModelLog(self, model, told)

    def write(self, line: Mapping[str, Any]) -> None:
        """One object; NamedTuples become lists."""
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()


class ModelLog:
    """Lines of one model; instants are ns from its `begin` on, which has that instant of CLOCK_MONOTONIC."""

    def __init__(self, log: ScalingLog, model: str, told: Mapping[str, Any]) -> None:
        self._log, self._model, self._told = log, model, told

    def begin(self, began_ns: int) -> None:
        """Instant 0, and the policy's settings."""
        self._write("begin", schema_version=SCHEMA_VERSION, began_ns=began_ns, **self._told)

    def tick(self, step: Step, sample: Any, age_ns: int | None, late_ns: int, applied: int) -> None:
        """What a tick saw, how old that was, how late the tick was, what was wanted and why, and what was set."""
        self._write(
            "tick",
            at_ns=step.at_ns,
            late_ns=late_ns,
            age_ns=age_ns,
            sample=_listed(sample),
            counted=step.counted,
            ready=step.ready,
            wanted=step.wanted,
            applied=applied,
            reason=step.reason,
        )

    def replica(self, event: str, number: int, at_ns: int) -> None:
        """`started`, `ready`, `leaving`, `died` or `gone`."""
        self._write(event, at_ns=at_ns, replica=number)

    def _write(self, event: str, **what: Any) -> None:
        self._log.write({"model": self._model, "event": event, **what})


@dataclass(slots=True)
class Tick:
    """One tick of a log, beside what a policy of its own says to the same sample."""

    at_ns: int
    late_ns: int
    age_ns: int | None
    counted: int
    applied: int
    logged: Decision
    replayed: Decision


@dataclass(slots=True)
class Logged:
    """One model's log, replayed."""

    began_ns: int
    ticks: list[Tick] = field(default_factory=list)
    replicas: list[tuple[int, str, int]] = field(default_factory=list)
    """(instant, event, replica)."""

    @property
    def agreeing(self) -> int:
        """Ticks at which the replay decides what was decided, for the same reason."""
        return sum(tick.logged == tick.replayed for tick in self.ticks)

    @property
    def start_ups_ns(self) -> list[int]:
        """From wanting a replica, or from the death of its predecessor, until it was ready."""
        began: dict[int, int] = {}
        found = []
        for at_ns, event, replica in self.replicas:
            if event in ("started", "died"):
                began[replica] = at_ns
            elif event == "ready" and replica in began:
                found.append(at_ns - began.pop(replica))
            else:
                began.pop(replica, None)
        return found


def replay(path: Path, model: str | None = None) -> Logged:
    """A log's ticks, each decided again; `model` may be left out where there is one.

    Raises
    ------
    SpecError : no such log, or none of that model.
    """
    lines = [line for line in _lines(path) if model in (None, line["model"])]
    begins = [line for line in lines if line["event"] == "begin"]
    if len(begins) != 1:
        known = ", ".join(line["model"] for line in begins) or "none"
        raise SpecError.of(path, "model", f"must name one model that has begun ({known}), got {model or 'none'}")
    autoscaler: Autoscaler = _AUTOSCALER.validate_python(begins[0]["autoscaler"])
    policy = policy_of(autoscaler, Bounds.model_validate(begins[0]["bounds"]), begins[0]["starts_ns"])
    samples: TypeAdapter[Any] = TypeAdapter(sample_type(autoscaler))
    logged = Logged(begins[0]["began_ns"])
    for line in lines:
        if line["event"] == "tick":
            decision = policy.decide(samples.validate_python(line["sample"]))
            logged.ticks.append(_tick(line, decision))
        elif line["event"] != "begin":
            logged.replicas.append((line["at_ns"], line["event"], line["replica"]))
    return logged


def _tick(line: Mapping[str, Any], replayed: Decision) -> Tick:
    known = (line["at_ns"], line["late_ns"], line["age_ns"], line["counted"], line["applied"])
    return Tick(*known, logged=Decision(line["wanted"], line["reason"]), replayed=replayed)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines: the last one of a killed engine may be cut."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SpecError.of(path, "", f"cannot be read: {error.strerror or error}") from error
    return (json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n"))


def _listed(value: Any) -> Any:
    """Named tuples and dataclasses by their fields, so that a reader need not know their order."""
    if hasattr(value, "_asdict"):
        return {name: _listed(each) for name, each in value._asdict().items()}
    if isinstance(value, tuple):
        return [_listed(each) for each in value]
    return value
