"""What is printed where: results on stdout, everything about the run (bars, logs, warnings) on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

BAR_AFTER_S = 0.5
"""Work that ends sooner shows no bar."""


def stdout() -> Console:
    """The console for people; as wide as the terminal, or 120 columns in a pipe."""
    from rich.console import Console

    class Stdout(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, which means something else here

    console = Stdout(highlight=False, markup=False)
    return console if console.is_terminal else Stdout(highlight=False, markup=False, width=120)


def show(*renderables: RenderableType) -> None:
    """Print tables and lines for people, on stdout."""
    console = stdout()
    for renderable in renderables:
        # Lines are left for the terminal to wrap, so that a command can be copied whole.
        console.print(renderable, soft_wrap=isinstance(renderable, str))


def emit(payload: dict[str, Any]) -> None:
    """Print the one object of `--json`, on stdout."""
    typer.echo(json.dumps({"schema_version": 1, **payload}, ensure_ascii=False, allow_nan=False))


def note(line: str) -> None:
    """A remark about the run, on stderr."""
    typer.echo(line, err=True)


class Bar:
    """A progress bar on stderr that appears once the work has taken `BAR_AFTER_S`."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._began = time.monotonic()
        self._progress: Any = None
        self._task: Any = None

    def __call__(self, done: float, total: float = 1.0) -> None:
        """Show that `done` of `total` is done."""
        if self._progress is None and time.monotonic() - self._began >= BAR_AFTER_S:
            self._start()
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, description=self._label)

    def named(self, label: str, share: float) -> None:
        """Show another label and the share done."""
        self._label = label
        self(share)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._progress.start()
        self._task = self._progress.add_task(self._label, total=None)

    def stop(self) -> None:
        """Take the bar off the screen."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """A bar for the time of a `with` block."""
    shown = Bar(label)
    try:
        yield shown
    finally:
        shown.stop()
