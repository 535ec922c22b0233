"""YAML as our files use it: libyaml with the scalars of YAML 1.2, nothing doubled, no aliases, no tags.

PyYAML reads YAML 1.1, where `on` is true, `12:30` is 750 and a doubled key wins silently. Here texts
become nodes by its C parser, and nodes become plain data by `_Builder`, which notes every fault with
its line. Writing quotes whatever either version of YAML would not read as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from serve.errors import Fault, SpecError
from serve.faults import dotted

__all__ = ["annotate", "comment", "dump", "parse"]

_INT_LIMIT = 2**63


class Loader(yaml.CSafeLoader):
    """libyaml's parser with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class Dumper(yaml.CSafeDumper):
    """libyaml's emitter; quotes whatever YAML 1.1 or 1.2 would not read as text."""

    yaml_implicit_resolvers = {first: list(rules) for first, rules in yaml.CSafeDumper.yaml_implicit_resolvers.items()}

    def ignore_aliases(self, data: Any) -> bool:
        """What occurs twice is written twice."""
        return True


_CORE = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+$", list("-+0123456789")),
    "float": (r"^[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
}
for _tag, (_pattern, _first) in _CORE.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(source: object, text: str) -> tuple[Any, list[Fault]]:
    """The plain data of a YAML text, and what it contains that our files may not; SpecError if it is not YAML.

    `source` names the text in errors.
    """
    try:
        node = yaml.compose(text, Loader=Loader)
        builder = _Builder(str(source))
        return (None if node is None else builder.build(node, ())), builder.faults
    except yaml.MarkedYAMLError as error:
        raise SpecError.of(source, "", _syntax(error)) from None
    except yaml.YAMLError as error:
        raise SpecError.of(source, "", f"is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SpecError.of(source, "", "is nested too deeply") from None


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark is not None else ""
    return f"{line}{' '.join(part for part in (error.context, error.problem) if part)}"


class _Builder:
    """Turns parsed nodes into plain data and collects what our files may not contain."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self._seen: set[int] = set()

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        """The node's value; None where it holds a fault."""
        if id(node) in self._seen:
            # A few nested aliases can stand for billions of values, or for themselves.
            self._fault(node, path, "aliases (*name) are not supported; write the value out")
            return None
        if not isinstance(node, yaml.ScalarNode):
            self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[Any, Any]:
        built: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, path, "a key must be a word or a number")
                continue
            key = self._scalar(key_node, path)
            if key in built:
                self._fault(key_node, (*path, key), "appears twice in one mapping; keep one")
            built[key] = self.build(value_node, (*path, key))
        return built

    def _scalar(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        text, tag = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag == "float":
            return float(text)
        if tag == "int":
            return self._int(node, path, text)
        self._fault(node, path, f"the tag {node.tag!r} is not supported; write plain values")
        return None

    def _int(self, node: yaml.Node, path: tuple[str | int, ...], text: str) -> int | None:
        if len(text) > 20 or abs(int(text)) >= _INT_LIMIT:
            self._fault(node, path, "must be below 2^63")
            return None
        return int(text)

    def _fault(self, node: yaml.Node, path: tuple[str | int, ...], message: str) -> None:
        self.faults.append(Fault(self.file, dotted(path), f"line {node.start_mark.line + 1}: {message}"))


def dump(data: Any) -> str:
    """Plain data as YAML: keys in their order, a mapping or list without further ones inside in one line."""
    text = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    return str(text)


def annotate(body: str, comments: Mapping[str, str]) -> str:
    """A YAML text with each comment above the line on which the key of its path stands."""
    lines = body.splitlines(keepends=True)
    above: dict[int, list[str]] = {}
    for path, text in comments.items():
        line = _key_line(yaml.compose(body, Loader=Loader), path.split("."))
        indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())]
        above.setdefault(line, []).extend(comment(text, indent))
    return "".join("".join(above.get(number, [])) + line for number, line in enumerate(lines))


def _key_line(node: yaml.Node | None, path: list[str]) -> int:
    line = 0
    for part in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        key, node = next((key, value) for key, value in pairs if key.value == part)
        line = key.start_mark.line
    return line


def comment(text: str, indent: str = "") -> list[str]:
    """The lines of a comment."""
    return [f"{indent}# {line}".rstrip() + "\n" for line in text.splitlines()]
