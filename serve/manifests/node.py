"""One mapping of a manifest: its values are taken by name, each once, and faults name their path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from serve.errors import Fault

_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(|m|k|M|G|Ki|Mi|Gi)")


class Node:
    """A mapping at `path` of a file, what was taken from it, and the faults that its whole file has collected."""

    def __init__(self, source: str, path: str, data: Mapping[str, Any], faults: list[Fault]) -> None:
        self.source = source
        self.path = path
        self.faults = faults
        self._data = data
        self._taken: set[str] = set()

    def at(self, name: str) -> str:
        """The path of a value."""
        return f"{self.path}.{name}" if self.path else name

    @property
    def names(self) -> list[str]:
        """Of all its values."""
        return list(self._data)

    def fault(self, name: str, message: str) -> None:
        """Something is wrong with a value (with the mapping itself, if the name is empty)."""
        self.faults.append(Fault(self.source, self.at(name) if name else self.path, message))

    def raw(self, name: str) -> Any:
        """A value as it stands; None if it is not there."""
        self._taken.add(name)
        return self._data.get(name)

    def node(self, name: str) -> Node:
        """A mapping inside; empty if it is not there."""
        value = self.raw(name)
        if value is not None and not isinstance(value, Mapping):
            self.fault(name, f"must be a mapping, got {value!r}")
            value = None
        return Node(self.source, self.at(name), value or {}, self.faults)

    def nodes(self, name: str) -> list[Node]:
        """The mappings of a list; none if it is not there."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
            self.fault(name, "must be a list of mappings")
            return []
        return [Node(self.source, f"{self.at(name)}.{i}", each, self.faults) for i, each in enumerate(value)]

    def number(self, name: str) -> float | None:
        """A number, or text that is one (annotations and KEDA's metadata are text); None if it is not there."""
        value = self.raw(name)
        if value is None:
            return None
        try:
            if isinstance(value, bool):
                raise ValueError
            return float(value)
        except (TypeError, ValueError):
            self.fault(name, f"must be a number, got {value!r}")
            return None

    def whole(self, name: str) -> int | None:
        """A whole number; None if it is not there."""
        value = self.number(name)
        if value is not None and value != int(value):
            self.fault(name, f"must be a whole number, got {self._data[name]!r}")
            return None
        return None if value is None else int(value)

    def seconds(self, name: str) -> str | None:
        """A number of seconds, as a duration of ours; None if it is not there."""
        value = self.number(name)
        return None if value is None else f"{value:g}s"

    def quantity(self, name: str) -> float | None:
        """A Kubernetes quantity such as `500m` or `10`; None if it is not there."""
        value = self.raw(name)
        if value is None:
            return None
        matched = _QUANTITY.fullmatch(str(value))
        if matched is None:
            self.fault(name, f"must be a quantity such as 500m or 10, got {value!r}")
            return None
        return float(matched[1]) * _SUFFIXES[matched[2]]

    def word(self, name: str, known: Mapping[str, str], default: str) -> str:
        """A word of the project's as our own; `default` if it is not there."""
        value = self.raw(name)
        if value is None:
            return default
        if value not in known:
            self.fault(name, f"must be one of {', '.join(known)}, got {value!r}")
            return default
        return known[value]

    def refuse_others(self, *meaningless: str) -> None:
        """Every value that nobody has taken, and that is not `meaningless` here, is a fault: it would be lost."""
        for name in self._data:
            if name not in self._taken and name not in meaningless:
                self.fault(name, "is unknown, or not simulated")


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are known: what a manifest leaves out gets our default, which is the project's."""
    return {name: value for name, value in fields.items() if value is not None}
