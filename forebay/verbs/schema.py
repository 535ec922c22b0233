"""`forebay schema NAME`: the JSON Schema of a file format, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from forebay.options import Json, NoSeed


def schema(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="profile, scenario, deployment, result, report; or all, with -o FOLDER."),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File (of all: folder) to write.")] = None,
    as_json: Json = False,
    seed: NoSeed = None,
) -> None:
    """Print the JSON Schema of a file format."""
    from forebay.console import emit
    from forebay.formats import FORMATS, json_schema
    from forebay.options import flag
    from serve.errors import SpecError

    if name == "all":
        if output is None:
            raise SpecError.of("-o", "", "is needed with `schema all`: the folder to write the five schemas into")
        for each in FORMATS:
            _write(output / f"{each}.json", json_schema(each))
        return
    found = flag("NAME", json_schema, name)
    if output is not None:
        _write(output, found)
    elif as_json:
        emit({"name": name, "schema": found})
    else:
        typer.echo(_text(found), nl=False)


def _text(schema: dict[str, object]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, schema: dict[str, object]) -> None:
    from serve.files import save_text

    save_text(path, _text(schema))
