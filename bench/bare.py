"""The least that can serve a model over HTTP: a uvloop + httptools loop that calls onnxruntime in a thread.

    python -m bench.bare MODEL.onnx --width 64

It is what our front is measured against, not a server: it speaks just enough of the protocol for
the load generator (one FP32 input x in binary form, one FP32 output y), trusts what it is sent,
batches nothing and checks nothing. Prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import httptools
import numpy as np
import numpy.typing as npt
import onnxruntime
import uvloop

HEALTH = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
JSON = (
    b'{"model_name":"mlp","outputs":'
    b'[{"name":"y","datatype":"FP32","shape":[%d,%d],"parameters":{"binary_data_size":%d}}]}'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
)


class Bare(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, session: onnxruntime.InferenceSession, pool: ThreadPoolExecutor, width: int) -> None:
        self.session = session
        self.pool = pool
        self.width = width
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.header_length = 0
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only one field matters."""
        if name.lower() == b"inference-header-content-length":
            self.header_length = int(value)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """Run the model in the thread, or answer the health check."""
        body, self.body = self.body, b""
        if not body:
            self.transport.write(HEALTH)
            return
        x = np.frombuffer(body, np.float32, offset=self.header_length).reshape(-1, self.width)
        self.pool.submit(self.run, x)

    def run(self, x: npt.NDArray[Any]) -> None:
        """In the thread: the model."""
        (y,) = self.session.run(["y"], {"x": x})
        self.loop.call_soon_threadsafe(self.answer, y)

    def answer(self, y: npt.NDArray[Any]) -> None:
        """Write the output."""
        text = JSON % (*y.shape, y.nbytes)
        self.transport.write(HEAD % (len(text), len(text) + y.nbytes) + text + y.tobytes())


async def serve(model: str, width: int) -> None:
    """Serve `model` on a free port until killed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with ThreadPoolExecutor(1) as pool:
        server = await asyncio.get_running_loop().create_server(
            lambda: Bare(session, pool, width), "127.0.0.1", 0, backlog=1024
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.bare", description="The least that can serve a model over HTTP.")
    parser.add_argument("model", help="an .onnx file with input x and output y, FP32")
    parser.add_argument("--width", type=int, required=True, help="elements of a row of x")
    told = parser.parse_args()
    uvloop.run(serve(told.model, told.width))


if __name__ == "__main__":
    main()
