"""Reading and writing of the files that join the stages: YAML or JSON in, checked models out, and back.

`load` refuses anything doubtful (duplicate keys, unknown keys, aliases, not UTF-8) with every fault
of the file at once; `save` replaces a file in one step, so that a reader never sees half of it.
Strings, numbers and booleans follow YAML 1.2: `on`, `12:30` and `2026-01-31` are text.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from serve import yaml_text
from serve.errors import Fault, SpecError
from serve.faults import explain, found

__all__ = [
    "Bound",
    "Fault",
    "SpecError",
    "bound",
    "check_writable",
    "load",
    "parse",
    "parse_value",
    "plain",
    "read",
    "resolve",
    "save",
    "save_text",
    "schema_name",
    "sha256",
    "to_text",
]

T = TypeVar("T", bound=BaseModel)

SIZE_LIMIT_BYTES = 16 * 2**20
"""Larger files are refused: bulk data belongs into a parquet file beside the YAML."""

SCHEMAS = Path(__file__).resolve().parent.parent / "forebay" / "schemas"
"""Where the JSON Schemas of the formats lie, for editors."""

FORMATS = ("profile", "scenario", "deployment", "result", "report")
"""Names of the formats; a model's class (or one that it derives from) is called like its format."""


def load(path: Path, kind: type[T]) -> T:
    """The file at `path` as a `kind`; SpecError with all its faults if it is not one."""
    data, faults = _read(path)
    try:
        loaded = kind.model_validate(data)
    except ValidationError as error:
        wanted, other = schema_name(kind), _format_of(data)
        if wanted is not None and other not in (None, wanted):
            raise SpecError.of(path, "", f"is a {other}, not a {wanted}") from None
        broken = tuple(fault.field for fault in faults)
        faults += [fault for fault in explain(path, kind, data, error) if not _below(fault.field, broken)]
    if faults:
        raise SpecError(faults)
    return loaded


def _format_of(data: Mapping[str, Any]) -> str | None:
    """The format whose keys a mapping has, all that it needs and no others; None if there is none."""
    for name in FORMATS:
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        if set(schema.get("required", ())) <= set(data) <= set(schema["properties"]):
            return name
    return None


def _below(field: str, others: Iterable[str]) -> bool:
    """Whether a field is one of `others`, or inside one: its fault is then a consequence."""
    return any(field == other or field.startswith(f"{other}.") for other in others)


def parse(data: object, kind: type[T], source: object) -> T:
    """Plain data as a `kind`; SpecError naming `source` (a path or a flag) if it is not one."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise SpecError(explain(source, kind, data, error)) from None


def read(path: Path) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds, not yet checked against a format."""
    data, faults = _read(path)
    if faults:
        raise SpecError(faults)
    return data


def _read(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    """The file's mapping and what is wrong with its parts whatever its format; SpecError if there is no mapping."""
    text = _text(path)
    data, faults = _from_json(path, text) if path.suffix == ".json" else yaml_text.parse(path, text)
    if data is None and not faults:
        raise SpecError.of(path, "", "is empty; it must hold a mapping of keys to values")
    if not isinstance(data, dict):
        raise SpecError.of(path, "", f"must hold a mapping of keys to values, got {found(data)}")
    data.pop("$schema", None)
    return data, faults


def save(path: Path, obj: BaseModel, comments: Mapping[str, str] | None = None) -> None:
    """Write a model, atomically: after a crash the file is the old one or the new one.

    `comments` maps a field's path to the comment that goes above it; the empty path is the file's
    own. JSON (by the suffix) has no comments. Missing folders are made.
    """
    save_text(path, to_json(obj) if path.suffix == ".json" else to_text(obj, path, comments))


def save_text(path: Path, text: str) -> None:
    """Write a text file, atomically; SpecError if it cannot be written.

    A link stays a link: the file that it names is replaced. Devices and pipes (/dev/stdout) are written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_stream(path):
            path.write_bytes(text.encode())
        else:
            _replace(Path(os.path.realpath(path)), text.encode())
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None


def check_writable(path: Path, *read: Path) -> None:
    """SpecError if `path` is no place for a file, or is one of those that are `read`, or that they name: asked before
    the work whose outcome goes there, lest either be lost."""
    try:
        if path.exists() and any(path.samefile(other) for one in read for other in _with_named(one)):
            raise ValueError("it is what is read; write to another file")
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder, not a file")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{folder} may not be written to")
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None


def _with_named(path: Path) -> Iterator[Path]:
    """A file, if it is there, and those that it names, and that they name: profiles, samples, models, traces."""
    queue, seen = [path], set[str]()
    while queue:
        one = queue.pop()
        with contextlib.suppress(OSError, ValueError, SpecError):
            if not one.is_file() or os.path.realpath(one) in seen:
                continue
            seen.add(os.path.realpath(one))
            yield one
            if one.suffix in (".yaml", ".yml", ".json"):
                queue += [resolve(one, name) for name in _texts(read(one))]


def _texts(value: object) -> Iterator[str]:
    """All texts in plain data that could be the name of a file."""
    if isinstance(value, str):
        if 0 < len(value) < 1024:
            yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _unwritable(path: Path, error: OSError | ValueError) -> SpecError:
    return SpecError.of(path, "", f"cannot be written: {getattr(error, 'strerror', None) or error}")


def _is_stream(path: Path) -> bool:
    """Whether a device, pipe or socket is there: to put a file in its place would destroy it."""
    return path.exists() and not path.is_file() and not path.is_dir()


def to_json(obj: BaseModel) -> str:
    """A model as indented JSON."""
    return json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_text(obj: BaseModel, path: Path | None = None, comments: Mapping[str, str] | None = None) -> str:
    """A model as YAML in the order of its fields, headed by the line that tells editors its schema.

    `path` is where the text will lie, since the schema is named relative to it.
    """
    notes = dict(comments or {})
    head = yaml_text.comment(notes.pop("", ""))
    name = schema_name(type(obj))
    schema = [f"# yaml-language-server: $schema={_schema_path(name, path)}\n"] if name else []
    return "".join([*schema, *head, yaml_text.annotate(yaml_text.dump(plain(obj)), notes)])


def parse_value(text: str) -> Any:
    """One value as a file would hold it: `5ms`, `4`, `[1, 2]`, `{poisson: 300/s}`."""
    value, faults = yaml_text.parse("value", text)
    if faults:
        raise SpecError(faults)
    return value


def plain(obj: BaseModel) -> dict[str, Any]:
    """A model as mappings, lists and scalars, with units as text; what is absent by default is left out."""
    data: dict[str, Any] = _pruned(obj.model_dump(mode="json", by_alias=True), obj)
    return data


def schema_name(kind: type[BaseModel]) -> str | None:
    """Name of the format that a model class is one of; None for a part of a file."""
    names = (base.__name__.lower() for base in kind.__mro__)
    return next((name for name in names if name in FORMATS), None)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hex."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SpecError.of(path, "", "is a device or a pipe, not a file")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError.of(path, "", _unreadable(error)) from None


def resolve(named_in: Path, name: str) -> Path:
    """The path that a file means by `name`: relative to the folder of the file that names it."""
    return named_in.parent / Path(name).expanduser()


class Bound(Protocol):
    """A file's name with the hash that it must have."""

    @property
    def file(self) -> str:
        """Its path, as it is written in the file that names it."""

    @property
    def sha256(self) -> str:
        """In hex."""


def bound(named_in: Path, field: str, part: Bound) -> Path:
    """Path of the file that `field` of another names with its hash.

    Raises
    ------
    SpecError : it is not there, or is another than the one that was named.
    """
    path = resolve(named_in, part.file)
    if not path.is_file():
        raise SpecError.of(named_in, f"{field}.file", f"there is no such file: {path}")
    if sha256(path) != part.sha256:
        raise SpecError.of(named_in, f"{field}.sha256", f"{path.name} is not the file that was measured with this one")
    return path


def _text(path: Path) -> str:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            raw = file.read(SIZE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SpecError.of(path, "", _unreadable(error)) from None
    if len(raw) > SIZE_LIMIT_BYTES:
        raise SpecError.of(path, "", f"is larger than {SIZE_LIMIT_BYTES >> 20} MiB; that is no file of ours")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError.of(path, "", f"is not UTF-8 text: byte {error.start} cannot be read") from None


def _open_at_once(path: str, flags: int) -> int:
    """An opener that does not wait for somebody to write into a named pipe; reading waits as usual."""
    opened = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(opened, True)
    return opened


def _unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _from_json(path: Path, text: str) -> tuple[Any, list[Fault]]:
    faults: list[Fault] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen:
                faults.append(Fault(str(path), key, "appears twice in one mapping; keep one"))
            seen[key] = value
        return seen

    if not text.strip():
        return None, faults
    try:
        return json.loads(text, object_pairs_hook=pairs), faults
    except json.JSONDecodeError as error:
        raise SpecError.of(path, "", f"line {error.lineno}: {error.msg[:1].lower()}{error.msg[1:]}") from None
    except (RecursionError, ValueError):
        raise SpecError.of(path, "", "is nested too deeply, or holds a number too long to read") from None


def _pruned(data: Any, value: object) -> Any:
    """`data`, the dump of `value`, without the keys that are None and None by default, and with its whole-number keys.

    An absent value says nothing, and some formats tell a key that is there from one that is not;
    JSON mode turned the keys into text.
    """
    if isinstance(value, BaseModel):
        fields = {field.alias or name: (name, field) for name, field in type(value).model_fields.items()}
        return {
            key: _pruned(dumped, getattr(value, fields[key][0]))
            for key, dumped in data.items()
            if dumped is not None or fields[key][1].is_required() or fields[key][1].get_default() is not None
        }
    if isinstance(value, dict):
        return {key: _pruned(dumped, inner) for (key, inner), dumped in zip(value.items(), data.values(), strict=True)}
    if isinstance(value, (list, tuple)):
        return [_pruned(dumped, inner) for dumped, inner in zip(data, value, strict=True)]
    return data


def _schema_path(name: str, path: Path | None) -> str:
    """Relative where the file lies beside the package (a checkout may move), absolute elsewhere."""
    schema = SCHEMAS / f"{name}.json"
    folder = None if path is None else path.resolve().parent
    if folder is not None and folder.is_relative_to(SCHEMAS.parent.parent):
        return os.path.relpath(schema, folder)
    return str(schema)


def _replace(path: Path, content: bytes) -> None:
    """Write beside, make durable, swap, make the swap durable."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
