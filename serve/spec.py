"""Base of every file format: strict, frozen pydantic models.

Unknown keys are refused, values never change after they were checked. Reading, writing and the
one-line-per-fault errors are in `serve.files`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

SCHEMA_VERSION = 1

SchemaVersion = Literal[1]
"""Version of a file's format; readers accept exactly the versions they know."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
"""What is named is a mapping by name, so that every path into a file is stable."""

Origin = Literal["measured", "imported", "projected", "assumed"]
"""Where a number comes from."""


class Spec(BaseModel):
    """A part of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)
