"""`--set path=value` as overrides for the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.errors import Fault, SpecError
from serve.files import parse_value


def overrides_of(settings: Sequence[str]) -> dict[str, Any]:
    """Value by path; a value is read as in a file: `5ms`, `4`, `{poisson: 300/s}`."""
    overrides: dict[str, Any] = {}
    faults: list[Fault] = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            faults.append(Fault("--set", "", f"must be PATH=VALUE, got {setting!r}"))
            continue
        try:
            overrides[path.strip()] = parse_value(text)
        except SpecError as error:
            faults += [Fault("--set", path.strip(), fault.message) for fault in error.faults]
    if faults:
        raise SpecError(faults)
    return overrides
