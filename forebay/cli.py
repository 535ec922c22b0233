"""The terminal front door: `forebay <verb>`, one file a verb in `forebay.verbs`.

Exit codes: 0 ok, 1 an expectation or an SLO is not met, 2 bad input, 130 interrupted, 141 who read stdout has left.
What a verb needs is imported when it runs, so that `forebay --help` stays quick.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from forebay.verbs.calibrate import calibrate
from forebay.verbs.check import check
from forebay.verbs.cost import cost
from forebay.verbs.load import load
from forebay.verbs.new import new
from forebay.verbs.plan import plan
from forebay.verbs.route import route
from forebay.verbs.schema import schema
from forebay.verbs.serve import serve
from forebay.verbs.simulate import simulate
from forebay.verbs.tour import tour
from forebay.verbs.verify import verify
from forebay.verbs.workload import workload
from serve.errors import ForebayError, SpecError

EXIT_NOT_MET = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_READER_LEFT = 128 + signal.SIGPIPE

_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""What typer raises for a flag or an argument that is wrong; it has no public name."""


class _Verbs(TyperGroup):
    """Runs a verb and turns errors that a user can act on into lines and exit code 2."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parses the command line, which may be answered with help."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(EXIT_READER_LEFT) from None

    def invoke(self, ctx: Any) -> Any:
        """The verb's own return; errors of ours end the program."""
        asked_json = "--json" in [*getattr(ctx, "_protected_args", ()), *ctx.args]
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            if asked_json:
                _echo_errors([{"message": error.format_message()}])
            raise
        except ForebayError as error:
            _report(error, as_json=bool((ctx.find_root().obj or {}).get("json")))
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(EXIT_READER_LEFT) from None


def _discard_stdout() -> None:
    """What is still buffered has no place."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: ForebayError, as_json: bool) -> None:
    """Each fault a line on stderr; with --json also as one object on stdout."""
    typer.echo(str(error), err=True)
    if as_json:
        faults = error.faults if isinstance(error, SpecError) else []
        errors = [{"file": f.file, "field": f.field, "message": f.message} for f in faults]
        _echo_errors(errors or [{"message": str(error)}])


def _echo_errors(errors: list[dict[str, str]]) -> None:
    typer.echo(json.dumps({"schema_version": 1, "errors": errors}))


app = typer.Typer(
    name="forebay",
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs half the time: rich's reads Markdown, whose parser is slow to import
    help="What do I deploy so that the SLO holds and the bill stays small? Measure, simulate, plan, serve, verify.",
    epilog="Exit codes: 0 ok, 1 an expectation or SLO is not met, 2 bad input.",
)
for _verb in (tour, calibrate, new, simulate, cost, plan, serve, route, load, verify, check, schema):
    app.command()(_verb)
app.add_typer(workload, name="workload")


@app.callback()
def _root() -> None:
    """Kept so that options before the verb have a place."""


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(EXIT_TERMINATED)


def main() -> None:
    """Entry point of the installed command.

    SIGTERM unwinds like Ctrl-C, so that engines are stopped and temporary folders removed; `serve` drains instead.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app(prog_name="forebay")
        sys.stdout.flush()
    except SystemExit as ended:
        if ended.code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            sys.stderr.flush()
            os._exit(int(ended.code))  # Python would wait for threads that compile or simulate
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _discard_stdout()
        typer.echo(f"cannot be written: {error.strerror}; make room, or write elsewhere", err=True)
        sys.exit(EXIT_BAD_INPUT)
