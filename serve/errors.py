"""The errors that a user can act on, branched by who must act; anything else is a bug and may crash.

`SpecError`: the author of a file or flag mends it. `ProfileError`: calibrate again. `EngineError`:
whoever runs the engine looks after it. The terminal prints them as lines and exits 2, never with a
traceback. Nothing of ours is imported here, so every module may raise them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ForebayError(Exception):
    """Base of all errors whose text is meant for the user."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one file: where it is, what was found and what would do.

    >>> print(Fault("burst.yaml", "deployment.models.digits.batching.max_batch", "must be >= 1, got 0"))
    burst.yaml: deployment.models.digits.batching.max_batch: must be >= 1, got 0
    """

    file: str
    field: str
    """Path of the field from the file's root, its parts joined by dots; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.field, self.message) if part)


class SpecError(ForebayError):
    """Bad input: every fault found, one line each."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @classmethod
    def of(cls, file: object, field: str, message: str) -> SpecError:
        """An error with a single fault; `file` is a path, or the flag that was wrong."""
        return cls([Fault(str(file), field, message)])


class ProfileError(ForebayError):
    """A profile that does not cover what is asked of it, or no longer fits: calibrate again."""


class EngineError(ForebayError):
    """A live engine that did not start, died, or does not answer."""
