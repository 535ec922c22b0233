"""Raw requests for the front's tests: bytes out, replies in, nothing clever between."""

import json
import re
import socket

import httptools
import numpy as np


class Reply:
    """One parsed response."""

    def __init__(self) -> None:
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = b""
        self.complete = False

    @property
    def json(self):
        """The body's JSON, up to the header length where there is one."""
        length = self.fields.get("inference-header-content-length")
        return json.loads(self.body[: int(length)] if length else self.body)

    @property
    def binary(self) -> bytes:
        """What follows the JSON."""
        return self.body[int(self.fields["inference-header-content-length"]) :]


class Replies:
    """Collects responses from a byte stream."""

    def __init__(self) -> None:
        self.done: list[Reply] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._reply = Reply()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.fields[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._reply.body += data

    def on_message_complete(self) -> None:
        self._reply.complete = True
        self.done.append(self._reply)


class Client:
    """A blocking socket to a front in another thread or process."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.replies = Replies()

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, count: int = 1) -> list[Reply]:
        """The next `count` replies; fewer if the server closes first."""
        while len(self.replies.done) < count:
            data = self.socket.recv(65536)
            if not data:
                break
            self.replies.feed(data)
        taken, self.replies.done = self.replies.done[:count], self.replies.done[count:]
        return taken

    def ask(self, data: bytes) -> Reply:
        """Send one request, return its reply."""
        self.send(data)
        (reply,) = self.receive()
        return reply

    def closed(self) -> bool:
        """Wait for the server to close; whether it did without a further byte."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def request(path: str, body: bytes = b"", method: str | None = None, **fields: object) -> bytes:
    """A request; field names have underscores for dashes."""
    method = method or ("POST" if body else "GET")
    lines = [f"{method} {path} HTTP/1.1", "Host: here"]
    if body or method == "POST":
        fields.setdefault("Content_Length", len(body))
    lines += [f"{re.sub('_', '-', name)}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer(header: dict | bytes, binary: bytes = b"", model: str = "twice", **fields: object) -> bytes:
    """An inference request with the binary extension, its header length told unless `fields` says otherwise."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if binary:
        fields.setdefault("Inference_Header_Content_Length", len(text))
    return request(f"/v2/models/{model}/infer", text + binary, **fields)


def binary_request(array: np.ndarray, **more: object) -> tuple[dict, bytes]:
    """Header and bytes of a request with one FP32 input x, all outputs binary."""
    header = {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": list(array.shape),
                "parameters": {"binary_data_size": array.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
        **more,
    }
    return header, array.astype("<f4").tobytes()
