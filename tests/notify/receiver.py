"""A receiver on the loopback that keeps what it is sent, and answers well, badly or not at all."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

Answer = Callable[["_Handler"], None]
"""Writes the answer, or whatever else comes instead."""


class Request:
    """One request, as it came."""

    def __init__(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        request = Request(self.path, dict(self.headers), self.rfile.read(length))
        self.server.came(request)(self)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class's name


class Receiver(socketserver.ThreadingTCPServer):
    """Gives ``answers`` in turn, the last one again and again."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._answers = answers or (status(200),)
        self._came = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/told"

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port

    def came(self, request: Request) -> Answer:
        with self._came:
            self.requests.append(request)
            self._came.notify_all()
            return self._answers[min(len(self.requests), len(self._answers)) - 1]

    def wait_for(self, condition: Callable[[list[Request]], bool], seconds: float = 30) -> list[Request]:
        """Wait until what has come fulfils a condition, and return it."""
        with self._came:
            found = self._came.wait_for(lambda: condition(self.requests), seconds)
            assert found, [request.body for request in self.requests]
            return list(self.requests)

    def handle_error(self, request: object, client_address: object) -> None: ...

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


def free_port() -> int:
    """Give a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status(number: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer in good order."""

    def answer(handler: _Handler) -> None:
        handler.send_response(number)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hangs(handler: _Handler) -> None:
    """Say nothing."""
    handler.server.ended.wait(60)


def trickles(handler: _Handler) -> None:
    """Say a byte now and then: no read ever takes long."""
    for _ in range(1000):
        handler.wfile.write(b"H")
        handler.wfile.flush()
        if handler.server.ended.wait(0.02):
            return


def raw(data: bytes) -> Answer:
    """Say this and hang up."""

    def answer(handler: _Handler) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return answer
