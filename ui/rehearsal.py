"""A deployment served and verified in the background, again and again, until it is told to stop."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from planner.report import Report
from planner.verify import verify
from serve.errors import ForebayError
from serve.launch import launch


class _StopAsked(Exception):
    """Raised inside `verify` through its progress, so that a run ends at once and in order."""


class Rehearsal:
    """One engine, its load generator, and the newest report; everything ends with `stop`.

    The engine dies with the thread that started it, so that thread lives as long as the engine does.
    """

    def __init__(self, deployment: Path) -> None:
        self.deployment = deployment
        self.url = ""
        self.doing = "starting the engine"
        self.share = 0.0
        self.report: Report | None = None
        self.error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rehearsal", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the engine runs (or starts, or drains)."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the load, drain the engine, and wait until both are gone."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with launch(self.deployment) as live, tempfile.TemporaryDirectory(prefix="forebay-live-") as folder:
                self.url = live.url
                while not self._stop.is_set():
                    prediction = Path(folder) / "prediction.yaml"
                    self.report = verify(
                        self.deployment, url=live.url, repeats=1, progress=self._told, prediction_path=prediction
                    )
        except _StopAsked:
            pass
        except ForebayError as error:
            self.error = str(error)
        finally:
            self.url = ""
            self.doing = "stopped"

    def _told(self, doing: str, share: float) -> None:
        if self._stop.is_set():
            raise _StopAsked
        self.doing, self.share = doing, share
