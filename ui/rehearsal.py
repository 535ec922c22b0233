"""A deployment served and verified in the background, again and again, until it is stopped or nobody watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from planner.report import Report
from planner.verify import verify
from serve.errors import ForebayError
from serve.launch import launch
from serve.scratch import scratch

UNWATCHED_S = 5.0
"""How long it goes on unwatched: a browser that lost its connection for a moment comes back within that."""


class _StopAsked(Exception):
    """Raised inside `verify` through its progress, so that a run ends at once and in order."""


class Rehearsal:
    """One engine, its load generator, and the newest report; everything ends with `stop`.

    It also ends by itself when `watched` has been false for UNWATCHED_S, so that a closed browser
    page leaves nothing running. The engine dies with this process, which alone holds its pipe.
    """

    def __init__(self, deployment: Path, watched: Callable[[], bool]) -> None:
        self.deployment = deployment
        self.url = ""
        self.doing = "starting the engine"
        self.share = 0.0
        self.report: Report | None = None
        self.error = ""
        self._watched = watched
        self._watched_s = time.monotonic()
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
            with launch(self.deployment) as live, scratch() as folder:
                self.url = live.url
                prediction = folder / "prediction.yaml"
                while True:
                    self.report = verify(
                        self.deployment, url=live.url, repeats=1, progress=self._told, prediction_path=prediction
                    )
        except _StopAsked:
            pass
        except ForebayError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.url = ""
            self.doing = "stopped"

    def _told(self, doing: str, share: float) -> None:
        """What `verify` calls some times a second while it replays."""
        now_s = time.monotonic()
        if self._watched():
            self._watched_s = now_s
        if self._stop.is_set() or now_s - self._watched_s > UNWATCHED_S:
            raise _StopAsked
        self.doing, self.share = doing, share
