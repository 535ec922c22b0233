"""Plain words for pydantic's errors: one `Fault` a field, alternatives of a union folded into one.

pydantic reports each member of a union apart, under a location that names the member
(`deployment.Deployment.models`, `deployment.str`). Here those names are taken out of the path, the
members whose shape the data does not have are dropped, and what is left at one path is joined.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from serve.errors import Fault

Path = tuple[str | int, ...]

_EXPECTED = {
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number below 2^63",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "left out",
    "greater_than_equal": ">= {ge}",
    "greater_than": "> {gt}",
    "less_than_equal": "<= {le}",
    "less_than": "< {lt}",
    "literal_error": "{expected}",
    "string_too_short": "at least {min_length} characters long",
}
"""What would do, by pydantic's error type; filled from the error's context."""

_SHAPES = frozenset(kind for kind in _EXPECTED if kind.endswith(("_type", "_parsing", "_error", "_required")))
"""Errors that say: this member of a union was not meant at all."""

_NAME_PATTERN = "^[a-z][a-z0-9_-]*$"


@dataclass(frozen=True, slots=True)
class _Place:
    """An error's location split into the path in the file and the union members passed on the way."""

    path: Path
    members: tuple[tuple[Path, str], ...]


def explain(file: object, kind: type[BaseModel], data: object, error: ValidationError) -> list[Fault]:
    """All faults of `data`, which was to become a `kind`, in the order of the file format's fields."""
    placed = [(_place(detail, data), detail) for detail in error.errors(include_url=False)]
    wrong = _wrong_members(placed)
    kept = [(place, detail) for place, detail in placed if not wrong.intersection(place.members)]
    by_path: dict[Path, list[ErrorDetails]] = {}
    for place, detail in kept:
        by_path.setdefault(place.path, []).append(detail)
    return [Fault(str(file), dotted(path), _message(kind, path, details)) for path, details in by_path.items()]


def dotted(path: Iterable[str | int]) -> str:
    """A path as users write it: parts joined by dots, each on one line whatever it contains."""
    return ".".join(text if (text := str(part)).isprintable() else repr(text) for part in path)


def near_miss(word: str, known: Iterable[str]) -> str:
    """What to offer instead of an unknown word: the nearest known one, else the list of them.

    >>> near_miss("max_bach", ["max_batch", "window"])
    "did you mean 'max_batch'?"
    """
    names = list(known)
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known here: {', '.join(names)}" if names else "nothing may stand here"


def found(value: object) -> str:
    """What was found, short enough for a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, BaseModel)):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _place(detail: ErrorDetails, data: object) -> _Place:
    """Follow a location through the data: what cannot be followed names a member of a union."""
    path: list[str | int] = []
    members: list[tuple[Path, str]] = []
    loc = detail["loc"]
    cursor = data
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if step := _steps_to(cursor, part):
            path.append(part)
            (cursor,) = step
        elif last and detail["type"] in ("missing", "extra_forbidden", "invalid_key"):
            path.append(part)
        elif part != "[key]":
            members.append((tuple(path), str(part)))
    return _Place(tuple(path), tuple(members))


def _steps_to(cursor: object, part: str | int) -> list[object]:
    """What lies at `part` of the data, alone in a list; empty if nothing does. pydantic names a key that is neither
    text nor a whole number by its text: `null` is 'None'."""
    if isinstance(cursor, Mapping):
        return [cursor[part]] if part in cursor else [v for key, v in cursor.items() if str(key) == part][:1]
    return [cursor[part]] if isinstance(cursor, list) and isinstance(part, int) and part < len(cursor) else []


def _wrong_members(placed: Sequence[tuple[_Place, ErrorDetails]]) -> set[tuple[Path, str]]:
    """Members of unions to leave out: those of the wrong shape, where another has the right one."""
    members: dict[Path, dict[str, bool]] = {}
    for place, detail in placed:
        for path, member in place.members:
            shapes = members.setdefault(path, {})
            mismatch = place.path == path and detail["type"] in _SHAPES
            shapes[member] = shapes.get(member, False) or mismatch
    return {
        (path, member)
        for path, shapes in members.items()
        if not all(shapes.values())
        for member, mismatch in shapes.items()
        if mismatch
    }


def _message(kind: type[BaseModel], path: Path, details: Sequence[ErrorDetails]) -> str:
    if len(details) == 1:
        return _single(kind, path, details[0])
    wants = list(dict.fromkeys(_want(detail) for detail in details))
    if all(wants):
        return f"must be {' or '.join(wants)}, got {found(details[0]['input'])}{_described(kind, path)}"
    return "; ".join(dict.fromkeys(_single(kind, path, detail) for detail in details))


def _single(kind: type[BaseModel], path: Path, detail: ErrorDetails) -> str:
    """The message of one error: what was found and what would do."""
    error, value = detail["type"], detail["input"]
    if error == "missing":
        return f"is missing{_described(kind, path)}"
    if error == "extra_forbidden":
        return f"unknown key; {near_miss(str(path[-1]), _keys_at(kind, path[:-1]))}"
    if error == "value_error":
        return _own_words(str(detail.get("ctx", {}).get("error", detail["msg"])), value)
    if want := _want(detail):
        close = _close_literal(detail)
        return f"must be {want}, got {found(value)}{close or _described(kind, path)}"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {found(value)}"


def _own_words(message: str, value: object) -> str:
    """A validator of ours spoke; it names what was found itself where that is not the whole field."""
    whole = isinstance(value, (Mapping, BaseModel))
    return message if whole or "got " in message else f"{message}, got {found(value)}"


def _want(detail: ErrorDetails) -> str:
    """What would do, as the end of 'must be ...'; empty if the error is of another kind."""
    context = {key: _whole(value) for key, value in detail.get("ctx", {}).items()}
    if detail["type"] == "string_pattern_mismatch" and context.get("pattern") == _NAME_PATTERN:
        return "a name of lower-case letters, digits, - and _ that begins with a letter"
    if detail["type"] in ("too_short", "too_long"):
        bound = "at least" if detail["type"] == "too_short" else "at most"
        count = context.get("min_length", context.get("max_length"))
        return f"{bound} {count} {'entry' if count == 1 else 'entries'} long"
    return _EXPECTED.get(detail["type"], "").format(**context)


def _whole(value: Any) -> Any:
    """0.0 as 0: bounds read like what users write."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _close_literal(detail: ErrorDetails) -> str:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    if detail["type"] != "literal_error" or not isinstance(detail["input"], str):
        return ""
    if detail["input"] == expected:
        return "; write it without quotes"
    near = difflib.get_close_matches(detail["input"], expected.replace("'", "").replace(" or ", ", ").split(", "), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _described(kind: type[BaseModel], path: Path) -> str:
    field = _field_at(kind, path)
    return f" ({field.description})" if field is not None and field.description else ""


def _keys_at(kind: type[BaseModel], path: Path) -> list[str]:
    return [key for model in _models(_annotations_at(kind, path)) for key in _fields(model)]


def _field_at(kind: type[BaseModel], path: Path) -> FieldInfo | None:
    """The field that a path ends in, if it ends in a model's field."""
    if not path:
        return None
    for model in _models(_annotations_at(kind, path[:-1])):
        if path[-1] in _fields(model):
            return _fields(model)[str(path[-1])]
    return None


def _annotations_at(kind: type[BaseModel], path: Path) -> list[Any]:
    """The types that may stand at a path, unions taken apart."""
    here = _members(kind)
    for part in path:
        here = [inner for outer in here for step in _step(outer, part) for inner in _members(step)]
    return here


def _step(annotation: Any, part: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = _fields(annotation).get(str(part))
        return [] if field is None else [field.annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return [args[1]]
    return [args[0]] if origin in (list, tuple) and args else []


def _members(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    return [] if origin is Literal else [annotation]


def _models(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    return [a for a in annotations if isinstance(a, type) and issubclass(a, BaseModel)]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the key that files use."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
