"""Options that several verbs share, and the reading of flags with a unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import typer

from serve.errors import SpecError

V = TypeVar("V")


def _remember_json(ctx: typer.Context, value: bool) -> bool:
    """Tell the error report, which lies outside the verb, that stdout is for a program."""
    ctx.find_root().ensure_object(dict)["json"] = value
    return value


Json = Annotated[
    bool,
    typer.Option("--json", callback=_remember_json, help="One JSON object on stdout; everything else goes to stderr."),
]
JOBS_MAX = 1024
SEED_MAX = 2**63 - 1
"""As large as a file's seed may be."""
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=SEED_MAX, help="Seed of every random draw, in place of the file's."),
]
NoSeed = Annotated[
    int | None, typer.Option("--seed", min=0, max=SEED_MAX, help="Accepted like everywhere; nothing is drawn here.")
]
Engine = Annotated[
    str, typer.Option("--engine", help="fast (compiled) or reference (SimPy); both take the same decisions.")
]
Jobs = Annotated[
    str | None,
    typer.Option(
        "--jobs",
        metavar="N|ray",
        help="Replications at once, or ray: on a Ray cluster. Else as many as there are cores.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value, such as models.digits.batching.window=5ms."),
]


def flag(name: str, parse: Callable[[str], V], text: str) -> V:
    """A flag's value through one of the parsers of `serve.units`; SpecError naming the flag."""
    try:
        return parse(text)
    except ValueError as error:
        raise SpecError.of(name, "", f"{error}, got {text!r}") from None


def jobs_of(text: str | None) -> int | Literal["ray"] | None:
    """`--jobs 4` or `--jobs ray`, as `sim.workers` takes it; SpecError if it is neither."""
    if text is None or text == "ray":
        return text  # type: ignore[return-value]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= JOBS_MAX):
        raise SpecError.of("--jobs", "", f"must be from 1 to {JOBS_MAX}, or ray, got {text!r}")
    return int(text)


def rate_of(text: str) -> float:
    """`--rate 400/s` in requests per second; SpecError if it is none that can be simulated and sent."""
    from serve.units import parse_rate_rps
    from sim.scenario import RATE_RPS_MAX, RATE_RPS_MIN

    rate_rps = flag("--rate", parse_rate_rps, text)
    if not RATE_RPS_MIN <= rate_rps <= RATE_RPS_MAX:
        raise SpecError.of("--rate", "", f"must be from {RATE_RPS_MIN:g}/s to {RATE_RPS_MAX:g}/s, got {text!r}")
    return rate_rps


def one_of(name: str, text: str, known: tuple[str, ...]) -> str:
    """A flag that takes one of a few words; SpecError naming the flag."""
    if text not in known:
        raise SpecError.of(name, "", f"must be one of {', '.join(known)}, got {text!r}")
    return text
