"""What runs a model inside a replica process: one contract, one module a framework.

Read `contract` for what a backend must do; `tests/serve/test_backends.py` holds every one to it. A
new backend is a module with a `load` function and a line in `LOADERS`.
"""

from importlib import import_module

from serve.backends.contract import Backend, Facts, LoadError, Settings

__all__ = ["LOADERS", "Backend", "Facts", "LoadError", "Settings", "load"]

LOADERS = {
    "onnx": "serve.backends.onnx",
    "emulated": "serve.backends.emulated",
}
"""Module of each backend; imported only in the replica that needs it, since frameworks are heavy."""


def load(settings: Settings) -> Backend:
    """The backend that `settings` names, with its model loaded. Raises LoadError with what to do about it."""
    backend: Backend = import_module(LOADERS[settings.backend]).load(settings)
    return backend
