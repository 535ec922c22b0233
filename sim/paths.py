"""Paths into a scenario: what `--set`, `choices:` and the app's sliders change.

A path starts at the file's root and may leave out `deployment.`:
`models.digits.batching.window` is `deployment.models.digits.batching.window`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from serve.errors import Fault, SpecError
from serve.files import parse, plain
from sim.scenario import Scenario

SOURCE = "--set"
"""What errors name in place of a file."""


def apply(scenario: Scenario, overrides: Mapping[str, Any], source: object = SOURCE) -> Scenario:
    """A scenario with the values at some paths replaced, checked as if its file had said so.

    Text is read as a file would: `3` is a number, `5ms` a text with a unit, `{"1": 0.5}` a mapping.

    Raises
    ------
    SpecError : every path that leads nowhere with its near misses; else every value that will not do.
    """
    data = plain(scenario)
    faults = [
        Fault(str(source), path, f"lies inside {outer}, which is set too; set one of them")
        for path, outer in nested(overrides)
    ]
    if faults:
        raise SpecError(faults)
    for path, value in overrides.items():
        try:
            _put(data, _steps(scenario, path), _value(value))
        except LookupError as error:
            faults.append(Fault(str(source), path, str(error.args[0])))
    if faults:
        raise SpecError(faults)
    return parse(data, type(scenario), source)


def full_path(path: str) -> str:
    """The path with `deployment.` written out."""
    return path if path.split(".", 1)[0] in Scenario.model_fields else f"deployment.{path}"


def nested(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Each path that lies inside another one of `paths`, with that one: their values would contradict each other."""
    known = list(paths)
    return [(inner, outer) for inner in known for outer in known if full_path(inner).startswith(f"{full_path(outer)}.")]


def _steps(scenario: Scenario, path: str) -> list[str]:
    """The names along a path; LookupError with near misses where one does not exist."""
    steps = full_path(path).split(".")
    here: Any = scenario
    for step in steps:
        names = _names(here)
        if names is not None and here is scenario.deployment and not path.startswith("deployment."):
            names = [*names, *Scenario.model_fields]  # what the path could have begun with
        if names is None:
            raise LookupError(f"leads into {_shown(here)}, which has no parts (at {step!r})")
        if step not in names:
            close = get_close_matches(step, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(str, names))}"
            raise LookupError(f"has no part {step!r}; {hint}")
        here = _inside(here, step)
    return steps


def _names(here: Any) -> list[str] | None:
    if isinstance(here, BaseModel):
        return list(_attributes(here))
    if isinstance(here, list):
        return [str(index) for index in range(len(here))]
    return [str(key) for key in here] if isinstance(here, dict) else None


def _attributes(here: BaseModel) -> dict[str, str]:
    """The names of a part's attributes by the keys that files use."""
    return {field.alias or name: name for name, field in type(here).model_fields.items()}


def _inside(here: Any, step: str) -> Any:
    if isinstance(here, BaseModel):
        return getattr(here, _attributes(here)[step])
    if isinstance(here, list):
        return here[int(step)]
    return next(value for key, value in here.items() if str(key) == step)


def _shown(here: Any) -> str:
    if here is None:
        return "what is not set"
    return f"the file {here!r} (give the deployment itself)" if isinstance(here, str) else repr(here)


def _put(data: Any, steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        data = data[int(step)] if isinstance(data, list) else data.setdefault(step, {})
    if isinstance(data, list):
        data[int(steps[-1])] = value
    else:
        data[steps[-1]] = value


def _value(value: Any) -> Any:
    """A value as a file would hold it."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
