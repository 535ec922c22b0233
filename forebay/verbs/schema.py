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
    from serve.files import save_text

    if name == "all" and output is None:
        raise SpecError.of("-o", "", "is needed with `schema all`: the folder to write the five schemas into")
    schemas = {each: flag("NAME", json_schema, each) for each in (FORMATS if name == "all" else (name,))}
    if output is not None:
        files = {each: output / f"{each}.json" if name == "all" else output for each in schemas}
        for each, file in files.items():
            save_text(file, _text(schemas[each]))
        if as_json:
            emit({"name": name, "written": [str(file) for file in files.values()]})
    elif as_json:
        emit({"name": name, "schema": schemas[name]})
    else:
        typer.echo(_text(schemas[name]), nl=False)


def _text(schema: dict[str, object]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
