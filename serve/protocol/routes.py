"""Which path asks for what: the Open Inference Protocol's paths, taken apart and answered.

`parse` is pure and its results are kept by `serve.protocol.http`; `Site` answers everything but
inference, which is `serve.protocol.exchange`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from serve.engine import Engine
from serve.protocol import documents
from serve.protocol.answer import JSON_TYPE
from serve.protocol.errors import RequestError, brief
from serve.protocol.oip import PlanCache, parse_object
from serve.protocol.signature import ModelSignature
from serve.served import Served

GET, POST = "GET", "POST"


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means: a `kind` of request, the method it takes, the model and version it names, if any."""

    kind: str
    method: str
    model: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A reply that is not an inference: header fields and body."""

    body: bytes
    fields: bytes = JSON_TYPE
    status: int = 200


class Entry:
    """One served model as this front keeps it: its signature and the headers lately seen."""

    __slots__ = ("cache", "served", "signature")

    def __init__(self, served: Served) -> None:
        self.served = served
        self.signature = ModelSignature.of(served)
        self.cache = PlanCache(self.signature)


_FIXED = {
    ("v2",): Route("server", GET),
    ("v2", "health", "live"): Route("live", GET),
    ("v2", "health", "ready"): Route("ready", GET),
    ("v2", "models", "stats"): Route("stats", GET),
    ("v2", "repository", "index"): Route("index", POST),
    ("metrics",): Route("metrics", GET),
}
_OF_MODEL = {
    (): ("model", GET),
    ("ready",): ("model_ready", GET),
    ("config",): ("config", GET),
    ("stats",): ("stats", GET),
    ("infer",): ("infer", POST),
}


def parse(target: str) -> Route:
    """The route of a request target (path and query, percent-encoded); 404 if there is none."""
    path = target.split("?", 1)[0]
    parts = tuple(_decode(part) for part in path.strip("/").split("/"))
    route = _FIXED.get(parts) or _repository_route(parts) or _model_route(parts)
    if route is None:
        raise RequestError(404, f"unknown path {path:.200}")
    return route


def _decode(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        raise RequestError(404, "the path is not UTF-8") from error


def _repository_route(parts: tuple[str, ...]) -> Route | None:
    if len(parts) == 5 and parts[:3] == ("v2", "repository", "models") and parts[4] in ("load", "unload"):
        return Route(parts[4], POST, parts[3])
    return None


def _model_route(parts: tuple[str, ...]) -> Route | None:
    if len(parts) < 3 or parts[:2] != ("v2", "models") or not parts[2]:
        return None
    rest, version = parts[3:], ""
    if len(rest) >= 2 and rest[0] == "versions" and rest[1].isascii() and rest[1].isdigit():
        rest, version = rest[2:], rest[1]
    found = _OF_MODEL.get(rest)
    return None if found is None else Route(found[0], found[1], parts[2], version)


class Site:
    """Answers to everything but inference, from the engine's state."""

    def __init__(self, engine: Engine, version: str, metrics: Callable[[], tuple[bytes, str]] | None = None) -> None:
        self.engine = engine
        self._version = version
        self._metrics = metrics
        self._entries: dict[str, Entry] = {}
        self._pages: Mapping[str, Callable[[Route, bytes], Page]] = {
            "server": self._server,
            "live": self._live,
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "config": self._config,
            "stats": self._stats,
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
            "metrics": self._metrics_page,
        }

    def entry(self, route: Route) -> Entry:
        """The model that a route names, at the version it names; 404 if it is not served."""
        entry = self._entries.get(route.model)
        if entry is None:
            served = self.engine.models.get(route.model)
            if served is None:
                raise RequestError(404, f"unknown model {brief(route.model)}; served: {', '.join(self.engine.models)}")
            entry = self._entries[route.model] = Entry(served)
        if route.version and route.version not in entry.served.versions:
            known = ", ".join(entry.served.versions)
            raise RequestError(404, f"model {route.model!r} has no version {route.version}; served: {known}")
        return entry

    def page(self, route: Route, body: bytes) -> Page:
        """The reply to a request that is not an inference; RequestError if it is a bad one."""
        return self._pages[route.kind](route, body)

    def _server(self, route: Route, body: bytes) -> Page:
        return _json(documents.server_metadata(self._version))

    def _live(self, route: Route, body: bytes) -> Page:
        return _json({"live": True})

    def _ready(self, route: Route, body: bytes) -> Page:
        ready = self.engine.ready
        return _json({"ready": ready}, 200 if ready else 503)

    def _model(self, route: Route, body: bytes) -> Page:
        entry = self.entry(route)
        return _json(documents.model_metadata(entry.served, entry.signature))

    def _model_ready(self, route: Route, body: bytes) -> Page:
        served = self.entry(route).served
        ready = served.ready and not self.engine.draining
        return _json({"name": served.name, "ready": ready}, 200 if ready else 400)

    def _config(self, route: Route, body: bytes) -> Page:
        entry = self.entry(route)
        return _json(documents.model_config(entry.served, entry.signature))

    def _stats(self, route: Route, body: bytes) -> Page:
        models = [self.entry(route).served] if route.model else list(self.engine.models.values())
        started = self.engine.started
        memory_bytes = {s.name: round(sum(r.memory_mib for r in started[s.name]) * 2**20) for s in models}
        return _json(documents.statistics(models, self.engine.now_ns(), memory_bytes))

    def _index(self, route: Route, body: bytes) -> Page:
        ready_only = parse_object(body, "the request").get("ready", False) if body else False
        return _json(documents.index(self.engine.models.values(), bool(ready_only)))

    def _load(self, route: Route, body: bytes) -> Page:
        """What is served is loaded already; a deployment's models are fixed."""
        self.entry(route)
        if body and parse_object(body, "the request").get("parameters"):
            raise RequestError(400, "a served model cannot be changed by parameters; change the deployment instead")
        return Page(b"")

    def _unload(self, route: Route, body: bytes) -> Page:
        self.entry(route)
        raise RequestError(400, "models cannot be unloaded from a running deployment; stop the server instead")

    def _metrics_page(self, route: Route, body: bytes) -> Page:
        if self._metrics is None:
            raise RequestError(404, "this server has no metrics")
        text, content_type = self._metrics()
        return Page(text, f"Content-Type: {content_type}\r\n".encode())


def _json(value: Any, status: int = 200) -> Page:
    """A JSON page; one whose status is not 200 says what is wrong under `error` as well."""
    if status != 200:
        value = {**value, "error": "not ready"}
    return Page(json.dumps(value).encode(), status=status)
