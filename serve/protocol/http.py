"""The HTTP front of an engine: its pages, and what becomes of the requests that its connections read.

Everything runs in the engine's event loop. The listening socket is `serve.protocol.listener`'s.
"""

from __future__ import annotations

from importlib.metadata import version

from serve.engine import Engine
from serve.metrics import EngineCollector, Metrics
from serve.protocol import routes
from serve.protocol.connection import Connection
from serve.protocol.inference import Inference
from serve.protocol.listener import BODY_BYTES_MAX, PACKAGE, Listener


class HttpFront(Listener):
    """An engine's listening socket and its connections. It may listen before the engine is ready: until then
    /v2/health/ready says so."""

    def __init__(self, engine: Engine, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        super().__init__(body_bytes_max)
        self.engine = engine
        self.metrics = Metrics(EngineCollector(engine, self))
        self.site = routes.Site(engine, version(PACKAGE), self.metrics.render)

    def exchange(self, connection: Connection) -> Inference:
        """A request begins to arrive on a connection."""
        return Inference(self, connection)
